"""Rules are found by names as SQLite compares them."""

from __future__ import annotations

from mirror.core.rules import OMIT, ROWS, Rules


def test_names_have_no_case() -> None:
    rules = Rules({"users.Password": OMIT, "users.É": OMIT}, {"Docs": ROWS})
    assert rules.omits("Users", "password") and rules.of_column("users", "PASSWORD") == OMIT
    assert rules.carries("docs") and not rules.carries("doc")
    assert rules.omits("users", "É") and not rules.omits("users", "é"), "but for letters beyond ASCII"
