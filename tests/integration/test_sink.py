"""The sink against a real Postgres: loading, applying, widening, rejecting, renaming, fencing."""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import apsw
import psycopg
import pytest

from mirror.core.errors import FencedError, RefusedError, SinkError, SourceError
from mirror.core.positions import Lsn, Position, Salts
from mirror.core.rows import Batch, RowChange, SchemaChange, TableChanges
from mirror.core.tables import ANY_VALUE, Affinity, Column, ColumnType, Table
from mirror.core.values import BadText, Row, Uncomputed, Value
from mirror.parity.kinds import number
from mirror.postgres.codecs import Misfit, decode, encode
from mirror.postgres.profiles import PROFILES
from mirror.postgres.profiles.generic import map_table
from mirror.postgres.schema import NO_WIDENING
from mirror.postgres.signals import ColumnMisfit, NullInKey
from mirror.postgres.sink import Sink
from mirror.postgres.target import Target
from tests.support.sqlite import decoded_rows

LINEAGE = str(uuid.uuid4())


@pytest.fixture
def sink(dsn: str) -> Iterator[Sink]:
    """A sink for the source /source.db into schema public."""
    with Sink.open(dsn, "/source.db", "public", PROFILES) as made:
        yield made


@pytest.fixture
def reader(dsn: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection that looks at what the sink has committed."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        yield conn


def table(
    name: str,
    columns: Sequence[tuple[str, str, Affinity]],
    key: tuple[str, ...] = (),
    *,
    rowid_alias: str | None = None,
    without_rowid: bool = False,
) -> Table:
    """Build a table of columns given as (name, declared type, affinity)."""
    made = tuple(Column(*column) for column in columns)
    return Table(name, 2, made, key, rowid_alias, without_rowid, tuple(range(len(made))))


ID: tuple[str, str, Affinity] = ("id", "TEXT", "TEXT")
ITEMS = table("items", [ID, ("n", "INTEGER", "INTEGER"), ("x", "REAL", "REAL")], ("id",))
#: A value that Postgres cannot hold, in a column of any type.
LOST = Uncomputed("lost")
NOTES = table("notes", [("body", "TEXT", "TEXT")])


def at(frame: int, generation: int = 1) -> Position:
    """A position."""
    return Position(Lsn(generation, frame), Salts(7, 8), 1_700_000_000.25)


def insert(*row: Value, rowid: int = 1) -> RowChange:
    """An inserted row."""
    return RowChange(rowid, None, row)


def delete(*row: Value, rowid: int = 1) -> RowChange:
    """A deleted row."""
    return RowChange(rowid, row, None)


def update(before: Row, after: Row, rowid: int = 1) -> RowChange:
    """An updated row."""
    return RowChange(rowid, before, after)


def batch(frame: int, *tables: tuple[Table, Iterable[RowChange]], schema: Sequence[SchemaChange] = ()) -> Batch:
    """A batch of one commit."""
    return Batch(at(frame), 1, tuple(schema), [TableChanges(t, iter(rows)) for t, rows in tables])


def create(*tables: Table) -> list[SchemaChange]:
    """Schema changes that create tables."""
    return [SchemaChange("create", None, t) for t in tables]


def rows(sink: Sink, reader: psycopg.Connection[tuple[object, ...]], source: str = "items") -> list[Row]:
    """All rows of a mirrored table as SQLite values, in key order."""
    target = sink.mappings[source]
    listed = ", ".join(f'"{c.name}"' for c in target.columns)
    key = ", ".join(f'"{c}"' for c in target.key_columns)
    found = reader.execute(f'SELECT {listed} FROM "{target.schema}"."{target.name}" ORDER BY {key}'.encode())
    return [
        tuple(
            number(v) if c.codec == "number" else decode(c.pg_type, v) for c, v in zip(target.columns, row, strict=True)
        )
        for row in found
    ]


def rejects(reader: psycopg.Connection[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """All reject entries."""
    return reader.execute("SELECT source_table, key, reason, row_data FROM mirror.rejects ORDER BY 1, 2").fetchall()


def exact(found: Sequence[Row]) -> list[list[tuple[type, str]]]:
    """Rows in a form in which 1, 1.0 and -0.0 differ."""
    return [[(type(v), repr(v)) for v in row] for row in found]


Reader = psycopg.Connection[tuple[object, ...]]


# --- opening ---------------------------------------------------------------------------------------


def test_open_is_repeatable(dsn: str) -> None:
    """A second open finds the same source, at the same position, with its tables."""
    with Sink.open(dsn, "/source.db", "public", PROFILES) as first:
        assert (first.position, first.lineage, sum(first.rejects.values())) == (None, None, 0)
        first.apply(batch(5, schema=create(ITEMS)))
        source_id, mappings = first.source_id, first.mappings
    with Sink.open(dsn, "/source.db", "public", PROFILES) as second:
        assert second.source_id == source_id
        assert second.position == at(5)
        assert second.mappings == mappings
        assert second.mappings["items"] == Target.of(map_table(ITEMS, "public"), None)


def test_second_mirror_is_refused(sink: Sink, dsn: str) -> None:
    """One writer per source: the second is told who holds it. Another schema is another source."""
    with pytest.raises(FencedError, match="pid") as refused:
        Sink.open(dsn, "/source.db", "public", PROFILES)
    assert refused.value.next_step
    with Sink.open(dsn, "/source.db", "other", PROFILES) as other:
        assert other.source_id != sink.source_id


def test_fenced_by_epoch(sink: Sink, reader: Reader) -> None:
    """A mirror that lost its lock unnoticed cannot commit."""
    sink.apply(batch(1, schema=create(ITEMS)))
    reader.execute("UPDATE mirror.sources SET epoch = epoch + 1")
    with pytest.raises(FencedError) as fenced:
        sink.apply(batch(2, (ITEMS, [insert("a", 1, 1.0)])))
    assert fenced.value.sqlstate == "MR001"
    assert rows(sink, reader) == []


def test_position_never_goes_back(sink: Sink, reader: Reader) -> None:
    """An older position is refused with what came with it; the same one is not."""
    sink.apply(batch(9, schema=create(ITEMS)))
    with pytest.raises(SinkError) as refused:
        sink.apply(batch(8, (ITEMS, [insert("a", 1, 1.0)])))
    assert (refused.value.sqlstate, refused.value.retryable) == ("MR002", False)
    assert (rows(sink, reader), sink.position) == ([], at(9))
    sink.apply(batch(9))


def test_changed_migration_is_an_error(dsn: str, reader: Reader) -> None:
    """A migration that was applied in another form is not passed over."""
    Sink.open(dsn, "/source.db", "public", PROFILES).close()
    reader.execute("UPDATE mirror.migrations SET checksum = 'x'")
    with pytest.raises(SinkError, match=r"0001_mirror\.sql"):
        Sink.open(dsn, "/source.db", "public", PROFILES)


def test_unreachable_server() -> None:
    """No server: worth trying again."""
    with pytest.raises(SinkError) as lost:
        Sink.open("host=/nowhere user=x", "/source.db", "public", PROFILES)
    assert lost.value.retryable


@pytest.mark.parametrize("size", [1, 2, 2000])
def test_lost_connection_is_retryable(sink: Sink, reader: Reader, dsn: str, size: int) -> None:
    """A connection that is cut: SinkError, retryable, nothing applied; a new sink goes on."""
    sink.apply(batch(1, schema=create(ITEMS)))
    reader.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'mirror' AND datname = current_database()"
    )
    with pytest.raises(SinkError) as lost:
        sink.apply(batch(2, (ITEMS, [insert(f"k{i}", i, 1.0) for i in range(size)])))
    assert lost.value.retryable
    assert sink.position == at(1)
    with Sink.open(dsn, "/source.db", "public", PROFILES) as again:
        assert again.position == at(1)
        again.apply(batch(2, (ITEMS, [insert("a", 1, 1.0)])))
        assert rows(again, reader) == [("a", 1, 1.0)]


def test_gaps(sink: Sink) -> None:
    """A gap is recorded, and healed when the position leaves its generation."""
    sink.apply(batch(1))
    sink.ledger.record_gaps(1, ["salts changed"])
    sink.apply(batch(2))
    assert [(g.generation, g.reason, g.healed_at) for g in sink.ledger.gaps()] == [(1, "salts changed", None)]
    sink.apply(Batch(at(0, 2), 1, (), ()))
    assert sink.ledger.gaps()[0].healed_at is not None
    assert sink.read_position() == at(0, 2)


# --- applying --------------------------------------------------------------------------------------


@pytest.mark.parametrize("filler", [0, 3000])
def test_insert_update_delete(sink: Sink, reader: Reader, filler: int) -> None:
    """The same changes one by one and streamed: rows, key changes and swapped keys."""
    more = [insert(f"z{i:05}", i, 0.5) for i in range(filler)]
    sink.apply(batch(1, (ITEMS, [insert("a", 1, 1.0), insert("b", 2, 2.0), insert("c", 3, 3.0)]), schema=create(ITEMS)))
    results = sink.apply(
        batch(
            2,
            (
                ITEMS,
                [
                    update(("a", 1, 1.0), ("b", 10, -0.0)),
                    update(("b", 2, 2.0), ("a", 20, math.inf)),
                    delete("c", 3, 3.0),
                    insert("d", None, None),
                    *more,
                ],
            ),
        )
    )
    assert [(r.upserted, r.deleted, r.rejected) for r in results] == [(3 + filler, 1, 0)]
    expected: list[Row] = [("a", 20, math.inf), ("b", 10, -0.0), ("d", None, None)]
    assert exact(rows(sink, reader)) == exact(expected + [r.after for r in more if r.after])
    gone = [delete(*r.after) for r in more if r.after]
    sink.apply(batch(3, (ITEMS, [delete("a", 20, math.inf), update(("d", None, None), ("e", 5, 5.0)), *gone])))
    assert exact(rows(sink, reader)) == exact([("b", 10, -0.0), ("e", 5, 5.0)])


def test_any_number_of_rows(sink: Sink, reader: psycopg.Connection[tuple[object, ...]]) -> None:
    """Several rows share a statement: of each number as many as come are there, once, whatever was there before."""
    sink.apply(batch(1, schema=create(ITEMS, NOTES)))
    held: dict[str, Row] = {}
    frame, made = 2, 0
    for amount in (*range(1, 24), 40):
        changes: list[RowChange] = []
        for key in list(held)[: amount // 3]:
            before, after = held[key], (key, frame, None)
            changes.append(update(before, after))
            held[key] = after
        for key in list(held)[-(amount // 4) or len(held) :]:
            changes.append(delete(*held.pop(key)))
        for _ in range(amount - len(changes)):
            made += 1
            row: Row = (f"k{made}", made, made / 2)
            changes.append(insert(*row))
            held[f"k{made}"] = row
        notes = [insert(f"n{frame}.{at}", rowid=frame * 100 + at) for at in range(amount % 6)]
        done = sink.apply(batch(frame, (ITEMS, changes), (NOTES, notes)))
        frame += 1
        assert [each.upserted + each.deleted for each in done] == [len(changes), len(notes)]
        assert exact(rows(sink, reader)) == exact([held[key] for key in sorted(held)])
    assert sink.position == at(frame - 1)
    assert len(rows(sink, reader, "notes")) == sum(amount % 6 for amount in (*range(1, 24), 40))


@pytest.mark.parametrize("filler", [0, 3000])
def test_equal_is_not_the_same(sink: Sink, reader: Reader, filler: int) -> None:
    """1 -> 1.0 in a key and 0.0 -> -0.0 in a value are changes, although Postgres calls them equal."""
    source = table("items", [("id", "", "BLOB"), ("x", "REAL", "REAL")], ("id",))
    more = [insert(f"z{i:05}", 1.0) for i in range(filler)]
    sink.apply(batch(1, (source, [insert(1, 0.0), insert(2, 0.0)]), schema=create(source)))
    sink.apply(batch(2, (source, [update((1, 0.0), (1.0, 0.0)), update((2, 0.0), (2, -0.0)), *more])))
    found = [row for row in rows(sink, reader) if not isinstance(row[0], str)]
    assert exact(found) == exact([(1.0, 0.0), (2, -0.0)])


def test_rowid_key(sink: Sink, reader: Reader) -> None:
    """A table without a key is keyed on its rowid."""
    sink.apply(batch(1, (NOTES, [insert("x", rowid=1), insert("x", rowid=2)]), schema=create(NOTES)))
    sink.apply(batch(2, (NOTES, [update(("x",), ("y",), rowid=2), delete("x", rowid=1)])))
    assert reader.execute("SELECT _rowid, body FROM notes").fetchall() == [(2, "y")]


def test_many_tables_in_one_transaction(sink: Sink, reader: Reader) -> None:
    """Small and large tables mixed; readers see all or nothing."""
    seen: list[int] = []

    def growing() -> Iterator[RowChange]:
        for i in range(2000):
            if i in (0, 1999):
                seen.append(len(reader.execute("SELECT FROM notes").fetchall()))
            yield insert(f"k{i:05}", i, 1.0)

    sink.apply(batch(1, schema=create(ITEMS, NOTES)))
    sink.apply(batch(2, (NOTES, [insert("n")]), (ITEMS, growing())))
    assert seen == [0, 0]
    assert len(rows(sink, reader)) == 2000
    assert rows(sink, reader, "notes") == [("n",)]


def test_strange_names(sink: Sink, reader: Reader) -> None:
    """Quotes, percent signs, dollars, braces, reserved words and system columns."""
    columns: list[tuple[str, str, Affinity]] = [
        ('a"b', "TEXT", "TEXT"), ("100%s", "TEXT", "TEXT"), ("$1", "TEXT", "TEXT"),
        ("{x}", "TEXT", "TEXT"), ("select", "TEXT", "TEXT"), ("xmin", "TEXT", "TEXT"),
        ("op", "TEXT", "TEXT"), ("é" * 40, "TEXT", "TEXT"),
    ]  # fmt: skip
    source = table('t "%s" {}', columns, ('a"b', "100%s"))
    row = tuple(str(i) for i in range(8))
    sink.apply(batch(1, (source, [insert(*row)]), schema=create(source)))
    changed = [update(row, (*row[:7], "new")), *(insert(f"n{i}", *row[1:]) for i in range(1000))]
    sink.apply(batch(2, (source, changed)))
    target = sink.mappings[source.name]
    count = reader.execute(f'SELECT count(*) FROM public."{target.name.replace(chr(34), chr(34) * 2)}"'.encode())
    assert count.fetchone() == (1001,)


def test_decoder_failure_rolls_back(sink: Sink, reader: Reader) -> None:
    """An error from the source of the rows leaves nothing behind, and the sink usable."""

    def failing() -> Iterator[RowChange]:
        for i in range(1000):
            yield insert(f"k{i}", i, 1.0)
        raise RuntimeError("page 7")

    sink.apply(batch(1, schema=create(ITEMS)))
    with pytest.raises(RuntimeError, match="page 7"):
        sink.apply(batch(2, (ITEMS, failing())))
    sink.apply(batch(2, (ITEMS, [insert("a", 1, 1.0)])))
    assert rows(sink, reader) == [("a", 1, 1.0)]


# --- widening --------------------------------------------------------------------------------------


@pytest.mark.parametrize("filler", [0, 3000])
def test_widen_at_apply(sink: Sink, reader: Reader, filler: int) -> None:
    """A misfit is raised with its column and nothing applied; widened, old values keep their kinds."""
    more = [insert(f"z{i}", i, 1.0) for i in range(filler)]
    sink.apply(batch(1, (ITEMS, [insert("a", 1, 1.0), insert("b", 2, math.inf)]), schema=create(ITEMS)))
    for _ in range(10):  # so that the server has its generic plan
        sink.apply(batch(1, (ITEMS, [update(("a", 1, 1.0), ("a", 1, 1.0))])))
    change = update(("a", 1, 1.0), ("a", "one", -0.0))
    with pytest.raises(ColumnMisfit) as misfit:
        sink.apply(batch(2, (ITEMS, [*more, change])))
    assert (misfit.value.table, misfit.value.column) == ("items", "n")
    assert (sink.position, len(rows(sink, reader))) == (at(1), 2)
    sink.apply(batch(2, (ITEMS, [*more, change])), widen=dict.fromkeys({("items", "n"), ("items", "x")}, ANY_VALUE))
    assert exact(rows(sink, reader)[:2]) == exact([("a", "one", -0.0), ("b", 2, math.inf)])


EDGES: dict[str, tuple[str, Affinity, list[Value]]] = {
    "bigint": ("INTEGER", "INTEGER", [0, -(2**63), 2**63 - 1, None]),
    "double precision": (
        "REAL", "REAL",
        [0.0, -0.0, 1.0, -1.5, 0.1, 5e-324, 1.7976931348623157e308, 2.0**53, 2.0**53 + 2, 2.0**63, 9.5e18,
         -9.999999999999998e18, 9e18, 1e19, 1e22, 123456789.123456789, math.inf, -math.inf, None],
    ),
    "text": ("TEXT", "TEXT", ["", "é\U0001f600", "\t\n\\\"'", "{}", None]),
    "bytea": ("BLOB", "BLOB", [b"", b"\x00\xff" * 300, None]),
    "boolean": ("BOOLEAN", "NUMERIC", [0, 1, None]),
    "numeric": ("DECIMAL", "NUMERIC", [0, 2**63 - 1, -(2**63), 0.1, 9.5e18, 1e300, math.inf, -math.inf, None]),
}  # fmt: skip


@pytest.mark.parametrize("pg_type", EDGES)
@pytest.mark.parametrize("bulk", [False, True])
def test_values_and_their_widening(sink: Sink, reader: Reader, pg_type: str, bulk: bool) -> None:
    """Every edge value goes in and out; widened by SQL it is what the codec would have written."""
    declared, affinity, values = EDGES[pg_type]
    source = table("v", [("id", "INTEGER", "INTEGER"), ("c", declared, affinity)], ("id",))
    filler = [insert(1000 + i, None) for i in range(600 if bulk else 0)]
    changes = [insert(i, value) for i, value in enumerate(values)]
    sink.apply(batch(1, (source, [*changes, *filler]), schema=create(source)))
    assert {c.source: c.pg_type for c in sink.mappings["v"].columns}["c"] == pg_type
    expected = exact([(i, value) for i, value in enumerate(values)])
    assert exact(rows(sink, reader, "v")[: len(values)]) == expected
    direct = replace(source, name="w")
    sink.apply(batch(2, schema=create(direct)))
    copied = [insert(*change.after) for change in [*changes, *filler] if change.after]
    sink.apply(batch(3, (direct, copied)), widen=dict.fromkeys({("v", "c"), ("w", "c")}, ANY_VALUE))
    assert exact(rows(sink, reader, "v")[: len(values)]) == expected
    different = reader.execute("SELECT v.c, w.c FROM v JOIN w USING (id) WHERE v.c::text IS DISTINCT FROM w.c::text")
    assert different.fetchall() == []


def test_widen_a_key_column(sink: Sink, reader: Reader) -> None:
    """Key columns can be widened too, and still find their rows."""
    sink.apply(batch(1, (ITEMS, [insert("a", 1, 1.0), insert("b", 2, 2.0)]), schema=create(ITEMS)))
    change = [insert(b"blob", 3, 3.0), delete("a", 1, 1.0)]
    with pytest.raises(ColumnMisfit):
        sink.apply(batch(2, (ITEMS, change)))
    sink.apply(batch(2, (ITEMS, change)), widen=dict.fromkeys({("items", "id")}, ANY_VALUE))
    assert sorted(map(repr, rows(sink, reader))) == sorted(map(repr, [("b", 2, 2.0), (b"blob", 3, 3.0)]))


def test_rekey(sink: Sink, reader: Reader, dsn: str) -> None:
    """A NULL in a declared key: the table is made again, keyed on the rowid, and stays so."""
    sink.apply(batch(1, (ITEMS, [insert("a", 1, 1.0)]), schema=create(ITEMS)))
    with pytest.raises(NullInKey):
        sink.apply(batch(2, (ITEMS, [insert(None, 2, 2.0)])))
    everything = [insert("a", 1, 1.0, rowid=1), insert(None, 2, 2.0, rowid=2)]
    rebuild = [SchemaChange("rebuild", ITEMS, ITEMS)]
    sink.apply(batch(2, (ITEMS, everything), schema=rebuild), rekey=frozenset({"items"}))
    assert rows(sink, reader) == [("a", 1, 1.0), (None, 2, 2.0)]
    sink.apply(batch(3, (ITEMS, [delete(None, 2, 2.0, rowid=2)])))
    assert rows(sink, reader) == [("a", 1, 1.0)]
    tables = reader.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert tables == [("items",)]
    sink.close()
    with Sink.open(dsn, "/source.db", "public", PROFILES) as again:
        assert again.mappings["items"].key is None


# --- rejects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("filler", [0, 3000])
def test_life_of_a_reject(sink: Sink, reader: Reader, dsn: str, filler: int) -> None:
    """Stored, then not storable (moved whole to the rejects), then storable again, then gone."""
    source = table("t", [ID, ("body", "TEXT", "TEXT")], ("id",))

    def more(frame: int) -> list[RowChange]:
        return [insert(f"z{frame}-{i}", "x") for i in range(filler)]

    sink.apply(batch(1, (source, [insert("a", "fine"), insert("b", "fine")]), schema=create(source)))
    results = sink.apply(batch(2, (source, [update(("a", "fine"), ("a", LOST)), *more(2)])))
    assert results[0].rejected == 1
    assert rows(sink, reader, "t")[:1] == [("b", "fine")]
    assert rejects(reader) == [
        ("t", '["a"]', "body: SQLite cannot compute it (lost)", '{"id":"a","body":{"error":"lost"}}')
    ]
    assert sum(sink.rejects.values()) == 1
    sink.apply(batch(3, (source, [update(("a", LOST), ("c", Uncomputed("too"))), *more(3)])))
    assert [(r[1], r[3]) for r in rejects(reader)] == [('["c"]', '{"id":"c","body":{"error":"too"}}')]
    sink.apply(batch(4, (source, [update(("c", Uncomputed("too")), ("c", "repaired")), *more(4)])))
    assert (rejects(reader), sum(sink.rejects.values())) == ([], 0)
    assert rows(sink, reader, "t")[:2] == [("b", "fine"), ("c", "repaired")]
    sink.apply(batch(5, (source, [insert(BadText(b"\xff"), "x"), insert("long" * 800, "x"), *more(5)])))
    assert sum(sink.rejects.values()) == 2
    sink.close()
    with Sink.open(dsn, "/source.db", "public", PROFILES) as again:
        assert sum(again.rejects.values()) == 2
        again.apply(batch(6, (source, [delete(BadText(b"\xff"), "x"), delete("long" * 800, "x")])))
        assert (sum(again.rejects.values()), rejects(reader)) == (0, [])


def test_reject_of_a_rowid_table(sink: Sink, reader: Reader) -> None:
    """The reject's key is the rowid."""
    sink.apply(batch(1, (NOTES, [insert(LOST, rowid=7)]), schema=create(NOTES)))
    assert rejects(reader)[0][1] == "[7]"
    sink.apply(batch(2, (NOTES, [update((LOST,), ("ok",), rowid=7)])))
    assert (rejects(reader), rows(sink, reader, "notes")) == ([], [("ok",)])


# --- schema changes --------------------------------------------------------------------------------


def public_tables(reader: Reader) -> list[str]:
    """Names of the tables in schema public."""
    found = reader.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return [str(name) for (name,) in found]


def test_chained_and_swapped_renames(sink: Sink, reader: Reader) -> None:
    """t -> old while new -> t, then a swap: data and rejects move along, widened columns stay wide."""
    new, t = replace(NOTES, name="new"), replace(NOTES, name="t")
    old = replace(NOTES, name="old")
    sink.apply(
        batch(1, (t, [insert("first"), insert(LOST, rowid=2)]), (new, [insert("second")]), schema=create(t, new))
    )
    sink.apply(batch(1), widen=dict.fromkeys({("t", "body")}, ANY_VALUE))
    sink.apply(batch(2, schema=[SchemaChange("rename", new, t), SchemaChange("rename", t, old)]))
    assert public_tables(reader) == ["old", "t"]
    assert (rows(sink, reader, "old"), rows(sink, reader, "t")) == ([("first",)], [("second",)])
    assert [r[0] for r in rejects(reader)] == ["old"]
    sink.apply(
        batch(
            3,
            (t, [insert("third", rowid=3)]),
            schema=[SchemaChange("rename", old, t), SchemaChange("rename", t, old)],
        )
    )
    assert rows(sink, reader, "t") == [("first",), ("third",)]
    assert sink.mappings["t"].columns[0].pg_type == "jsonb"
    assert [r[0] for r in rejects(reader)] == ["t"]


def test_table_rebuilt_in_place(sink: Sink, reader: Reader) -> None:
    """CREATE x_new / DROP x / RENAME x_new TO x in one batch arrives as a rebuild or as drop and rename.

    A copy is left of what the new table lacks: a column, in the first one.
    """
    sink.apply(batch(1, (ITEMS, [insert("a", 1, 1.0)]), schema=create(ITEMS)))
    rebuilt = table("items", [ID, ("n", "TEXT", "TEXT")], ("id",))
    sink.apply(batch(2, (rebuilt, [insert("a", "1")]), schema=[SchemaChange("rebuild", ITEMS, rebuilt)]))
    assert public_tables(reader) == ["items", "items__dropped_1_2"]
    assert rows(sink, reader) == [("a", "1")]
    other = replace(rebuilt, name="items_new")
    sink.apply(batch(3, (other, [insert("b", "2")]), schema=create(other)))
    drop = [SchemaChange("rename", other, rebuilt), SchemaChange("drop", rebuilt, None)]
    sink.apply(batch(4, schema=drop))
    assert rows(sink, reader) == [("b", "2")]
    assert public_tables(reader) == ["items", "items__dropped_1_2", "items__dropped_1_4"]


def test_drop_keeps_the_rows(sink: Sink, reader: Reader) -> None:
    """A dropped table is renamed, also when its name is long, and its rejects go."""
    source = replace(NOTES, name="n" * 63)
    sink.apply(batch(1, (source, [insert("x"), insert(LOST, rowid=2)]), schema=create(source)))
    sink.apply(batch(2, schema=[SchemaChange("drop", source, None)]))
    (name,) = public_tables(reader)
    assert name.endswith("__dropped_1_2") and len(name) == 63
    assert (sink.mappings, sum(sink.rejects.values())) == ({}, 0)
    sink.apply(batch(3, (source, [insert("y")]), schema=create(source)))
    assert rows(sink, reader, source.name) == [("y",)]


def test_add_columns(sink: Sink, reader: Reader) -> None:
    """Rows that are there show the default, exactly; later ones their own value."""
    sink.apply(batch(1, (ITEMS, [insert("a", 1, 1.0)]), schema=create(ITEMS)))
    grown = replace(
        ITEMS,
        columns=(
            *ITEMS.columns,
            Column("t", "TEXT", "TEXT", default="it's"),
            Column("i", "INTEGER", "INTEGER", default="odd"),
            Column("r", "REAL", "REAL"),
            Column("z", "BLOB", "BLOB", default=b"\x00'"),
        ),
    )
    change = [SchemaChange("columns", ITEMS, grown, (0, 1, 2, None, None, None, None))]
    row = (grown, [insert("b", 2, 2.0, None, 5, 0.5, None)])
    with pytest.raises(ColumnMisfit, match="an integer in a column of type text"):
        sink.apply(batch(2, row, schema=change))
    sink.apply(batch(2, row, schema=change), widen={("items", "i"): ANY_VALUE})
    assert rows(sink, reader) == [
        ("a", 1, 1.0, "it's", "odd", None, b"\x00'"),
        ("b", 2, 2.0, None, 5, 0.5, None),
    ]


def test_taken_names(sink: Sink, reader: Reader, dsn: str) -> None:
    """A table that is not ours, or another source's, is never touched."""
    reader.execute("CREATE TABLE items (mine int)")
    with pytest.raises(SinkError, match="not the mirror's") as taken:
        sink.apply(batch(1, schema=create(ITEMS)))
    assert taken.value.next_step
    sink.apply(batch(1, schema=create(NOTES)))
    with (
        Sink.open(dsn, "/other.db", "public", PROFILES) as other,
        pytest.raises(SinkError, match=r"another source, /source\.db"),
    ):
        other.apply(batch(1, schema=create(NOTES)))


# --- loading ---------------------------------------------------------------------------------------


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Path]:
    """Make a SQLite file from a script."""
    numbers = iter(range(100))

    def made(script: str) -> Path:
        path = tmp_path / f"{next(numbers)} ü%.db"
        db = apsw.Connection(str(path))
        for _ in db.execute(script):
            pass
        db.close()
        return path

    return made


def load(sink: Sink, path: Path, *tables: Table, frame: int = 1) -> None:
    """Load tables at a position."""
    sink.load(path, tables, decoded_rows(path), at(frame), LINEAGE)


def test_load(sink: Sink, reader: Reader, make: Callable[[str], Path], dsn: str) -> None:
    """Every type on the fast path, keys of all kinds, progress, position and lineage."""
    path = make(
        "CREATE TABLE items (id TEXT PRIMARY KEY, n INTEGER, x REAL);"
        "INSERT INTO items VALUES ('b', 1, 1), ('B', NULL, 0.25), ('a''\"\\\t', 9223372036854775807, 9e999);"
        "CREATE TABLE notes (rowid TEXT, body TEXT); INSERT INTO notes(_rowid_, rowid) VALUES (-5, 'r'), (7, NULL);"
        "CREATE TABLE v (id INTEGER PRIMARY KEY, b BLOB, f BOOLEAN, d DECIMAL, j);"
        "INSERT INTO v VALUES (1, x'00ff', 1, 1.5, 1), (2, NULL, 0, 12, 1.0), (3, x'', NULL, 1e300, x'00'),"
        "(4, NULL, NULL, 9.5e18, 'é'), (5, NULL, NULL, -9e999, 9e999);"
    )
    notes = table("notes", [("rowid", "TEXT", "TEXT"), ("body", "TEXT", "TEXT")])
    v = table(
        "v",
        [("id", "INTEGER", "INTEGER"), ("b", "BLOB", "BLOB"), ("f", "BOOLEAN", "NUMERIC"),
         ("d", "DECIMAL", "NUMERIC"), ("j", "", "BLOB")],
        ("id",), rowid_alias="id",
    )  # fmt: skip
    progress: list[tuple[str, int, int | None]] = []
    sink.load(path, [ITEMS, notes, v], decoded_rows(path), at(3), LINEAGE, lambda *step: progress.append(step))
    assert ("items", 3, 3) in progress
    assert (sink.position, sink.lineage) == (at(3), LINEAGE)
    assert exact(rows(sink, reader)) == exact([("B", None, 0.25), ("a'\"\\\t", 2**63 - 1, math.inf), ("b", 1, 1.0)])
    assert reader.execute("SELECT * FROM notes ORDER BY 1").fetchall() == [(-5, "r", None), (7, None, None)]
    assert exact(rows(sink, reader, "v")) == exact(
        [(1, b"\x00\xff", 1, 1.5, 1), (2, None, 0, 12, 1.0), (3, b"", None, 1e300, b"\x00"),
         (4, None, None, 9.5e18, "é"), (5, None, None, -math.inf, math.inf)]
    )  # fmt: skip
    assert [c.pg_type for c in sink.mappings["v"].columns] == [
        "bigint",
        "bytea",
        "boolean",
        "numeric",
        "jsonb",
    ]
    sink.apply(batch(4, (ITEMS, [delete("B", None, 0.25)])))
    assert len(rows(sink, reader)) == 2
    sink.close()
    with Sink.open(dsn, "/source.db", "public", PROFILES) as again:
        assert (again.position, again.lineage) == (at(4), LINEAGE)


def test_load_widens_and_rekeys(sink: Sink, reader: Reader, make: Callable[[str], Path]) -> None:
    """Values that do not fit, and a NULL in the key, are found before the copy."""
    path = make(
        "CREATE TABLE items (id TEXT PRIMARY KEY, n INTEGER, x REAL);"
        "INSERT INTO items VALUES ('a', 'odd', 1.5), (NULL, 1, NULL), (NULL, x'00', 'text');"
    )
    load(sink, path, ITEMS)
    assert rows(sink, reader) == [("a", "odd", 1.5), (None, 1, None), (None, b"\0", "text")]
    assert sink.mappings["items"].key is None
    assert sink.mappings["items"].jsonb_columns == {"n", "x"}


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_load_rejects(sink: Sink, reader: Reader, make: Callable[[str], Path], encoding: str) -> None:
    """Keys that are broken text or too long go to the rejects, whole; the rest is loaded."""
    broken = "ff" if encoding == "UTF-8" else "00d8" if encoding == "UTF-16le" else "d800"
    path = make(
        f"PRAGMA encoding='{encoding}'; CREATE TABLE items (id TEXT PRIMARY KEY, n INTEGER, x REAL);"
        "INSERT INTO items VALUES ('fine', 1, 1), ('nul' || char(0) || 'x', 2, 2),"
        f"(CAST(x'{broken}' AS TEXT), 3, 3), (printf('%03000d', 1), 4, 4), ('ü', 5, 5);"
        "CREATE TABLE odd (id TEXT PRIMARY KEY, n INTEGER, x REAL);"
        "INSERT INTO odd VALUES ('a' || char(0), 'text', 1);"
    )
    load(sink, path, ITEMS, replace(ITEMS, name="odd"))
    assert set(rows(sink, reader)) == {("fine", 1, 1.0), ("nul\0x", 2, 2.0), ("ü", 5, 5.0)}
    assert rows(sink, reader, "odd") == [("a\0", "text", 1.0)]
    assert sum(sink.rejects.values()) == 2
    assert {str(r[2]) for r in rejects(reader)} == {
        "id: text that is not valid in the database's encoding",
        "key too long for a Postgres index",
    }


def row_versions(reader: Reader) -> dict[object, object]:
    """Where each row is and which transaction wrote it."""
    return {row[0]: row[1] for row in reader.execute("SELECT id, ctid::text || xmin::text FROM items")}


def test_resync_writes_only_what_differs(sink: Sink, reader: Reader, make: Callable[[str], Path]) -> None:
    """Loaded again, rows that are equal are not written; the others are, and the gone ones go."""
    head = "CREATE TABLE items (id TEXT PRIMARY KEY, n INTEGER, x REAL); CREATE TABLE notes (body TEXT);"
    first = make(
        head + "INSERT INTO items VALUES ('a',1,0.0), ('b',2,2), ('c',3,3); INSERT INTO notes VALUES ('n'), (char(0));"
    )
    load(sink, first, ITEMS, NOTES)
    before = row_versions(reader)
    second = make(head + "INSERT INTO items VALUES ('a',1,0.5), ('b',2,2), ('d',4,4);")
    load(sink, second, ITEMS, frame=5)
    assert exact(rows(sink, reader)) == exact([("a", 1, 0.5), ("b", 2, 2.0), ("d", 4, 4.0)])
    after = row_versions(reader)
    assert after["b"] == before["b"] and after["a"] != before["a"]
    assert public_tables(reader) == ["items", "notes__dropped_1_5"]
    assert sum(sink.rejects.values()) == 0


def test_resync_into_another_shape(sink: Sink, reader: Reader, make: Callable[[str], Path]) -> None:
    """Columns added, widened, taken away or a key lost between two loads."""
    script = "CREATE TABLE items (id TEXT PRIMARY KEY, n INTEGER, x REAL); INSERT INTO items VALUES ('a',1,1);"
    load(sink, make(script), ITEMS)
    grown = replace(ITEMS, columns=(*ITEMS.columns, Column("y", "INTEGER", "INTEGER", default=7)))
    load(sink, make(script + "ALTER TABLE items ADD y INTEGER DEFAULT 7; UPDATE items SET n = 'odd';"), grown)
    assert rows(sink, reader) == [("a", "odd", 1.0, 7)]
    assert public_tables(reader) == ["items"]
    load(sink, make(script), ITEMS, frame=2)
    assert rows(sink, reader) == [("a", 1, 1.0)]
    load(sink, make(script + "INSERT INTO items VALUES (NULL, 2, 2);"), ITEMS, frame=3)
    assert rows(sink, reader) == [("a", 1, 1.0), (None, 2, 2.0)]
    assert public_tables(reader) == ["items", "items__dropped_1_2"], "what is kept is what had one column more"


def test_readers_see_a_resync_at_once(sink: Sink, dsn: str, make: Callable[[str], Path]) -> None:
    """While a resync runs, readers see the first state or the second, never between."""
    script = (
        "CREATE TABLE items (id TEXT PRIMARY KEY, n INTEGER, x REAL);"
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 5000)"
        "INSERT INTO items SELECT 'k' || (i + {0}), {0}, 1 FROM c;"
    )
    load(sink, make(script.format(0)), ITEMS)
    seen: set[tuple[object, ...]] = set()
    done = threading.Event()

    def watch() -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            while not done.is_set():
                seen.update(conn.execute("SELECT count(*), min(n), max(n) FROM items").fetchall())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for frame, shift in enumerate((1000, 0, 2000, 0), 2):
            load(sink, make(script.format(shift)), ITEMS, frame=frame)
    finally:
        done.set()
        watcher.join()
    assert seen <= {(5000, n, n) for n in (0, 1000, 2000)}


def test_failed_load_changes_nothing(dsn: str, reader: Reader, make: Callable[[str], Path]) -> None:
    """A load that fails before its commit leaves the old state, in Postgres and in the sink."""
    armed: list[str] = []

    def fault(name: str) -> None:
        if name in armed:
            raise RuntimeError(name)

    path = make("CREATE TABLE items (id TEXT PRIMARY KEY, n INTEGER, x REAL); INSERT INTO items VALUES ('a',1,1);")
    with Sink.open(dsn, "/source.db", "public", PROFILES, faults=fault) as sink:
        for name in ("load:table", "load:before-commit"):
            armed[:] = [name]
            with pytest.raises(RuntimeError, match=name):
                load(sink, path, ITEMS)
            assert (sink.position, sink.mappings, public_tables(reader)) == (None, {}, [])
        armed.clear()
        load(sink, path, ITEMS)
        armed[:] = ["apply:before-commit"]
        with pytest.raises(RuntimeError):
            sink.apply(batch(2, (ITEMS, [insert("b", 1, 1.0)])))
        assert rows(sink, reader) == [("a", 1, 1.0)]


def test_unreadable_snapshot(sink: Sink, tmp_path: Path) -> None:
    """A file that is not a database is the source's failure, and changes nothing."""
    path = tmp_path / "not.db"
    path.write_bytes(b"no database" * 500)
    with pytest.raises(SourceError):
        load(sink, path, ITEMS)
    assert sink.position is None


# --- loading: the fast path ------------------------------------------------------------------------

#: By Postgres type: how a column of it is declared, and what such a column can hold.
LOADED: dict[str, tuple[str, Affinity, list[Value]]] = {
    "bigint": ("INTEGER", "INTEGER", [0, -1, 2**63 - 1, -(2**63), None]),
    "double precision": (
        "REAL", "REAL",
        [0.0, -0.0, 0.1, 1.0, 2.0**53 + 2, 1e22, 1e23, 5e-324, 2.2250738585072014e-308, 2.225073858507201e-308,
         1.7976931348623157e308, -1.5e-310, 9007199254740993.0, math.inf, -math.inf, math.pi, None],
    ),
    "text": ("TEXT", "TEXT", ["", "a", "\\N", "\\.", "\t\n\r\b\\\"'", "\x01\x02\x7f", "é€😀", "x" * 300_000, None]),
    "bytea": ("BLOB", "BLOB", [b"", b"\0", bytes(range(256)), b"\\x00", b"\xff" * 300_000, None]),
    "boolean": ("BOOLEAN", "NUMERIC", [0, 1, None]),
    "numeric": (
        "DECIMAL", "NUMERIC",
        [0, 1, -(2**63), 2**63 - 1, 0.1, 1.5, 1e300, -1e-300, 5e-324, 9.5e18, math.inf, -math.inf, None],
    ),
    "jsonb": (
        "", "BLOB",
        [0, 1, 1.0, -0.0, 0.1, 1e300, 5e-324, math.inf, -math.inf, 2**63 - 1, -(2**63), "", "null", '{"blob":"AA=="}',
         "\\u0000", "\x01", "é😀", b"", b"\0\xff", None],
    ),
}  # fmt: skip

#: Values that a column of some other type does not hold.
ODD: list[Value] = [2, 1.5, -0.0, "12", "1.5", "true", "odd", b"", b"12"]


def made_of(
    make: Callable[[str], Path], name: str, declared: str, affinity: Affinity, values: Sequence[Value]
) -> tuple[Path, Table]:
    """A database with a table of a key and one column, which has these values even where it would convert them."""
    path = make(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, v)")
    db = apsw.Connection(str(path))
    db.executemany(f"INSERT INTO {name} VALUES (?, ?)", list(enumerate(values)))
    db.execute("PRAGMA writable_schema=ON")
    sql = f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, v {declared})"
    db.execute("UPDATE sqlite_schema SET sql = ?", (sql,))
    db.close()
    columns: list[tuple[str, str, Affinity]] = [("id", "INTEGER", "INTEGER"), ("v", declared, affinity)]
    return path, table(name, columns, ("id",), rowid_alias="id")


def never(table: Table) -> Iterator[RowChange]:
    raise AssertionError("the careful path was taken")


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("pg_type", LOADED)
def test_values_on_the_fast_path(
    sink: Sink, reader: Reader, make: Callable[[str], Path], pg_type: str, again: bool
) -> None:
    """Each value arrives to the bit, in a new table and beside the one that is there; no row is decoded."""
    declared, affinity, values = LOADED[pg_type]
    path, made = made_of(make, "items", declared, affinity, values)
    if again:
        sink.load(made_of(make, "items", declared, affinity, [None])[0], [made], never, at(1), LINEAGE)
    sink.load(path, [made], never, at(2), LINEAGE)
    assert sink.mappings["items"].columns[1].pg_type == pg_type
    assert exact(rows(sink, reader)) == exact(list(enumerate(values)))


@pytest.mark.few(14)
@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("pg_type", [name for name in LOADED if name != "jsonb"])
def test_a_value_of_another_type_on_the_fast_path(
    sink: Sink, reader: Reader, make: Callable[[str], Path], pg_type: str, odd: Value
) -> None:
    """The last row alone does not fit: it is never converted in silence; the column is widened, fast again."""
    declared, affinity, values = LOADED[pg_type]
    path, made = made_of(make, "items", declared, affinity, [*values, odd])
    sink.load(path, [made], never, at(1), LINEAGE)
    # What SQLite itself reads from such a column (a whole number in a REAL column is a real).
    db = apsw.Connection(str(path))
    expected = db.execute("SELECT id, v FROM items ORDER BY id").fetchall()
    db.close()
    assert exact(rows(sink, reader)) == exact(expected)
    try:
        encode(pg_type, expected[-1][1])
    except Misfit:
        pg_type = "jsonb"
        if declared == "BOOLEAN" and isinstance(expected[-1][1], int | float) and repr(odd) != "-0.0":
            pg_type = "bigint" if isinstance(expected[-1][1], int) else "double precision"
    assert sink.mappings["items"].columns[1].pg_type == pg_type


#: Declared type, values, and how they are in Postgres.
OF_ONE_KIND: list[tuple[str, list[Value], str, list[object]]] = [
    ("DATETIME", [1, None, 2**63 - 1], "bigint", [1, None, 2**63 - 1]),
    ("DATETIME", [1, 2.5, 2**53, -(2.0**60), None], "double precision", [1.0, 2.5, 2.0**53, -(2.0**60), None]),
    ("BOOLEAN", ["t", None, "f"], "boolean", [True, None, False]),
    ("BOOLEAN COLLATE NOCASE", ["FALSE", "TRUE"], "boolean", [False, True]),
    ("INTEGER", ["", "é"], "text", ["", "é"]),
    ("TEXT", [b"", None], "bytea", [b"", None]),
    ("BLOB", [1.0, -0.0, None], "double precision", [1.0, -0.0, None]),
]


@pytest.mark.parametrize(("declared", "values", "kind", "shown"), OF_ONE_KIND)
def test_one_kind_on_the_fast_path(
    sink: Sink,
    reader: Reader,
    make: Callable[[str], Path],
    declared: str,
    values: list[Value],
    kind: str,
    shown: list[object],
) -> None:
    """A first copy finds the types by queries, and sends no row through Python's codecs."""
    affinities: dict[str, Affinity] = {"INTEGER": "INTEGER", "TEXT": "TEXT", "BLOB": "BLOB"}
    affinity = affinities.get(declared, "NUMERIC")
    path, made = made_of(make, "items", declared, affinity, values)
    sink.load(path, [made], never, at(1), LINEAGE)
    assert sink.mappings["items"].columns[1].pg_type == kind
    found = [row[0] for row in reader.execute("SELECT v FROM items ORDER BY id").fetchall()]
    assert [(type(v), repr(v)) for v in found] == [(type(v), repr(v)) for v in shown]


def test_a_nul_in_a_column_of_any_type(sink: Sink, reader: Reader, make: Callable[[str], Path]) -> None:
    """jsonb holds no NUL in a string: the text is kept in base64."""
    path = make(
        "CREATE TABLE items (id INTEGER PRIMARY KEY, v);"
        "INSERT INTO items VALUES (1, 'a'), (2, 'n' || char(0)), (3, 1.0)"
    )
    any_type = table("items", [("id", "INTEGER", "INTEGER"), ("v", "", "BLOB")], ("id",), rowid_alias="id")
    load(sink, path, any_type)
    assert exact(rows(sink, reader)) == exact([(1, "a"), (2, "n\0"), (3, 1.0)])
    assert rejects(reader) == []


def test_all_surprises_in_one_table(sink: Sink, reader: Reader, make: Callable[[str], Path]) -> None:
    """Misfits, a NULL in the key, NUL and broken text, a key that is too long for an index once it is none."""
    path = make(
        "CREATE TABLE items (id TEXT PRIMARY KEY, n INTEGER, x REAL);"
        "INSERT INTO items VALUES ('a', 1, 1), (NULL, 'odd', 2), ('b' || char(0), 3, 3), ('c', 4, x'00'),"
        "(CAST(x'ff' AS TEXT), 5, 5), (printf('%03000d', 1), 6, 6);"
    )
    load(sink, path, ITEMS)
    assert sink.mappings["items"].key is None
    assert sink.mappings["items"].jsonb_columns == {"n", "x"}
    assert exact(rows(sink, reader)) == exact(
        [
            ("a", 1, 1.0), (None, "odd", 2.0), ("b\u2400", 3, 3.0),
            ("c", 4, b"\0"), ("\ufffd", 5, 5.0), (f"{1:03000}", 6, 6.0),
        ]
    )  # fmt: skip
    assert rejects(reader) == []


@pytest.mark.parametrize("columns", [1, 1400])
def test_a_row_that_is_too_long_is_not_read_on_the_fast_path(
    sink: Sink, reader: Reader, make: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Postgres cannot hold it; SQLite tells its length before it is read. (In small.)"""
    monkeypatch.setattr("mirror.postgres.source_copy.MAX_ROW_BYTES", 5_000)
    names = [f"c{n}" for n in range(columns)]
    path = make(
        f"CREATE TABLE long (id INTEGER PRIMARY KEY, {' TEXT, '.join(names)} TEXT);"
        "INSERT INTO long(id, c0) VALUES (1, 'short'), (2, printf('%06000d', 0));"
    )
    long = table(
        "long", [("id", "INTEGER", "INTEGER"), *((n, "TEXT", "TEXT") for n in names)], ("id",), rowid_alias="id"
    )
    decoded: list[RowChange] = []

    def all_rows(table: Table) -> Iterator[RowChange]:
        for row in decoded_rows(path)(table):
            decoded.append(row)
            yield row

    sink.load(path, [long], all_rows, at(1), LINEAGE)
    assert len(decoded) == 2
    assert [row[1] for row in rows(sink, reader, "long")] == ["short", "0" * 6000]


def test_progress_of_a_load(sink: Sink, make: Callable[[str], Path]) -> None:
    """It tells how many rows there are roughly, where that can be told from the ends of the table."""
    many = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 1200)"
    path = make(
        f"CREATE TABLE plain (v INTEGER); {many} INSERT INTO plain SELECT i FROM c;"
        "CREATE TABLE sparse (id INTEGER PRIMARY KEY);"
        f"{many} INSERT INTO sparse SELECT (i - 600) * 15000000000000000 FROM c;"
        f"CREATE TABLE apart (id INTEGER PRIMARY KEY) WITHOUT ROWID; {many} INSERT INTO apart SELECT i FROM c;"
        f"CREATE TABLE hidden (id INTEGER, rowid, _rowid_, oid, PRIMARY KEY (id DESC));"
        f"{many} INSERT INTO hidden(id) SELECT i FROM c; CREATE TABLE empty (v INTEGER);"
    )
    number: tuple[str, str, Affinity] = ("id", "INTEGER", "INTEGER")
    names: list[tuple[str, str, Affinity]] = [(name, "", "BLOB") for name in ("rowid", "_rowid_", "oid")]
    tables = [
        table("plain", [("v", "INTEGER", "INTEGER")]),
        table("sparse", [number], ("id",), rowid_alias="id"),
        table("apart", [number], ("id",), without_rowid=True),
        table("hidden", [number, *names], ("id",)),
        table("empty", [("v", "INTEGER", "INTEGER")]),
    ]
    steps: list[tuple[str, int, int | None]] = []
    sink.load(path, tables, never, at(1), LINEAGE, lambda *step: steps.append(step))
    totals: dict[str, int | None] = {"plain": 1200, "sparse": None, "apart": None, "hidden": None}
    expected = [
        (name, done, total)
        for name, total in totals.items()
        for done, total in ((0, None), (500, total), (1000, total), (1200, 1200))
    ]
    assert steps == [*expected, ("empty", 0, None), ("empty", 0, 0)]


# --- what Postgres refuses -------------------------------------------------------------------------

#: So many columns of jsonb that a row of short texts does not fit a page of Postgres; NULLs do.
WIDE = table("wide", [ID, *((f"c{n}", "", "BLOB") for n in range(900))], ("id",))
FITS: tuple[Value, ...] = (None,) * 900
TOO_BIG: tuple[Value, ...] = ("twelve bytes",) * 900


def apply_carefully(
    sink: Sink, made: Callable[[], Batch], widen: Mapping[tuple[str, str], ColumnType] = NO_WIDENING
) -> None:
    """As the pipeline does: the plain way is refused and changes nothing, then the careful one."""
    with pytest.raises(RefusedError):
        sink.apply(made(), widen=widen)
    sink.apply(made(), widen=widen, careful=True)


@pytest.mark.parametrize("filler", [0, 1500])
def test_a_row_that_is_too_big_is_rejected_alone(sink: Sink, reader: Reader, filler: int) -> None:
    """Postgres alone knows that it is too big. Its old state goes, another row may take its old key."""
    sink.apply(
        batch(1, (WIDE, [insert("a", *FITS), insert("b", *FITS)]), (ITEMS, []), schema=create(WIDE, ITEMS)),
    )
    more = [insert(f"m{n}", *FITS) for n in range(filler)]

    def second() -> Batch:
        changed = [
            update(("a", *FITS), ("z", *TOO_BIG)),
            update(("b", *FITS), ("a", *FITS)),
            insert("c", *TOO_BIG),
            insert("d", *FITS),
            *more,
        ]
        return batch(2, (ITEMS, [insert("i", 1, 1.0)]), (WIDE, changed))

    apply_carefully(sink, second)
    assert [row[0] for row in rows(sink, reader, "wide")] == sorted(["a", "d", *(row.after[0] for row in more)])
    assert [(name, key) for name, key, _, _ in rejects(reader)] == [("wide", '["c"]'), ("wide", '["z"]')]
    assert all("row is too big" in str(reason) for _, _, reason, _ in rejects(reader))
    assert rows(sink, reader) == [("i", 1, 1.0)]
    assert (sum(sink.rejects.values()), sink.refusals) == (2, {})
    sink.apply(batch(3, (WIDE, [update(("c", *TOO_BIG), ("c", *FITS)), update(("z", *TOO_BIG), ("y", *FITS))])))
    assert sum(sink.rejects.values()) == 0
    assert {"c", "y"} <= {row[0] for row in rows(sink, reader, "wide")}


def test_a_row_that_is_too_big_at_the_load(sink: Sink, reader: Reader, make: Callable[[str], Path]) -> None:
    columns = ", ".join(f"c{n}" for n in range(900))
    texts = ", ".join(["'twelve bytes'"] * 900)
    path = make(
        f"CREATE TABLE wide (id TEXT PRIMARY KEY, {columns}); INSERT INTO wide(id) VALUES ('a'), ('c');"
        f"INSERT INTO wide VALUES ('b', {texts});"
    )
    load(sink, path, WIDE)
    assert [row[0] for row in rows(sink, reader, "wide")] == ["a", "c"]
    assert [key for _, key, _, _ in rejects(reader)] == ['["b"]']
    load(sink, path, WIDE, frame=2)  # now beside what is there
    assert [row[0] for row in rows(sink, reader, "wide")] == ["a", "c"]
    assert sum(sink.rejects.values()) == 1


def test_a_table_that_is_too_wide_is_refused_alone(
    sink: Sink, reader: Reader, make: Callable[[str], Path], dsn: str
) -> None:
    """At a load and later; the rest goes on; a smaller definition brings it back."""
    columns = [(f"c{n}", "", "BLOB") for n in range(1700)]
    wider = table("wide", columns)
    path = make(
        f"CREATE TABLE wide ({', '.join(name for name, _, _ in columns)});"
        "CREATE TABLE items (id TEXT PRIMARY KEY, n INTEGER, x REAL); INSERT INTO items VALUES ('a', 1, 1.0);"
    )
    load(sink, path, wider, ITEMS)
    assert rows(sink, reader) == [("a", 1, 1.0)]
    assert sink.refusals.keys() == {"wide"}
    assert "1,700 columns" in sink.refusals["wide"].reason
    assert sink.refusals["wide"].next_step
    second = table("second", columns)
    apply_carefully(
        sink,
        lambda: batch(2, (second, [insert(*(None,) * 1700)]), (ITEMS, [insert("b", 2, 2.0)]), schema=create(second)),
    )
    assert rows(sink, reader) == [("a", 1, 1.0), ("b", 2, 2.0)]
    assert sink.refusals.keys() == {"wide", "second"}
    sink.close()
    narrow = table("second", [("c0", "", "BLOB")])
    with Sink.open(dsn, "/source.db", "public", PROFILES) as again:
        assert again.refusals.keys() == {"wide", "second"}
        again.apply(batch(3, (wider, [insert(*(None,) * 1700)])))  # passed over
        rebuilt = SchemaChange("rebuild", second, narrow)
        dropped = SchemaChange("drop", wider, None)
        again.apply(batch(4, (narrow, [insert(7)]), schema=[rebuilt, dropped]))
        assert rows(again, reader, "second") == [(7,)]
        assert again.refusals == {}


def test_a_refused_change_of_a_table_is_made_up_for(sink: Sink, reader: Reader) -> None:
    """A view on the column keeps it from becoming jsonb; what came meanwhile is there once it is dropped."""
    sink.apply(batch(1, (ITEMS, [insert("a", 1, 1.0), insert("b", 2, 2.0)]), schema=create(ITEMS)))
    reader.execute("CREATE VIEW seen AS SELECT n FROM items")
    after: dict[str, Row] = {"a": ("a", "one", 1.0), "c": ("c", 3, 3.0)}

    def second() -> Batch:
        changes = [update(("a", 1, 1.0), after["a"]), delete("b", 2, 2.0), insert(*after["c"])]
        return batch(2, (ITEMS, changes), (NOTES, [insert("beside")]), schema=create(NOTES))

    with pytest.raises(ColumnMisfit):
        sink.apply(second())
    apply_carefully(sink, second, widen=dict.fromkeys({("items", "n")}, ANY_VALUE))
    assert rows(sink, reader) == [("a", 1, 1.0), ("b", 2, 2.0)]
    assert rows(sink, reader, "notes") == [("beside",)]
    assert "view" in sink.refusals["items"].next_step

    def current(wanted: Table) -> Iterator[RowChange]:
        assert wanted is ITEMS
        return (insert(*row) for row in after.values())

    assert not sink.reload(ITEMS, current)
    reader.execute("DROP VIEW seen")
    assert sink.reload(ITEMS, current)
    assert rows(sink, reader) == list(after.values())
    assert (sink.refusals, sink.position) == ({}, at(2))


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE items",
        "ALTER TABLE items DROP COLUMN n",
        "ALTER TABLE items ALTER COLUMN n TYPE int",
        "ALTER TABLE items DROP CONSTRAINT items_pkey",
        "ALTER TABLE items RENAME TO other",
        "ALTER TABLE items ADD CHECK (n < 2) NOT VALID",
    ],
)
def test_a_table_changed_by_hand_is_made_anew(sink: Sink, reader: Reader, damage: str) -> None:
    sink.apply(batch(1, (ITEMS, [insert("a", 1, 1.0)]), schema=create(ITEMS)))
    reader.execute(damage.encode())
    big = 5_000_000_000
    apply_carefully(sink, lambda: batch(2, (ITEMS, [insert("b", big, 2.0)])))
    if "CHECK" in damage:
        assert (sum(sink.rejects.values()), sink.refusals) == (1, {})
        return
    assert sink.refusals.keys() == {"items"}
    both = [("a", 1, 1.0), ("b", big, 2.0)]
    assert sink.reload(ITEMS, lambda _: (insert(*row) for row in both))
    assert rows(sink, reader) == both


def test_a_constraint_that_somebody_added_refuses_the_table(sink: Sink, reader: Reader) -> None:
    sink.apply(batch(1, (ITEMS, [insert("a", 1, 1.0)]), schema=create(ITEMS)))
    reader.execute("CREATE UNIQUE INDEX once ON items (n)")
    apply_carefully(sink, lambda: batch(2, (ITEMS, [insert("b", 1, 2.0)])))
    assert "once" in sink.refusals["items"].reason
    assert sink.refusals["items"].next_step == "drop the constraint, which is not the mirror's"
    reader.execute("DROP INDEX once")
    assert sink.reload(ITEMS, lambda _: iter([insert("a", 1, 1.0), insert("b", 1, 2.0)]))
    assert rows(sink, reader) == [("a", 1, 1.0), ("b", 1, 2.0)]


def test_a_refused_table_is_renamed_and_dropped(sink: Sink, reader: Reader) -> None:
    wider = table("wide", [(f"c{n}", "", "BLOB") for n in range(1700)])
    apply_carefully(sink, lambda: batch(1, (wider, []), schema=create(wider)))
    renamed = replace(wider, name="still wide")
    sink.apply(batch(2, schema=[SchemaChange("rename", wider, renamed)]))
    assert sink.refusals.keys() == {"still wide"}
    sink.apply(batch(3, schema=[SchemaChange("drop", renamed, None)]))
    assert sink.refusals == {}


def test_a_rename_onto_a_name_that_is_taken(sink: Sink, reader: Reader) -> None:
    sink.apply(batch(1, (ITEMS, [insert("a", 1, 1.0)]), schema=create(ITEMS)))
    reader.execute("CREATE TABLE taken (mine int)")
    taken = replace(ITEMS, name="taken")
    apply_carefully(sink, lambda: batch(2, schema=[SchemaChange("rename", ITEMS, taken)]))
    assert "not the mirror's" in sink.refusals["taken"].reason
    assert sink.mappings == {}
    assert reader.execute("SELECT id FROM items__dropped_1_2").fetchall() == [("a",)]
    reader.execute("DROP TABLE taken")
    assert sink.reload(taken, lambda _: iter([insert("a", 1, 1.0)]))
    assert rows(sink, reader, "taken") == [("a", 1, 1.0)]
