"""What an adapter's connections to Postgres have in common, synchronous and asynchronous: settings, texts, answers.

A connection is in autocommit mode. Nothing is set that a pooler in front of Postgres would lose, but where the schema
is not ``public`` or the user of the DSN is not subject to row security: then ``search_path`` or ``role`` is set for the
session, which a pooler must keep to one client.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg.sql import SQL, Identifier
from psycopg.types import TypeInfo

from mirror.core.errors import ConfigError, ConstraintError, MirrorError
from mirror.postgres.failures import sink_error
from mirror.storage.on_postgres import sql
from mirror.storage.statements import Count, CountBy, Near, Select, Statement, Words

#: The role that row security is for.
APP_ROLE = "argent_app"

_AGENT = "(SELECT set_config('app.agent_id', $1, true) AS agent OFFSET 0) w"
_POSITION = (
    " LEFT JOIN LATERAL (SELECT generation, frame, salt1, salt2 FROM mirror.position"
    " WHERE source_id = $2::bigint AND w.agent <> '' OFFSET 0) p ON true"
)
#: Whether the tables of agents are where the search path leads, and row security binds this user.
CHECK = "SELECT to_regclass('memory_items') IS NOT NULL, row_security_active(to_regclass('memory_items'))"


class Place(NamedTuple):
    """Up to where a source had been applied in the snapshot of an answer."""

    generation: int
    frame: int
    salt1: int
    salt2: int


@dataclass(frozen=True, slots=True)
class Read:
    """One statement that reads, ready to send."""

    text: str
    parameters: Sequence[str | None]
    with_place: bool

    def place(self, rows: Sequence[tuple[Any, ...]]) -> Place | None:
        """The position of the answer; None if the source has none, or none was asked for."""
        if not self.with_place or not rows or rows[0][0] is None:
            return None
        return Place(*rows[0][:4])

    def rows(self, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The rows of the answer."""
        at = 4 if self.with_place else 0
        return [row[at + 1 :] for row in rows if row[at] is not None]


def single_read(statement: Statement[Any], agent: str, source_id: int | None) -> Read:
    """A read of one statement, with agent and position (see :mod:`.sql`)."""
    if source_id is None:
        out = sql.Parameters(agent)
        inner = sql.query(statement, "w.agent", out)
        text = f"SELECT q.* FROM {_AGENT} CROSS JOIN LATERAL (SELECT true, x.* FROM ({inner}) x OFFSET 0) q"
        return Read(text, out.values, with_place=False)
    out = sql.Parameters(agent, str(source_id))
    inner = sql.query(statement, "w.agent", out)
    text = (
        f"SELECT p.*, q.* FROM {_AGENT}{_POSITION}"
        f" LEFT JOIN LATERAL (SELECT true, x.* FROM ({inner}) x OFFSET 0) q ON true"
    )
    return Read(text, out.values, with_place=True)


def named_place(agent: str, source_id: int) -> tuple[str, list[str | None]]:
    """The statement that, first in a transaction, names the agent and reads the position of its snapshot."""
    return f"SELECT p.* FROM {_AGENT}{_POSITION}", [agent, str(source_id)]


def named(agent: str) -> tuple[str, list[str | None]]:
    """The statement that names the agent for a transaction."""
    return "SELECT set_config('app.agent_id', $1, true)", [agent]


def later_read(statement: Statement[Any], agent: str) -> tuple[str, list[str | None]]:
    """A statement that reads, in a transaction that has named the agent."""
    out = sql.Parameters(agent)
    return sql.query(statement, "$1::text", out), out.values


def write(statement: Statement[Any], agent: str) -> tuple[str, list[str | None]]:
    """A statement that writes, in a transaction that has named the agent."""
    out = sql.Parameters(agent)
    return sql.change(statement, "$1::text", out), out.values


def answer(statement: Statement[Any], rows: Sequence[tuple[Any, ...]]) -> Any:
    """What the operation is sent for a statement that reads."""
    match statement:
        case Select(table):
            read = _reader(table)
            return [read(row) for row in rows]
        case Count():
            return rows[0][0]
        case CountBy():
            return dict(rows)
        case Words(table) | Near(table):
            read = _reader(table)
            return [(read(row[:-1]), row[-1]) for row in rows]
    raise TypeError(f"no statement that reads: {statement!r}")


_READERS: dict[str, Any] = {}


def _reader(table: Any) -> Any:
    made = _READERS.get(table.name)
    if made is None:
        made = _READERS[table.name] = sql.reader(table)
    return made


def reads(statement: Statement[Any]) -> bool:
    """Whether a statement only reads."""
    return isinstance(statement, Select | Count | CountBy | Words | Near)


def vector_type(name_row: Any) -> TypeInfo | None:
    """pgvector's type, of a row (oid, array oid) of the catalog; None without a row."""
    return None if name_row is None else TypeInfo("vector", name_row[0], name_row[1])


#: The type ``vector`` of this database.
VECTOR = "SELECT t.oid, t.typarray FROM pg_catalog.pg_type t WHERE t.typname = 'vector' ORDER BY t.oid LIMIT 1"


def search_path(schema: str) -> Any:
    """The statement that makes a schema the first of the search path, followed by public."""
    return SQL("SET search_path TO {}, public").format(Identifier(schema))


def require_tables(found: Any, schema: str) -> bool:
    """Whether row security binds the user, by the row of :data:`CHECK`. Raises ``ConfigError`` without tables."""
    there, bound = found
    if not there:
        raise ConfigError(
            "open the store in Postgres",
            f"schema {schema}",
            "it has no memory_items",
            next_step="run `mirror up` for the MemuStore first, which makes the tables",
        )
    return bool(bound)


def storage_error(error: psycopg.Error, operation: str) -> MirrorError:
    """psycopg's error as the mirror's."""
    if error.sqlstate is not None and error.sqlstate.startswith("23"):
        detail = error.diag.message_primary or ""
        if error.diag.message_detail:
            detail += f" ({error.diag.message_detail})"
        return ConstraintError("write a row", error.diag.table_name or operation, detail, next_step="change the row")
    return sink_error(error, operation)
