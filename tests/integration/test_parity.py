"""Parity against a real SQLite file in WAL mode and a real Postgres, with every kind of damage.

The source is written by another process with the standard library's ``sqlite3`` (hazard 17). Postgres
is filled by hand in the layout of ``mirror.sources``, ``mirror.tables`` and ``mirror.rejects``; the gate is
a stand-in that plays the apply side. Nothing is claimed here about the real mirror.
"""

from __future__ import annotations

import base64
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from mirror.core.errors import ControlError, MirrorError, SourceError
from mirror.core.positions import Lsn, Salts
from mirror.parity import source as source_module
from mirror.parity.compare import compare
from mirror.parity.digests import Choice
from mirror.parity.plan import Plan
from mirror.parity.report import ColumnDifference, Difference, ParityReport, TableReport
from mirror.parity.shown import said
from mirror.parity.target import Range, Target
from mirror.parity.values import Cells
from mirror.parity.views import GATE_TRIES, WalSource, open_source
from tests.support.waiting import until

Columns = dict[str, str]

WRITER = """
import base64, json, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    script, rows = json.loads(line)
    if rows is None:
        db.executescript(script)
    else:
        decoded = [[base64.b64decode(v["blob"]) if type(v) is dict else v for v in row] for row in rows]
        db.execute("BEGIN")
        db.executemany(script, decoded)
        db.execute("COMMIT")
    print("done", flush=True)
"""

UNPACED_WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
print("started", flush=True)
while True:
    db.execute("UPDATE counter SET n = n + 1")
"""

CATALOG = """
CREATE SCHEMA mirror;
CREATE TABLE mirror.sources (source_id bigint PRIMARY KEY, path text, schema_name text, generation bigint,
    frame bigint, salt1 bigint, salt2 bigint, agent_id text);
CREATE TABLE mirror.tables (source_id bigint, source_table text, target_schema text, target_table text,
    columns jsonb, key jsonb);
CREATE TABLE mirror.rejects (source_id bigint, source_table text, key text, reason text, row_data text);
CREATE TABLE mirror.refusals (source_id bigint, source_table text, reason text, next_step text);
"""


def encoded(value: object) -> str | None:
    """The lossless JSON encoding of one value (this file's own)."""
    match value:
        case None:
            return None
        case bytes():
            return json.dumps({"blob": base64.b64encode(value).decode()})
        case float() if math.isinf(value) or (value == 0 and math.copysign(1, value) < 0):
            return json.dumps({"real": {"inf": "Infinity", "-inf": "-Infinity"}.get(str(value), str(value))})
        case float() if value.is_integer() and abs(value) < 1e19:
            return f"{int(value)}.0"
        case _:
            return json.dumps(value)


def _plain(value: object) -> object:
    return {"blob": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


class Gate:
    """Plays the apply side of a source that nobody writes; subclasses write in between."""

    def __init__(self) -> None:
        self.lsn = Lsn(3, 14)
        self.held = False
        self.holds = 0

    def hold(self) -> str:
        """Note it; never twice."""
        assert not self.held
        self.held = True
        self.holds += 1
        return f"hold {self.holds}"

    def reach(self, hold: str, salts: Salts, frame: int) -> Lsn:
        """Say where Postgres is."""
        assert self.held and hold == f"hold {self.holds}"
        assert isinstance(salts, Salts)
        return self.lsn

    def settle(self) -> Lsn:
        """Say where Postgres is."""
        assert not self.held
        return self.lsn

    def release(self, hold: str) -> None:
        """Note it."""
        assert hold == f"hold {self.holds}"
        self.held = False


class World:
    """One source, its writer, its mirror in Postgres."""

    def __init__(self, directory: Path, conn: psycopg.Connection[Any], encoding: str = "UTF-8") -> None:
        self.path = directory / "source.db"
        self.conn = conn
        self.gate = Gate()
        self._writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.write(f"PRAGMA encoding = '{encoding}'; PRAGMA journal_mode = wal")
        conn.execute(CATALOG)
        conn.execute(
            "INSERT INTO mirror.sources VALUES (7, %s, 'public', 3, 14, 0, 0), (8, %s, 'public', 1, 1, 0, 0)",
            (str(self.path), "/other"),
        )

    def close(self) -> None:
        """End the writer."""
        assert self._writer.stdin is not None
        self._writer.stdin.close()
        assert self._writer.wait() == 0

    def write(self, script: str, rows: list[tuple[Any, ...]] | None = None) -> None:
        """Let the writer run a script, or one statement for each row in one transaction."""
        plain: list[list[Any]] | None = None
        if rows is not None:
            plain = [[_plain(value) for value in row] for row in rows]
        assert self._writer.stdin is not None
        assert self._writer.stdout is not None
        self._writer.stdin.write(json.dumps([script, plain]) + "\n")
        self._writer.stdin.flush()
        assert self._writer.stdout.readline() == "done\n"

    def mirror(self, table: str, columns: Columns, key: list[str] | None) -> None:
        """Register a table, create it and copy its rows."""
        self.register(table, columns, key)
        parts = [
            sql.SQL("{} " + ('text COLLATE "C"' if pg_type == "text" else pg_type)).format(sql.Identifier(name))
            for name, pg_type in (columns if key else {"_rowid": "bigint", **columns}).items()
        ]
        parts.append(sql.SQL("PRIMARY KEY ({})").format(sql.SQL(", ").join(map(sql.Identifier, key or ["_rowid"]))))
        self.conn.execute(sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(table), sql.SQL(", ").join(parts)))
        self.fill(table, columns, key)

    def register(self, table: str, columns: Columns, key: list[str] | None) -> None:
        """Enter a table in the catalog, in place of what stands there."""
        self.conn.execute("DELETE FROM mirror.tables WHERE source_table = %s", (table,))
        described = [{"name": name, "type": pg_type} for name, pg_type in columns.items()]
        self.conn.execute(
            "INSERT INTO mirror.tables VALUES (7, %s, 'public', %s, %s, %s)",
            (table, table, json.dumps(described), json.dumps(key)),
        )

    def fill(self, table: str, columns: Columns, key: list[str] | None, condition: str = "true") -> None:
        """Copy the source's rows to Postgres."""
        names = list(columns) if key else ["oid", *columns]
        types = list(columns.values()) if key else ["bigint", *columns.values()]
        database = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        quoted = ", ".join(f'"{name}"' for name in names)
        rows = database.execute(f'SELECT {quoted} FROM "{table}" WHERE {condition}').fetchall()
        database.close()
        values = sql.SQL(", ").join(sql.SQL("%s::" + pg_type) for pg_type in types)
        statement = sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier(table), values)
        with self.conn.cursor() as cursor:
            cursor.executemany(
                statement,
                [
                    [
                        encoded(v) if t == "jsonb" else bool(v) if t == "boolean" and v is not None else v
                        for v, t in zip(row, types, strict=True)
                    ]
                    for row in rows
                ],
            )

    def reject(self, table: str, key: str) -> None:
        """Enter a row in the rejects."""
        self.conn.execute("INSERT INTO mirror.rejects VALUES (7, %s, %s, 'test', '{}')", (table, key))

    def pg(self, statement: str, *parameters: object) -> None:
        """Damage or change something in Postgres."""
        self.conn.execute(statement.encode(), parameters or None)

    def compare(self, **options: Any) -> ParityReport:
        """Compare, and check that nothing is left behind."""
        report = compare(self.path, self.conn, "public", self.gate, **options)
        assert not self.gate.held
        assert self.conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert self.conn.autocommit
        return report

    def only(self, **options: Any) -> TableReport:
        """Compare; the report of the only table."""
        report = self.compare(**options)
        assert not report.reason
        [table] = report.tables
        return table


@pytest.fixture
def conn(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a fresh database."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def world(tmp_path: Path, conn: psycopg.Connection[Any]) -> Iterator[World]:
    """A source in UTF-8."""
    made = World(tmp_path, conn)
    yield made
    made.close()


@pytest.fixture
def world16(tmp_path: Path, conn: psycopg.Connection[Any]) -> Iterator[World]:
    """A source in UTF-16."""
    made = World(tmp_path, conn, "UTF-16le")
    yield made
    made.close()


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of a row or a few: a deadline that has always passed."""
    monkeypatch.setattr(sys.modules["mirror.parity.compare"], "READ_SECONDS", 0.0)


@pytest.fixture(params=["one slice", "many slices", "digests"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the comparison goes."""
    if request.param != "one slice":
        monkeypatch.setattr(sys.modules["mirror.parity.compare"], "READ_SECONDS", 0.0)
    if request.param == "digests":
        monkeypatch.setattr(Choice, "by_digest", lambda self: True)
    return str(request.param)


# ------------------------------------------------------------------------------------ equality

EVERYTHING: Columns = {
    "id": "bigint",
    "t": "text",
    "r": "double precision",
    "b": "bytea",
    "f": "boolean",
    "n": "numeric",
    "j": "jsonb",
    "v": "jsonb",
}

CREATE_EVERYTHING = """
CREATE TABLE everything (id INTEGER PRIMARY KEY, t TEXT, r REAL, b BLOB, f BOOLEAN, n NUMERIC, j,
    v AS (id + 1) VIRTUAL)
"""

ROWS: list[tuple[Any, ...]] = [
    (1, "one", 1.0, b"\0\xff", 1, 3, 1),
    (2, "é€😀", 0.1, b"", 0, 1.5, 1.0),
    (3, "", 5e-324, None, None, 1e300, "text"),
    (4, None, math.nextafter(1.0, 2.0), b"x", 1, -(2**63), b"blob"),
    (5, "a\nb", math.inf, b"y", 0, 2**63 - 1, -math.inf),
    (6, "quote'\"", -1.5, b"z", 0, 0.1, None),
    (2**63 - 1, "last", 1e22, b"w", 1, math.inf, 1e20),
    (-(2**63), "first", 1e-300, b"v", 1, -7, 2**60 + 0.0),
]


def everything(world: World) -> None:
    """A table with all types, mirrored."""
    world.write(CREATE_EVERYTHING)
    world.write("INSERT INTO everything (id, t, r, b, f, n, j) VALUES (?, ?, ?, ?, ?, ?, ?)", ROWS)
    world.write("INSERT INTO everything (id, r, j) VALUES (?, ?, ?)", [(0, -0.0, -0.0)])
    world.mirror("everything", EVERYTHING, ["id"])


def test_equal(world: World) -> None:
    """All types and their extremes are found equal."""
    everything(world)
    before = world.path.stat().st_mtime_ns
    report = world.compare()
    [table] = report.tables
    assert table == TableReport(
        "everything",
        "equal",
        source_rows=9,
        target_rows=9,
        seconds=table.seconds,
        first_lsn=Lsn(3, 14),
        last_lsn=Lsn(3, 14),
        source_digest=table.source_digest,
        target_digest=table.source_digest,
    )
    assert len(bytes.fromhex(table.source_digest)) == 16
    assert (report.verdict, report.exit_code, report.rows, report.next_steps) == ("equal", 0, 9, ())
    assert world.path.stat().st_mtime_ns == before, "parity writes nothing and runs no checkpoint"


def test_equal_in_many_slices(world: World, small_slices: None) -> None:
    """Slices tile the key space: nothing twice, nothing left out."""
    everything(world)
    table = world.only()
    assert (table.status, table.source_rows, table.target_rows) == ("equal", 9, 9)
    assert world.gate.holds > 5


def test_digests_do_not_depend_on_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows, the same digest; other rows on one side change its digest alone."""
    everything(world)
    whole = world.only()
    monkeypatch.setattr(sys.modules["mirror.parity.compare"], "READ_SECONDS", 0.0)
    assert world.only().source_digest == whole.source_digest
    for change in ("UPDATE everything SET t = 'One' WHERE id = 1", "DELETE FROM everything WHERE id = 6"):
        world.pg(change)
        table = world.only()
        assert table.source_digest == whole.source_digest != table.target_digest
    world.write("UPDATE everything SET t = 'One' WHERE id = 1; DELETE FROM everything WHERE id = 6")
    again = world.only()
    assert (again.status, again.source_digest) == ("equal", table.target_digest)


def test_a_digest_takes_the_place_of_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each value has one name in Postgres, no row is fetched; where one has not, only its slice is."""
    fetched: list[Range] = []
    rows = Target.rows

    def noting(self: Target, plan: Plan, wanted: Range, together: int) -> Iterator[list[Cells]]:
        fetched.append(wanted)
        return rows(self, plan, wanted, together)

    monkeypatch.setattr(Target, "rows", noting)
    monkeypatch.setattr(Choice, "by_digest", lambda self: True)
    monkeypatch.setattr(sys.modules["mirror.parity.compare"], "READ_SECONDS", 0.0)
    everything(world)
    digest = world.only().source_digest
    assert fetched == []
    world.pg("UPDATE everything SET j = '1.000' WHERE id = 2")
    table = world.only()
    assert (table.status, table.source_digest, table.target_digest) == ("equal", digest, digest)
    assert 1 <= len(fetched) <= 2 < world.gate.holds


def test_the_cheaper_way_is_taken() -> None:
    """Each is tried once; then the one that took less a row, and the other now and then."""
    choice = Choice()
    assert not choice.by_digest()
    choice.took(10, 0.01, by_digest=False)  # too few rows, in too short a time, to tell
    choice.took(0, 5.0, by_digest=False)
    assert not choice.by_digest()
    choice.took(10_000, 1.0, by_digest=False)
    assert choice.by_digest()
    choice.took(10_000, 0.5, by_digest=True)
    ways = []
    for _ in range(200):
        way = choice.by_digest()
        choice.took(10_000, 0.5 if way else 1.0, by_digest=way)
        ways.append(way)
    assert 1 <= ways.count(False) <= 4
    choice.took(10_000, 0.1, by_digest=False)  # the link got better
    assert not choice.by_digest()
    choice.took(100, 0.5, by_digest=False)  # large rows over a slow link
    assert choice.by_digest()


def test_an_empty_table_and_an_empty_source(world: World) -> None:
    """Nothing equals nothing; what only Postgres has is extra."""
    assert world.compare().verdict == "equal"
    world.write("CREATE TABLE t (a TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID")
    world.mirror("t", {"a": "text"}, ["a"])
    table = world.only()
    assert (table.status, table.source_rows, table.target_rows) == ("equal", 0, 0)
    world.pg("INSERT INTO t VALUES ('x'), ('')")
    table = world.only()
    assert (table.status, table.extra) == ("different", 2)
    assert table.examples == (Difference("extra", [""]), Difference("extra", ["x"]))


# -------------------------------------------------------------------------------------- damage

NO_VALUE = " (no value of SQLite)"


@pytest.mark.few(25)
@pytest.mark.parametrize(
    ("damage", "column", "source_value", "target_value"),
    [
        ("t = 'One' WHERE id = 1", "t", '"one"', '"One"'),
        ("t = '' WHERE id = 4", "t", "null", '""'),
        ("t = NULL WHERE id = 3", "t", '""', "null"),
        ("t = 'one ' WHERE id = 1", "t", '"one"', '"one "'),
        ("t = normalize(t || U&'\\0301', NFD) WHERE id = 2", "t", None, None),
        ("r = 1.0000000000000002 WHERE id = 1", "r", "1.0", "1.0000000000000002"),
        ("r = 0 WHERE id = 3", "r", "5e-324", "0.0"),
        # A REAL column of SQLite stores whole numbers as integers, and so loses the sign of -0.0.
        ("r = '-0.0' WHERE id = 0", "r", "0.0", "-0.0"),
        ("r = 'NaN' WHERE id = 5", "r", "Infinity", "NaN"),
        ("r = 0.1::float4 WHERE id = 2", "r", "0.1", "0.10000000149011612"),
        ("b = '\\x00fe' WHERE id = 1", "b", "x'00ff'", "x'00fe'"),
        ("b = '' WHERE id = 3", "b", "null", "x''"),
        ("f = false WHERE id = 1", "f", "1", "0"),
        ("f = false WHERE id = 3", "f", "null", "0"),
        ("n = 3.5 WHERE id = 1", "n", "3", "3.5"),
        ("n = 1.50000000000000000000000001 WHERE id = 2", "n", "1.5", f"1.50000000000000000000000001{NO_VALUE}"),
        ("n = 'NaN' WHERE id = 2", "n", "1.5", f"NaN{NO_VALUE}"),
        ("j = '1.0' WHERE id = 1", "j", "1", "1.0"),
        ("j = '1' WHERE id = 2", "j", "1.0", "1"),
        ("j = '0.0' WHERE id = 0", "j", "-0.0", "0.0"),
        ("j = '\"1\"' WHERE id = 1", "j", "1", '"1"'),
        ("j = '\"blob\"' WHERE id = 4", "j", "x'626c6f62'", '"blob"'),
        ("j = 'null' WHERE id = 6", "j", "null", f"null{NO_VALUE}"),
        ("j = 'true' WHERE id = 1", "j", "1", f"true{NO_VALUE}"),
        ("j = '[1]' WHERE id = 1", "j", "1", f"[1]{NO_VALUE}"),
    ],
)
def test_one_changed_value(
    world: World,
    way: str,
    damage: str,
    column: str,
    source_value: str | None,
    target_value: str | None,
) -> None:
    """Any single changed value is found and shown, down to the last bit."""
    everything(world)
    world.pg(f"UPDATE everything SET {damage}")
    report = world.compare()
    [table] = report.tables
    assert (report.verdict, report.exit_code) == ("different", 1)
    assert (table.status, table.missing, table.extra, table.different) == ("different", 0, 0, 1)
    [example] = table.examples
    [found] = example.columns
    assert (example.kind, found.column) == ("different", column)
    if source_value is not None:
        assert (said(found.source_value), said(found.target_value)) == (source_value, target_value)
    assert report.next_steps


def test_missing_extra_and_swapped_rows(world: World) -> None:
    """Rows that only one side has, and two rows that have each other's contents."""
    everything(world)
    world.pg("DELETE FROM everything WHERE id IN (%s, 2)", -(2**63))
    world.pg("INSERT INTO everything (id) VALUES (77), (99)")
    world.pg("UPDATE everything SET id = CASE id WHEN 4 THEN -5 WHEN 5 THEN -4 END WHERE id IN (4, 5)")
    world.pg("UPDATE everything SET id = -id WHERE id IN (-4, -5)")
    table = world.only()
    assert (table.missing, table.extra, table.different) == (2, 2, 2)
    assert {(example.kind, example.named) for example in table.examples} == {
        ("missing", f"[{-(2**63)}]"),
        ("missing", "[2]"),
        ("extra", "[77]"),
        ("extra", "[99]"),
        ("different", "[4]"),
        ("different", "[5]"),
    }


def test_examples_of_every_kind_where_the_values_part(world: World) -> None:
    """Many of one kind do not hide the others, and of long values that is shown in which they differ."""
    world.write("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    world.write("INSERT INTO t VALUES (?, ?)", [(i, "a" * 5000 + str(i)) for i in range(1000)])
    world.mirror("t", {"id": "bigint", "v": "text"}, ["id"])
    world.pg("INSERT INTO t SELECT i, 'extra' FROM generate_series(-500, -1) i")
    world.pg("DELETE FROM t WHERE id BETWEEN 100 AND 299")
    world.pg("UPDATE t SET v = v || '!' WHERE id > 900")
    table = world.only()
    assert (table.extra, table.missing, table.different) == (500, 200, 99)
    kinds = [example.kind for example in table.examples]
    assert len(kinds) == 10 and {kind: kinds.count(kind) >= 3 for kind in kinds} == {
        "extra": True,
        "missing": True,
        "different": True,
    }
    example = next(example for example in table.examples if example.kind == "different")
    [found] = example.columns
    assert 'a901"' in said(found.source_value) and 'a901!"' in said(found.target_value)


def test_examples_are_bounded_and_counts_are_not(world: World) -> None:
    """Ten examples, all counted; long values are cut."""
    world.write("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    world.write("INSERT INTO t VALUES (?, ?)", [(i, "x" * 100_000) for i in range(50)])
    world.mirror("t", {"id": "bigint", "v": "text"}, ["id"])
    world.pg("UPDATE t SET v = v || 'y'")
    table = world.only()
    assert (table.different, len(table.examples)) == (50, 10)
    assert len(said(table.examples[0].columns[0].source_value)) < 200
    assert table.more == 40


def test_all_columns_that_differ(world: World, way: str) -> None:
    """Each with both values, in their order."""
    everything(world)
    world.pg("UPDATE everything SET t = NULL, n = 4, j = '\"1\"' WHERE id = 1")
    [example] = world.only().examples
    found = [(each.column, each.source_value, each.target_value) for each in example.columns]
    assert (example.key, found) == ([1], [("t", "one", None), ("n", 3, 4), ("j", 1, "1")])


# ---------------------------------------------------------------------------------------- keys


def many(number: int, make: Callable[[int], tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """That many rows, in no particular order."""
    return [make(i * 7919 % number) for i in range(number)]


KEYS: dict[str, tuple[str, Columns, list[str] | None, list[tuple[Any, ...]]]] = {
    "integer": (
        "CREATE TABLE t (a INTEGER PRIMARY KEY, v TEXT)",
        {"a": "bigint", "v": "text"},
        ["a"],
        many(300, lambda i: (i - 150, f"v{i}")),
    ),
    "rowid": (
        "CREATE TABLE t (a TEXT, v BLOB)",
        {"a": "text", "v": "bytea"},
        None,
        many(300, lambda i: (f"a{i % 10}", b"v")),
    ),
    "rowid, hidden by columns": (
        "CREATE TABLE t (rowid TEXT, _rowid_ TEXT)",
        {"rowid": "text", "_rowid_": "text"},
        None,
        many(300, lambda i: ("same", "same")),
    ),
    "text in byte order": (
        "CREATE TABLE t (a TEXT PRIMARY KEY NOT NULL, v TEXT)",
        {"a": "text", "v": "text"},
        ["a"],
        many(300, lambda i: (["a", "B", "é", "Z", "\U0001f600", "\uffff", "~"][i % 7] + str(i), "v")),
    ),
    "composite without rowid": (
        "CREATE TABLE t (v TEXT, b TEXT, a INT, PRIMARY KEY (a, b)) WITHOUT ROWID",
        {"v": "text", "b": "text", "a": "bigint"},
        ["a", "b"],
        many(300, lambda i: ("v", f"b{i}", i % 3)),
    ),
    "descending": (
        "CREATE TABLE t (a INT, b TEXT, PRIMARY KEY (a DESC, b DESC)) WITHOUT ROWID",
        {"a": "bigint", "b": "text"},
        ["a", "b"],
        many(300, lambda i: (i % 3, f"b{i}")),
    ),
    "mixed directions": (
        "CREATE TABLE t (a INT, b TEXT, PRIMARY KEY (a, b DESC)) WITHOUT ROWID",
        {"a": "bigint", "b": "text"},
        ["a", "b"],
        many(300, lambda i: (i % 3, f"b{i}")),
    ),
    "nocase": (
        "CREATE TABLE t (a TEXT PRIMARY KEY COLLATE NOCASE NOT NULL, v)",
        {"a": "text", "v": "jsonb"},
        ["a"],
        many(300, lambda i: ("xXÉé_"[i % 5] + f"{'AbCdE'[i % 5]}{i}", i)),
    ),
    "nocase in the key only": (
        "CREATE TABLE t (a TEXT NOT NULL, b INT, PRIMARY KEY (a COLLATE NOCASE, b)) WITHOUT ROWID",
        {"a": "text", "b": "bigint"},
        ["a", "b"],
        many(300, lambda i: ("aB"[i % 2] + "zZ"[i % 3 == 0], i)),
    ),
    "rtrim": (
        "CREATE TABLE t (a TEXT PRIMARY KEY COLLATE RTRIM NOT NULL)",
        {"a": "text"},
        ["a"],
        many(300, lambda i: (f"a{i}" + " " * (i % 4),)),
    ),
    "blob": (
        "CREATE TABLE t (a BLOB PRIMARY KEY NOT NULL)",
        {"a": "bytea"},
        ["a"],
        many(300, lambda i: (bytes([i % 256, 0, i // 256]),)),
    ),
    "real": (
        "CREATE TABLE t (a REAL PRIMARY KEY NOT NULL)",
        {"a": "double precision"},
        ["a"],
        [*many(300, lambda i: (i / 7 - 20,)), (math.inf,), (-math.inf,), (1e300,)],
    ),
    "boolean": (
        "CREATE TABLE t (a BOOLEAN, b INT, PRIMARY KEY (a, b)) WITHOUT ROWID",
        {"a": "boolean", "b": "bigint"},
        ["a", "b"],
        many(300, lambda i: (i % 2, i)),
    ),
    "numeric": (
        "CREATE TABLE t (a DECIMAL PRIMARY KEY NOT NULL)",
        {"a": "numeric"},
        ["a"],
        many(300, lambda i: (i / 4 - 30,)),
    ),
    "jsonb of all types": (
        "CREATE TABLE t (a PRIMARY KEY NOT NULL, v INT)",
        {"a": "jsonb", "v": "bigint"},
        ["a"],
        [
            *many(300, lambda i: ([i, i + 0.5, f"t{i}", f"b{i}".encode(), float(-i - 1)][i % 5], i)),
            (math.inf, 0),
            (-math.inf, 0),
            (2**53 + 1, 0),
            (2.0**53 + 2, 0),
            (1e300, 0),
            ("real", 0),
            (b"", 0),
            ("", 0),
        ],
    ),
}


@pytest.mark.few(4)
@pytest.mark.parametrize("kind", KEYS)
def test_keys(world: World, kind: str, way: str) -> None:
    """For each kind of key: equal where it is equal, and each damage found in its slice."""
    create, columns, key, rows = KEYS[kind]
    world.write(create)
    names = ", ".join(columns)
    world.write(f"INSERT INTO t ({names}) VALUES ({', '.join('?' * len(columns))})", rows)
    world.mirror("t", columns, key)
    table = world.only()
    assert (table.status, table.reason) == ("equal", "")
    assert table.source_rows == table.target_rows == len(rows)

    # A third of the rows goes; the rest must still match, and what went must be missing once.
    selected = "mod(('x' || substr(md5(t::text), 1, 4))::bit(16)::int, 3) = 0"
    removed = world.conn.execute(f"WITH gone AS (DELETE FROM t WHERE {selected} RETURNING 1) SELECT count(*) FROM gone")
    [(count,)] = removed.fetchall()
    assert count > 30
    table = world.only()
    assert (table.status, table.missing, table.extra, table.different) == ("different", count, 0, 0)

    # The same rows go from the source instead: extra.
    world.conn.execute("TRUNCATE t")
    world.fill("t", columns, key)
    assert world.only().status == "equal"
    one = "oid % 3 = 0" if key is None else f"length(quote({key[-1]})) % 3 = 0"
    world.write(f"DELETE FROM t WHERE {one}")
    table = world.only()
    assert table.status == "different"
    assert (table.missing, table.different) == (0, 0)
    assert table.extra == len(rows) - (table.source_rows or 0) > 0


def test_a_common_order_is_found_where_there_is_one(world: World, small_slices: None) -> None:
    """Only keys with mixed directions are read as a whole; all others go slice by slice."""
    whole = set()
    for kind, (create, columns, key, rows) in KEYS.items():
        world.write("DROP TABLE IF EXISTS t")
        world.write(create)
        world.pg("DROP TABLE IF EXISTS t")
        world.mirror("t", columns, key)
        world.write(f"INSERT INTO t ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", rows[:20])
        holds = world.gate.holds
        world.only()
        if world.gate.holds - holds == 2:
            whole.add(kind)
    assert whole == {"mixed directions"}


@pytest.mark.parametrize("seconds", [pytest.param(0.0, marks=pytest.mark.slow), 0.018])
def test_a_sample(world: World, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some ranges of keys, each exact: no false alarm, and the share of the damage that lies in them."""
    monkeypatch.setattr(sys.modules["mirror.parity.compare"], "READ_SECONDS", seconds)
    for kind, (create, columns, key, rows) in KEYS.items():
        world.write("DROP TABLE IF EXISTS t")
        world.write(create)
        world.pg("DROP TABLE IF EXISTS t")
        world.write(f"INSERT INTO t ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", rows)
        world.mirror("t", columns, key)
        report = world.compare(sample=60)
        assert (report.verdict, report.sample) == ("equal", 60), kind
        [table] = report.tables
        assert table.source_rows == table.target_rows is not None
        if "WITHOUT ROWID" in create:
            assert (table.reason, table.source_rows) == ("", len(rows))
        else:
            assert "a sample" in table.reason and 3 <= table.source_rows <= 60 and "of a sample" in report.headline
        table = world.only(sample=len(rows))
        assert (table.status, table.reason, table.source_rows) == ("equal", "", len(rows)), "it has no more rows"
        world.pg("DELETE FROM t WHERE mod(('x' || substr(md5(t::text), 1, 4))::bit(16)::int, 2) = 0")
        table = world.only(sample=60)
        assert table.status == "different" and table.extra == table.different == 0 < table.missing < len(rows)


def test_a_sample_among_keys_that_postgres_cannot_hold(world: World) -> None:
    world.write("CREATE TABLE t (a TEXT PRIMARY KEY)")
    world.write("INSERT INTO t VALUES (?)", [(f"k{i:03}",) for i in range(50)])
    world.mirror("t", {"a": "text"}, ["a"])
    world.write("INSERT INTO t SELECT 'k0' || char(0) || a FROM t")
    for i in range(50):
        world.reject("t", json.dumps([f"k0\0k{i:03}"]))
    for _ in range(10):
        table = world.only(sample=40)
        assert table.status.startswith("equal") and (table.source_rows or 0) >= 2, table
    world.write("INSERT INTO t SELECT NULL FROM t")
    assert world.only(sample=40).missing == 100, "read as a whole, because there is no way past NULL"


def test_slices_use_the_source_index(world: World, small_slices: None) -> None:
    """Walking a key that the source has an index for never sorts the table."""
    from mirror.parity import plan as plan_module
    from mirror.parity.plan import MappedColumn, Mapping

    for kind, (create, columns, key, rows) in KEYS.items():
        world.write("DROP TABLE IF EXISTS t")
        world.write(create)
        mapped = tuple(MappedColumn(name, name, pg_type) for name, pg_type in columns.items())
        mapping = Mapping("t", "public", "t", mapped, None if key is None else tuple(key))
        source = open_source(world.path)
        assert isinstance(source, WalSource)
        with source.view():
            shape = source.shape("t")
            assert shape is not None
            plan = plan_module.make_plan(mapping, shape, bytewise_text=True)
            if plan.order:
                after = tuple(rows[0][list(columns).index(name)] for name in key) if key else (1,)
                for last in (None, after):
                    text = source_module._select(plan, last, careful=False)
                    steps = source._db.execute("EXPLAIN QUERY PLAN " + text, last or ()).fetchall()
                    assert len(steps) == 1, (kind, steps)
        source.close()


# ------------------------------------------------------------------------------------- rejects


def test_rejects(world: World) -> None:
    """A row that Postgres cannot hold is rejected where the rejects have it and missing where not."""
    world.write("CREATE TABLE t (a TEXT PRIMARY KEY NOT NULL, v TEXT)")
    world.write("INSERT INTO t VALUES (?, ?)", [(f"k{i:03}", "v") for i in range(200)])
    world.write("INSERT INTO t VALUES ('nul', 'a' || char(0) || 'b'), ('bad', CAST(x'61ff' AS TEXT))")
    world.write("INSERT INTO t VALUES ('k' || char(0), 'v'), (CAST(x'6bff' AS TEXT), 'v')")
    world.register("t", {"a": "text", "v": "text"}, ["a"])
    world.pg('CREATE TABLE t (a text COLLATE "C" PRIMARY KEY, v text)')
    world.pg("INSERT INTO t SELECT 'k' || lpad(i::text, 3, '0'), 'v' FROM generate_series(0, 199) i")
    table = world.only()
    assert (table.status, table.missing, table.rejected, table.extra) == ("different", 4, 0, 0)
    keys = {'["nul"]', '["bad"]', '["k\\u0000"]', '[{"text":"a/8="}]'}
    assert {example.named for example in table.examples} == {'["nul"]', '["bad"]', '["k\\u0000"]', "[x'6bff' as text]"}
    for key in keys:
        world.reject("t", key)
    report = world.compare()
    [table] = report.tables
    assert (table.status, table.missing, table.rejected) == ("equal except rejects", 0, 4)
    assert (report.verdict, report.exit_code, report.rejected) == ("equal except rejects", 4, 4)
    assert report.headline.startswith("equal except 4 rejected rows: ") and "≠" not in table.digest
    assert any("mirror rejects list" in step for step in report.next_steps)


def test_rejects_in_many_slices(world: World, small_slices: None) -> None:
    """Slices may end at a key that cannot even be bound as text."""
    test_rejects(world)


def test_an_old_row_beside_its_reject(world: World) -> None:
    """A reject does not excuse an older version of the row that still stands in Postgres."""
    world.write("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    world.write("INSERT INTO t VALUES (1, 'old')")
    world.mirror("t", {"id": "bigint", "v": "text"}, ["id"])
    world.write("UPDATE t SET v = 'a' || char(0)")
    world.reject("t", "[1]")
    table = world.only()
    assert (table.different, table.rejected) == (1, 0)


def test_null_in_a_declared_key(world: World, way: str) -> None:
    """SQLite lets a key be NULL, and many rows at that; none of them can be in Postgres."""
    world.write("CREATE TABLE t (a TEXT PRIMARY KEY, v INT)")
    world.write("INSERT INTO t VALUES (?, ?)", [(None, 1), (None, 2), (None, 3), ("a", 4), ("b", 5)])
    world.register("t", {"a": "text", "v": "bigint"}, ["a"])
    world.pg('CREATE TABLE t (a text COLLATE "C" PRIMARY KEY, v bigint)')
    world.pg("INSERT INTO t VALUES ('a', 4), ('b', 5)")
    table = world.only()
    assert (table.status, table.missing, table.source_rows, table.target_rows) == ("different", 3, 5, 2)


def test_values_of_another_type_in_a_typed_column(world: World, small_slices: None) -> None:
    """What a typed column cannot hold is different or missing, never equal by coercion."""
    world.write("CREATE TABLE t (a INT PRIMARY KEY NOT NULL, v TEXT)")
    world.write("INSERT INTO t VALUES (?, ?)", [(1, "v"), (2, b"v"), (2.5, "v"), ("3", "v"), ("x", "v"), (b"1", "v")])
    world.register("t", {"a": "bigint", "v": "text"}, ["a"])
    world.pg("CREATE TABLE t (a bigint PRIMARY KEY, v text)")
    world.pg("INSERT INTO t VALUES (1, 'v'), (2, 'v'), (3, 'v')")
    table = world.only()
    assert (table.missing, table.extra, table.different) == (3, 0, 1)
    [changed] = [example for example in table.examples if example.kind == "different"]
    assert (changed.key, changed.columns) == ([2], (ColumnDifference("v", {"blob": "dg=="}, "v"),))


# -------------------------------------------------------------------------------------- UTF-16


def test_utf16(world16: World) -> None:
    """Text of a UTF-16 database equals; broken surrogates are rejects, not repaired."""
    rows = many(300, lambda i: (["é", "Z", "\U0001f600", "\uffff", "a"][i % 5] + str(i), "v€"))
    world16.write(
        "CREATE TABLE t (a TEXT PRIMARY KEY NOT NULL, v TEXT);CREATE TABLE u (id INTEGER PRIMARY KEY, v TEXT)"
    )
    world16.write("INSERT INTO t VALUES (?, ?)", rows)
    world16.write("INSERT INTO u VALUES (1, 'é'), (2, '😀')")
    world16.mirror("t", {"a": "text", "v": "text"}, ["a"])
    world16.mirror("u", {"id": "bigint", "v": "text"}, ["id"])
    assert [table.status for table in world16.compare().tables] == ["equal", "equal"]
    world16.pg("UPDATE t SET v = 'v' WHERE a = 'Z1'")
    world16.pg("DELETE FROM t WHERE a = 'a4'")
    world16.pg("INSERT INTO t VALUES ('new', '')")
    table, other = world16.compare().tables
    assert (table.missing, table.extra, table.different) == (1, 1, 1)
    assert {example.named for example in table.examples} == {'["Z1"]', '["a4"]', '["new"]'}
    assert other.status == "equal"
    world16.write("INSERT INTO u VALUES (3, CAST(x'00d8' AS TEXT))")
    assert world16.compare(tables=["u"]).tables[0].missing == 1
    world16.reject("u", "[3]")
    assert world16.compare(tables=["u"]).tables[0].rejected == 1


def test_too_large_to_be_read_as_a_whole(world16: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather not checked than a long read transaction."""
    monkeypatch.setattr(source_module, "WHOLE_ROWS", 10)
    world16.write("CREATE TABLE t (a TEXT PRIMARY KEY NOT NULL)")
    world16.write("INSERT INTO t VALUES (?)", [(str(i),) for i in range(100)])
    world16.mirror("t", {"a": "text"}, ["a"])
    report = world16.compare()
    assert (report.verdict, report.exit_code) == ("not checked", 2)
    assert "too large" in report.tables[0].reason


# -------------------------------------------------------------------------------------- schemas


def test_unmirrored_and_extra_tables(world: World) -> None:
    """Every ordinary table must be mirrored and no other; virtual and shadow tables are left out."""
    world.write(
        """
        CREATE TABLE kept (id INTEGER PRIMARY KEY AUTOINCREMENT); CREATE TABLE lost (a);
        CREATE VIRTUAL TABLE docs USING fts5(body); CREATE VIEW seen AS SELECT 1;
        CREATE TABLE "Odd ""name" (a);
        """
    )
    world.mirror("kept", {"id": "bigint"}, ["id"])
    world.register("old", {"id": "bigint"}, ["id"])
    report = world.compare()
    assert {table.table: (table.status, table.reason) for table in report.tables} == {
        "kept": ("equal", ""),
        "lost": ("different", "it is not in Postgres"),
        'Odd "name': ("different", "it is not in Postgres"),
        "old": ("different", "only in Postgres: the source has no table of this name"),
    }
    assert report.exit_code == 1
    [kept, unknown] = world.compare(tables=["kept", "unknown"]).tables
    assert kept.status == "equal"
    assert (unknown.status, unknown.source_rows) == ("not checked", None)


def test_names_that_need_quotes_and_names_that_differ(world: World) -> None:
    """Names are quoted on both sides; a column may have another name in Postgres."""
    world.write("""CREATE TABLE "T ""%s {}" ("a ""{}%s" TEXT PRIMARY KEY NOT NULL, "SELECT" INT)""")
    world.write("""INSERT INTO "T ""%s {}" VALUES ('x', 1), ('y', 2)""")
    described = [{"name": "a%s", "type": "text", "source": 'a "{}%s'}, {"name": "SELECT", "type": "bigint"}]
    world.conn.execute('CREATE TABLE "other {}" ("a%s" text PRIMARY KEY, "SELECT" bigint)')
    world.conn.execute("INSERT INTO \"other {}\" VALUES ('x', 1), ('y', 3)")
    world.conn.execute(
        "INSERT INTO mirror.tables VALUES (7, %s, 'public', 'other {}', %s, '[\"a%%s\"]')",
        ('T "%s {}', json.dumps(described)),
    )
    table = world.only()
    assert table.examples == (Difference("different", ["y"], (ColumnDifference("SELECT", 2, 3),)),)


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ("ALTER TABLE t ADD COLUMN w", "different", "columns differ (not mirrored: w)"),
        ("ALTER TABLE t DROP COLUMN v", "different", "columns differ (not in the source: v)"),
        (
            "ALTER TABLE t RENAME COLUMN v TO w",
            "different",
            "columns differ (not mirrored: w; not in the source: v)",
        ),
        ("ALTER TABLE t ADD COLUMN w AS (1) VIRTUAL", "different", "columns differ (not mirrored: w)"),
    ],
)
def test_source_columns_that_are_not_mirrored(world: World, change: str, status: str, reason: str) -> None:
    """Columns are compared by name and order; virtual generated ones count like any other."""
    world.write("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'v')")
    world.mirror("t", {"id": "bigint", "v": "text"}, ["id"])
    world.write(change)
    table = world.only()
    assert (table.status, table.reason) == (status, reason)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("DROP TABLE t", "the table is missing in Postgres"),
        ("ALTER TABLE t DROP COLUMN v", "the column v is missing in Postgres"),
        ("ALTER TABLE t ALTER v TYPE varchar", "the column v is character varying in Postgres, not text"),
        ("ALTER TABLE t ALTER id TYPE numeric", "the column id is numeric in Postgres, not bigint"),
        ("ALTER TABLE t ALTER id TYPE integer", "the column id is integer in Postgres, not bigint"),
    ],
)
def test_damaged_tables_in_postgres(world: World, damage: str, reason: str) -> None:
    """A table that is gone is a difference, and other tables are compared all the same."""
    world.write("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE u (id INTEGER PRIMARY KEY)")
    world.mirror("t", {"id": "bigint", "v": "text"}, ["id"])
    world.mirror("u", {"id": "bigint"}, ["id"])
    world.pg(damage)
    broken, fine = world.compare().tables
    assert (broken.status, broken.reason) == ("different", reason)
    assert fine.status == "equal"


def test_a_damaged_jsonb_key(world: World) -> None:
    """What Postgres cannot even sort is nothing that the mirror has written; in Postgres' own words."""
    world.write("CREATE TABLE t (a PRIMARY KEY NOT NULL); INSERT INTO t VALUES (1)")
    world.mirror("t", {"a": "jsonb"}, ["a"])
    world.pg("""INSERT INTO t VALUES ('{"blob": "?"}')""")
    table = world.only()
    assert table.status == "different"
    assert "22023" in table.reason


@pytest.mark.few(4)
@pytest.mark.parametrize("kind", ["integer", "text in byte order", "composite without rowid", "mixed directions"])
def test_rows_with_null_in_their_key_in_postgres(world: World, kind: str, way: str) -> None:
    """No range of keys holds them, and no row of the source's can be like them."""
    create, columns, key, rows = KEYS[kind]
    world.write(create)
    world.write(f"INSERT INTO t ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", rows)
    world.mirror("t", columns, key)
    assert key is not None
    world.pg("ALTER TABLE t DROP CONSTRAINT t_pkey")
    for name in key:
        world.pg(f"ALTER TABLE t ALTER {name} DROP NOT NULL")
    assert world.only().status == "equal"
    world.pg("INSERT INTO t SELECT FROM generate_series(1, 5)")
    table = world.only()
    assert (table.status, table.extra, table.missing, table.different) == ("different", 5, 0, 0)
    assert table.target_rows == len(rows) + 5


def test_rows_come_in_the_order_of_their_keys(world: World) -> None:
    """Not of what is selected under a key's name: then the digests would differ although no row does."""
    world.write("CREATE TABLE t (k DECIMAL PRIMARY KEY NOT NULL, v TEXT)")
    world.write("INSERT INTO t VALUES (?, ?)", many(3000, lambda i: (i if i % 2 else i + 0.25, "v")))
    world.mirror("t", {"k": "numeric", "v": "text"}, ["k"])
    table = world.only()
    assert table.status == "equal" and table.source_digest == table.target_digest


def test_unknown_types_and_keys(world: World) -> None:
    """A catalog that this version does not understand is not guessed at."""
    world.write("CREATE TABLE t (id INTEGER PRIMARY KEY); CREATE TABLE u (rowid, oid, _rowid_)")
    world.write("CREATE TABLE w (a)")
    world.register("t", {"id": "money"}, ["id"])
    world.register("u", {"rowid": "jsonb", "oid": "jsonb", "_rowid_": "jsonb"}, None)
    world.register("w", {"a": "jsonb"}, ["b"])
    assert [(table.status, table.reason) for table in world.compare().tables] == [
        ("not checked", "unknown column type money"),
        ("not checked", "every name of the rowid is taken by a column"),
        ("not checked", "key column b is not mirrored"),
    ]


def test_row_security_cannot_hide_rows(world: World) -> None:
    """Rows that a policy hides from the role are not called missing."""
    world.write("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)")
    world.mirror("t", {"id": "bigint"}, ["id"])
    role = f"{world.conn.info.dbname}_reader"
    world.pg(
        f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA mirror, public TO {role};"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA mirror, public TO {role};"
        f"ALTER TABLE t ENABLE ROW LEVEL SECURITY; SET ROLE {role}"
    )
    table = world.only()
    assert table.status == "not checked"
    assert "42501" in table.reason
    world.pg("RESET ROLE")
    assert world.only().status == "equal"


# ------------------------------------------------------------------ writers that keep on writing


class LiveGate(Gate):
    """Plays an apply side behind a writer: each step is committed and applied at some time.

    At each hold a step of the source is committed *and* applied, while holding another one is committed
    and only applied at the next hold. So a comparison that is not exact at its position must fail.
    """

    def __init__(self, world: World, step: Callable[[int], tuple[str, str]], steps: int = 10_000) -> None:
        super().__init__()
        self._world = world
        self._step = step
        self._left = steps
        self._number = 0
        self._owed: list[str] = []

    def _commit(self) -> None:
        if self._left > 0:
            self._left -= 1
            self._number += 1
            source, target = self._step(self._number)
            self._world.write(source)
            self._owed.append(target)

    def hold(self) -> str:
        """Hold, then commit one more step."""
        hold = super().hold()
        self._commit()
        return hold

    def reach(self, hold: str, salts: Salts, frame: int) -> Lsn:
        """Apply what is owed, then commit a step that is not applied yet."""
        self.lsn = Lsn(self.lsn.generation, self.lsn.frame + 1)
        with psycopg.connect(self._world.conn.info.dsn, autocommit=False) as applier:
            for statement in self._owed:
                applier.execute(statement.encode())
            applier.execute("UPDATE mirror.sources SET frame = %s WHERE source_id = 7", (self.lsn.frame,))
        self._owed = []
        self._commit()  # after the view: must not be seen on either side
        return super().reach(hold, salts, frame)


def test_exact_while_the_source_is_written(world: World, small_slices: None) -> None:
    """Rows come, change, go and move between slices at every step: no false difference, no missed one."""
    world.write("CREATE TABLE t (id INTEGER PRIMARY KEY, v INT)")
    world.write("INSERT INTO t VALUES (?, ?)", [(i * 10, 0) for i in range(100)])
    world.mirror("t", {"id": "bigint", "v": "bigint"}, ["id"])

    def step(number: int) -> tuple[str, str]:
        low, high = number * 37 % 1000, 1000 + number
        moved = low // 10 * 10 + 5
        statements = (
            f"UPDATE t SET v = v + 1 WHERE id % 3 = {number % 3};"
            f"DELETE FROM t WHERE id = {low // 10 * 10};"
            f"INSERT INTO t VALUES ({high}, {number});"
            f"UPDATE t SET id = {moved} WHERE id = (SELECT max(id) FROM t WHERE id < {low} AND id % 10 = 0)"
            f" AND NOT EXISTS (SELECT 1 FROM t WHERE id = {moved})"
        )
        return f"BEGIN; {statements}; COMMIT", statements

    world.gate = LiveGate(world, step, steps=150)
    table = world.only()
    assert (table.status, table.examples) == ("equal", ())
    assert table.first_lsn is not None
    assert table.last_lsn is not None
    assert table.last_lsn.frame - table.first_lsn.frame > 20
    world.gate = LiveGate(world, step, steps=0)
    world.write("UPDATE t SET v = -1 WHERE id = (SELECT max(id) FROM t)")
    assert world.only().different == 1


def test_a_definition_that_changes_starts_the_table_over(world: World, small_slices: None) -> None:
    """A column that comes in the middle costs a restart, not a difference."""
    world.write("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    world.write("INSERT INTO t VALUES (?)", [(i,) for i in range(50)])
    world.mirror("t", {"id": "bigint"}, ["id"])
    changed = json.dumps([{"name": "id", "type": "bigint"}, {"name": "c", "type": "text"}])

    def step(number: int) -> tuple[str, str]:
        if number != 9:
            return (
                "INSERT INTO t (id) SELECT max(id) + 1 FROM t",
                "INSERT INTO t (id) SELECT max(id) + 1 FROM t",
            )
        return (
            "ALTER TABLE t ADD COLUMN c TEXT DEFAULT 'd'",
            f"ALTER TABLE t ADD COLUMN c text DEFAULT 'd'; UPDATE mirror.tables SET columns = '{changed}'",
        )

    world.gate = LiveGate(world, step, steps=20)
    table = world.only()
    assert (table.status, table.reason, table.source_rows) == ("equal", "", 69)


def test_a_definition_that_keeps_changing_is_not_checked(world: World) -> None:
    """Bounded restarts, then a clear answer."""
    world.write("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    world.mirror("t", {"id": "bigint"}, ["id"])

    def step(number: int) -> tuple[str, str]:
        columns = json.dumps([{"name": f"id{number}", "type": "bigint"}])
        name = "id" if number == 1 else f"id{number - 1}"
        rename = f"ALTER TABLE t RENAME COLUMN {name} TO id{number}"
        return rename, f"{rename}; UPDATE mirror.tables SET columns = '{columns}', key = '[\"id{number}\"]'"

    world.gate = LiveGate(world, step)
    table = world.only()
    assert (table.status, table.reason) == ("not checked", "schema kept changing")


def test_a_table_that_is_dropped_meanwhile(world: World, small_slices: None) -> None:
    """Gone on both sides at one position is equal."""
    world.write("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    world.write("INSERT INTO t VALUES (?)", [(i,) for i in range(50)])
    world.mirror("t", {"id": "bigint"}, ["id"])

    def step(number: int) -> tuple[str, str]:
        return "DROP TABLE t", "DROP TABLE t; DELETE FROM mirror.tables"

    gate = LiveGate(world, step, steps=0)
    world.gate = gate
    rounds = iter(range(100))
    table = world.only(progress=lambda name, rows: setattr(gate, "_left", int(next(rounds) == 3)))
    assert (table.status, table.reason) == ("equal", "dropped on both sides during the comparison")


def test_views_are_pinned_beside_a_writer_that_never_pauses(world: World) -> None:
    """The commit that a view is said to show is the commit that it shows, across WAL resets."""
    world.write("CREATE TABLE counter (n INT); INSERT INTO counter VALUES (0)")
    source = open_source(world.path)
    assert isinstance(source, WalSource)
    with source.view():
        pass
    wal = world.path.with_name(world.path.name + "-wal")
    writer = subprocess.Popen(
        [sys.executable, "-c", UNPACED_WRITER, str(world.path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "started\n"
        offsets: dict[Salts, list[int]] = {}
        while len(offsets) < 5 or sum(map(len, offsets.values())) <= 100:
            header = wal.read_bytes()[:32]
            for _ in range(30):
                with source.view() as commit:
                    [(number,)] = source._db.execute("SELECT n FROM counter")
                if commit.frame:
                    offsets.setdefault(commit.salts, []).append(number - commit.frame)
            # With no view open the writer can reset its WAL.
            until(lambda header=header: wal.read_bytes()[:32] != header, alive=lambda: writer.poll() is None)
    finally:
        writer.kill()
        writer.wait()
        source.close()
    # Each commit writes one frame, so within a generation the two go up together.
    assert all(len(set(seen)) == 1 for seen in offsets.values())


# -------------------------------------------------------------------------------------- failures


def unchecked(report: ParityReport) -> str:
    """The reason of a report that must be not checked."""
    assert (report.verdict, report.exit_code) == ("not checked", 2)
    assert all(table.status == "not checked" for table in report.tables)
    assert report.reason
    assert report.reason in report.headline
    assert report.next_steps
    return report.reason


def test_source_gone(world: World, tmp_path: Path) -> None:
    """No file, no verdict."""
    missing = tmp_path / "missing.db"
    assert "missing.db" in unchecked(compare(missing, world.conn, "public", world.gate))
    assert not missing.exists()


def test_not_a_database(world: World, tmp_path: Path) -> None:
    """Nor for a file of something else."""
    (tmp_path / "other.db").write_bytes(b"something else" * 1000)
    unchecked(compare(tmp_path / "other.db", world.conn, "public", world.gate))


def test_rollback_journal_mode(world: World) -> None:
    """No lock is taken; what was written meanwhile does not count."""
    world.write("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t VALUES (1, 'one'), (2, 'two')")
    world.mirror("t", {"a": "bigint", "b": "text"}, ["a"])
    world.write("PRAGMA journal_mode = delete")
    settled = []

    class WrittenGate(Gate):
        def settle(self) -> Lsn:
            """The first view is written into."""
            settled.append(len(settled))
            if len(settled) == 2:
                world.write("UPDATE t SET b = 'changed'")
                world.write("UPDATE t SET b = CASE a WHEN 1 THEN 'one' ELSE 'two' END")
                return Lsn(3, 13)
            return Lsn(3, 14)

    world.gate = WrittenGate()
    report = world.compare()
    assert (report.verdict, report.rows, report.longest_read) == ("equal", 2, 0.0)
    assert len(settled) == 6  # the list of tables took two tries
    world.pg("UPDATE t SET b = 'three' WHERE a = 2")
    assert world.only().different == 1


def test_source_not_mirrored(world: World) -> None:
    """No mirror of this source in this schema."""
    assert "no mirror" in unchecked(compare(world.path, world.conn, "elsewhere", world.gate))


def test_no_catalog(world: World) -> None:
    """Not a Postgres that a mirror has been at."""
    world.pg("DROP SCHEMA mirror CASCADE")
    assert "42P01" in unchecked(world.compare())


class BrokenGate(Gate):
    """Fails in one method after some rounds."""

    def __init__(self, method: str, after: int) -> None:
        super().__init__()
        self._method = method
        self._left = after

    def _count(self, method: str) -> None:
        if method == self._method:
            self._left -= 1
            if self._left < 0:
                raise ControlError("hold the mirror", "control.sock", "it has gone away")

    def hold(self) -> str:
        """Hold or fail."""
        self._count("hold")
        return super().hold()

    def reach(self, hold: str, salts: Salts, frame: int) -> Lsn:
        """Reach or fail."""
        self._count("reach")
        return super().reach(hold, salts, frame)

    def release(self, hold: str) -> None:
        """Release, and then perhaps fail."""
        super().release(hold)
        self._count("release")


@pytest.mark.parametrize("method", ["hold", "reach", "release"])
@pytest.mark.parametrize("after", [0, 3])
def test_gate_fails(world: World, small_slices: None, method: str, after: int) -> None:
    """Whichever call fails, whenever: not checked, and nothing is left held or open."""
    everything(world)
    world.pg("DELETE FROM everything")
    world.gate = BrokenGate(method, after)
    assert "gone away" in unchecked(world.compare())


def test_a_gate_that_fails_once(world: World) -> None:
    """The mirror came out behind the view, because it compared pages just then: it is asked once more."""
    everything(world)

    class Late(Gate):
        def reach(self, hold: str, salts: Salts, frame: int) -> Lsn:
            if self.holds == 2:
                raise ControlError("apply up to a position", detail="already behind it", retryable=True)
            return super().reach(hold, salts, frame)

    world.gate = Late()
    assert world.compare().verdict == "equal"


@pytest.mark.parametrize("method", ["hold", "reach"])
def test_what_can_help_is_tried_again_and_nothing_else(world: World, method: str) -> None:
    """Somebody else holds the mirror, for as long as we try, or for a moment; or it is no longer ours to ask."""
    everything(world)

    class Refusing(Gate):
        def __init__(self, error: MirrorError, times: int) -> None:
            super().__init__()
            self.error, self.left, self.asked = error, times, 0

        def _refuse(self, asked: str) -> None:
            if asked == method:
                self.asked += 1
                self.left -= 1
                if self.left >= 0:
                    raise self.error

        def hold(self) -> str:
            self._refuse("hold")
            return super().hold()

        def reach(self, hold: str, salts: Salts, frame: int) -> Lsn:
            self._refuse("reach")
            return super().reach(hold, salts, frame)

    for error, times, asked, verdict in (
        (SourceError("apply up to a position", detail="later", retryable=True), GATE_TRIES - 1, None, "equal"),
        (ControlError("hold the mirror", detail="later", retryable=True), 1_000, GATE_TRIES, "not checked"),
        (ControlError("hold the mirror", detail="never"), 1, 1, "not checked"),
        (SourceError("apply up to a position", detail="never"), 1, 1, "not checked"),
    ):
        gate = world.gate = Refusing(error, times)
        report = world.compare()
        assert report.verdict == verdict, report.to_json()
        assert asked is None or gate.asked == asked
        assert not gate.held


def test_another_position(world: World) -> None:
    """Postgres that is not where the mirror says it is proves nothing."""
    everything(world)
    world.gate.lsn = Lsn(3, 15)
    assert "3:14" in unchecked(world.compare())


def test_postgres_goes_away(world: World, small_slices: None) -> None:
    """A lost connection in the middle is not a difference."""
    everything(world)
    pid = world.conn.info.backend_pid
    with psycopg.connect(world.conn.info.dsn, autocommit=True) as admin:

        def kill(table: str, rows: int) -> None:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))

        report = compare(world.path, world.conn, "public", world.gate, progress=kill)
    assert "Postgres" in unchecked(report)
    assert not world.gate.held


def test_source_replaced(world: World, small_slices: None) -> None:
    """Another file under the same path is not compared with the mirror of the first."""
    everything(world)

    def replace(table: str, rows: int) -> None:
        copy = world.path.with_suffix(".copy")
        copy.write_bytes(world.path.read_bytes())
        os.replace(copy, world.path)

    assert "replaced" in unchecked(world.compare(progress=replace))


def test_a_connection_in_use(world: World) -> None:
    """Somebody else's transaction is left alone."""
    with world.conn.transaction():
        report = compare(world.path, world.conn, "public", world.gate)
        assert world.conn.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    assert "not idle" in unchecked(report)


def test_no_view_can_be_pinned(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded tries, then not checked."""
    monkeypatch.setattr("mirror.parity.views.VIEW_TRIES", 3)
    monkeypatch.setattr("mirror.parity.walheader.parse", lambda raw: None)
    assert "pin a read view" in unchecked(world.compare())


def test_progress_and_timing(world: World) -> None:
    """Progress is told per slice, and the longest read is short."""
    world.write("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    world.write("INSERT INTO t VALUES (?, ?)", [(i, f"value {i}") for i in range(50_000)])
    world.register("t", {"id": "bigint", "v": "text"}, ["id"])
    world.pg("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
    world.pg("INSERT INTO t SELECT i, 'value ' || i FROM generate_series(0, 49999) i")
    seen: list[tuple[str, int]] = []
    report = world.compare(progress=lambda table, rows: seen.append((table, rows)))
    assert report.verdict == "equal"
    assert report.rows == 50_000
    assert seen[-1] == ("t", 50_000)
    assert seen == sorted(seen)
    assert 0 < report.longest_read < 1


def test_a_connection_with_its_own_ways(world: World) -> None:
    """Not in autocommit, other placeholders, other rows: used all the same, and left as it was."""
    everything(world)
    with psycopg.connect(world.conn.info.dsn, row_factory=dict_row, cursor_factory=psycopg.RawCursor) as own:
        report = compare(world.path, own, "public", world.gate)
        assert (report.verdict, report.reason) == ("equal", "")
        assert not own.autocommit
        assert own.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
