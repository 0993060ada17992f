"""What the rehearsal's writer does, from the load that was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from mirror.core.recorded_load import RecordedLoad
from mirror.core.words import counted
from mirror.cutover.rehearsal.statements import TableStatements

#: Commits a second where nothing was recorded: each with one row.
DEFAULT_RATE = 100.0
#: Rows that a commit of the replay has at most.
MOST_ROWS = 1000.0


class TableWork(msgspec.Struct, frozen=True):
    """The work of one commit in one table, on average."""

    statements: TableStatements
    updates: float
    """Rows that are written again."""
    swaps: float
    """Rows that are deleted, and as many that were deleted before and come again."""


class Work(msgspec.Struct, frozen=True):
    """What the writer does."""

    database: str
    config: str
    rate: float
    """Commits a second."""
    tables: list[TableWork]


@dataclass(frozen=True, slots=True)
class Workload:
    """The work, and what to say of it."""

    tables: tuple[TableWork, ...]
    rate: float
    recorded: bool
    note: str


def workload(load: RecordedLoad | None, statements: Mapping[str, TableStatements]) -> Workload:
    """The work for a load; ``statements``: by table, those that the writer can write to; there is at least one.

    ``load``: None if no mirror runs.
    """
    known = {} if load is None else {name: rows for name, rows in load.tables.items() if name in statements}
    if load is None or not load.commits or not any(map(sum, known.values())):
        if load is None:
            why = "no mirror of the source runs"
        elif not load.commits:
            why = "nothing was committed in the last minutes"
        else:
            why = "no row of a table that can be written again was written in the last minutes"
        each = 1 / len(statements)
        tables = tuple(TableWork(one, each, 0) for one in statements.values())
        return Workload(tables, DEFAULT_RATE, False, f"{why}: one row a commit, {DEFAULT_RATE:g} commits/s")
    work: list[TableWork] = []
    share = 1.0
    rows = sum(map(sum, known.values())) / load.commits
    if rows > MOST_ROWS:
        share = MOST_ROWS / rows
    for name, (inserted, updated, deleted) in known.items():
        per_commit = share / load.commits
        swaps = (inserted + deleted) / 2 * per_commit
        if statements[name].swappable:
            work.append(TableWork(statements[name], updated * per_commit, swaps))
        else:
            work.append(TableWork(statements[name], updated * per_commit + 2 * swaps, 0))
    # The others are there so that a commit always finds a row.
    work += [TableWork(statements[name], 0, 0) for name in statements if name not in known]
    commits = counted(load.commits, "commit")
    note = f"of {commits} in {load.seconds:,} s of the last minutes, at the rate of the busiest second"
    if left := sorted(load.tables.keys() - known.keys()):
        note += f"; without {', '.join(left[:3])}{' and others' if len(left) > 3 else ''}"
    if share < 1:
        note += f"; no more than {MOST_ROWS:,.0f} rows a commit"
    return Workload(tuple(work), float(load.peak), True, note)
