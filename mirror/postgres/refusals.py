"""Rows and tables that Postgres refuses, while all others go on.

A row that is refused goes to ``mirror.rejects``. A table that is refused, or a change of its definition, goes to
``mirror.refusals``: its rows are not changed from then on (or there is no table at all), while all other tables go
on; it is tried again until it is equal. So a statement that Postgres refuses stops nothing else, and nothing is
dropped in silence (invariant 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import psycopg

from mirror.core.errors import NameTakenError, RefusedError
from mirror.core.rows import TableResult
from mirror.postgres.failures import concerns_one_row, sink_error
from mirror.postgres.migrate import statement
from mirror.postgres.target import Conn

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one source table is not kept equal at the moment, and what an operator can do about it."""

    table: str
    reason: str
    next_step: str
    own_schema: bool = False
    """Whether a schema of its own for the source helps: a name in this one is taken."""

    @classmethod
    def of(cls, table: str, error: RefusedError) -> Refusal:
        """The refusal that an error means for a table."""
        return cls(table, error.detail or str(error), error.next_step, isinstance(error, NameTakenError))


def load_refusals(conn: Conn, source_id: int) -> dict[str, Refusal]:
    """Return the refusals of a source by the name of the source table."""
    rows = conn.execute(
        "SELECT source_table, reason, next_step, own_schema FROM mirror.refusals WHERE source_id = $1::bigint",
        (str(source_id),),
    )
    return {row[0]: Refusal(*row) for row in rows}


def save_refusal(conn: Conn, source_id: int, refusal: Refusal) -> None:
    """Save a refusal, in place of an earlier one of the same table."""
    own_schema = "t" if refusal.own_schema else "f"
    values = (str(source_id), refusal.table, refusal.reason, refusal.next_step, own_schema)
    conn.execute(statement("refusal_save"), values)


def forget_refusal(conn: Conn, source_id: int, table: str) -> None:
    """Delete the refusal of a table, if there is one."""
    conn.execute(
        "DELETE FROM mirror.refusals WHERE source_id = $1::bigint AND source_table = $2::text", (str(source_id), table)
    )


def count_rejects(conn: Conn, source_id: int) -> dict[str, int]:
    """How many rows Postgres could not hold, by the name of the source table, if any."""
    rows = conn.execute(
        "SELECT source_table, count(*) FROM mirror.rejects WHERE source_id = $1::bigint GROUP BY 1", (str(source_id),)
    )
    return {str(table): int(count) for table, count in rows}


def forget_rejects(conn: Conn, source_id: int, table: str) -> None:
    """Delete the rejects of a table."""
    conn.execute(
        "DELETE FROM mirror.rejects WHERE source_id = $1::bigint AND source_table = $2::text", (str(source_id), table)
    )


def rename_rejects(conn: Conn, source_id: int, old: str, new: str) -> None:
    """Have the rejects of a table be those of another name, and what others wrote in it.

    Whether a row is still as others left it cannot be told after that: it counts as such.
    """
    for name, more in (("rejects", ""), ("others_wrote", ", file = NULL")):
        conn.execute(
            f"UPDATE mirror.{name} SET source_table = $3::text{more}"
            " WHERE source_id = $1::bigint AND source_table = $2::text".encode(),
            (str(source_id), old, new),
        )


class Moved(NamedTuple):
    """Rows of one table that a transaction has put into ``mirror.rejects``, or taken out of it."""

    table: str
    rejected: int
    """Rows that were no rejects before."""
    lost: int
    """Of those, the rows that were in their own table, and are there no more."""
    back: int
    """Rejects that are none any more: Postgres holds the rows now, or the source has deleted them."""
    reason: str
    """Why the first one of :attr:`rejected` cannot be held; empty if there is none."""
    key: str = ""
    """Of that row, as ``mirror.rejects`` has keys."""


def settle_rejects(conn: Conn, source_id: int, results: Iterable[TableResult]) -> tuple[dict[str, int], list[Moved]]:
    """End what a transaction does to rejects: :func:`count_rejects`, and what has become of them.

    ``results``: what it did to each table. To be called last, once.
    """
    new = {result.table: result.rejected_new for result in results}
    left: dict[str, int] = {}
    moved = []
    for table, there, came, gone, reason, key in conn.execute(statement("rejects_settle"), (str(source_id),)):
        if there:
            left[table] = int(there)
        if came or gone:
            moved.append(Moved(table, came, max(0, came - new.get(table, 0)), gone, reason or "", key or ""))
    return left, moved


@contextmanager
def attempt(conn: Conn, operation: str, place: str) -> Iterator[None]:
    """Run the block; if it raises anything, undo what it did in the transaction.

    Raises :class:`RefusedError` for what Postgres refuses, and any other error unchanged.
    """
    conn.execute("SAVEPOINT mirror_attempt")
    try:
        yield
    except Exception as error:
        if conn.closed or conn.broken:
            raise
        conn.execute("ROLLBACK TO mirror_attempt; RELEASE mirror_attempt")
        if isinstance(error, psycopg.Error):
            raise sink_error(error, operation, place) from error
        raise
    conn.execute("RELEASE mirror_attempt")


def in_parts(
    conn: Conn,
    place: str,
    items: list[Item],
    run: Callable[[list[Item]], None],
    refuse: Callable[[Item, RefusedError], None],
    *,
    adopted: bool = False,
) -> None:
    """Run ``items`` together; those that Postgres refuses are found by halving and passed to ``refuse``.

    A refusal that is not about one row is raised. ``adopted``: see
    :func:`~mirror.postgres.failures.concerns_one_row`.
    """
    pending = [items] if items else []
    while pending:
        part = pending.pop()
        try:
            with attempt(conn, "store rows", place):
                run(part)
        except RefusedError as error:
            if not concerns_one_row(error, adopted=adopted):
                raise
            if len(part) == 1:
                refuse(part[0], error)
            else:
                half = len(part) // 2
                pending += part[half:], part[:half]
