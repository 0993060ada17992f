"""A connection to SQLite, by the library that the process already has.

Two SQLite libraries in one process would break each other's locks on a file that both have open (hazard 17,
mirror/HAZARDS.md). So APSW is used where it is loaded, else the standard module where that is loaded, else APSW.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from mirror.core.errors import ConfigError, ConstraintError, MirrorError, SourceError

if TYPE_CHECKING:
    import sqlite3

    import apsw

#: Seconds to wait for another writer, as the original program does.
BUSY_SECONDS = 5.0
#: Seconds for which SQLite itself waits, once a file is open: then it is looked whether programs are moved to Postgres
#: at this moment (:mod:`mirror.storage.routing`), and tried again.
TRY_SECONDS = 0.02
#: As the original program has them; the cache (KiB, as much as is used) is for searches by embedding, which read all
#: embeddings: 20,000 of 768 dimensions.
_PRAGMAS = (
    "PRAGMA journal_mode=WAL", "PRAGMA foreign_keys=ON", "PRAGMA synchronous=NORMAL", "PRAGMA cache_size=-65536",
    f"PRAGMA busy_timeout={int(TRY_SECONDS * 1000)}",
)  # fmt: skip


class Connection(Protocol):
    """What is needed of a connection. Each is used by one thread at a time."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement; returns its rows. Raises a ``MirrorError``."""

    def in_parts(self, sql: str, parameters: Sequence[Any], rows: int) -> Iterator[list[tuple[Any, ...]]]:
        """Run one statement that reads; its rows, so many at a time. Raises a ``MirrorError``."""

    def changed(self) -> int:
        """The rows that the last statement inserted, updated or deleted."""

    def load_vectors(self) -> bool:
        """Load the extension ``vec0``, if it is installed and this library can; whether it is loaded."""

    def close(self) -> None:
        """Close it."""


def connect(database: Path) -> Connection:
    """Open a file that is there. Raises ``SourceError``."""
    connection = _Standard(database) if _is_standard() else _Apsw(database)
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
    except MirrorError:
        connection.close()
        raise
    return connection


def hold(database: Path) -> Connection:
    """Open a file that is there by the standard module, read its schema, and change nothing. Raises ``SourceError``.

    For a program whose own connections are of that module, loaded yet or not.
    """
    connection = _Standard(database)
    try:
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1")
    except MirrorError:
        connection.close()
        raise
    return connection


def _vectors() -> str | None:
    """The file of the extension ``vec0``. Its package is not imported: that would load the standard module, too."""
    found = importlib.util.find_spec("sqlite_vec")
    return str(Path(found.origin).with_name("vec0")) if found is not None and found.origin else None


def _is_standard() -> bool:
    return "apsw" not in sys.modules and "_sqlite3" in sys.modules


class _Standard:
    def __init__(self, database: Path) -> None:
        import sqlite3

        self._database = database
        self._error = sqlite3.Error
        self._changed = 0
        try:
            self._connection: sqlite3.Connection = sqlite3.connect(
                f"{database.as_uri()}?mode=rw",
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=512,
            )
        except sqlite3.Error as error:
            self._raise(error)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            cursor = self._connection.execute(sql, parameters)
            rows = cursor.fetchall()
        except (self._error, *_NO_VALUE) as error:
            self._raise(error)
        self._changed = cursor.rowcount
        return rows

    def in_parts(self, sql: str, parameters: Sequence[Any], rows: int) -> Iterator[list[tuple[Any, ...]]]:
        try:
            cursor = self._connection.execute(sql, parameters)
            while part := cursor.fetchmany(rows):
                yield part
        except (self._error, *_NO_VALUE) as error:
            self._raise(error)

    def changed(self) -> int:
        return max(0, self._changed)

    def load_vectors(self) -> bool:
        if not hasattr(self._connection, "enable_load_extension"):
            return False
        if (path := _vectors()) is None:
            return False
        try:
            self._connection.enable_load_extension(True)
            self._connection.load_extension(path)
            self._connection.enable_load_extension(False)
        except self._error:
            return False
        return True

    def close(self) -> None:
        if hasattr(self, "_connection"):
            self._connection.close()

    def _raise(self, error: Exception) -> NoReturn:
        _raise(error, getattr(error, "sqlite_errorcode", None), self._database)


class _Apsw:
    def __init__(self, database: Path) -> None:
        import apsw

        self._database = database
        self._error = apsw.Error
        try:
            self._connection: apsw.Connection = apsw.Connection(
                str(database), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=512
            )
            self._connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
        except apsw.Error as error:
            self._raise(error)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except (self._error, *_NO_VALUE) as error:
            self._raise(error)

    def in_parts(self, sql: str, parameters: Sequence[Any], rows: int) -> Iterator[list[tuple[Any, ...]]]:
        try:
            cursor = self._connection.execute(sql, parameters)
            while part := list(islice(cursor, rows)):
                yield part
        except (self._error, *_NO_VALUE) as error:
            self._raise(error)

    def changed(self) -> int:
        return self._connection.changes()

    def load_vectors(self) -> bool:
        if (path := _vectors()) is None:
            return False
        try:
            self._connection.enable_load_extension(True)
            self._connection.load_extension(path)
            self._connection.enable_load_extension(False)
        except self._error:
            return False
        return True

    def close(self) -> None:
        if hasattr(self, "_connection"):
            self._connection.close()

    def _raise(self, error: Exception) -> NoReturn:
        _raise(error, getattr(error, "extendedresult", None), self._database)


# https://sqlite.org/rescode.html
_BUSY, _LOCKED, _READONLY, _CONSTRAINT, _FULL = 5, 6, 8, 19, 13


#: What the libraries raise for a parameter that SQLite has no type for.
_NO_VALUE = (TypeError, OverflowError, UnicodeError)


def _raise(error: Exception, code: int | None, database: Path) -> NoReturn:
    """Raise a library's error as the mirror's, by SQLite's result code; without one: a parameter was wrong."""
    place, detail = str(database), str(error)
    if code is None:
        raise ConfigError("use the store", place, detail, next_step="correct the arguments") from error
    kind = code & 0xFF
    if kind in (_BUSY, _LOCKED):
        step = f"another program has written for more than {BUSY_SECONDS:g} s; try again"
        raise SourceError("use the store", place, detail, next_step=step, retryable=True) from error
    if kind == _CONSTRAINT:
        raise ConstraintError("write a row", place, detail, next_step="change the row") from error
    steps = {_READONLY: "allow this user to write the file", _FULL: "free disk space"}
    raise SourceError("use the store", place, detail, next_step=steps.get(kind, "check the file")) from error
