"""Runs operations on one SQLite file.

Connections are kept and used again, each by one thread at a time. A read of several statements has one snapshot; a
write is one transaction, which takes the write lock at once, so that it never fails half-way for another writer.

A file that was replaced is noticed before each operation: what was written through a connection to the old one would
be lost. Closing such a connection harms nothing: SQLite leaves the WAL alone where the file at the path is another one.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from mirror.core.errors import ConstraintError, SourceError, UnsupportedError
from mirror.core.quote import quoted
from mirror.storage.forks import Lock, whole
from mirror.storage.jsontext import to_json
from mirror.storage.on_sqlite import joined, sql
from mirror.storage.on_sqlite.drivers import Connection, connect
from mirror.storage.on_sqlite.similar import most_similar
from mirror.storage.operations.base import Context, Operation
from mirror.storage.places import merged
from mirror.storage.statements import (
    All,
    Any_,
    ComparesVectors,
    Condition,
    Contains,
    Count,
    CountBy,
    Counts,
    Delete,
    Insert,
    Merged,
    Near,
    Op,
    Pairs,
    Select,
    SelectCounting,
    Statement,
    Summary,
    Together,
    Update,
    Words,
    eq,
    every,
)
from mirror.storage.tables import Table
from mirror.storage.words import search_words

Result = TypeVar("Result")
Seen = TypeVar("Seen")

#: Handled by the program's own logging configuration.
logger = logging.getLogger("mirror")

#: How often a file is opened again because it was replaced meanwhile.
_ATTEMPTS = 5

#: Columns of texts that are searched where the file has no full-text table.
_TEXTS = {
    "memory_items": ("summary", "reflection", "lesson"),
    "memory_categories": ("name", "description", "summary"),
    "lessons": ("context", "action", "outcome", "lesson", "correction", "tags"),
    "tasks": ("title", "description", "tags"),
}
#: Of full-text tables that have other columns, too: those of texts.
_SEARCHED = {"tasks_fts": "{title description tags} : "}


class _Session:
    """A connection, and what its file has."""

    def __init__(self, database: Path, file: tuple[int, int]) -> None:
        self.database = database
        self.file = file
        """Device and inode number of the database that it is connected to."""
        self.connection: Connection = connect(database)
        self.vectors = self.connection.load_vectors()
        self.in_transaction = False
        self._names: dict[str, str] = {}
        self._cookie = -1

    @property
    def compares_vectors(self) -> bool:
        """Whether the extension for vectors is loaded and the file has its tables."""
        return self.vectors and self.schema_of("vec_memory_items") is not None

    @contextmanager
    def transaction(self, begin: str) -> Iterator[None]:
        """One transaction around what is done: committed at the end, rolled back by an error."""
        self.connection.execute(begin)
        self.in_transaction = True
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        finally:
            self.in_transaction = False

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """One state of the file for several reads."""
        if self.in_transaction:
            yield
        else:
            with self.transaction("BEGIN"):
                yield

    def together(self, with_vectors: bool) -> AbstractContextManager[None]:
        """One transaction around a change and that of a vec0 table; without the extension it is one statement."""
        if with_vectors and self.vectors and not self.in_transaction:
            return self.transaction("BEGIN IMMEDIATE")
        return nullcontext()

    def schema_of(self, name: str) -> str | None:
        """The SQL of a table of the file; None if there is none."""
        [(cookie,)] = self.connection.execute("PRAGMA schema_version")
        if cookie != self._cookie:
            found = self.connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'")
            self._names, self._cookie = dict(found), cookie
        return self._names.get(name)


class SQLiteStore:
    """One file. Thread: any."""

    def __init__(self, database: Path) -> None:
        self.database = database
        self.require_writable: Callable[[], None] = lambda: None
        """Called with the write lock taken; raises a ``MirrorError`` if nothing may be written."""
        self._path = str(database)
        self._idle: list[_Session] = []
        self._pid = os.getpid()
        self._guard = Lock()
        self._times_closed = 0

    def open(self) -> None:
        """Connect once, so that an error is met now; the connection is kept. Raises ``SourceError``."""
        with self._session():
            pass

    def tables(self) -> frozenset[str]:
        """The names of the file's tables. Raises ``SourceError``."""
        with self._session() as session:
            rows = session.connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return frozenset(name for (name,) in rows)

    def close(self) -> None:
        """Close the connections, those that are in use when they are not any more; :meth:`run` opens new ones."""
        with self._guard:
            idle, self._idle = self._idle, []
            self._times_closed += 1
        with whole:
            for session in idle:
                session.connection.close()

    @contextmanager
    def _session(self) -> Iterator[_Session]:
        with whole, self._checked_out() as session:
            yield session

    @contextmanager
    def _checked_out(self) -> Iterator[_Session]:
        file = self._file()
        old: list[_Session] = []
        with self._guard:
            if os.getpid() != self._pid:  # a child of fork must not use its parent's connections, nor close them
                _OF_PARENTS.append(self._idle)
                self._idle, self._pid = [], os.getpid()
            times_closed = self._times_closed
            session = self._idle.pop() if self._idle else None
            if session is not None and session.file != file:
                old = [session, *(other for other in self._idle if other.file != file)]
                self._idle = [other for other in self._idle if other.file == file]
                session = self._idle.pop() if self._idle else None
        if old:
            logger.info("%s was replaced: it is opened again", self.database)
        for other in old:
            other.connection.close()
        if session is None:
            session = self._connect(file)
        try:
            yield session
        finally:
            with self._guard:
                if keep := times_closed == self._times_closed:
                    self._idle.append(session)
            if not keep:
                session.connection.close()

    def _file(self) -> tuple[int, int]:
        """Device and inode number of what is at the path now. Raises ``SourceError``."""
        try:
            found = os.stat(self._path)
        except OSError as error:
            step = "put the file back, or take it out of `sources` of mirror.json"
            detail = error.strerror or str(error)
            raise SourceError("use the store", self._path, detail, next_step=step, retryable=True) from error
        return found.st_dev, found.st_ino

    def _connect(self, file: tuple[int, int]) -> _Session:
        """A connection to the file that is at the path when it is made. Raises ``SourceError``."""
        for _ in range(_ATTEMPTS):
            session = _Session(self.database, file)
            try:
                now = self._file()
            except SourceError:
                session.connection.close()
                raise
            if now == file:
                return session
            session.connection.close()
            file = now
        raise self._replaced("open the store")

    def _replaced(self, operation: str) -> SourceError:
        return SourceError(operation, self._path, "the file was replaced meanwhile", retryable=True)

    def _require(self, session: _Session, operation: str) -> None:
        if self._file() != session.file:
            raise self._replaced(operation)

    def read_at(
        self,
        ctx: Context,
        operation: Operation[..., Result],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        look: Callable[[], Seen],
    ) -> tuple[Result | Exception, Seen, Seen]:
        """Run an operation that reads, in one snapshot; returns its result, or what it raised.

        ``look`` is called before the snapshot is taken and right after: where it returned the same, that is the
        snapshot's. Both are returned. Raises a ``MirrorError`` if no snapshot can be taken.
        """
        with self._session() as session:
            before = look()
            with session.transaction("BEGIN"):
                session.connection.execute("PRAGMA schema_version")  # the first read takes the snapshot
                after = look()
                try:
                    return _drive(session, operation.make(ctx, *args, **kwargs)), before, after
                except Exception as error:
                    return error, before, after

    def run(
        self, ctx: Context, operation: Operation[..., Result], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Result:
        """Run an operation to its result; raises a ``MirrorError``, and then nothing is written."""
        with self._session() as session:
            op = operation.make(ctx, *args, **kwargs)
            if operation.many or not operation.reads:
                with session.transaction("BEGIN" if operation.reads else "BEGIN IMMEDIATE"):
                    if not operation.reads:
                        self.require_writable()  # again: it may have waited long for the lock
                    result = _drive(session, op)
                    if not operation.reads:
                        self._require(session, operation.name)
                    return result
            return _drive(session, op)


#: Connections of parent processes: kept, because closing them here would drop the parent's locks.
_OF_PARENTS: list[list[_Session]] = []


def _drive(session: _Session, op: Op[Result]) -> Result:
    answer: Any = None
    try:
        while True:
            answer = _answer(session, op.send(answer))
    except StopIteration as stop:
        result: Result = stop.value
        return result


_READERS: dict[str, Any] = {}


def _read(table: Table) -> Any:
    made = _READERS.get(table.name)
    if made is None:
        made = _READERS[table.name] = sql.reader(table)
    return made


def _answer(session: _Session, statement: Statement[Any]) -> Any:
    execute = session.connection.execute
    match statement:
        case Select(table):
            read = _read(table)
            return [read(row) for row in execute(*sql.select(statement))]
        case SelectCounting(inner):
            read, width = _read(inner.table), len(inner.table.columns)
            found = execute(*sql.select_counting(statement))
            return [(read(row[:width]), *row[width:]) for row in found]
        case Insert(table):
            has_vector = bool(table.vectors) and statement.values.get("embedding") is not None
            with session.together(has_vector), _explained(session, table, statement.values):
                execute(*sql.insert(statement))
                changed = session.connection.changed()
                if has_vector and changed:
                    _keep_vectors(session, table, sql.where(table, _by_key(table, statement.values)))
            return changed
        case Update(table):
            has_vector = bool(table.vectors) and "embedding" in statement.values
            with session.together(has_vector), _explained(session, table, statement.values):
                execute(*sql.update(statement))
                changed = session.connection.changed()
                if has_vector and changed:
                    _keep_vectors(session, table, sql.where(table, statement.where))
            return changed
        case Delete(table):
            with session.together(bool(table.vectors)):
                if table.vectors:
                    _drop_vectors(session, table, sql.where(table, statement.where))
                execute(*sql.delete(statement))
                return session.connection.changed()
        case Count():
            return execute(*sql.count(statement))[0][0]
        case CountBy():
            return dict(execute(*sql.count_by(statement)))
        case Words():
            return _words(session, statement)
        case Near():
            with session.snapshot():
                return _near(session, statement)
        case Merged(near, words, weight, limit):
            with session.snapshot():
                return merged(_near(session, near), _words(session, words), weight, limit)
        case Together(parts):
            with session.snapshot():
                return [_answer(session, part) for part in parts]
        case Pairs():
            return execute(*joined.pairs(statement))
        case Counts():
            return joined.counted(statement, execute(*joined.counts(statement)))
        case Summary():
            return execute(*joined.summary(statement))
        case ComparesVectors():
            return session.compares_vectors
    raise TypeError(f"no statement: {statement!r}")


@contextmanager
def _explained(session: _Session, table: Table, values: Mapping[str, Any]) -> Iterator[None]:
    """Name the reference to a row that is not there, which SQLite's own error does not."""
    try:
        yield
    except ConstraintError as error:
        execute = session.connection.execute
        for _, _, parent, column, key, *_ in execute(f"PRAGMA foreign_key_list({quoted(table.name)})"):
            value = values.get(column)
            if isinstance(value, str) and not execute(
                f"SELECT 1 FROM {quoted(parent)} WHERE {quoted(key or 'id')} = ?", [value]
            ):
                detail = f"no row of {parent} has the {key or 'id'} {value!r:.60}"
                place = f"{table.name}.{column} in {session.database}"
                raise ConstraintError("write a row", place, detail, next_step=f"correct {column}") from error
        raise


def _by_key(table: Table, values: Any) -> Condition:
    return every(*[eq(name, values[name]) for name in table.key])


# -- search by words -----------------------------------------------------------------------------------


def _words(session: _Session, statement: Words) -> list[tuple[Any, ...]]:
    table = statement.table
    query = sql.match_query(statement.text)
    if statement.shared:
        step = "set storage.backend to dual, and run `mirror up` for the program's files"
        raise UnsupportedError("search other agents' rows", detail="a SQLite file has one agent's", next_step=step)
    if query is None:
        return []
    if session.schema_of(table.words) is None:
        return _contained(session, statement)
    condition, parameters = sql.where(table, statement.where)
    words, name = quoted(table.words), quoted(table.name)
    link, linked = ("task_id", "id") if table.name == "tasks" else ("rowid", "rowid")
    # The best are found first, so that only their columns are read. The full-text table's columns of the same names as
    # the table's must not be in sight of the condition.
    found = session.connection.execute(
        f"SELECT {sql.columns(table, f'{name}.')}, -best.match_rank{joined.along(table, statement.along)}"
        f" FROM (SELECT {name}.rowid AS row, match_rank FROM"
        f" (SELECT {link} AS match_key, bm25({words}) AS match_rank FROM {words} WHERE {words} MATCH ?)"
        f" JOIN {name} ON {name}.{linked} = match_key WHERE {condition} ORDER BY match_rank, row LIMIT ?) AS best"
        f" JOIN {name} ON {name}.rowid = best.row ORDER BY best.match_rank, best.row",
        [f"{_SEARCHED.get(table.words, '')}({query})", *parameters, statement.limit],
    )
    return sql.rows_of(table, found, _read(table))


def _contained(session: _Session, statement: Words) -> list[tuple[Any, ...]]:
    """Without a full-text table: rows with any of the words as a part of a text, those with most words first."""
    table = statement.table
    texts = [name for name in _TEXTS[table.name] if name in table.by_name]
    words = [Any_(tuple(Contains(name, word) for name in texts)) for word in search_words(statement.text)]
    parts = [sql.where(table, word) for word in words]
    condition, parameters = sql.where(table, All((statement.where,)))
    name, ranked = quoted(table.name), [value for _, values in parts for value in values]
    rank = " + ".join(f"(({part}) IS TRUE)" for part, _ in parts)
    found = session.connection.execute(
        f"SELECT {sql.columns(table, f'{name}.')}, found.rank{joined.along(table, statement.along)}"
        f" FROM (SELECT rowid AS row, {rank} AS rank FROM {name} WHERE {condition}) AS found"
        f" JOIN {name} ON {name}.rowid = found.row WHERE found.rank > 0 ORDER BY found.rank DESC, found.row LIMIT ?",
        [*ranked, *parameters, statement.limit],
    )
    return sql.rows_of(table, found, _read(table))


# -- search by embeddings ------------------------------------------------------------------------------


def _near(session: _Session, statement: Near) -> list[tuple[Any, ...]]:
    """Exact: cosine similarity to every embedding of the same dimension. (vec0's tables order by another distance.)"""
    table, wanted = statement.table, statement.embedding
    condition, parameters = sql.where(table, statement.where)
    execute, name = session.connection.execute, quoted(table.name)
    fits = f"typeof(embedding) = 'blob' AND length(embedding) = {4 * len(wanted)} AND {condition}"
    best = most_similar(session.connection, statement, fits, parameters, extension=session.vectors)
    scores = {rowid: score for rowid, score in best if score > 0}
    along = joined.along(table, statement.along)
    found = execute(
        f"SELECT rowid, {sql.columns(table)}, 0.0{along} FROM {name} WHERE rowid IN (SELECT value FROM json_each(?))",
        [to_json(list(scores))],
    )
    read = sql.rows_of(table, [row[1:] for row in found], _read(table))
    by_rowid = {row[0]: (made, scores[row[0]], *more) for row, (made, _, *more) in zip(found, read, strict=True)}
    return [by_rowid[rowid] for rowid in scores if rowid in by_rowid]


def _keep_vectors(session: _Session, table: Table, where: sql.Sql) -> None:
    """Bring a vec0 table up to date, where the file has one and the extension is loaded, as the original does."""
    if not session.vectors or (schema := session.schema_of(table.vectors)) is None:
        return
    condition, parameters = where
    execute, name = session.connection.execute, quoted(table.vectors)
    changed = execute(f"SELECT rowid, embedding FROM {quoted(table.name)} WHERE {condition}", parameters)
    size = re.search(r"float\[(\d+)\]", schema)
    for rowid, embedding in changed:
        execute(f"DELETE FROM {name} WHERE rowid = ?", [rowid])
        if embedding is not None and size is not None and len(embedding) == 4 * int(size[1]):
            execute(f"INSERT INTO {name}(rowid, embedding) VALUES (?, ?)", [rowid, embedding])


def _drop_vectors(session: _Session, table: Table, where: sql.Sql) -> None:
    if not session.vectors or session.schema_of(table.vectors) is None:
        return
    condition, parameters = where
    session.connection.execute(
        f"DELETE FROM {quoted(table.vectors)} WHERE rowid IN"
        f" (SELECT rowid FROM {quoted(table.name)} WHERE {condition})",
        parameters,
    )
