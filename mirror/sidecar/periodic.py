"""The one line that the log of a running mirror repeats: how its sources are, and what to do next.

It comes every :data:`SECONDS`, and soon after something has changed that a person would want to know: a phase, an
error, that rows are rejected or tables refused. What changes again and again is not told each time: the pause before
the next line grows, until nothing has changed for as long as the line is due anyway.

One source is told with its figures; of several their number by phase, the sums, the worst lag, and the first error and
next step. Commits and rows are those since the last line.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from loguru import logger

from mirror.core.backoff import Backoff
from mirror.core.commands import command
from mirror.core.errors import MirrorError
from mirror.core.status import Phase, StatusReport, rejected
from mirror.core.words import counted, duration, names_apart
from mirror.sidecar.pipeline import Pipeline
from mirror.sidecar.status import SourceStatus
from mirror.sidecar.supervisor import Supervisor

#: Seconds between two lines, and between two looks whether something has changed.
SECONDS, LOOK_SECONDS = 300.0, 1.0
#: Seconds from a line to one about a change, at first.
FIRST_PAUSE = 10.0
#: Phases that pass by themselves: they are told when they last.
_PASSING = frozenset((Phase.STARTING, Phase.SNAPSHOT, Phase.CATCHING_UP, Phase.REDIFF))
#: Why a source is there was logged just now.
_JUST_TOLD = frozenset((Phase.WAITING, Phase.FAILED))
#: Characters of an error in the line.
_MOST = 300


class Line(NamedTuple):
    """What is logged."""

    text: str
    fields: dict[str, Any]
    """Of a log for machines."""


class PeriodicLine:
    """Logs the line of a supervisor. Thread: the one that calls it."""

    def __init__(
        self,
        supervisor: Supervisor,
        report_of: Callable[[Pipeline], StatusReport],
        clock: Callable[[], float] = time.monotonic,
        *,
        options: str = "",
    ) -> None:
        """``report_of``: a source's status, with its next steps. ``clock``: seconds. ``options``: what a command needs
        to reach the mirror, with a space in front.
        """
        self._supervisor, self._options = supervisor, options
        self._report_of = report_of
        self._clock = clock
        self._pauses = Backoff(FIRST_PAUSE, SECONDS)
        self._pause = self._pauses.next()
        self._said_at, self._next_look = clock(), 0.0
        self._said: object = None
        self._before: dict[str, tuple[int, int]] = {}

    def turn(self) -> None:
        """Log the line if it is due; to be called often."""
        now = self._clock()
        if now < self._next_look or not self._supervisor.running:
            return  # where nothing runs any more, the end says why
        self._next_look = now + LOOK_SECONDS
        states = [each.status for each in self._supervisor.pipelines]
        key = (frozenset(map(_key, states)), frozenset(name for name, _ in self._supervisor.not_begun))
        since = now - self._said_at
        settled = not any(state.phase in _PASSING or state.phase in _JUST_TOLD for state in states)
        if since >= SECONDS:
            self._pauses.reset()
        elif key == self._said or since < (0.0 if self._said is None and settled else self._pause):
            return
        self._pause = self._pauses.next()
        self._said_at, self._said = now, key
        try:
            reports = [self._report_of(each) for each in self._supervisor.pipelines]
        except OSError as error:  # something is wrong with the state directory: the source's loop finds it, and says so
            logger.debug("how the mirror is could not be told: {}", error)
            return
        line = line_of(reports, self._supervisor.not_begun, self._before, since, self._options)
        logger.bind(**line.fields).info("{}", line.text)
        self._before = {report.source: (report.commits, report.rows) for report in reports}


def _key(state: SourceStatus) -> object:
    """What is told of a source soon after it has changed."""
    code = None if state.error is None else state.error.get("code")
    return state.source, state.phase, code, state.rejects > 0, len(state.refusals)


def line_of(
    reports: Sequence[StatusReport],
    not_begun: Sequence[tuple[str, MirrorError]],
    before: Mapping[str, tuple[int, int]],
    since: float,
    options: str = "",
) -> Line:
    """The line. ``not_begun``: names of sources that could not begin, and why. ``before``: by source, the commits and
    rows that were told ``since`` seconds ago; of a pipeline that began anew since then they count from 0. ``options``:
    as for :class:`PeriodicLine`.
    """
    names = names_apart(report.source for report in reports)
    commits, rows = (sum(_more(report, before, at) for report in reports) for at in (0, 1))
    rejects = sum(map(rejected, reports))
    lags = [(report.lag_seconds, report) for report in reports if report.lag_seconds is not None]
    worst = max(lags, key=lambda pair: pair[0], default=None)
    problems = [(names[report.source], report.last_error) for report in reports if report.last_error is not None]
    problems += [(name, str(error)) for name, error in not_begun]
    steps = [(names[report.source], step) for report in reports for step in report.next_steps]
    steps += [(name, error.next_step) for name, error in not_begun if error.next_step]
    one = len(reports) + len(not_begun) == 1
    phases = Counter(str(report.phase) for report in reports)
    if not_begun:
        phases["could not begin"] = len(not_begun)
    where = ", ".join(name if one else f"{number} {name}" for name, number in phases.most_common())
    if one:
        parts = [f"{names[reports[0].source] if reports else not_begun[0][0]}: {where}"]
    else:
        parts = [f"{phases.total()} sources: {where}"]
    if worst is None:
        parts.append("lag unknown")
    elif one:
        most = worst[1].worst_lag_seconds
        parts.append(f"lag {duration(worst[0])}" + ("" if most is None else f" (at most {duration(most)} in 5 min)"))
    else:
        parts.append(f"worst lag {duration(worst[0])}" + (f" ({names[worst[1].source]})" if worst[0] > 0 else ""))
    parts.append(f"{counted(commits, 'commit')}, {counted(rows, 'row')} in {duration(since)}")
    parts.append(counted(rejects, "reject"))
    if one and reports and (progress := reports[0].progress) is not None:
        total = "" if progress.total is None else f" of {progress.total:,}"
        which = "" if progress.table is None else f" (table {progress.table:,} of {progress.tables:,})"
        parts.append(f"{progress.what}: {progress.done:,}{total} {progress.unit}{which}")
    parts += [(problem if one else f"{name}: {problem}")[:_MOST] for name, problem in problems[:1]]
    following = next((step if one else f"{name}: {step}" for name, step in steps), "nothing")
    status = command("status", reports[0].source if one and reports else "", options)
    more = f" (and {len(steps) - 1} more: `{status}`)" if len(steps) > 1 else ""
    parts.append(f"next: {following}{more}")
    fields: dict[str, Any] = {
        "phase": where,
        "lag_seconds": None if worst is None else worst[0],
        "rejects": rejects,
        "commits": commits,
        "rows": rows,
        "next_step": following,
    }
    if one and reports:
        fields["source"] = reports[0].source
    return Line("; ".join(parts), fields)


def _more(report: StatusReport, before: Mapping[str, tuple[int, int]], at: int) -> int:
    now, then = (report.commits, report.rows)[at], before.get(report.source, (0, 0))[at]
    return now - then if now >= then else now
