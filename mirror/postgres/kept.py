"""Tables that Postgres keeps after their source has dropped them, and what is still for them.

A program that changes a table by making another one and renaming it leaves everything that others made for the first
one (views, foreign keys, triggers, grants) with the first one, which no row comes to any more.

A table that is made anew in one transaction is not dropped: the other one has its rows. It is kept only where that one
has less (rows or columns), where others have written in it, or where objects of others are for it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg import RawCursor
from psycopg.sql import SQL, Composable, Identifier, Literal

from mirror.postgres.migrate import statement
from mirror.postgres.names import KEPT
from mirror.postgres.profiles.generic import AGENT, ORIGINAL
from mirror.postgres.target import ROWID, Conn, Target


@dataclass(frozen=True, slots=True)
class KeptTable:
    """A table that is kept, while another one of its source has the name that it had."""

    table: str
    kept: str
    """The name under which it is kept."""
    objects: list[str]
    """What is for it: kind and name."""


def kept_in_use(conn: psycopg.Connection[Any], source_id: int) -> list[KeptTable]:
    """Those of a source's schema for which there is anything that its successor has not. Raises psycopg's errors."""
    found = RawCursor(conn).execute(statement("kept_in_use"), (str(source_id), KEPT))
    return [KeptTable(*row) for row in found.fetchall()]


@dataclass(frozen=True, slots=True)
class Replaced:
    """A table that is kept, and of which another one should have all rows."""

    schema: str
    kept: str
    by: str
    """The source's table that was made anew."""
    columns: tuple[str, ...] | None = None
    """The columns that the source had; None: all that it has, those that were dropped before included."""


def drop_replaced(conn: Conn, source_id: int, made: Collection[tuple[Replaced, Target]]) -> None:
    """Drop those kept tables of which the table in their place, beside each, has all rows and columns.

    One that objects of others are for stays. Inside the caller's transaction; raises psycopg's errors.
    """
    used = {each.kept for each in kept_in_use(conn, source_id)}
    for each, target in made:
        there = conn.execute("SELECT to_regclass($1::text) IS NOT NULL", (_quoted(conn, each.schema, each.kept),))
        # One whose rename was undone is not there.
        if there.fetchone() == (True,) and each.kept not in used and not _has_more(conn, each, target):
            drop_alone(conn, each.schema, each.kept)


def others_wrote(conn: Conn, source_id: int, table: str) -> bool:
    """Whether others than the mirror have written rows in a source's table, which no other table has."""
    found = conn.execute(
        "SELECT EXISTS (SELECT FROM mirror.others_wrote WHERE source_id = $1::bigint AND source_table = $2::text)",
        (str(source_id), table),
    )
    return found.fetchone() != (False,)


def _has_more(conn: Conn, each: Replaced, target: Target) -> bool:
    """Whether a kept table has values in a column that the one in its place has not, or more rows than that."""
    there = {ROWID, ORIGINAL, AGENT, *(name for name, _ in target.stored)}
    columns = _columns(conn, each) if each.columns is None else each.columns
    if lacking := [SQL("{} IS NOT NULL").format(Identifier(name)) for name in columns if name not in there]:
        values = SQL("SELECT EXISTS (SELECT FROM {} WHERE {})").format(
            Identifier(each.schema, each.kept), SQL(" OR ").join(lacking)
        )
        if conn.execute(values).fetchone() != (False,):
            return True
    own: Composable = SQL("true")
    if target.agent is not None:
        own = SQL("{} = {}").format(Identifier(AGENT), Literal(target.agent))
    counted = SQL("SELECT (SELECT count(*) FROM {}) > (SELECT count(*) FROM {} WHERE {})").format(
        Identifier(each.schema, each.kept), Identifier(target.schema, target.name), own
    )
    return conn.execute(counted).fetchone() != (False,)


def _columns(conn: Conn, each: Replaced) -> list[str]:
    found = conn.execute(
        "SELECT attname FROM pg_catalog.pg_attribute"
        " WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        (_quoted(conn, each.schema, each.kept),),
    )
    return [str(name) for (name,) in found.fetchall()]


def drop_alone(conn: Conn, schema: str, table: str) -> bool:
    """Drop a table, inside the caller's transaction; False, and nothing is done, if objects of others depend on it."""
    conn.execute("SAVEPOINT mirror_drop")
    try:
        conn.execute(SQL("DROP TABLE {}").format(Identifier(schema, table)))
    except psycopg.errors.DependentObjectsStillExist:
        conn.execute("ROLLBACK TO mirror_drop")
        return False
    conn.execute("RELEASE mirror_drop")
    return True


def _quoted(conn: Conn, schema: str, name: str) -> str:
    return Identifier(schema, name).as_string(conn)


# -- for people ------------------------------------------------------------------------------------------

#: Bytes up to which the rows of a table are counted; of a larger one Postgres' estimate is told.
COUNTED_BYTES = 64 << 20
#: Milliseconds to wait for others that read a table that is to be dropped.
_LOCK_MS = 5_000


@dataclass(frozen=True, slots=True)
class Dropped:
    """A table that Postgres keeps after its source has dropped it."""

    schema: str
    name: str
    source: str | None
    """The path of that source; None: it is not known any more."""
    table: str | None
    """The name that it had there."""
    since: str | None
    """When it was dropped, RFC 3339."""
    successor: str | None
    """The table that is mirrored under its name now."""
    bytes: int
    rows: int | None
    exact: bool
    """Whether the rows were counted; else it is an estimate."""
    depending: list[str]
    """Views, foreign keys, functions and triggers that are for it: kind and name."""
    grants: list[str]
    """Grants on it that its successor has not."""
    strange: bool = False
    """Whether it is not known that a mirror has made it: somebody's own table may have been in the place of that."""

    @property
    def why(self) -> str:
        """Why it is kept."""
        if self.strange:
            return "it was in the place of the mirror's table, and is not known to be the mirror's own"
        if self.successor is None:
            return "the source dropped it"
        return f"the source made {self.successor} anew, and it has rows, columns or users that the new one has not"


def dropped_tables(conn: psycopg.Connection[Any]) -> list[Dropped]:
    """All tables of the database that are kept. Raises psycopg's errors."""
    cursor = RawCursor(conn)
    if cursor.execute("SELECT to_regclass('mirror.tables') IS NULL").fetchone() == (True,):
        return []
    found = cursor.execute(statement("kept_list"), (KEPT,)).fetchall()
    paths = dict(cursor.execute("SELECT source_id, path FROM mirror.sources").fetchall())
    return [_dropped(cursor, paths, *row) for row in found]


def _dropped(
    cursor: RawCursor[Any],
    paths: dict[int, str],
    schema: str,
    name: str,
    comment: str,
    successor: str | None,
    size: int,
    estimate: int,
    depending: list[str],
    grants: list[str],
) -> Dropped:
    details = _details(comment)
    rows, exact = (estimate, False) if estimate >= 0 else (None, False)
    if size <= COUNTED_BYTES:
        counted = cursor.execute(SQL("SELECT count(*) FROM {}").format(Identifier(schema, name))).fetchone()
        rows, exact = (0 if counted is None else int(counted[0])), True
    source = None if details.source is None else paths.get(details.source)
    since = None if details.since is None else details.since.isoformat(timespec="seconds")
    return Dropped(
        schema, name, source, details.table, since, successor, size, rows, exact, depending, grants, details.strange
    )


class _Details(msgspec.Struct):
    """What the comment says of a table that is kept (:func:`~mirror.postgres.ddl.mark_kept`)."""

    table: str | None = None
    source: int | None = None
    since: datetime | None = None
    strange: bool = False


def _details(comment: str) -> _Details:
    """Nothing if an earlier mirror wrote the comment, or somebody has changed it."""
    try:
        return msgspec.json.decode(comment.removeprefix(KEPT), type=_Details)
    except ValueError:
        return _Details()


def purge(conn: Conn, table: Dropped) -> bool:
    """Drop a kept table for good; False, and nothing is done, if objects of others depend on it.

    ``conn`` is in autocommit mode. Raises psycopg's errors, so ``LockNotAvailable`` while others read it.
    """
    with conn.transaction():
        conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_MS}ms'")
        return drop_alone(conn, table.schema, table.name)
