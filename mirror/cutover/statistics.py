"""Whether the planner has statistics of the tables, and making them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg import RawCursor
from psycopg.sql import SQL, Composed, Identifier

from mirror.core.checks import Code
from mirror.core.errors import SinkError
from mirror.core.words import counted
from mirror.cutover.readiness import Readiness
from mirror.postgres.ddl import table_sql
from mirror.postgres.migrate import statement
from mirror.postgres.shared_tables import is_small
from mirror.postgres.target import Target

NAME = "statistics"


def judge(found: Readiness, connection: psycopg.Connection[Any], targets: Iterable[Target]) -> None:
    """Add a guard rail. Raises psycopg's errors."""
    targets = list(targets)
    missing = _missing(connection, targets)
    figure = [f"{counted(len(targets), 'table')} with them, or too small to need them"] if not missing else []
    without = [table.as_string(connection) for table in missing]
    found.add_many(
        Code.STATISTICS,
        NAME,
        not missing,
        figure=[*figure, ("none of ", without, ", ")],
        steps=[("ANALYZE ", without, ", ")],
    )


def _missing(connection: psycopg.Connection[Any], targets: Iterable[Target]) -> list[Identifier]:
    """Tables that have rows, and no statistics."""
    cursor = RawCursor(connection)
    names = [table_sql(target).as_string(connection) for target in targets]
    tables = [Identifier(*row) for row in cursor.execute(statement("not_analyzed"), (names,)).fetchall()]
    return [
        table
        for table in tables
        if cursor.execute(SQL("SELECT EXISTS (SELECT FROM {})").format(table)).fetchone() == (True,)
    ]


def analyze(connection: psycopg.Connection[Any], targets: Iterable[Target], found: Readiness) -> str:
    """Make statistics of the tables that are large enough; returns what to say of it.

    ``connection``: in autocommit mode, with raw cursors. Raises ``SinkError`` if some have none after it, psycopg's
    errors.
    """
    targets = list(targets)
    large = [table_sql(target) for target in targets if not is_small(connection, target.schema, target.name)]
    # Those of parts are small, and may have none.
    wanted = [*large, *(table for table in _missing(connection, targets) if table not in large)]
    for table in wanted:
        connection.execute(SQL("ANALYZE {}").format(table))
    # Postgres warns of one that it may not analyze, and goes on. Others may have grown meanwhile.
    if missing := [table for table in _missing(connection, targets) if table in wanted]:
        listed: Composed = SQL(", ").join(missing)
        raise SinkError(
            "analyze tables",
            found.source,
            "the user that the mirror connects as may not analyze some",
            next_step=f"as their owner: ANALYZE {listed.as_string(connection)}",
        )
    return f"{counted(len(wanted), 'table')} analyzed"
