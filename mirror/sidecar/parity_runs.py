"""Recording comparisons: each in ``mirror.parity_runs``, and the last one in the file that ``mirror status`` reads."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg import RawCursor

from mirror.core.errors import SinkError
from mirror.parity.proof import LastRun, keep
from mirror.parity.report import ParityReport
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement
from mirror.postgres.profiles import PROFILES


def derived(conn: psycopg.Connection[Any], source: Path, schema: str) -> frozenset[str]:
    """Virtual tables of a source that are no loss by the profile that Postgres records for it.

    Raises ``SinkError``.
    """
    with translated("look at Postgres", str(source)):
        try:
            found = conn.execute(statement("source_profile"), {"path": str(source), "schema": schema}).fetchone()
        except psycopg.errors.UndefinedTable:
            found = None  # nothing has been mirrored here, which the comparison says
        conn.rollback()
    profile = None if found is None else PROFILES.get(found[0] or "generic")
    return frozenset() if profile is None else profile.derived


def record(
    conn: psycopg.Connection[Any],
    source: Path,
    schema: str,
    report: ParityReport,
    folder: Path,
    *,
    whole: bool,
    by_itself: bool = False,
) -> None:
    """Record the outcome of a comparison.

    ``folder``: the source's folder in the state directory. ``whole``: it compared all rows of all tables.
    ``by_itself``: nobody asked for it, and most of its time was spent waiting. Raises ``SinkError``, ``OSError``.
    """
    counts = [sum(getattr(table, name) for table in report.tables) for name in ("missing", "extra", "different")]
    values = [report.seconds, report.verdict, whole, report.rows, *counts, report.rejected]
    with translated("record a comparison", str(source)):
        conn.rollback()
        cursor = RawCursor(conn).execute(
            statement("parity_save"), [str(source), schema, *map(str, values), report.to_json()]
        )
        conn.commit()
    if not cursor.rowcount:
        raise SinkError("record a comparison", str(source), "Postgres does not know the source")
    if whole or report.verdict == "different":  # a part cannot prove the whole equal, but it can disprove it
        repairable = any(table.status == "different" and not table.refused for table in report.tables)
        forms = {table.table: table.form for table in report.tables}
        line = report.outcome if by_itself else report.headline
        keep(folder, LastRun(report.verdict, time.time(), report.rows, line, repairable, forms, by_itself))
