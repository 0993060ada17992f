"""Tables that Postgres keeps after their source has dropped them, and what is still for them.

A program that changes a table by making another one and renaming it leaves everything that others made for the first
one (views, foreign keys, triggers, grants) with the first one, which no row comes to any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import RawCursor

from mirror.postgres.migrate import statement
from mirror.postgres.names import KEPT


@dataclass(frozen=True, slots=True)
class KeptTable:
    """A table that is kept, while another one of its source has the name that it had."""

    table: str
    kept: str
    """The name under which it is kept."""
    objects: list[str]
    """What is for it: kind and name."""


def kept_in_use(conn: psycopg.Connection[Any], source_id: int) -> list[KeptTable]:
    """Those of a source's schema for which there is anything that its successor has not. Raises psycopg's errors."""
    found = RawCursor(conn).execute(statement("kept_in_use"), (str(source_id), KEPT))
    return [KeptTable(*row) for row in found.fetchall()]
