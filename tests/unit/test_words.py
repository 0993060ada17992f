from mirror.core.words import amount, counted


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
