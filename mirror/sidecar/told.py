"""What a source's loop says in the log, each thing once, and counts in its status.

Nothing is said before the transaction in Postgres that it is about has committed. What stood when the mirror started is
said as such, once. A mirror that was killed right after a commit says it at the next start, or twice.

What is counted is saved with the status after each transaction, in the source's folder: so the counts are those of all
mirrors that have had it. Between a commit and that save lies a millisecond; one that is killed then has counted a
rejected row or a widened column that the next one finds, and not a table or column that was changed.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from loguru import logger
from msgspec.structs import replace

from mirror.core.errors import FencedError, FormatError, MirrorError, SinkError
from mirror.core.happened import DEFINITIONS, newest
from mirror.core.published import POSITION_FILE
from mirror.core.rows import SchemaChange
from mirror.core.saved_status import STATUS_FILE, saved_report
from mirror.core.status import HappenedReport, OutageReport, Phase
from mirror.core.words import counted, duration
from mirror.postgres.kept import KeptNames
from mirror.postgres.refusals import Moved
from mirror.postgres.sink import Sink
from mirror.sidecar.comparison import Comparison
from mirror.sidecar.news import Held, News, Steps, added, compared, news, stands
from mirror.sidecar.server_outage import STARTED_AGAIN, ServerOutage, plain
from mirror.sidecar.source_folder import SourceTask
from mirror.sidecar.status import SourceStatus
from mirror.sidecar.table_repair import REPAIR

#: What rows do, and not definitions.
_OF_ROWS = frozenset(("rows_rejected", "rows_back"))
_OF_DEFINITIONS = frozenset(name for name, *_ in DEFINITIONS)


class Told:
    """The teller of one source. Thread: its loop's."""

    def __init__(self, task: SourceTask, status: SourceStatus, server: ServerOutage | None = None) -> None:
        """To be made before anything is written to the source's folder. ``server``: what all sources know of it."""
        self._server = server or ServerOutage()
        self._task, self._status = task, status
        self._log, self._name = logger.bind(source=str(task.database)), task.name
        named = f"{shlex.quote(str(task.database))}{task.options}"
        commands = ("rejects list", "rejects retry", "status")
        self._steps = Steps(*(f"mirror {command} {named}" for command in commands))
        self._held: Held | None = None
        """What Postgres held when that was looked at last."""
        self._kept: KeptNames = {}
        """What Postgres kept of what was dropped when that was looked at last."""
        self._known: tuple[int | None, list[str]] = (None, [])
        """What the mirror before this one has told of: how many rejects, which widened columns."""
        self._left_at: float | None = None
        """When it was there last; None: nothing has been caught up with since, or there was none."""
        with suppress(OSError):
            if (task.folder / STATUS_FILE).exists():
                saved = saved_report(task.database, task.schema, task.folder)
                self._known = saved.rejects, saved.widened
                if saved.ever_since is not None:
                    status.ever, status.ever_since, status.happened = saved.ever, saved.ever_since, saved.happened
            self._left_at = (task.folder / POSITION_FILE).stat().st_mtime
        self._came_at = time.time()
        status.ever_since = status.ever_since or self._came_at
        self._gaps: list[int] = []
        """Keys of the gaps that are being healed."""
        self._copying, self._first = "", False
        self._began = self._began_copy = self._connected = 0.0
        self._said: set[str] = set()
        """The errors of this outage."""

    def _say(self, said: Sequence[News]) -> None:
        for each in said:
            if each.text:
                # What comes and goes with rows may do so all the time; a definition changes now and then.
                of_rows = each.counts.keys() & _OF_ROWS
                kind = (self._task.database, *sorted(of_rows)) if of_rows else None
                self._log.bind(kind=kind).log(each.level, "{}: {}", self._name, each.text)
            if each.counts.keys() & _OF_DEFINITIONS:
                told = HappenedReport(at=round(time.time(), 3), text=each.text)
                self._status.happened = newest(self._status.happened, told)
        self._count(said)

    def _count(self, said: Sequence[News]) -> None:
        if any(each.counts for each in said):
            self._status.events, self._status.ever = (
                added(each, said) for each in (self._status.events, self._status.ever)
            )

    # -- what Postgres holds -----------------------------------------------------------------------

    def has_opened(self, sink: Sink) -> None:
        """There is a session in Postgres."""
        self._connected = time.monotonic()
        if self._held is not None:
            # What was changed meanwhile; or by a transaction of ours of which no answer came.
            self.looks(sink)
            return
        self._held = Held.of(sink)
        self._kept_now(sink)
        if self._task.resume_only:  # for a moment, beside a command that says what stands
            return
        rejects, widened = self._known
        self._say(stands(self._held, self._steps, rejects=rejects, widened=widened))

    def looks(self, sink: Sink, changes: Sequence[SchemaChange] = (), *, definitions: bool = True) -> None:
        """Say what is new since the last look. To be called after each transaction.

        ``changes``, ``definitions``: as for :func:`~mirror.sidecar.news.news`.
        """
        assert self._held is not None
        before, held, moved = self._held, Held.of(sink), sink.moved
        if not moved and before.rejects != held.rejects:
            moved = self._examples(before, held, sink)  # of a copy; it may fail, and is looked at again
        self._held = held
        if changes or moved or before != held:
            sink.moved = []
            kept = None if before.targets == self._held.targets else self._kept_now(sink)
            self._say(news(before, self._held, changes, moved, steps=self._steps, definitions=definitions, kept=kept))

    def _kept_now(self, sink: Sink) -> KeptNames | None:
        """What is kept since the last look; None: not known."""
        try:
            before, self._kept = self._kept, sink.ledger.kept_names()
        except SinkError as error:
            logger.debug(
                "{}: under which name it is kept is not known: {}", self._name, error
            )  # the loop finds it, too
            return None
        return {what: name for what, name in self._kept.items() if before.get(what) != name}

    @staticmethod
    def _examples(before: Held, held: Held, sink: Sink) -> list[Moved]:
        """Of each table that has more rejects than before, the first."""
        more = {table: number - before.rejects.get(table, 0) for table, number in held.rejects.items()}
        found = {table: sink.ledger.first_reject(table) for table, number in more.items() if number > 0}
        return [Moved(table, more[table], 0, 0, *first) for table, first in found.items() if first is not None]

    # -- copies and comparisons --------------------------------------------------------------------

    def copies(self, reason: str, sink: Sink | None) -> None:
        """The whole source is to be made equal, for this reason; said once, however often it is tried."""
        if self._copying != reason:
            self._first = sink is not None and sink.position is None
            why = ", for the first time" if self._first else f" again: {reason}"
            self._log.info("{}: copying the whole file into Postgres{}", self._name, why)
            self._began_copy = time.monotonic()
        self._copying = reason

    def has_copied(self, sink: Sink, sent: Mapping[str, int]) -> None:
        """It is equal; ``sent``: rows, by table."""
        there = sink.mappings.keys() - sink.refusals.keys()
        rows = sum(number for table, number in sent.items() if table in there) - sum(sink.rejects.values())
        cost = f"{counted(len(there), 'table')}, {counted(max(0, rows), 'row')}, {self._since(self._began_copy)}"
        self._log.info("{}: copied into Postgres: {}", self._name, cost)
        self._copying, self._gaps = "", []
        self._status.heals(None, None)
        self.looks(sink, definitions=not self._first)  # of one of which nothing was there, all tables are new
        self._left_at = None

    def breaks(self, gaps: Sequence[int]) -> None:
        """Gaps with these keys were recorded. Nothing is said until they are healed."""
        self._gaps += gaps

    def has_compared(self, sink: Sink, found: Comparison, size: int, began: float, rows: int) -> None:
        """All pages of the file, of ``size`` bytes, were compared, and what differed was sent: so many rows.

        ``began``: when, on the monotonic clock.
        """
        seconds = time.monotonic() - began
        if self._gaps:
            sink.ledger.note_healing(self._gaps, rows, seconds)
        self._gaps = []
        self._status.heals(rows, seconds)
        if (reason := found.gap.reason) not in ("", REPAIR):
            away = None if self._left_at is None else max(0.0, self._came_at - self._left_at)
            text = compared(size, seconds, rows, away=away, reason=reason, changed=not found.unchanged)
            self._log.info("{}: {}", self._name, text)
        self._status.keep(self._task.folder)
        self._left_at = None

    # -- interruptions -----------------------------------------------------------------------------

    def is_interrupted(self, error: MirrorError) -> None:
        """The loop cannot go on. That is said once, however often and in however many ways it is tried again."""
        if not error.retryable or isinstance(error, FencedError):  # it ends with that, which is told
            return
        outage, postgres = self._status.outage, isinstance(error, SinkError)
        lost = error if isinstance(error, SinkError) and error.lost else None
        if lost is not None and self._server.embedded:
            lost.next_step = STARTED_AGAIN
        text = str(error) if lost is None else plain(lost)
        before = outage if outage is not None and outage.ended_at is None else None
        if before is None:
            self._begin(text, postgres=postgres)
        else:
            more = before.postgres or postgres
            self._status.outage = replace(before, tries=before.tries + 1, postgres=more)
        told = lost is not None and self._server.lost(str(self._task.database), lost)
        if told or (form := _form(error)) in self._said:
            return
        self._said.add(form)
        level, words = "WARNING", "waits for Postgres: " if postgres else ""
        if before is None and isinstance(error, FormatError):
            level = "INFO"  # a copy is wrong, and is made again
        elif before is not None and (before.postgres or not postgres):
            level, words = "INFO", "still not: "
        self._log.log(level, "{}: {}{}", self._name, words, text, error=error)

    def _begin(self, reason: str, *, postgres: bool) -> None:
        self._began, self._said = time.monotonic(), set()
        self._status.outage = OutageReport(reason=reason, postgres=postgres, began_at=time.time())

    def follows(self) -> None:
        """All that was captured is applied. That it goes on again after an interruption is said once."""
        outage = self._status.outage
        running = outage is not None and outage.ended_at is None
        if self._status.phase is not Phase.FOLLOWING:
            if not running and self._status.last_error is not None:
                self._begin(self._status.last_error, postgres=False)  # capture has said it
            return
        self._left_at = None
        if outage is None or not running:
            return
        self._status.outage = replace(outage, ended_at=time.time())
        tries = f" (tried {counted(outage.tries, 'time')})" if outage.tries > 1 else ""
        if not outage.postgres:
            self._log.info("{}: goes on after {}{}, caught up", self._name, self._since(self._began), tries)
            return
        took = duration(max(0.0, self._connected - self._began))
        self._count([News("INFO", "", {"reconnections": 1})])
        if self._server.back(str(self._task.database)):
            return
        if not self._said:  # its own session alone was lost, for a moment
            tries += f": {outage.reason}"
        self._log.info("{}: connected again after {}{}, caught up", self._name, took, tries)

    def pauses(self) -> None:
        """It is to leave the source alone: an interruption is over then."""
        outage = self._status.outage
        if outage is not None and outage.ended_at is None:
            self._status.outage = replace(outage, ended_at=time.time())

    @staticmethod
    def _since(began: float) -> str:
        return duration(time.monotonic() - began)


def _form(error: MirrorError) -> str:
    """What is the same of an error each time that it comes: not the numbers of files and positions."""
    return re.sub(r"\d+", "", str(error))
