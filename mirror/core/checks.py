"""Checks: what `mirror doctor` finds, and the guard rails of a cutover.

A check has a code, which is for programs and stays the same from version to version; and a name, a figure and a next
step, which are for people and may change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

#: ok: as it should be. note: works, but an operator should know. problem: does not work, or must be solved first.
Level = Literal["ok", "note", "problem"]


class Code(StrEnum):
    """What a check is about."""

    # -- the source and where its mirror keeps its files
    SOURCE = "source"
    FILE = "source.file"
    FILE_SYSTEM = "source.file-system"
    SQLITE = "source.sqlite"
    JOURNAL_MODE = "source.journal-mode"
    PROFILE = "source.profile"
    STATE_DIRECTORY = "state-directory"
    DISK = "disk"

    CONFIGURATION = "configuration"
    RULE = "configuration.rule"

    # -- its tables and columns
    TABLE_UNMAPPED = "table.unmapped"
    TABLE_LEFT_OUT = "table.left-out"
    TABLE_OMITTED = "table.left-out-by-rule"
    TABLE_BY_VERSION = "table.computed-by-version"
    VIRTUAL_TABLES = "source.virtual-tables"
    OTHER_OBJECTS = "source.views-triggers-indexes"
    TABLE_TOO_WIDE = "table.too-wide"
    TABLE_UNREADABLE = "table.unreadable"
    TABLE_KEY = "table.null-in-key"
    TABLE_LARGE = "table.looked-at-in-part"
    TABLE_NAME = "table.name-taken"
    TABLE_SHARED = "table.name-of-two-sources"
    COLUMN_WIDENED = "column.becomes-jsonb"
    COLUMN_NO_JSON = "column.no-json"
    COLUMN_ESCAPED = "column.escaped"
    COLUMN_REJECTS = "column.rejects"

    # -- Postgres
    POSTGRES = "postgres"
    ENCODING = "postgres.encoding"
    READ_ONLY = "postgres.read-only"
    RIGHTS = "postgres.rights"
    PGVECTOR = "postgres.pgvector"
    ROW_SECURITY = "postgres.row-security"
    INDEXES = "postgres.indexes"
    SEQUENCE = "postgres.sequence"
    TABLES = "postgres.tables"
    FOREIGN_KEYS = "postgres.foreign-keys"
    UNIQUE_INDEXES = "postgres.unique-indexes"
    NOT_NULL = "postgres.not-null"
    SEQUENCES = "postgres.sequences"
    STATISTICS = "postgres.statistics"
    VECTOR_INDEXES = "postgres.vector-indexes"

    # -- the mirror
    MIRROR = "mirror"
    LEFT_OUT = "mirror.left-out"
    AFTER_COPY = "mirror.after-copy"
    LAG = "mirror.lag"
    PARITY = "mirror.parity"
    GAPS = "mirror.gaps-since-parity"
    REJECTS = "mirror.rejects"
    REFUSED = "mirror.refused-tables"
    KEPT_TABLES = "mirror.kept-tables"
    CHANGES = "mirror.changes"
    DISCREPANCIES = "mirror.discrepancies"
    READ_DIFFERENCES = "mirror.read-differences"
    ADAPTERS = "storage-adapters"
    PHASE = "cutover.phase"

    # -- what runs it
    SERVICE = "service"
    REDIS = "redis"
    WEBHOOK = "webhook"

    # -- the day after
    CONSTRAINT = "constraint"
    BACKUPS = "backups"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked, and the outcome."""

    code: Code
    name: str
    """For people. It also says which of several things with one code (tables, columns, constraints) was checked."""
    level: Level
    detail: str
    """What was found: the figure, where there is one."""
    next_step: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is no problem."""
        return self.level != "problem"

    def as_json(self) -> dict[str, Any]:
        """The check as JSON values. ``check`` and ``figure`` are earlier names of ``name`` and ``detail``."""
        return {
            "code": str(self.code),
            "name": self.name,
            "level": self.level,
            "passed": self.passed,
            "detail": self.detail,
            "next_step": self.next_step,
            "check": self.name,
            "figure": self.detail,
        }


def all_passed(checks: Iterable[Check]) -> bool:
    """Whether there is no problem."""
    return all(check.passed for check in checks)
