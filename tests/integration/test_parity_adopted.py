"""Parity of an application's own tables, in a real Postgres, filled by SQL that is written by hand here.

The types are Postgres'; what SQLite's values are in them is the vocabulary of ``mirror/core/adopted.py``. Nothing is
claimed here about what the mirror writes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import Any

import psycopg
import pytest

from mirror.core.adopted import Form
from mirror.parity import source as source_module
from mirror.parity.adopted import decoded
from mirror.parity.adopted_terms import Unfit
from mirror.parity.plan import MappedColumn
from mirror.parity.report import ColumnDifference, ColumnReport, TableReport
from mirror.parity.selected import converter, selected
from mirror.parity.shown import said
from mirror.parity.values import same
from tests.integration.test_parity import World, conn, small_slices, world, world16

__all__ = ["conn", "small_slices", "world", "world16"]

UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

#: By column: its type, its form, and SQL for the values of three rows in Postgres.
KINDS: dict[str, tuple[str, Form, tuple[str, str, str]]] = {
    "id": ("bigint", Form("int8"), ("1", "2", "3")),
    "tz": (
        "timestamptz",
        Form("timestamptz", zone="Europe/Berlin", unit="ms"),
        ("'2026-01-01 12:00:00.123456+00'", "'1969-12-31 23:59:57+00'", "'0001-01-01 00:00+00'"),
    ),
    "ts": (
        "timestamp(3)",
        Form("timestamp", digits=3),
        ("'2026-07-01 12:00'", "'9999-12-31 23:59:59.999'", "'2026-01-01 00:00:00.002'"),
    ),
    "d": ("date", Form("date", unit="s"), ("'2026-01-01'", "'0001-01-01'", "'1970-01-02'")),
    "t": ("time", Form("time"), ("'12:34'", "'23:59:59.999999'", "'00:00'")),
    "i": (
        "interval",
        Form("interval", unit="us"),
        ("'1 day 2 hours 0.5 seconds'", "'-3 microseconds'", "make_interval(secs => 5000000000.25)"),
    ),
    "u": ("uuid", Form("uuid"), (f"'{UUID}'", f"'{UUID}'", "'30313233-3435-3637-3839-616263646566'")),
    "b": ("boolean", Form("boolean"), ("true", "false", "true")),
    "n": ("numeric(12,2)", Form("numeric", precision=12, scale=2), ("12.50", "0.12", "-9999999999.99")),
    "n0": ("numeric", Form("numeric"), ("0.1", "1e300", "123456789012345678901234567890.5")),
    "i2": ("smallint", Form("int2"), ("1", "-32768", "32767")),
    "i4": ("integer", Form("int4"), ("1", "5", "2147483647")),
    "f4": ("real", Form("float4"), ("0.5", "0.1", "'infinity'")),
    "f8": ("double precision", Form("float8"), ("0.1", "'-0'", "5e-324")),
    "s": ("text", Form("text"), ("'é€😀'", "''", "E'a\\nb'")),
    "vc": ("varchar(3)", Form("varchar", length=3), ("'äöü'", "''", "'a  '")),
    "ch": ("char(5)", Form("char", length=5), ("'ab'", "'ab'", "''")),
    "by": ("bytea", Form("bytea"), ("'\\x00ff'", "'\\xc3a9'", "''")),
    "e": ('"App".mood', Form("enum", labels=("ok", "so so")), ("'ok'", "'so so'", "'ok'")),
    "ip": ("inet", Form("inet"), ("'10.0.0.1'", "'::1/64'", "'10.0.0.1/8'")),
    "net": ("cidr", Form("cidr"), ("'10.0.0.0/8'", "'::1/128'", "'0.0.0.0/0'")),
    "jb": (
        "jsonb",
        Form("jsonb"),
        ("""'{"a": 1.0, "b": [1e2, null]}'""", "'1e300'", """'{"x": "\\u00e9", "n": {"y": -0.5}}'"""),
    ),
    "js": ("json", Form("json"), ("""'{"b":  1,"a":1}'""", "'5'", "'[]'")),
    "mail": ('"App".email', Form("text"), ("'a@b'", "'b@c'", "'c@d'")),
    "ai": ("int[]", Form("array", element=Form("int4")), ("'{1,NULL,3}'", "'{{1,2},{3,4}}'", "'{}'")),
    "at": (
        "timestamptz[]",
        Form("array", element=Form("timestamptz")),
        ("'{2026-01-01 00:00+00}'", "'{NULL}'", "ARRAY['2026-01-01 01:00+01'::timestamptz, '1960-01-01 00:00+00']"),
    ),
    "af": ("float8[]", Form("array", element=Form("float8")), ("'{0.1,1}'", "NULL", "'{5e-324}'")),
    "ae": (
        '"App".mood[]',
        Form("array", element=Form("enum", labels=("ok", "so so"))),
        ("""'{ok,"so so"}'""", "'{}'", "'{ok}'"),
    ),
}  # fmt: skip

#: The same rows in SQLite.
ROWS: list[tuple[Any, ...]] = [
    (
        1, "2026-01-01T13:00:00.123456", "2026-07-01 12:00:00", "2026-01-01", "12:34", 93_600_500_000, UUID.upper(), 1,
        12.5, 0.1, 1, "1", 0.5, 0.1, "é€😀", "äöü", "ab", b"\x00\xff", "ok", "10.0.0.1", "10.0.0.0/8",
        '{"b": [100, null], "a": 1.0}', '{"b":  1,"a":1}', "a@b", "[1, null, 3]", '["2026-01-01"]', "[0.1, 1]",
        '["ok", "so so"]',
    ),
    (
        2, -3000, "9999-12-31 23:59:59.999", "0001-01-01T00:00", "23:59:59.999999", -3, UUID.replace("-", ""), "f",
        0.125, 1e300, -32768, 5.0, 0.1, -0.0, "", "", "ab   ", "é", "so so", "::1/64", "::1", 1e300, 5, "b@c",
        "[[1, 2], [3, 4]]", "[null]", "null", "[]",
    ),
    (
        3, "0001-01-01 01:00:00+01:00", "2026-01-01T00:00:00.0015Z", 86400, "00:00", 5_000_000_000_250_000,
        b"0123456789abcdef", 1.0, "-9999999999.99", "123456789012345678901234567890.50", 32767, 2147483647,
        float("inf"), 5e-324, "a\nb", "a  ", "", "", "ok", "10.0.0.1/8", "0.0.0.0/0",
        b'{"n":{"y":-0.5},"x":"\xc3\xa9"}', "[]", "c@d", "[]", '["2026-01-01T00:00Z", "1960-01-01"]', "[5e-324]",
        '["ok"]',
    ),
]  # fmt: skip

#: What is lost of these rows, as the forms declare.
LOST = {
    "ts": (("rounded to 3 places", 1),),
    "n": (("rounded to 2 places", 1),),
    "f4": (("rounded to a float4", 1),),
    "ch": (("without the blanks at their end", 1),),
    "jb": (("with an integer, where SQLite has a number with an exponent", 1),),
    "af": (("as NULL, where SQLite has a JSON null", 1),),
}


def values_of(row: int) -> str:
    """The values of a row, in SQL."""
    return ", ".join(in_postgres[row] for _, _, in_postgres in KINDS.values())


def register(world: World, table: str, columns: dict[str, tuple[str, Form]], key: list[str] | None) -> None:
    """Record the table as adopted; types as Postgres itself names them."""
    described = [
        {
            "name": name,
            "type": world.conn.execute(
                "SELECT format_type(a.atttypid, -1) FROM pg_attribute a"
                " WHERE attrelid = %s::regclass AND attname = %s", (f'"App".{table}', name)
            ).fetchone()[0],  # type: ignore[index]
            "codec": form.codec,
        }
        for name, (_, form) in columns.items()
    ]  # fmt: skip
    world.conn.execute(
        "INSERT INTO mirror.tables VALUES (7, %s, 'App', %s, %s, %s)",
        (table, table, json.dumps(described), json.dumps(key)),
    )


def adopt(
    world: World, table: str, columns: dict[str, tuple[str, Form]], key: list[str] | None, source: str = ""
) -> None:
    """Make the application's table, and one of SQLite's without types, or as ``source`` declares it."""
    world.pg('CREATE SCHEMA IF NOT EXISTS "App"')
    parts = [f'"{name}" {pg_type}' for name, (pg_type, _) in columns.items()]
    parts += ["_rowid bigint UNIQUE"] if key is None else [f"PRIMARY KEY ({', '.join(key)})"]
    world.pg(f'CREATE TABLE "App".{table} ({", ".join(parts)})')
    register(world, table, columns, key)
    world.write(source or f"CREATE TABLE {table} ({', '.join(columns)})")


@pytest.fixture
def everything(world: World) -> World:
    """A table with all kinds, as a migration makes it, and the same rows on both sides."""
    world.pg("""CREATE SCHEMA "App"; CREATE TYPE "App".mood AS ENUM ('ok', 'so so');
                CREATE DOMAIN "App".email AS text CHECK (VALUE LIKE '%@%')""")
    source = f"CREATE TABLE kinds (id INTEGER PRIMARY KEY, {', '.join(list(KINDS)[1:])})"
    adopt(world, "kinds", {name: (pg_type, form) for name, (pg_type, form, _) in KINDS.items()}, ["id"], source)
    world.write(f"INSERT INTO kinds VALUES ({', '.join('?' * len(KINDS))})", ROWS)
    world.write("INSERT INTO kinds (id) VALUES (4)")
    for row in range(3):
        world.pg(f'INSERT INTO "App".kinds VALUES ({values_of(row)})')
    world.pg('INSERT INTO "App".kinds (id) VALUES (4)')
    return world


def verdicts(table: TableReport) -> dict[str, str]:
    """The columns that are not simply equal."""
    return {column.column: column.verdict for column in table.columns if column.verdict != "equal"}


def test_equal_but_for_declared_losses(everything: World) -> None:
    """All kinds, in other spellings; what the forms declare as lost is counted, and is no difference."""
    report = everything.compare()
    [table] = report.tables
    assert (table.status, table.source_rows, table.target_rows, table.examples) == ("equal", 4, 4, ())
    assert {column.column: column.losses for column in table.columns if column.losses} == LOST
    assert verdicts(table) == dict.fromkeys(LOST, "equal but for loss")
    assert [column.column for column in table.columns] == list(KINDS)
    assert (report.exit_code, report.said) == (0, "equal but for 6 declared losses")
    assert table.source_digest == table.target_digest


def test_the_same_in_many_slices(everything: World, small_slices: None) -> None:
    """Losses are counted once."""
    table = everything.only()
    assert (table.status, table.lost, everything.gate.holds > 3) == ("equal", 6, True)


def test_what_is_not_declared_differs(everything: World) -> None:
    """Of each kind another value, in one row, is found, in its column alone; so is NULL in another."""
    others = {
        "tz": ("'2026-01-01 12:00:00.123457+00'", '"2026-01-01 12:00:00.123457+00:00"'),
        "ts": ("'2026-07-01 02:00'", '"2026-07-01 02:00:00"'),
        "d": ("'infinity'", "infinity (no value of SQLite)"),
        "t": ("'12:34:00.000001'", '"12:34:00.000001"'),
        "i": ("'1 month'", "1 months 0 days 0 microseconds (no value of SQLite)"),
        "u": ("'6ba7b811-9dad-11d1-80b4-00c04fd430c8'", '"6ba7b811-9dad-11d1-80b4-00c04fd430c8"'),
        "b": ("false", "false"),
        "n": ("'NaN'", "NaN (no value of SQLite)"),
        "n0": ("0.10000000000000001", '"0.10000000000000001"'),
        "i2": ("2", "2"),
        "i4": ("-1", "-1"),
        "f4": ("0.50000006", "0.5000000596046448"),
        "f8": ("0.1::float8 + 1e-16", "0.1000000000000001"),
        "s": ("'é€'", '"é€"'),
        "vc": ("'äöu'", '"äöu"'),
        "ch": ("'Ab'", '"Ab"'),
        "by": ("'\\x00fe'", "x'00fe'"),
        "e": ("'so so'", '"so so"'),
        "ip": ("'10.0.0.1/8'", '"10.0.0.1/8"'),
        "net": ("'10.0.0.0/9'", '"10.0.0.0/9"'),
        "jb": ("""'{"a": 1, "b": [100, null]}'""", '"{\\"a\\":1,\\"b\\":[100,null]}"'),
        "js": ("""'{"b": 1,"a":1}'""", '"{\\"b\\": 1,\\"a\\":1}"'),
        "mail": ("'a@B'", '"a@B"'),
        "ai": ("'[0:2]={1,NULL,3}'", '"[0:2]{1, null, 3}"'),
        "at": ("'{2026-01-01 00:00:00.000001+00}'", '"[1:1]{1767225600000001}"'),
        "af": ("'{{0.1,1}}'", '"[1:1][1:2]{0.1, 1.0}"'),
        "ae": ("'{so so,ok}'", '"[1:2]{\\"so so\\", \\"ok\\"}"'),
    }
    assert [*others] == [*KINDS][1:]
    for name, (value, shown) in others.items():
        everything.pg(f'UPDATE "App".kinds SET {name} = {value} WHERE id = 1')
        table = everything.only()
        [example] = table.examples
        [found] = example.columns
        assert (table.status, table.different, found.column) == ("different", 1, name)
        assert said(found.target_value) == shown, name
        place = list(KINDS).index(name)
        wanted = ROWS[0][place]
        assert found.source_value == wanted or isinstance(wanted, bytes), name
        assert verdicts(table)[name] == "different"
        everything.pg(f'UPDATE "App".kinds SET {name} = {KINDS[name][2][0]} WHERE id = 1')
    assert everything.only().status == "equal"
    for name in [*KINDS][1:]:
        everything.pg(f'UPDATE "App".kinds SET {name} = NULL WHERE id = 3')
    table = everything.only()
    assert (table.status, table.different, len(table.examples[0].columns)) == ("different", 1, len(KINDS) - 1)


def test_types_that_were_altered(everything: World) -> None:
    """An enum is known by its schema, a varchar by its name; other types are found before a row is compared."""
    everything.pg("CREATE SCHEMA other; CREATE TYPE other.mood AS ENUM ('ok', 'so so')")
    everything.pg('ALTER TABLE "App".kinds ALTER e TYPE other.mood USING e::text::other.mood')
    table = everything.only()
    assert (table.status, table.reason) == ("different", 'the column e is other.mood in Postgres, not "App".mood')
    everything.pg('ALTER TABLE "App".kinds ALTER e TYPE "App".mood USING e::text::"App".mood, ALTER vc TYPE text')
    assert everything.only().reason == "the column vc is text in Postgres, not character varying"
    everything.pg('ALTER TABLE "App".kinds ALTER vc TYPE varchar(20), ALTER n TYPE numeric(20, 4)')
    assert everything.only().status == "equal"


# ------------------------------------------------------------------------------------------- rejects

PRICES = {"id": ("int", Form("int4")), "price": ("numeric(5,2)", Form("numeric", precision=5, scale=2))}


def test_a_row_that_does_not_fit_is_a_reject(world: World) -> None:
    """It is not in Postgres; a reject that is missing, and a row that is there after all, are differences."""
    adopt(world, "prices", PRICES, ["id"], "CREATE TABLE prices (id INTEGER PRIMARY KEY, price)")
    world.write("INSERT INTO prices VALUES (?, ?)", [(1, 1.005), (2, "cheap"), (3, 1000), (2**31, 1.005)])
    world.pg('INSERT INTO "App".prices VALUES (1, 1.0)')
    for key in ("[2]", "[3]", "[2147483648]"):
        table = world.only()
        assert table.status == "different" and table.missing > 0
        world.reject("prices", key)
    report = world.compare()
    [table] = report.tables
    assert (table.status, table.rejected, table.missing, report.exit_code) == ("equal except rejects", 3, 0, 4)
    assert table.columns == (ColumnReport("id"), ColumnReport("price", (("rounded to 2 places", 1),)))
    world.pg('INSERT INTO "App".prices VALUES (3, 999.99)')
    table = world.only()
    [example] = table.examples
    assert (table.status, table.different, table.rejected, example.key) == ("different", 1, 2, [3])
    assert example.columns == (ColumnDifference("price", 1000, "999.99"),)
    world.pg('DELETE FROM "App".prices')
    table = world.only()
    assert (table.missing, table.rejected, [each.key for each in table.examples]) == (1, 3, [[1]])


# --------------------------------------------------------------------------------------- keys and order


@pytest.mark.parametrize("slices", ["one slice", "many slices"])
def test_uuid_keys(world: World, monkeypatch: pytest.MonkeyPatch, slices: str) -> None:
    """In one form they have SQLite's order in Postgres, so that ranges of them are compared."""
    if slices != "one slice":
        monkeypatch.setattr(sys.modules["mirror.parity.compare"], "READ_SECONDS", 0.0)
        monkeypatch.setattr(source_module, "WHOLE_SECONDS", -1.0)
    columns = {"id": ("uuid", Form("uuid", only="hex")), "s": ("text", Form("text"))}
    adopt(world, "things", columns, ["id"], "CREATE TABLE things (id CHAR(32) PRIMARY KEY, s TEXT)")
    ids = [f"{at * 0x1234567890ABCDEF1234567:032x}" for at in range(1, 30)]
    world.write("INSERT INTO things VALUES (?, ?)", [(one, str(at)) for at, one in enumerate(ids)])
    world.write("INSERT INTO things VALUES (?, 'a')", [(UUID,), ("zzz",)])
    for at, one in enumerate(ids):
        world.pg('INSERT INTO "App".things VALUES (%s, %s)', one, str(at))
    world.reject("things", json.dumps([UUID]))
    world.reject("things", '["zzz"]')
    assert world.only().status == "equal except rejects"
    assert world.only(sample=5).status in ("equal", "equal except rejects")
    world.pg('UPDATE "App".things SET s = %s WHERE id = %s', "x", ids[7])
    world.pg('INSERT INTO "App".things VALUES (%s)', UUID)
    table = world.only()
    assert (table.different, table.extra) == (1, 1)
    assert {(example.kind, example.key[0]) for example in table.examples} == {("different", ids[7]), ("extra", UUID)}


def test_keys_of_an_index_and_of_the_rowid(world: World, small_slices: None) -> None:
    """Without a primary key in SQLite, a unique index of it gives the order; or the rowid, kept in Postgres."""
    columns = {"a": ("varchar(9)", Form("varchar", length=9)), "b": ("int", Form("int4"))}
    adopt(world, "pairs", columns, ["a", "b"], "CREATE TABLE pairs (a, b, UNIQUE (a, b))")
    adopt(world, "loose", columns, None)
    rows = [("x", 1), ("x", 2), ("y", 1), ("Z", 1), ("ä", 5)]
    for table in ("pairs", "loose"):
        world.write(f"INSERT INTO {table} VALUES (?, ?)", rows)
    for at, row in enumerate(rows):
        world.pg('INSERT INTO "App".pairs VALUES (%s, %s)', *row)
        world.pg('INSERT INTO "App".loose VALUES (%s, %s, %s)', *row, at + 1)
    assert {table.status for table in world.compare().tables} == {"equal"}
    assert world.gate.holds > 5
    world.pg("""DELETE FROM "App".pairs WHERE a = 'Z'; UPDATE "App".loose SET b = 7 WHERE _rowid = 3""")
    loose, pairs = world.compare().tables
    assert (pairs.missing, pairs.different, loose.different, loose.examples[0].key) == (1, 0, 1, [3])


def test_keys_without_an_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is compared as a whole, with its columns; of two spellings of one key one is a reject."""
    columns = {"at": ("timestamptz", Form("timestamptz")), "b": ("real", Form("float4")), "c": ("int", Form("int4"))}
    adopt(world, "moments", columns, ["at"], "CREATE TABLE moments (at PRIMARY KEY, b, c)")
    rows: list[tuple[Any, ...]] = [("2026-01-01", 0.1, 1), ("2026-01-01T00:00Z", 0.5, 1), ("1960-01-01", 0.5, 2)]
    world.write("INSERT INTO moments VALUES (?, ?, ?)", [*rows, ("soon", 1, 1), (None, 1, 1), ("2027-01-01", 1, "x")])
    world.pg("INSERT INTO \"App\".moments VALUES ('2026-01-01Z', 0.1, 1), ('1960-01-01Z', 0.5, 2)")
    table = world.only()
    assert (table.status, table.missing, table.extra, table.different) == ("different", 4, 0, 0)
    for key in ('["2026-01-01T00:00Z"]', '["soon"]', "[null]", '["2027-01-01"]'):
        world.reject("moments", key)
    table = world.only()
    assert (table.status, table.rejected) == ("equal except rejects", 4)
    assert table.columns[1] == ColumnReport("b", (("rounded to a float4", 1),))
    world.pg('UPDATE "App".moments SET c = 9 WHERE c = 2; INSERT INTO "App".moments VALUES (\'2000-01-01Z\')')
    table = world.only()
    assert (table.different, table.extra, table.rejected) == (1, 1, 4)
    assert verdicts(table) == {"b": "equal but for loss", "c": "different"}
    assert [each.key for each in table.examples if each.kind == "extra"] == [["2000-01-01 00:00:00+00:00"]]
    monkeypatch.setattr(source_module, "WHOLE_BYTES", 100)
    table = world.only()
    assert table.status == "not checked" and "too large for one short read" in table.reason


@pytest.mark.parametrize("encoding", ["world", "world16"])
def test_a_key_that_is_a_text_in_sqlite_alone(
    request: pytest.FixtureRequest, encoding: str, small_slices: None
) -> None:
    """It is taken, and has another order: the table is read as a whole then."""
    world: World = request.getfixturevalue(encoding)
    adopt(world, "prices", PRICES, ["id"], "CREATE TABLE prices (id PRIMARY KEY, price)")
    world.write("INSERT INTO prices VALUES (?, ?)", [(9, 1), (10, 1), ("7", 1), (b"", 1)])
    world.pg('INSERT INTO "App".prices VALUES (7, 1), (9, 1), (10, 1)')
    world.reject("prices", '[{"blob":""}]')
    table = world.only()
    assert (table.status, table.source_rows, table.rejected) == ("equal except rejects", 4, 1)


def test_generated_columns_and_unknown_forms(world: World) -> None:
    """What Postgres computes is not compared, which is said; an unknown zone is not a difference."""
    source = "CREATE TABLE prices (id INTEGER PRIMARY KEY, price, twice AS (price * 2), thrice AS (price * 3) STORED)"
    adopt(world, "prices", PRICES, ["id"], source)
    world.write("INSERT INTO prices VALUES (1, 2)")
    world.pg('ALTER TABLE "App".prices ADD twice numeric GENERATED ALWAYS AS (price * 2) STORED')
    world.pg('INSERT INTO "App".prices VALUES (1, 2)')
    table = world.only()
    assert (table.status, table.reason) == ("equal", "not compared, because Postgres computes it: twice, thrice")
    codec = json.dumps(Form("timestamptz", zone="Mars/Base").codec)
    world.pg("UPDATE mirror.tables SET columns = jsonb_set(columns, '{1,codec}', %s)", codec)
    table = world.only()
    assert (table.status, table.reason) == ("not checked", "unknown form of price: unknown time zone Mars/Base")


# --------------------------------------------------------------------------------- Postgres' own reading


def _document(random: Random, depth: int = 0) -> Any:
    match random.randrange(8 if depth < 3 else 6):
        case 0:
            return random.choice((None, True, False))
        case 1 | 2:
            return random.randrange(-(10**20), 10**20)
        case 3:
            return random.uniform(-1, 1) * 10.0 ** random.randrange(-300, 300)
        case 4 | 5:
            return "".join(random.choices('aé😀"\\/\n\t\x7f\u2028 ', k=random.randrange(5)))
        case 6:
            return [_document(random, depth + 1) for _ in range(random.randrange(4))]
        case _:
            names = random.choices(["a", "b", "aa", "é", "", "\\"], k=random.randrange(4))
            return {name: _document(random, depth + 1) for name in names}


def _decimal(random: Random) -> str:
    digits = "".join(random.choices("0123456789", k=random.randrange(1, 30)))
    point = random.randrange(len(digits))
    text = f"{digits[:point] or '0'}.{digits[point:]}" if random.random() < 0.7 else digits
    exponent = random.choice(("", "", f"e{random.randrange(-50, 50)}"))
    return random.choice(("", "-")) + text + exponent


def _double(random: Random) -> float:
    number = random.choice((random.uniform(-2, 2), random.randrange(10**9) / 64, 1.0))
    return float(number * 2.0 ** random.randrange(-140, 120))


def _time(random: Random) -> str:
    day = f"{random.randrange(1, 9999):04}-{random.randrange(1, 13):02}-{random.randrange(1, 29):02}"
    clock = f"{random.randrange(24):02}:{random.randrange(60):02}:{random.randrange(60):02}"
    return f"{day}{random.choice(' T')}{clock}.{random.randrange(10**6):06}"


def _address(random: Random) -> str:
    if random.random() < 0.5:
        address, most = str(IPv4Address(random.randrange(2**32))), 32
    else:
        address, most = str(IPv6Address(random.choice((random.randrange(2**128), random.randrange(2**20))))), 128
    return address + random.choice(("", f"/{random.randrange(most + 1)}"))


@pytest.mark.parametrize(
    ("form", "make", "cast"),
    [
        (Form("jsonb"), lambda random: json.dumps(_document(random)), "%s::text::jsonb"),
        (Form("numeric"), _decimal, "%s::text::numeric"),
        (Form("float4"), _double, "%s::float8::real"),
        (Form("float8"), _double, "%s::float8"),
        (Form("inet"), _address, "%s::text::inet"),
        (Form("uuid"), lambda random: f"{random.randrange(2**128):032X}", "%s::text::uuid"),
        (Form("timestamptz"), _time, "%s::text::timestamp AT TIME ZONE 'UTC'"),
        (Form("timestamptz", zone="America/St_Johns"), _time, "%s::text::timestamp AT TIME ZONE 'America/St_Johns'"),
        (
            Form("timestamp", zone="Asia/Tehran"),
            lambda random: _time(random) + random.choice(("Z", "+05:45", "-1130")),
            "%s::text::timestamptz AT TIME ZONE 'Asia/Tehran'",
        ),
        (Form("date"), lambda random: _time(random)[:10], "%s::text::date"),
        (Form("time"), lambda random: _time(random)[11:], "%s::text::time"),
        (
            Form("interval", unit="clock"),
            lambda random: f"{random.randrange(10**6)} days, {_time(random)[11:]}",
            "%s::text::interval",
        ),
    ],
)
def test_values_as_postgres_reads_them(
    conn: psycopg.Connection[Any], form: Form, make: Callable[[Random], Any], cast: str
) -> None:
    """Where Postgres' own conversion is the right one, the decoder gives what is selected for its outcome."""
    random = Random(19)
    values = [make(random) for _ in range(300)]
    column = MappedColumn("v", "v", "any", form.codec)
    convert = converter(column)
    selection = selected(column).as_string(conn)
    cells = [row[0] for row in decoded([column], [(value,) for value in values]).rows]
    compared = 0
    for value, cell in zip(values, cells, strict=True):
        if isinstance(cell, Unfit):
            continue
        found = conn.execute(f"SELECT {selection} FROM (SELECT {cast} AS v) AS t", (value,), binary=True).fetchone()
        assert found is not None
        theirs = found[0] if convert is None else convert(found[0])
        assert same(cell, theirs), (value, cell, theirs)
        compared += 1
    assert compared > 200
