"""What one APSW connection writes to its main database, transaction by transaction.

The preupdate hook tells of each row, with its values before and after; at the commit hook the rows go to the sidecar
with the name of the commit (:mod:`mirror.hook.place`). The hook does not tell of rows that are taken back inside a
transaction.
Those are found by the trace of statements, which fires when the next one begins:

* a statement that failed: SQLite then says that its last statement changed nothing, although there were rows;
* ``ROLLBACK TO``: the rows since its savepoint go.

Where that is not sure (a trigger's own statements were counted), the transaction is told of without its rows. So it is
after an incremental write to a blob, which comes as a delete without the new value, and where there are too many rows.

Each row is ``(op, table, rowid, new rowid, values before, values after)``, marshalled at once: then what waits takes a
known number of bytes and cannot change any more. Values are in the order of the table's columns.

Nothing here may raise into the program or wait: what goes wrong is counted, and the WAL has everything. Nor may it take
much of its time: see :mod:`mirror.hook.budget`.
"""

from __future__ import annotations

import marshal
import re
import sys
import time
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING

from mirror.hook.budget import Budget
from mirror.hook.outbox import MARSHAL_VERSION, Outbox
from mirror.hook.place import CommitPlace

if TYPE_CHECKING:
    import apsw

#: Whose work is done, as :func:`mirror.as_agent` says.
agent: ContextVar[str | None] = ContextVar("mirror agent", default=None)

#: Of one transaction; larger ones are told of without their rows.
MOST_ROWS, MOST_BYTES = 20_000, 8 << 20

#: While no sidecar listens, nothing is told for so long.
UNHEARD_SECONDS = 0.1

_TRACE_STATEMENTS = 1  # SQLITE_TRACE_STMT
_BLANK = r"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
_NAME = r"(\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'|`(?:[^`]|``)*`|\[[^\]]*\]|[^\s;]+)"
_SAVEPOINT = re.compile(
    rf"{_BLANK}(?:(SAVEPOINT)|(ROLLBACK){_BLANK}(?:TRANSACTION{_BLANK})?TO(?=[^\w])|(RELEASE))"
    rf"{_BLANK}(?:SAVEPOINT(?=[^\w]){_BLANK})?{_NAME}",
    re.IGNORECASE | re.DOTALL,
)


class Watch:
    """The hooks on one connection. Used by the thread that uses the connection."""

    def __init__(self, connection: apsw.Connection, number: int, outbox: Outbox, budget: Budget, *, rows: bool) -> None:
        """Set the hooks. ``number``: of the connection in this process. ``rows``: whether the preupdate hook may be
        used; without it only commits are told of, and by whom.
        """
        self._connection = weakref.ref(connection)  # it holds us: a circle would keep it open when it is thrown away
        self.failures = 0
        """How often something went wrong here."""
        self.with_rows = rows
        self._budget = budget
        self._removed = False
        self._number = number
        self._outbox = outbox
        self._place = CommitPlace(connection)
        self._rows: list[bytes] = []
        self._size = 0
        self._whole = not connection.in_transaction
        """Whether the rows are all there are."""
        self._mark = 0
        """So many rows were there when the last statement began."""
        self._changes = 0
        self._savepoints: list[tuple[str, int]] = []
        self._sent: int | None = None
        """Number of the last commit, for as long as it may still fail."""
        self._commits = 0
        self._listen(connection)

    def remove(self) -> None:
        """Leave the connection as it was. It may be closed already."""
        connection = self._connection()
        if connection is None:
            return
        closed: type[Exception] = sys.modules["apsw"].ConnectionClosedError
        self._removed = True
        try:
            self._deafen(connection)
        except closed:
            return

    def _listen(self, connection: apsw.Connection) -> None:
        self._changes = connection.total_changes()
        connection.set_commit_hook(self._commit, id=self)
        connection.set_rollback_hook(self._rollback, id=self)
        connection.trace_v2(_TRACE_STATEMENTS, self._begin_statement, id=self)
        if self.with_rows:
            connection.preupdate_hook(self._row, id=self)

    def _deafen(self, connection: apsw.Connection) -> None:
        if self.with_rows:
            connection.preupdate_hook(None, id=self)
        connection.trace_v2(0, None, id=self)
        connection.set_commit_hook(None, id=self)
        connection.set_rollback_hook(None, id=self)

    def resume(self) -> bool:
        """Set the hooks again after a rest, from the outbox's thread; False if the connection is in use just now.

        Only between two transactions, so that none is seen in part.
        """
        connection = self._connection()
        if connection is None or self._removed:
            return True
        apsw = sys.modules["apsw"]
        in_use: type[Exception] = apsw.ThreadingViolationError
        closed: type[Exception] = apsw.ConnectionClosedError
        try:
            if connection.in_transaction:
                return False
            self._listen(connection)
        except in_use:
            return False
        except closed:
            pass
        return True

    def watches(self, connection: apsw.Connection) -> bool:
        """Whether the hooks are on this connection."""
        return self._connection() is connection

    def give_rows_up(self) -> None:
        """Only tell of commits from now on: the connection's preupdate hook is needed by the session extension."""
        connection = self._connection()
        if self.with_rows and connection is not None:
            self.with_rows = False
            connection.preupdate_hook(None, id=self)
            if self._rows:
                self._let_go()

    def _row(self, update: apsw.PreUpdate) -> None:
        try:
            if update.database_name != "main":
                return
            if not self._whole:
                return
            if update.blob_write >= 0 or len(self._rows) >= MOST_ROWS or self._size > MOST_BYTES:
                self._let_go()
                return
            op = update.op
            row = marshal.dumps(
                (
                    op,
                    update.table_name,
                    update.rowid,
                    update.rowid_new,
                    None if op == "INSERT" else update.old,
                    None if op == "DELETE" else update.new,
                ),
                MARSHAL_VERSION,
            )
            self._rows.append(row)
            self._size += len(row)
        except Exception:  # broken text; nothing of ours may reach the program
            self.failures += 1
            self._let_go()

    def _let_go(self) -> None:
        self._whole = False
        self._rows.clear()
        self._size = 0

    def _begin_statement(self, event: dict[str, object]) -> None:
        try:
            if event["trigger"]:
                return  # inside another one
            connection = self._connection()
            assert connection is not None
            changes, rows = event["total_changes"], len(self._rows)
            if rows > self._mark and connection.changes() == 0:
                if changes == self._changes:
                    self._cut(self._mark)
                else:
                    self._let_go()
            self._changes, self._mark = changes, len(self._rows)  # type: ignore[assignment]
            if self._sent is not None and not connection.in_transaction:
                self._sent = None  # it is durable: had it failed, we would be inside of it still
            sql = event["sql"]
            assert isinstance(sql, str)
            if sql[:1] in "SsRr-/ \n\t" and (found := _SAVEPOINT.match(sql)) is not None:
                self._savepoint(*found.groups())
        except Exception:
            self.failures += 1
            self._let_go()

    def _savepoint(self, begin: str | None, back: str | None, release: str | None, name: str) -> None:
        name = (name[1:-1] if name[0] in "\"'`[" else name).lower()
        if begin:
            self._savepoints.append((name, len(self._rows)))
            return
        known = next((at for at in reversed(range(len(self._savepoints))) if self._savepoints[at][0] == name), None)
        if release:
            del self._savepoints[known or 0 :]
        elif known is None:
            self._let_go()
        else:
            self._cut(self._savepoints[known][1])
            del self._savepoints[known + 1 :]

    def _cut(self, rows: int) -> None:
        if self._whole:
            del self._rows[rows:]
            self._size = sum(map(len, self._rows))
            self._mark = rows

    def _commit(self) -> bool:
        try:
            if self._rows or not self._whole or not self.with_rows:
                self._tell()
        except Exception:
            self.failures += 1
        self._clear()
        return False

    def _tell(self) -> None:
        begun = time.perf_counter()
        connection = self._connection()
        assert connection is not None
        place = self._place.before(connection) if self._rows or not self._whole else None
        rows: list[bytes] | None = self._rows if self._whole and self.with_rows else None
        self._commits += 1
        self._sent = self._commits
        message = ("commit", self._number, self._commits, time.monotonic_ns(), agent.get(), place, rows)
        self._outbox.put(message, self._size + 100)
        # Of a file without a WAL nothing else tells as well; and its commits take long enough.
        pause = self._budget.spend(begun) if self._outbox.connected else UNHEARD_SECONDS
        if pause and (place is None or place[0] == "wal"):
            self._deafen(connection)
            self._sent = None  # should this commit fail, nobody tells; but then none follows that could be taken for it
            self._outbox.resume(self, pause)

    def _rollback(self) -> None:
        try:
            if self._sent is not None:
                self._outbox.put(("undone", self._number, self._sent), 50)
        except Exception:
            self.failures += 1
        self._sent = None
        self._clear()

    def _clear(self) -> None:
        self._rows = []
        self._size = self._mark = 0
        self._whole = True
        self._savepoints.clear()
