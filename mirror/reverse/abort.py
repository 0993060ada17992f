"""Triggers in the file that refuse what programs write to it after the switch, and let the mirror's writes pass.

It is the only way to keep programs out that changes the file: ``--fence abort``. The triggers ask the connection which
SQLite it is (``sqlite_version()``, which every SQLite has); the mirror's connection answers otherwise. So any program
gets the message, whatever its library and settings are, and nothing else in the file has to be changed for a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mirror.core.quote import quoted

if TYPE_CHECKING:
    import apsw

_OPERATIONS = ("INSERT", "UPDATE", "DELETE")
_PREFIX = "mirror_abort_"
_OURS = "the mirror"
#: What a program gets, with the code SQLITE_CONSTRAINT_TRIGGER.
MESSAGE = "programs were moved to Postgres: this file is not written any more (mirror cutover status)"


def let_pass(db: apsw.Connection) -> None:
    """Have the triggers let this connection write."""

    def version(*_: object) -> str:
        return _OURS

    db.create_scalar_function("sqlite_version", version, 0, deterministic=True)


def put_up(db: apsw.Connection) -> int:
    """Make the triggers of all tables, in the caller's transaction; returns how many tables. Raises APSW's errors."""
    tables = list(_tables(db))
    for table in tables:
        for operation in _OPERATIONS:
            name = quoted(f"{_PREFIX}{operation.lower()}_{table}")
            db.execute(
                f"CREATE TRIGGER IF NOT EXISTS main.{name} BEFORE {operation} ON {quoted(table)}"
                f" WHEN sqlite_version() IS NOT '{_OURS}' BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"
            )
    return len(tables)


def take_down(db: apsw.Connection) -> None:
    """Remove them, also of a table that was renamed, in the caller's transaction."""
    names = db.execute(
        "SELECT name FROM main.sqlite_schema WHERE type = 'trigger' AND substr(name, 1, ?) = ?", (len(_PREFIX), _PREFIX)
    ).fetchall()
    for (name,) in names:
        db.execute(f"DROP TRIGGER main.{quoted(str(name))}")


def _tables(db: apsw.Connection) -> Iterator[str]:
    """Those that are neither virtual nor the contents of one, nor SQLite's own."""
    for name, kind in db.execute("SELECT name, type FROM pragma_table_list WHERE schema = 'main'").fetchall():
        if kind == "table" and not str(name).startswith("sqlite_"):
            yield str(name)
