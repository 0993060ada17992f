from mirror.core.words import counted, sized


def test_one_is_singular() -> None:
    assert counted(1, "row") == "1 row"
    assert counted(0, "row") == "0 rows"
    assert counted(2990, "row") == "2,990 rows"
    assert counted(2, "copy", "copies") == "2 copies"


def test_bytes_as_people_read_them() -> None:
    assert [sized(number) for number in (0, 1, 999, 1000, 24_576, 999_499, 999_500)] == [
        "0 bytes", "1 byte", "999 bytes", "1.0 kB", "25 kB", "999 kB", "1.0 MB",
    ]  # fmt: skip
    assert sized(1_400_000_000) == "1.4 GB" and sized(5 * 10**15) == "5,000 TB"
