"""The log of changes in Postgres, as readers of feeds use it: over one connection, beside those of the sources' loops.

Loops write to it, in the transactions that it tells of (:mod:`mirror.postgres.announce`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from mirror.core.changes import Entry, entry
from mirror.core.positions import Lsn
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement
from mirror.postgres.sessions import connect
from mirror.postgres.target import Conn

Result = TypeVar("Result")


class ChangeLog:
    """Reads and trims ``mirror.changes``. Thread: any; one at a time uses the connection."""

    def __init__(self, dsn: str, keep: int) -> None:
        """``keep``: how many entries of each source are kept."""
        self._dsn = dsn
        self._keep = keep
        self._guard = threading.Lock()
        self._conn: Conn | None = None

    def read(self, source_id: int, after: Lsn | None, until: Lsn, most: int) -> list[Entry]:
        """Entries after a position, up to another, in order, at most so many. Raises ``SinkError``."""
        begin = after or Lsn(-1, 0)
        places = (begin.generation, begin.frame, until.generation, until.frame)
        rows = self._ask("read the log of changes", "changes_read", source_id, *places, most)
        return [entry(str(text)) for (text,) in rows]

    def trim(self, source_id: int) -> None:
        """Delete what is more than is kept. Raises ``SinkError``."""
        self._ask("trim the log of changes", "changes_trim", source_id, self._keep)

    def epoch(self, source_id: int) -> int | None:
        """The epoch of the mirror that has the source now; None: there is no such source. Raises ``SinkError``."""
        rows = self._ask("see who has the source", "source_epoch", source_id)
        return int(rows[0][0]) if rows else None

    def read_up_to(self, source_id: int, reader: str) -> Lsn | None:
        """How far a reader has read; None: it never has. Raises ``SinkError``."""
        rows = self._ask("see what a reader has read", "change_reader", source_id, reader)
        return Lsn(int(rows[0][0]), int(rows[0][1])) if rows else None

    def has_read(self, source_id: int, reader: str, position: Lsn) -> None:
        """Save how far a reader has read. Raises ``SinkError``."""
        place = (position.generation, position.frame)
        self._ask("save what a reader has read", "change_reader_save", source_id, reader, *place)

    def _ask(self, doing: str, name: str, *values: object) -> list[tuple[Any, ...]]:
        def ask(conn: Conn) -> list[tuple[Any, ...]]:
            cursor = conn.execute(statement(name), [str(value) for value in values])
            return cursor.fetchall() if cursor.description else []

        return self._with_connection(doing, ask)

    def _with_connection(self, doing: str, ask: Callable[[Conn], Result]) -> Result:
        with self._guard:
            conn, self._conn = self._conn, None
            if conn is None or conn.closed:
                conn = connect(self._dsn, name="mirror changes", raw=True)
            try:
                with translated(doing, "mirror.changes"):
                    found = ask(conn)
            except BaseException:
                conn.close()
                raise
            self._conn = conn
            return found

    def close(self) -> None:
        """Close the connection."""
        with self._guard:
            if self._conn is not None:
                self._conn.close()
                self._conn = None
