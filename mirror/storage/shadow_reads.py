"""Shadow reads: a part of a program's reads is run on SQLite and on Postgres at one position, and compared.

The caller only offers a read; a thread does the rest, one read at a time, with a connection of its own to each store.
A read that finds :data:`MOST_WAITING` others waiting is dropped.

**At one position.** The read is run on SQLite in one snapshot. Where the WAL index showed one and the same newest
commit before the snapshot was taken and after, the snapshot is that commit. Then the thread waits until Postgres is
there, and runs the read with the position of *its* snapshot (:mod:`mirror.storage.freshness`). Only if that is exactly
the same commit are the answers compared; if Postgres has gone on, all of it is tried again, :data:`TRIES` times.
SQLite's snapshot is held open for the read itself alone, so no checkpoint waits for Postgres. Both runs have one clock,
which stands still, so what expires meanwhile makes no difference.

How answers are compared: :mod:`mirror.storage.comparisons`. What differs is kept in ``mirror.read_differences``, once
for a method and its arguments, by a function that writes nothing else: an application may not write there itself.
"""

from __future__ import annotations

import copy
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from mirror.core.errors import MirrorError, SinkError
from mirror.storage.comparisons import Difference, Ignore, Outcome, difference, method_of, recording
from mirror.storage.evidence import arguments_of, as_text
from mirror.storage.freshness import Freshness
from mirror.storage.on_postgres.store import PostgresStore
from mirror.storage.operations.base import Context, Operation
from mirror.storage.proofs import PositionRow, Start, Unasked
from mirror.storage.reads import READS, Reason, Shadow
from mirror.storage.tables import Embedding

if TYPE_CHECKING:
    from mirror.storage.backing import Files

#: Handled by the program's own logging configuration.
logger = logging.getLogger("mirror")

#: Reads that wait at most; and how often a read is tried again because Postgres was not at the commit, or not any more.
MOST_WAITING, TRIES = 64, 20
#: Seconds for Postgres to reach a commit, for all of a read, and between two looks at a standby.
WAIT_SECONDS, READ_SECONDS, PAUSE = 1.0, 5.0, 0.002
#: Seconds between two notes in Postgres of how many reads were compared.
NOTE_SECONDS = 2.0
#: Different messages that are logged at most.
MOST_LOGGED = 100
#: Seconds that closing waits for the read that is under way.
CLOSE_SECONDS = 5.0

#: Reasons why a read was not compared, besides those of :class:`~mirror.storage.reads.Reason`.
PASSED, ARGUMENTS, NO_POSITION, CLOSED = "passed", "arguments", "no_position", "closed"

_AGENT = "FROM (SELECT set_config('app.agent_id', $1, true) AS agent OFFSET 0) w WHERE w.agent <> ''"
_KEEP = (
    "SELECT mirror.note_read_difference($2::bigint, $3::text, $4::text, $5::text, $6::bigint, $7::bigint, $8::text,"
    f" $9::text) {_AGENT}"
)
_COUNT = f"SELECT mirror.count_shadow_reads($2::bigint, $3::bigint, $4::bigint) {_AGENT}"

_all: WeakSet[ShadowReads] = WeakSet()


class _Task(NamedTuple):
    files: Files
    operation: Operation[..., Any]
    context: Context
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def path(self) -> str:
        """Of the source; empty: there is none here."""
        return _path(self.files, self.operation)


def _path(files: Files, operation: Operation[..., Any]) -> str:
    known = files.freshness.get(operation.source)
    return "" if known is None else known.path


class _Answers(NamedTuple):
    sqlite: Outcome
    postgres: Outcome
    row: PositionRow
    source_id: int


class ShadowReads:
    """Of one configuration. Thread: any."""

    def __init__(self, postgres: Callable[[str], PostgresStore]) -> None:
        """``postgres``: the store for a schema, for the thread alone."""
        self._postgres = postgres
        self._start_over()
        _all.add(self)

    def _start_over(self) -> None:
        """Also in a process that was forked: its locks and threads are not there."""
        self._random = Random()  # noqa: S311 - a sample, no secret; its own, so that the program's is not disturbed
        self._waiting: deque[_Task] = deque()
        self._bell = threading.Condition()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._busy = False
        self._logged: set[str] = set()
        self._tallies: dict[tuple[str, str, int], list[int]] = {}
        self._next_note = 0.0

    # -- the caller's side -------------------------------------------------------------------------

    def offer(
        self,
        files: Files,
        percent: float,
        operation: Operation[..., Any],
        context: Context,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Take a read if it is its turn. Never waits and never raises."""
        if self._random.random() * 100 >= percent:
            return
        path = _path(files, operation)
        if len(self._waiting) >= MOST_WAITING:
            READS.count_shadow(Shadow.DROPPED, source=path)
            return
        try:
            kept_args, kept_kwargs = _kept(args), _kept(kwargs)
        except Exception:  # an object of the program's that cannot be copied
            READS.count_shadow(Shadow.NOT_COMPARED, ARGUMENTS, path)
            return
        now = context.clock()
        task = _Task(files, operation, replace(context, clock=lambda: now), kept_args, kept_kwargs)
        with self._bell:
            if self._closing.is_set():
                return
            self._waiting.append(task)
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="mirror shadow reads", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the interpreter is ending, or there can be no more threads
                    self._waiting.clear()
                    READS.count_shadow(Shadow.DROPPED, source=path)
                    return
                self._thread = thread
            self._bell.notify()

    def wait_idle(self, timeout: float) -> bool:
        """Wait until every read that was taken is compared and noted; whether it is so within ``timeout`` seconds."""
        with self._bell:
            return self._bell.wait_for(lambda: not (self._waiting or self._busy or self._tallies), timeout)

    def close(self) -> None:
        """Take no more reads, and drop those that wait. May be called twice."""
        with self._bell:
            self._closing.set()
            for task in self._waiting:
                READS.count_shadow(Shadow.DROPPED, source=task.path)
            self._waiting.clear()
            self._bell.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(CLOSE_SECONDS)

    # -- the thread --------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._closing.is_set():
            task = self._next()
            if task is not None:
                self._try(task)
            self._note(at_once=task is None)

    def _next(self) -> _Task | None:
        """The next read; None if this is closed, or there is time to note what was compared."""
        with self._bell:
            self._busy = False
            while not (self._waiting or self._closing.is_set()):
                self._bell.notify_all()
                if not self._bell.wait(self._next_note - time.monotonic() if self._tallies else None):
                    return None
            if self._closing.is_set():
                return None
            self._busy = True
            return self._waiting.popleft()

    def _try(self, task: _Task) -> None:
        try:
            self._compare(task)
        except MirrorError as error:
            READS.count_shadow(Shadow.NOT_COMPARED, Reason.FAILED, task.path)
            self._log(f"a read could not be compared: {error}")
        except Exception as error:  # a defect of comparing: reads are not to suffer from it
            READS.count_shadow(Shadow.NOT_COMPARED, Reason.FAILED, task.path)
            self._log(f"a read could not be compared: {type(error).__name__}: {error}", error)

    def _compare(self, task: _Task) -> None:
        found = self._answers(task)
        if isinstance(found, str):
            READS.count_shadow(Shadow.NOT_COMPARED, found, task.path)
            return
        method = method_of(task.operation)
        verdict = difference(method, found.sqlite, found.postgres)
        tally = self._tallies.setdefault((task.files.schema, task.context.agent, found.source_id), [0, 0])
        tally[0] += 1
        if verdict is None:
            READS.count_shadow(Shadow.EQUAL, source=task.path)
        elif isinstance(verdict, Ignore):
            READS.count_shadow(Shadow.IGNORED, verdict.reason, task.path)
        else:
            tally[1] += 1
            READS.count_shadow(Shadow.DIFFERENT, source=task.path)
            self._keep(task, found, method, verdict)

    def _keep(self, task: _Task, found: _Answers, method: str, verdict: Difference) -> None:
        lsn = found.row.lsn
        self._log(f"{method} differs between SQLite and Postgres ({verdict.kind}): see `mirror differences list`")
        values = [
            task.context.agent, str(found.source_id), method, arguments_of(task.operation, task.args, task.kwargs),
            verdict.kind, str(lsn.generation), str(lsn.frame), as_text(verdict.sqlite), as_text(verdict.postgres),
        ]  # fmt: skip
        try:
            rows = self._postgres(task.files.schema).call("keep a difference", _KEEP, [*values])
        except MirrorError as error:
            self._log(f"a difference of reads is not kept: {error}")
            return
        if rows == [(None,)]:
            self._log("a difference of reads is not kept: there are too many; `mirror differences forget` makes room")

    def _note(self, *, at_once: bool) -> None:
        """Note in Postgres how many reads were compared, if it is time."""
        tallies = self._tallies
        if not tallies or not (at_once or time.monotonic() >= self._next_note):
            return
        try:
            for (schema, agent, source_id), (compared, different) in tallies.items():
                values = [agent, str(source_id), str(compared), str(different)]
                self._postgres(schema).call("count shadow reads", _COUNT, [*values])
        except MirrorError as error:
            self._log(f"the number of shadow reads is not noted: {error}")
        with self._bell:
            self._tallies = {}
            self._next_note = time.monotonic() + NOTE_SECONDS

    def _log(self, text: str, error: Exception | None = None) -> None:
        """Once, not for every read."""
        if text not in self._logged and len(self._logged) < MOST_LOGGED:
            self._logged.add(text)
            logger.warning("%s", text, exc_info=error)

    # -- two answers of one position ---------------------------------------------------------------

    def _answers(self, task: _Task) -> _Answers | str:
        """What both stores answer at one position; or why there are no such answers. Raises a ``MirrorError``."""
        store, freshness = task.files.stores[task.operation.source], task.files.freshness[task.operation.source]
        deadline = time.monotonic() + READ_SECONDS
        reason: str = PASSED
        for _ in range(TRIES):
            if self._closing.is_set():
                return CLOSED
            if time.monotonic() > deadline:
                break
            sqlite = Outcome()
            recorded = recording(task.operation, sqlite)
            value, before, start = store.read_at(task.context, recorded, task.args, task.kwargs, freshness.begin)
            if start.reason is Reason.UNPROVED and freshness.prepare(WAIT_SECONDS):
                continue
            if start.reason is not None:
                return start.reason
            if not _is_same(before, start):
                continue
            _settle(sqlite, value)
            waited = freshness.wait(start, time.monotonic() + WAIT_SECONDS)
            if waited is not None:
                return waited
            found = self._on_postgres(task, start, freshness)
            if isinstance(found, str):
                reason = found
                continue
            postgres, row, source_id = found
            return _Answers(sqlite, postgres, row, source_id)
        return reason

    def _on_postgres(self, task: _Task, start: Start, freshness: Freshness) -> tuple[Outcome, PositionRow, int] | str:
        """The answer of Postgres, if it is of exactly this commit."""
        deadline = time.monotonic() + WAIT_SECONDS
        store = self._postgres(task.files.schema)
        while True:
            published = freshness.published()
            if published is None or not freshness.is_published_at(start):
                return PASSED
            postgres = Outcome()
            recorded, source_id = recording(task.operation, postgres), published.source_id
            row: PositionRow | Unasked | None = None
            value: Any
            try:
                value, row = store.read(task.context, recorded, task.args, task.kwargs, source_id)
            except Exception as error:
                value = error
            _settle(postgres, value)
            if row is None or row is Unasked.UNASKED:
                # An error, or nothing was asked. Postgres was at the commit before, or after it; if it is there now,
                # it has been there all the time.
                row = store.position(task.context, source_id)
            if row is None:
                return NO_POSITION
            if freshness.is_at(start, row):
                return postgres, row, source_id
            if freshness.proves(start, row):
                return PASSED
            if time.monotonic() > deadline:
                return Reason.OLDER
            time.sleep(PAUSE)


def _is_same(before: Start, start: Start) -> bool:
    """Whether the index showed one commit both times, so that a snapshot taken between is of that commit."""
    one, other = before.newest, start.newest
    if one is None or other is None or before.era != start.era:
        return False
    return one[0] == other[0] and one[2:] == other[2:]  # all but the stamp: a checkpoint commits nothing


def _settle(outcome: Outcome, value: Any) -> None:
    """Take a result or an error; raises an error that says nothing about the rows: another try may succeed."""
    if outcome.defect is not None:
        raise outcome.defect
    if not isinstance(value, Exception):
        outcome.value = value
    elif isinstance(value, MirrorError) and (value.retryable or (isinstance(value, SinkError) and not value.sqlstate)):
        raise value
    else:
        outcome.error = value


def _kept(value: Any) -> Any:
    """A value that does not change when the caller changes his."""
    kind = type(value)
    if kind in (str, int, float, bool, type(None), bytes, Embedding):
        return value
    if kind in (list, tuple):
        return kind(map(_kept, value))
    if kind is dict:
        return {name: _kept(member) for name, member in value.items()}
    return copy.deepcopy(value)


def _forked() -> None:
    for shadow in _all:
        shadow._start_over()


os.register_at_fork(after_in_child=_forked)
