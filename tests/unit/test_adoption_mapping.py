"""A source's table onto one of an application's: names, types, keys, and what keeps it from being mirrored."""

from __future__ import annotations

import pytest

from mirror.core.adopted import Form, form_of_codec
from mirror.core.tables import Column, Table
from mirror.postgres.adopted.decisions import Decisions
from mirror.postgres.adopted.found import FoundColumn, FoundTable, FoundType, UniqueKey
from mirror.postgres.adopted.mapping import Mapped, form_of_column, map_table, pair_tables
from mirror.sqlite.decode.schema import SchemaRow, parse_schema

INT8 = FoundType(20, "int8", "bigint", "bigint")
TEXT = FoundType(25, "text", "text", "text")
UUID = FoundType(2950, "uuid", "uuid", "uuid")
MOMENT = FoundType(1184, "timestamptz", "timestamp with time zone", "timestamp with time zone")
MONEY = FoundType(790, "money", "money", "money")


def table(statement: str, decisions: Decisions | None = None) -> Table:
    """The table that a statement makes."""
    name = statement.split("(")[0].split()[-1]
    rules = (decisions or Decisions()).rules
    (found,) = parse_schema([SchemaRow("table", name, name, 2, statement)], rules).tables.values()
    return found


def found(*columns: FoundColumn, keys: tuple[UniqueKey, ...] = (), name: str = "t") -> FoundTable:
    return FoundTable("public", name, columns, keys)


def primary(*columns: str) -> UniqueKey:
    return UniqueKey("t_pkey", columns, primary=True)


ID = FoundColumn("id", INT8, not_null=True)


def details(mapped: Mapped) -> str:
    return "; ".join(f"{problem.column}: {problem.detail}" for problem in mapped.problems)


def test_by_name_and_else_in_other_letters() -> None:
    there = found(ID, FoundColumn("Name", TEXT), FoundColumn("age", INT8), keys=(primary("id"),))
    mapping = map_table(table("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, AGE INT)"), there, Decisions()).mapping
    assert mapping is not None and [column.name for column in mapping.columns] == ["id", "Name", "age"]
    assert [column.pg_type for column in mapping.columns] == ["bigint", "text", "bigint"]
    assert mapping.key == ("id",) and [column.not_null for column in mapping.columns] == [True, False, False]


def test_two_that_are_alike_are_none() -> None:
    there = found(ID, FoundColumn("Name", TEXT), FoundColumn("NAME", TEXT), keys=(primary("id"),))
    mapped = map_table(table("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)"), there, Decisions())
    assert mapped.mapping is None and details(mapped) == "name: t in Postgres has no column name"
    assert mapped.only_in_postgres == ("Name", "NAME")


def test_what_the_command_line_says() -> None:
    decisions = Decisions(columns={"T": {"NAME": "title"}}, dropped={"t": ("old",)})
    there = found(ID, FoundColumn("title", TEXT), keys=(primary("id"),))
    source = table("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, old TEXT)", decisions)
    mapped = map_table(source, there, decisions)
    assert mapped.mapping is not None, details(mapped)
    assert [column.name for column in mapped.mapping.columns] == ["id", "title"] and source.omitted == ("old",)


def test_what_it_says_wrongly() -> None:
    decisions = Decisions(columns={"t": {"nme": "title"}}, dropped={"t": ("id", "odl")})
    there = found(ID, FoundColumn("name", TEXT), keys=(primary("id"),))
    mapped = map_table(table("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)", decisions), there, decisions)
    assert mapped.mapping is None
    assert details(mapped) == (
        "id: a column of its primary key cannot be left out; nme: there is no such column in the source;"
        " odl: there is no such column in the source; "
        "id: the column id in Postgres is NOT NULL, has no default, and the source lacks it"
    )


@pytest.mark.parametrize(
    ("column", "fits"),
    [
        (FoundColumn("more", TEXT), True),
        (FoundColumn("more", TEXT, not_null=True), False),
        (FoundColumn("more", TEXT, not_null=True, has_default=True), True),
        (FoundColumn("more", INT8, not_null=True, identity="a"), True),
        (FoundColumn("more", TEXT, not_null=True, generated="s"), True),
        (FoundColumn("_rowid", INT8, not_null=True), True),
    ],
)
def test_what_only_postgres_has(column: FoundColumn, fits: bool) -> None:
    there = found(ID, column, keys=(primary("id"),))
    mapped = map_table(table("CREATE TABLE t(id INTEGER PRIMARY KEY)"), there, Decisions())
    assert (mapped.mapping is not None) is fits, details(mapped)


def test_what_postgres_computes_is_not_written() -> None:
    statement = "CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, twice INT AS (a * 2) STORED)"
    there = found(
        ID, FoundColumn("a", INT8), FoundColumn("twice", INT8, not_null=True, generated="s"), keys=(primary("id"),)
    )
    assert map_table(table(statement), there, Decisions()).computed == ("twice",)
    decisions = Decisions(computed={"t": ("twice",)})
    mapping = map_table(table(statement, decisions), there, decisions).mapping
    assert mapping is not None and [column.name for column in mapping.columns] == ["id", "a"]


def test_a_type_that_no_kind_is_for() -> None:
    there = found(ID, FoundColumn("price", MONEY), keys=(primary("id"),))
    mapped = map_table(table("CREATE TABLE t(id INTEGER PRIMARY KEY, price)"), there, Decisions())
    assert mapped.mapping is None and "money" in details(mapped)
    assert "--drop-column t.price" in mapped.problems[0].next_step


UNIQUE = UniqueKey("t_ab", ("a", "b"))
NOT_NULL = FoundColumn("a", INT8, not_null=True), FoundColumn("b", INT8, not_null=True)


def test_a_key_must_be_unique_on_both_sides() -> None:
    """That of Postgres first, and the rowid, for a time, where there is none."""
    keyless = table("CREATE TABLE t(a INT, b INT)")
    there = found(*NOT_NULL, keys=(UNIQUE,))
    key = lambda found, uniques=(): getattr(map_table(keyless, found, Decisions(), uniques).mapping, "key", 0)  # noqa: E731
    assert key(there) is None, "SQLite may have one pair twice"
    assert key(there, [("b", "a")]) == ("a", "b") and key(there, [("a",)]) == ("a", "b")
    assert key(there, [("a", "c")]) is None
    assert key(found(*NOT_NULL, keys=(primary("b"), UNIQUE)), [("a",), ("b",)]) == ("b",)
    assert key(found(NOT_NULL[0], FoundColumn("b", INT8), keys=(UNIQUE,)), [("a", "b")]) is None, "b may be NULL"
    for unfit in (
        UniqueKey("u", ("a", "b"), immediate=False),
        UniqueKey("u", ("a", "b"), condition="a > 0"),
        UniqueKey("u", ("a", None)),
    ):
        assert key(found(*NOT_NULL, keys=(unfit,)), [("a", "b")]) is None


def test_a_table_without_a_rowid_needs_one() -> None:
    source = table("CREATE TABLE t(a INT, b INT, PRIMARY KEY (a, b)) WITHOUT ROWID")
    assert "WITHOUT ROWID" in details(map_table(source, found(*NOT_NULL), Decisions()))
    mapping = map_table(source, found(*NOT_NULL, keys=(UNIQUE,)), Decisions()).mapping
    assert mapping is not None and mapping.key == ("a", "b")


def test_a_key_that_was_decided_stays() -> None:
    there = found(*NOT_NULL, keys=(primary("a"), UNIQUE))
    source = table("CREATE TABLE t(a INT PRIMARY KEY, b INT)")
    assert map_table(source, there, Decisions(keys={"t": None}), [("a",)]).mapping.key is None  # type: ignore[union-attr]
    decided = Decisions(keys={"t": ("a", "b")})
    assert map_table(source, there, decided).mapping.key == ("a", "b")  # type: ignore[union-attr]


def test_of_a_key_one_form_is_taken() -> None:
    there = found(FoundColumn("id", UUID, not_null=True), FoundColumn("other", UUID), keys=(primary("id"),))
    decisions = Decisions(only={"t": {"id": "hex", "other": "hex"}})
    mapping = map_table(table("CREATE TABLE t(id CHAR(32) PRIMARY KEY, other)"), there, decisions).mapping
    assert mapping is not None
    assert [form_of_codec(column.codec).only for column in mapping.columns] == ["hex", ""]


def of(oid: int, typmod: int = -1, **more: object) -> Form | None:
    kind = FoundType(oid, "x", "x", "x", typmod, **more)  # type: ignore[arg-type]
    return form_of_column(kind, "t", "c", Decisions(zone="Europe/Berlin", units={"T": {"C": "ms"}}, real_digits=15))


@pytest.mark.parametrize(
    ("found", "form"),
    [
        (of(1184), Form("timestamptz", zone="Europe/Berlin", unit="ms")),
        (of(1114, 3), Form("timestamp", zone="Europe/Berlin", unit="ms", digits=3)),
        (of(1082), Form("date", zone="Europe/Berlin", unit="ms")),
        (of(1083, 0), Form("time", digits=0)),
        (of(1186), Form("interval", unit="ms")),
        (of(1186, 0x7FFF0003), Form("interval", unit="ms", digits=3)),
        (of(1186, 0x7FFFFFFF), Form("interval", unit="ms")),
        (of(1186, 0x0006FFFF), None),  # YEAR TO MONTH
        (of(1700), Form("numeric", real_digits=15)),
        (of(1700, (12 << 16 | 2) + 4), Form("numeric", precision=12, scale=2, real_digits=15)),
        (of(1700, (5 << 16 | 0x7FE) + 4), Form("numeric", precision=5, scale=-2, real_digits=15)),
        (of(1043), Form("varchar")),
        (of(1043, 24), Form("varchar", length=20)),
        (of(1042, 6), Form("char", length=2)),
        (of(16400, labels=("a", "b")), Form("enum", labels=("a", "b"))),
        (of(1009, element=FoundType(25, "text", "text", "text")), Form("array", element=Form("text"))),
        (of(1001, element=MONEY), None),
        (of(26), None),
        (of(19), None),
        (of(18), None),
        (of(1266), None),
    ],
)
def test_forms_of_types(found: Form | None, form: Form | None) -> None:
    assert found == form


def test_citext_is_known_by_its_name() -> None:
    form = form_of_column(FoundType(99999, "citext", '"app".citext', '"app".citext'), "t", "c", Decisions())
    assert form == Form("citext")


@pytest.mark.parametrize("name", ["vector", "halfvec"])
def test_vectors_are_known_by_their_names(name: str) -> None:
    found = FoundType(17000, name, f"public.{name}", f"public.{name}", typmod=3)
    assert form_of_column(found, "t", "c", Decisions()) == Form(name, length=3)
    element = FoundType(17001, f"_{name}", "public.x[]", "public.x[]", element=found)
    assert form_of_column(element, "t", "c", Decisions()) is None


def test_integers_that_a_preset_has_rounded() -> None:
    found = FoundType(23, "int4", "integer", "integer")
    decisions = Decisions(rounded={"store": ("ttl_minutes",)})
    assert form_of_column(found, "Store", "TTL_minutes", decisions) == Form("int4", scale=0)
    assert form_of_column(found, "store", "other", decisions) == Form("int4")


def test_tables_by_name() -> None:
    decisions = Decisions(tables={"users": "auth_user", "lost": "nowhere"}, excluded=("cache_*",), kept=("MIGRATIONS",))
    pairs = pair_tables(
        ["a", "Items", "users", "cache_1", "migrations", "lost", "extra"],
        ["a", "items", "auth_user", "cache_1", "migrations", "more"],
        decisions,
    )
    assert pairs.tables == {"a": "a", "Items": "items", "users": "auth_user"}
    assert pairs.left_out == {"cache_1": "excluded", "migrations": "kept"}
    assert pairs.only_in_source == ("extra",) and pairs.only_in_postgres == ("more",)
    assert {problem.table for problem in pairs.problems} == {"lost", "extra"}


def test_two_tables_into_one() -> None:
    pairs = pair_tables(["a", "A"], ["a"], Decisions())
    assert [problem.detail for problem in pairs.problems] == ["a and it would both go to a"]


def test_a_column_of_a_name_that_sql_must_quote() -> None:
    source = Table("t", 2, (Column('od"d', "", "BLOB"),), (), None, False, (0,))
    mapping = map_table(source, found(FoundColumn('od"d', TEXT)), Decisions()).mapping
    assert mapping is not None and mapping.key is None and mapping.columns[0].name == 'od"d'
