"""Values of Postgres that the file cannot have: a row with one is kept in ``mirror.reverse_rejects``."""

from __future__ import annotations


class Inexact(str):
    """The text of a number of Postgres that no number of SQLite is."""

    @property
    def why(self) -> str:
        """Why the file does not take it."""
        return f"no number of SQLite is {_short(self)}"


class NoForm(Inexact):
    """Of a column of an application's own table: what it has no form for."""

    @property
    def why(self) -> str:
        """Why the file does not take it."""
        return _short(self)


def _short(text: str) -> str:
    return f"{text:.60}{'…' if len(text) > 60 else ''}"
