"""Making the last comparison small: what was written since the first one is compared while programs still write.

A comparison of all rows takes long, and all that is written meanwhile has to be compared again. That takes less time,
so less is written meanwhile, and so on, until programs have to wait for a few rows only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from psycopg.pq import TransactionStatus

from mirror.core.errors import SinkError
from mirror.core.positions import Lsn
from mirror.core.values import Row
from mirror.postgres.failures import translated
from mirror.postgres.sessions import Session
from mirror.postgres.target import Target
from mirror.reverse.proof import File, FileRow, difference, keyed, reader, written_tables
from mirror.reverse.rows import Since, TableRows

#: So few rows may be left; and how often it is tried to come to that.
FEW_ROWS, ROUNDS = 100, 5
#: Rows that are read in one view of the file: the mirror waits for it.
VIEW_ROWS = 1000

_BEGIN = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class AtCommit(Protocol):
    """See :meth:`mirror.parity.source.Source.at_commit`; ``read`` gets the connection that shows the file."""

    def __call__(self, begin: Callable[[Lsn], None], read: Callable[[File], None], /) -> Lsn:
        """The position of the commit."""


def narrow(
    conn: Session, source_id: int, targets: Mapping[str, Target], since: str, at_commit: AtCommit, place: str
) -> str:
    """Compare what was written since a snapshot of Postgres; returns a newer one, since which it has to be done again.

    ``conn``: in no transaction. Raises ``SinkError`` if a row differs, ``MirrorError``.
    """
    with translated("compare with Postgres", place):
        for _ in range(ROUNDS):
            now, keys = _written(conn, targets, Since(source_id, since))
            if now is None:
                return since  # a table was truncated
            for part in _parts(keys):
                _compare(conn, source_id, targets, part, at_commit, place)
            since = now
            if sum(map(len, keys.values())) <= FEW_ROWS:
                break
    return since


Keys = Mapping[str, list[tuple[Row, list[str]]]]


def _written(conn: Session, targets: Mapping[str, Target], since: Since) -> tuple[str | None, Keys]:
    """A snapshot, and the keys that were written in it: the file's and the outbox's."""
    conn.execute(_BEGIN)
    try:
        [[now]] = conn.execute("SELECT pg_current_snapshot()::text").fetchall()
        tables = written_tables(conn, since)
        if any(tables.values()):
            return None, {}
        rows = {name: TableRows(conn, targets[name]) for name in tables if name in targets}
        return str(now), {name: [(one.key, one.text) for one in keyed(table, since)] for name, table in rows.items()}
    finally:
        _end(conn)


def _parts(keys: Keys) -> Iterator[Keys]:
    for name, found in keys.items():
        for at in range(0, len(found), VIEW_ROWS):
            yield {name: found[at : at + VIEW_ROWS]}


def _compare(
    conn: Session, source_id: int, targets: Mapping[str, Target], keys: Keys, at_commit: AtCommit, place: str
) -> None:
    tables = {name: TableRows(conn, targets[name]) for name in keys}
    seen: dict[tuple[str, tuple[str, ...]], FileRow] = {}

    def read(db: File) -> None:
        seen.clear()
        for name, found in keys.items():
            row_of = reader(db, tables[name])
            for key, text in found:
                seen[name, tuple(text)] = row_of(key)

    def begin(lsn: Lsn) -> None:
        conn.execute(_BEGIN)
        found = conn.execute(
            "SELECT generation, frame FROM mirror.sources WHERE source_id = $1::bigint", (str(source_id),)
        ).fetchone()
        if found is None or Lsn(*found) != lsn:
            _end(conn)
            raise SinkError("compare at a position", place, f"Postgres is not at {lsn}", retryable=True)

    try:
        at_commit(begin, read)
        for name, found in keys.items():
            for one in tables[name].by_keys([text for _, text in found]):
                # The mirror brings what the file has: nothing there is what a column has made of something else.
                differs = difference(targets[name], one, seen[name, tuple(one.text)], lambda *_: False)
                if differs:
                    raise SinkError("compare with the file", place, differs)
    finally:
        _end(conn)


def _end(conn: Session) -> None:
    if conn.info.transaction_status is not TransactionStatus.IDLE and not conn.broken:
        conn.execute("ROLLBACK")
