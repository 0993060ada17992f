"""Hazards of decoding: what is logged is pages, and not always those where the rows are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import psycopg
import pytest

from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer

SHELL = Path(apsw.__file__).parent / "sqlite_extra_binaries" / "sqlite3_shell"
#: A program that writes a few bytes in the middle of a large value, without an UPDATE.
BLOB_WRITER = """
import apsw, sys
database = apsw.Connection(sys.argv[1])
with database.blob_open("main", "t", "v", int(sys.argv[2]), True) as blob:
    blob.seek(int(sys.argv[3]))
    blob.write(b"changed")
"""


def rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


def fill(table: str, count: int, values: str) -> str:
    """An INSERT of ``count`` rows; ``values`` may use ``i``."""
    return (
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
        f" INSERT INTO {table} SELECT {values} FROM n"
    )


@pytest.mark.parametrize("secure", ["ON", "OFF", "FAST"])
def test_hazard_09_freed_pages_are_not_logged(mirror: MirrorProcess, writer: Writer, dsn: str, secure: str) -> None:
    """Emptying a table of a hundred pages logs three of them."""
    writer.run(f"PRAGMA secure_delete={secure}", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    writer.run("CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID", "CREATE TABLE n(v)")
    for table, values in (
        ("t", "i, hex(zeroblob(50))"),
        ("w", "'k' || i, hex(zeroblob(50))"),
        ("n", "hex(zeroblob(50))"),
    ):
        writer.run(fill(table, 4000, values))
    mirror.start()
    mirror.wait_applied()
    writer.run("DELETE FROM t", "DELETE FROM w WHERE k > 'k2'", "DELETE FROM n WHERE rowid BETWEEN 500 AND 3500")
    mirror.check()
    assert rows(dsn, "SELECT count(*) FROM t") == [(0,)]
    writer.run("DROP TABLE n")
    mirror.check()


def test_hazard_10_a_reused_page_holds_another_tables_dead_rows(
    mirror: MirrorProcess, writer: Writer, dsn: str
) -> None:
    writer.run("PRAGMA secure_delete=OFF", "CREATE TABLE a(id INTEGER PRIMARY KEY, v)")
    writer.run("CREATE TABLE b(id INTEGER PRIMARY KEY, v)", fill("a", 3000, "i, 'of a ' || i"))
    mirror.start()
    mirror.wait_applied()
    for turn in range(5):
        writer.transaction("DELETE FROM a", fill("b", 2500, f"i + {turn * 10_000}, 'of b'"))
        mirror.wait_applied()
        writer.transaction("DELETE FROM b WHERE id % 2", fill("a", 3000, "i, 'again of a ' || i"))
        mirror.check()


@pytest.mark.parametrize("size", [512, 4096, 65536])
def test_hazard_11_only_an_overflow_page_is_logged(
    make_mirror: Callable[..., MirrorProcess], database: Path, dsn: str, size: int
) -> None:
    """An incremental blob write, in the first, a middle and the last page of the chain."""
    with Writer(database) as writer:
        writer.run(f"PRAGMA page_size={size}", "PRAGMA journal_mode=WAL")
        writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, before TEXT, v BLOB)")
        length = size * 30
        writer.run(*(f"INSERT INTO t VALUES ({n}, 'x', zeroblob({length + n}))" for n in range(5)))
        mirror = make_mirror(database)
        mirror.start()
        mirror.wait_applied()
        for row, place in ((0, 2 * size), (3, length // 2), (4, length - 10), (0, length // 3)):
            subprocess.run([sys.executable, "-c", BLOB_WRITER, database, str(row), str(place)], check=True)
            mirror.wait_applied()
            query = f"SELECT substring(v FROM {place + 1} FOR 7) FROM t WHERE id = {row}"
            assert rows(dsn, query) == [(b"changed",)]
        mirror.check()
        assert mirror.status()["gaps"] == []


def test_hazard_12_rows_on_interior_pages_of_without_rowid_tables(mirror: MirrorProcess, writer: Writer) -> None:
    """Of 3,000 rows 90 or so; each is changed once, and half of them go."""
    writer.run("CREATE TABLE w(k TEXT PRIMARY KEY, n INT) WITHOUT ROWID", fill("w", 3000, "hex(i * 7919 % 3001), 0"))
    mirror.start()
    mirror.wait_applied()
    for part in range(10):
        writer.run(f"UPDATE w SET n = n + 1 WHERE unicode(substr(k, -1)) % 10 = {part}")
    writer.run("UPDATE w SET n = -1 WHERE k LIKE '3%'", "DELETE FROM w WHERE k LIKE '%3'")
    mirror.check()


def test_hazard_13_rebalancing_moves_rows_between_pages(mirror: MirrorProcess, writer: Writer) -> None:
    """Rows of very different sizes in random order: nearly each commit moves others about, and changes none of them."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", fill("t", 2000, "i * 1000, hex(randomblob(40))"))
    mirror.start()
    mirror.wait_applied()
    before = mirror.status()["rows"]
    for turn in range(150):
        key = turn * 7919 % 2000 * 1000
        writer.run(f"INSERT INTO t VALUES ({key + 1}, hex(randomblob({turn * 37 % 1500})))")
    for turn in range(150):
        writer.run(f"DELETE FROM t WHERE id = {turn * 104_729 % 2000 * 1000 + 1000}")
    mirror.check()
    assert mirror.status()["rows"] - before <= 300, "rows that only moved were written"


def test_hazard_14_vacuum_renumbers_rowids_and_moves_roots(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    for name, columns in (("a", "v"), ("b", "k TEXT PRIMARY KEY, v"), ("c", "id INTEGER PRIMARY KEY, v")):
        writer.run(f"CREATE TABLE {name}({columns})")
    writer.run(fill("a", 2000, "i"), fill("b", 2000, "'k' || i, i"), fill("c", 2000, "i, i"))
    mirror.start()
    mirror.wait_applied()
    writer.run("DELETE FROM a WHERE v % 2", "DELETE FROM b WHERE v % 2", "DELETE FROM c WHERE v % 2", "DROP TABLE b")
    writer.run("CREATE TABLE b(k TEXT PRIMARY KEY, v)", fill("b", 100, "'k' || i, i"), "VACUUM")
    mirror.check()
    assert rows(dsn, "SELECT max(_rowid) FROM a") == [(1000,)]


def test_hazard_15_add_column_logs_no_row(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """Old rows stay short; what they show is the default that the schema gives them."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", fill("t", 500, "i, i"))
    mirror.start()
    mirror.wait_applied()
    for column, default in (("a TEXT", "'x'"), ("b REAL", "3"), ("c", "x'00ff'"), ("d INTEGER", "-7"), ("e", "NULL")):
        writer.run(f"ALTER TABLE t ADD COLUMN {column} DEFAULT {default}")
        mirror.check()
    assert rows(dsn, "SELECT DISTINCT a, b, c::text, d, e::text FROM t") == [("x", 3.0, "\\x00ff", -7, None)]
    writer.run("UPDATE t SET a = 'y' WHERE id = 250")
    mirror.check()


@contextmanager
def store(path: Path, size: int, encoding: str, vacuum: str, reserved: int) -> Iterator[Writer]:
    """A database with these properties."""
    subprocess.run(
        [SHELL, path, f"PRAGMA page_size={size}; PRAGMA encoding='{encoding}'; PRAGMA auto_vacuum={vacuum};",
         f".filectrl reserve_bytes {reserved}", "CREATE TABLE made(x);", "VACUUM;", "PRAGMA journal_mode=WAL;"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert path.read_bytes()[20] == reserved
    with Writer(path) as writer:
        yield writer


@pytest.mark.parametrize(
    ("size", "encoding", "vacuum", "reserved"),
    [
        (512, "UTF-8", "NONE", 32),
        (512, "UTF-16be", "FULL", 0),
        (1024, "UTF-16le", "INCREMENTAL", 12),
        (4096, "UTF-16le", "FULL", 255),
        (8192, "UTF-16be", "NONE", 0),
        (65536, "UTF-8", "INCREMENTAL", 64),
        (65536, "UTF-16le", "FULL", 0),
    ],
)
def test_hazard_23_the_files_own_ways(
    make_mirror: Callable[..., MirrorProcess], database: Path, size: int, encoding: str, vacuum: str, reserved: int
) -> None:
    """Page size, reserved bytes, encoding; and pages behind the end, which a shrinking file leaves in the WAL."""
    with store(database, size, encoding, vacuum, reserved) as writer:
        writer.run("PRAGMA wal_autocheckpoint=0", "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, b BLOB)")
        writer.run("CREATE TABLE w(k TEXT, v, PRIMARY KEY (k, v)) WITHOUT ROWID")
        long = f"printf('%.*c', i * 37 % {3 * size}, 'ä\U0001f600')"
        writer.run(fill("t", 60, f"i, {long}, zeroblob(i * 11)"), fill("w", 200, "'schlüssel' || i, i * 0.5"))
        mirror = make_mirror(database)
        mirror.start()
        mirror.wait_applied()
        writer.run(fill("t", 60, f"i + 100, {long}, randomblob(i * 301 % {2 * size})"))
        writer.run("DELETE FROM t WHERE id % 3", "PRAGMA incremental_vacuum", "UPDATE t SET v = v || 'é' WHERE id > 50")
        mirror.check()
        writer.run("DELETE FROM t", "PRAGMA incremental_vacuum", "DELETE FROM w WHERE v > 3")
        mirror.check()
        writer.run(fill("t", 30, f"i, {long}, NULL"), "VACUUM")
        mirror.check()
        assert mirror.status()["gaps"] == []


def test_hazard_23_the_lock_page_of_a_file_over_one_gigabyte(
    make_mirror: Callable[..., MirrorProcess], database: Path, dsn: str
) -> None:
    """The page with the byte at 1 GiB is never used; a table lies on both sides of it."""
    with Writer(database) as writer:
        writer.run("PRAGMA page_size=65536", "PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF")
        writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", fill("t", 500, "i, zeroblob(3000)"))
        writer.run("CREATE TABLE filler(v)", "INSERT INTO filler VALUES (zeroblob(536000000)), (zeroblob(536000000))")
        writer.run(fill("t", 2000, "i + 1000, zeroblob(3000)"), "DROP TABLE filler", "PRAGMA journal_mode=WAL")
        assert database.stat().st_size > 1 << 30
        mirror = make_mirror(database)
        mirror.start()
        mirror.check()
        writer.run("UPDATE t SET v = zeroblob(2999) WHERE id % 3 = 0", "DELETE FROM t WHERE id % 3 = 1")
        writer.run("INSERT INTO t SELECT id + 5000, v FROM t WHERE id % 7 = 0")
        mirror.check()


def test_hazard_25_what_a_record_stores_is_not_what_the_row_shows(
    mirror: MirrorProcess, writer: Writer, dsn: str
) -> None:
    """Whole reals as integers, NULL for the rowid's alias, NULL in a TEXT key, short and computed columns."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, r REAL, n NUMERIC, two INT AS (n * 2), kept TEXT AS (r) STORED)")
    writer.run("CREATE TABLE k(k TEXT PRIMARY KEY, r REAL)", "INSERT INTO k VALUES (NULL, 1), (NULL, 2), ('a', 3)")
    insert = "INSERT INTO t(id, r, n) VALUES"
    writer.run(f"{insert} (1, 3, 3.0)", f"{insert} (-5, 1e15, 0.5)", f"{insert} (7, -0.0, 1)")
    mirror.start()
    mirror.check()
    writer.run(f"{insert} (2, 4, 4.0)", f"{insert} (8, 9007199254740993, 2)", "UPDATE t SET r = 5 WHERE id = -5")
    writer.run("UPDATE k SET r = 7 WHERE k IS NULL", "INSERT INTO k VALUES (NULL, 4)")
    mirror.check()
    assert rows(dsn, "SELECT id, r, n, two, kept FROM t WHERE id IN (2, -5) ORDER BY id") == [
        (-5, 5.0, 0.5, 1, "5.0"),
        (2, 4.0, 4, 8, "4.0"),
    ]


def test_hazard_26_virtual_tables_and_their_shadows_are_left_out(
    mirror: MirrorProcess, writer: Writer, dsn: str
) -> None:
    """Also those of a module that nobody here has loaded; a table that merely looks alike is mirrored."""
    writer.run(
        "CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)",
        "CREATE VIRTUAL TABLE words USING fts5(body, content='notes', content_rowid='id')",
        "CREATE VIRTUAL TABLE places USING rtree(id, x0, x1)",
        "CREATE TABLE words_seen(id INTEGER PRIMARY KEY)",
    )
    # As sqlite-vec leaves it: the shadow tables are ordinary ones to whoever has not loaded the module.
    for suffix in ("info", "chunks", "rowids", "vector_chunks00", "metadatachunks00"):
        writer.run(f"CREATE TABLE vectors_{suffix}(a, b)", f"INSERT INTO vectors_{suffix} VALUES (1, x'00')")
    writer.run("CREATE TABLE vectors_mine(a INTEGER PRIMARY KEY)", "PRAGMA writable_schema=ON")
    writer.run(
        "INSERT INTO sqlite_schema VALUES ('table', 'vectors', 'vectors', 0,"
        " 'CREATE VIRTUAL TABLE vectors USING vec0(embedding float[3])')",
        "PRAGMA writable_schema=RESET",
    )
    mirror.start()
    mirror.wait_applied()
    writer.run("INSERT INTO notes VALUES (1, 'hello')", "INSERT INTO words(rowid, body) VALUES (1, 'hello')")
    writer.run("INSERT INTO places VALUES (1, 0, 1)", "INSERT INTO vectors_rowids VALUES (2, x'01')")
    writer.run("INSERT INTO words_seen VALUES (1)", "INSERT INTO vectors_mine VALUES (1)")
    mirror.check()
    query = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"
    assert [name for (name,) in rows(dsn, query)] == ["notes", "vectors_mine", "words_seen"]
