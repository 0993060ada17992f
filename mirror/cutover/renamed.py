"""Guard rails about names: rules in mirror.json that mean nothing any more, and tables that are only kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from psycopg import RawCursor

from mirror.core.checks import Check, Code
from mirror.core.happened import definitions
from mirror.core.status import StatusReport, named
from mirror.cutover.readiness import Part, Readiness
from mirror.postgres.kept import kept_in_use
from mirror.postgres.migrate import statement
from mirror.postgres.names import KEPT


def judge_rules(found: Readiness, status: StatusReport) -> None:
    """Add a note for each rule that means nothing, and for each column that is left out for another one's rule."""
    found.rails += [Check(Code.RULE, f"rule {note.rule}", "note", note.detail, note.next_step) for note in status.rules]


def note_changes(found: Readiness, status: StatusReport) -> None:
    """Add a note about tables and columns that were added, renamed or dropped, if any were: programs that are moved
    know the source as it is now, and others may not."""
    if counts := definitions(status):
        newest: Part = ("; the last of them: ", [each.text for each in reversed(status.happened)], "; ")
        found.add_note(Code.CHANGES, "changes", counts, *([newest] if status.happened else []))


def judge_kept(found: Readiness, connection: psycopg.Connection[Any], source: Path, schema: str) -> None:
    """Tables that stay as they were when the source dropped them, and that programs still use through views and grants.

    Raises psycopg's errors.
    """
    [(source_id,)] = (
        RawCursor(connection)
        .execute(
            "SELECT source_id FROM mirror.sources WHERE path = $1::text AND schema_name = $2::text",
            (str(source), schema),
        )
        .fetchall()
    )
    kept = kept_in_use(connection, source_id)
    figure = "; ".join(f"{each.kept}, not {each.table}: {named(each.objects)}" for each in kept)
    step = (
        "make them again for the table of that name and drop the kept one; or, if nobody needs them, "
        f"{found.plan_with('kept tables')}"
    )
    found.add_or_acknowledge(Code.KEPT_TABLES, "kept tables", not kept, figure or "nothing is for them", step)


def note_dropped(found: Readiness, connection: psycopg.Connection[Any], source: Path, schema: str) -> None:
    """Tables and columns that the source had and has not any more, of which Postgres keeps the rows and values.

    Raises psycopg's errors.
    """
    rows = RawCursor(connection).execute(statement("dropped"), (str(source), schema, KEPT)).fetchall()
    if rows:
        figure = "dropped, or made again, in the source, and kept here under another name: "
        found.add_note(Code.TABLES, "dropped", (figure, [name for (name,) in rows], ", "))
