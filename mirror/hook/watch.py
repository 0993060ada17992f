"""What one APSW connection writes to its main database, transaction by transaction.

The preupdate hook is called for each row, with its values before and after. It is not called when rows are taken back
inside a transaction. Those are found by the trace of statements, which is called when a statement begins and ends:

* at its end SQLite gives the number of rows that the statement itself changed (``changes``), and that all statements
  have changed (``total_changes``). If the first is the number of rows that the hook saw, its rows are right;
* after ``ROLLBACK TO``, the rows since its savepoint are removed.

Where that is not certain, the transaction is sent without its rows: after a statement that failed, because SQLite does
not always take back what it did; a statement during which others run (``RETURNING``, half read); one inside a function
called by another; a blob that is written in place, text that is not valid, too many rows. A foreign key's action is not
a statement: it comes with the number of one that has not ended.

The trace marks what runs inside a statement with ``--``, so it also marks a statement that begins with such a comment.
That one counts as a statement of its own if no other is open.

The commit hook names the commit (:mod:`mirror.hook.place`). Once the statement that made it has ended, and the
connection is in no transaction, the commit was made, and is sent to the sidecar.

Each row is encoded at once, as :mod:`mirror.hook.wire` says, so that what is queued takes a known number of bytes and
cannot change any more.

Nothing here may raise into the program or wait: errors are counted, and the WAL has everything. Nor may it take much of
the program's time: see :mod:`mirror.hook.budget`.
"""

from __future__ import annotations

import re
import sys
import time
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mirror.hook.budget import Budget
from mirror.hook.outbox import Outbox
from mirror.hook.place import CommitPlace, Place
from mirror.hook.wire import MOST_ROWS, encode_row

if TYPE_CHECKING:
    import apsw

#: The agent that works now, as :func:`mirror.as_agent` sets it.
agent: ContextVar[str | None] = ContextVar("mirror agent", default=None)

#: Bytes of one transaction's rows; of a larger one, only the commit is sent.
MOST_BYTES = 8 << 20

#: Seconds without hooks after a commit that no sidecar listened to.
UNHEARD_SECONDS = 0.1

_TRACE_BEGINS, _TRACE_ENDS = 1, 2  # SQLITE_TRACE_STMT, SQLITE_TRACE_PROFILE
_TXN_WRITE = 2  # SQLITE_TXN_WRITE
#: Statements between two checks of what they cost, and the seconds that each costs.
_STATEMENTS, _STATEMENT_SECONDS = 256, 3e-6

_BLANK = r"(?:[\s;\ufeff]|--[^\n]*(?:\n|$)|/\*.*?(?:\*/|$))"
_FIRST = re.compile(rf"{_BLANK}*([A-Za-z]*)", re.DOTALL)
_NAME = r"(\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'|`(?:[^`]|``)*`|\[[^\]]*\]|[\w$]+)"
_SAVEPOINT = re.compile(
    rf"{_BLANK}*(?:(SAVEPOINT)|(ROLLBACK){_BLANK}+(?:TRANSACTION{_BLANK}+)?TO|(RELEASE))"
    rf"(?:{_BLANK}*SAVEPOINT(?!\w))?{_BLANK}*(?<!\w){_NAME}{_BLANK}*$",
    re.IGNORECASE | re.DOTALL,
)
_ROLLBACK = re.compile(rf"{_BLANK}*ROLLBACK(?:{_BLANK}+TRANSACTION)?{_BLANK}*$", re.IGNORECASE | re.DOTALL)
#: SQLite folds no other letters in names.
_FOLDED = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
#: The first two letters of the statements that do none of that and are most common.
_PLAIN = frozenset(("SE", "IN", "UP", "DE", "PR", "CR", "se", "in", "up", "de", "pr", "cr"))
#: First words of statements that begin or end a part of a transaction.
_TRANSACTIONS = frozenset(("BEGIN", "COMMIT", "END", "SAVEPOINT", "ROLLBACK", "RELEASE"))
#: What the modules of virtual tables run in their own tables.
_INTERNAL = re.compile(r"(?:INSERT|REPLACE|DELETE|UPDATE)[A-Z ]*\s['\"]main['\"]\.['\"]([^'\"]+)['\"]", re.IGNORECASE)


class ConnectionHooks:
    """The hooks on one connection. Thread: the one that uses the connection."""

    def __init__(self, connection: apsw.Connection, outbox: Outbox, budget: Budget, *, rows: bool) -> None:
        """Set the hooks. ``rows``: whether the preupdate hook may be used; if not, only commits and agents are sent."""
        self._connection = weakref.ref(connection)  # it refers to us: a cycle would keep it open after its last use
        self.failures = 0
        """How many errors there were in the hooks."""
        self.with_rows = rows
        self._budget = budget
        self._removed = False
        self._files = False
        """Whether the last commit was to a file without a WAL."""
        self._outbox = outbox
        self._place = CommitPlace(connection)
        self._rows: list[bytes] = []
        self._size = 0
        self._whole = True
        """Whether ``_rows`` has all rows of the transaction."""
        self._listening = False
        """Whether all hooks are set."""
        self._internal: set[str] = set()
        """The tables in which modules of virtual tables keep their data."""
        self._open: set[object] = set()
        """The statements that have begun and not ended."""
        self._inner: set[object] = set()
        """Those of them that run inside another."""
        self._statement: object = None
        """The last one that does not run inside another."""
        self._own = self._direct = self._deleted = 0
        """Numbers of rows since it began: without those of modules; of these, without those of triggers; of these, the
        deletes."""
        self._changes = 0
        self._statements = 0
        self._savepoints: list[tuple[str, int]] = []
        self._made: tuple[Place | None, float] | None = None
        """The place of a commit made by a statement that has not ended yet, and the seconds that finding it took."""
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
        otherwise go on to delete all rows of a table without calling the hook for each.
        """
        self._listening = False
        self._drop_rows()  # a transaction may have begun, or begin before all hooks are set
        self._open.clear()
        self._inner.clear()
        self._statement, self._made = None, None
        self._changes = connection.total_changes()
        if self.with_rows:
            if (saved := connection.authorizer) is None or saved is _allow_all:
                connection.authorizer = _allow_all  # does no harm if the next line fails
                connection.authorizer = None
            else:
                connection.authorizer = saved
        connection.set_commit_hook(self._commit, id=self)
        connection.set_rollback_hook(self._rollback, id=self)
        connection.trace_v2(_TRACE_BEGINS | _TRACE_ENDS, self._trace, id=self)
        self._listen_to_rows(connection)
        self._listening = True

    def _listen_to_rows(self, connection: apsw.Connection) -> None:
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

        Only between two transactions; one that begins at that moment is sent without rows.
        """
        connection = self._connection()
        if connection is None or self._removed:
            return True
        apsw = sys.modules["apsw"]
        in_use: type[Exception] = apsw.ThreadingViolationError
        closed: type[Exception] = apsw.ConnectionClosedError
        try:
            if not _is_idle(connection):
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
        """Send only commits from now on: the session extension needs the connection's preupdate hook."""
        connection = self._connection()
        if self.with_rows and connection is not None:
            self.with_rows = False
            connection.preupdate_hook(None, id=self)
            if self._rows:
                self._drop_rows()

    def _row(self, update: apsw.PreUpdate) -> None:
        try:
            if not self._whole or self._removed or update.database_name != "main":
                return
            if update.blob_write >= 0 or len(self._rows) >= MOST_ROWS or self._size > MOST_BYTES:
                self._drop_rows()
                return
            op = update.op
            if update.table_name not in self._internal:
                self._own += 1
                if update.depth == 0:
                    self._direct += 1
                    self._deleted += op == "DELETE"
            row = encode_row(
                (
                    op,
                    update.table_name,
                    update.rowid,
                    update.rowid_new,
                    None if op == "INSERT" else update.old,
                    None if op == "DELETE" else update.new,
                )
            )
            self._rows.append(row)
            self._size += len(row)
        except Exception:  # text that is not valid; no error of ours may reach the program
            self.failures += 1
            self._drop_rows()

    def _drop_rows(self) -> None:
        self._whole = False
        self._rows.clear()
        self._size = 0

    def _trace(self, event: dict[str, Any]) -> None:
        try:
            if self._removed:
                return
            connection = self._connection()
            assert connection is not None
            if event["code"] == _TRACE_ENDS:
                self._end(connection, event)
            else:
                self._begin(connection, event)
        except Exception:
            self.failures += 1
            self._drop_rows()

    def _begin(self, connection: apsw.Connection, event: dict[str, Any]) -> None:
        statement = event["id"]
        if statement in self._open:
            return  # its trigger, or a foreign key's action
        inner = event["trigger"] and bool(self._open)
        self._open.add(statement)
        if inner:
            self._inner.add(statement)
            if not event["readonly"]:
                self._begin_inner(event["sql"])
            return
        if self._own:
            self._drop_rows()  # the last one, which has rows, has not ended
        alone = not connection.in_transaction
        if alone and self._made is not None:
            self._end_commit(connection, self._place.after(connection, self._made[0]), self._made[1])
        if (self._rows or self._savepoints or not self._whole) and _is_idle(connection):
            self._clear()  # of a transaction that was rolled back, had nothing to commit, or was seen in part
        self._statement, self._own, self._direct, self._deleted = statement, 0, 0, 0
        self._changes = event["total_changes"]
        if alone and self._files:
            self._place.look_at_lock(connection)

    def _begin_inner(self, sql: str) -> None:
        """A statement inside another: of the module of a virtual table, or of a function of the program."""
        found = _INTERNAL.match(sql)
        if found is None:
            self._drop_rows()
        else:
            self._internal.add(found[1])

    def _end(self, connection: apsw.Connection, event: dict[str, Any]) -> None:
        statement, sql = event["id"], event["sql"]
        self._open.discard(statement)
        if statement in self._inner:
            self._inner.discard(statement)
            if _first_word(sql) in _TRANSACTIONS:
                self._drop_rows()
        elif statement == self._statement:
            self._statement = None
            if not self._rows_are_right(connection, event["total_changes"] - self._changes, sql):
                self._drop_rows()
            self._own = 0
            if sql[:2] not in _PLAIN and (word := _first_word(sql)) in _TRANSACTIONS:
                self._end_savepoint(word, sql)
        if self._made is not None:
            if connection.in_transaction:
                self._made = None
                self._drop_rows()  # the commit has failed, and may be tried again
            else:
                self._end_commit(connection, self._place.after(connection, self._made[0]), self._made[1])
            return
        self._statements += 1
        if self._statements >= _STATEMENTS:
            self._rest_from_statements(connection)

    def _rows_are_right(self, connection: apsw.Connection, counted: int, sql: str) -> bool:
        """Whether the rows of a statement that has ended are what it did. ``counted``: rows that all changed."""
        if not self._own:
            return True
        changes = connection.changes()
        if not changes or counted < changes:
            return False
        # SQLite does not count rows that REPLACE deletes to make room.
        return changes == self._direct or (changes == self._direct - self._deleted and "REPLACE" in sql.upper())

    def _rest_from_statements(self, connection: apsw.Connection) -> None:
        """Spend the cost of statements that do not commit, and rest if the budget is used up."""
        self._statements = 0
        pause = self._budget.spend(time.perf_counter(), _STATEMENTS * _STATEMENT_SECONDS)
        if pause and not self._files and _is_idle(connection):
            self._rest(connection, pause)

    def _end_savepoint(self, word: str, sql: str) -> None:
        if (found := _SAVEPOINT.match(sql)) is not None:
            self._savepoint(*found.groups())
        elif word in ("SAVEPOINT", "RELEASE") or (word == "ROLLBACK" and _ROLLBACK.match(sql) is None):
            self._drop_rows()

    def _savepoint(self, begin: str | None, back: str | None, release: str | None, name: str) -> None:
        name = (name[1:-1] if name[0] in "\"'`[" else name).translate(_FOLDED)
        if begin:
            self._savepoints.append((name, len(self._rows)))
            return
        known = next((at for at in reversed(range(len(self._savepoints))) if self._savepoints[at][0] == name), None)
        if release:
            del self._savepoints[known or 0 :]
        elif known is None:
            self._drop_rows()
        else:
            if self._whole:
                del self._rows[self._savepoints[known][1] :]
                self._size = sum(map(len, self._rows))
            del self._savepoints[known + 1 :]

    def _commit(self) -> bool:
        try:
            if not self._removed:
                begun = time.perf_counter()
                connection = self._connection()
                assert connection is not None
                named = self._rows or not self._whole or not self.with_rows
                self._made = self._place.before(connection) if named else None, time.perf_counter() - begun
                if not self._open:
                    # The commit of a blob, or of a statement that was ended early: no later event shows whether it was
                    # made. Without rows it does no harm if it was not.
                    self._drop_rows()
                    self._end_commit(connection, *self._made)
        except Exception:
            self.failures += 1
        return False

    def _end_commit(self, connection: apsw.Connection, place: Place | None, spent: float) -> None:
        """The commit was made: send it. ``spent``: seconds that our work on it took so far."""
        begun = time.perf_counter() - spent
        if self._own:
            self._drop_rows()  # the statement has begun before there were hooks
        rows, size = (self._rows, self._size) if self._whole and self._sends_rows else (None, 0)
        self._clear()
        if rows == []:
            return
        message = ("commit", time.monotonic_ns(), agent.get(), place, rows)
        self._outbox.put(message, 100 + size)
        pause = self._budget.spend(begun) if self._outbox.connected else UNHEARD_SECONDS
        self._files = place is not None and place[0] == "file"
        # Without a WAL the hooks are the best source, and beside such slow commits they cost little.
        if pause and not self._files:
            self._rest(connection, pause)

    @property
    def _sends_rows(self) -> bool:
        return self.with_rows

    def _rest(self, connection: apsw.Connection, seconds: float) -> None:
        """Remove the hooks for some seconds. Between two transactions, so that none is seen in part."""
        if getattr(connection, "is_async", False):
            return  # no other thread could set the hooks again
        self._deafen(connection)
        self._outbox.resume(self, seconds)

    def _rollback(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._rows = []
        self._size = self._own = self._direct = self._deleted = 0
        self._whole, self._made = self._listening, None
        self._savepoints.clear()


def _first_word(sql: str) -> str:
    """The first word of a statement, in capitals; empty if there is none."""
    word = _FIRST.match(sql)
    return "" if word is None else word[1].upper()


def _is_idle(connection: apsw.Connection) -> bool:
    """Whether the connection is between two transactions, as far as writing goes."""
    return not connection.in_transaction and connection.txn_state() < _TXN_WRITE


def _allow_all(*_: object) -> int:
    return 0  # SQLITE_OK
