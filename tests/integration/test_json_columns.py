"""Columns declared JSON or JSONB hold documents in Postgres, and every value of SQLite's is still there to the bit."""

from __future__ import annotations

import json

import psycopg
import pytest

from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import LIMIT

Statement = str | tuple[str, tuple[object, ...]]

#: Values of a column declared JSON, and what Postgres must show: its type in jsonb, and the value as text.
VALUES: dict[str, tuple[object, str | None, str | None]] = {
    "compact": ('{"ok":true}', "object", '{"ok": true}'),
    "spaced": ('{"history": {"n": 1}, "ok": true}', "object", '{"ok": true, "history": {"n": 1}}'),
    "list": ('["a","b"]', "array", '["a", "b"]'),
    "string": ('"a text"', "string", "a text"),
    "true": ("true", "boolean", "true"),
    "null": ("null", "null", None),
    "no value": (None, None, None),
    "integer": (5, "number", "5"),
    "real": (1.5, "number", "1.5"),
    "large": (1e300, "number", "1" + "0" * 300),
    "infinite": (float("inf"), "object", '{"real": "Infinity"}'),
    "integer as text": ("5 e", "string", "5 e"),
    "no JSON": ("hello", "string", "hello"),
    "empty": ("", "string", ""),
    "Python's": ("{'a': None}", "string", "{'a': None}"),
    "NaN": ('{"a": NaN}', "string", '{"a": NaN}'),
    "twice": ('{"a":1,"a":2}', "object", '{"a": 2}'),
    "numbers": ("[1e2,1.10,-0.0,1E-3]", "array", "[100, 1.10, 0.0, 0.001]"),
    "accents": ('{"é":"\\u00e9\\ud83d\\ude00"}', "object", '{"é": "é😀"}'),
    "escaped NUL": ('["\\u0000"]', "string", '["\\u0000"]'),
    "half a pair": ('["\\ud83d"]', "string", '["\\ud83d"]'),
    "real key": ('{"real":"Infinity"}', "object", '{"real": "Infinity"}'),
    "blob key": ('{"blob":"AAAA"}', "object", '{"blob": "AAAA"}'),
    "NUL": ("\0structured", "object", '{"utf8": "AHN0cnVjdHVyZWQ="}'),
    "bytes": (b'{"t": 2}', "object", '{"t": 2}'),
    "other bytes": (b"\xff\x00", "object", '{"blob": "/wA="}'),
    "huge number": ("[1e5000]", "string", "[1e5000]"),
    "deep": ("[" * 600 + "]" * 600, "string", "[" * 600 + "]" * 600),
    "bad text": (None, "object", '{"text": "ew=="}'),
}


def _inserts(table: str) -> list[Statement]:
    made: list[Statement] = [
        (f"INSERT INTO {table}(name, v) VALUES (?, ?)", (name, value)) for name, (value, *_) in VALUES.items()
    ]
    return [*made, f"UPDATE {table} SET v = CAST(x'7bff' AS TEXT) WHERE name = 'bad text'"]


def _shown(dsn: str, table: str) -> dict[str, tuple[str | None, str | None]]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(f"SELECT name, jsonb_typeof(v), v #>> '{{}}' FROM {table}".encode()).fetchall()
    return {name: (kind, text) for name, kind, text in rows}


EXPECTED = {name: (kind, text) for name, (_, kind, text) in VALUES.items()} | {
    "bad text": ("object", '{"text": "e/8="}'),
}


@pytest.mark.few(1)
@pytest.mark.parametrize("declared", ["JSON", "jsonb"])
def test_documents(mirror: MirrorProcess, writer: Writer, dsn: str, declared: str) -> None:
    """The first copy and the live path store the same, and parity compares every value, and what queries see."""
    for table in ("a", "b"):
        writer.run(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, name TEXT, v {declared})")
    writer.run(*_inserts("a"))
    mirror.start()
    writer.run(*_inserts("b"))
    mirror.check()
    assert _shown(dsn, "a") == EXPECTED
    assert _shown(dsn, "b") == EXPECTED
    assert mirror.status()["rejects"] == 0
    writer.run("UPDATE a SET v = '[1]' WHERE name <> 'list'", "UPDATE b SET v = 'no' || id")
    mirror.check()
    assert _shown(dsn, "a")["NUL"] == ("array", "[1]")


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "damage",
    [
        """UPDATE a SET v = '{"ok": false}' WHERE name IN ('compact', 'spaced')""",
        """UPDATE a SET v = to_jsonb(v::text) WHERE name = 'spaced'""",
        """UPDATE a SET v = '"hallo"' WHERE name = 'no JSON'""",
        """UPDATE a SET _original = NULL WHERE name = 'no JSON'""",
        """UPDATE a SET _original = NULL WHERE name = 'spaced'""",
        """UPDATE a SET _original = '{"v": true}' WHERE name = 'compact'""",
        """UPDATE a SET v = '{"t": 3}' WHERE name = 'bytes'""",
        """UPDATE a SET v = NULL WHERE name = 'spaced'""",
        """UPDATE a SET v = '{"real": "-Infinity"}' WHERE name = 'infinite'""",
    ],
)
def test_what_queries_see_is_compared(mirror: MirrorProcess, writer: Writer, dsn: str, damage: str) -> None:
    """Neither the document nor its original can differ in silence."""
    writer.run("CREATE TABLE a(id INTEGER PRIMARY KEY, name TEXT, v JSON)", *_inserts("a"))
    mirror.start()
    mirror.check()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(damage.encode())
    assert mirror.parity().verdict == "different"
    with mirror.control() as control:
        control.repair(["a"], LIMIT, replace=True)
    mirror.check()


def test_definitions_change(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """Columns that are added, renamed, swapped and dropped keep their originals; the last one takes them with it."""
    writer.run("CREATE TABLE a(id INTEGER PRIMARY KEY, name TEXT)", "INSERT INTO a(name) VALUES ('old')")
    mirror.start()
    writer.run("""ALTER TABLE a ADD COLUMN v JSON DEFAULT '{"a": 1}'""", "ALTER TABLE a ADD COLUMN w JSON DEFAULT '[]'")
    writer.run(*_inserts("a"))
    mirror.check()
    writer.run("ALTER TABLE a RENAME COLUMN v TO x")
    mirror.check()
    writer.transaction(
        "ALTER TABLE a RENAME COLUMN x TO y", "ALTER TABLE a RENAME COLUMN w TO x", "ALTER TABLE a RENAME COLUMN y TO w"
    )
    mirror.check()
    writer.run("ALTER TABLE a DROP COLUMN w", "ALTER TABLE a ADD COLUMN w JSON")
    mirror.check()
    writer.run("ALTER TABLE a DROP COLUMN w", "ALTER TABLE a DROP COLUMN x")
    mirror.check()
    writer.run("ALTER TABLE a ADD COLUMN v JSON DEFAULT 'not JSON'", "UPDATE a SET v = '{ }' WHERE id = 1")
    mirror.check()
    assert mirror.status()["refusals"] == []


def test_names_and_keys(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """A column that is called as the mirror's is renamed; two texts of one document are two keys."""
    writer.run(
        "CREATE TABLE a(_original JSON, k JSON PRIMARY KEY) WITHOUT ROWID",
        """INSERT INTO a VALUES ('{"a": 1}', '{"a": 1}'), ('{"a":1}', '{"a":1}')""",
    )
    mirror.start()
    writer.run("CREATE TABLE b(x JSON PRIMARY KEY, _original TEXT)", "INSERT INTO b VALUES ('[ ]', 'x'), ('[]', 'y')")
    mirror.check()
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT k, _original_ ->> 'a' FROM a ORDER BY 1").fetchall()
    assert found == [('{"a": 1}', "1"), ('{"a":1}', "1")]


def test_declared_bytea(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """A column declared as bytes is bytea."""
    writer.run("CREATE TABLE a(id INTEGER PRIMARY KEY, v bytea, w VARBINARY(8))")
    writer.run("INSERT INTO a VALUES (1, x'00ff', x'01')")
    mirror.start()
    writer.run("INSERT INTO a VALUES (2, x'', NULL)")
    mirror.check()
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT v, w FROM a ORDER BY id").fetchall() == [(b"\0\xff", b"\1"), (b"", None)]


@pytest.mark.slow
def test_many_rows(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """So many that parity compares by digests."""
    writer.run("CREATE TABLE a(id INTEGER PRIMARY KEY, v JSON, w JSON)")
    writer.run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)"
        """ INSERT INTO a SELECT i, '{"a":' || i || '.50,"list":[1,null,"x"]}', CASE i % 3 WHEN 0 THEN i WHEN 1"""
        " THEN i * 0.5 ELSE json_array(i) END FROM n"
    )
    mirror.start()
    mirror.check()
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM a WHERE _original IS NOT NULL").fetchone() == (0,)
        assert connection.execute("SELECT v -> 'list' ->> 2 FROM a WHERE id = 9").fetchone() == ("x",)
    writer.run("UPDATE a SET v = json_set(v, '$.a', id) WHERE id % 7 = 0")
    mirror.check()


def test_expected_is_what_json_says() -> None:
    """The table of this module agrees with Python's reader where it says that a text is a document."""
    for name, (value, kind, _) in VALUES.items():
        if isinstance(value, str) and kind in ("object", "array") and "\0" not in value:
            assert json.loads(value) is not None, name
