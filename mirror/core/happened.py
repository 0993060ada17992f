"""Words for what has happened to a source: the counts and the last lines of a status."""

from __future__ import annotations

import time

from mirror.core.status import EventsReport, HappenedReport, StatusReport
from mirror.core.words import counted

#: How many lines about changed definitions a status keeps.
MOST = 20
#: What happens to definitions: tables and columns.
DEFINITIONS = (
    ("tables_added", "table added", "tables added"),
    ("tables_dropped", "table dropped", "tables dropped"),
    ("tables_renamed", "table renamed", "tables renamed"),
    ("tables_rebuilt", "table rebuilt", "tables rebuilt"),
    ("columns_added", "column added", "columns added"),
    ("columns_dropped", "column dropped", "columns dropped"),
    ("columns_renamed", "column renamed", "columns renamed"),
)
#: And else, of what is in no other line of a status.
_REST = (
    ("rows_lost", "row gone from Postgres, which cannot hold it", "rows gone from Postgres, which cannot hold them"),
    ("reconnections", "outage of Postgres", "outages of Postgres"),
)


def happened(report: StatusReport) -> str:
    """What has happened since counting began, in one line; empty: nothing."""
    return _line(report, (*DEFINITIONS, *_REST))


def definitions(report: StatusReport) -> str:
    """The same of tables and columns alone."""
    return _line(report, DEFINITIONS)


def newest(lines: list[HappenedReport], more: HappenedReport) -> list[HappenedReport]:
    """The lines and another one: the last :data:`MOST`."""
    return [*lines, more][-MOST:]


def _line(report: StatusReport, told: tuple[tuple[str, str, str], ...]) -> str:
    parts = [_count(report.ever, *each) for each in told]
    found = ", ".join(filter(None, parts))
    if report.ever_since is None or not found:
        return found
    return f"since {time.strftime('%Y-%m-%d %H:%M', time.localtime(report.ever_since))}: {found}"


def _count(events: EventsReport, name: str, one: str, many: str) -> str:
    number = getattr(events, name)
    return counted(number, one, many) if number else ""
