from mirror.core.words import counted


def test_one_is_singular() -> None:
    assert counted(1, "row") == "1 row"
    assert counted(0, "row") == "0 rows"
    assert counted(2990, "row") == "2,990 rows"
    assert counted(2, "copy", "copies") == "2 copies"
