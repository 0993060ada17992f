"""What ``mirror up`` shows on a terminal: below what was said, lines that change in place.

While sources are copied: one bar for all of it, and one line for each table or file that is in work. What is finished
becomes a line above, with a tick. Once all follow there are no bars any more, and one line tells how that goes. How
many lines there are does not depend on how many sources there are. A line is never broken: what has no room ends with
"…".

:func:`lines_of` is pure; :class:`LiveView` looks at pipelines and writes.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from mirror.cli.logs import colour_of, log_to, start_log
from mirror.cli.output import BAD, GOOD, print_line, text
from mirror.cli.plain import printable, wrapped
from mirror.cli.up_view import UpView
from mirror.core.redaction import redacted
from mirror.core.status import Phase, ProgressReport
from mirror.core.words import amount, counted, duration, names_apart
from mirror.sidecar.copy_progress import COMPARED, MEANWHILE, THE_FILE, Loaded
from mirror.sidecar.pipeline import Pipeline
from mirror.sidecar.status import SourceStatus

#: Seconds between two pictures.
REFRESH_SECONDS = 0.1
#: Sources of which each table is told, and tables of each that are; sources in work that have a line.
MOST_WITH_TABLES, MOST_TABLES, MOST_LINES = 3, 30, 3
#: Characters of a bar.
_BAR = 24
#: Phases in which a source does not follow yet, and will without anybody's help.
_WORKING = frozenset((Phase.STARTING, Phase.SNAPSHOT, Phase.CATCHING_UP, Phase.REDIFF))


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of a source."""

    name: str
    phase: Phase = Phase.FOLLOWING
    progress: ProgressReport | None = None
    followed: bool = True
    """Whether it was followed before."""
    fraction: float = 0.0
    """Of its first copy."""
    size: int = 1
    """Bytes of its file: its weight beside others."""
    done: int = 0
    """Tables that are loaded."""
    tables: int = 0
    saving: bool = False
    refused: bool = False
    """Whether Postgres takes none of its tables."""
    known: bool = True
    """Whether Postgres has a position of it."""
    commits: int = 0
    committed_at: float | None = None
    behind_since: float | None = None
    awaits: str = ""
    """What it waits for, if that is known."""
    waits: float = 0.0
    """Seconds for which it has been waiting."""
    indexing: str | None = None
    left: float | None = None
    """Seconds that its first copy is about to take; None: not known."""

    @property
    def works(self) -> bool:
        """Whether it does not follow yet."""
        return self.phase in _WORKING or (self.phase is Phase.FOLLOWING and not self.followed)

    @property
    def copies(self) -> bool:
        """Whether the whole source is copied."""
        return self.phase is Phase.SNAPSHOT


def lines_of(sources: Sequence[Shown], others: Sequence[str], width: int, now: float) -> list[Text]:
    """The lines that change, each of at most ``width`` characters.

    ``others``: names of sources that could not begin. ``now``: Unix time.
    """
    working = [each for each in sources if each.works]
    lines = []
    if any(each.copies for each in working):
        lines.append(_overall(sources, width))
    # Copies first: of what only waits for its turn there is little to see.
    seen = sorted(working, key=lambda each: (each.progress is None, not each.copies))
    for each in seen[:MOST_LINES]:
        lines.append(_in_work(each, f"{each.name}: " if len(sources) + len(others) > 1 else "", width))
    if len(seen) > MOST_LINES:
        lines.append(_fit(f"… and {counted(len(seen) - MOST_LINES, 'more source')}", "", width))
    if len(working) < len(sources) or others:
        lines.append(_live(sources, others, width, now))
    return lines


def _overall(sources: Sequence[Shown], width: int) -> Text:
    """How much of all first copies is done."""
    copied = [each for each in sources if each.copies or not each.works or each.phase is Phase.STARTING]
    whole = sum(each.size for each in copied) or 1
    part = sum(each.size * (each.fraction if each.works else 1.0) for each in copied) / whole
    (only,) = copied if len(sources) == 1 else (None,)
    if only is None:
        head = f"{sum(not each.works for each in sources):,} of {counted(len(sources), 'source')}"
    elif only.tables:
        head = f"{only.done:,} of {counted(only.tables, 'table')}"
    else:
        head = only.name
    tail = f"{part:4.0%}"
    # They are copied side by side. Of one that has not begun, nobody knows.
    left = [each.left for each in copied if each.works]
    if None not in left and left:
        tail += f"  {duration(max(1.0, *filter(None, left)), whole=True)} left"
    return _fit(head, tail, width, part)


def _in_work(source: Shown, prefix: str, width: int) -> Text:
    """What a source does that does not follow yet."""
    progress = source.progress
    if source.saving:
        return _fit(f"{prefix}saving the copy", "all rows are sent", width)
    if progress is None:
        words = {
            Phase.STARTING: "connecting to Postgres",
            Phase.SNAPSHOT: "copying the file",
            Phase.REDIFF: "comparing the file with its copy",
        }
        otherwise = "reading what happened meanwhile" if source.known else "looking at what Postgres has"
        return _fit(f"{prefix}{words.get(source.phase, otherwise)}", "", width)
    known = {
        THE_FILE: "copying the file",
        COMPARED: "comparing the file with its copy",
        MEANWHILE: "reading what happened meanwhile",
    }
    what = f"{prefix}{known.get(progress.what, progress.what) if progress.unit == 'bytes' else progress.what}"
    if progress.unit == "rows" and progress.total is not None and progress.done >= progress.total:
        return _fit(what, f"{counted(progress.done, 'row')}, building its indexes", width)
    if progress.total is None:
        return _fit(what, counted(progress.done, "row") if progress.done else "", width)
    if progress.unit == "bytes":
        tail = f"{amount(progress.done)} of {amount(progress.total)}"
    else:
        tail = f"{progress.done:,} of {counted(progress.total, 'row')}"
    return _fit(what, tail, width, progress.done / max(progress.total, 1))


def _live(sources: Sequence[Shown], others: Sequence[str], width: int, now: float) -> Text:
    """How following goes: one line, for all sources."""
    steady = [each for each in sources if not each.works]
    following = [each for each in steady if each.phase is Phase.FOLLOWING]
    if len(sources) + len(others) == 1:
        head = f"{_standing(steady[0])}" if steady else f"{others[0]}: could not begin, tries again"
    else:
        parts = [f"{len(following):,} of {len(sources) + len(others):,} following"]
        rest = Counter(str(each.phase) for each in steady if each.phase is not Phase.FOLLOWING)
        which = [each.name for each in steady if each.phase is not Phase.FOLLOWING] + list(others)
        if others:
            rest["could not begin"] = len(others)
        parts += [f"{number:,} {name}" for name, number in rest.most_common()]
        head = ", ".join(parts)
        if which:
            head += f" ({which[0]}{', …' if len(which) > 1 else ''})"
    tail: list[str] = []
    if len(sources) == 1 and not others and sources[0].refused and following:
        return _fit(head, "", width)
    if following:
        lag = max(now - each.behind_since if each.behind_since else 0.0 for each in following)
        tail.append(f"lag {duration(lag)}")
    if any(each.phase is not Phase.WAITING for each in steady) or len(steady) > 1:
        tail.append(counted(sum(each.commits for each in steady), "commit"))
    if last := max((each.committed_at for each in steady if each.committed_at), default=None):
        tail.append(f"last {_clock(last, now)}")
    if indexing := next((each.indexing for each in steady if each.indexing), None):
        head += f", building the index {indexing}"
    return _fit(head, "  ".join(tail), width)


def _standing(source: Shown) -> str:
    """What a source does that does not begin any more."""
    if source.phase is Phase.WAITING:
        awaited = f" for {source.awaits}" if source.awaits else ""
        return f"waiting{awaited}  tries again by itself  {duration(source.waits, whole=True)} so far"
    if source.refused:
        return f"{source.phase}, but none of its tables can be mirrored"
    return str(source.phase)


def _clock(at: float, now: float) -> str:
    """A local time, with its day if that is not today."""
    then = datetime.fromtimestamp(at).astimezone()
    today = then.date() == datetime.fromtimestamp(now).astimezone().date()
    return then.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")


def _fit(head: str, tail: str, width: int, part: float | None = None) -> Text:
    """A line: head, a bar if a part is given, tail; the bar is the first to give way, then the end of the head."""
    left, right = text(head), text(tail)
    bar = 0 if part is None else min(_BAR, width - left.cell_len - right.cell_len - 4)
    if part is not None and bar < 8:
        bar = 0 if width < 40 else 8
    room = width - (right.cell_len + 2 if tail else 0) - (bar + 2 if bar else 0)
    left.truncate(max(room, 1), overflow="ellipsis")
    line = Text(no_wrap=True)
    line.append_text(left)
    if bar:
        full = min(bar, int((part or 0.0) * bar))
        line.append("  ").append("━" * full, "cyan").append("─" * (bar - full), "dim")
    if tail:
        line.append("  ").append_text(right)
    line.truncate(width, overflow="ellipsis")
    return line


def _awaited(error: Mapping[str, object] | None) -> str:
    """What a source waits for, by the code of its error."""
    kinds = {"postgres": "Postgres", "source": "its file", "state": "its state directory"}
    return "" if error is None else kinds.get(str(error.get("code", "")).partition(".")[0], "")


def tick(loaded: Loaded) -> str:
    """The line of a table that is finished."""
    return f"{loaded.table}  {counted(loaded.rows, 'row')}  {duration(loaded.seconds)}"


@dataclass(slots=True)
class _Told:
    """What was told of the loads of a source."""

    load: int = 0
    tables: int = 0
    size: int = 1


class LiveView(UpView):
    """The lines on a terminal. Thread: the command's; records of the log come from any."""

    shown = True

    def __init__(self, console: Console, names: Callable[[], Sequence[str]] = tuple) -> None:
        """``names``: of sources that could not begin."""
        self._console, self._names = console, names
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._copies: dict[Path, _Told] = {}
        #: Rich (15.0) works out what to print, and then prints it: lines that another thread has drawn meanwhile would
        #: stay. So one thread prints at a time.
        self._printing = threading.RLock()
        self._next = 0.0
        self._waiting: dict[str, float] = {}

    def __enter__(self) -> Self:
        # What is logged comes above the lines, not through them.
        self._live.start()
        log_to(self._log, colour=colour_of(sys.stderr))
        return self

    def __exit__(self, *_: object) -> None:
        with self._printing:
            self._live.stop()
        start_log()

    def _log(self, message: str) -> None:
        with self._printing:
            for line in message.rstrip().split("\n"):
                print_line(self._console, Text.from_ansi(line))

    def say(self, line: str, *, bad: bool = False) -> None:
        """Say something good, or something bad, with a mark that tells which."""
        with self._printing:
            for at, part in enumerate(wrapped(printable(redacted(line)), self._console.width, 2)):
                print_line(self._console, *((BAD if bad else GOOD, " ") if at == 0 else ()), part)

    def turn(self, pipelines: Sequence[Pipeline]) -> None:
        """Tell which tables are finished, and show how all sources are; to be called often."""
        for pipeline in pipelines if len(pipelines) <= MOST_WITH_TABLES else ():
            self._tick(pipeline, len(pipelines) > 1)
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + REFRESH_SECONDS
        sources = self._look(pipelines, now)
        lines = Group(*lines_of(sources, self._names(), self._console.width, time.time()))
        with self._printing:
            self._live.update(lines, refresh=True)

    def _tick(self, pipeline: Pipeline, named: bool) -> None:
        """Tell the tables that were finished since the last look; all of them in the order of the load."""
        copying, told = pipeline.copying, self._told(pipeline)
        if copying.loads_begun != told.load:
            told.load, told.tables = copying.loads_begun, 0
        prefix = f"{pipeline.task.name}: " if named else ""
        loaded = copying.loaded[told.tables :]
        for each in loaded[: max(0, MOST_TABLES - told.tables)]:
            self.say(f"{prefix}{tick(each)}")
        told.tables += len(loaded)

    def _told(self, pipeline: Pipeline) -> _Told:
        source = pipeline.task.database
        if source not in self._copies:
            try:
                size = max(source.stat().st_size, 1)
            except OSError:  # it is not there yet: its pipeline says so
                return _Told(size=1)
            self._copies[source] = _Told(size=size)
        return self._copies[source]

    def _waits(self, state: SourceStatus, now: float) -> float:
        if state.phase is not Phase.WAITING:
            self._waiting.pop(state.source, None)
            return 0.0
        return now - self._waiting.setdefault(state.source, now)

    def _look(self, pipelines: Sequence[Pipeline], now: float) -> list[Shown]:
        names = names_apart(pipeline.status.source for pipeline in pipelines)
        return [
            Shown(
                names[state.source],
                state.phase,
                state.progress,
                state.caught_up_at is not None,
                copying.fraction,
                self._told(pipeline).size,
                len(copying.loaded),
                copying.tables,
                copying.saving,
                state.tables > 0 and len(state.refusals) >= state.tables,
                state.applied is not None,
                state.commits,
                state.committed_at,
                state.behind_since,
                _awaited(state.error),
                self._waits(state, now),
                state.indexing,
                copying.left,
            )
            for pipeline in pipelines
            for state, copying in ((pipeline.status, pipeline.copying),)
        ]
