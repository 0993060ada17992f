"""One table stops no other: what SQLite reads only with the program's help, and what Postgres cannot key."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.support.mirrors import MirrorProcess

#: A program with a collation and a function of its own.
PROGRAM = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.create_collation("mine", lambda a, b: (a.casefold() > b.casefold()) - (a.casefold() < b.casefold()))
db.create_function("its", 1, lambda value: value, deterministic=True)
db.execute("PRAGMA journal_mode=WAL")
db.execute("BEGIN")
for statement in sys.argv[2:]:
    db.execute(statement)
db.execute("COMMIT")
"""

MANY = [f"k{number}" for number in range(33)]
TABLES = (
    "CREATE TABLE plain(id INTEGER PRIMARY KEY, s TEXT)",
    "CREATE TABLE keyed(tag TEXT PRIMARY KEY COLLATE mine, usn INTEGER) WITHOUT ROWID",
    "CREATE TABLE beside(id INTEGER PRIMARY KEY, s TEXT COLLATE mine UNIQUE) WITHOUT ROWID",
    "CREATE TABLE rowid_key(tag TEXT PRIMARY KEY COLLATE mine, usn INTEGER)",
    "CREATE TABLE indexed(id TEXT PRIMARY KEY, s TEXT) WITHOUT ROWID",
    "CREATE INDEX by_its ON indexed(its(s)) WHERE its(s) > 'a'",
    "CREATE INDEX by_mine ON plain(s COLLATE mine)",
    f"CREATE TABLE wide({', '.join(MANY)}, v, PRIMARY KEY ({', '.join(MANY)}))",
)
ROWS = (
    "INSERT INTO plain VALUES (1, 'a'), (2, 'b')",
    "INSERT INTO keyed VALUES ('Verb', 1), ('noun', 2)",
    "INSERT INTO beside VALUES (1, 'Verb'), (2, NULL)",
    "INSERT INTO rowid_key VALUES ('Verb', 1), (NULL, 2)",
    "INSERT INTO indexed VALUES ('x', 'Verb'), ('y', NULL)",
    f"INSERT INTO wide VALUES ({', '.join('1' for _ in MANY)}, 'one'), ({', '.join('2' for _ in MANY)}, 'two')",
)
CHANGES = (
    "INSERT INTO plain VALUES (3, 'c')",
    "UPDATE keyed SET tag = 'VERB' WHERE usn = 1",
    "INSERT INTO keyed VALUES ('adverb', 3)",
    "UPDATE beside SET s = 'VERB' WHERE id = 1",
    "DELETE FROM rowid_key WHERE usn = 1",
    "UPDATE indexed SET s = 'b' WHERE id = 'y'",
    "UPDATE wide SET v = 'changed' WHERE k0 = 1",
    "DELETE FROM wide WHERE k0 = 2",
)


def program(database: Path, *statements: str) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, database, *statements], check=True)


def rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.few(1)
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
@pytest.mark.parametrize("live", [False, True], ids=["first copy", "made live"])
def test_what_only_the_program_has(
    make_mirror: Callable[..., MirrorProcess], database: Path, dsn: str, live: bool, encoding: str
) -> None:
    """A collation or a function in a key, a column or an index is no obstacle: no row is looked up by it."""
    with_encoding = subprocess.run(
        [sys.executable, "-c", "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]);"
         f"d.execute(\"PRAGMA encoding='{encoding}'\"); d.execute('CREATE TABLE first(x)')", database],
        check=True,
    )  # fmt: skip
    assert with_encoding.returncode == 0
    if not live:
        program(database, *TABLES, *ROWS)
    mirror = make_mirror(database)
    mirror.start()
    mirror.wait_applied()
    if live:
        program(database, *TABLES, *ROWS)
        mirror.wait_applied()
    program(database, *CHANGES)
    mirror.check()
    assert mirror.status()["refusals"] == []
    assert rows(dsn, "SELECT tag, usn FROM keyed ORDER BY usn") == [("VERB", 1), ("noun", 2), ("adverb", 3)]
    assert rows(dsn, "SELECT id, s FROM indexed ORDER BY id") == [("x", "Verb"), ("y", "b")]
    assert rows(dsn, "SELECT v FROM wide") == [("changed",)]
    # More than Postgres' 32 columns of a key: keyed by the rowid.
    assert rows(
        dsn,
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)"
        " WHERE i.indrelid = 'wide'::regclass AND i.indisprimary",
    ) == [("_rowid",)]


@pytest.mark.parametrize("live", [False, True], ids=["first copy", "made live"])
def test_a_table_that_cannot_be_keyed_or_compared(
    make_mirror: Callable[..., MirrorProcess], database: Path, dsn: str, live: bool
) -> None:
    """Without a rowid there is no other key, and it is refused by its true reason. Without a name for the rowid it is
    mirrored, but SQL cannot compare it. All other tables are equal."""
    tables = (
        TABLES[0],
        f"CREATE TABLE wide({', '.join(MANY)}, PRIMARY KEY ({', '.join(MANY)})) WITHOUT ROWID",
        f"INSERT INTO wide VALUES ({', '.join('1' for _ in MANY)})",
        "CREATE TABLE hidden(rowid TEXT, oid TEXT, _rowid_ TEXT)",
        "INSERT INTO hidden VALUES ('a', 'b', 'c')",
        ROWS[0],
    )
    program(database, *(() if live else tables))
    mirror = make_mirror(database)
    mirror.start()
    mirror.wait_applied()
    if live:
        program(database, *tables)
    program(database, "INSERT INTO plain VALUES (3, 'c')", "INSERT INTO hidden VALUES ('d', 'e', 'f')")
    mirror.wait_applied()
    [refusal] = mirror.status_when(lambda status: bool(status["refusals"]))["refusals"]
    assert (
        refusal["table"] == "wide"
        and "32 columns" in refusal["reason"]
        and "32 columns in its key" in refusal["next_step"]
    )
    assert rows(dsn, "SELECT rowid, oid, _rowid_, _rowid FROM hidden ORDER BY _rowid") == [
        ("a", "b", "c", 1),
        ("d", "e", "f", 2),
    ]
    report = {table.table: table for table in mirror.parity().tables}
    assert report["plain"].status == "equal"
    assert report["hidden"].status == "not checked" and "rowid is taken" in report["hidden"].reason
    assert report["wide"].status == "not mirrored" and report["wide"].refused
    mirror.stop()  # a comparison at the test's end would find them
