"""What an adapter's connections to Postgres have in common, synchronous and asynchronous: settings, texts, answers.

A connection is in autocommit mode. Nothing is set that a pooler in front of Postgres would lose, but where the schema
of the tables, or of the extension vector, is not ``public``, or the user of the DSN is not subject to row security:
then ``search_path`` or ``role`` is set for the session. A pooler would give that session to another client, and this
one a session without the role, so through one it is an error. Nor are statements prepared there: another client's may
have the same name, and another text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg.sql import SQL, Identifier
from psycopg.types import TypeInfo
from psycopg_pool import PoolTimeout

from mirror.core.errors import ConfigError, ConstraintError, MirrorError, MovedBackError, SinkError, StorageError
from mirror.core.locks import SOURCE_HANDED_OVER, SOURCE_IN_MOVE, SOURCE_IN_POSTGRES
from mirror.core.quote import quoted
from mirror.postgres.failures import sink_error
from mirror.storage.on_postgres import joined, sql
from mirror.storage.on_postgres.shapes import parameters_of, shape_of
from mirror.storage.on_postgres.sql import Value
from mirror.storage.operations.base import Operation
from mirror.storage.proofs import PositionRow
from mirror.storage.statements import ComparesVectors, Delete, Insert, Op, Statement, Update

Result = TypeVar("Result")

#: The role that row security is for.
APP_ROLE = "argent_app"

_AGENT = "(SELECT set_config('app.agent_id', $1, true) AS agent OFFSET 0) w"
#: Which source's position an answer comes with: its number in Postgres, or the lineage of its copy there.
SourceKey = int | str


def _position(source: SourceKey, more: str = "") -> str:
    which = "source_id = $2::bigint" if isinstance(source, int) else "lineage = $2::uuid"
    columns = f"generation, frame, salt1, salt2, lineage::text, complete{more}"
    return (
        f" LEFT JOIN LATERAL (SELECT {columns} FROM mirror.position WHERE {which} AND w.agent <> '' OFFSET 0) p ON true"
    )


_PLACE_COLUMNS = 6
#: The text of reads by their shape: making one takes 10 us, and psycopg hashes each new text.
_TEXTS: dict[tuple[Any, ...], bytes] = {}
_MOST_TEXTS = 2000
#: Which server process answers.
BACKEND = "SELECT pg_backend_pid()"


@dataclass(frozen=True, slots=True)
class Read:
    """One statement that reads, ready to send."""

    text: bytes
    parameters: Sequence[Value]
    with_place: bool

    def place(self, rows: Sequence[tuple[Any, ...]]) -> PositionRow | None:
        """The position of the answer; None if the source has none, or none was asked for."""
        return place(rows[0]) if self.with_place and rows else None

    def rows(self, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The rows of the answer."""
        at = _PLACE_COLUMNS if self.with_place else 0
        return [row[at + 1 :] for row in rows if row[at] is not None]


def place(row: Sequence[Any] | None) -> PositionRow | None:
    """The position in a row that begins with it; None if the source has none."""
    return None if row is None or row[0] is None else PositionRow(*row[:_PLACE_COLUMNS])


def finish(op: Op[Result], answer: Any) -> Result:
    """The result of an operation that is sent the answer to its only statement."""
    try:
        while isinstance(op.send(answer), ComparesVectors):
            answer = True
    except StopIteration as stop:
        result: Result = stop.value
        return result
    raise AssertionError("an operation of one statement has a second one: declare it with many=True")


def single_read(statement: Statement[Any], agent: str, source: SourceKey | None) -> Read:
    """A read of one statement, with agent and position (see :mod:`.sql`)."""
    first: list[Value] = [agent] if source is None else [agent, str(source)]
    shape = shape_of(statement)
    if shape is not None:
        key = (type(source), shape)
        if (text := _TEXTS.get(key)) is not None:
            return Read(text, checked([*first, *parameters_of(statement)]), source is not None)
    out = sql.Parameters(*first)
    inner = joined.read(statement, "w.agent", out)
    if source is None:
        text = f"SELECT q.* FROM {_AGENT} CROSS JOIN LATERAL (SELECT true, x.* FROM ({inner}) x OFFSET 0) q".encode()
    else:
        found = f"LEFT JOIN LATERAL (SELECT true, x.* FROM ({inner}) x OFFSET 0) q ON true"
        text = f"SELECT p.*, q.* FROM {_AGENT}{_position(source)} {found}".encode()
    if shape is not None and len(_TEXTS) < _MOST_TEXTS:
        _TEXTS[key] = text
    return Read(text, checked(out.values), source is not None)


def named_place(agent: str, source: SourceKey) -> tuple[str, list[Value]]:
    """The statement that, first in a transaction, names the agent and reads the position of its snapshot."""
    return f"SELECT p.* FROM {_AGENT}{_position(source)}", [agent, str(source)]


def whole_place(agent: str, source: SourceKey) -> tuple[str, list[Value]]:
    """The statement that reads the position of a source, for :func:`place_of`."""
    return f"SELECT p.* FROM {_AGENT}{_position(source, ', sealed')}", [agent, str(source)]


def sealing(source_id: int) -> tuple[str, list[Value]]:
    """The statement that says whether a command that moves a source is in the middle of a transaction that writes.

    Such a command may have been killed, and its last word be on the way yet: the session ends after the transaction.
    What the transaction has done is seen by a later statement. One look at the locks: two may show two moments.
    """
    text = (
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.granted GROUP BY l.pid HAVING"
        f" bool_or(l.locktype = 'advisory' AND l.classid = {SOURCE_IN_MOVE} AND l.objid = $1::int::oid"
        " AND l.objsubid = 2 AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname ="
        " current_database()))"
        " AND bool_or(l.locktype = 'transactionid'))"
    )
    return text, [str(source_id)]


def place_of(row: Sequence[Any] | None) -> PositionRow | None:
    """The position in the row of :func:`whole_place`; None if the source has none."""
    return None if row is None or row[0] is None else PositionRow(*row)


def named(agent: str) -> tuple[str, list[Value]]:
    """The statement that names the agent for a transaction."""
    return "SELECT set_config('app.agent_id', $1, true)", [agent]


def alone(agent: str, store: str) -> tuple[str, list[Value]]:
    """:func:`named`, for a transaction that writes what a mirror may fill; the row is for :func:`require_no_mirror`.

    ``store``: memory or dashboard. It shares the locks of the agent's sources for it in this schema until it ends, so a
    mirror that starts waits for it.
    """
    text = (
        "SELECT string_agg(q.path, ', ') FILTER (WHERE NOT q.shared), bool_or(NOT q.written), bool_or(q.in_phases)"
        f" FROM {_AGENT} LEFT JOIN LATERAL (SELECT p.path, p.written, p.in_phases,"
        # In this order: while a mirror hands the lock over from one of its sessions to another, nobody has it.
        f" CASE WHEN pg_try_advisory_xact_lock_shared({SOURCE_HANDED_OVER}, p.source_id::int)"
        f" THEN pg_try_advisory_xact_lock_shared({SOURCE_IN_POSTGRES}, p.source_id::int) ELSE false END AS shared"
        " FROM mirror.position p"
        " WHERE p.schema_name = current_schema() AND w.agent <> ''"
        " AND CASE $2 WHEN 'memory' THEN p.memory ELSE p.dashboard END OFFSET 0) q ON true"
    )
    return text, [agent, store]


def noting_writes(operation: Operation[..., Any]) -> tuple[str, list[Value]]:
    """The statement that is to be run once in a transaction for which :func:`require_no_mirror` says so."""
    return "SELECT mirror.note_writes(current_schema(), $1)", [_store(operation)]


def _store(operation: Operation[..., Any]) -> str:
    """The store that an operation writes to: tasks, if it is of Postgres alone."""
    return "memory" if operation.source == "memory" else "dashboard"


def require_no_mirror(operation: Operation[..., Any], row: Sequence[Any] | None) -> bool:
    """Raise ``StorageError`` if a mirror fills the tables, by the row of :func:`alone`.

    Returns whether it is to be noted that somebody else writes to them: the next mirror has to know.
    """
    if row is not None and row[0] is not None:
        # In a source that commands move, the program may just not have noticed yet that it was moved back.
        kind = MovedBackError if row[2] else StorageError
        raise kind(
            operation.name,
            str(row[0]),
            "a mirror fills these tables from that file, and would not know of what is written here",
            next_step="stop the mirror first, or set storage.backend to dual",
        )
    return row is not None and bool(row[1])


def first(operation: Operation[..., Any], agent: str) -> tuple[str, list[Value]]:
    """The statement that is the first of a transaction that writes."""
    return alone(agent, _store(operation)) if fills_mirrored(operation) else named(agent)


def fills_mirrored(operation: Operation[..., Any]) -> bool:
    """Whether an operation writes tables that a mirror fills while there is one."""
    return not operation.reads and (operation.source != "postgres" or operation.alone)


def later_read(statement: Statement[Any], agent: str) -> tuple[str, list[Value]]:
    """A statement that reads, in a transaction that has named the agent."""
    out = sql.Parameters(agent)
    return joined.read(statement, "$1::text", out), checked(out.values)


#: A transaction met another one (serialization_failure, deadlock_detected): nothing was written, and it is tried again.
MET_ANOTHER = frozenset({"40001", "40P01"})
_MOST_TRIES, _LONGEST_PAUSE = 100, 0.05


def begin(operation: Operation[..., Any]) -> str:
    """How an operation's transaction begins.

    One that writes in several statements is serializable, because it writes what it has read: in SQLite, too, nobody
    writes in between.
    """
    if operation.reads:
        return "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    return "BEGIN ISOLATION LEVEL SERIALIZABLE" if operation.many else "BEGIN"


def pauses() -> Iterator[float | None]:
    """Seconds to wait after each try of a transaction that met another one; None after the last."""
    for attempt in range(1, _MOST_TRIES):
        yield random.uniform(0, min(0.001 * attempt, _LONGEST_PAUSE))  # noqa: S311 - no secret
    yield None


def write(statement: Statement[Any], agent: str) -> tuple[str, list[Value]]:
    """A statement that writes, in a transaction that has named the agent."""
    out = sql.Parameters(agent)
    return sql.change(statement, "$1::text", out), checked(out.values)


def answer(statement: Statement[Any], rows: Sequence[tuple[Any, ...]]) -> Any:
    """What the operation is sent for a statement that reads."""
    return joined.answer(statement, rows, _reader)


_READERS: dict[str, Any] = {}


def _reader(table: Any) -> Any:
    made = _READERS.get(table.name)
    if made is None:
        made = _READERS[table.name] = sql.reader(table)
    return made


def reads(statement: Statement[Any]) -> bool:
    """Whether a statement only reads."""
    return not isinstance(statement, Insert | Update | Delete)


#: The type ``vector`` of this database, and the schema that its extension is in: any, as the first mirror made it.
_VECTOR = (
    "SELECT t.oid, t.typarray, n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_type t"
    " ON t.typnamespace = e.extnamespace AND t.typname = 'vector' JOIN pg_catalog.pg_namespace n"
    " ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
)


_USES_VECTOR = "SELECT to_regtype('vector') IS NOT NULL"


def search_path(schemas: Sequence[str]) -> Any:
    """The statement that sets the search path."""
    return SQL("SET search_path TO {}").format(SQL(", ").join(map(Identifier, schemas)))


#: What a connection is asked, one statement after the other, and sent: its first row, None if it has none.
Preparing = Generator[tuple[Any, list[Value]], Sequence[Any] | None, TypeInfo | None]


def preparing(schema: str, backend_pid: int, no_statements: Callable[[], None]) -> Preparing:
    """Prepare a new connection; returns pgvector's type, None if this database has none.

    ``backend_pid``: what the connection began with. ``no_statements``: called if none may be prepared on it. Raises
    ``ConfigError`` without the tables, and where a pooler would lose what has to be set.
    """
    pooled = is_pooled((yield BACKEND, []), backend_pid)
    vector = yield _VECTOR, []
    schemas = list(dict.fromkeys((schema, "public", *(vector[2:] if vector is not None else ()))))
    if pooled:
        no_statements()
        require_own_session(schemas, bound=True)
    if schemas != ["public"]:
        yield search_path(schemas), []
    bound = require_tables((yield tables_in(schema)), schema)
    if pooled:
        require_own_session(schemas, bound=bound)
    if not bound:
        yield f"SET ROLE {APP_ROLE}", []
    if vector is not None and (yield _USES_VECTOR, []) != (True,):
        raise ConfigError(
            "open the store in Postgres",
            f"schema {vector[2]}",
            f"the role {APP_ROLE} may not use the schema of the extension vector",
            next_step=f"as its owner: GRANT USAGE ON SCHEMA {quoted(vector[2])} TO {APP_ROLE}",
        )
    return None if vector is None else TypeInfo("vector", vector[0], vector[1])


def tables_in(schema: str) -> tuple[str, list[Value]]:
    """The statement that looks for the tables of agents in a schema, for :func:`require_tables`."""
    others = (
        "SELECT string_agg(n.nspname, ', ' ORDER BY n.nspname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace"
        " n ON n.oid = c.relnamespace WHERE c.relname = 'memory_items' AND c.relkind IN ('r', 'p')"
    )
    text = f"SELECT t.oid IS NOT NULL, row_security_active(t.oid), ({others}) FROM (SELECT to_regclass($1) AS oid) t"
    return text, [f"{quoted(schema)}.memory_items"]


def require_tables(found: Any, schema: str) -> bool:
    """Whether row security binds the user, by the row of :func:`tables_in`. Raises ``ConfigError`` without tables."""
    there, bound, others = found
    if not there:
        raise ConfigError(
            "open the store in Postgres",
            f"schema {schema}",
            "it has no memory_items" + (f"; there are some in {others}" if others else ""),
            next_step="correct `schema` in mirror.json, or run `mirror up` for the MemuStore: it makes the tables",
        )
    return bool(bound)


def agent_in(agent: str) -> tuple[str, list[Value]]:
    """The statement that looks for an agent, for :func:`require_agent`."""
    known = "EXISTS (SELECT FROM agents a WHERE a.agent_id = w.agent)"
    schemas = "SELECT string_agg(DISTINCT p.schema_name, ', ') FROM mirror.position p WHERE p.agent_id = w.agent"
    text = f"SELECT q.* FROM {_AGENT} CROSS JOIN LATERAL (SELECT {known}, ({schemas}) OFFSET 0) q"
    return text, checked([agent])


def require_agent(found: Any, agent: str, schema: str) -> None:
    """Raise ``ConfigError`` for an agent that is not in the schema, by the row of :func:`agent_in`."""
    known, elsewhere = found
    if not known:
        raise ConfigError(
            "open the store in Postgres",
            f"agent {agent}",
            f"the schema {schema} does not have this agent"
            + (f"; the mirror has its files in {elsewhere}" if elsewhere else ""),
            next_step="correct the agent or its `schema` in mirror.json, or run `mirror up` for its files first",
        )


def is_pooled(found: Any, backend_pid: int) -> bool:
    """Whether a pooler is between, by the row of :data:`BACKEND` and what the connection began with.

    A pooler makes up the numbers by which its clients cancel, because it gives them one server process after another.
    """
    return bool(found[0] != backend_pid)


def require_own_session(schemas: Sequence[str], *, bound: bool) -> None:
    """Raise ``ConfigError`` if a pooler would lose what has to be set.

    ``schemas``: of the search path. ``bound``: row security binds the user.
    """
    if bound and list(schemas) == ["public"]:
        return
    lost = f"the search path {', '.join(schemas)}" if bound else f"the role {APP_ROLE}"
    raise ConfigError(
        "open the store in Postgres",
        f"schema {schemas[0]}",
        f"a pooler is between, in which {lost} would be lost",
        next_step=f"name {APP_ROLE} as the user, with tables and the extension vector in the schema public, or connect"
        " to Postgres itself",
    )


#: The most parameters that the protocol takes in one statement.
_MOST_PARAMETERS = 65_535
#: Errors of a statement's values: data that the types do not take, too much of it.
_ARGUMENT_CLASSES = frozenset({"22", "54"})
_NO_PRIVILEGE = "42501"
#: The tables are filled from a SQLite file again, to which programs were moved back.
_MOVED_BACK = "MR004"


def argument_error(operation: str, detail: str) -> ConfigError:
    """The error for arguments that Postgres does not take; the server is well."""
    return ConfigError(operation, "arguments", detail, next_step="correct the argument; Postgres does not take it")


def checked(values: list[Value]) -> list[Value]:
    """The parameters of a statement; raises ``ConfigError`` for what cannot be sent."""
    if len(values) > _MOST_PARAMETERS:
        raise argument_error("ask Postgres", f"{len(values):,} values, of {_MOST_PARAMETERS:,} at most")
    for value in values:
        if not isinstance(value, str):
            continue
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise argument_error("ask Postgres", f"half of a surrogate pair: {error.reason}") from error
        if "\0" in value:
            raise argument_error("ask Postgres", "a NUL in a text")
    return values


#: A session was ended: by an administrator, by a crash of another one; or the server does not let one begin yet.
_ENDED = frozenset({"57P01", "57P02", "57P03"})


def was_lost(error: SinkError) -> bool:
    """Whether a connection that was there was lost."""
    cause = error.__cause__
    if not isinstance(cause, psycopg.OperationalError) or isinstance(cause, PoolTimeout):
        return False
    return cause.sqlstate is None or cause.sqlstate in _ENDED


def storage_error(error: psycopg.Error, operation: str) -> MirrorError:
    """psycopg's error as the mirror's."""
    state = error.sqlstate or ""
    if state[:2] in _ARGUMENT_CLASSES or (not state and isinstance(error, psycopg.DataError)):
        return argument_error(operation, error.diag.message_primary or str(error))
    if state == _MOVED_BACK:
        return MovedBackError(
            operation,
            detail=error.diag.message_primary or "programs were moved back to the file",
            next_step="set storage.backend to dual, as `mirror cutover rollback` does",
        )
    if error.sqlstate is not None and error.sqlstate.startswith("23"):
        detail = error.diag.message_primary or ""
        if error.diag.message_detail:
            detail += f" ({error.diag.message_detail})"
        return ConstraintError("write a row", error.diag.table_name or operation, detail, next_step="change the row")
    made = sink_error(error, operation)
    if state == _NO_PRIVILEGE:
        # The mirror's own user needs other rights.
        made.next_step = (
            f"as an administrator, let the DSN's user become the role of the adapters: GRANT {APP_ROLE} TO the user"
            f" WITH SET TRUE (before Postgres 16: without WITH); or name {APP_ROLE} as the DSN's user"
        )
    return made
