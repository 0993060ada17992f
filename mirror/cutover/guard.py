"""Triggers that refuse what programs write to a source's tables in Postgres, once they were moved back to the file.

The mirror's own sessions set ``mirror.writer`` (:mod:`mirror.postgres.sessions`). In a table that agents share, only
the rows of the source's agent are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import LiteralString

from psycopg.sql import SQL, Composable, Identifier, Literal

from mirror.postgres.ddl import table_sql
from mirror.postgres.profiles.generic import AGENT
from mirror.postgres.target import Conn, Target
from mirror.postgres.watch import switch_off

#: By operation: the version of a row that says whose it is.
_OPERATIONS: dict[LiteralString, LiteralString] = {"INSERT": "NEW", "UPDATE": "OLD", "DELETE": "OLD"}


def put_up(conn: Conn, source_id: int, targets: Iterable[Target]) -> None:
    """Refuse writes from the end of the caller's transaction on. Raises psycopg's errors."""
    for target in targets:
        for name, what in _triggers(source_id, target):
            conn.execute(
                SQL("CREATE OR REPLACE TRIGGER {} BEFORE {} EXECUTE FUNCTION mirror.refuse_write()").format(
                    Identifier(name), what
                )
            )
            conn.execute(SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(table_sql(target), Identifier(name)))


def take_down(conn: Conn, source_id: int, targets: Iterable[Target]) -> None:
    """Let programs write from the end of the caller's transaction on."""
    ours = list(targets)
    names = {name for target in ours for name, _ in _triggers(source_id, target)}
    switch_off(conn, ours, names)


def _triggers(source_id: int, target: Target) -> list[tuple[str, Composable]]:
    table = table_sql(target)
    if target.agent is None:
        what = SQL("INSERT OR UPDATE OR DELETE OR TRUNCATE ON {} FOR EACH STATEMENT").format(table)
        return [(f"mirror_guard_{source_id}", what)]
    return [
        (
            f"mirror_guard_{source_id}_{operation.lower()}",
            SQL(operation + " ON {} FOR EACH ROW WHEN (" + version + ".{} = {})").format(
                table, Identifier(AGENT), Literal(target.agent)
            ),
        )
        for operation, version in _OPERATIONS.items()
    ]
