"""What ``mirror status`` prints: a table with one row a source, and what does not fit into one, in lines.

What people ask first comes first. On a narrow terminal the last columns are left out, which a line says; then names are
broken where they can be read on, so that no figure is cut.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mirror.cli import status_words as words
from mirror.cli.around import around_lines, reads_text
from mirror.cli.output import print_line, print_prose, print_table, text
from mirror.cli.plain import printable
from mirror.core.happened import happened
from mirror.core.peer import start_all_step, start_step
from mirror.core.status import AroundReport, StatusReport, kept_text, named, rejected
from mirror.core.words import counted, names_apart
from mirror.sidecar.refused import causes

#: Characters in which a line is as long as it is: where no terminal would break it.
_UNLIMITED = 10_000
#: Characters that a name has at least, however narrow the terminal is.
_LEAST_NAME = 14
#: Gaps that are shown, of many.
_GAPS = 3
#: What a name can be broken after.
_PARTS = re.compile(r"[^/_\-. ]*[/_\-. ]?")


class _Column(NamedTuple):
    heading: str
    value: Callable[[StatusReport], str]
    figure: bool = True


_COLUMNS = (
    _Column("state", words.state, figure=False),
    _Column("last commit", words.last_commit),
    _Column("lag", words.lag),
    _Column("rejects", lambda report: f"{rejected(report):,}"),
    _Column("gaps", words.gaps),
    _Column("commits", lambda report: f"{report.commits:,}"),
    _Column("applied", lambda report: (not words.is_beginning(report) and report.applied) or "-"),
    _Column("captured", lambda report: report.captured or "-"),
)
#: So many of the last ones may be left out.
_SPARE = 3
#: How a line begins that says what to do.
_STEP = "next: "


def console_of(width: int | None = None) -> Console:
    """A console for it: where no terminal says how wide it is, nothing is left out and nothing broken."""
    console = Console(width=width, emoji=False)
    if width is None and not console.is_terminal and not os.environ.get("COLUMNS"):
        return Console(width=_UNLIMITED, emoji=False)
    return console


def show(
    console: Console,
    reports: Sequence[StatusReport],
    around: AroundReport,
    problem: str | None,
    known: Iterable[Path] = (),
    options: str = "",
) -> None:
    """Print it. ``problem``: what is wrong with the configuration. ``known``: sources from which names are to tell.
    ``options``: what a command needs besides the source's name, with a space in front.
    """
    if problem is not None:
        print_line(console, f"configuration: {problem}", style="red")
        print_line(console, "configuration: programs that follow it go on with what it said before")
    names = names_apart([*(report.source for report in reports), *map(str, known)])
    _show_table(console, reports, names)
    starts = {report.source: start_step(Path(report.source), options) for report in reports}
    stopped = [report.source for report in reports if starts[report.source] in report.next_steps]
    for report in reports:
        for line, style in _notes(report):
            if len(stopped) > 1 and line == f"{_STEP}{starts[report.source]}":
                continue  # one mirror can have them all
            # A step may be a command, which is to be copied whole.
            put = print_line if line.startswith(_STEP) else print_prose
            put(console, f"{names[report.source]}: {line}", style=style)
    if len(stopped) > 1:
        print_line(console, f"{_STEP}{start_all_step(stopped, options)}", style="yellow")
    for line, well in around_lines(around):
        print_line(console, line, style="" if well else "red")


def _show_table(console: Console, reports: Sequence[StatusReport], names: dict[str, str]) -> None:
    columns = list(_COLUMNS)
    most = max((len(names[report.source]) for report in reports), default=0)
    while True:
        table = _table(reports, names, columns, most)
        over = console.measure(table, options=console.options.update(max_width=_UNLIMITED)).maximum - console.width
        if over <= 0:
            break
        if len(columns) > len(_COLUMNS) - _SPARE and most - over < _LEAST_NAME + 4:
            columns.pop()
        elif most > _LEAST_NAME:
            most = max(_LEAST_NAME, most - over)
        elif len(columns) > len(_COLUMNS) - _SPARE:
            columns.pop()
        else:
            break  # narrower than any terminal is
    print_table(console, table)
    if left_out := [column.heading for column in _COLUMNS[len(columns) :]]:
        print_line(console, f"not shown, for lack of room: {', '.join(left_out)}", style="dim")
    for report in reports:
        name = printable(names[report.source])
        if (short := "".join(_in_two_lines(name, most))) != name:
            print_line(console, f"{short} is {name}", style="dim")


def _table(reports: Sequence[StatusReport], names: dict[str, str], columns: Sequence[_Column], most: int) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    lines = [_in_two_lines(printable(names[report.source]), most) for report in reports]
    table.add_column("source", min_width=max((len(line) for each in lines for line in each), default=0))
    for column in columns:
        table.add_column(column.heading, justify="right" if column.figure else "left")
    for report, name in zip(reports, lines, strict=True):
        table.add_row(Text("\n").join(map(text, name)), *(text(column.value(report)) for column in columns))
    return table


def _in_two_lines(name: str, most: int) -> list[str]:
    """A name as :func:`folded` has it; of one that is longer the middle is left out: a line below the table has it."""
    lines, kept = folded(name, most), len(name)
    while len(lines) > 2 and kept > 2:
        kept -= 1
        lines = folded(f"{name[: kept // 2]}…{name[len(name) - (kept - kept // 2) :]}", most)
    return lines


def folded(name: str, most: int) -> list[str]:
    """A name in lines of so many characters at most, broken after what separates its parts, if it has short ones."""
    lines = [""]
    for part in _PARTS.findall(name):
        if lines[-1] and len(lines[-1]) + len(part) > most:
            lines.append("")
        lines[-1] += part
        while len(lines[-1]) > most:
            lines[-1:] = [lines[-1][:most], lines[-1][most:]]
    return lines


def _notes(report: StatusReport) -> Iterator[tuple[str, str]]:
    """What does not fit into a table, most wanted first: lines, each with its style."""
    if (detail := words.detail(report)) is not None:
        yield detail, "yellow" if report.killed is not None else ""
    for cause in causes(report.refusals, report.schema):
        yield f"{'damaged' if cause.is_damage else 'refused'}: {cause.named}: {cause.reason}", "red"
    if report.last_error:
        yield f"last error: {report.last_error}", "red"
    for step in report.next_steps:
        yield f"{_STEP}{step}", "yellow"
    if told := happened(report):
        yield told, ""
    for line in words.moved(report):
        yield line, ""
    if report.parity.age_seconds is not None:  # else a step says that it was never compared
        yield words.parity(report), ""
    yield from _tables(report)
    for gap in report.gaps[-_GAPS:]:
        yield words.gap(gap, report), ""
    if report.capture == "pages":
        yield "not in WAL mode: after each change all pages of the file are compared, which is slower", ""
    if report.agent:
        yield f"agent: {report.agent} (profile {report.profile})", ""
    if report.indexing:
        yield f"building a vector index: {report.indexing}", ""
    if report.reads:
        yield f"reads of programs: {reads_text(report)}", ""


def _tables(report: StatusReport) -> Iterator[tuple[str, str]]:
    """What is not in Postgres as it is in SQLite."""
    for line in words.widened(report):
        yield line, ""
    if report.escaped:
        kept = ", ".join(report.escaped)
        yield f"shown without NUL and invalid bytes, and kept whole in _original: {kept}", ""
    if report.not_json:
        columns = f"{counted(len(report.not_json), 'column')} declared JSON: {named(report.not_json)}"
        yield f"no JSON in {columns}: such a text is a JSON string in Postgres, and `#>> '{{}}'` gives it", ""
    if report.left_out:
        left_out = ", ".join(report.left_out)
        yield f"left out: {left_out}: virtual columns that only the program itself can compute", ""
    if report.omitted:
        from mirror.postgres.profiles import ADOPTED  # few need it

        by = "when it was adopted" if report.profile == ADOPTED else "by a rule in mirror.json"
        yield f"left out {by}: {', '.join(report.omitted)}", ""
    for note in report.rules:
        yield f"mirror.json: {note.rule}: {note.detail}", "yellow"
    for table in report.kept:
        yield kept_text(table), "yellow"
    if report.by_version:
        computed = ", ".join(report.by_version)
        yield (
            f"computed by the mirror's SQLite: {computed}: virtual columns that the program's version of SQLite may"
            " compute otherwise; STORED ones are kept as the program wrote them",
            "",
        )
    if report.virtual:
        yield f"left out: {', '.join(report.virtual)}: virtual tables; their data is not in Postgres", "red"
    if report.read_differences:
        yield f"{counted(report.read_differences, 'read')} answered differently by SQLite and Postgres", "red"
    if report.others_wrote:
        rows = counted(report.others_wrote, "row")
        yield f"in Postgres, others than the mirror have written {rows}", "yellow"
    if report.overwritten:
        rows = counted(report.overwritten, "row")
        yield f"{rows} that others had written in Postgres were replaced, and are kept", "yellow"
