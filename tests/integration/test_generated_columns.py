"""Generated columns: stored ones are read, virtual ones are computed, and those that cannot be are reported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer

#: A program with a function of its own in a virtual column.
PROGRAM = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.create_function("double", 1, lambda value: value * 2, deterministic=True)
db.execute(sys.argv[2])
"""


def rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.few(2)
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
@pytest.mark.parametrize("kind", ["", "WITHOUT ROWID"])
def test_virtual_and_stored_columns(
    make_mirror: Callable[..., MirrorProcess], database: Path, dsn: str, encoding: str, kind: str
) -> None:
    """Wherever they stand among the others, in the first copy and after it."""
    with Writer(database) as writer:
        writer.run(f"PRAGMA encoding='{encoding}'", "PRAGMA journal_mode=WAL")
        writer.run(
            "CREATE TABLE t(up TEXT AS (upper(name)), name TEXT COLLATE NOCASE, size INT AS (length(name)) STORED,"
            " half REAL AS (n / 2.0) UNIQUE, id INTEGER PRIMARY KEY, n INTEGER CHECK (n <> 13),"
            " same GENERATED ALWAYS AS (name = 'ALICE') VIRTUAL, raw TEXT AS (CAST(blob AS TEXT)),"
            f" blob BLOB, big INTEGER AS (n * 3) NOT NULL) {kind}"
        )
        insert = "INSERT INTO t(id, name, n, blob) VALUES (?, ?, ?, ?)"
        writer.run((insert, (1, "Alice", 3, "ä".encode(encoding))), (insert, (2, "Bob\0x", 4, None)))
        mirror = make_mirror(database)
        mirror.start()
        mirror.wait_applied()
        writer.run(
            (insert, (3, "zo\u00eb \U0001f600", 5, b"\xff\xfe\xd8\x00\xd8")),
            (insert, (4, "plain", 6, None)),
            "UPDATE t SET name = 'alice', n = 7 WHERE id = 1",
            "DELETE FROM t WHERE id = 2",
        )
        mirror.check()
        assert rows(dsn, "SELECT id, up, size, half, n, same, big FROM t WHERE id <> 3 ORDER BY id") == [
            (1, "ALICE", 5, 3.5, 7, 1, 21),
            (4, "PLAIN", 5, 3.0, 6, 0, 18),
        ]


def test_virtual_columns_come_and_go(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """Every row has a value in a new virtual column at once, though no row was written."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, j TEXT)", """INSERT INTO t VALUES (1, '{"a": 5}'), (2, '{}')""")
    mirror.start()
    mirror.wait_applied()
    writer.run("ALTER TABLE t ADD COLUMN a INTEGER GENERATED ALWAYS AS (json_extract(j, '$.a')) VIRTUAL")
    writer.run("""INSERT INTO t(j) VALUES ('{"a": 7}')""")
    mirror.check()
    assert rows(dsn, "SELECT id, a FROM t ORDER BY id") == [(1, 5), (2, None), (3, 7)]
    writer.run("ALTER TABLE t RENAME COLUMN j TO doc", "ALTER TABLE t RENAME TO docs")
    mirror.check()
    assert rows(dsn, "SELECT id, a FROM docs ORDER BY id") == [(1, 5), (2, None), (3, 7)]
    writer.run("ALTER TABLE docs DROP COLUMN a", "INSERT INTO docs VALUES (9, 'no JSON')")
    mirror.check()
    assert rows(dsn, "SELECT * FROM docs WHERE id = 9") == [(9, "no JSON")]


def test_types_of_virtual_columns_widen(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, x, v INTEGER AS (x))", "INSERT INTO t(x) VALUES (1)")
    mirror.start()
    mirror.wait_applied()
    writer.run("INSERT INTO t(x) VALUES ('many')")
    mirror.check()
    assert rows(dsn, "SELECT v::text FROM t ORDER BY id") == [("1",), ('"many"',)]


@pytest.mark.few(1)
@pytest.mark.parametrize("running", [False, True])
def test_a_row_that_sqlite_cannot_compute(mirror: MirrorProcess, writer: Writer, dsn: str, *, running: bool) -> None:
    """A column added beside values that its expression fails on: no program can read that row any more."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, j TEXT)", "CREATE TABLE other(id INTEGER PRIMARY KEY)")
    writer.run("INSERT INTO t VALUES (1, '{\"a\": 1}'), (2, 'no JSON')")
    added = "ALTER TABLE t ADD COLUMN a AS (json_extract(j, '$.a'))"
    if running:
        mirror.start()
        mirror.wait_applied()
        writer.run(added)
    else:
        writer.run(added)
        mirror.start()
    writer.run("INSERT INTO other VALUES (1)")
    mirror.wait_applied()
    assert rows(dsn, "SELECT id, a FROM t") == [(1, 1)]
    [(reason, row)] = rows(dsn, "SELECT reason, row_data FROM mirror.rejects")
    assert "SQLite cannot compute it" in str(reason)
    assert row == '{"id":2,"j":"no JSON","a":{"error":"malformed JSON"}}'
    report = mirror.parity()
    assert report.verdict == "not checked"
    assert {table.table: table.status for table in report.tables} == {"t": "not checked", "other": "equal"}
    writer.run("UPDATE t SET j = '[]' WHERE id = 2")
    mirror.check()
    assert mirror.status()["rejects"] == 0


def test_columns_that_only_the_program_can_compute(
    make_mirror: Callable[..., MirrorProcess], writer: Writer, database: Path, dsn: str
) -> None:
    """They are left out, ``status`` and parity name them, and the rest of the table is mirrored and compared."""

    def program(sql: str) -> None:
        subprocess.run([sys.executable, "-c", PROGRAM, database, sql], check=True)

    program("CREATE TABLE t(id INTEGER PRIMARY KEY, n INT, twice INT AS (double(n)), w INT AS (n + 1))")
    program("INSERT INTO t(n) VALUES (1)")
    mirror = make_mirror(database)
    mirror.start()
    mirror.wait_applied()
    program("INSERT INTO t(n) VALUES (2)")
    mirror.wait_applied()
    assert rows(dsn, "SELECT * FROM t ORDER BY id") == [(1, 1), (2, 2)]
    assert mirror.status()["left_out"] == ["t.twice", "t.w"]
    [table] = mirror.parity().tables
    assert table.reason == "not compared, because only the program can compute it: twice, w"


def test_values_that_depend_on_the_version_of_sqlite(
    make_mirror: Callable[..., MirrorProcess], database: Path, dsn: str
) -> None:
    """The mirror's SQLite computes virtual columns: a real as text may be another text in another version."""
    with Writer(database) as writer:
        writer.run(
            "PRAGMA journal_mode=WAL",
            "CREATE TABLE v(id INTEGER PRIMARY KEY, r REAL, n INT, x TEXT, j TEXT, joined TEXT AS (r || ''),"
            " kept TEXT AS (r || '') STORED, typed TEXT AS (r * 2), cast_ AS (CAST(n AS TEXT)),"
            " named TEXT AS ('#' || id), lowered TEXT AS (lower(x)), twice AS (r * 2),"
            " part AS (json_extract(j, '$.a')), text_part TEXT AS (j ->> 'a'),"
            " year AS (strftime('%Y', x)), rounded REAL AS (round(r, 2)), alike AS (x LIKE 'a%'), long AS (length(x)),"
            " chosen AS (CASE WHEN r > 1 THEN coalesce(x, 'b') ELSE x END), shown AS (printf('%d', r)))",
            "CREATE TABLE s(k TEXT PRIMARY KEY, n INT, r REAL, one TEXT AS ('#' || n), other TEXT AS (k || r))"
            " STRICT, WITHOUT ROWID",
            "INSERT INTO v(r, n, x, j) VALUES (0.5, 1, '2024-01-02', '{\"a\": 1}')",
        )
        mirror = make_mirror(database)
        mirror.start()
        mirror.check()
        assert mirror.status()["by_version"] == [
            *("v.joined", "v.typed", "v.cast_", "v.text_part", "v.year", "v.rounded", "v.alike", "v.shown", "s.other"),
        ]
        assert mirror.status()["left_out"] == []
        writer.run("ALTER TABLE v DROP COLUMN joined")
        mirror.status_when(lambda status: "v.joined" not in status["by_version"] and "v.typed" in status["by_version"])
    assert rows(dsn, "SELECT kept, named FROM v") == [("0.5", "#1")]
