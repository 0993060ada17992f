"""Tables that Postgres refused, and repairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from loguru import logger

from mirror.core.backoff import Backoff
from mirror.core.errors import RepairError
from mirror.core.positions import Lsn
from mirror.postgres.sink import Sink
from mirror.replica.batches import Head
from mirror.replica.replica import Replica

#: The reason for which pages are compared before a repair.
REPAIR = "a repair was asked for"


#: Seconds until tables that Postgres refuses are tried again: all their rows are sent each time.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


@dataclass(slots=True)
class _Asked:
    """What somebody wants to have tried: all that was refused, or the repair of tables."""

    done: Future[dict[str, str]]
    tables: Collection[str]
    since: Lsn | None = None
    """The replica is compared with the source's pages up to here, and so surely right behind it."""


class TableRepairs:
    """Tries the tables again that Postgres has refused, less and less often; repairs tables when asked."""

    def __init__(self, name: str) -> None:
        """``name``: of the source, for the log."""
        self._asked: list[_Asked] = []
        self._name = name
        self._known: frozenset[str] = frozenset()
        self._pause = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
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
        """Do what is asked for and can be done by now; returns what answers whoever asked.

        Replica and Postgres must be at one position.

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

    def retry_refused(self, replica: Replica, sink: Sink) -> bool:
        """Try them if it is time; True if any was tried. Replica and Postgres must be at one position."""
        refused = sink.refusals
        for table in refused.keys() - self._known:
            logger.warning("{}: Postgres refuses {}: {}", self._name, table, refused[table].reason)
            self._pause.reset()
            self._next = 0.0
        self._known = frozenset(refused)
        if not refused or replica.leapt or time.monotonic() < self._next:
            return False
        self._try(refused, replica, sink)
        self._next = time.monotonic() + self._pause.next()
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
            if sink.reload(replica.schema.tables[table], replica.rows) and table in refused:
                logger.info("{}: Postgres takes {} again", self._name, table)
        self._known = frozenset(sink.refusals)
