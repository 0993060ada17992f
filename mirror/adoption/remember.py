"""Has Postgres know that a source is mirrored into an application's own tables, and how."""

from __future__ import annotations

import shlex

from mirror.core.errors import SealedError, SinkError
from mirror.postgres import phase
from mirror.postgres.adopted import after_copy
from mirror.postgres.adopted.decisions import Decisions, save
from mirror.postgres.failures import translated
from mirror.postgres.migrate import migrate, statement
from mirror.postgres.removal import schemas_of
from mirror.postgres.target import Conn

_OPERATION = "adopt a source"
_OWN = (
    "SELECT count(*) FROM mirror.tables"
    ' WHERE source_id = $1::bigint AND columns::text NOT LIKE \'%"codec": "adopted %\''
)


def require_unmirrored(conn: Conn, path: str) -> None:
    """Raise :class:`SinkError` if a source is mirrored into tables that the mirror has made, in whatever schema;
    :class:`SealedError` if programs read it from Postgres.
    """
    with translated(_OPERATION, path):
        for schema in schemas_of(conn, path):
            query = "SELECT source_id FROM mirror.sources WHERE path = $1::text AND schema_name = $2::text"
            row = conn.execute(query, (path, schema)).fetchone()
            if row is not None:
                _require_free(conn, int(row[0]), path, schema)


def _require_free(conn: Conn, source_id: int, path: str, schema: str) -> None:
    if conn.execute(_OWN, (str(source_id),)).fetchone() != (0,):
        raise SinkError(
            _OPERATION,
            path,
            f"it is mirrored already, into tables that the mirror has made in the schema {schema}",
            next_step=f"`mirror remove {shlex.quote(path)} --drop-tables --schema {schema}` takes these away first",
        )
    if conn.execute("SELECT to_regclass('mirror.outbox') IS NULL").fetchone() == (True,):
        return  # a mirror of before sources could be moved back has made the schema: none was moved
    moved = phase.read(conn, source_id)
    if moved.sealed_at is not None or moved.moving_to is not None or moved.number != 1:
        raise SealedError(
            _OPERATION,
            path,
            "programs read it from Postgres",
            next_step="`mirror cutover rollback` goes back to the file first",
        )


def remember(conn: Conn, path: str, decisions: Decisions) -> None:
    """Register a source, and keep what was decided, in one transaction. ``conn`` is raw, and in autocommit mode.

    What was decided before is replaced; a mirror that runs goes by it from its next start on. Raises as
    :func:`require_unmirrored` does.
    """
    with translated(_OPERATION, path):
        migrate(conn)
        with conn.transaction():
            conn.execute(statement("source_register"), (path, decisions.schema))
            row = conn.execute(
                "SELECT source_id FROM mirror.sources WHERE path = $1::text AND schema_name = $2::text FOR UPDATE",
                (path, decisions.schema),
            ).fetchone()
            assert row is not None
            require_unmirrored(conn, path)
            save(conn, int(row[0]), decisions)
            after_copy.forget(conn, int(row[0]))
