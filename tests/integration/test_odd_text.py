"""Text that is no text for Postgres, with NUL or not valid in its encoding, arrives without loss."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, remove
from tests.support.waiting import LIMIT


def odd(values: int, start: int = 0) -> list[str]:
    """Statements that insert so many rows, of which some have such text."""
    kinds = [
        'char(0) || \'{"kind": "tool"}\'',
        "CAST(x'68ff69' AS TEXT)",
        "'plain ' || char(9216)",
        "'a' || char(0)",
        "''",
        "NULL",
    ]
    return [
        f"INSERT INTO messages(role, content) VALUES ('r', {kinds[at % len(kinds)]})"
        for at in range(start, start + values)
    ]


def _messages(dsn: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT id, content, _original FROM messages ORDER BY id").fetchall()


TABLE = "CREATE TABLE messages(id INTEGER PRIMARY KEY, role TEXT, content TEXT)"


@pytest.mark.parametrize("before", [0, 3, 600])
def test_it_arrives(mirror: MirrorProcess, writer: Writer, dsn: str, before: int) -> None:
    """At the first copy and live, in single rows and in many; what is shown is readable, the rest is beside it."""
    writer.run(TABLE, *odd(before))
    mirror.start()
    writer.run(*odd(6, start=before))
    writer.transaction(*odd(600, start=before + 6))
    writer.transaction("UPDATE messages SET role = 's' WHERE id % 5 = 1", "DELETE FROM messages WHERE id % 11 = 7")
    mirror.check()
    first, second, third, *_ = _messages(dsn)
    assert first[1:] == ('␀{"kind": "tool"}', {"content": {"utf8": "AHsia2luZCI6ICJ0b29sIn0="}})
    assert second[1:] == ("h\ufffdi", {"content": {"text": "aP9p"}})
    assert third[1:] == ("plain ␀", None)
    assert mirror.status()["rejects"] == 0
    writer.run("UPDATE messages SET content = 'good'")
    mirror.check()
    assert {row[1:] for row in _messages(dsn)} == {("good", None)}


def test_utf16(mirror: MirrorProcess, database: Path, writer: Writer, dsn: str) -> None:
    """In a database of the other encoding, too."""
    writer.close()
    remove(database)
    with Writer(database) as other:
        other.run("PRAGMA encoding='UTF-16le'", "PRAGMA journal_mode=WAL", TABLE)
        other.run("INSERT INTO messages VALUES (1, 'r', CAST(x'6100d8' AS TEXT)), (2, 'r', CAST(x'00d8c300' AS TEXT))")
        mirror.start()
        other.run("INSERT INTO messages VALUES (3, 'r', CAST(x'00d86200' AS TEXT)), (4, 'r', 'n' || char(0) || 'l')")
        mirror.check()
        assert mirror.status()["rejects"] == 0


def test_many_kinds_in_one_column(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """A value that is no text at all turns the column into jsonb, whatever came first; nothing is lost on the way."""
    for table in ("a", "b", "c"):
        writer.run(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, v TEXT, w)")
    values = ["CAST(x'ff' AS TEXT)", "char(0) || 'x'", "x'00ff'", "'plain'"]
    for turn in range(4):
        if turn == 2:
            mirror.start()
        writer.run(*(f"INSERT INTO {table}(v, w) VALUES ({values[turn]}, {values[turn]})" for table in ("a", "b")))
    writer.run(*(f"INSERT INTO c(v, w) VALUES ({value}, {value})" for value in reversed(values)))
    mirror.check()
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "SELECT table_name, data_type FROM information_schema.columns WHERE column_name IN ('v', '_original')"
            " AND table_name IN ('a', 'b', 'c') ORDER BY 1"
        ).fetchall()
    assert found == [(table, "jsonb") for table in ("a", "b", "c")]
    assert mirror.status()["rejects"] == 0


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE messages SET content = 'x' WHERE id = 1",
        "UPDATE messages SET _original = NULL WHERE id = 2",
        """UPDATE messages SET _original = '{"content": "plain"}' WHERE id = 3""",
        """UPDATE messages SET _original = '{"content": {"utf8": "AA=="}}' WHERE id = 1""",
    ],
)
def test_what_queries_see_is_compared(mirror: MirrorProcess, writer: Writer, dsn: str, damage: str) -> None:
    """Neither what is shown nor what is kept can differ in silence."""
    writer.run(TABLE, *odd(4))
    mirror.start()
    mirror.check()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(damage.encode())
    assert mirror.parity().verdict == "different"
    with mirror.control() as control:
        control.repair(["messages"], LIMIT, replace=True)
    mirror.check()


@pytest.mark.few(1)
@pytest.mark.parametrize("at_first", [True, False])
@pytest.mark.parametrize("keyed", ["", " WITHOUT ROWID"])
def test_in_a_key(mirror: MirrorProcess, writer: Writer, dsn: str, at_first: bool, keyed: str) -> None:
    """A key with NUL arrives, and keys that look like it stay apart; one that is not valid is a reject."""
    writer.run(f"CREATE TABLE k(id TEXT PRIMARY KEY, v TEXT){keyed}", "INSERT INTO k VALUES ('a␀', 'x'), ('b', 'y')")
    odd_keys = "INSERT INTO k VALUES ('a' || char(0), 'z'), (char(0), '0'), ('a' || char(0) || 'b', NULL), ('a', '')"
    if at_first:
        writer.run(odd_keys)
    mirror.start()
    mirror.wait_applied()
    writer.run(*([] if at_first else [odd_keys]), "INSERT INTO k VALUES (CAST(x'ff' AS TEXT), char(0)), ('c', char(0))")
    mirror.check()
    assert mirror.status()["rejects"] == 1
    with psycopg.connect(dsn) as connection:
        found = connection.execute('SELECT v FROM k WHERE id = \'{"utf8": "YQA="}\'').fetchall()
    assert found == [("z",)]
    with mirror.control() as control:
        control.retry(LIMIT)
    mirror.check()
    writer.run("UPDATE k SET id = 'd' || char(0) WHERE id = 'b'", "DELETE FROM k WHERE id = 'a' || char(0)")
    writer.run("UPDATE k SET v = 'w' WHERE id = char(0)", "UPDATE k SET id = 'valid' WHERE CAST(id AS BLOB) = x'ff'")
    mirror.check()
    assert mirror.status()["rejects"] == 0
    writer.run("DELETE FROM k WHERE instr(id, char(0))")
    mirror.wait_applied()
    with mirror.control() as control:
        control.retry(LIMIT)
    mirror.check()
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT id FROM k ORDER BY id").fetchall() == [("a",), ("a␀",), ("c",), ("valid",)]


def test_the_order_of_such_keys(mirror: MirrorProcess, writer: Writer) -> None:
    """Compared in ranges of keys: both sides have one order, also beside numbers and blobs."""
    writer.run("CREATE TABLE k(a BLOB_OR_TEXT, b TEXT, v, PRIMARY KEY (a, b)) WITHOUT ROWID")
    rows = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 9000)"
    writer.run(
        f"{rows} INSERT INTO k SELECT CASE i % 4 WHEN 0 THEN i WHEN 1 THEN CAST(i AS BLOB) WHEN 2 THEN char(0) || i"
        " ELSE 'é' || i END, substr('a' || char(0, 1, 9216, 65536), i % 5 + 1) || i, i FROM c"
    )
    mirror.start()
    mirror.check()
    assert mirror.status()["rejects"] == 0
    writer.run("UPDATE k SET b = b || char(0) WHERE v % 7 = 0", "DELETE FROM k WHERE v % 11 = 0")
    mirror.check()


def test_definitions_change(mirror: MirrorProcess, writer: Writer) -> None:
    """The column is renamed, dropped, and there again."""
    writer.run(TABLE, *odd(6))
    mirror.start()
    writer.run("ALTER TABLE messages RENAME COLUMN content TO body", "ALTER TABLE messages ADD COLUMN content TEXT")
    writer.run(*odd(6))
    mirror.check()
    writer.run("ALTER TABLE messages DROP COLUMN body")
    mirror.check()
    writer.run("ALTER TABLE messages DROP COLUMN content", "ALTER TABLE messages ADD COLUMN content TEXT", *odd(6))
    mirror.check()
    writer.run("ALTER TABLE messages RENAME TO others")
    mirror.check()
    assert mirror.status()["refusals"] == []
