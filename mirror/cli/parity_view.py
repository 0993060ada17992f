"""A comparison as text for a terminal.

What does not fit into its width leaves the table in a fixed order: first the digests and then the positions, which is
said; then the counts, which become sentences. Then names are broken, after an underscore, a point or a hyphen.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import ProgressColumn, Task
from rich.table import Table
from rich.text import Text

from mirror.cli.output import print_line, print_prose, print_table, text
from mirror.core.words import counted
from mirror.parity.report import KINDS, ParityReport, Status, TableReport
from mirror.parity.shown import said

COLOURS: dict[Status, str] = {
    "equal": "green",
    "equal except rejects": "yellow",
    "different": "red",
    "not mirrored": "red",
    "not checked": "yellow",
}
#: Counts by their names in the report: shown where there is something to count.
_COUNTS = KINDS | {"rejected": "rejected"}
#: Characters of a name's line at least.
_NAME = 16
#: A part of a name, with what ends it.
_PARTS = re.compile(r"[^_.\-]*[_.\-]+|[^_.\-]+")


def render(report: ParityReport, console: Console) -> None:
    """Print a report for a person."""
    left_out = _print_tables(report, console)
    for table in report.tables:
        if "counts" in left_out and (counts := _counted(table)):
            print_prose(console, f"  {table.table}: {counts}")
        if table.reason:
            print_prose(console, f"  {table.table}: {table.reason}")
        for column in filter(None, (column.said for column in table.columns)):
            print_prose(console, f"  {table.table}: {column}")
    for table in report.tables:
        _print_rows(table, console)
    if report.planned is not None:
        print_prose(console, "dry run: nothing was written; a repair keeps each row as it was in mirror.repairs")
        for each in report.planned:
            print_prose(console, f"  {each.said}")
    print_prose(console, report.headline, style=f"bold {COLOURS[report.verdict]}")
    print_prose(console, report.told, style="dim")
    if missing := [name for name in left_out if name != "counts"]:
        print_prose(console, f"not shown for want of room: {' and '.join(missing)}; --json has them", style="dim")
    for step in report.next_steps:
        print_line(console, f"next: {step}")


def _print_tables(report: ParityReport, console: Console) -> list[str]:
    """Returns what is left out of the table: ``digests``, ``positions``, ``counts``."""
    print_line(console, f"parity of {report.source}")
    if not report.tables:
        return []
    room = console.options.update(max_width=10_000)
    left_out: list[str] = []
    for name in (None, "digests", "positions", "counts"):
        left_out += [name] if name else []
        grid = _grid(report, left_out, None)
        over = console.measure(grid, options=room).maximum - console.width
        if over <= 0:
            break
    else:
        longest = max(len(table.table) for table in report.tables)
        grid = _grid(report, left_out, max(_NAME, longest - over))
    print_table(console, grid)
    return left_out


def _grid(report: ParityReport, left_out: Collection[str], name_width: int | None) -> Table:
    """``name_width``: names are broken into lines of so many characters; None: they are not."""
    counts = [name for name in _COUNTS if any(getattr(table, name) for table in report.tables)]
    if "counts" in left_out:
        counts = []
    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column("table", overflow="fold")
    grid.add_column("verdict", no_wrap=True)
    ends = [name for name in ("positions", "digests") if name not in left_out]
    headings = [_COUNTS[name].replace(" in ", " in\n") for name in counts]
    for heading in ("source", "Postgres", *headings, "s", *ends):
        grid.add_column(heading, justify="right", no_wrap=True)
    for table in report.tables:
        name = text(table.table)
        if name_width is not None:
            name = Text("\n".join(broken(name.plain, name_width)))
        shown = {"positions": "" if table.last_lsn is None else str(table.last_lsn), "digests": table.digest}
        grid.add_row(
            name,
            text(table.status, COLOURS[table.status]),
            _optional(table.source_rows),
            _optional(table.target_rows),
            *(f"{getattr(table, name):,}" for name in counts),
            f"{table.seconds:.2f}",
            *(shown[name] for name in ends),
        )
    return grid


def broken(name: str, width: int) -> list[str]:
    """The lines of a name: of at most ``width`` characters, but for a part that is longer."""
    lines = [""]
    for part in _PARTS.findall(name):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return lines


def _counted(table: TableReport) -> str:
    """The counts of a table in words; empty: nothing differs."""
    numbers = {word: getattr(table, name) for name, word in _COUNTS.items()}
    return ", ".join(f"{counted(number, 'row')} {word}" for word, number in numbers.items() if number)


def _optional(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _print_rows(table: TableReport, console: Console) -> None:
    """The rows that differ, as far as they are kept."""
    for example in table.examples:
        row = f"  {KINDS[example.kind]}: {table.table} {example.named}"
        values = [
            f"{one.column}: source {said(one.source_value)}, Postgres {said(one.target_value)}"
            for one in example.columns
        ]
        if len(values) == 1:
            print_prose(console, f"{row} {values[0]}")
            continue
        print_prose(console, row)
        for value in values:
            print_prose(console, f"    {value}")
    if table.examples and table.more:
        print_prose(console, f"  … and {counted(table.more, 'more row', 'more rows')} of {table.table}")


class Words(ProgressColumn):
    """The description of a task, or one of its fields, beside its bar."""

    def __init__(self, field: str | None = None) -> None:
        super().__init__()
        self._field = field

    def render(self, task: Task) -> Text:
        """The text."""
        return text(task.description if self._field is None else task.fields[self._field])
