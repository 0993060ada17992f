"""Has Postgres write names of tables and types with their schemas, whatever the session's ``search_path`` is.

``format_type``, ``pg_get_constraintdef`` and the like leave out a schema that is in it, and the mirror's sessions have
that of the extension ``vector``, which mostly is the application's own. What they write is kept, and read in sessions
that do not have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

from psycopg import Connection, RawCursor
from psycopg.rows import tuple_row

_SET: LiteralString = "SELECT pg_catalog.set_config('search_path', $1::text, true)"


def in_full(conn: Connection[Any], query: bytes | LiteralString, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The rows of a query with Postgres' own placeholders. Raises psycopg's errors."""
    with conn.transaction(), RawCursor(conn, row_factory=tuple_row) as cursor:
        before = cursor.execute("SELECT pg_catalog.current_setting('search_path')").fetchall()[0]
        cursor.execute(_SET, ("pg_catalog, pg_temp",))
        rows = cursor.execute(query, parameters).fetchall()
        cursor.execute(_SET, before)
    return rows
