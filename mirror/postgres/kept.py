"""Tables that Postgres keeps after their source has dropped them, and what is still for them.

A program that changes a table by making another one and renaming it leaves everything that others made for the first
one (views, foreign keys, triggers, grants) with the first one, which no row comes to any more.

A table that is made anew in one transaction is not dropped: the other one has its rows. It is kept only where that one
has less (rows or columns), or where objects of others are for it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import RawCursor
from psycopg.sql import SQL, Composable, Identifier, Literal

from mirror.postgres.migrate import statement
from mirror.postgres.names import KEPT
from mirror.postgres.profiles.generic import AGENT
from mirror.postgres.target import Conn, Target


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


def _has_more(conn: Conn, each: Replaced, target: Target) -> bool:
    """Whether a kept table has a column, or more rows, than the one in its place."""
    pair = _quoted(conn, each.schema, each.kept), _quoted(conn, target.schema, target.name)
    if conn.execute(statement("kept_columns"), pair).fetchone() != (False,):
        return True
    own: Composable = SQL("true")
    if target.agent is not None:
        own = SQL("{} = {}").format(Identifier(AGENT), Literal(target.agent))
    counted = SQL("SELECT (SELECT count(*) FROM {}) > (SELECT count(*) FROM {} WHERE {})").format(
        Identifier(each.schema, each.kept), Identifier(target.schema, target.name), own
    )
    return conn.execute(counted).fetchone() != (False,)


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
