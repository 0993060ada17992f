"""The statements for rejected rows: each finds its row, and mends it, whatever tables, columns and keys are called."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from mirror.cli.mending import alike, find, key_columns, mend
from mirror.core.values import BadText, Value
from mirror.postgres.codecs import BAD_TEXT, NUL_TEXT, json_array, json_object


def in_json(names: list[str], row: list[Value]) -> dict[str, Any]:
    value = json.loads(json_object(names, row))
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(
    "key",
    [
        1,
        -(2**63),
        0.1,
        1e300,
        float("inf"),
        "it's",
        'quoted "so"',
        "two\nlines\tand a bell \a",
        "with\0NUL",
        "é\u2028😀",
        "",
        b"\x00\xff",
        b"",
    ],
)
@pytest.mark.parametrize("column", ["id", "select", 'odd "name', "it's", "späte Zeit", "rowid"])
def test_any_key_of_any_name(key: Value, column: str) -> None:
    table = 'a "table" of; it\'s'
    quoted_table, quoted = table.replace('"', '""'), column.replace('"', '""')
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute(f'CREATE TABLE "{quoted_table}"("{quoted}" PRIMARY KEY, body TEXT)')
        rows = [(key, "a\0b'c"), ("another", "a\0b'c")]
        db.executemany(f'INSERT INTO "{quoted_table}" VALUES (?, ?)', rows)
        names, row = key_columns([{"name": "k", "source": column}, {"name": "body"}], ["k"]), [key, "a\0b'c"]
        stored = in_json([column, "body"], row)
        values = json.loads(json_array([key]))
        statement = find(table, names, values, stored)
        assert statement is not None and statement.isprintable()
        assert db.execute(statement).fetchall() == [rows[0]]
        mended = mend(table, names, values, stored, f"body: {NUL_TEXT}")
        assert mended is not None and mended.isprintable()
        assert db.execute(mended).rowcount == 1
        assert db.execute(f'SELECT * FROM "{quoted_table}"').fetchall() == [(key, "ab'c"), rows[1]]


def test_text_that_is_not_utf8_by_rowid() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE t(rowid TEXT, body TEXT)")
        db.execute("INSERT INTO t VALUES ('x', CAST(x'61ff62' AS TEXT)), ('x', 'other')")
        row = in_json(["rowid", "body"], ["x", BadText(b"a\xffb")])
        assert find("t", key_columns([], None), [1], row) == 'SELECT * FROM "t" WHERE _rowid_ = 1;'
        statement = mend("t", None, {"rowid": 1}, row, f"body: {BAD_TEXT}")
        assert statement is not None
        db.execute(statement)
        assert db.execute("SELECT body FROM t").fetchall() == [("a\ufffdb",), ("other",)]


def test_a_key_of_text_that_is_not_utf8_and_of_several_columns() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE t(a TEXT, b INT, PRIMARY KEY (a, b))")
        db.execute("INSERT INTO t VALUES (CAST(x'61ff62' AS TEXT), 1), (CAST(x'61ff62' AS TEXT), 2)")
        names = key_columns([{"name": "a"}, {"name": "b"}], ["agent_id", "a", "b"])
        row, key = in_json(["a", "b"], [BadText(b"a\xffb"), 2]), json.loads(json_array([BadText(b"a\xffb"), 2]))
        statement = mend("t", names, key, row, f"a: {BAD_TEXT}")
        assert statement is not None
        db.execute(statement)
        assert db.execute("SELECT b FROM t WHERE a = 'a\ufffdb'").fetchall() == [(2,)]


def test_what_cannot_be_known() -> None:
    row = in_json(["id", "happened_at"], [1, "some day"])
    assert mend("t", ["id"], [1], row, "happened_at: a text that is not a time in ISO 8601") is None
    assert find("t", ["id"], [None], row) is None, "nothing equals NULL"
    assert find("t", ["id", "other"], [1], row) is None
    assert find("t", ["id"], [{"error": "no such function"}], row) is None
    assert find("a\ntable", ["id"], [1], row) is None, "no line could show its name"


_LONG: list[Value] = [
    "x" * 5000,
    "x" * 2500 + "y" + "x" * 2499,
    "x" * 2500 + "y" + "x" * 2490 + "z" + "x" * 8,
    "é'" * 2500,
    "x" * 4000 + "\0" + "x" * 999,
    "x" * 4001 + "\0" + "x" * 998,
    b"x" * 5000,
    b"x" * 4999 + b"\xff",
]


@pytest.mark.parametrize("at", range(len(_LONG)))
@pytest.mark.parametrize("columns", [["k"], ["k", "a b"]])
def test_a_key_too_long_to_be_pasted(at: int, columns: list[str]) -> None:
    """It is found, and mended, by parts that no other rejected row has."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute('CREATE TABLE t(k, "a b", body, PRIMARY KEY (k, "a b")) WITHOUT ROWID')
        keys = [[key, "short"][: len(columns)] for key in _LONG]
        db.executemany("INSERT INTO t VALUES (?, 'short', ?)", [(key, "a\0b") for key in _LONG])
        known = [json.loads(json_array(key)) for key in keys]
        others = [key for key in known if alike(key) == alike(known[at])]
        row = in_json([*columns, "body"], [*keys[at], "a\0b"])
        statement = find("t", columns, known[at], row, others)
        assert statement is not None and statement.isprintable() and len(statement) < 1000
        assert [found[0] for found in db.execute(statement)] == [_LONG[at]]
        mended = mend("t", columns, known[at], row, f"body: {NUL_TEXT}", others)
        if "\0" in str(_LONG[at]):
            assert mended is None, "not sure enough"
            return
        assert mended is not None and db.execute(mended).rowcount == 1
        assert db.execute("SELECT k FROM t WHERE body = 'ab'").fetchall() == [(_LONG[at],)]


def test_nothing_is_changed_by_parts_of_a_key_that_postgres_can_hold() -> None:
    """Another row may have the same parts, and is not rejected."""
    key, row = "\u2028" * 500, in_json(["k", "body"], ["\u2028" * 500, "a\0b"])
    assert find("t", ["k"], [key], row, [[key]]) is not None
    assert mend("t", ["k"], [key], row, f"body: {NUL_TEXT}", [[key]]) is None
