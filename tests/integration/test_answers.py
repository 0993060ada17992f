"""What Postgres says about a batch is answered in one way, by whoever sends it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest

from mirror.core.errors import MirrorError, SinkError
from mirror.core.positions import Lsn, Position, Salts
from mirror.core.rows import Batch, RowChange, SchemaChange, TableChanges
from mirror.core.tables import Column, Table
from mirror.core.values import Row
from mirror.postgres.profiles import PROFILES
from mirror.postgres.signals import ColumnMisfit, NullInKey, RowsNeeded, Signal
from mirror.postgres.sink import Sink
from mirror.sidecar.deliver import apply_with_answers

ID, VALUE = Column("id", "TEXT", "TEXT"), Column("n", "INTEGER", "INTEGER")


def table(*columns: Column) -> Table:
    return Table("t", 2, columns, ("id",), None, False, tuple(range(len(columns))))


T = table(ID, VALUE)


def at(frame: int) -> Position:
    return Position(Lsn(1, frame), Salts(7, 8), 1_700_000_000.25)


def batch(frame: int, rows: Sequence[Row], schema: Sequence[SchemaChange] = ()) -> Batch:
    changes = [RowChange(number, None, row) for number, row in enumerate(rows, 1)]
    return Batch(at(frame), 1, tuple(schema), [TableChanges(T, iter(changes))])


@pytest.fixture
def sink(dsn: str) -> Iterator[Sink]:
    with Sink.open(dsn, "/source.db", "public", PROFILES) as made:
        made.apply(batch(1, [("a", 1)], [SchemaChange("create", None, T)]))
        yield made


def rows(dsn: str, query: str = "SELECT id, n FROM t ORDER BY 1") -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def test_each_has_its_answer(sink: Sink, dsn: str) -> None:
    """A value that does not fit, and NULL in the key, in one batch."""
    sent: list[frozenset[str]] = []

    def make_batch(whole: frozenset[str]) -> Batch:
        sent.append(whole)
        came: list[Row] = [("b", 7), ("c", "text"), (None, 3)]
        if not whole:
            return batch(2, came)
        return batch(2, [("a", 1), *came], [SchemaChange("rebuild", T, T)])

    assert apply_with_answers(sink, make_batch) is not None
    assert set(sent) == {frozenset(), frozenset({"t"})} and sent[-1] == {"t"}
    assert sink.position == at(2)
    assert rows(dsn) == [("a", 1), ("b", 7), ("c", "text"), (None, 3)]


def test_a_refused_row_is_left_aside(sink: Sink, dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("ALTER TABLE t ADD CHECK (n <> 7)")
    results = apply_with_answers(sink, lambda whole: batch(2, [("b", 7), ("c", 8)]))
    assert results is not None and results[0].rejected == 1
    assert rows(dsn) == [("a", 1), ("c", 8)]


def test_whoever_does_not_have_all_rows_applies_nothing(sink: Sink, dsn: str) -> None:
    """A column is widened all the same, with the batch; but a table of which not all rows are known cannot be sent."""
    made = apply_with_answers(sink, lambda whole: None if whole else batch(2, [("b", "text"), (None, 3)]))
    assert made is None
    assert (sink.position, rows(dsn)) == (at(1), [("a", 1)])
    made = apply_with_answers(sink, lambda whole: None if whole else batch(2, [("b", "text")]))
    assert made is not None and rows(dsn) == [("a", 1), ("b", "text")]


@pytest.mark.parametrize("signal", [ColumnMisfit("t", "n", "text"), NullInKey("t"), RowsNeeded("t")])
def test_an_answer_that_does_not_help_is_an_error_for_people(signal: Signal) -> None:
    """Never the same question for ever, and never a bare signal in the log."""

    class Stubborn:
        def apply(self, batch: Batch, **_: object) -> None:
            raise signal

    with pytest.raises(SinkError) as failed:
        apply_with_answers(Stubborn(), lambda whole: batch(2, []))  # type: ignore[arg-type]
    assert failed.value.retryable and failed.value.next_step
    assert "t" in failed.value.place and signal.wish in failed.value.detail
    assert not isinstance(signal, MirrorError)


def test_a_shared_table_that_cannot_be_extended_is_sent_whole(dsn: str, folder: Path) -> None:
    """Trying a table again asks for all its rows, and has them: it must not ask for ever."""
    empty = folder / "empty.db"
    apsw.Connection(str(empty)).execute("CREATE TABLE x(y); DROP TABLE x")
    lineage = str(uuid.uuid4())
    with (
        Sink.open(dsn, "/ada.db", "public", PROFILES) as ada,
        Sink.open(dsn, "/bob.db", "public", PROFILES) as bob,
    ):
        wide, narrow = table(ID, Column("n", "TEXT", "TEXT")), table(ID)
        for sink, agent, held in ((ada, "ada", wide), (bob, "bob", narrow)):
            sink.load(empty, [], lambda _: iter(()), at(1), lineage, agent=agent)
            sink.apply(Batch(at(2), 1, (SchemaChange("create", None, held),), []))
        wider = table(ID, Column("n", "REAL", "REAL", default=1.5))
        assert bob.reload(wider, lambda _: iter([RowChange(1, None, ("a", 1.5))]))
        assert rows(dsn, "SELECT agent_id, id, n FROM t") == [("bob", "a", 1.5)]
