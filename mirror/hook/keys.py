"""What one APSW connection writes, where its SQLite has no preupdate hook: which rows, but not what is in them.

The update hook tells of the key of a row that is inserted, updated or deleted, and of nothing else
(https://sqlite.org/c3ref/update_hook.html): not of rows that ``REPLACE`` deletes to make room, not when a ``DELETE``
empties a table, not of tables WITHOUT ROWID. So at the end of each statement its rows are counted against
``total_changes``: if they are not as many, the transaction is told of without rows. Neither counts what ``REPLACE``
deletes; so deletes that nobody has told of are no disagreement. All else is as in :mod:`mirror.hook.watch`.

What is in the rows the sidecar reads at the commit: in the WAL, or, without one, by comparing pages. Here it could not
be read: a commit hook must not use its connection (https://sqlite.org/c3ref/commit_hook.html), and after it another
connection may have committed.

There is one update hook for each connection. It is set when the connection is opened and then left alone: if the
program sets one of its own, that takes its place, nothing more is counted, and commits are told of without rows.

Each row is ``(op, table, rowid)``, encoded as :mod:`mirror.hook.wire` says; after an update, the rowid is the new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirror.hook.watch import MOST_BYTES, ConnectionHooks
from mirror.hook.wire import MOST_ROWS, encode_row

if TYPE_CHECKING:
    import apsw

_OPS = {9: "DELETE", 18: "INSERT", 23: "UPDATE"}  # SQLITE_DELETE, SQLITE_INSERT, SQLITE_UPDATE


class KeyHooks(ConnectionHooks):
    """The hooks on one connection that was opened just now. Used by the thread that uses the connection."""

    _hooked = _deaf = False

    def _listen_to_rows(self, connection: apsw.Connection) -> None:
        self._deaf = False
        if not self._hooked:
            self._hooked = True
            connection.set_update_hook(self._key)

    def _deafen(self, connection: apsw.Connection) -> None:
        self._deaf = True
        super()._deafen(connection)

    @property
    def _tells_rows(self) -> bool:
        return True

    def _key(self, op: int, database: str, table: str, rowid: int) -> None:
        if self._deaf or self._removed or database != "main":
            return
        self._own += 1
        if not self._whole:
            return
        try:
            if len(self._rows) >= MOST_ROWS or self._size > MOST_BYTES:
                self._let_go()
                return
            row = encode_row((_OPS[op], table, rowid))
            self._rows.append(row)
            self._size += len(row)
        except Exception:  # nothing of ours may reach the program
            self.failures += 1
            self._let_go()

    def _stands(self, connection: apsw.Connection, counted: int, sql: str) -> bool:
        return counted == self._own and (not self._own or connection.changes() > 0)
