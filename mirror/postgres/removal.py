"""Taking a source out of Postgres: its tables and rows, and all that the mirror has recorded of it.

Only what the mirror made goes: a table of the source's own, the rows of its agent in a table that several share, and
tables that are kept after the source had dropped them. Nothing of others goes with these: a view that depends on one
keeps all of it there. It is one transaction, so it is done whole or not at all.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg.sql import SQL, Composable, Identifier, Literal

from mirror.core.errors import FencedError, SealedError, SinkError
from mirror.core.locks import SOURCE_HANDED_OVER, SOURCE_IN_POSTGRES
from mirror.postgres import phase, shared_tables, vector_views
from mirror.postgres.adopted.guards import put_back, set_aside
from mirror.postgres.adopted.tables import release
from mirror.postgres.kept import COUNTED_BYTES, dropped_tables
from mirror.postgres.migrate import statement
from mirror.postgres.profiles.generic import AGENT
from mirror.postgres.target import Conn, Target, is_intact, load_targets
from mirror.postgres.watch import is_watched

#: Seconds to wait for a mirror that ends, and milliseconds for sessions that read a table.
_HOLDER_SECONDS, _LOCK_MS = 5.0, 10_000
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Doomed:
    """A table that goes, or whose rows of one agent do."""

    name: str
    """With its schema."""
    rows: int | None
    """How many rows go; None: not known, the table is large."""
    bytes: int
    """Of the whole table."""
    whole: bool
    """Whether the table goes; else only the rows of the source's agent."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What goes with a source."""

    source_id: int
    path: str
    schema: str
    agent: str | None
    targets: dict[str, Target]
    kept: tuple[tuple[str, str], ...]
    """Schema and name of the tables that are kept after the source had dropped them."""
    tables: tuple[Doomed, ...]
    rejects: int
    others_wrote: int
    """Rows that others than the mirror have written in the tables, as far as it is known: they go, too."""
    dependents: tuple[tuple[str, str], ...]
    """What of others depends on a table, each with it: then nothing can be dropped."""
    adopted: tuple[Target, ...] = ()
    """Tables of an application, into which the source is mirrored: they stay, with their rows."""
    strange: tuple[str, ...] = ()
    """Tables in the place of the mirror's that are not its own, as far as can be told: they stay."""


def schemas_of(conn: Conn, path: str) -> list[str]:
    """The schemas into which a source is, or was, mirrored; none where there is no mirror's schema."""
    if conn.execute("SELECT to_regclass('mirror.sources') IS NULL").fetchone() == (True,):
        return []
    return [str(name) for (name,) in conn.execute(statement("source_schemas"), (path,)).fetchall()]


def has_rows(conn: Conn, path: str) -> bool:
    """Whether a copy of a source, one that :func:`schemas_of` knows, has ever been completed there."""
    query = "SELECT EXISTS (SELECT FROM mirror.sources WHERE path = $1::text AND generation IS NOT NULL)"
    return conn.execute(query, (path,)).fetchone() == (True,)


def plan(conn: Conn, path: str, schema: str) -> Removal | None:
    """What would go with a source; None: Postgres knows nothing of it. Changes nothing.

    Raises :class:`SealedError` if it was moved to Postgres, whose rows are the only ones then; psycopg's errors.
    """
    if schema not in schemas_of(conn, path):
        return None
    row = conn.execute(
        "SELECT source_id, agent_id FROM mirror.sources WHERE path = $1::text AND schema_name = $2::text",
        (path, schema),
    ).fetchone()
    assert row is not None
    source_id, agent = int(row[0]), row[1]
    _require_first_phase(conn, source_id, path)
    targets = load_targets(conn, source_id, agent)
    found = {name: target for name, target in targets.items() if is_intact(conn, target) is not None}
    adopted = tuple(target for _, target in sorted(found.items()) if target.adopted)
    there = {
        name: target
        for name, target in found.items()
        if not target.adopted and (target.agent is not None or is_watched(conn, target.schema, target.name))
    }
    strange = tuple(
        f"{each.schema}.{each.name}" for name, each in sorted(found.items()) if name not in there and not each.adopted
    )
    kept = [each for each in dropped_tables(conn) if (each.source, each.schema) == (path, schema) and not each.strange]
    own = [(each.schema, each.name) for each in there.values() if each.agent is None]
    dropped = [*own, *((each.schema, each.name) for each in kept)]
    tables = [_doomed(conn, target) for target in there.values()]
    tables += [Doomed(f"{each.schema}.{each.name}", each.rows, each.bytes or 0, True) for each in kept]
    names = [Identifier(*each).as_string(conn) for each in dropped]
    depending = conn.execute(statement("dependents"), (names, vector_views.MADE)).fetchall()
    rejects, others_wrote = (
        _number(conn.execute(query, (str(source_id),)).fetchone())
        for query in (
            "SELECT count(*) FROM mirror.rejects WHERE source_id = $1::bigint",
            "SELECT count(*) FROM mirror.others_wrote WHERE source_id = $1::bigint",
        )
    )
    return Removal(
        source_id,
        path,
        schema,
        agent,
        there,
        tuple((each.schema, each.name) for each in kept),
        tuple(sorted(tables, key=lambda each: each.name)),
        rejects,
        others_wrote,
        tuple((str(table), str(thing)) for table, thing in depending),
        adopted,
        strange,
    )


def _require_first_phase(conn: Conn, source_id: int, path: str) -> None:
    found = phase.read(conn, source_id)
    if found.sealed_at is None and found.moving_to is None and found.number == 1:
        return
    if found.finalized_at is not None:
        raise SealedError(
            "remove a source",
            path,
            "its move to Postgres was finalized: the tables are those of its programs now, and stay",
            next_step=f"`mirror remove {shlex.quote(path)}` takes away what is left of the mirror",
        )
    state = "programs read it from Postgres" if found.sealed_at is None else "it was moved to Postgres"
    step = "`mirror cutover rollback` goes back to the file first"
    raise SealedError("remove a source", path, f"{state}, and would lose it", next_step=step)


def _doomed(conn: Conn, target: Target) -> Doomed:
    table = Identifier(target.schema, target.name)
    place, whole = table.as_string(conn), target.agent is None
    row = conn.execute("SELECT pg_total_relation_size($1::regclass)", (place,)).fetchone()
    size = _number(row)
    rows: int | None = None
    if size <= COUNTED_BYTES:
        rows = _number(conn.execute(SQL("SELECT count(*) FROM {} WHERE {}").format(table, _own(target))).fetchone())
    elif whole:
        estimate = "SELECT reltuples::bigint FROM pg_catalog.pg_class WHERE oid = $1::regclass"
        found = _number(conn.execute(estimate, (place,)).fetchone())
        rows = found if found >= 0 else None
    return Doomed(f"{target.schema}.{target.name}", rows, size, whole)


def _own(target: Target) -> Composable:
    return SQL("true") if target.agent is None else SQL("{} = {}").format(Identifier(AGENT), Literal(target.agent))


def _number(row: tuple[object, ...] | None) -> int:
    return 0 if row is None else int(str(row[0]))


def remove(conn: Conn, planned: Removal) -> list[str]:
    """Drop the tables, delete the rows and the records, in one transaction. ``conn`` is in autocommit mode.

    An application's own tables are given back. Returns the foreign keys of these that are NOT VALID now: rows of the
    source refer to none, which SQLite need not have noticed.

    Raises :class:`FencedError` if a mirror holds the source, :class:`SinkError` (retryable) while others use a table,
    and psycopg's errors, ``DependentObjectsStillExist`` among them.
    """
    with held(conn, "remove a source", planned.path, [planned.source_id]), conn.transaction():
        conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_MS}ms'")
        _require_first_phase(conn, planned.source_id, planned.path)
        own = [target for target in planned.targets.values() if target.agent is None]
        for target in planned.targets.values():
            vector_views.drop_view(conn, target)
            if target.agent is not None:
                shared_tables.take_out(conn, target)
        for target in planned.adopted:
            release(conn, target)
        # Those that did not act on what the mirror wrote are looked at, too.
        set_aside(conn, planned.source_id, planned.schema, [target.name for target in planned.adopted])
        invalid = [f"{schema}.{table}: {name}" for schema, table, name in put_back(conn, planned.source_id)]
        names = [Identifier(each.schema, each.name) for each in own] + [Identifier(*each) for each in planned.kept]
        if names:  # all at once: foreign keys among them hold nothing up
            conn.execute(SQL("DROP TABLE IF EXISTS {}").format(SQL(", ").join(names)))
        for target in own:
            conn.execute(
                "DELETE FROM mirror.vector_dimensions WHERE schema_name = $1::text AND table_name = $2::text",
                (target.schema, target.name),
            )
        conn.execute("DELETE FROM mirror.changes WHERE source_id = $1::bigint", (str(planned.source_id),))
        # All that names it by its number goes with it.
        conn.execute("DELETE FROM mirror.sources WHERE source_id = $1::bigint", (str(planned.source_id),))
        for target in planned.targets.values():
            if target.agent is not None:
                shared_tables.drop_if_unused(conn, target)
    return invalid


@contextmanager
def held(conn: Conn, operation: str, path: str, numbers: Collection[int]) -> Iterator[None]:
    """Hold sources while the block runs: no mirror writes to them. Raises :class:`FencedError`."""
    keys = [(str(first), str(number)) for number in numbers for first in (SOURCE_HANDED_OVER, SOURCE_IN_POSTGRES)]
    deadline = time.monotonic() + _HOLDER_SECONDS
    taken: list[tuple[str, str]] = []
    try:
        for pair in keys:
            while conn.execute("SELECT pg_try_advisory_lock($1::int, $2::int)", pair).fetchone() != (True,):
                if time.monotonic() > deadline:
                    raise FencedError(
                        operation,
                        path,
                        "another mirror holds it in Postgres",
                        next_step="end that mirror first: `mirror down`, with its --state-dir, on its machine",
                        retryable=True,
                    )
                time.sleep(_LOOK_SECONDS)
            taken.append(pair)
        yield
    finally:
        if not conn.broken:
            for pair in taken:
                conn.execute("SELECT pg_advisory_unlock($1::int, $2::int)", pair)


@dataclass(frozen=True, slots=True)
class Left:
    """What of the mirror is left in a database."""

    sources: int
    schemas: tuple[str, ...]
    """Schemas that no source has any more, and that are empty, ``public`` left out."""
    profiles: tuple[str, ...]
    """Schemas with tables that migrations of a profile have made."""
    role: bool
    """Whether there is the role that applications read as."""


def left(conn: Conn, schemas: Collection[str]) -> Left:
    """What is left once sources were removed from these schemas. Raises psycopg's errors."""
    sources = _number(conn.execute("SELECT count(*) FROM mirror.sources").fetchone())
    empty = conn.execute(
        "SELECT nspname FROM pg_catalog.pg_namespace n WHERE nspname = ANY ($1::text[]) AND nspname <> 'public'"
        " AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid) ORDER BY 1",
        (list(schemas),),
    ).fetchall()
    profiles = conn.execute("SELECT DISTINCT schema_name FROM mirror.profile_migrations ORDER BY 1").fetchall()
    role = conn.execute("SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'argent_app')").fetchone()
    names = tuple(str(name) for (name,) in empty), tuple(str(name) for (name,) in profiles)
    return Left(sources, *names, role == (True,))


def rename(conn: Conn, old: str, new: str) -> int:
    """Have all that Postgres records of a source be about another path; returns in how many schemas it has it.

    In one transaction; 0 where it was done before, or nothing is known of it. ``conn`` is in autocommit mode. Raises
    :class:`SealedError` if it was moved to Postgres, :class:`FencedError` if a mirror holds it, :class:`SinkError` if
    Postgres knows both.
    """
    if not schemas_of(conn, old):
        return 0
    if taken := schemas_of(conn, new):
        raise SinkError(
            "rename a source",
            new,
            f"it is mirrored already, into {', '.join(taken)}",
            next_step=f"`mirror remove {shlex.quote(old)}` forgets the old name, `mirror remove {shlex.quote(new)}"
            " --drop-tables --dry-run` says which tables the new one has",
        )
    found = conn.execute("SELECT source_id FROM mirror.sources WHERE path = $1::text", (old,)).fetchall()
    numbers = [int(number) for (number,) in found]
    with held(conn, "rename a source", old, numbers), conn.transaction():
        for number in numbers:
            moved = phase.read(conn, number)
            if moved.sealed_at is not None or moved.moving_to is not None:
                raise SealedError(
                    "rename a source",
                    old,
                    "it was moved to Postgres, and the way back leads to this file",
                    next_step="put the file back; or `mirror cutover rollback` first, and rename it then",
                )
        conn.execute("UPDATE mirror.sources SET path = $2::text WHERE path = $1::text", (old, new))
    return len(numbers)
