"""What one APSW connection writes, where its SQLite has no preupdate hook: which rows, but not what is in them.

The update hook tells of the key of a row that is inserted, updated or deleted, and of nothing else
(https://sqlite.org/c3ref/update_hook.html): not of rows that ``REPLACE`` deletes to make room, not when a ``DELETE``
empties a table, not of tables WITHOUT ROWID; and what a statement has told of stays told when it fails or is rolled
back. So after each statement its rows are counted against ``total_changes``: if they are not as many, or something was
rolled back, the transaction is told of without rows. Neither counts what ``REPLACE`` deletes; so deletes that nobody
has told of are no disagreement.

What is in the rows the sidecar reads at the commit: in the WAL, or, without one, by comparing pages. Here it could not
be read: a commit hook must not use its connection (https://sqlite.org/c3ref/commit_hook.html), and after it another
connection may have committed. Whether the commit succeeds, and the last statement's count, are known when that ends;
then the sidecar is told.

There is one update hook for each connection. It is set when the connection is opened and then left alone: if the
program sets one of its own, that takes its place, nothing more is counted, and commits are told of without rows.

Each row is ``(op, table, rowid)``, marshalled; after an update, the rowid is the new one.
"""

from __future__ import annotations

import marshal
import time
from typing import TYPE_CHECKING, Any

from mirror.hook.outbox import MARSHAL_VERSION
from mirror.hook.watch import MOST_BYTES, MOST_ROWS, TXN_WRITE, Watch, first_word

if TYPE_CHECKING:
    import apsw

    from mirror.hook.place import Place

_TRACE_ENDS = 2  # SQLITE_TRACE_PROFILE: a statement has ended
_OPS = {9: "DELETE", 18: "INSERT", 23: "UPDATE"}  # SQLITE_DELETE, SQLITE_INSERT, SQLITE_UPDATE


class KeyWatch(Watch):
    """The hooks on one connection that was opened just now. Used by the thread that uses the connection."""

    _hooked = _deaf = False
    _told = 0
    """Rows since the last statement ended."""
    _made: tuple[Place | None, float] | None = None
    """What names the commit whose statement has not ended yet, and the seconds that it took to find out."""

    def _listen(self, connection: apsw.Connection) -> None:
        self._deaf = False
        self._changes, self._told = connection.total_changes(), 0
        connection.set_commit_hook(self._commit, id=self)
        connection.set_rollback_hook(self._rollback, id=self)
        connection.trace_v2(_TRACE_ENDS, self._end, id=self)
        if not self._hooked:
            self._hooked = True
            connection.set_update_hook(self._key)

    def _deafen(self, connection: apsw.Connection) -> None:
        self._deaf = True
        connection.trace_v2(0, None, id=self)
        connection.set_commit_hook(None, id=self)
        connection.set_rollback_hook(None, id=self)

    def _key(self, op: int, database: str, table: str, rowid: int) -> None:
        if self._deaf or self._removed or database != "main":
            return
        self._told += 1
        if not self._whole:
            return
        try:
            if len(self._rows) >= MOST_ROWS or self._size > MOST_BYTES:
                self._let_go()
                return
            row = marshal.dumps((_OPS[op], table, rowid), MARSHAL_VERSION)
            self._rows.append(row)
            self._size += len(row)
        except Exception:  # nothing of ours may reach the program
            self.failures += 1
            self._let_go()

    def _commit(self) -> bool:
        try:
            if not self._removed:
                begun = time.perf_counter()
                connection = self._connection()
                assert connection is not None
                self._made = self._place.before(connection), time.perf_counter() - begun
        except Exception:
            self.failures += 1
        return False

    def _end(self, event: dict[str, Any]) -> None:
        try:
            if self._removed:
                return
            connection = self._connection()
            assert connection is not None
            told, self._told = self._told, 0
            counted, self._changes = event["total_changes"] - self._changes, event["total_changes"]
            # Of a statement that has failed none stand: then SQLite says that it changed nothing itself.
            failed = told > 0 and connection.changes() == 0
            if counted != told or failed or (not told and first_word(event["sql"]) == "ROLLBACK"):
                self._let_go()
            if self._made is not None:
                self._end_commit(connection, *self._made)
            elif connection.txn_state() < TXN_WRITE:
                self._clear()
        except Exception:
            self.failures += 1
            self._let_go()

    def _end_commit(self, connection: apsw.Connection, place: Place | None, spent: float) -> None:
        begun = time.perf_counter() - spent
        self._made = None
        if connection.in_transaction:
            self._let_go()  # it has failed, and may be tried again
            return
        if self._rows or not self._whole:
            self._send(connection, place, self._rows if self._whole else None, begun)
        self._clear()

    def _rollback(self) -> None:
        self._made = None
        self._clear()
