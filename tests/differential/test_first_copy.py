"""Two ways to load a table: what SQLite's values are sent as, unseen, is what the codecs make of each of them.

Random values of every storage class in columns of every type, most of them such as the column is meant for: Postgres
has the same table, rows and rejects either way, to the bit.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, event, example, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL, Identifier

from mirror.core.positions import Lsn, Position, Salts
from mirror.core.rows import RowChange
from mirror.core.tables import Table
from mirror.core.values import BadText, Value
from mirror.postgres import sink as sinks
from mirror.postgres.profiles import PROFILES
from mirror.postgres.sink import Sink
from mirror.postgres.source_copy import SourceCopy, open_copy
from mirror.sqlite.decode.schema import read_schema
from tests.support.postgres import PostgresServer
from tests.support.sqlite import Pages, decoded_rows

_INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, -1, 2**53, 2**53 + 1, -(2**53) - 1])
_REALS = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 5e-324, 2.225073858507201e-308, 1e22, 2.0**63])
_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.sampled_from(
    ["", "\\N", "\\.", "\t\r\n\b\\", "12", "1.0", "t", "false", '{"a": 1}', "\x7f\uffff\U0010ffff", "x" * 70_000]
)
_BLOBS = st.binary(max_size=40) | st.just(bytes(range(256)))
_BROKEN = st.sampled_from([b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"]).map(BadText)
_ANY = st.none() | _INTEGERS | _REALS | _TEXTS | _BLOBS | _BROKEN | st.just("a\0b")
#: By declared type: what most columns have that are declared so.
_USUAL: dict[str, st.SearchStrategy[Value]] = {
    "INTEGER": _INTEGERS,
    "REAL": _REALS,
    "DOUBLE PRECISION": _REALS | _INTEGERS,
    "TEXT": _TEXTS,
    "BLOB": _BLOBS,
    "BOOLEAN": st.integers(0, 1),
    "DECIMAL(10,2)": _INTEGERS | _REALS,
    "DATETIME": st.just("2024-01-01") | _REALS,
    "": _ANY,
}
_KEYS = ("id INTEGER PRIMARY KEY", "id TEXT PRIMARY KEY", "id REAL PRIMARY KEY", "id BLOB NOT NULL PRIMARY KEY", "id")


class Made(NamedTuple):
    """What is in a table."""

    key: str
    declared: list[str]
    rows: list[list[Value]]
    converts: bool = True
    """Whether SQLite converts the values to what the columns are meant for, as for a program."""
    later: list[list[Value]] | None = None
    """The rows of a copy that follows, if there is one."""


@st.composite
def tables(draw: st.DrawFn) -> Made:
    key = draw(st.sampled_from(_KEYS))
    declared = draw(st.lists(st.sampled_from(list(_USUAL)), min_size=1, max_size=6))
    # A quarter of the columns have what they are not meant for.
    values = [_ANY if draw(st.integers(0, 3)) == 3 else st.none() | _USUAL[name] for name in declared]
    rows = st.lists(st.tuples(*values).map(list), max_size=6)
    return Made(key, declared, draw(rows), draw(st.booleans()), draw(st.none() | rows))


def write(path: Path, name: str, made: Made) -> None:
    """Make a database with that table."""
    database = apsw.Connection(str(path))
    columns = [f"c{at} {declared}" for at, declared in enumerate(made.declared)]
    sql = f"CREATE TABLE {name} ({', '.join([made.key, *columns])})"
    alike = f"CREATE TABLE {name} ({', '.join([made.key, *(column.split()[0] for column in columns)])})"
    database.execute(sql if made.converts else alike)
    keys: dict[str, list[Any]] = {"TEXT": [*"abcdeé"], "BLOB": [b"", b"\0", b"\1", b"\2", b"\3", b"\xff"]}
    ids = keys.get(made.key.split()[1] if " " in made.key else "", [1, 2, 3, 4, 5, 6])
    for key, row in zip(ids, made.rows, strict=False):
        row = [_possible(value, declared) for value, declared in zip(row, made.declared, strict=True)]
        marks = ["CAST(? AS TEXT)" if isinstance(value, BadText) else "?" for value in row]
        values = [value.raw if isinstance(value, BadText) else value for value in row]
        database.execute(f"INSERT INTO {name} VALUES ({', '.join(['?', *marks])})", [key, *values])
    if not made.converts:
        database.execute("PRAGMA writable_schema=ON")
        database.execute("UPDATE sqlite_schema SET sql = ? WHERE type = 'table'", (sql,))
    database.close()


def _possible(value: Value, declared: str) -> Value:
    """A value as a column of this type can have it: SQLite has no real zero where it converts to numbers, but -0.0."""
    zero = type(value) is float and value == 0.0 and math.copysign(1.0, value) > 0
    return 0 if zero and declared in ("DECIMAL(10,2)", "DATETIME", "BOOLEAN") else value


@contextmanager
def doubted(database: Path) -> Iterator[SourceCopy]:
    """A copy of which SQLite's own texts are not to be relied on, so that each value is looked at."""
    with open_copy(database) as copy:
        copy.encoding = "utf-16le"
        yield copy


@dataclass
class Loads:
    """The two ways into one Postgres."""

    folder: Path
    reader: psycopg.Connection[Any]
    fast: Sink
    careful: Sink
    patch: pytest.MonkeyPatch
    names: Iterator[int]

    def compare(self, path: Path) -> bool:
        """Load a database either way, and compare all that Postgres has then. Whether the fast way looked at rows."""
        (table,) = _schema(path)
        decoded: list[str] = []

        def rows(of: Table) -> Iterator[RowChange]:
            decoded.append(of.name)
            return decoded_rows(path)(of)

        self._load(self.fast, path, table, rows)
        looked_at = bool(decoded)
        with self.patch.context() as patch:
            patch.setattr(sinks, "open_copy", doubted)
            self._load(self.careful, path, table, rows)
        assert self._held("fast", table.name) == self._held("careful", table.name)
        return looked_at

    def _load(self, sink: Sink, path: Path, table: Table, rows: Any) -> None:
        position = Position(Lsn(1, next(self.names)), Salts(7, 8), 1_700_000_000.25)
        sink.load(path, [table], rows, position, str(uuid.UUID(int=0)))

    def _held(self, schema: str, name: str) -> tuple[Sequence[Any], bytes, Sequence[Any]]:
        """The columns of a table, its rows in binary form, and its rejects."""
        columns = self.reader.execute(
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
            " WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attnum > 0 ORDER BY attnum",
            (schema, name),
        ).fetchall()
        listed = SQL("COPY (SELECT * FROM {} ORDER BY 1) TO STDOUT (FORMAT binary)").format(Identifier(schema, name))
        with self.reader.cursor().copy(listed) as copy:
            rows = b"".join(bytes(block) for block in copy)
        rejects = self.reader.execute(
            "SELECT key, reason, row_data FROM mirror.rejects JOIN mirror.sources USING (source_id)"
            " WHERE path = %s AND source_table = %s ORDER BY key",
            (f"/{schema}.db", name),
        ).fetchall()
        return columns, rows, rejects


def _schema(path: Path) -> Sequence[Table]:
    pages = Pages.of(path.read_bytes())
    return list(read_schema(pages.read, pages.layout.geometry, pages.layout.encoding).tables.values())


@pytest.fixture(scope="module")
def loads(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loads]:
    dsn = postgres_server.create_database()
    folder = tmp_path_factory.mktemp("loads")
    with (
        psycopg.connect(dsn, autocommit=True) as reader,
        Sink.open(dsn, "/fast.db", "fast", PROFILES) as fast,
        Sink.open(dsn, "/careful.db", "careful", PROFILES) as careful,
    ):
        yield Loads(folder, reader, fast, careful, pytest.MonkeyPatch(), count(1))
    postgres_server.drop_database(dsn)


@settings(max_examples=60, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
@given(made=tables())
@example(Made(_KEYS[0], ["REAL", "REAL"], [[1, 2.5], [2**60, -0.0], [None, 5e-324]], converts=False))
@example(Made(_KEYS[0], ["REAL"], [[1.5], ["1.5"]], converts=False))
@example(Made(_KEYS[0], ["REAL"], [[1.5], [b"12345678"]]))
@example(Made(_KEYS[0], ["BLOB"], [[1.0]], later=[[1.0], [2]]))
@example(Made("id", ["DECIMAL(10,2)", "DOUBLE PRECISION"], [[0.0, 0], [-3, None], [-0.0, 0]], converts=False))
@example(Made(_KEYS[0], ["TEXT"], [["a"], [BadText(b"\xff")]]))
@example(Made(_KEYS[0], ["TEXT"], [["a"], ["a\0b"]]))
def test_either_way_postgres_has_the_same(loads: Loads, made: Made) -> None:
    name = f"t{next(loads.names)}"
    for number, rows in enumerate((made.rows, made.later)):
        if rows is not None:
            path = loads.folder / f"{name}-{number}.db"
            write(path, name, made._replace(rows=rows))
            event("rows were looked at" if loads.compare(path) else "no row was looked at")


def test_reals_that_no_program_has_written(loads: Loads) -> None:
    """Integers in records, which SQLite gives as reals: a default, a computed one, whole ones."""
    name = f"t{next(loads.names)}"
    path = loads.folder / f"{name}.db"
    database = apsw.Connection(str(path))
    database.execute(
        f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, a REAL, v REAL AS (id * 3) VIRTUAL, s REAL AS (id) STORED);"
        f"INSERT INTO {name} (a) VALUES (1), (2.0), ('3'), (NULL); CREATE INDEX i ON {name} (a);"
        f"ALTER TABLE {name} ADD COLUMN later REAL DEFAULT 5; ALTER TABLE {name} ADD COLUMN text REAL DEFAULT '7';"
        f"INSERT INTO {name} (a, later) VALUES (9223372036854775807, -0.0)"
    )
    database.close()
    assert not loads.compare(path)
    found = loads.reader.execute(f'SELECT * FROM fast."{name}" ORDER BY id'.encode()).fetchall()
    assert found[0] == (1, 1.0, 3.0, 1.0, 5.0, 7.0)
    assert all(isinstance(value, float | None) for row in found for value in row[1:])
