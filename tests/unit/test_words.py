from mirror.core.words import amount, counted, duration


def test_one_is_singular() -> None:
    assert counted(1, "row") == "1 row"
    assert counted(0, "row") == "0 rows"
    assert counted(2990, "row") == "2,990 rows"
    assert counted(2, "copy", "copies") == "2 copies"


def test_bytes_as_people_read_them() -> None:
    assert [amount(number) for number in (0, 1, 999, 1000, 24_576)] == [
        "0 bytes", "1 byte", "999 bytes", "1.0 kB", "24.6 kB",
    ]  # fmt: skip
    assert amount(1_400_000_000) == "1.4 GB" and amount(5 * 10**12) == "5,000.0 GB"


def test_times_as_people_read_them() -> None:
    """In one form: the log's, the terminal's and the pages'."""
    assert [duration(seconds) for seconds in (-1, 0, 0.0123, 0.9996, 9.94, 9.96, 119, 120, 7170, 10**5, 2e5)] == [
        "0 ms", "0 ms", "12 ms", "1.0 s", "9.9 s", "10 s", "119 s", "2 min", "2 h", "28 h", "2 days",
    ]  # fmt: skip
    assert [duration(seconds, whole=True) for seconds in (-0.2, 0.4, 1.6, 119, 172_800)] == [
        "0 s", "0 s", "2 s", "119 s", "2 days",
    ]  # fmt: skip
