"""Binding a source to a profile and an agent."""

from __future__ import annotations

from psycopg.sql import SQL, Identifier, Literal

from mirror.postgres.migrate import migrate_profile, statement
from mirror.postgres.target import Conn


def bind(conn: Conn, source_id: int, schema: str, agent: str | None, profile: str, migrations: str | None) -> None:
    """Have a source's rows be stored by ``profile`` from now on, and belong to ``agent``.

    ``migrations``: those of the profile, if it has any: its tables are made. Raises psycopg's errors and ``SinkError``.
    """
    if migrations:
        migrate_profile(conn, migrations, schema)
        conn.execute(statement("session_search_path"))
        if agent is not None:
            values = Identifier(schema, "agents"), Literal(agent)
            conn.execute(SQL("INSERT INTO {} (agent_id) VALUES ({}) ON CONFLICT DO NOTHING").format(*values))
    conn.execute(statement("source_bind"), (str(source_id), agent, profile))
