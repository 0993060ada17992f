"""Names in a Postgres schema: tables, views, indexes, sequences and types share one name space.

A table of the source keeps its name. What the mirror itself made, and what only has to have some name, gives way to it:
the index of a key, the sequence of a column, a table that is kept after its source has dropped it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import psycopg
from psycopg import RawCursor
from psycopg.sql import SQL, Identifier

from mirror.core.errors import NameTakenError
from mirror.postgres.migrate import statement
from mirror.postgres.profiles import memustore
from mirror.postgres.profiles.generic import MAX_NAME_BYTES

#: How the comment on a table that is kept after its source has dropped it begins; details of it follow, as JSON.
KEPT = "mirror: kept, because the source has dropped it"

_TABLES = frozenset("rp")
_KINDS = {
    "r": "a table",
    "p": "a table",
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "i": "an index",
    "I": "an index",
    "S": "a sequence",
    "c": "a type",
    "t": "a type",
}
#: How what gives way is renamed, by its kind.
_RENAMED = {"i": SQL("INDEX"), "I": SQL("INDEX"), "S": SQL("SEQUENCE"), "r": SQL("TABLE")}


@dataclass(frozen=True, slots=True)
class Occupant:
    """What has a name."""

    name: str
    kind: str
    """As ``pg_class.relkind``; ``t``: a type."""
    table: str | None
    """The table of an index or a sequence; None for a type; else its own name."""
    kept: bool
    """Whether that table is one that the mirror keeps."""

    @property
    def is_table(self) -> bool:
        """Whether it is a table."""
        return self.kind in _TABLES

    def gives_way(self, *, ours: bool) -> bool:
        """Whether it may be renamed; ``ours``: whether a mirror writes :attr:`table`."""
        return self.kind in _RENAMED and (self.kept or (ours and not self.is_table))

    def __str__(self) -> str:
        """What it is, for people."""
        kind = _KINDS.get(self.kind, "an object")
        return kind if self.table in (None, self.name) else f"{kind} of {self.table}"


def occupants(conn: psycopg.Connection[Any], schema: str, name: str | None = None) -> list[Occupant]:
    """What has a name in a schema, or all that has any. Raises psycopg's errors."""
    found = RawCursor(conn).execute(statement("name_occupants"), (schema, name))
    return [Occupant(*row) for row in found.fetchall()]


def taken(place: str, occupant: Occupant) -> NameTakenError:
    """The error for a name that somebody else's object has."""
    what = "is there already" if occupant.is_table else f"is there already, as {occupant},"
    return NameTakenError(
        "create a table",
        place,
        f"{place} {what} and is not the mirror's",
        next_step="rename or drop it, or give this source a schema of its own with --schema",
    )


def make_way(conn: psycopg.Connection[Any], schema: str, name: str) -> None:
    """Rename what the mirror made and has a name that a table needs.

    Raises :class:`NameTakenError` if it is somebody else's, and psycopg's errors.
    """
    for occupant in occupants(conn, schema, name):
        if occupant.gives_way(ours=occupant.table is not None and _is_ours(conn, schema, occupant.table)):
            other = free_name(conn, schema, name)
            kind = _RENAMED[occupant.kind]
            conn.execute(SQL("ALTER {} {} RENAME TO {}").format(kind, Identifier(schema, name), Identifier(other)))
        else:
            raise taken(f"{schema}.{name}", occupant)


def _is_ours(conn: psycopg.Connection[Any], schema: str, table: str) -> bool:
    if RawCursor(conn).execute(statement("name_is_ours"), (schema, table)).fetchone() == (True,):
        return True
    ledger = "SELECT EXISTS (SELECT FROM mirror.profile_migrations WHERE schema_name = $1::text)"
    return table in memustore.TABLES and RawCursor(conn).execute(ledger, (schema,)).fetchone() == (True,)


def free_name(conn: psycopg.Connection[Any], schema: str, name: str) -> str:
    """The name itself, or one that is made of it, that nothing in the schema has."""
    return next(each for each in _names_like(name) if not occupants(conn, schema, each))


def _names_like(name: str) -> Iterator[str]:
    yield name
    for number in count(2):
        end = f"_{number}"
        yield name.encode()[: MAX_NAME_BYTES - len(end)].decode(errors="ignore") + end
