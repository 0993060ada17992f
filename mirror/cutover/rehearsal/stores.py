"""The two stores as the rehearsal's writer writes to them: a commit is a list of rows to touch, take or put."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import apsw
import psycopg

from mirror.cutover.rehearsal.statements import StoreStatements
from mirror.cutover.rehearsal.workload import Work

#: SQLSTATE of mirror.refuse_write: programs are moved back to the file.
MOVED_BACK = "MR004"
#: lock_not_available.
_LOCKED = "55P03"
#: Connection, rollback by the server, resources, a server that starts or stops: the same call may succeed later.
_LATER = frozenset({"08", "40", "53", "57"})
#: Data, constraints: the rehearsal's own value is not taken.
_NOT_TAKEN = frozenset({"22", "23"})


class LaterError(Exception):
    """The call may succeed later, or in the other store."""


class NotTakenError(Exception):
    """A row is not taken as it is."""


class Rows:
    """The rows of one table that a store's writer writes to."""

    def __init__(self, statements: StoreStatements, load: Callable[[str], Sequence[Sequence[Any]]]) -> None:
        self.statements = statements
        self.keys = deque(load(statements.keys))
        self.taken: list[Sequence[Any]] = []
        """What ``put`` takes, of the rows that were deleted."""

    def next_key(self) -> Sequence[Any] | None:
        """One after the other; None: there is none."""
        if not self.keys:
            return None
        self.keys.rotate(-1)
        return self.keys[-1]


class Store:
    """One store. What :meth:`write` raises has changed nothing."""

    def __init__(self, work: Work, statements: Sequence[StoreStatements]) -> None:
        self.tables = [Rows(each, self.read) for each in statements]
        self._simple = False

    def write(self, counts: Sequence[tuple[int, int]]) -> int:
        """One commit: by table, so many rows are written again, and so many are taken and put.

        Returns how many rows it wrote. Raises :class:`LaterError`, :class:`NotTakenError`.
        """
        written, taken, put = 0, [], []
        self.begin()
        try:
            for rows, (updates, swaps) in zip(self.tables, counts, strict=True):
                most = 0 if self._simple else len(rows.keys) // 4
                if swaps > most:
                    updates, swaps = updates + 2 * (swaps - most), most
                new: list[Sequence[Any]] = []
                old = rows.taken[:swaps]
                for row in old:
                    written += self.change(rows.statements.put, row)
                for _ in range(swaps):
                    if (key := rows.next_key()) is not None:
                        new += self.take(rows.statements.take, key)
                written += len(new)
                taken.append(new)
                put.append(len(old))
                text = rows.statements.keep if self._simple else rows.statements.touch or rows.statements.keep
                for _ in range(updates):
                    if (key := rows.next_key()) is not None:
                        written += self.change(text, key)
            if not written:
                # A commit that writes nothing would meet no fence.
                written += self._any_row()
            self.commit()
        except BaseException:
            self.roll_back()
            raise
        for rows, new, number in zip(self.tables, taken, put, strict=True):
            rows.taken = [*rows.taken[number:], *new]
        return written

    def _any_row(self) -> int:
        for rows in self.tables:
            for _ in range(len(rows.keys)):
                key = rows.next_key()
                if key is not None and (written := self.change(rows.statements.keep, key)):
                    return written
        raise NotTakenError("no row is left to write")

    def forget(self) -> None:
        """The other store is used now: what was taken here stays deleted."""
        for rows in self.tables:
            rows.taken = []

    def simplify(self) -> bool:
        """From now on only set columns to themselves; False: it is so already."""
        self.forget()
        before, self._simple = self._simple, True
        return not before

    # -- of each store ---------------------------------------------------------------------------------

    def read(self, query: str) -> Sequence[Sequence[Any]]:
        """The rows of a query."""
        raise NotImplementedError

    def begin(self) -> None:
        """Begin a transaction that may write."""
        raise NotImplementedError

    def change(self, text: str, values: Sequence[Any]) -> int:
        """Run a statement; how many rows it changed."""
        raise NotImplementedError

    def take(self, text: str, key: Sequence[Any]) -> list[Sequence[Any]]:
        """Run a statement; what it returns."""
        raise NotImplementedError

    def commit(self) -> None:
        """End the transaction: it is there."""
        raise NotImplementedError

    def roll_back(self) -> None:
        """End the transaction, as if it had not been. Raises nothing."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection."""
        raise NotImplementedError


class SqliteStore(Store):
    """The clone of the file."""

    def __init__(self, work: Work) -> None:
        self._db = apsw.Connection(work.database, flags=apsw.SQLITE_OPEN_READWRITE)
        super().__init__(work, [table.statements.sqlite for table in work.tables])

    def read(self, query: str) -> Sequence[Sequence[Any]]:
        """The rows of a query."""
        return list(self._run(query, ()).fetchall())

    def _run(self, text: str, values: Sequence[Any]) -> Any:
        try:
            return self._db.execute(text, values)
        except (apsw.BusyError, apsw.LockedError) as error:
            raise LaterError(str(error)) from error
        except (apsw.Error, UnicodeDecodeError) as error:
            raise NotTakenError(f"{type(error).__name__}: {error}") from error

    def begin(self) -> None:
        """Begin a transaction that may write."""
        self._run("BEGIN IMMEDIATE", ())

    def change(self, text: str, values: Sequence[Any]) -> int:
        """Run a statement; how many rows it changed."""
        self._run(text, values)
        return self._db.changes()

    def take(self, text: str, key: Sequence[Any]) -> list[Sequence[Any]]:
        """Run a statement; what it returns."""
        try:
            return list(self._run(text, key).fetchall())
        except UnicodeDecodeError as error:
            raise NotTakenError("a text is not valid in its encoding") from error

    def commit(self) -> None:
        """End the transaction: it is there."""
        self._run("COMMIT", ())

    def roll_back(self) -> None:
        """End the transaction, as if it had not been."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        self._db.close()


class PostgresStore(Store):
    """The schema of the rehearsal."""

    def __init__(self, work: Work, dsn: str) -> None:
        self._dsn = dsn
        self._conn = self._connected()
        super().__init__(work, [table.statements.postgres for table in work.tables])

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        # As a program connects, not as the mirror does: what it writes is a program's.
        return psycopg.connect(
            self._dsn, autocommit=True, cursor_factory=psycopg.RawCursor, application_name="mirror rehearsal"
        )

    def _run(self, text: str, values: Sequence[Any]) -> psycopg.Cursor[tuple[Any, ...]]:
        try:
            return self._conn.execute(text.encode(), values)
        except psycopg.Error as error:
            raise _kind(error) from error

    def read(self, query: str) -> Sequence[Sequence[Any]]:
        """The rows of a query."""
        return self._run(query, ()).fetchall()

    def begin(self) -> None:
        """Begin a transaction that may write."""
        if self._conn.closed:
            try:
                self._conn = self._connected()
            except psycopg.Error as error:
                raise LaterError(str(error)) from error
        self._run("BEGIN", ())

    def change(self, text: str, values: Sequence[Any]) -> int:
        """Run a statement; how many rows it changed."""
        return self._run(text, values).rowcount

    def take(self, text: str, key: Sequence[Any]) -> list[Sequence[Any]]:
        """Run a statement; what it returns."""
        return list(self._run(text, key).fetchall())

    def commit(self) -> None:
        """End the transaction: it is there."""
        self._run("COMMIT", ())

    def roll_back(self) -> None:
        """End the transaction, as if it had not been."""
        if not self._conn.closed:
            try:
                self._conn.execute("ROLLBACK")
            except psycopg.Error:
                self._conn.close()

    def close(self) -> None:
        """Close the connection."""
        self._conn.close()


def _kind(error: psycopg.Error) -> Exception:
    state = error.sqlstate
    if state is None or state in (MOVED_BACK, _LOCKED) or state[:2] in _LATER:
        return LaterError(str(error))
    return NotTakenError(str(error)) if state[:2] in _NOT_TAKEN else error
