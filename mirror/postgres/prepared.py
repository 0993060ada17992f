"""Statements sent without a cursor: each is prepared once, and a queue of them is one round trip.

A batch needs neither psycopg's cursor nor its pipeline, which were about a quarter of the loop's work for a small one:
its parameters are encoded already, and nothing that its statements return is read.

Each statement is prepared under a name of its own (the extended query protocol,
https://www.postgresql.org/docs/current/protocol-flow.html). So the server decides the types of its parameters when it
gets it for the first time, and they stay whatever becomes of the columns. :meth:`PreparedStatements.forget` is for
that, and after an error all is forgotten.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from psycopg import DataError, OperationalError, errors, generators
from psycopg.pq import ConnStatus, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult

from mirror.postgres.target import Conn

#: A statement and its parameters, encoded: as text, or as the bytes of a ``bytea``.
Queued = tuple[bytes, tuple["str | bytes | None", ...]]

#: Statements that are known by name; more than that, and all are prepared anew.
MOST_NAMES = 500

#: Parameters as they are sent, and the formats of each; None: all are text.
_Sent = tuple[list["bytes | None"], list[Format] | None]
#: Nothing else says that a statement was run, nor does no answer at all.
_DONE = frozenset((ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK))


class PreparedStatements:
    """Those of one connection, on which psycopg prepares none: it forgets its own by ``DEALLOCATE ALL``.

    Thread: one at a time.
    """

    def __init__(self, conn: Conn) -> None:
        self._conn = conn
        self._names: dict[bytes, bytes] = {}
        self._number = 0
        self._old: list[bytes] = []
        """Names that the server still knows and nobody uses any more."""

    def forget(self) -> None:
        """Prepare each statement anew, because a table has changed."""
        self._old += self._names.values()
        self._names.clear()

    def run(self, queue: Sequence[Queued]) -> None:
        """Run statements, each only if those before it succeeded; returns when the server has done all of them.

        Which transactions they make, they say themselves. Raises psycopg's errors; ``UnicodeEncodeError`` for half of
        a surrogate pair, and then nothing was sent.
        """
        ready = [(text, _encoded(params)) for text, params in queue]
        conn, pgconn = self._conn, self._conn.pgconn
        with conn.lock:
            try:
                if len(ready) == 1 and not self._old and (name := self._names.get(ready[0][0])) is not None:
                    pgconn.send_query_prepared(name, *ready[0][1])
                    _require_done(conn.wait(_answer(conn)))
                else:
                    for result in self._in_pipeline(ready):
                        _require_done(result)
            except BaseException:
                self.forget()
                if pgconn.pipeline_status or pgconn.transaction_status == TransactionStatus.ACTIVE:
                    pgconn.finish()  # answers may come that nobody would read
                raise

    def _in_pipeline(self, ready: list[tuple[bytes, _Sent]]) -> list[PGresult]:
        """Send all at once; returns what the server said to each, up to the first that failed and beyond."""
        pgconn = self._conn.pgconn
        if len(self._names) > MOST_NAMES:
            self.forget()
        old, self._old = self._old, []
        new: dict[bytes, bytes] = {}
        made: list[tuple[bytes, bytes] | None] = [None] * len(old)
        """For each message the statement that it prepares, and under which name."""
        pgconn.enter_pipeline_mode()
        for each in old:
            pgconn.send_query_params(b"DEALLOCATE " + each, None)
        for text, params in ready:
            name = self._names.get(text) or new.get(text)
            if name is None:
                self._number += 1
                name = new[text] = b"mirror_%d" % self._number
                pgconn.send_prepare(name, text)
                made.append((text, name))
            pgconn.send_query_prepared(name, *params)
            made.append(None)
        pgconn.pipeline_sync()
        results = self._conn.wait(_answers(self._conn, len(made)))
        if pgconn.status == ConnStatus.OK:
            pgconn.exit_pipeline_mode()
        for prepared, result in zip(made, results, strict=False):
            if prepared is not None and result.status in _DONE:
                self._names[prepared[0]] = prepared[1]
        return results


def _answer(conn: Conn) -> Generator[Any, Any, PGresult]:
    """The last result of what was sent. Raises ``OperationalError`` if there is none."""
    results: list[PGresult] = yield from generators.execute(conn.pgconn)
    if not results:
        raise OperationalError("the server has not answered")
    return results[-1]


def _answers(conn: Conn, number: int) -> Generator[Any, Any, list[PGresult]]:
    """The answers to so many messages. Of a session that is ended, those before; the last one says why."""
    found: list[PGresult] = []
    for _ in range(number + 1):
        try:
            found.append((yield from _answer(conn)))
        except OperationalError:
            if found and found[-1].status not in _DONE:
                return found
            raise
    sync = found.pop()
    if sync.status != ExecStatus.PIPELINE_SYNC:
        raise OperationalError("the server's answers do not belong to what was sent")
    return found


def _require_done(result: PGresult) -> None:
    if result.status not in _DONE:
        raise errors.error_from_result(result, encoding="utf-8")


def _encoded(params: tuple[str | bytes | None, ...]) -> _Sent:
    found = [value.encode() if isinstance(value, str) else value for value in params]
    formats = None
    for at, value in enumerate(found):
        if value is None:
            continue
        if isinstance(params[at], bytes):
            formats = formats or [Format.TEXT] * len(found)
            formats[at] = Format.BINARY
        elif b"\0" in value:  # libpq would end the value there
            raise DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    return found, formats
