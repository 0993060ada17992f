"""What a comparison found: frozen values and their JSON form.

Three verdicts, always kept apart: *equal* (proved), *different* (proved), *not checked* (nothing is
known, with the reason). A run that ends early is *not checked* as a whole, whatever it had found by
then; the tables that were finished keep their own status.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import Any, Literal

from mirror.core.positions import Lsn

Status = Literal["equal", "different", "not checked"]

#: Version of the JSON form; it is raised when a field changes its meaning or is removed.
JSON_VERSION = 1

_EXIT_CODES: dict[Status, int] = {"equal": 0, "different": 1, "not checked": 2}


@dataclass(frozen=True, slots=True)
class Difference:
    """One differing row (or one column of it), as an example.

    ``missing``: only the source has the row; ``extra``: only Postgres has it; ``different``: both
    have it, ``column`` differs. Keys and values are JSON text in the lossless encoding of the
    rejects, shortened where they are long; None means "not known" or "no such row".
    """

    kind: Literal["missing", "extra", "different"]
    key: str
    column: str | None = None
    source_value: str | None = None
    target_value: str | None = None


@dataclass(frozen=True, slots=True)
class TableReport:
    """The outcome for one table.

    ``different`` counts rows that both sides have with different values; ``rejected`` counts rows that
    only the source has and that ``mirror.rejects`` keeps. The counts are None where rows were not
    compared. ``first_lsn`` and ``last_lsn`` bound the positions at which the chunks were compared.
    The digests (BLAKE2b, 128 bits, hexadecimal) stand for the rows of each side in key order, or are sums of
    the rows' digests where there is no order; they can be compared between runs of one version of the mirror.
    They also differ where rows are rejected, because only the source has those.
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
    """What an operator can do for this table in particular."""
    refused: bool = False
    """Whether Postgres does not take the table as it is, so that no repair helps."""
    own_schema: bool = False
    """Whether a schema of its own for the source helps: the table's name is taken."""
    examples: tuple[Difference, ...] = ()
    form: str = field(default="", compare=False)
    """The form in which Postgres had it, as in :data:`mirror.parity.proof.FORMS`; empty if it had none. No part of the
    outcome."""

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
    """The options that a command needs besides the source's name to address this mirror."""
    own_schema: str = ""
    """The command that gives the source a schema of its own."""
    left_out: tuple[str, ...] = ()
    """Virtual tables that hold data and are not mirrored, so that nothing of them is compared."""
    moved: str = ""
    """Of a source that was moved to Postgres: what was found, in words; the tables are not counted singly then."""

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
        """What an operator can do about this outcome; empty when there is nothing to do."""
        steps = []
        named = f"{shlex.quote(self.source)}{self.options}"
        if self.reason:
            steps.append(f"resolve this, then run parity again: {self.reason}")
        taken = [table.table for table in self.tables if table.own_schema and self.own_schema]
        if taken:
            steps.append(f"{self.own_schema}  # names that are taken: {', '.join(taken)}")
        for table in self.tables:
            if table.table not in taken and (table.next_step or table.refused):
                step = table.next_step or "repair what the reason names; the mirror tries the table again by itself"
                steps.append(f"{table.table}: {step}")
        different = [table for table in self.tables if table.status == "different"]
        wrong = [table.table for table in different if not table.next_step and not table.refused]
        if wrong and self.repaired:
            steps.append(
                f"different after a repair: {', '.join(wrong)}: look for triggers, rules or programs that change them"
                " in Postgres; if there are none, it is a bug of the mirror: report it with this output"
            )
        elif wrong:
            steps.append(f"mirror parity {named} --repair  # different: {', '.join(wrong)}")
        unknown = [table for table in self.tables if table.status == "not checked"]
        if unknown and not self.reason:
            reasons = "; ".join(f"{table.table}: {table.reason}" for table in unknown)
            steps.append(f"resolve this, then run parity again: {reasons}")
        if self.rejected:
            steps.append(f"mirror rejects list {named}  # {counted(self.rejected, 'row')} that Postgres cannot hold")
        return tuple(steps)

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        if self.moved:
            return f"{self.verdict}: {self.moved}, in {self.seconds:.2f} s"
        text = f"{self.verdict}: {counted(len(self.tables), 'table')}, {counted(self.rows, 'row')}"
        if self.sample is not None:
            text += " of a sample"
        for status in ("different", "not checked"):
            number = sum(table.status == status for table in self.tables)
            if number:
                text += f", {counted(number, 'table')} {status}"
        if self.rejected:
            text += f", {counted(self.rejected, 'row')} rejected"
        if self.left_out:
            text += f", left out: {', '.join(self.left_out)}"
        text += f" in {self.seconds:.2f} s ({self.rows_per_second:,.0f} rows/s)"
        return f"{text}; {self.reason}" if self.reason else text

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "version": JSON_VERSION,
            "source": self.source,
            "verdict": self.verdict,
            "reason": self.reason,
            "moved": self.moved or None,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 6),
            "rows": self.rows,
            "sample": self.sample,
            "rows_per_second": round(self.rows_per_second, 1),
            "rejected": self.rejected,
            "longest_read_seconds": round(self.longest_read, 6),
            "tables": [table.to_dict() for table in self.tables],
            "left_out": list(self.left_out),
            "next_steps": list(self.next_steps),
        }

    def to_json(self) -> str:
        """The report as JSON text; the fields and their order are a contract."""
        return json.dumps(self.to_dict(), indent=2)


def verdict_of(tables: tuple[TableReport, ...]) -> Status:
    """The verdict of a run that was completed: a proved difference takes precedence over a table not checked."""
    statuses = {table.status for table in tables}
    if "different" in statuses:
        return "different"
    return "not checked" if "not checked" in statuses else "equal"


def counted(number: int, noun: str) -> str:
    """A number and what it counts, for people."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
