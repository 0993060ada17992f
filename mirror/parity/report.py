"""What a comparison found: frozen values and their JSON form.

Five verdicts, always kept apart: *equal* (proved), *equal except rejects* (proved, but for rows that Postgres cannot
hold and ``mirror.rejects`` keeps), *different* (proved), *not mirrored* (Postgres refuses tables, and has nothing of
them), *not checked* (nothing is known, with the reason). A run that ends early is *not checked* as a whole, whatever it
had found by then; the tables that were finished keep their own status.

In JSON a verdict is its code (:func:`code_of`), and keys and values have the forms of :mod:`mirror.parity.shown`.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mirror.core.positions import Lsn
from mirror.core.versions import package_version
from mirror.core.words import counted
from mirror.parity.server import Server
from mirror.parity.shown import said

Status = Literal["equal", "equal except rejects", "different", "not mirrored", "not checked"]

#: Version of the JSON form; it is raised when a field changes its meaning or is removed. 2: verdicts are codes; keys
#: and values are JSON, instead of JSON in strings.
JSON_VERSION = 2

#: By what counts most in the verdict on several tables, or several sources; each with its exit code.
_EXIT_CODES: dict[Status, int] = {
    "different": 1,
    "not checked": 2,
    "not mirrored": 1,
    "equal except rejects": 4,
    "equal": 0,
}
#: Codes of verdicts with which all that Postgres can hold is equal.
AGREE = ("equal", "equal_except_rejects")
#: How people are told of a row that differs, by the kind of the difference.
KINDS = {"missing": "missing in Postgres", "extra": "only in Postgres", "different": "different"}


def code_of(status: str) -> str:
    """A verdict as programs are told it: ``equal_except_rejects`` for ``equal except rejects``."""
    return status.replace(" ", "_")


@dataclass(frozen=True, slots=True)
class ColumnDifference:
    """A column of a row that differs; both values as JSON (:mod:`mirror.parity.shown`)."""

    column: str
    source_value: Any
    target_value: Any


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that differs, as an example.

    ``missing``: only the source has the row; ``extra``: only Postgres has it; ``different``: both have it, and all
    ``columns`` that differ are there; none where the row is known by its digest alone. ``key``: as JSON.
    """

    kind: Literal["missing", "extra", "different"]
    key: Any
    columns: tuple[ColumnDifference, ...] = ()

    @property
    def named(self) -> str:
        """The key in words."""
        return said(self.key)

    def to_dicts(self) -> Iterator[dict[str, Any]]:
        """The row as JSON values: one object for each column that differs; one without a column where none is known."""
        for one in self.columns or (ColumnDifference("", None, None),):
            yield {
                "kind": self.kind,
                "key": self.key,
                "column": one.column or None,
                "source_value": one.source_value,
                "target_value": one.target_value,
            }


@dataclass(frozen=True, slots=True)
class ColumnReport:
    """The outcome for one column of an application's own table.

    ``losses``: in which ways its values are not given back as the source has them, as the adoption has declared, and
    how many are so in each way. ``different``: in how many rows it differs.
    """

    column: str
    losses: tuple[tuple[str, int], ...] = ()
    different: int = 0

    @property
    def verdict(self) -> Literal["equal", "equal but for loss", "different"]:
        """Different, or equal; with declared losses or without."""
        if self.different:
            return "different"
        return "equal but for loss" if self.losses else "equal"

    @property
    def lost(self) -> int:
        """How many values have a loss."""
        return sum(number for _, number in self.losses)

    @property
    def said(self) -> str:
        """The column in words, if it is not simply equal; else empty."""
        losses = ", ".join(f"{counted(number, 'value')} {how}" for how, number in self.losses)
        if self.different:
            text = f"different in {counted(self.different, 'row')}"
            return f"{self.column}: {text}; declared losses: {losses}" if losses else f"{self.column}: {text}"
        return f"{self.column}: equal but for {losses}" if losses else ""

    def to_dict(self) -> dict[str, Any]:
        """The column as JSON values."""
        return {
            "column": self.column,
            "verdict": code_of(self.verdict),
            "lost": self.lost,
            "losses": [{"how": how, "values": number} for how, number in self.losses],
            "different": self.different,
        }


@dataclass(frozen=True, slots=True)
class TableReport:
    """The outcome for one table.

    ``different`` counts rows that both sides have with different values; ``rejected`` counts rows that
    only the source has and that ``mirror.rejects`` keeps. The counts are None where rows were not
    compared. ``first_lsn`` and ``last_lsn`` bound the positions at which the chunks were compared.
    The digests (BLAKE2b, 128 bits, hexadecimal) stand for the rows of each side in key order, or are sums of
    the rows' digests where there is no order; they can be compared between runs of one version of the mirror.
    They also differ where rows are rejected, because only the source has those: :attr:`digest`.
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
    columns: tuple[ColumnReport, ...] = ()
    """The columns of an application's own table, singly."""
    form: str = field(default="", compare=False)
    """The form in which Postgres had it, as in :data:`mirror.parity.proof.FORMS`; empty if it had none. No part of the
    outcome."""

    @property
    def wrong(self) -> int:
        """How many rows differ."""
        return self.missing + self.extra + self.different

    @property
    def more(self) -> int:
        """How many rows differ besides the examples."""
        return self.wrong - len(self.examples)

    @property
    def lost(self) -> int:
        """How many values have a declared loss."""
        return sum(column.lost for column in self.columns)

    @property
    def digest(self) -> str:
        """What people are shown: one digest of what both have, or both digests where rows differ; 32 bits of each.

        Of a table with rejected rows it is Postgres'.
        """
        both = (self.source_digest, self.target_digest) if self.status == "different" else (self.target_digest,)
        return " ≠ ".join(dict.fromkeys(digest[:8] for digest in both if digest))

    def to_dict(self) -> dict[str, Any]:
        """The table as JSON values."""
        return {
            "table": self.table,
            "status": code_of(self.status),
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
            "examples": [one for example in self.examples for one in example.to_dicts()],
            "columns": [column.to_dict() for column in self.columns],
        }


@dataclass(frozen=True, slots=True)
class Planned:
    """What a repair would write in one table: rows that it inserts, changes and deletes."""

    table: str
    insert: int
    change: int
    delete: int
    whole: str
    """Why the whole table would be sent again; empty: only rows that differ are written."""
    others: bool
    """Others than the mirror have written there: what of it differs is replaced only with ``--replace-rows``."""
    replaces: bool = False
    """That was given."""
    narrow: tuple[str, ...] = ()
    """Columns that get their own type back, if all their values fit it by now."""

    @property
    def said(self) -> str:
        """The same in words."""
        numbers = {"insert": self.insert, "change": self.change, "delete": self.delete}
        rows = [f"{verb} {counted(number, 'row')}" for verb, number in numbers.items() if number]
        text = f"send the whole table again ({self.whole})" if self.whole else ", ".join(rows) or "write nothing"
        if self.narrow:
            text += f", and give {', '.join(self.narrow)} a narrower type if all values fit it"
        if self.others:
            text += "; others have written there: "
            text += "their rows are kept in mirror.overwritten" if self.replaces else "only with --replace-rows"
        return f"{self.table}: would {text}"


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
    others_wrote: bool = False
    """Others than the mirror have written in its tables: a repair replaces that only with ``--replace-rows``."""
    """Whether this is what was found after a repair."""
    options: str = ""
    """The options that a command needs besides the source's name to address this mirror."""
    own_schema: str = ""
    """The command that gives the source a schema of its own."""
    left_out: tuple[str, ...] = ()
    """Virtual tables that hold data and are not mirrored, so that nothing of them is compared."""
    moved: str = ""
    """Of a source that was moved to Postgres: what was found, in words; the tables are not counted singly then."""
    server: Server | None = None
    """None: it was not reached."""
    finished_at: float = field(default_factory=time.time, compare=False)
    """Seconds since the epoch."""
    planned: tuple[Planned, ...] | None = None
    """Of a repair that was only asked what it would do: that."""

    @property
    def exit_code(self) -> int:
        """0 equal, 1 different or not mirrored, 2 could not check, 4 equal except rejects."""
        return _EXIT_CODES[self.verdict]

    @property
    def agreement(self) -> Literal["equal", "different", "not checked"]:
        """For moves, whose guard rails judge rejected rows by themselves: whether the rest is equal."""
        if self.verdict == "equal except rejects":
            return "equal"
        return "different" if self.verdict == "not mirrored" else self.verdict

    @property
    def date(self) -> str:
        """When it ended."""
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.finished_at))

    @property
    def said(self) -> str:
        """The verdict in words, with what it counts."""
        if self.verdict == "equal except rejects":
            return f"equal except {counted(self.rejected, 'rejected row')}"
        if self.verdict == "equal" and self.lost:
            return f"equal but for {counted(self.lost, 'declared loss', 'declared losses')}"
        number = sum(table.status == self.verdict for table in self.tables)
        if self.verdict not in ("different", "not mirrored") or not number:
            return self.verdict
        wrong = sum(table.wrong for table in self.tables)
        if self.verdict == "not mirrored" or not wrong:
            return f"{self.verdict}: {counted(number, 'table')}"
        return f"different: {counted(wrong, 'row')} in {counted(number, 'table')}"

    @property
    def rows_per_second(self) -> float:
        """Rows of the source compared per second of the whole run."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0

    @property
    def rejected(self) -> int:
        """Rows of the source that Postgres cannot hold and ``mirror.rejects`` keeps."""
        return sum(table.rejected for table in self.tables)

    @property
    def lost(self) -> int:
        """Values in applications' own tables that have a declared loss."""
        return sum(table.lost for table in self.tables)

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What an operator can do about this outcome; empty when there is nothing to do."""
        steps = []
        named = f"{shlex.quote(self.source)}{self.options}"
        if self.reason:
            steps.append(f"mirror parity {named}  # when this is resolved: {self.reason}")
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
            how = f"--repair{' --replace-rows' if self.others_wrote else ''} --dry-run"
            if self.planned:
                how = "--repair --replace-rows" if any(each.others for each in self.planned) else "--repair"
            steps.append(f"mirror parity {named} {how}  # different: {', '.join(wrong)}")
        unknown = [table for table in self.tables if table.status == "not checked"]
        if unknown and not self.reason:
            reasons = "; ".join(f"{table.table}: {table.reason}" for table in unknown)
            steps.append(f"mirror parity {named}  # when this is resolved: {reasons}")
        if self.rejected:
            steps.append(f"mirror rejects list {named}  # {counted(self.rejected, 'row')} that Postgres cannot hold")
        return tuple(steps)

    @property
    def headline(self) -> str:
        """The verdict in one line, with the time that it took."""
        rate = f" ({self.rows_per_second:,.0f} rows/s)" if self.rows and not self.moved else ""
        return self._in_one_line(f"{',' if self.moved else ''} in {self.seconds:.2f} s{rate}")

    @property
    def outcome(self) -> str:
        """The verdict in one line, without a time: of a comparison that waits most of it."""
        return self._in_one_line("")

    def _in_one_line(self, took: str) -> str:
        if self.moved:
            return f"{self.verdict}: {self.moved}{took}"
        text = f"{self.said}; compared " if ":" in self.said else f"{self.said}: "
        text += f"{counted(len(self.tables), 'table')}, {counted(self.rows, 'row')}"
        if self.sample is not None:
            text += " of a sample"
        for status in ("not mirrored", "not checked"):
            number = sum(table.status == status for table in self.tables)
            if number and status != self.verdict:
                text += f", {counted(number, 'table')} {status}"
        if self.rejected and self.verdict != "equal except rejects":
            text += f", {counted(self.rejected, 'row')} rejected"
        if self.lost and self.verdict != "equal":
            text += f", {counted(self.lost, 'declared loss', 'declared losses')}"
        text += took
        if self.left_out:
            text += f"; left out: {', '.join(self.left_out)}"
        return f"{text}; {self.reason}" if self.reason else text

    @property
    def told(self) -> str:
        """What was compared with what, when, and by what, in one line."""
        return f"{self.server or 'Postgres was not reached'}; mirror {package_version()}; {self.date}"

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "version": JSON_VERSION,
            "source": self.source,
            "verdict": code_of(self.verdict),
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
            "finished_at": self.finished_at,
            "mirror_version": package_version(),
            "postgres": None if self.server is None else asdict(self.server),
            "would_write": None if self.planned is None else [asdict(table) for table in self.planned],
            "lost": self.lost,
        }

    def to_json(self) -> str:
        """The report as JSON text; the fields and their order are a contract."""
        return json.dumps(self.to_dict(), indent=2)


def exit_code_of(verdicts: Iterable[Status]) -> int:
    """The exit code for several sources: that of the verdict which counts most; 0 for none."""
    found = {*verdicts}
    return next((code for verdict, code in _EXIT_CODES.items() if verdict in found), 0)


def verdict_of(tables: tuple[TableReport, ...]) -> Status:
    """The verdict of a run that was completed: a proved difference takes precedence over a table not checked."""
    statuses = {table.status for table in tables}
    return next((status for status in _EXIT_CODES if status in statuses), "equal")
