"""What ``mirror doctor`` has found about one source."""

from __future__ import annotations

from dataclasses import dataclass, field

from mirror.core.checks import Check, Code, Level, all_passed
from mirror.core.errors import GOES_ON, MirrorError


@dataclass(slots=True)
class ColumnReport:
    """The values of a column, and the Postgres type that it gets."""

    table: str
    column: str
    declared: str
    becomes: str
    """Its type in Postgres."""
    classes: dict[str, int] = field(default_factory=dict)
    """Number of values by SQLite's storage class: null, integer, real, text, blob."""
    rejects: dict[str, int] = field(default_factory=dict)
    """Number of values that Postgres cannot hold, by the reason: their rows go to ``mirror.rejects``."""
    escaped: int = 0
    """Number of texts with NUL or bytes that are not valid: shown without them, and whole in ``_original``."""
    misfits: int = 0
    """Number of values that do not fit its declared type, because of which it becomes another one."""


@dataclass(frozen=True, slots=True)
class TableReport:
    """A table, and the key by which its rows are known in Postgres."""

    table: str
    key: list[str]
    """Names of its columns in Postgres; ``_rowid`` is SQLite's number of a row, of a table without another key."""


@dataclass(slots=True)
class Report:
    """Everything that was found about one source."""

    source: str
    agent: str | None = None
    profile: str | None = None
    findings: list[Check] = field(default_factory=list)
    columns: list[ColumnReport] = field(default_factory=list)
    tables: list[TableReport] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether no finding is a problem."""
        return all_passed(self.findings)

    def add(self, code: Code, level: Level, name: str, detail: str, next_step: str = "") -> None:
        """Add a finding."""
        self.findings.append(Check(code, name, level, detail, next_step))

    def fails(self, code: Code, name: str, error: MirrorError) -> None:
        """Add an error as a problem: without the words about a mirror that runs, of which there is none yet."""
        # Once: the name of the check, or what was found, may say the place already.
        said = f" {name}".endswith(f" {error.place}") or error.place_is_said
        detail = error.detail if said else f"{error.place}: {error.detail}"
        step = error.next_step.replace(GOES_ON, "") or "repair it, and run `mirror doctor` again"
        self.add(code, "problem", name, detail or str(error), step)
