"""Names in SQL that SQLite reads."""

from __future__ import annotations


def quoted(name: str) -> str:
    """A name of the source as an SQL identifier; doubled quotes stand for one."""
    return '"' + name.replace('"', '""') + '"'
