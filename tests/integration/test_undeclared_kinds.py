"""A column of which the declared type says nothing takes the type of its values, if these are of one kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.integration.test_one_kind import retry, told_by_doctor, types
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer

#: Declared types that leave the type to the values, by a number that is part of the column's name.
FREE = (
    "UUID", "STRING", "ENUM", "MONEY", "YEAR", "BIT", "NUMBER", "NUMBER(10)", "INET", "XML", "LONG", "NVARBIT",
    "FOO", "", "JSONB", "ANY",
)  # fmt: skip
#: By kind: three values of it, and the type that a column of them has in Postgres.
KINDS = {
    "text": (("'a'", "'b'", "'ü'"), "text"),
    "integer": (("1", "-5", "9223372036854775807"), "bigint"),
    "real": (("0.5", "1e300", "-2.25"), "double precision"),
    "blob": (("x'00'", "x''", "x'616263'"), "bytea"),
    "both": (("1", "x'00'", "'a'"), "jsonb"),
}
#: Tables of one such column as their key.
SHAPES = {
    "key": "CREATE TABLE {t}(k {d} PRIMARY KEY, v {d})",
    "keyed": "CREATE TABLE {t}(k {d} PRIMARY KEY, v {d}) WITHOUT ROWID",
    "pair": "CREATE TABLE {t}(k {d} NOT NULL, v {d} NOT NULL, n INTEGER, PRIMARY KEY (k, v))",
    "plain": "CREATE TABLE {t}(id INTEGER PRIMARY KEY, k {d}, v {d})",
}


def statements() -> dict[str, tuple[str, list[str], dict[str, str]]]:
    """By table: how it is made, its rows, and the types that its columns have in Postgres."""
    made = {}
    for shape, definition in SHAPES.items():
        for number, declared in enumerate(FREE):
            for kind, (values, becomes) in KINDS.items():
                name = f"{shape}_{number}_{kind}"
                rows = [f"INSERT INTO {name}(k, v) VALUES ({value}, {value})" for value in values]
                # Documents keep being documents; and a whole number in a text is one for SQLite, where it may be.
                document = declared == "JSONB"
                key = "jsonb" if document and shape == "plain" else becomes
                value = "jsonb" if document and shape != "pair" else becomes
                made[name] = definition.format(t=name, d=declared), rows, {"k": key, "v": value}
    return made


def found(dsn: str, names: list[str], schema: str = "public") -> dict[str, dict[str, str]]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = %s AND column_name IN ('k', 'v')",
            (schema,),
        ).fetchall()
    columns: dict[str, dict[str, str]] = {name: {} for name in names}
    for table, column, kind in rows:
        if table in columns:
            columns[table][column] = kind
    return columns


@pytest.mark.slow
def test_first_copy_live_and_retry(make_mirror: Callable[..., MirrorProcess], database: Path, dsn: str) -> None:
    """Made by a first copy, by one transaction with its rows, and narrowed after its rows came later."""
    made = statements()
    wanted = {name: types_ for name, (_, _, types_) in made.items()}
    with Writer(database) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE first(id INTEGER PRIMARY KEY)")
        live = make_mirror(database)
        live.start()
        live.wait_applied()
        writer.transaction(*(text for name in made for text in (made[name][0], *made[name][1])))
        live.check()
        assert found(dsn, list(made)) == wanted
        copied = make_mirror(database, state="copied", schema="copied")
        copied.start()
        copied.check()
        copied.stop()
        assert found(dsn, list(made), "copied") == wanted
        writer.transaction(*(f"DROP TABLE {name}" for name in made))
        writer.transaction(*(definition for definition, _, _ in made.values()))
        live.check()
        writer.transaction(*(row for _, rows, _ in made.values() for row in rows))
        live.check()
        assert {kind for each in found(dsn, list(made)).values() for kind in each.values()} == {"jsonb"}
        retry(live)
        live.check()
        assert found(dsn, list(made)) == wanted


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        pytest.param(kind, shape, marks=() if at % 4 == number else pytest.mark.slow)
        for number, kind in enumerate(sorted(set(KINDS) - {"both"}))
        for at, shape in enumerate(sorted(SHAPES))
    ],
)
def test_another_kind_comes_and_goes(
    mirror: MirrorProcess, database: Path, folder: Path, writer: Writer, dsn: str, shape: str, kind: str
) -> None:
    """It becomes jsonb without loss, and has the type of its kind again later; the doctor says what Postgres has."""
    values, becomes = KINDS[kind]
    writer.run(SHAPES[shape].format(t="t", d="UUID"))
    insert = "INSERT INTO t(k, v) VALUES ({0}, {0})"
    writer.run(*(insert.format(value) for value in values))
    both = {"k": becomes, "v": becomes}

    def doctor() -> dict[str, str]:
        told = told_by_doctor(folder, database, dsn)
        return {name: told[name] for name in "kv"}

    def has() -> dict[str, str]:
        there = types(dsn)
        return {name: there[name] for name in "kv"}

    assert doctor() == both
    mirror.start()
    mirror.check()
    assert has() == both == doctor()
    others = [value for name, (some, _) in KINDS.items() if name not in (kind, "both") for value in some[:1]]
    writer.run(*(insert.format(value) for value in others))
    mirror.check()
    assert set(has().values()) == {"jsonb"} and has() == doctor()
    writer.run(*(f"DELETE FROM t WHERE typeof(k) <> '{kind}'",))
    mirror.check()
    assert set(doctor().values()) == {"jsonb"}
    retry(mirror)
    assert has() == both == doctor()
    mirror.check()
    writer.run("DELETE FROM t")
    retry(mirror)
    assert has() == both == doctor()
    writer.run(*(insert.format(value) for value in others))
    mirror.check()


def test_no_values_and_odd_texts(mirror: MirrorProcess, database: Path, folder: Path, writer: Writer, dsn: str) -> None:
    """Without a value it is jsonb; with text that Postgres has no form for, text; numbers of both kinds are doubles."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, n UUID, odd STRING, price MONEY, e)", "CREATE TABLE u(x UUID)")
    writer.run("INSERT INTO t VALUES (1, NULL, 'a' || char(0), 5, NULL), (2, NULL, CAST(x'ff' AS TEXT), 9.75, NULL)")
    wanted = {"n": "jsonb", "odd": "text", "price": "double precision", "e": "jsonb"}
    assert told_by_doctor(folder, database, dsn) == wanted | {"x": "jsonb"}
    mirror.start()
    mirror.check()
    assert types(dsn) == wanted and types(dsn, "u") == {"x": "jsonb"}
    assert told_by_doctor(folder, database, dsn) == wanted | {"x": "jsonb"}
    assert mirror.status()["escaped"] == ["t.odd"] and mirror.status()["widened"] == []
    writer.run("UPDATE t SET n = 'x', e = 'y', odd = 5")
    retry(mirror)
    assert types(dsn) == {"n": "text", "odd": "bigint", "price": "double precision", "e": "text"}
    mirror.check()


def test_added_columns_and_rebuilt_tables(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """A default says the kind; a value of another kind in the same transaction comes before it."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, u UUID)", "INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    mirror.start()
    mirror.check()
    writer.run("ALTER TABLE t ADD COLUMN a UUID DEFAULT 'd'")
    writer.transaction("ALTER TABLE t ADD COLUMN b UUID DEFAULT 'd'", "UPDATE t SET b = 5 WHERE id = 1")
    writer.run("ALTER TABLE t ADD COLUMN c UUID")
    mirror.check()
    assert types(dsn) == {"u": "text", "a": "text", "b": "jsonb", "c": "jsonb"}
    writer.transaction(
        "CREATE TABLE n(at DATETIME, u UUID, id INTEGER PRIMARY KEY)",
        "INSERT INTO n SELECT 1700000000, u, id FROM t",
        "DROP TABLE t",
        "ALTER TABLE n RENAME TO t",
    )
    mirror.check()
    assert types(dsn) == {"at": "bigint", "u": "text"}
