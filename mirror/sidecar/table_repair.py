"""Retrying tables that Postgres refused, and repairing tables on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from loguru import logger

from mirror.core.backoff import Backoff
from mirror.core.errors import OthersWroteError, RefusedError, RepairError
from mirror.core.positions import Lsn
from mirror.core.rules import Rules
from mirror.core.tables import Table
from mirror.postgres.rules import is_followed, may_be_followed, recorded
from mirror.postgres.sink import Sink
from mirror.postgres.target import Target
from mirror.replica.batches import Head
from mirror.replica.replica import Replica
from mirror.sidecar.first_copy import heirs_of
from mirror.sidecar.source_folder import SourceTask

#: The reason for which pages are compared before a repair.
REPAIR = "a repair was asked for"

#: Seconds until tables that Postgres refuses are tried again, at first and at most: all their rows are sent each time.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


@dataclass(slots=True)
class _Request:
    """A request to retry all that was refused, or to repair tables."""

    done: Future[dict[str, str]]
    tables: Collection[str]
    replace: bool
    """Rows that others have written may be replaced."""
    since: Lsn | None = None
    """Where the comparison of the source's pages begins: the replica is surely right after it. None: none yet."""


class TableRepairs:
    """Retries the tables that Postgres has refused, less and less often; repairs tables on request.

    Thread: the pipeline's alone.
    """

    def __init__(self, task: SourceTask) -> None:
        self._requests: list[_Request] = []
        self._name = task.name
        self._task = task
        self._known: frozenset[str] = frozenset()
        self._pause = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self._next = 0.0

    def close(self) -> None:
        """Cancel all requests."""
        for request in self._requests:
            request.done.cancel()

    def ask(self, done: Future[dict[str, str]], tables: Collection[str], *, replace: bool = False) -> None:
        """Have :meth:`answer` retry what Postgres refused and rejected, or repair ``tables``.

        ``done`` then gets, by table, what the repair did. ``replace``: rows that others have written may be replaced;
        else ``done`` gets ``OthersWroteError``, and nothing was done, where there are any in these tables.
        """
        self._requests.append(_Request(done, tables, replace))

    @property
    def asked(self) -> bool:
        """Whether there are requests."""
        return bool(self._requests)

    def turn(self, replica: Replica, sink: Sink, compare: Callable[[str], Head], changed: Callable[[], None]) -> None:
        """Retry and repair what is due or requested. ``compare``: as for :meth:`answer`; ``changed``: called after it.

        Replica and Postgres must be at one position. Raises ``SinkError``.
        """
        if done := self.answer(replica, sink, compare):
            changed()
            for answer in done:
                answer()
        if not self._task.resume_only and self.retry_refused(replica, sink):
            changed()

    def answer(self, replica: Replica, sink: Sink, compare: Callable[[str], Head]) -> list[Callable[[], None]]:
        """Carry out the requests that can be by now; returns the calls that answer them.

        Replica and Postgres must be at one position. ``compare``: starts a comparison of all pages, with the given
        reason, and returns where it begins. A repair waits for it: its rows come from the replica, which may itself be
        wrong. Raises ``SinkError``, after which the request is carried out again by the next call.
        """
        answered: list[Callable[[], None]] = []
        for request in list(self._requests):
            if request.since is None and (request.tables or replica.leapt):
                request.since = compare(REPAIR).lsn
            if replica.leapt or (request.since is not None and replica.head.lsn < request.since):
                continue
            try:
                sink.may_replace = request.replace
                answered.append(partial(request.done.set_result, self._retry(replica, sink, request.tables)))
            except (RepairError, OthersWroteError) as error:
                answered.append(partial(request.done.set_exception, error))
            finally:
                sink.may_replace = False
            self._requests.remove(request)  # not earlier: what the loss of Postgres cuts off is done when it is back
        return answered

    def retry_refused(self, replica: Replica, sink: Sink) -> bool:
        """Retry the refused tables if it is due; True if any was tried.

        Replica and Postgres must be at one position. Raises ``SinkError``.
        """
        refused = sink.refusals
        if refused.keys() - self._known:  # `mirror up` tells them, with what can be done
            self._pause.reset()
            self._next = 0.0
        self._known = frozenset(refused)
        if not refused or replica.leapt or time.monotonic() < self._next:
            return False
        # What others have written is not replaced unasked.
        if tables := refused.keys() - sink.others.written():
            self._try(tables, replica, sink)
        self._next = time.monotonic() + self._pause.next()
        return True

    def _retry(self, replica: Replica, sink: Sink, repair: Collection[str]) -> dict[str, str]:
        """Retry the refused tables and those with rejected rows now; or repair tables: make them equal again."""
        tables, not_json = replica.schema.tables, {table for table, _ in sink.not_json}
        sink.others.require(
            "a repair" if repair else "a copy of a table",
            sink.mappings,
            repair or {*sink.refusals, *sink.rejects, *sink.overrides, *not_json},
        )
        if not repair:
            self._try({*sink.refusals, *sink.rejects, *not_json}, replica, sink)
            for name in sorted(sink.overrides.keys() - sink.refusals.keys()):
                self._narrow(tables[name], replica, sink)
        done = {}
        for name in repair:
            if name in tables:
                outcome = sink.repair(tables[name], replica.rows)
                narrowed = "" if name in sink.refusals else self._narrow(tables[name], replica, sink)
                done[name] = "; ".join(filter(None, (outcome, narrowed)))
        return done

    def read_by_rules(self, replica: Replica | None, sink: Sink) -> None:
        """Read the source as mirror.json says; or, for a mirror that only goes on, as it is in Postgres."""
        if replica is not None:
            resumed = recorded(sink.mappings) if self._task.resume_only else self._task.rules
            adopted = sink.adoption.rules if sink.adoption is not None else None
            rules = resumed.of(sink.profile, sink.agent) if adopted is None else adopted
            replica.read_by(rules.with_inherited(heirs_of(replica, sink)))

    def follow_rules(self, replica: Replica | None, sink: Sink) -> None:
        """Send tables again that are not held as mirror.json says by now.

        Replica and Postgres must be at one position. Raises ``SinkError``.
        """
        self.read_by_rules(replica, sink)
        if self._task.resume_only or replica is None or replica.leapt:
            return
        rules = self._task.rules
        if sink.adoption is None and not rules.of(sink.profile, sink.agent) and rules:
            return
        tables = replica.schema.tables
        says = "mirror.json says now" if sink.adoption is None else "`mirror adopt` has decided"
        if gone := (sink.mappings.keys() | sink.refusals.keys()) - tables.keys():
            sink.retire(gone)
            logger.info("{}: not mirrored any more, as {}: {}", self._name, says, ", ".join(sorted(gone)))
        for name in sorted(tables.keys() - sink.refusals.keys()):
            target = sink.mappings.get(name)
            if target is None or not _is_followed(rules, tables[name], target, sink):
                sink.reload(tables[name], replica.rows)
                logger.info("{}: {} is held as {}", self._name, name, says)
            elif may_be_followed(rules, tables[name], target):
                self._narrow(tables[name], replica, sink)

    def _narrow(self, table: Table, replica: Replica, sink: Sink) -> str:
        """Give columns that were widened a narrower type, if all their values fit it again; returns which, in words."""
        before = sink.overrides.get(table.name, {})
        if not before:
            return ""
        try:
            sink.reload(table, replica.rows, narrow=True)
        except RefusedError as error:
            told = f"its columns keep the types that they have: {error.detail} -- {error.next_step}"
            logger.warning("{}: {}: {}", self._name, table.name, told)
            return told
        now = sink.overrides.get(table.name, {})
        types = {column.source: column.pg_type for column in sink.mappings[table.name].columns}
        changed = [name for name in before if now.get(name) != before[name]]
        if not changed:
            return ""
        return "by the values that it has now: " + ", ".join(f"{name} is {types[name]}" for name in changed)

    def _try(self, tables: set[str], replica: Replica, sink: Sink) -> None:
        refused = sink.refusals
        for table in sorted(tables & replica.schema.tables.keys()):  # a rule may have been taken away
            try:
                sink.reload(replica.schema.tables[table], replica.rows, refuse=table in refused)
            except RefusedError as error:  # in Postgres all its other rows are as in the source
                told = f"stays as it is, with its rejects: {error.detail}"
                logger.warning("{}: {}: {}", self._name, table, f"{told} -- {error.next_step}")
        self._known = frozenset(sink.refusals)


def _is_followed(rules: Rules, table: Table, target: Target, sink: Sink) -> bool:
    """Whether a table is held as mirror.json says, or as it was adopted."""
    if sink.adoption is None:
        return is_followed(rules, table, target)
    return sink.adoption.target(table) == target
