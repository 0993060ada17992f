"""A database with the tables of the MemuStore profile, as a mirror makes them, without a mirror."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import psycopg
from psycopg import RawCursor
from psycopg.conninfo import make_conninfo

from mirror.postgres.migrate import migrate, migrate_profile, sql_directory

#: Of the source of each agent that :func:`add_agents` makes.
GENERATION, FRAME, SALT1, SALT2 = 3, 40, 1111, 2222


def make_tables(dsn: str, *, up_to: tuple[int, int] | None = None) -> None:
    """Apply the migrations to an empty or an older database, or those ``up_to`` a number of each kind."""
    own, profile = sql_directory() / "migrations", sql_directory() / "profiles" / "memustore"
    with psycopg.connect(dsn, autocommit=True, cursor_factory=RawCursor) as conn, tempfile.TemporaryDirectory() as made:
        if up_to is not None:
            own, profile = (_first(path, count, Path(made)) for path, count in zip((own, profile), up_to, strict=True))
        migrate(conn, own)
        with conn.transaction():
            migrate_profile(conn, "memustore", "public", profile)


def add_agents(dsn: str, *agents: str) -> dict[str, int]:
    """Register agents, each with a source; return the sources by agent."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        found = {}
        for agent in agents:
            conn.execute("INSERT INTO agents (agent_id) VALUES (%s)", (agent,))
            row = conn.execute(
                "INSERT INTO mirror.sources (path, schema_name, agent_id, generation, frame, salt1, salt2)"
                " VALUES (%s, 'public', %s, %s, %s, %s, %s) RETURNING source_id",
                (f"/{agent}/memory.db", agent, GENERATION, FRAME, SALT1, SALT2),
            ).fetchone()
            assert row is not None
            found[agent] = int(row[0])
        return found


def as_application(dsn: str) -> psycopg.Connection[tuple[object, ...]]:
    """Connect as ``argent_app``, in autocommit mode."""
    return psycopg.connect(make_conninfo(dsn, user="argent_app"), autocommit=True)


def _first(directory: Path, count: int, place: Path) -> Path:
    """A folder with the migrations of ``directory`` up to a number."""
    (made := place / directory.name).mkdir()
    for path in directory.glob("[0-9]*.sql"):
        if int(path.name[:4]) <= count:
            shutil.copy(path, made)
    return made
