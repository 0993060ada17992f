"""What one APSW connection writes to its main database, transaction by transaction.

The preupdate hook tells of each row, with its values before and after; at the commit hook the rows go to the sidecar
with the name of the commit (:mod:`mirror.hook.place`). The hook does not tell of rows that are taken back inside a
transaction. Those are found by the trace of statements, which fires when the next one begins:

* SQLite then says how many rows the last statement changed itself (``changes``), and how many all have
  (``total_changes``). If the first is what was told of, its rows stand; if both say none, it has failed, and they go;
* ``ROLLBACK TO``: the rows since its savepoint go.

Wherever that is not sure, the transaction is told of without its rows: a statement that is still being read
(``RETURNING``), one inside of another's function, one that failed when its triggers had written to other tables, a blob
that is written in place, text that is not valid, too many rows. A foreign key's action is no statement: it comes with
the number of the one that caused it.

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
from typing import TYPE_CHECKING, Any

from mirror.hook.budget import Budget
from mirror.hook.outbox import MARSHAL_VERSION, Outbox
from mirror.hook.place import CommitPlace, Place

if TYPE_CHECKING:
    import apsw

#: Whose work is done, as :func:`mirror.as_agent` says.
agent: ContextVar[str | None] = ContextVar("mirror agent", default=None)

#: Of one transaction; larger ones are told of without their rows.
MOST_ROWS, MOST_BYTES = 20_000, 8 << 20

#: While no sidecar listens, nothing is told for so long.
UNHEARD_SECONDS = 0.1

_TRACE_STATEMENTS = 1  # SQLITE_TRACE_STMT
TXN_WRITE = 2  # SQLITETXN_WRITE
#: Statements between two looks at what they cost, and that cost each.
_STATEMENTS, _STATEMENT_SECONDS = 256, 1.5e-6

_BLANK = r"(?:[\s;\ufeff]|--[^\n]*(?:\n|$)|/\*.*?(?:\*/|$))"
_FIRST = re.compile(rf"{_BLANK}*([A-Za-z]*)", re.DOTALL)
_NAME = r"(\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'|`(?:[^`]|``)*`|\[[^\]]*\]|[\w$]+)"
_SAVEPOINT = re.compile(
    rf"{_BLANK}*(?:(SAVEPOINT)|(ROLLBACK){_BLANK}+(?:TRANSACTION{_BLANK}+)?TO|(RELEASE))"
    rf"(?:{_BLANK}*SAVEPOINT(?!\w))?{_BLANK}*(?<!\w){_NAME}{_BLANK}*$",
    re.IGNORECASE | re.DOTALL,
)
_ROLLBACK = re.compile(rf"{_BLANK}*ROLLBACK(?:{_BLANK}+TRANSACTION)?{_BLANK}*$", re.IGNORECASE | re.DOTALL)
#: What the modules of virtual tables run in their own tables.
_INTERNAL = re.compile(r"(?:INSERT|REPLACE|DELETE|UPDATE)[A-Z ]*\s['\"]main['\"]\.['\"]([^'\"]+)['\"]", re.IGNORECASE)


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
        self._files = False
        """Whether the last commit was to a file without a WAL."""
        self._number = number
        self._outbox = outbox
        self._place = CommitPlace(connection)
        self._rows: list[bytes] = []
        self._size = 0
        self._whole = not connection.in_transaction and connection.txn_state() < TXN_WRITE
        """Whether the rows are all there are."""
        self._internal: set[str] = set()
        """The tables in which modules of virtual tables keep them."""
        self._mark = 0
        """So many rows were there when the last statement began."""
        self._own = self._direct = self._deleted = 0
        """Of the rows since then, those that are no module's; of these, those that no trigger wrote; and of these the
        deletes."""
        self._statement: object = None
        self._sql = ""
        self._alone = True
        """Whether the last statement is a transaction by itself."""
        self._nested = False
        """Whether others ran inside of it."""
        self._statements = 0
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
        apsw = sys.modules["apsw"]
        gone: tuple[type[Exception], ...] = (apsw.ConnectionClosedError, apsw.ThreadingViolationError)
        self._removed = True
        try:
            self._deafen(connection)
        except gone:
            return  # closed, or in use just now: then the hooks stay, and do nothing

    def _listen(self, connection: apsw.Connection) -> None:
        """Set the hooks. Statements that were prepared before are prepared again when they are used next: SQLite would
        go on to delete all rows of a table without telling of each.
        """
        self._changes = connection.total_changes()
        if self.with_rows:
            saved = connection.authorizer
            connection.authorizer = _allow_all
            connection.authorizer = saved
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
            if connection.in_transaction or connection.txn_state() == TXN_WRITE:
                return False
            self._listen(connection)
        except in_use:
            return False
        except closed:
            pass
        return True

    @property
    def connection_is_open(self) -> bool:
        """Whether the connection is there, and open."""
        connection = self._connection()
        return connection is not None and bool(connection)

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
            if not self._whole or self._removed or update.database_name != "main":
                return
            if update.blob_write >= 0 or len(self._rows) >= MOST_ROWS or self._size > MOST_BYTES:
                self._let_go()
                return
            op = update.op
            if update.table_name not in self._internal:
                self._own += 1
                if update.depth == 0:
                    self._direct += 1
                    self._deleted += op == "DELETE"
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

    def _begin_statement(self, event: dict[str, Any]) -> None:
        try:
            if self._removed:
                return
            statement, sql = event["id"], event["sql"]
            if event["trigger"]:
                if statement != self._statement and not event["readonly"]:
                    self._begin_nested(sql)
                return
            connection = self._connection()
            assert connection is not None
            alone = not connection.in_transaction
            if self._own:
                if statement == self._statement and not self._nested and event["total_changes"] == self._changes:
                    return  # an action of a foreign key
                self._end_statement(connection, event["total_changes"], alone=alone)
            if self._sent is not None and alone:
                self._sent = None  # it is durable: had it failed, we would be inside of it still
            self._statement, self._sql, self._alone, self._nested = statement, sql, alone, False
            self._changes, self._mark = event["total_changes"], len(self._rows)
            self._own = self._direct = self._deleted = 0
            if alone and self._files:
                self._place.look_at_lock(connection)
            if event["readonly"] and sql[:1] not in "CcBbPpEeWwVv" and sql[:2] not in ("SE", "Se", "se"):
                self._look_for_savepoint(sql)
            self._statements += 1
            if self._statements >= _STATEMENTS:
                self._rest_from_statements(connection)
        except Exception:
            self.failures += 1
            self._let_go()

    def _begin_nested(self, sql: str) -> None:
        """A statement inside of another: of a module that keeps a virtual table, or of a function of the program."""
        self._nested = True
        found = _INTERNAL.match(sql)
        if found is None:
            self._let_go()
        else:
            self._internal.add(found[1])

    def _end_statement(self, connection: apsw.Connection, total: int, *, alone: bool) -> None:
        """The last statement has told of rows, and another one begins: do they stand?"""
        changes, counted = connection.changes(), total - self._changes
        sql = self._sql.upper()
        if alone or "RETURNING" in sql:
            self._let_go()  # it is still under way, or may be
        elif self._direct and changes == self._direct and counted >= changes:
            return
        elif "REPLACE" in sql and 0 < changes == self._direct - self._deleted and counted >= changes:
            return  # SQLite does not count the rows that made room
        elif changes == 0 == counted and not self._nested:
            self._cut(self._mark)  # it has failed
        else:
            self._let_go()

    def _rest_from_statements(self, connection: apsw.Connection) -> None:
        """Those that do not commit cost something, too."""
        self._statements = 0
        pause = self._budget.spend(time.perf_counter(), _STATEMENTS * _STATEMENT_SECONDS)
        if pause and self._alone and not self._rows and not self._files and connection.txn_state() < TXN_WRITE:
            self._rest(connection, pause)

    def _look_for_savepoint(self, sql: str) -> None:
        if first_word(sql) not in ("SAVEPOINT", "ROLLBACK", "RELEASE"):
            return
        if (found := _SAVEPOINT.match(sql)) is not None:
            self._savepoint(*found.groups())
        elif _ROLLBACK.match(sql) is None:
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

    def _commit(self) -> bool:
        try:
            if self._removed:
                return False
            if self._own and not self._alone:
                self._let_go()
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
        self._send(connection, place, self._rows if self._whole and self.with_rows else None, begun)

    def _send(self, connection: apsw.Connection, place: Place | None, rows: list[bytes] | None, begun: float) -> None:
        """Have the sidecar told of a commit. ``begun``: when our work on it began."""
        self._commits += 1
        self._sent = self._commits
        message = ("commit", self._number, self._commits, time.monotonic_ns(), agent.get(), place, rows)
        self._outbox.put(message, self._size + 100)
        pause = self._budget.spend(begun) if self._outbox.connected else UNHEARD_SECONDS
        self._files = place is not None and place[0] == "file"
        # Of a file without a WAL nothing else tells as well; and its commits take long enough.
        if pause and not self._files:
            self._rest(connection, pause)

    def _rest(self, connection: apsw.Connection, seconds: float) -> None:
        """Have no hooks for a while. Between two transactions, so that none is seen in part."""
        if getattr(connection, "is_async", False):
            return  # another thread could not set them again
        self._deafen(connection)
        self._sent = None  # should this commit fail, nobody tells; but then none follows that could be taken for it
        self._outbox.resume(self, seconds)

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
        self._size = self._mark = self._own = self._direct = self._deleted = 0
        self._whole = True
        self._savepoints.clear()


def first_word(sql: str) -> str:
    """The first word of a statement, in capitals; empty if there is none."""
    word = _FIRST.match(sql)
    return "" if word is None else word[1].upper()


def _allow_all(*_: object) -> int:
    return 0  # SQLITE_OK
