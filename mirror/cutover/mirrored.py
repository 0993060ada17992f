"""The tables of a source in Postgres, for guard rails, whose connections have psycopg's placeholders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from psycopg import RawCursor

from mirror.postgres.sessions import placeholders
from mirror.postgres.target import Target, load_targets


def targets_of(connection: psycopg.Connection[Any], source: Path, schema: str) -> list[Target]:
    """The tables of a source; none if it is not mirrored into the schema. Raises psycopg's errors."""
    query = "SELECT source_id, agent_id FROM mirror.sources WHERE path = $1::text AND schema_name = $2::text"
    row = RawCursor(connection).execute(query, (str(source), schema)).fetchone()
    if row is None:
        return []
    with placeholders(connection, RawCursor):
        return list(load_targets(connection, *row).values())
