"""From the replica into Postgres: decoding and applying one batch, and what to do when Postgres refuses part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from mirror.core.errors import RefusedError, SinkError
from mirror.core.positions import Position
from mirror.core.rows import Batch, SchemaChange, TableChanges, TableResult, Written
from mirror.core.tables import ColumnType
from mirror.postgres.created import made_by
from mirror.postgres.signals import ColumnMisfit, NullInKey, RowsNeeded, Signal
from mirror.postgres.sink import Sink
from mirror.replica.batches import PageBatch
from mirror.replica.replica import Replica
from mirror.sqlite.decode.diff import Decoded

OnRows = Callable[[Iterable[TableChanges]], Iterable[TableChanges]]
#: Who wrote the commits up to a position, as far as hooks have told.
Told = Callable[[Position], tuple[Written, ...]]
_Given = TypeVar("_Given")


def apply_with_answers(sink: Sink, make_batch: Callable[[frozenset[str]], Batch | None]) -> list[TableResult] | None:
    """Apply a batch; where Postgres refuses it, apply it again in another way, until it is applied.

    Columns of tables that the batch makes have the types of their values from the start. For the rest, this is the only
    policy for what Postgres refuses: when a value does not fit its column, the column gets a type that
    holds it; for NULL in a key, or a shared table that cannot follow a change, all rows of the table are sent; a row or
    a table that is refused is left out, and the rest is applied.

    ``make_batch``: makes the batch for each try, with all rows of the tables that are named in its argument. It returns
    None if it cannot: then None is returned, and nothing has been applied. Raises ``SinkError``, also where Postgres
    asks twice for the same change.
    """
    widen: dict[tuple[str, str], ColumnType] = {}
    widened: set[tuple[str, str, ColumnType]] = set()
    rekey: set[str] = set()
    rebuild: set[str] = set()
    seen: set[str] = set()
    careful = False
    while True:
        batch = make_batch(frozenset(rekey | rebuild))
        if batch is None:
            return None
        if new := made_by(batch) - seen:
            seen |= new
            widen = sink.types_of_made(batch, new) | widen
            continue  # its rows can be read once
        try:
            return sink.apply(batch, widen=widen, rekey=rekey, careful=careful)
        except ColumnMisfit as signal:
            _answer(widened, (signal.table, signal.column, signal.becomes), signal)
            widen[signal.table, signal.column] = signal.becomes
        except NullInKey as signal:
            _answer(rekey, signal.table, signal)
        except RowsNeeded as signal:
            _answer(rebuild, signal.table, signal)
        except RefusedError:
            if careful:
                raise
            careful = True


def _answer(given: set[_Given], answer: _Given, signal: Signal) -> None:
    """Add an answer; raises ``SinkError`` if it was given before and did not help."""
    if answer in given:
        raise SinkError(
            "apply a batch",
            signal.table,
            f"tried already, without effect: {signal.wish}",
            next_step="report this with the table's definition; the mirror retries by itself",
            retryable=True,
        ) from signal
    given.add(answer)


def deliver(
    replica: Replica,
    sink: Sink,
    found: PageBatch,
    check: Callable[[], None],
    on_rows: OnRows = lambda tables: tables,
    told: Told = lambda position: (),
) -> tuple[list[TableResult], tuple[SchemaChange, ...]]:
    """Decode a batch, apply it, and advance the replica; returns what it did to tables, and to their definitions.

    Where Postgres refuses something, the batch is decoded again: see :func:`apply_with_answers`. ``check``: called
    while pages are read; may raise to end the work, and then nothing has been applied. ``on_rows``: gets what is
    decoded, each time, and returns what is to be applied. ``told``: asked for who wrote it. Raises ``SinkError``.
    """
    head = found.head
    position = Position(head.lsn, head.salts, head.committed_at)
    last: list[Decoded] = []

    def make_batch(whole: frozenset[str]) -> Batch:
        decoded = replica.decode(found.images, whole, check, compared=found.compared)
        last[:] = [decoded]
        return Batch(position, found.commits, decoded.schema_changes, on_rows(decoded.tables), partial(told, position))

    results = apply_with_answers(sink, make_batch)
    assert results is not None  # a batch could be made every time
    replica.advance(head, found.images, found.pages, last[0])
    return results, tuple(last[0].schema_changes)
