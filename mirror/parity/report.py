"""What a comparison found: frozen values, their JSON form and their table for the terminal.

Three verdicts, never mixed up: *equal* (proved), *different* (proved), *not checked* (nothing is
known, with the reason). A run that breaks off is *not checked* as a whole, whatever it had found by
then; the tables that were finished keep their own status.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from mirror.model import Lsn

Status = Literal["equal", "different", "not checked"]

#: Version of the JSON form; it grows when a field changes its meaning or goes away.
JSON_VERSION = 1

#: From this width on a terminal has room for positions and the first characters of digests.
_WIDE, _DIGEST = 120, 8

_EXIT_CODES: dict[Status, int] = {"equal": 0, "different": 1, "not checked": 2}
_COLOURS: dict[Status, str] = {"equal": "green", "different": "red", "not checked": "yellow"}


@dataclass(frozen=True, slots=True)
class Difference:
    """One differing row (or one column of it), as an example.

    ``missing``: only the source has the row; ``extra``: only Postgres has it; ``different``: both
    have it, ``column`` differs. Keys and values are JSON text in the lossless encoding of the
    rejects, shortened where they are long; None stands for "not known" or "no such row".
    """

    kind: Literal["missing", "extra", "different"]
    key: str
    column: str | None = None
    source_value: str | None = None
    target_value: str | None = None


@dataclass(frozen=True, slots=True)
class TableReport:
    """The outcome for one table.

    ``different`` counts rows that both sides have with other contents; ``rejected`` counts rows that
    only the source has and that ``mirror.rejects`` keeps. The counts are None where rows were not
    compared. ``first_lsn`` and ``last_lsn`` bound the positions at which the chunks were compared.
    The digests (BLAKE2b, 128 bits, hexadecimal) stand for the rows of each side in key order, or are sums of
    the rows' digests where there is no order; they can be compared between runs of one version of the mirror.
    They differ, too, where rows are rejected: only the source has those.
    """

    table: str
    status: Status
    reason: str = ""
    source_rows: int | None = None
    target_rows: int | None = None
    missing: int = 0
    extra: int = 0
    different: int = 0
    rejected: int = 0
    seconds: float = 0.0
    first_lsn: Lsn | None = None
    last_lsn: Lsn | None = None
    source_digest: str = ""
    target_digest: str = ""
    next_step: str = ""
    """What mends this table in particular."""
    examples: tuple[Difference, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The table as JSON values."""
        return {
            "table": self.table,
            "status": self.status,
            "reason": self.reason,
            "source_rows": self.source_rows,
            "target_rows": self.target_rows,
            "missing": self.missing,
            "extra": self.extra,
            "different": self.different,
            "rejected": self.rejected,
            "seconds": round(self.seconds, 6),
            "first_lsn": None if self.first_lsn is None else str(self.first_lsn),
            "last_lsn": None if self.last_lsn is None else str(self.last_lsn),
            "source_digest": self.source_digest,
            "target_digest": self.target_digest,
            "examples": [
                {
                    "kind": example.kind,
                    "key": example.key,
                    "column": example.column,
                    "source_value": example.source_value,
                    "target_value": example.target_value,
                }
                for example in self.examples
            ],
        }


@dataclass(frozen=True, slots=True)
class ParityReport:
    """The outcome for one source.

    ``rows`` counts the rows read from the source. ``longest_read`` is the longest read transaction
    on the source in seconds: the figure that invariant 1 bounds.
    """

    source: str
    tables: tuple[TableReport, ...]
    verdict: Status
    reason: str
    seconds: float
    rows: int
    longest_read: float
    sample: int | None = None
    """About how many rows of each table were compared; None: all."""
    repaired: bool = False
    """Whether this is what was found after a repair."""
    options: str = ""
    """What a command needs besides the source's name to mean this mirror."""

    @property
    def exit_code(self) -> int:
        """0 equal, 1 different, 2 could not check."""
        return _EXIT_CODES[self.verdict]

    @property
    def rows_per_second(self) -> float:
        """Rows of the source compared per second of the whole run."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0

    @property
    def rejected(self) -> int:
        """Rows of the source that Postgres cannot hold and ``mirror.rejects`` keeps."""
        return sum(table.rejected for table in self.tables)

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What a person can do about this outcome; empty when there is nothing to do."""
        steps = []
        if self.reason:
            steps.append(f"resolve this, then run parity again: {self.reason}")
        steps += [f"{table.table}: {table.next_step}" for table in self.tables if table.next_step]
        wrong = [table.table for table in self.tables if table.status == "different" and not table.next_step]
        if wrong and self.repaired:
            steps.append(
                f"different after a repair: {', '.join(wrong)}: look for triggers, rules or programs that change them"
                " in Postgres; if there are none, it is a bug of the mirror: report it with this output"
            )
        elif wrong:
            steps.append(f"mirror parity {self.source}{self.options} --repair  (different: {', '.join(wrong)})")
        unknown = [table for table in self.tables if table.status == "not checked"]
        if unknown and not self.reason:
            told = "; ".join(f"{table.table}: {table.reason}" for table in unknown)
            steps.append(f"resolve this, then run parity again: {told}")
        if self.rejected:
            count = _count(self.rejected, "row")
            steps.append(f"mirror rejects list  ({count} that Postgres cannot hold)")
        return tuple(steps)

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        text = f"{self.verdict}: {_count(len(self.tables), 'table')}, {_count(self.rows, 'row')}"
        if self.sample is not None:
            text += " of a sample"
        for status in ("different", "not checked"):
            number = sum(table.status == status for table in self.tables)
            if number:
                text += f", {_count(number, 'table')} {status}"
        if self.rejected:
            text += f", {_count(self.rejected, 'row')} rejected"
        text += f" in {self.seconds:.2f} s ({self.rows_per_second:,.0f} rows/s)"
        return f"{text}; {self.reason}" if self.reason else text

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "version": JSON_VERSION,
            "source": self.source,
            "verdict": self.verdict,
            "reason": self.reason,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 6),
            "rows": self.rows,
            "sample": self.sample,
            "rows_per_second": round(self.rows_per_second, 1),
            "rejected": self.rejected,
            "longest_read_seconds": round(self.longest_read, 6),
            "tables": [table.to_dict() for table in self.tables],
            "next_steps": list(self.next_steps),
        }

    def to_json(self) -> str:
        """The report as JSON text; the fields and their order are a contract."""
        return json.dumps(self.to_dict(), indent=2)

    def render(self, console: Console) -> None:
        """Print the report for a person."""
        # Columns of nothing but zeros are left out, so that names fit into 80 characters.
        counts = [
            name
            for name in ("missing", "extra", "different", "rejected")
            if any(getattr(table, name) for table in self.tables)
        ]
        # Positions and digests only where there is room; the JSON form has all.
        wide = console.width >= _WIDE
        grid = RichTable(
            title=f"parity of {escape(self.source)}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False
        )
        grid.add_column("table", overflow="fold")
        grid.add_column("status", no_wrap=True)
        for heading in ("source", "Postgres", *counts, "s", *(("at", "digests") if wide else ())):
            grid.add_column(heading, justify="right", no_wrap=True)
        for table in self.tables:
            digests = dict.fromkeys((table.source_digest[:_DIGEST], table.target_digest[:_DIGEST]))
            room = ["" if table.last_lsn is None else str(table.last_lsn), " ≠ ".join(digests)]
            grid.add_row(
                escape(table.table),
                f"[{_COLOURS[table.status]}]{table.status}[/]",
                _optional(table.source_rows),
                _optional(table.target_rows),
                *(f"{getattr(table, name):,}" for name in counts),
                f"{table.seconds:.2f}",
                *(room if wide else ()),
            )
        console.print(grid)
        for table in self.tables:
            if table.reason:
                console.print(escape(f"  {table.table}: {table.status}: {table.reason}"), highlight=False)
        for table in self.tables:
            for example in table.examples:
                console.print(escape(_describe(table.table, example)), highlight=False)
        colour = _COLOURS[self.verdict]
        console.print(f"[bold {colour}]{escape(self.headline)}[/]", highlight=False)
        for step in self.next_steps:
            console.print(f"next: {escape(step)}", highlight=False)


def verdict_of(tables: tuple[TableReport, ...]) -> Status:
    """The verdict of a run that came to its end: a proved difference outweighs an unknown."""
    statuses = {table.status for table in tables}
    if "different" in statuses:
        return "different"
    return "not checked" if "not checked" in statuses else "equal"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _optional(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _describe(table: str, example: Difference) -> str:
    text = f"  {example.kind:9} {table} {example.key}"
    if example.column is None:
        return text
    return f"{text} {example.column}: source {example.source_value}, Postgres {example.target_value}"
