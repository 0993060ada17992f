"""Tables and columns that Postgres keeps after their source has dropped them, and what is still for them.

A program that changes a table by making another one and renaming it leaves everything that others made for the first
one (views, foreign keys, triggers, grants) with the first one, which no row comes to any more.

A table that is made anew in one transaction is not dropped: the other one has its rows. It is kept only where that one
has less (rows or columns), where others have written in it, or where objects of others are for it.

A column that is dropped stays in its table, under another name.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg import RawCursor
from psycopg.sql import SQL, Composable, Identifier, Literal

from mirror.core.status import named
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


def drop_alone(conn: Conn, schema: str, table: str, column: str | None = None) -> bool:
    """Drop a table, or one of its columns, inside the caller's transaction.

    False, and nothing is done, if objects of others depend on it.
    """
    conn.execute("SAVEPOINT mirror_drop")
    whole = SQL("DROP TABLE {}").format(Identifier(schema, table))
    try:
        if column is None:
            conn.execute(whole)
        else:
            part = SQL("ALTER TABLE {} DROP COLUMN {}")
            conn.execute(part.format(Identifier(schema, table), Identifier(column)))
    except psycopg.errors.DependentObjectsStillExist:
        conn.execute("ROLLBACK TO mirror_drop")
        return False
    conn.execute("RELEASE mirror_drop")
    return True


def _quoted(conn: Conn, schema: str, name: str) -> str:
    return Identifier(schema, name).as_string(conn)


#: What the source called a table, and the column if it is one that is kept; to the name that it has now.
KeptNames = dict[tuple[str, str | None], str]
_SUFFIX = re.compile(r"__dropped_(\d+)_(\d+)(?:_(\d+))?$")


def kept_names(conn: psycopg.Connection[Any], source_id: int) -> KeptNames:
    """What is kept of a source; of what was dropped several times, the newest. Raises psycopg's errors."""
    found = []
    for comment, table, column in RawCursor(conn).execute(statement("kept_names"), (KEPT,)).fetchall():
        details = _details(comment)
        if details.source == source_id and details.table is not None:
            at = _SUFFIX.search(column or table)
            number = tuple(int(each or 0) for each in at.groups()) if at else ()
            found.append((number, (details.table, details.column), str(column or table)))
    return {what: name for _, what, name in sorted(found, key=lambda each: each[0])}


# -- for people ------------------------------------------------------------------------------------------

#: Bytes up to which the rows of a table are counted; of a larger one Postgres' estimate is told.
COUNTED_BYTES = 64 << 20
#: Milliseconds to wait for others that read a table that is to be dropped.
_LOCK_MS = 5_000


@dataclass(frozen=True, slots=True)
class Dropped:
    """A table, or a column, that Postgres keeps after its source has dropped it."""

    schema: str
    name: str
    """Of the table, or of that which has the column."""
    source: str | None
    """The path of that source; None: it is not known any more."""
    table: str | None
    """The name that the table had there."""
    since: str | None
    """When it was dropped, RFC 3339."""
    successor: str | None
    """The table that is mirrored under its name now."""
    bytes: int | None
    """None: of a column of a large table."""
    rows: int | None
    """Of a column, those that have a value in it; None: not counted."""
    exact: bool
    """Whether the rows were counted; else it is an estimate."""
    depending: list[str]
    """Views, foreign keys, functions and triggers that are for it: kind and name."""
    grants: list[str]
    """Grants on it that its successor has not."""
    strange: bool = False
    """Whether it is not known that a mirror has made it: somebody's own table may have been in the place of that."""
    more: list[str] = field(default_factory=list)
    """What it has that its successor has not, besides who uses it."""
    column: str | None = None
    """The name under which a column is kept; None: it is a table that is kept."""
    source_column: str | None = None
    """The name that the column had in the source."""

    @property
    def place(self) -> str:
        """Where it is: schema, table, and column."""
        return ".".join(filter(None, (self.schema, self.name, self.column)))

    @property
    def names(self) -> set[str]:
        """The names by which it can be called."""
        return {self.place, self.place.removeprefix(f"{self.schema}.")}

    @property
    def why(self) -> str:
        """Why it is kept."""
        if self.column is not None:
            return f"the source dropped the column {self.source_column} of {self.table}"
        if self.strange:
            return "it was in the place of the mirror's table, and is not known to be the mirror's own"
        if self.successor is None:
            return "the source dropped it"
        has = [*self.more, *(["users"] if self.depending or self.grants else [])]
        if not has:
            return f"the source made {self.successor} anew; when that was done, it had what the new one had not"
        told = has[0] if len(has) == 1 else f"{', '.join(has[:-1])} and {has[-1]}"
        return f"the source made {self.successor} anew, and it has {told} that the new one has not"


def dropped_tables(conn: psycopg.Connection[Any]) -> list[Dropped]:
    """All tables of the database that are kept. Raises psycopg's errors."""
    cursor = RawCursor(conn)
    if cursor.execute("SELECT to_regclass('mirror.tables') IS NULL").fetchone() == (True,):
        return []
    found = cursor.execute(statement("kept_list"), (KEPT,)).fetchall()
    paths = dict(cursor.execute("SELECT source_id, path FROM mirror.sources").fetchall())
    return [_dropped(cursor, paths, *row) for row in found]


def dropped_columns(conn: psycopg.Connection[Any]) -> list[Dropped]:
    """All columns of the database that are kept in tables which are not themselves. Raises psycopg's errors."""
    cursor = RawCursor(conn)
    if cursor.execute("SELECT to_regclass('mirror.tables') IS NULL").fetchone() == (True,):
        return []
    found = cursor.execute(statement("kept_columns"), (KEPT,)).fetchall()
    paths = dict(cursor.execute("SELECT source_id, path FROM mirror.sources").fetchall())
    return [_column(cursor, paths, *row) for row in found]


def _column(
    cursor: RawCursor[Any],
    paths: dict[int, str],
    schema: str,
    name: str,
    column: str,
    comment: str,
    size: int,
    depending: list[str],
) -> Dropped:
    details = _details(comment)
    rows = used = None
    if size <= COUNTED_BYTES:
        query = SQL("SELECT count({0}), coalesce(sum(pg_column_size({0})), 0) FROM {1}")
        found = cursor.execute(query.format(Identifier(column), Identifier(schema, name))).fetchone()
        assert found is not None
        rows, used = map(int, found)
    source = paths.get(details.source or 0)
    return Dropped(
        schema, name, source, details.table, _since(details), None, used, rows, rows is not None, depending, [],
        column=column, source_column=details.column,
    )  # fmt: skip


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
    more = [] if successor is None else _more(cursor, schema, name, successor, counted=size <= COUNTED_BYTES)
    return Dropped(
        schema, name, source, details.table, _since(details), successor, size, rows, exact, depending, grants,
        details.strange, more,
    )  # fmt: skip


def _more(cursor: RawCursor[Any], schema: str, name: str, successor: str, *, counted: bool) -> list[str]:
    """What a kept table has that the one in its place has not; not ``counted``: columns, with values or without."""
    query = (
        "SELECT attname::text FROM pg_catalog.pg_attribute"
        " WHERE attrelid = to_regclass($1::text) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )
    its, there = (
        [each for (each,) in cursor.execute(query, (Identifier(schema, of).as_string(cursor),)).fetchall()]
        for of in (name, successor)
    )
    lacking = [each for each in its if each not in {*there, ROWID, ORIGINAL, AGENT}]
    if not counted:
        return [_columns_named(lacking)] if lacking else ["rows or columns"]
    if lacking:
        counts = SQL(", ").join(SQL("count({})").format(Identifier(each)) for each in lacking)
        values = cursor.execute(SQL("SELECT {} FROM {}").format(counts, Identifier(schema, name))).fetchone()
        assert values is not None
        lacking = [each for each, number in zip(lacking, values, strict=True) if number]
    found = [_columns_named(lacking)] if lacking else []
    if AGENT not in there:  # else it has the rows of others, too
        more = SQL("SELECT (SELECT count(*) FROM {}) > (SELECT count(*) FROM {})")
        rows = cursor.execute(more.format(Identifier(schema, name), Identifier(schema, successor))).fetchone()
        found += ["rows"] if rows == (True,) else []
    return found


def _columns_named(names: list[str]) -> str:
    return f"{'the column' if len(names) == 1 else 'the columns'} {named(names)}"


def _since(details: _Details) -> str | None:
    return None if details.since is None else details.since.isoformat(timespec="seconds")


class _Details(msgspec.Struct):
    """What the comment says of what is kept (:func:`~mirror.postgres.ddl.mark_kept`)."""

    table: str | None = None
    column: str | None = None
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
    """Drop a kept table or column for good; False, and nothing is done, if objects of others depend on it.

    ``conn`` is in autocommit mode. Raises psycopg's errors, so ``LockNotAvailable`` while others read it.
    """
    with conn.transaction():
        conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_MS}ms'")
        return drop_alone(conn, table.schema, table.name, table.column)
