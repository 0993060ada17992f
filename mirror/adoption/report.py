"""What ``mirror adopt`` has found of one source. Values, and their JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from mirror.adoption.columns import Finding
from mirror.adoption.present import Present
from mirror.adoption.search import SearchTable
from mirror.core.adopted import form_of_codec
from mirror.core.tables import TableMapping
from mirror.postgres.adopted.decisions import Decisions
from mirror.postgres.adopted.mapping import Problem


@dataclass(slots=True)
class TableReport:
    """A table that is mirrored into one of the application's."""

    mapping: TableMapping
    rows: int = 0
    """That the source has."""
    present: Present | None = None
    findings: list[Finding] = field(default_factory=list)
    only_in_postgres: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()
    """Columns that Postgres computes itself."""
    unchecked: tuple[str, ...] = ()
    """Constraints that were not tried."""
    triggers: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For scripts: the types and forms of its columns, too."""
        mapping = self.mapping
        pairs = zip(mapping.table.columns, mapping.columns, strict=True)
        return {
            "table": mapping.table.name,
            "target": f"{mapping.schema}.{mapping.name}",
            "key": None if mapping.key is None else list(mapping.key),
            "rows": self.rows,
            "present": None if self.present is None else asdict(self.present),
            "columns": [
                {
                    "column": column.name,
                    "target": target.name,
                    "type": target.pg_type,
                    "form": msgspec.json.decode(target.codec.partition(" ")[2]),
                    "kind": form_of_codec(target.codec).kind,
                }
                for column, target in pairs
            ],
            "findings": [asdict(finding) for finding in self.findings],
            "only_in_postgres": list(self.only_in_postgres),
            "computed": list(self.computed),
            "unchecked": list(self.unchecked),
            "triggers": list(self.triggers),
        }


@dataclass(slots=True)
class Report:
    """Everything that was found of one source."""

    source: str
    decisions: Decisions
    presets: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    tables: list[TableReport] = field(default_factory=list)
    kept: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    only_in_source: tuple[str, ...] = ()
    only_in_postgres: tuple[str, ...] = ()
    virtual: tuple[str, ...] = ()
    """Virtual tables of the source, which are not mirrored."""
    search: list[SearchTable] = field(default_factory=list)
    """Those of them that are full-text search."""
    problems: list[Problem] = field(default_factory=list)

    @property
    def can_be_adopted(self) -> bool:
        """Whether nothing is left to decide or to repair."""
        return all(problem.level == "note" for problem in self.problems)

    def as_json(self, *, adopted: bool, restart: Sequence[str] = ()) -> dict[str, Any]:
        """For scripts; ``adopted``: whether it was remembered. ``restart``: the commands that have the mirror that runs
        go by it.
        """
        return {
            "source": self.source,
            "schema": self.decisions.schema,
            "presets": list(self.presets),
            "hints": list(self.hints),
            "can_be_adopted": self.can_be_adopted,
            "adopted": adopted,
            "restart": list(restart),
            "tables": [table.as_json() for table in self.tables],
            "kept": list(self.kept),
            "excluded": list(self.excluded),
            "only_in_source": list(self.only_in_source),
            "only_in_postgres": list(self.only_in_postgres),
            "virtual": list(self.virtual),
            "search": [asdict(table) for table in self.search],
            "after_copy": self.decisions.after_copy_file or None,
            "problems": [asdict(problem) for problem in self.problems],
            "decisions": msgspec.to_builtins(self.decisions),
        }
