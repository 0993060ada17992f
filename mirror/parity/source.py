"""The source, read through SQL: tables' shapes, slices of rows.

Never load the standard library's ``sqlite3`` in the same process: two copies of SQLite do not
know of each other's locks (hazard 17, mirror/HAZARDS.md).
"""

from __future__ import annotations

import re
import secrets
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from operator import lt
from pathlib import Path
from typing import Any

import apsw

from mirror.core.errors import SourceError
from mirror.core.positions import Lsn
from mirror.core.sql_values import decoded, width, with_classes
from mirror.core.values import BadText
from mirror.core.virtual import VirtualTable, virtual_tables
from mirror.parity.gate import Gate
from mirror.parity.plan import KeyColumn, Plan, Shape, SourceKey, key_of
from mirror.parity.values import Cells, key_text, stand_in

#: Rows to fetch before the next number of them is chosen, at most.
_LARGEST_FETCH = 512
#: Bytes of a value above which its row is compared by digest, and fetched from Postgres by itself.
LARGE_BYTES = 4_000_000

#: A table that has no common key order is read as a whole: at most so many seconds and rows.
WHOLE_SECONDS = 1.0
WHOLE_ROWS = 1_000_000
#: Of an application's own table, of which the rows themselves are kept, not their digests: so many bytes.
WHOLE_BYTES = 200_000_000


class TooLargeError(SourceError):
    """A table that must be read as a whole is too large for one short read transaction."""


class Slice:
    """Consecutive rows of one table in key order.

    While the view is open only their values are kept, in one list; the rows are made of them when it has ended. So many
    tuples would start a full garbage collection in the view, which lengthens the read transaction by what that takes in
    a process with many objects (measured during a load: 25 ms became 110).
    """

    def __init__(
        self, values: list[Any], width: int, *, exhausted: bool, decode: Callable[[Sequence[Any]], Cells] | None = None
    ) -> None:
        """``values``: of all rows, ``width`` each. ``decode``: makes a row of the values that were selected."""
        self._values = values
        self._width = width
        self._decode = decode
        self.exhausted = exhausted
        """Whether no row follows."""

    def require_order(self, key: Sequence[int], after: Cells | None) -> None:
        """Raise ``apsw.CorruptError`` if a key that is one integer does not go up. ``key``: its places in a row."""
        if len(key) != 1:
            return
        keys = self._values[key[0] :: self._width]
        if after is not None:
            keys.insert(0, after[0])
        if set(map(type, keys)) == {int} and not all(map(lt, keys, islice(keys, 1, None))):
            raise apsw.CorruptError("its b-tree leads back")

    @cached_property
    def large(self) -> bool:
        """Whether a value is so large that a few such rows must not be in memory together; to be read before rows."""
        return max(map(sys.getsizeof, self._values), default=0) > LARGE_BYTES

    @cached_property
    def rows(self) -> list[Cells]:
        """The rows; to be read when the view has ended."""
        rows: list[Cells] = list(zip(*[iter(self._values)] * self._width, strict=True))
        self._values = []
        return rows if self._decode is None else [self._decode(row) for row in rows]


class Source(ABC):
    """One SQLite database, open for reading: see :mod:`~mirror.parity.views`. Close it after use."""

    def __init__(self, path: Path, db: apsw.Connection) -> None:
        self.path = path
        self.longest_view = 0.0
        """Seconds for which the longest read transaction was open."""
        self._shapes: dict[str, Shape | None] = {}
        self._schema_version = -1
        self._use(db)

    def _use(self, db: apsw.Connection) -> None:
        """Read through this connection from now on."""
        self._db = db
        db.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)  # an unknown "name" is an error, not a text
        # SQLite does not read a WITHOUT ROWID table without its collations. Where the program has its own, there is no
        # common order (see mirror.parity.plan): such a table is read as it lies, and nothing is compared by them.
        db.collation_needed(_stand_in_collation)
        self.encoding = str(db.pragma("encoding"))

    @abstractmethod
    def at_commit(self, gate: Gate, begin: Callable[[Lsn], None], read: Callable[[], None]) -> Lsn:
        """Call ``read`` in a view, and ``begin`` with the position at which Postgres shows the same commit.

        ``read`` may be called more than once: the last call counts. ``begin`` raises ``SinkError`` if Postgres
        is at another position. Raises :class:`SourceError` when no view could be pinned to a commit.
        """

    @property
    def connection(self) -> apsw.Connection:
        """What shows the file, while a view is open: only to be read."""
        return self._db

    def close(self) -> None:
        """Close SQLite's connection."""
        self._db.close()

    def _began(self) -> None:
        """A view has begun: drop the shapes read before if the schema has changed."""
        [(version,)] = self._db.execute("PRAGMA schema_version")
        if version != self._schema_version:
            self._shapes.clear()
            self._schema_version = version

    # The methods below are used inside a view.

    def ordinary_tables(self) -> set[str]:
        """Names of the tables that a mirror must store."""
        listed = list(self._db.execute("SELECT name, type FROM pragma_table_list WHERE schema = 'main'"))
        # table_list knows shadow tables only while their module is loaded, and vec0 is not: found by their names.
        vectors = [
            name.lower()
            for (name,) in self._db.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage = 0 AND sql LIKE '%using%vec0%'"
            )
        ]
        return {
            name
            for name, kind in listed
            if kind == "table"
            and not name.lower().startswith("sqlite_")
            and not any(_of_vectors(name.lower(), owner) for owner in vectors)
        }

    def kept_by_vectors(self) -> dict[str, set[str]]:
        """By the name of each vec0 table: those of the ordinary tables in which it keeps its data."""
        found = {table.name for table in self.virtual_tables() if table.module == "vec0"}
        names = [str(name) for (name,) in self._db.execute("SELECT name FROM pragma_table_list WHERE schema = 'main'")]
        return {owner: {name for name in names if _of_vectors(name.lower(), owner.lower())} for owner in found}

    def virtual_tables(self) -> tuple[VirtualTable, ...]:
        """The virtual tables."""
        tables = list(self._db.execute("SELECT name, sql, ifnull(rootpage, 0) FROM sqlite_schema WHERE type = 'table'"))
        return virtual_tables(((name, sql) for name, sql, root in tables if root == 0), (name for name, _, _ in tables))

    def shape(self, table: str) -> Shape | None:
        """How the table is declared in this view; None when there is no such table."""
        if table not in self._shapes:
            self._shapes[table] = self._read_shape(table)
        return self._shapes[table]

    def _read_shape(self, table: str) -> Shape | None:
        found = self._db.execute("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,))
        statement = found.fetchone()
        if statement is None:
            return None
        info = self._db.execute("SELECT name, hidden, pk FROM pragma_table_xinfo(?, 'main')", (table,))
        declared: list[tuple[str, int, int]] = [(str(n), int(h), int(p)) for n, h, p in info]
        taken = {name.lower() for name, _, _ in declared}
        without = self._db.execute("SELECT wr FROM pragma_table_list(?) WHERE schema = 'main'", (table,)).get
        indexes = self._db.execute(
            "SELECT name FROM pragma_index_list(?, 'main') WHERE origin = 'pk'", (table,)
        ).fetchall()
        key: tuple[SourceKey, ...] = ()
        integer_key = None
        if indexes:
            key = self._index_key(table, str(indexes[0][0]))
        else:
            integer_key = next((name for name, _, pk in declared if pk), None)
        unique = [
            self._index_key(table, str(name))
            for name, whole in self._db.execute(
                "SELECT name, NOT partial FROM pragma_index_list(?, 'main') WHERE \"unique\" ORDER BY seq", (table,)
            ).fetchall()
            if whole and self._of_columns(str(name))
        ]
        # 2 marks virtual generated columns, 3 stored ones.
        left_out = tuple(name for name, hidden, _ in declared if hidden == 2)
        if left_out and _stands_alone(str(statement[0])):
            left_out = ()
        return Shape(
            columns=tuple(name for name, hidden, _ in declared if hidden in (0, 2, 3) and name not in left_out),
            rowid=None if without else next((n for n in ("rowid", "oid", "_rowid_") if n not in taken), None),
            key=key,
            integer_key=integer_key,
            left_out=left_out,
            generated=tuple(name for name, hidden, _ in declared if hidden in (2, 3) and name not in left_out),
            unique=tuple(unique),
        )

    def _of_columns(self, index: str) -> bool:
        """Whether an index has no expressions."""
        found = self._db.execute("SELECT min(cid) FROM pragma_index_xinfo(?, 'main') WHERE key", (index,)).get
        return found is not None and found >= 0

    def _index_key(self, table: str, index: str) -> tuple[SourceKey, ...]:
        parts = self._db.execute(
            "SELECT name, desc, coll FROM pragma_index_xinfo(?, 'main') WHERE key ORDER BY seqno", (index,)
        ).fetchall()
        key = []
        for name, descending, collation in parts:
            own = self._db.column_metadata("main", table, str(name))[1]
            same = own.upper() == str(collation).upper()
            key.append(SourceKey(str(name), str(collation).upper(), bool(descending), same))
        return tuple(key)

    def has_more_rows(self, plan: Plan, number: int) -> bool:
        """Whether the table has more than ``number`` rows."""
        table = quoted(plan.mapping.source_table)
        counted = f"SELECT count(*) > ?1 FROM (SELECT 1 FROM main.{table} LIMIT ?1 + 1)"
        return bool(self._db.execute(counted, (number,)).get)

    def random_key(self, plan: Plan) -> Cells | None:
        """The key of a row taken at random, of a table with rowids; None if it has no row.

        A row that follows unused rowids is more likely.
        """
        table, rowid = quoted(plan.mapping.source_table), quoted(plan.shape.rowid or "")
        ends = f"SELECT (SELECT min({rowid}) FROM main.{table}), (SELECT max({rowid}) FROM main.{table})"
        [(first, last)] = self._db.execute(ends)
        if first is None:
            return None
        keys = [quoted(name) for name in plan.key_sources] or [rowid]
        found = self._db.execute(
            f"SELECT {with_classes(keys)} FROM main.{table} WHERE {rowid} >= ? ORDER BY {rowid} LIMIT 1",
            (first + secrets.randbelow(last - first + 1),),
        )
        return self._decoded(next(iter(found)))

    def read(self, plan: Plan, after: Cells | None, deadline: float, limit: int | None = None) -> Slice:
        """Rows in key order after ``after``: until the last, or ``limit`` rows, or ``deadline`` (``perf_counter``).

        Raises ``apsw.CorruptError``, also where a damaged b-tree leads back, so that it has no end.
        """
        if self.encoding == "UTF-8":
            try:
                cursor = self._db.execute(_select(plan, after, careful=False), _bindings(after))
                found = _fetch(cursor, len(plan.row_columns), deadline, limit)
                found.require_order(plan.key_positions, after)
                return found
            except UnicodeDecodeError:
                # Read again with each text as bytes, for half as long: the view is already old.
                deadline = time.perf_counter() + max(0.0, deadline - time.perf_counter()) / 2
        cursor = self._db.execute(_select(plan, after, careful=True), _bindings(after))
        found = _fetch(cursor, width(len(plan.row_columns)), deadline, limit, self._decoded)
        found.require_order(plan.key_positions, after)
        return found

    def most_rows(self) -> int:
        """More rows than a table can have: a row takes four bytes or more of a page."""
        return int(self._db.pragma("page_count")) * int(self._db.pragma("page_size")) // 4

    def null_keys(self, plan: Plan) -> list[str]:
        """The rows that are not read because NULL is in their key, as ``mirror.rejects`` names them."""
        if not plan.skips_null_keys or plan.shape.rowid is None:
            return []
        held = " OR ".join(f"{quoted(name)} IS NULL" for name in plan.key_sources)
        table = quoted(plan.mapping.source_table)
        rows = self._db.execute(f"SELECT {quoted(plan.shape.rowid)} FROM main.{table} WHERE {held}")
        return [f'{{"rowid":{rowid}}}' for (rowid,) in rows]

    def read_whole(self, plan: Plan) -> tuple[dict[str, bytes], int]:
        """Key text → digest of each row of a table without a common key order, and how many rows.

        Raises :class:`TooLargeError` where that would take too long.
        """
        digests: dict[str, bytes] = {}
        number = 0
        deadline = time.perf_counter() + WHOLE_SECONDS
        positions = plan.key_positions
        with closing(self._db.execute(_select(plan, None, careful=True))) as cursor:
            for raw in cursor:
                row = self._decoded(raw)
                digests[key_text(key_of(row, positions))] = digest(row)
                del raw, row  # they may be large, and the next ones are read before they would be forgotten
                number += 1
                if time.perf_counter() > deadline or number > WHOLE_ROWS:
                    raise _too_large(plan)
        return digests, number

    def read_together(self, plan: Plan) -> Slice:
        """All rows of a table without a common key order, in any order.

        Raises :class:`TooLargeError` where that would take too long, or too much memory.
        """
        deadline = time.perf_counter() + WHOLE_SECONDS
        limit, columns = WHOLE_ROWS + 1, len(plan.row_columns)
        found = None
        if self.encoding == "UTF-8":
            cursor = self._db.execute(_select(plan, None, careful=False))
            with suppress(UnicodeDecodeError):  # then each text is read as bytes
                found = _fetch(cursor, columns, deadline, limit, most_bytes=WHOLE_BYTES)
        if found is None:
            cursor = self._db.execute(_select(plan, None, careful=True))
            found = _fetch(cursor, width(columns), deadline, limit, self._decoded, most_bytes=WHOLE_BYTES)
        if not found.exhausted:
            raise _too_large(plan)
        return found

    def _decoded(self, raw: Sequence[Any]) -> Cells:
        return decoded(raw, self.encoding)


def _too_large(plan: Plan) -> TooLargeError:
    reason = f"{plan.unordered}, and the table is too large for one short read"
    return TooLargeError("compare as a whole", plan.mapping.source_table, reason)


def _stands_alone(definition: str) -> bool:
    """Whether SQLite can make, and so read, a table by itself, without the program's functions and collations."""
    with closing(apsw.Connection(":memory:")) as empty:
        empty.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 1)
        try:
            empty.execute(definition)
        except apsw.Error:
            return False
    return True


def digest(row: Cells) -> bytes:
    """The digest of a row, 16 bytes (BLAKE2b of :func:`~mirror.parity.values.stand_in`)."""
    return blake2b(stand_in((row,)), digest_size=16).digest()


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _select(plan: Plan, after: Cells | None, *, careful: bool) -> str:
    names = [quoted(column.source) for column in plan.mapping.columns]
    if plan.mapping.key is None:
        names.insert(0, quoted(plan.shape.rowid or ""))
    # Only quoted names go into the text; values are bound.
    columns = with_classes(names) if careful else ", ".join(names)
    text = f"SELECT {columns} FROM main.{quoted(plan.mapping.source_table)}"
    conditions = [f"{quoted(name)} IS NOT NULL" for name in plan.key_sources] if plan.skips_null_keys else []
    if not plan.order:
        return text + _where(conditions)
    keys = ", ".join(_ordered(column) for column in plan.order)
    if after is not None:
        # A text that is not valid can only be bound as bytes.
        marks = ", ".join("CAST(? AS TEXT)" if isinstance(v, BadText) else "?" for v in after)
        conditions.append(f"({keys}) > ({marks})")
    return f"{text}{_where(conditions)} ORDER BY {keys}"


def _where(conditions: list[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _ordered(column: KeyColumn) -> str:
    # Written only where it is needed: otherwise SQLite would not use the index.
    return quoted(column.name) + (f" COLLATE {quoted(column.collation)}" if column.write_collation else "")


def _bindings(after: Cells | None) -> tuple[Any, ...]:
    return tuple(value.raw if isinstance(value, BadText) else value for value in after or ())


def _fetch(
    cursor: apsw.Cursor,
    width: int,
    deadline: float,
    limit: int | None,
    decode: Callable[[Sequence[Any]], Cells] | None = None,
    most_bytes: int | None = None,
) -> Slice:
    values: list[Any] = []
    bytes_ = 0
    limit = sys.maxsize if limit is None else limit
    size = min(1, limit)
    now = time.perf_counter()
    budget = deadline - now
    # A statement that is not finished keeps the read transaction open, even after ROLLBACK.
    with closing(cursor):
        while True:
            before = len(values)
            started = now
            # Row by row: a few large ones, which are slow to read, would fill the memory.
            for row in islice(cursor, size):
                values += row
                if (now := time.perf_counter()) >= deadline:
                    return Slice(values, width, exhausted=False, decode=decode)
            if len(values) - before < size * width:
                return Slice(values, width, exhausted=True, decode=decode)
            got = len(values) // width
            if most_bytes is not None:
                bytes_ += sum(map(sys.getsizeof, islice(values, before, None)))
            if got >= limit or (most_bytes is not None and bytes_ > most_bytes):
                return Slice(values, width, exhausted=False, decode=decode)
            # Large rows are slow, so that few are fetched between two checks of the time.
            size = min(2 * size, _LARGEST_FETCH) if now - started < budget / 16 else max(1, size // 2)
            size = min(size, limit - got)


def _stand_in_collation(db: apsw.Connection, name: str) -> None:
    # In a UTF-16 database SQLite asks for its own too, and has them if it gets no answer.
    if name.upper() not in ("BINARY", "NOCASE", "RTRIM"):
        db.create_collation(name, lambda left, right: (left > right) - (left < right))


def _of_vectors(name: str, owner: str) -> bool:
    """Whether a table is one in which vec0 stores the virtual table ``owner``."""
    kept = r"_(info|chunks|rowids|auxiliary|vector_chunks\d+|metadatachunks\d+|metadatatext\d+)"
    return re.fullmatch(re.escape(owner) + kept, name) is not None
