"""Keys that a state has twice are found, however many changes there are before and after them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.core.errors import FormatError
from mirror.core.rows import RowChange
from mirror.core.tables import Table
from mirror.sqlite.decode import keys
from mirror.sqlite.decode.keys import once
from mirror.sqlite.decode.rows import RowFormat, RowReader
from mirror.sqlite.decode.schema import read_schema
from mirror.sqlite.format.btree import Geometry
from tests.support.source import Writer

ROWS = 2_000
TABLES = {
    "rowid": "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
    "key": "CREATE TABLE t(id PRIMARY KEY, v) WITHOUT ROWID",
}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are looked up after a few."""
    monkeypatch.setattr(keys, "_ROWIDS", 7)
    monkeypatch.setattr(keys, "_KEYS", 7)


def state(path: Path, ddl: str) -> tuple[Table, RowReader]:
    """A table of rows 1 to ``ROWS``, and the reader of them."""
    with Writer(path) as writer:
        writer.run(
            ddl,
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})"
            " INSERT INTO t SELECT i, 'row ' || i FROM n",
        )
        data = path.read_bytes()

    def read(pgno: int) -> bytes:
        return data[(pgno - 1) * 4096 : pgno * 4096]

    geometry = Geometry(4096)
    table = read_schema(read, geometry, "utf-8").tables["t"]
    return table, RowReader(RowFormat(table, "utf-8"), geometry, read)


def changes(table: Table, ids: range, kind: str) -> Iterator[RowChange]:
    """Rows that go or come."""
    for i in ids:
        row = (i, f"row {i}")
        rowid = None if table.without_rowid else i
        yield RowChange(rowid, row, None) if kind == "gone" else RowChange(rowid, None, row)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("kind", ["gone", "come"])
@pytest.mark.parametrize("ddl", TABLES)
def test_keys_that_are_once(tmp_path: Path, ddl: str, kind: str) -> None:
    """All changes are given, in their order."""
    table, rows = state(tmp_path / "a.db", TABLES[ddl])
    some = range(ROWS + 1, ROWS + 101)
    given = list(once(changes(table, some, kind), table, table.root, rows, rows))
    assert given == list(changes(table, some, kind))


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("first", [ROWS, ROWS - 50, ROWS - 99])
@pytest.mark.parametrize(("ddl", "kind"), [("rowid", "gone"), ("rowid", "come"), ("key", "gone")])
def test_a_key_that_is_twice(tmp_path: Path, ddl: str, kind: str, first: int) -> None:
    """One of many, be it among the first or the last: a row that goes and is there, one that comes and was there."""
    table, rows = state(tmp_path / "a.db", TABLES[ddl])
    some = range(ROWS + 1, ROWS + 101)
    mixed = [*changes(table, some, kind)]
    mixed.insert(ROWS - first, next(changes(table, range(first, first + 1), kind)))
    with pytest.raises(FormatError, match="on two pages"):
        list(once(iter(mixed), table, table.root, rows, rows))


def test_a_key_that_becomes_an_equal_one_of_another_type(tmp_path: Path) -> None:
    """One row goes and one comes: the key was never there twice."""
    table, rows = state(tmp_path / "source.db", "CREATE TABLE t(id PRIMARY KEY, v) WITHOUT ROWID")
    for before, after in ((5.0, 5), (-0.0, 0)):
        both = iter([RowChange(None, (before, "as it was"), None), RowChange(None, None, (after, f"row {after}"))])
        assert len(list(once(both, table, table.root, rows, rows))) == 2
    with pytest.raises(FormatError, match="a key was on two pages"):
        list(once(iter([RowChange(None, (5, "row 5"), None)]), table, table.root, rows, rows))
