"""The SQLite file, written by key: a batch is one transaction.

The file's own triggers fire, because full-text indexes are kept by them. Some write to tables that the batch brings
itself, too (a time of the last change, a count): what they have done to rows there is undone, so that the file shows
what Postgres shows. Foreign keys are not enforced meanwhile: the order within a batch is not that of the program, and
Postgres has done what they do.

A commit is on the disk before the batch counts as applied (``synchronous=FULL``).

The file may have another name while programs are kept out (:mod:`mirror.core.place`); the next batch finds it there.

With ``hold`` the write lock is kept between batches, so that no program can write to the file. It is taken as soon as
it is free; between a commit and the next lock a program may be faster. Such a commit, or any where the lock is not
kept, is noticed: :attr:`SqliteWriter.foreign`. Where triggers of the mirror's refuse writes
(:mod:`mirror.reverse.abort`), this connection's are taken.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import apsw

from mirror.core.errors import SourceError
from mirror.core.place import where
from mirror.core.quote import quoted
from mirror.core.sql_values import decoded, with_classes
from mirror.core.values import Row, Value
from mirror.reverse import abort
from mirror.reverse.adopted import Alike
from mirror.reverse.inexact import Inexact
from mirror.reverse.opening import insist, opened
from mirror.reverse.values import bound, placeholder

#: Seconds to wait for a program that writes; then the batch is tried again.
BUSY_SECONDS = 2.0
#: Seconds to wait for the lock that is to be kept; then the next look tries again. Nearly always, as what follows may
#: take long, and programs write meanwhile.
KEEP_SECONDS = 0.5
#: Seconds without a pause between two tries: after a commit, and just opened, when a command is about to let it go.
HURRY_SECONDS, FIRST_HURRY_SECONDS = 0.02, 5.0

_WRITES = {
    apsw.SQLITE_INSERT: "INSERT",
    apsw.SQLITE_UPDATE: "UPDATE",
    apsw.SQLITE_DELETE: "DELETE",
}


def rowid_name(columns: Iterable[str]) -> str:
    """A name of the rowid in a table with these columns. Raises ``StopIteration`` if all are taken."""
    taken = {column.lower() for column in columns}
    return next(name for name in ("rowid", "_rowid_", "oid") if name not in taken)


def is_real(declared: str) -> bool:
    """Whether a column of a declared type makes a floating-point number of each number.

    (https://sqlite.org/datatype3.html, section 3.1: what the first words of these say counts more.)
    """
    kind = declared.upper()
    return not any(word in kind for word in ("INT", "CHAR", "CLOB", "TEXT", "BLOB")) and any(
        word in kind for word in ("REAL", "FLOA", "DOUB")
    )


def key_condition(names: Sequence[str], key: Row) -> tuple[str, list[Any]]:
    """The condition of a row by its key, and its parameters.

    Each column is compared twice: for the index, and without a collation that takes two keys of Postgres for one.
    """
    parts = [
        f"{quoted(name)} IS {placeholder(value)} AND {quoted(name)} IS {placeholder(value)} COLLATE BINARY"
        for name, value in zip(names, key, strict=True)
    ]
    return " AND ".join(parts), [bound(value) for value in key for _ in range(2)]


class NotTakenError(Exception):
    """SQLite does not take a row; the text says why."""


@dataclass(slots=True)
class Table:
    """One table as the file has it."""

    name: str
    columns: tuple[str, ...]
    """Those that are written, in the order of a row's values."""
    places: tuple[int, ...]
    """Where their values are in a row."""
    key: tuple[str, ...]
    """``rowid``, or one of its other names, where that is the key."""
    key_columns: tuple[int, ...]
    """The places of the key's columns in the table, in declared order; empty for the rowid."""
    reals: frozenset[str]
    """Those that make a floating-point number of each number."""
    alike: tuple[Alike | None, ...] = ()
    """By column that is written: whether two values mean the same, so that what the file has is kept; None: the bits
    tell. Empty: of all."""
    disturbed: frozenset[str] = frozenset()
    """The tables of the mirror that its triggers write to."""


class SqliteWriter:
    """A connection that writes. Close it after use; nothing else in the process may open the file otherwise."""

    foreign = True
    """Whether others may have committed since this was last set to False; set by :meth:`look`."""
    changes = 0
    """How often it was set since the file was opened."""
    busy = False
    """Whether the last error was that a program holds the lock: nothing else is wrong then."""

    def __init__(self, path: Path, *, hold: bool = False) -> None:
        """Raises :class:`SourceError` if the file is not there or cannot be opened."""
        self._path = path
        self._hold = hold
        self._open()
        self._tables: dict[str, Table] = {}
        self._names: dict[str, str] = {}
        self._touched: dict[tuple[str, Row], None] = {}

    def _open(self) -> None:
        try:
            self._hurry_until = time.monotonic() + FIRST_HURRY_SECONDS
            self._db, self._name = opened(self._path, BUSY_SECONDS)
            self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            self._db.execute("PRAGMA synchronous=FULL; PRAGMA foreign_keys=OFF")
            self._db.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
            self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # see mirror.reverse.marks
            abort.let_pass(self._db)
            self.encoding = str(self._db.pragma("encoding"))
        except apsw.Error as error:
            raise self._failed(error) from error
        self._version = self._data_version()

    def follow(self, *, hold: bool) -> None:
        """Between batches: open the file by the name that it has now, and keep its lock or not.

        SQLite in WAL mode would not notice a rename, and go on; but in a rollback mode it writes no more then, and what
        it removes when it closes goes by the names of before. Raises :class:`SourceError`.
        """
        self._hold = hold
        if not hold and self._db.in_transaction:
            self._db.execute("ROLLBACK")
        if where(self._path) != self._name:
            # Closed first: in one process, two connections to a file share an index, by the first one's name.
            self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._db.close()
            self._open()
            self.foreign = True
            self.changes += 1

    @property
    def connection(self) -> apsw.Connection:
        """The file's connection: only to be read, in :meth:`reading`."""
        return self._db

    def _data_version(self) -> int:
        """Changes when another connection has committed."""
        return int(self._db.pragma("data_version"))

    def keep_lock(self) -> None:
        """Take the write lock, if it is to be held and is free. Raises :class:`SourceError`."""
        if not self._hold or self._db.in_transaction:
            return
        insist(self._db, KEEP_SECONDS, hurry_until=max(self._hurry_until, time.monotonic() + HURRY_SECONDS))
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except (apsw.BusyError, apsw.LockedError):
            return  # a program has it: the next look tries again
        except apsw.Error as error:
            raise self._failed(error) from error
        finally:
            insist(self._db, BUSY_SECONDS)
        self.look()

    def look(self) -> None:
        """Notice that others have committed since the last look."""
        if (version := self._data_version()) != self._version:
            self._version, self.foreign = version, True
            self.changes += 1

    def _failed(self, error: apsw.Error) -> SourceError:
        self.busy = busy = isinstance(error, apsw.BusyError | apsw.LockedError)
        return SourceError(
            "write to the file",
            str(self._path),
            "a program holds its lock" if busy else f"{type(error).__name__}: {error}",
            next_step="end the program that writes to it" if busy else "repair it, or finalize without a way back",
            retryable=busy or isinstance(error, apsw.IOError | apsw.FullError | apsw.CantOpenError),
        )

    # -- tables ------------------------------------------------------------------------------------

    def describe(
        self, tables: Iterable[tuple[str, Sequence[str], Sequence[str]]], alike: Mapping[str, Sequence[Alike | None]]
    ) -> None:
        """Learn the tables that are written: name, the columns of a row's values, and those of its key.

        ``alike``: of some tables, by column, whether two values mean the same. Raises :class:`SourceError` for one that
        the file does not have so.
        """
        wanted = list(tables)
        self._tables = {name: self._table(name, columns, key) for name, columns, key in wanted}
        for name, each in alike.items():
            self._tables[name].alike = tuple(each[at] for at in self._tables[name].places)
        self._names = {name.lower(): name for name in self._tables}
        for table in self._tables.values():
            table.disturbed = self._effects(table)

    def _table(self, name: str, columns: Sequence[str], key: Sequence[str]) -> Table:
        found = list(self._db.execute("SELECT name, hidden, cid, type FROM pragma_table_xinfo(?)", (name,)))
        known = {column: (hidden, cid) for column, hidden, cid, _ in found}
        reals = frozenset(column for column, _, _, declared in found if is_real(declared))
        if absent := [column for column in columns if column not in known]:
            what = f"it has no column {', '.join(absent)}" if found else "it is not there"
            raise SourceError("carry writes back", f"{self._path}, table {name}", what)
        written = [at for at, column in enumerate(columns) if known[column][0] == 0]  # others are computed
        if list(key) == ["_rowid"] and "_rowid" not in known:
            return Table(name, tuple(columns[at] for at in written), tuple(written), (rowid_name(known),), (), reals)
        cids = sorted((cid, column) for column, (hidden, cid) in known.items())
        order = [column for _, column in cids]
        return Table(
            name,
            tuple(columns[at] for at in written),
            tuple(written),
            tuple(key),
            tuple(order.index(column) for column in key),
            reals,
        )

    def _effects(self, table: Table) -> frozenset[str]:
        """The tables of the mirror that the triggers of a table write to, as SQLite's compiler says."""
        found: set[str] = set()

        def note(action: int, first: str | None, _second: Any, _database: Any, trigger: str | None) -> int:
            if trigger is not None and action in _WRITES and first is not None and first.lower() in self._names:
                found.add(self._names[first.lower()])
            return apsw.SQLITE_OK

        name, one = quoted(table.name), quoted(table.columns[0])
        texts = [
            f"INSERT INTO {name}({one}) VALUES (NULL)",
            f"UPDATE {name} SET {', '.join(f'{quoted(c)}=NULL' for c in table.columns)}",
            f"DELETE FROM {name}",
        ]
        self._db.authorizer = note
        try:
            for text in texts:
                self._db.execute(f"EXPLAIN {text}").fetchall()
        except apsw.Error as error:
            raise SourceError(
                "carry writes back", f"{self._path}, table {table.name}", f"its triggers cannot be run here: {error}"
            ) from error
        finally:
            self._db.authorizer = None
        return frozenset(found)

    @property
    def schema_version(self) -> int:
        """Changes when the schema of the file does."""
        return int(self._db.pragma("schema_version"))

    # -- reading -----------------------------------------------------------------------------------

    def written_columns(self, table: str) -> tuple[str, ...]:
        """The columns that are written; SQLite computes the others."""
        return self._tables[table].columns

    def key_names(self, table: str) -> tuple[str, ...]:
        """The columns of a table's key: those of the mirror, or a name of the rowid."""
        return self._tables[table].key

    def disturbs(self, tables: Iterable[str]) -> bool:
        """Whether triggers of these tables write to tables of the mirror."""
        return any(self._tables[name].disturbed for name in tables)

    def read(self, text: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query. Raises :class:`SourceError`."""
        try:
            yield from self._db.execute(text, values)
        except apsw.Error as error:
            raise self._failed(error) from error

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One state of the file meanwhile; commits of others that it has are noticed before."""
        begun = not self._db.in_transaction
        try:
            if begun:
                self._db.execute("BEGIN; SELECT 1 FROM sqlite_schema")
            self.look()
            yield
        except apsw.Error as error:
            raise self._failed(error) from error
        finally:
            if begun and self._db.in_transaction:
                self._db.execute("ROLLBACK")

    # -- a batch -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a batch. Raises :class:`SourceError`, retryable if a program holds the lock."""
        if not self._db.in_transaction:
            try:
                self._db.execute("BEGIN IMMEDIATE")
            except apsw.Error as error:
                raise self._failed(error) from error
            self.look()
        self._touched.clear()
        if any(table.disturbed for table in self._tables.values()):
            self._db.preupdate_hook(self._note, id=self)

    def _note(self, change: Any) -> None:
        """Note the rows of the mirror's tables that triggers write to."""
        if change.depth == 0 or (name := self._names.get(change.table_name.lower())) is None:
            return
        table = self._tables[name]
        if not table.key_columns:
            keys: list[Row] = [(change.rowid,), (change.rowid_new,)]
        else:
            images = [image for image in (change.old, change.new) if image is not None]
            keys = [tuple(image[at] for at in table.key_columns) for image in images]
        for key in keys:
            self._touched[name, key] = None

    def touched(self) -> list[tuple[str, Row]]:
        """Tables and keys of the rows that triggers have written to since :meth:`begin`."""
        return list(self._touched)

    def triggers(self, *, fire: bool) -> None:
        """Whether the file's triggers fire from now on."""
        self._db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, int(fire))
        if not fire:
            self._db.preupdate_hook(None, id=self)

    def delete(self, table: str, key: Row) -> None:
        """Delete a row, if it is there. Raises :class:`NotTakenError`, :class:`SourceError`."""
        known = self._tables[table]
        condition, bound_key = key_condition(known.key, key)
        self._run(f"DELETE FROM {quoted(table)} WHERE {condition}", bound_key)

    def put(self, table: str, key: Row, row: Row) -> None:
        """Make a row what it is in Postgres. Raises :class:`NotTakenError`, :class:`SourceError`."""
        known = self._tables[table]
        values = [row[at] for at in known.places]
        if known.alike:
            values = self._kept(known, key, values)
        if (inexact := next((value for value in values if isinstance(value, Inexact)), None)) is not None:
            raise NotTakenError(inexact.why)
        for column, value in zip(known.columns, values, strict=True):
            if column in known.reals and type(value) is int and int(float(value)) != value:
                raise NotTakenError(f"{column} has floating-point numbers, and none is {value}")
        name = quoted(table)
        own = set(known.key)
        condition, bound_key = key_condition(known.key, key)
        others = [(c, v) for c, v in zip(known.columns, values, strict=True) if c not in own]
        if others:
            settings = ", ".join(f"{quoted(c)}={placeholder(v)}" for c, v in others)
            self._run(
                f"UPDATE OR ABORT {name} SET {settings} WHERE {condition}",
                [*(bound(v) for _, v in others), *bound_key],
            )
            if self._db.changes():
                return
        elif self._db.execute(f"SELECT 1 FROM {name} WHERE {condition}", bound_key).get is not None:
            return
        columns, given = list(known.columns), list(values)
        if not known.key_columns:
            columns, given = [known.key[0], *columns], [key[0], *given]
        self._run(
            f"INSERT OR ABORT INTO {name}({', '.join(map(quoted, columns))})"
            f" VALUES ({', '.join(map(placeholder, given))})",
            [bound(value) for value in given],
        )
        if not self._db.changes():
            raise NotTakenError("a trigger of the file ignores it")

    def _kept(self, known: Table, key: Row, values: list[Value]) -> list[Value]:
        """The values, but those that the file has where Postgres has the same."""
        condition, bound_key = key_condition(known.key, key)
        names = with_classes([*map(quoted, known.columns)])
        for raw in self.read(f"SELECT {names} FROM {quoted(known.name)} WHERE {condition}", bound_key):
            there = decoded(raw, self.encoding)
            return [
                mine if same is not None and same(mine, value) else value
                for same, mine, value in zip(known.alike, there, values, strict=True)
            ]
        return values

    def keep_only(self, table: str, keys: Iterable[Row]) -> None:
        """Delete all rows of a table but those with these keys. Raises :class:`NotTakenError`, :class:`SourceError`."""
        known = self._tables[table]
        columns = [f"k{at}" for at in range(len(known.key))]
        self._run("DROP TABLE IF EXISTS temp.mirror_keys", ())
        self._run(f"CREATE TEMP TABLE mirror_keys({', '.join(columns)})", ())
        for key in keys:
            marks = ", ".join(map(placeholder, key))
            self._run(f"INSERT INTO temp.mirror_keys VALUES ({marks})", [bound(value) for value in key])
        self._run(f"CREATE INDEX temp.mirror_key ON mirror_keys({', '.join(columns)})", ())
        same = " AND ".join(
            f"k.{column} IS t.{quoted(name)} COLLATE BINARY" for column, name in zip(columns, known.key, strict=True)
        )
        name = quoted(table)
        gone = f"SELECT 1 FROM temp.mirror_keys k WHERE {same}"
        self._run(f"DELETE FROM main.{name} AS t WHERE NOT EXISTS ({gone})", ())
        self._run("DROP TABLE temp.mirror_keys", ())

    def _run(self, text: str, values: Sequence[Any]) -> None:
        try:
            self._db.execute(text, values)
        except (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError, apsw.RangeError) as error:
            if not self._db.in_transaction:
                # A trigger's RAISE(ROLLBACK): nothing of the batch is left.
                raise self._failed(error) from error
            raise NotTakenError(str(error)) from error
        except apsw.Error as error:
            raise self._failed(error) from error

    def commit(self) -> None:
        """End the batch: it is on the disk. Raises :class:`SourceError`."""
        try:
            self._db.execute("COMMIT")
        except apsw.Error as error:
            self.roll_back()
            raise self._failed(error) from error
        self.keep_lock()
        self.triggers(fire=True)

    def roll_back(self) -> None:
        """Take the batch back, if there is one."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self.triggers(fire=True)
        self._db.preupdate_hook(None, id=self)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
