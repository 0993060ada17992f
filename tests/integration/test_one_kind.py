"""A column with values of one kind that is not the declared one takes the type of that kind."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from mirror.parity import digests
from mirror.parity.digests import Choice
from mirror.parity.plan import MappedColumn
from mirror.parity.selected import converter, selected
from mirror.parity.target import Target as Postgres
from mirror.parity.values import same
from mirror.postgres.typed import encoder, original_member
from tests.differential.test_added_columns import shape_and_rows
from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import LIMIT
from tests.unit.test_kinds import times_of_all_kinds

#: By column: its declared type, SQL for its values, and the type that it has in Postgres.
COLUMNS = {
    "seconds": ("DATETIME", ("1700000000", "9223372036854775807", "NULL"), "bigint"),
    "day": ("DATE", ("'2024-01-01'", "'x'", "NULL"), "text"),
    "mtime": ("TIMESTAMP", ("1700000000.25", "1700000001", "-9007199254740992"), "double precision"),
    "mixed": ("TIMESTAMP", ("1700000000.25", "9007199254740993", "NULL"), "jsonb"),
    "reals": ("BLOB", ("1.0", "2.5", "-0.0"), "double precision"),
    "word": ("INTEGER", ("'one'", "'two'", "''"), "text"),
    "odd": ("INTEGER", ("'one'", "'a' || char(0)", "CAST(x'ff' AS TEXT)"), "text"),
    "data": ("TEXT", ("x'00'", "x''", "NULL"), "bytea"),
    "tf": ("BOOLEAN", ("'t'", "'f'", "NULL"), "boolean"),
    "words": ("BOOL", ("'FALSE'", "'TRUE'", "'TRUE'"), "boolean"),
    "spelt": ("BOOLEAN", ("'t'", "'F'", "NULL"), "text"),
    "count": ("BOOLEAN", ("0", "1", "7"), "bigint"),
    "both": ("BOOLEAN", ("0", "'t'", "NULL"), "jsonb"),
    "price": ("DECIMAL(5,2)", ("'n/a'", "NULL", "'?'"), "text"),
    "none": ("DATETIME", ("NULL", "NULL", "NULL"), "text"),
}
_DECLARED = ", ".join(f"{name} {kind}" for name, (kind, _, _) in COLUMNS.items())
MADE = f"CREATE TABLE t(id INTEGER PRIMARY KEY, {_DECLARED})"
ROWS = [
    f"INSERT INTO t VALUES ({at + 1}, {', '.join(values[at] for _, values, _ in COLUMNS.values())})" for at in range(3)
]
TYPES = {name: becomes for name, (_, _, becomes) in COLUMNS.items()}


def types(dsn: str, table: str = "t", schema: str = "public") -> dict[str, str]:
    with psycopg.connect(dsn) as connection:
        rows: list[tuple[str, str]] = connection.execute(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s AND table_schema = %s"
            " AND column_name NOT IN ('_original', '_rowid', 'id')",
            (table, schema),
        ).fetchall()
    return dict(rows)


def told_by_doctor(folder: Path, database: Path, dsn: str) -> dict[str, Any]:
    done = CommandLine(folder, dsn).run("doctor", database, "--json")
    columns = json.loads(done.out)["reports"][0]["columns"]
    return {column["column"]: column["becomes"] for column in columns if column["column"] != "id"}


def retry(mirror: MirrorProcess) -> None:
    mirror.wait_applied()
    with mirror.control() as control:
        control.retry(LIMIT)


def test_first_copy_and_what_follows(
    mirror: MirrorProcess, database: Path, folder: Path, writer: Writer, dsn: str
) -> None:
    """The doctor says before what the copy makes; restarts keep it; more of the kind is written live; parity holds."""
    writer.run(MADE, *ROWS)
    assert told_by_doctor(folder, database, dsn) == TYPES
    mirror.start()
    mirror.check()
    assert types(dsn) == TYPES and told_by_doctor(folder, database, dsn) == TYPES
    assert mirror.status()["widened"] == ["t.both", "t.mixed"] and mirror.status()["escaped"] == ["t.odd"]
    with psycopg.connect(dsn) as connection:
        shown = connection.execute("SELECT seconds, mtime, word, odd, tf, words FROM t WHERE id = 2").fetchone()
    assert shown == (2**63 - 1, 1700000001.0, "two", "a␀", False, True)
    writer.run(*(row.replace("VALUES (", "VALUES (10 + ") for row in ROWS), "UPDATE t SET tf = 't', words = 'FALSE'")
    mirror.check()
    mirror.stop()
    writer.run("UPDATE t SET seconds = 5, reals = 7.0", "DELETE FROM t WHERE id = 2")
    mirror.start()
    mirror.check()
    assert types(dsn) == TYPES


def test_the_same_in_digests(mirror: MirrorProcess, writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where parity compares digests, what such columns hold needs no comparison of rows."""
    writer.run(MADE, *ROWS, "CREATE TABLE shown(id INTEGER PRIMARY KEY, flag BOOLEAN, at TIMESTAMP)")
    writer.run("INSERT INTO shown VALUES (1, 'True', 1), (2, 'False', 0.25), (3, NULL, NULL)", "UPDATE t SET odd = 'x'")
    mirror.start()
    mirror.wait_applied()
    monkeypatch.setattr(Choice, "by_digest", lambda self: True)

    def no_rows(*_: object) -> None:
        raise AssertionError("rows were compared")

    monkeypatch.setattr(Postgres, "rows", no_rows)
    mirror.check()


def test_times_in_digests(dsn: str) -> None:
    """What Postgres makes of a time and its original is what parity makes of SQLite's value."""
    column = MappedColumn("v", "v", "timestamp with time zone", "moment")
    image = SQL("SELECT {}, sha256({}) FROM t").format(
        selected(column), SQL(digests.expression(column)).format(e=selected(column), c=Identifier("v"), v=SQL(""))
    )
    compared, convert = 0, converter(column)
    assert convert is not None
    with psycopg.connect(dsn) as connection:
        connection.execute("SET TimeZone = 'UTC'; CREATE TEMP TABLE t(v timestamptz, _original jsonb)")
        for value in times_of_all_kinds():
            encoded = encoder(column.pg_type, "moment")(value)
            member = original_member("moment", value, encoded)
            kept = None if member is None else f'{{"v": {member}}}'
            connection.execute("DELETE FROM t")
            connection.execute("INSERT INTO t VALUES (%s::timestamptz, %s::jsonb)", (encoded, kept))
            text, theirs = connection.execute(image).fetchone() or (None, None)
            assert same(convert(text), value), value
            mine = digests.digest_of([column], [(value,)])
            compared += mine is not None
            assert mine in (None, theirs), value
    assert compared > 200


def test_another_kind_comes_and_goes(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """Live it becomes jsonb, without loss; when it has gone, the column gets the type of its kind back."""
    writer.run(MADE, *ROWS)
    mirror.start()
    mirror.check()
    changed = [name for name, kind in TYPES.items() if kind != "jsonb"]
    for other in ("x'00'", "'text'", "5"):
        writer.run(f"INSERT INTO t({', '.join(changed)}) VALUES ({', '.join(other for _ in changed)})")
        mirror.check()
    assert set(types(dsn).values()) == {"jsonb"}
    with psycopg.connect(dsn) as connection:
        shown = connection.execute("SELECT mtime::text, tf::text, words::text FROM t WHERE id = 2").fetchone()
    assert shown == ("1700000001", '"f"', '"TRUE"')
    writer.run("DELETE FROM t WHERE id > 3")
    retry(mirror)
    assert types(dsn) == TYPES
    mirror.check()
    writer.run("DELETE FROM t")
    retry(mirror)
    assert types(dsn)["seconds"] == "text" and types(dsn)["tf"] == "boolean"
    writer.run(*ROWS)
    mirror.check()


@pytest.mark.few(1)
@pytest.mark.parametrize("keyed", ["", " WITHOUT ROWID"])
def test_keys(mirror: MirrorProcess, database: Path, folder: Path, writer: Writer, dsn: str, keyed: str) -> None:
    """A key has the type of its kind, too; ordered alike on both sides, by more rows than one comparison takes."""
    writer.run(f"CREATE TABLE t(at DATETIME NOT NULL, flag BOOLEAN NOT NULL, v, PRIMARY KEY (at, flag)){keyed}")
    numbers = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 9000)"
    writer.run(f"{numbers} INSERT INTO t SELECT i * 7919 % 100000, CASE i % 2 WHEN 0 THEN 't' ELSE 'f' END, i FROM c")
    assert told_by_doctor(folder, database, dsn) == {"at": "bigint", "flag": "text", "v": "bigint"}
    mirror.start()
    mirror.check()
    assert types(dsn) == {"at": "bigint", "flag": "text", "v": "bigint"}
    writer.run("UPDATE t SET at = -at WHERE at % 3 = 0", "DELETE FROM t WHERE flag = 't' AND at > 90000")
    mirror.check()
    writer.run("INSERT INTO t VALUES ('text', 't', 1), (5.5, 'f', 2), (x'00', 5, 3)")
    mirror.check()
    assert types(dsn) == {"at": "jsonb", "flag": "jsonb", "v": "bigint"}
    writer.run("DELETE FROM t WHERE v <= 3")
    retry(mirror)
    assert types(dsn) == {"at": "bigint", "flag": "text", "v": "bigint"}
    mirror.check()
    writer.run("DELETE FROM t")
    retry(mirror)
    mirror.check()


@pytest.mark.few(1)
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_copied_again(make_mirror: Callable[..., MirrorProcess], database: Path, dsn: str, encoding: str) -> None:
    """A copy of a file in which all values of a column are of another kind by now gives it that type."""
    with Writer(database) as writer:
        writer.run(f"PRAGMA encoding = '{encoding}'", "PRAGMA journal_mode=WAL")
        writer.run("CREATE TABLE t(k DATETIME PRIMARY KEY, a DATETIME, b BOOLEAN, c INTEGER)")
        writer.run("INSERT INTO t VALUES ('y2024', 'y2024', 1, 5), ('y2025', 'x', 0, 6)")
        mirror = make_mirror(database)
        mirror.start()
        mirror.check()
        assert types(dsn) == {"k": "text", "a": "text", "b": "boolean", "c": "bigint"}
        mirror.stop()
        shutil.rmtree(mirror.state_dir)
        writer.run("UPDATE t SET a = rowid, b = substr('tf', rowid, 1), c = 'n' || rowid, k = rowid")
        mirror.start()
        mirror.check()
        # What a key has cannot be converted to anything but jsonb.
        assert types(dsn) == {"k": "jsonb", "a": "bigint", "b": "boolean", "c": "text"}
        retry(mirror)
        assert types(dsn)["k"] == "bigint" and mirror.status()["refusals"] == []
        mirror.check()
        mirror.stop()
        shutil.rmtree(mirror.state_dir)
        writer.run("UPDATE t SET a = 'back', b = 1, c = 2")
        writer.run("ALTER TABLE t ADD COLUMN d DATETIME DEFAULT 5", "ALTER TABLE t ADD COLUMN e DATETIME DEFAULT 5")
        writer.run("ALTER TABLE t ADD COLUMN f INTEGER DEFAULT 'f'", "UPDATE t SET e = 'x', f = 1")
        mirror.start()
        mirror.check()
        found = types(dsn)
        assert found == {"k": "bigint", "a": "text", "b": "boolean", "c": "bigint", "d": "bigint"} | {
            name: found[name] for name in "ef"
        }
        retry(mirror)
        assert types(dsn) == found | {"e": "text", "f": "bigint"}
        mirror.check()


VALUES = ("NULL", "1", "0", "7", "9007199254740993", "0.5", "-0.0", "'t'", "'f'", "'TRUE'", "'x'", "x'00'", "char(0)")
DECLARED = (
    "DATETIME",
    "INTEGER",
    "REAL",
    "TEXT",
    "BLOB",
    "BOOLEAN",
    "DECIMAL",
    "VARCHAR(5)",
    "TIME",
    "NUMERIC",
    "UUID",
    "",
)


@pytest.mark.few(1)
@pytest.mark.parametrize("seed", range(2))
def test_live_and_first_copy_agree(
    make_mirror: Callable[..., MirrorProcess], database: Path, folder: Path, dsn: str, seed: int
) -> None:
    """Followed value by value and then narrowed, a table is what a first copy makes of it, and what the doctor says."""
    chance = random.Random(seed)
    with Writer(database) as writer:
        writer.run("PRAGMA journal_mode=WAL")
        columns = [f"c{at} {chance.choice(DECLARED)}" for at in range(60)]
        for table in ("a", "b"):
            key = ", PRIMARY KEY (c0, c1)" if table == "b" else ""
            writer.run(f"CREATE TABLE {table}(id INTEGER{'' if key else ' PRIMARY KEY'}, {', '.join(columns)}{key})")
        mirror = make_mirror(database)
        mirror.start()
        mirror.wait_applied()
        few = [chance.sample(VALUES, chance.choice((1, 2, 2, 3))) for _ in columns]
        for number in range(12):
            row = [chance.choice(values) for values in few]
            for table in ("a", "b"):
                writer.run(f"INSERT OR IGNORE INTO {table} VALUES ({number}, {', '.join(row)})")
        mirror.check()
        again = make_mirror(database, state="again", schema="again")
        again.start()
        again.check()
        retry(mirror)
        mirror.check()
    followed, copied = shape_and_rows(dsn, "public"), shape_and_rows(dsn, "again")
    assert len(followed) == 2
    assert followed == copied
    done = CommandLine(folder, None).run("doctor", database, "--json")
    told = {(c["table"], c["column"]): c["becomes"] for c in json.loads(done.out)["reports"][0]["columns"]}
    assert {(table, name): kind for table in ("a", "b") for name, kind in types(dsn, table, "again").items()} == {
        place: kind for place, kind in told.items() if place[1] != "id"
    }
