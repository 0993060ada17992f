"""Whether a file is the database of which there is a copy: before its mirror goes on with it under another name.

What counts is what would be lost: the rows that the copy has, and so Postgres, are looked for in the file. Where the
file is the one that was mirrored, it has nearly all of them: whether it was written since, rebuilt (VACUUM) or restored
from a backup that is a little older. Another database does not have them, even if a program has made it with the
same tables, and with some rows that each of its files has.

Each table of the copy is looked through: all of it where it is small, else rows from all over it. A row is found by its
primary key, and counts as the same also where some columns have changed; without a primary key it is found by its
values, at the beginning and at the end of the table. (VACUUM may give other rowids to such rows.)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import apsw

from mirror.core.errors import FormatError, SourceError
from mirror.core.quote import quoted
from mirror.core.words import counted
from mirror.replica.declared import has_wal, open_to_read
from mirror.replica.images import Images
from mirror.replica.shadow import Shadow
from mirror.replica.spool_reader import SpoolReader

_OPERATION = "rename a source"
#: Rows that are looked for, of one table; and of these from one of its ends.
_ROWS, _ENDS = 96, 32
#: Rows at each end of a table without a primary key among which they are looked for.
_AMONG = 2048
#: Bytes of one value that are compared, and columns of one row.
_BYTES, _COLUMNS = 4096, 500
#: A table with fewer rows may have been written anew, all of it, where they keep what there is one of.
_FEW = 4
#: Of the rows that are looked for, the share that is there at least: of one table, and of all.
_SHARE_OF_TABLE, _SHARE = 0.25, 0.5
#: Rows that a copy has at least, where a file is taken for its own without being asked.
_LEAST_ROWS = 2
_COLLATIONS = frozenset(("BINARY", "NOCASE", "RTRIM"))
#: A text or BLOB of so many bytes hardly is in two rows by chance; nor is a number beyond this.
_TELLING_BYTES, _TELLING_NUMBER = 8, 10**9

_Value = bytes | int | float | None
_Row = tuple[_Value, ...]


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a table has in both files."""

    name: str
    columns: tuple[str, ...]
    """Those of the primary key first."""
    key: int
    """How many these are; 0: the rows have no name but their values."""
    numbered: bool
    """Whether the key is one INTEGER."""
    rowid: str | None
    """A name of its rowid; None: it has none, or a column has each of its names."""


def is_like(folder: Path, database: Path) -> bool:
    """Whether a file has what the copy in a source's state folder has; False: there is no copy to compare it with.

    Raises ``SourceError``, with what was found, if it does not, or cannot be read. The caller holds the folder's lock,
    and has no other descriptor on the file.
    """
    spool = SpoolReader(folder / "spool")
    images = Images(folder, spool)
    try:
        opened = Shadow.open(folder, images)  # completes a save that was cut short
    except FormatError:
        return False
    finally:
        images.close()
        spool.close()
    if opened is None:
        return False
    opened[0].close()
    name = f"file:{quote(str(Shadow.database(folder).resolve()))}?immutable=1"
    try:
        copy = apsw.Connection(name, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    except apsw.Error:
        return False
    with closing(copy):
        try:
            shapes = list(_tables(copy))
        except (apsw.Error, UnicodeDecodeError):
            return False
        why = _compare(copy, shapes, database)
    if why is not None:
        raise SourceError(_OPERATION, str(database), f"it is not the database that was mirrored: {why}")
    return True


def resembles(folder: Path, database: Path) -> bool:
    """As :func:`is_like`, where no lock is held and nothing is done to the copy: for advice, and not for a change.

    False also where something cannot be read, or there are too few rows to tell files apart.
    """
    name = f"file:{quote(str(Shadow.database(folder).resolve()))}?immutable=1"
    try:
        with closing(apsw.Connection(name, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)) as copy:
            shapes = list(_tables(copy))
            rows = sum(
                len(copy.execute(f"SELECT 1 FROM {quoted(shape.name)} LIMIT {_LEAST_ROWS}").fetchall())
                for shape in shapes
            )
            return rows >= _LEAST_ROWS and _compare(copy, shapes, database) is None
    except (apsw.Error, UnicodeDecodeError, SourceError):
        return False


def _compare(copy: apsw.Connection, shapes: list[_Shape], database: Path) -> str | None:
    """Why a file is not what the copy is of; None: it is."""
    try:
        with closing(_opened(database)) as found:
            others = {shape.name.lower(): shape for shape in _tables(found)}
            return _difference(_Comparison(copy, found).counts(shapes, others))
    except apsw.NotADBError as error:
        detail = "no SQLite database, or an encrypted one"
        raise SourceError(_OPERATION, str(database), detail, next_step="check the path") from error
    except apsw.BusyError as error:
        step = "end the program that locks it, or wait until it is done"
        raise SourceError(_OPERATION, str(database), str(error), next_step=step, retryable=True) from error
    except (apsw.Error, UnicodeDecodeError) as error:
        detail = f"it cannot be compared with what was mirrored: {type(error).__name__}: {error}"
        raise SourceError(_OPERATION, str(database), detail) from error


def _opened(database: Path) -> apsw.Connection:
    """The file, to be read; without a log it is read as it is, and nothing is made beside it."""
    try:
        logged = os.stat(f"{database}-wal").st_size > 0
    except OSError:
        logged = False
    return open_to_read(database, wal=logged and has_wal(database))


# -- tables ------------------------------------------------------------------------------------------------


def _tables(database: apsw.Connection) -> Iterator[_Shape]:
    """The tables whose rows a program writes. Raises apsw's errors."""
    # SQLite does not read a table without the collations of its indexes.
    database.collation_needed(_stand_in)
    listed = "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' ORDER BY name"
    for name, without_rowid in list(database.execute(listed)):
        if name.lower().startswith("sqlite_"):
            continue
        columns = list(
            database.execute("SELECT name, pk, type FROM pragma_table_xinfo(?) WHERE hidden IN (0, 3)", (name,))
        )
        key = [column for pk, column, _ in sorted((pk, column, kind) for column, pk, kind in columns if pk)]
        # By a collation that only the program has, no key can be found.
        if {str(database.column_metadata("main", name, column)[1]).upper() for column in key} - _COLLATIONS:
            columns, key = [(column, 0, kind) for column, _, kind in columns], []
        rest = [column for column, pk, _ in columns if not pk]
        numbered = len(key) == 1 and any(pk and kind.upper() == "INTEGER" for _, pk, kind in columns)
        taken = {column.lower() for column, _, _ in columns}
        free = next((each for each in ("rowid", "_rowid_", "oid") if each not in taken), None)
        yield _Shape(name, (*key, *rest), len(key), numbered, None if without_rowid else free)


def _stand_in(database: apsw.Connection, collation: str) -> None:
    database.create_collation(collation, lambda left, right: (left > right) - (left < right))


# -- rows --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Count:
    """What of a table was looked for, and found."""

    table: str
    wanted: int
    found: int
    known: int
    """How many of the rows that were not found have at least their key there, which is no number."""
    exists: bool
    """Whether the other file has a table of its name."""
    empty: bool
    """Whether it has no row there."""


class _Comparison:
    """Looks for rows of one database in another."""

    def __init__(self, copy: apsw.Connection, found: apsw.Connection) -> None:
        self._copy, self._found = copy, found

    def counts(self, shapes: list[_Shape], others: dict[str, _Shape]) -> Iterator[_Count]:
        """Of each table that has rows. Raises apsw's errors."""
        for shape in shapes:
            other = others.get(shape.name.lower())
            if other is None:
                if wanted := sum(1 for _ in self._copy.execute(f"SELECT 1 FROM {quoted(shape.name)} LIMIT {_ROWS}")):
                    yield _Count(shape.name, wanted, 0, 0, exists=False, empty=True)
                continue
            there = {column.lower() for column in other.columns}
            common = tuple(column for column in shape.columns if column.lower() in there)[:_COLUMNS]
            keyed = shape.key > 0 and _folded(shape.columns[: shape.key]) == _folded(other.columns[: other.key])
            both = _Shape(shape.name, common, shape.key if keyed else 0, shape.numbered and keyed, shape.rowid)
            count = self._by_key(both) if keyed else self._by_values(both, other)
            if count.wanted:
                yield count

    def _by_key(self, shape: _Shape) -> _Count:
        wanted = found = known = 0
        for row, key in self._some(shape):
            wanted += 1
            condition = " AND ".join(f"{quoted(c)} IS {p}" for c, (p, _) in zip(shape.columns, key, strict=False))
            query = f"SELECT {_values(shape.columns)} FROM {quoted(shape.name)} WHERE {condition} LIMIT 1"
            other = next(iter(self._found.execute(query, tuple(value for _, value in key))), None)
            if other is not None and _is_same(row, other):
                found += 1
            elif other is not None and any(isinstance(value, bytes) for _, value in key):
                known += 1
        return _Count(shape.name, wanted, found, known, exists=True, empty=self._is_empty(shape))

    def _some(self, shape: _Shape) -> Iterator[tuple[_Row, list[tuple[str, _Value]]]]:
        """Rows from all over a table, each with its key: for each column how it is given in SQL, and the value."""
        place, key = quoted(shape.name), shape.columns[: shape.key]
        raw = ", ".join(
            f"typeof({quoted(each)}) = 'text', iif(typeof({quoted(each)}) = 'text', CAST({quoted(each)} AS BLOB),"
            f" {quoted(each)})"
            for each in key
        )
        select = f"SELECT {_values(shape.columns)}, {raw} FROM {place}"
        queries: list[tuple[str, tuple[_Value, ...]]]
        if shape.numbered:
            number = quoted(key[0])
            low, high = next(iter(self._copy.execute(f"SELECT min({number}), max({number}) FROM {place}")))
            queries = [(f"{select} ORDER BY {number} {way} LIMIT {_ENDS}", ()) for way in ("ASC", "DESC")]
            between = _ROWS - 2 * _ENDS
            if isinstance(low, int) and isinstance(high, int):
                marks = [low + (high - low) * at // between for at in range(between)]
                queries += [(f"{select} WHERE {number} >= ? ORDER BY {number} LIMIT 1", (mark,)) for mark in marks]
        else:
            # The first ones that were written are in a backup, too; those at the ends of the key may be of any time.
            orders = [", ".join(f"{quoted(each)} {way}" for each in key) for way in ("ASC", "DESC")]
            orders += [] if shape.rowid is None else [shape.rowid]
            queries = [(f"{select} ORDER BY {order} LIMIT {_ENDS}", ()) for order in orders]
        seen = set[tuple[object, ...]]()
        for query, values in queries:
            for found in self._copy.execute(query, values):
                row, pairs = found[: len(shape.columns)], found[len(shape.columns) :]
                if pairs in seen:
                    continue
                seen.add(pairs)
                given = zip(pairs[::2], pairs[1::2], strict=True)
                yield row, [("CAST(? AS TEXT)" if is_text else "?", value) for is_text, value in given]

    def _by_values(self, shape: _Shape, other: _Shape) -> _Count:
        place, columns = quoted(shape.name), tuple(sorted(shape.columns))
        select = f"SELECT {_values(columns)} FROM {place}"
        there = self._digests(self._found, _both_ends(select, other.rowid, _AMONG, _AMONG))
        wanted = self._digests(self._copy, _both_ends(select, shape.rowid, _ROWS - _ENDS, _ENDS))
        found = len(wanted & there) if columns else 0
        return _Count(shape.name, len(wanted), found, 0, exists=True, empty=self._is_empty(shape))

    def _digests(self, database: apsw.Connection, queries: list[str]) -> set[bytes]:
        return {
            hashlib.blake2b(repr(row).encode(), digest_size=16).digest()
            for query in queries
            for row in database.execute(query)
        }

    def _is_empty(self, shape: _Shape) -> bool:
        return next(iter(self._found.execute(f"SELECT 1 FROM {quoted(shape.name)} LIMIT 1")), None) is None


def _folded(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


def _values(columns: tuple[str, ...]) -> str:
    """The columns as they are compared; text as bytes, because not all that SQLite keeps as text is."""
    each = "iif(typeof({0}) IN ('text', 'blob'), substr(CAST({0} AS BLOB), 1, {1}), {0})"
    return ", ".join(each.format(quoted(column), _BYTES) for column in columns) or "NULL"


def _both_ends(select: str, rowid: str | None, first: int, last: int) -> list[str]:
    """Queries for the first and the last rows of a table; without a rowid, for the first ones in its own order."""
    if rowid is None:
        return [f"{select} LIMIT {first}"]
    return [f"{select} ORDER BY {rowid} LIMIT {first}", f"{select} ORDER BY {rowid} DESC LIMIT {last}"]


def _is_same(row: _Row, other: _Row) -> bool:
    """Whether two rows with one key are of one database: equal, or, where some columns were changed, by the others."""
    if row == other:
        return True
    telling = [(before, now) for before, now in zip(row, other, strict=True) if _is_telling(before)]
    return 2 * sum(before == now for before, now in telling) > len(telling)


def _is_telling(value: _Value) -> bool:
    if isinstance(value, bytes):
        return len(value) >= _TELLING_BYTES
    if isinstance(value, float):
        return not value.is_integer()
    return value is not None and abs(value) >= _TELLING_NUMBER


# -- the verdict -------------------------------------------------------------------------------------------


def _difference(counts: Iterator[_Count]) -> str | None:
    """What tells the files apart; None: nothing does."""
    found = list(counts)
    if gone := [each.table for each in found if not each.exists]:
        return f"it has no table {', '.join(gone[:5])}{f' and {len(gone) - 5} more' if gone[5:] else ''}"
    if empty := [each.table for each in found if each.empty]:
        return f"it has no row in {', '.join(empty[:5])}{f' and {len(empty) - 5} more' if empty[5:] else ''}"
    for each in found:
        there = each.found + (each.known if each.wanted < _FEW else 0)
        if each.wanted > 1 and there < _SHARE_OF_TABLE * each.wanted:
            return f"of {counted(each.wanted, 'row')} of {each.table} that were looked for it has {each.found}"
    wanted, there = sum(each.wanted for each in found), sum(each.found for each in found)
    if there < _SHARE * wanted:
        return f"of {counted(wanted, 'row')} that were looked for it has {there}"
    return None
