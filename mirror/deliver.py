"""From the replica into Postgres: one batch at a time, and tables that were refused before."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from loguru import logger

from mirror.capture.batches import Head, PageBatch
from mirror.decode.diff import Decoded
from mirror.errors import RefusedError, RepairError, SinkError
from mirror.home import SourceTask
from mirror.model import Batch, Lsn, Position, Row, Table, TableChanges, TableResult
from mirror.postgres.signals import ColumnMisfit, NullInKey, RowsNeeded, Signal
from mirror.postgres.sink import Sink
from mirror.postgres.snapshot import Progress
from mirror.profiles import memustore
from mirror.replica import Replica

#: The reason for which pages are compared before a repair.
REPAIR = "a repair was asked for"

Watch = Callable[[Iterable[TableChanges]], Iterable[TableChanges]]
_Given = TypeVar("_Given")

#: Seconds until tables that Postgres refuses are tried again: all their rows are sent each time.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


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
    replica: Replica, sink: Sink, found: PageBatch, check: Callable[[], None], watch: Watch = lambda tables: tables
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
        return Batch(position, found.commits, decoded.schema_changes, watch(decoded.tables))

    results = apply_with_answers(sink, make_batch)
    assert results is not None  # a batch could be made every time
    replica.advance(head, found.images, found.pages, last[0])
    return results


@dataclass(slots=True)
class _Asked:
    """What somebody wants to have tried: all that was refused, or the repair of tables."""

    done: Future[dict[str, str]]
    tables: Collection[str]
    since: Lsn | None = None
    """The replica is compared with the source's pages up to here, and so surely right behind it."""


class Mender:
    """Tries the tables again that Postgres has refused, less and less often; repairs tables when asked."""

    def __init__(self, name: str) -> None:
        """``name``: of the source, for the log."""
        self._asked: list[_Asked] = []
        self._name = name
        self._known: frozenset[str] = frozenset()
        self._pause = FIRST_PAUSE
        self._next = 0.0

    def close(self) -> None:
        """Nothing is tried any more."""
        for asked in self._asked:
            asked.done.cancel()

    def ask(self, done: Future[dict[str, str]], tables: Collection[str]) -> None:
        """Have :meth:`answer` try again what Postgres refused and rejected, or repair ``tables``.

        ``done`` then has, of each table that was repaired, what was done.
        """
        self._asked.append(_Asked(done, tables))

    def answer(self, replica: Replica, sink: Sink, compare: Callable[[str], Head]) -> list[Callable[[], None]]:
        """Do what is asked for, and can be done yet; returns what tells whoever asked. One position, as :meth:`mend`.

        ``compare``: has all pages compared, for a reason; returns where that begins. A repair waits for it:
        its rows come from the replica, which may itself be what is wrong.
        """
        answered: list[Callable[[], None]] = []
        for asked in list(self._asked):
            if asked.since is None and (asked.tables or replica.leapt):
                asked.since = compare(REPAIR).lsn
            if replica.leapt or (asked.since is not None and replica.head.lsn < asked.since):
                continue
            try:
                answered.append(partial(asked.done.set_result, self._retry(replica, sink, asked.tables)))
            except RepairError as error:
                answered.append(partial(asked.done.set_exception, error))
            self._asked.remove(asked)  # and not before: what Postgres' absence cuts off is done when it is back
        return answered

    def mend(self, replica: Replica, sink: Sink) -> bool:
        """Try them if it is time; True if any was tried. Replica and Postgres must be at one position."""
        refused = sink.refusals
        for table in refused.keys() - self._known:
            logger.warning("{}: Postgres refuses {}: {}", self._name, table, refused[table].reason)
            self._pause, self._next = FIRST_PAUSE, 0.0
        self._known = frozenset(refused)
        if not refused or replica.leapt or time.monotonic() < self._next:
            return False
        self._try(refused, replica, sink)
        self._next = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return True

    def _retry(self, replica: Replica, sink: Sink, repair: Collection[str]) -> dict[str, str]:
        """Try them now, and the tables with rows that were rejected; or make tables equal that are to be repaired."""
        tables = replica.schema.tables
        if not repair:
            self._try(sink.refusals.keys() | sink.rejects.keys(), replica, sink)
        return {name: sink.repair(tables[name], replica.rows) for name in repair if name in tables}

    def _try(self, tables: Iterable[str], replica: Replica, sink: Sink) -> None:
        refused = sink.refusals
        for table in sorted(tables):
            if sink.mend(replica.schema.tables[table], replica.rows) and table in refused:
                logger.info("{}: Postgres takes {} again", self._name, table)
        self._known = frozenset(sink.refusals)


def is_recognised(replica: Replica) -> bool:
    """Whether the source, as the replica has it, is a MemuStore or its dashboard."""

    def rows(table: Table) -> Iterable[Row]:
        return (change.after for change in replica.rows(table) if change.after is not None)

    return memustore.recognise(replica.schema.tables, rows)


def may_be_known(task: SourceTask, sink: Sink, results: Iterable[TableResult], schema_changed: bool) -> bool:
    """Whether it is worth a look if a source that is held as any other has become a MemuStore."""
    if task.profile is not None or task.resume_only or sink.profile not in (None, "generic"):
        return False
    return schema_changed or any(result.table == memustore.META for result in results)


def load(replica: Replica, sink: Sink, task: SourceTask, progress: Progress, check: Callable[[], None]) -> None:
    """Make Postgres equal to the whole replica, and have a copy just made count before that is committed.

    By the profile that the task names, else the one that the source was loaded by if that is a known program's,
    else by what the source is. ``progress`` is told how far it is; ``check`` is called while the copy is waited
    for; both may raise.
    """

    def tell(table: str, done: int, total: int | None) -> None:
        progress(table, done, total)
        if done == total:
            replica.rows_sent()

    profile = task.profile
    if profile is None:
        held = sink.profile or "generic"
        profile = "memustore" if held == "generic" and is_recognised(replica) else held
    agent = task.agent or sink.agent or (memustore.DEFAULT_AGENT if profile == "memustore" else None)
    tables = list(replica.schema.tables.values())
    position, lineage = replica.position, replica.lineage
    sink.load(
        replica.database,
        tables,
        replica.rows,
        position,
        lineage,
        tell,
        lambda: replica.finish(check),
        profile=profile,
        agent=agent,
    )
