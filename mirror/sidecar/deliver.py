"""From the replica into Postgres: one batch at a time, and tables that were refused before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from mirror.core.errors import RefusedError, SinkError
from mirror.core.positions import Position
from mirror.core.rows import Batch, TableChanges, TableResult
from mirror.postgres.signals import ColumnMisfit, NullInKey, RowsNeeded, Signal
from mirror.postgres.sink import Sink
from mirror.replica.batches import PageBatch
from mirror.replica.replica import Replica
from mirror.sqlite.decode.diff import Decoded

OnRows = Callable[[Iterable[TableChanges]], Iterable[TableChanges]]
_Given = TypeVar("_Given")


def apply_with_answers(sink: Sink, make_batch: Callable[[frozenset[str]], Batch | None]) -> list[TableResult] | None:
    """Apply a batch, and answer what Postgres says about it by applying it differently, until it is applied.

    The one policy for what Postgres refuses: a value that does not fit its column makes that column jsonb; NULL in a
    key, and a shared table that cannot follow a change, have all rows of the table sent; a row or a table that is
    refused is left aside, and everything else applied.

    ``make_batch``: makes the batch, again each time, with all rows of the tables that it is given; None: it cannot,
    and None is returned, with nothing applied. Raises ``SinkError``, also where the same answer is asked for twice.
    """
    widen: set[tuple[str, str]] = set()
    rekey: set[str] = set()
    rebuild: set[str] = set()
    careful = False
    while True:
        batch = make_batch(frozenset(rekey | rebuild))
        if batch is None:
            return None
        try:
            return sink.apply(batch, widen=widen, rekey=rekey, careful=careful)
        except ColumnMisfit as signal:
            _answer(widen, (signal.table, signal.column), signal)
        except NullInKey as signal:
            _answer(rekey, signal.table, signal)
        except RowsNeeded as signal:
            _answer(rebuild, signal.table, signal)
        except RefusedError:
            if careful:
                raise
            careful = True


def _answer(given: set[_Given], answer: _Given, signal: Signal) -> None:
    """Note an answer; raises ``SinkError`` if it was given before, and did not help."""
    if answer in given:
        raise SinkError(
            "apply a batch",
            signal.table,
            f"done already, and asked for again: {signal.wish}",
            next_step="report this with the table's definition; the mirror tries again by itself",
            retryable=True,
        ) from signal
    given.add(answer)


def deliver(
    replica: Replica, sink: Sink, found: PageBatch, check: Callable[[], None], on_rows: OnRows = lambda tables: tables
) -> list[TableResult]:
    """Decode a batch, apply it, and move the replica on.

    What Postgres says about it is answered by decoding again: see :func:`apply_with_answers`. ``check`` is called
    while pages are read and may raise to end the work: then nothing has been applied. ``watch`` is given what is
    decoded, each time, and gives it back.
    """
    head = found.head
    position = Position(head.lsn, head.salts, head.committed_at)
    last: list[Decoded] = []

    def make_batch(whole: frozenset[str]) -> Batch:
        decoded = replica.decode(found.images, whole, check)
        last[:] = [decoded]
        return Batch(position, found.commits, decoded.schema_changes, on_rows(decoded.tables))

    results = apply_with_answers(sink, make_batch)
    assert results is not None  # a batch could be made every time
    replica.advance(head, found.images, found.pages, last[0])
    return results
