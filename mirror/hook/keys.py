"""What one APSW connection writes, where its SQLite has no preupdate hook: the keys of rows, but not their values.

The update hook gives the key of a row that is inserted, updated or deleted, and nothing else
(https://sqlite.org/c3ref/update_hook.html). It is not called for rows that ``REPLACE`` deletes to make room, for a
``DELETE`` that empties a table, and for tables WITHOUT ROWID. So at the end of each statement its rows are counted
against ``total_changes``: if the numbers differ, the transaction is sent without rows. Neither counts what ``REPLACE``
deletes; so a delete that no hook has sent is not a discrepancy. All else is as in :mod:`mirror.hook.watch`.

The sidecar reads the values at the commit: from the WAL, or, without one, by comparing pages. They could not be read
here: a commit hook must not use its connection (https://sqlite.org/c3ref/commit_hook.html), and after it another
connection may have committed.

A connection has one update hook. It is set when the connection is opened and then left alone: if the program sets one
of its own, that replaces it, nothing more is counted, and commits are sent without rows.

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
    """The hooks on one connection that was opened just now. Thread: the one that uses the connection."""

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
    def _sends_rows(self) -> bool:
        return True

    def _key(self, op: int, database: str, table: str, rowid: int) -> None:
        if self._deaf or self._removed or database != "main":
            return
        self._own += 1
        if not self._whole:
            return
        try:
            if len(self._rows) >= MOST_ROWS or self._size > MOST_BYTES:
                self._drop_rows()
                return
            row = encode_row((_OPS[op], table, rowid))
            self._rows.append(row)
            self._size += len(row)
        except Exception:  # no error of ours may reach the program
            self.failures += 1
            self._drop_rows()

    def _rows_are_right(self, connection: apsw.Connection, counted: int, sql: str) -> bool:
        return counted == self._own and (not self._own or connection.changes() > 0)
