"""What ``mirror parity --repair`` would write, without writing anything."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from mirror.parity.report import ParityReport, Planned, TableReport
from mirror.postgres.failures import translated
from mirror.postgres.sessions import Session, connect
from mirror.postgres.target import Target, is_intact, load_targets

_OTHERS = "SELECT DISTINCT source_table FROM mirror.others_wrote WHERE source_id = $1::bigint"


def of_table(table: str, columns: Collection[str]) -> list[str]:
    """Those of the columns, each written ``table.column``, that may be the table's; without it."""
    return [column.removeprefix(f"{table}.") for column in columns if column.startswith(f"{table}.")]


def planned(
    report: ParityReport,
    dsn: str,
    schema: str,
    tables: Collection[str],
    wider: Collection[str],
    *,
    replaces: bool,
) -> tuple[Planned, ...]:
    """For each of these tables of a comparison, what a repair would write.

    ``wider``: columns that have a wider type than most of their values need, each written ``table.column``.
    ``replaces``: what others have written may be replaced. Raises ``SinkError``.
    """
    with connect(dsn, name="mirror", raw=True) as conn, translated("look at a repair", report.source):
        query = "SELECT source_id, agent_id FROM mirror.sources WHERE path = $1 AND schema_name = $2"
        row = conn.execute(query, (str(Path(report.source)), schema)).fetchone()
        if row is None:
            return ()
        targets = load_targets(conn, *row)
        others = {name for (name,) in conn.execute(_OTHERS, (str(row[0]),))}
        return tuple(
            Planned(
                found.table,
                insert=found.missing,
                change=found.different,
                delete=found.extra,
                whole=_whole(conn, found, targets.get(found.table)),
                others=found.table in others,
                replaces=replaces,
                narrow=tuple(of_table(found.table, wider)),
            )
            for found in report.tables
            if found.table in tables
        )


def _whole(conn: Session, found: TableReport, target: Target | None) -> str:
    """Why all rows of a table would be sent; empty: they would not."""
    if target is None:
        return found.reason or "it is not in Postgres"
    intact = is_intact(conn, target)
    if intact:
        return ""
    return found.reason or (
        "its columns or its key were altered in Postgres" if intact is False else "it is gone there"
    )
