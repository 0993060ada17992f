"""What ``mirror top`` shows: pure, from reports to lines.

One line a source, and under the chosen one its tables. Figures of a second are differences of two reports.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mirror.cli.around import around_lines, reads_text
from mirror.cli.output import text
from mirror.cli.status_words import ago, lag, state
from mirror.core.recorded_load import RecordedLoad
from mirror.core.status import AroundReport, Phase, StatusReport
from mirror.core.words import names_apart

#: What lines can be ordered by, in the order in which `s` goes through them.
ORDERS = ("lag", "commits/s", "rows/s", "source")
#: Characters that show how high a value is, from nothing to the highest.
_BARS = " ▁▂▃▄▅▆▇█"
#: Values that are kept of each source.
_KEPT = 60
_GOOD = frozenset((Phase.FOLLOWING, Phase.REVERSE))
_ON_ITS_WAY = frozenset((Phase.STARTING, Phase.SNAPSHOT, Phase.CATCHING_UP, Phase.REDIFF, Phase.PAUSED))
_HELP = "q quit  p pause  s order  r reverse  / filter  ↑↓ choose  enter tables"


class Moment(NamedTuple):
    """What was found at one moment (monotonic seconds)."""

    at: float
    reports: Sequence[StatusReport]
    loads: Mapping[str, RecordedLoad]
    """By source, of those whose tables are shown."""
    around: AroundReport = AroundReport()
    """What is around the mirrors."""


@dataclass
class Line:
    """A source."""

    report: StatusReport
    commits: float = 0.0
    """A second."""
    rows: float = 0.0
    lags: list[float | None] = field(default_factory=list)
    """The last ones, the newest last; None: not known."""
    rates: list[float] = field(default_factory=list)


@dataclass
class View:
    """What is shown, and how: keys change it."""

    order: str = ORDERS[0]
    backwards: bool = False
    wanted: str = ""
    """Only sources whose path has this."""
    typing: bool = False
    """The filter is being typed."""
    paused: bool = False
    chosen: int = 0
    open: bool = False
    """Whether the tables of the chosen one are shown."""
    ended: bool = False
    lines: dict[str, Line] = field(default_factory=dict)
    around: AroundReport = field(default_factory=AroundReport)
    names: Mapping[str, str] = field(default_factory=dict)
    """By source: a short name that no other has."""
    _at: float = 0.0

    def key(self, key: str) -> None:
        """A key was pressed: a character, or ``up``, ``down``, ``enter``, ``escape``, ``backspace``."""
        if self.typing:
            if key in ("enter", "escape"):
                self.typing = False
                self.wanted = "" if key == "escape" else self.wanted
            elif key == "backspace":
                self.wanted = self.wanted[:-1]
            elif len(key) == 1 and key.isprintable():
                self.wanted += key
            return
        match key:
            case "q":
                self.ended = True
            case "p" | " ":
                self.paused = not self.paused
            case "s":
                self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
            case "r":
                self.backwards = not self.backwards
            case "/":
                self.typing = True
            case "escape":
                self.wanted, self.open = "", False
            case "up":
                self.chosen = max(0, self.chosen - 1)
            case "down":
                self.chosen = min(len(self.shown()) - 1, self.chosen + 1)
            case "enter":
                self.open = not self.open

    def take(self, moment: Moment) -> None:
        """Newer figures; while it is paused they are not shown."""
        if self.paused:
            return
        seconds = moment.at - self._at if self._at else 0.0
        self._at = moment.at
        lines = {}
        for report in moment.reports:
            line = Line(report)
            if (before := self.lines.get(report.source)) is not None:
                line.lags, line.rates = before.lags, before.rates
                # A mirror that was started anew counts from 0.
                if seconds > 0 and report.commits >= before.report.commits:
                    line.commits = (report.commits - before.report.commits) / seconds
                    line.rows = (report.rows - before.report.rows) / seconds
                line.rates = [*line.rates, line.commits][-_KEPT:]
            line.lags = [*line.lags, report.lag_seconds][-_KEPT:]
            lines[report.source] = line
        self.lines, self.around, self.names = lines, moment.around, names_apart(lines)
        self.chosen = min(self.chosen, max(0, len(self.shown()) - 1))

    def shown(self) -> list[Line]:
        """The lines, in order."""
        found = [line for line in self.lines.values() if self.wanted.lower() in line.report.source.lower()]
        # What is not known comes first: something is wrong there.
        keys: dict[str, Callable[[Line], float]] = {
            "lag": lambda line: -(float("inf") if (lag := line.report.lag_seconds) is None else lag),
            "commits/s": lambda line: -line.commits,
            "rows/s": lambda line: -line.rows,
            "source": lambda _: 0.0,
        }
        return sorted(found, key=lambda line: (keys[self.order](line), line.report.source), reverse=self.backwards)

    def opened(self) -> str | None:
        """The source whose tables are wanted."""
        lines = self.shown()
        return lines[self.chosen].report.source if self.open and lines else None

    def render(self, loads: Mapping[str, RecordedLoad], width: int, height: int) -> RenderableType:
        """All of it, for a terminal of so many characters."""
        lines = self.shown()
        around = [text(line, "dim" if well else "red") for line, well in around_lines(self.around)]
        for line in around:
            line.no_wrap, line.overflow = True, "ellipsis"
        most = max(1, height - 10 - len(around))
        first = min(max(0, self.chosen - most + 1), max(0, len(lines) - most))
        parts: list[RenderableType] = [self._head(), *around, self._table(lines[first : first + most], first, width)]
        if lines:
            parts += self._below(lines[min(self.chosen, len(lines) - 1)], loads, height)
        parts.append(text(f"filter: {self.wanted}▏" if self.typing else _HELP, "dim"))
        return Group(*parts)

    def _head(self) -> Text:
        reports = [line.report for line in self.lines.values()]
        well = sum(report.phase in _GOOD for report in reports)
        parts = [f"{well} of {len(reports)} at work", f"by {self.order}{' backwards' if self.backwards else ''}"]
        parts += [f"only {self.wanted!r}"] if self.wanted and not self.typing else []
        head = text("mirror top  ", "bold")
        head.append_text(text(", ".join(parts), "green" if well == len(reports) else "red"))
        head.append_text(
            text("  PAUSED" if self.paused else time.strftime("  %H:%M:%S"), "yellow" if self.paused else "dim")
        )
        return head

    def _table(self, lines: Sequence[Line], first: int, width: int) -> Table:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
        table.add_column("source", no_wrap=True, overflow="ellipsis", ratio=1)
        for name in ("phase", "lag", "commits/s", "rows/s"):
            table.add_column(name, justify="left" if name == "phase" else "right", no_wrap=True)
        wide = width >= 100
        if wide:
            table.add_column("lag, last minute", no_wrap=True, width=20)
            table.add_column("parity", no_wrap=True)
        table.add_column("rejects", justify="right", no_wrap=True)
        for at, line in enumerate(lines, first):
            report = line.report
            more = [text(bars(line.lags[-20:]), "blue"), text(_parity(report))] if wide else []
            table.add_row(
                text(f"{'›' if at == self.chosen else ' '} {self.names[report.source]}"),
                text(state(report), _colour(report)),
                text(lag(report)),
                text(f"{line.commits:,.0f}"),
                text(f"{line.rows:,.0f}"),
                *more,
                text(f"{report.rejects:,}", "yellow" if report.rejects else ""),
                style="bold" if at == self.chosen else "",
            )
        return table

    def _below(self, line: Line, loads: Mapping[str, RecordedLoad], height: int) -> list[RenderableType]:
        report = line.report
        parts: list[RenderableType] = []
        if report.last_error:
            parts.append(text(report.last_error, "red"))
        if report.next_steps:
            parts.append(text(f"next: {report.next_steps[0]}"))
        if report.reads:
            parts.append(text(f"reads of programs: {reads_text(report)}", "dim"))
        if (load := loads.get(report.source)) is not None and self.open:
            tables = sorted(load.tables.items(), key=lambda item: -sum(item[1]))[: max(3, height // 3)]
            parts.append(text(f"{self.names[report.source]}, rows of the last five minutes:", "dim"))
            parts += [text(f"  {name}: {i:,} inserted, {u:,} updated, {d:,} deleted") for name, (i, u, d) in tables]
            if not tables:
                parts.append(text("  nothing was written"))
        return parts


def bars(values: Sequence[float | None]) -> str:
    """A line of bars, the highest value at full height; a gap where nothing is known."""
    most = max((value for value in values if value is not None), default=0.0)
    steps = len(_BARS) - 1
    return "".join(
        " " if value is None else _BARS[1] if not most else _BARS[max(1, round(value / most * steps))]
        for value in values
    )


def _parity(report: StatusReport) -> str:
    age = report.parity.age_seconds
    return report.parity.proof if age is None else f"{report.parity.proof} {ago(age)}"


def _colour(report: StatusReport) -> str:
    if report.error is not None:
        return "red"
    return "green" if report.phase in _GOOD else "yellow" if report.phase in _ON_ITS_WAY else "red"
