"""Guard rails before reads move to Postgres: each with a verdict, its figure, and what to do.

Nothing is changed. A guard rail that cannot be looked at is not passed. What SQLite enforces and Postgres does not
yet (foreign keys, unique names) is looked for as rows that would break it: see ``sql/memustore/constraints.sql``.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg.sql import SQL, Composable, Identifier, Literal

from mirror.errors import MirrorError, SinkError
from mirror.postgres.failures import translated
from mirror.postgres.migrate import sql_directory, statement
from mirror.verified import last_run

#: The worst lag of the last minutes that reads may meet.
LAG_SECONDS = 1.0
#: Free space that the state directory must keep.
ROOM_BYTES = 1 << 30
#: What an operator may answer for: a copy that can be restored; rows that Postgres will not have; commits of which
#: the hook and the WAL told different things, when it is known why.
ACKNOWLEDGED = ("backups", "rejects", "discrepancies")
#: Examples of orphans that are named.
_EXAMPLES = 3

_FOREIGN_KEY = re.compile(
    r"ALTER TABLE (\w+) ADD CONSTRAINT (\w+)\s+FOREIGN KEY \(([^)]*)\) REFERENCES (\w+) \(([^)]*)\)"
)
_UNIQUE = re.compile(r"ALTER TABLE (\w+)\s+ADD CONSTRAINT (\w+) UNIQUE \(([^)]*)\)")


@dataclass(frozen=True, slots=True)
class GuardRail:
    """One condition."""

    name: str
    passed: bool
    figure: str
    next_step: str = ""


@dataclass(slots=True)
class Readiness:
    """The verdict on one source."""

    source: str
    rails: list[GuardRail] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Whether every guard rail is passed."""
        return all(rail.passed for rail in self.rails)

    def add(self, name: str, passed: bool, figure: str, next_step: str) -> None:
        """Note a guard rail; the next step counts only if it is not passed."""
        self.rails.append(GuardRail(name, passed, figure, "" if passed else next_step))


class Constraint(NamedTuple):
    """One constraint of the day after."""

    table: str
    name: str
    columns: tuple[str, ...]
    referred: str = ""
    """The table that a foreign key refers to; empty for a unique constraint."""
    referred_columns: tuple[str, ...] = ()


def constraints() -> list[Constraint]:
    """Those of ``sql/memustore/constraints.sql``."""
    text = (sql_directory() / "memustore" / "constraints.sql").read_text()
    found = [Constraint(table, name, _names(columns)) for table, name, columns in _UNIQUE.findall(text)]
    for table, name, columns, referred, theirs in _FOREIGN_KEY.findall(text):
        found.append(Constraint(table, name, _names(columns), referred, _names(theirs)))
    return found


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def plan(
    source: Path, status: dict[str, Any], folder: Path, dsn: str, schema: str, acknowledged: Collection[str]
) -> Readiness:
    """Judge whether reads of a source may move. ``status``: its status report. ``folder``: its state folder."""
    found = Readiness(str(source))
    _look_at_mirror(found, source, status, folder)
    try:
        with translated("connect to Postgres"), psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
            _look_at_postgres(found, connection, source, schema, acknowledged)
    except MirrorError as error:
        found.add("Postgres", False, str(error), error.next_step or "mend it")
    found.add(
        "backups",
        "backups" in acknowledged,
        "acknowledged" if "backups" in acknowledged else "not acknowledged",
        "back up Postgres and the SQLite file, try to restore both, and say --acknowledge backups",
    )
    return found


def _look_at_mirror(found: Readiness, source: Path, status: dict[str, Any], folder: Path) -> None:
    following = status["phase"] == "following"
    found.add("mirror", following, str(status["phase"]), f"run `mirror up {source}`, and wait until it follows")
    worst = status["worst_lag_seconds"]
    lag = "not measured" if worst is None else f"{worst * 1000:,.0f} ms at worst in the last minutes"
    enough = following and worst is not None and worst <= LAG_SECONDS
    step = f"find what slows it: reads would wait; the limit is {LAG_SECONDS:g} s"
    found.add("lag", enough, lag, step if following else "it is measured while the mirror follows")
    last = last_run(folder)
    proof = "never" if last is None else last.proof(time.time())
    told = "never compared" if last is None else f"{proof}: {last.headline}"
    found.add("parity", proof == "verified", told, f"mirror parity {source} --repair")
    gaps = status["gaps"]
    copied = [gap for gap in gaps if last is not None and _seconds(gap["at"]) > last.finished_at]
    found.add(
        "gaps since parity",
        last is not None and not copied,
        f"{len(copied)} of {len(gaps)}",
        f"compare once more: mirror parity {source}",
    )
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    found.add("disk", free >= ROOM_BYTES, f"{free >> 20:,} MB free", "make room for the state directory")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _look_at_postgres(
    found: Readiness, connection: psycopg.Connection[Any], source: Path, schema: str, acknowledged: Collection[str]
) -> None:
    with translated("look at Postgres", str(source)):
        row = connection.execute(statement("readiness"), {"path": str(source), "schema": schema}).fetchone()
        if row is None:
            raise SinkError("look at Postgres", str(source), "it is not mirrored here", next_step="run `mirror up`")
        rejects, refused, discrepancies, profile, agent, vector, invalid = row
        told = f"{rejects:,} rows" + (", acknowledged" if "rejects" in acknowledged else "")
        step = "mirror rejects list; mend them, or say --acknowledge rejects"
        found.add("rejects", not rejects or "rejects" in acknowledged, told, step)
        found.add("refused tables", not refused, ", ".join(refused) or "none", "mirror status says why")
        known = "discrepancies" in acknowledged
        told = f"{discrepancies:,} between hook and WAL" + (", acknowledged" if known else "")
        step = "look at mirror.discrepancies, run mirror parity, and say --acknowledge discrepancies"
        found.add("discrepancies", not discrepancies or known, told, step)
        found.add("indexes", not invalid, f"invalid: {', '.join(invalid)}" if invalid else "all valid", "REINDEX them")
        if profile == "memustore":
            found.add("pgvector", bool(vector), "installed" if vector else "missing", "CREATE EXTENSION vector")
            for constraint in constraints():
                _look_for_breaches(found, connection, schema, agent, constraint)
        for table, column, sequence in connection.execute(statement("identities"), {"schema": schema}).fetchall():
            _look_at_sequence(found, connection, schema, table, column, sequence)


def _look_for_breaches(
    found: Readiness, connection: psycopg.Connection[Any], schema: str, agent: str, wanted: Constraint
) -> None:
    """Rows that a constraint would not allow."""
    table, own = Identifier(schema, wanted.table), [name for name in wanted.columns if name != "agent_id"]
    keys = SQL(", ").join(SQL("t.{}").format(Identifier(name)) for name in own)
    given = SQL(" AND ").join(SQL("t.{} IS NOT NULL").format(Identifier(name)) for name in own)
    if wanted.referred:
        joined: Composable = SQL(" AND ").join(
            SQL("r.{} = t.{}").format(Identifier(theirs), Identifier(ours))
            for ours, theirs in zip(wanted.columns, wanted.referred_columns, strict=True)
        )
        rows = SQL("FROM {} AS t WHERE t.agent_id = {} AND {} AND NOT EXISTS (SELECT FROM {} AS r WHERE {})").format(
            table, Literal(agent), given, Identifier(schema, wanted.referred), joined
        )
        what = f"orphans of {wanted.referred}"
    else:
        rows = SQL("FROM {} AS t WHERE t.agent_id = {} AND {} GROUP BY {} HAVING count(*) > 1").format(
            table, Literal(agent), given, keys
        )
        what = "taken more than once"
    query = SQL("SELECT count(*) OVER (), {} {} ORDER BY {} LIMIT {}").format(keys, rows, keys, Literal(_EXAMPLES))
    examples = connection.execute(query).fetchall()
    count = examples[0][0] if examples else 0
    named = "; ".join(", ".join(map(str, example[1:])) for example in examples)
    told = f"{count:,} {what} in {wanted.table}: {named}" if count else "no row is in its way"
    found.add(wanted.name, not count, told, "mend the rows in the source, or leave this constraint out")


def _look_at_sequence(
    found: Readiness, connection: psycopg.Connection[Any], schema: str, table: str, column: str, sequence: str
) -> None:
    query = SQL("SELECT (SELECT max({}) FROM {}), (SELECT CASE WHEN is_called THEN last_value END FROM {})").format(
        Identifier(column), Identifier(schema, table), _sequence(connection, sequence)
    )
    row = connection.execute(query).fetchone()
    highest, last = row if row is not None else (None, None)
    told = f"at {last or 'its start'}, the highest value is {highest or 'none'}"
    step = f"SELECT setval('{sequence}', {highest})"
    found.add(f"sequence of {table}.{column}", highest is None or (last is not None and last >= highest), told, step)


def _sequence(connection: psycopg.Connection[Any], name: str) -> Composable:
    row = connection.execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s::regclass",
        (name,),
    ).fetchone()
    assert row is not None
    return Identifier(*row)


def failing(rails: Collection[GuardRail]) -> Iterator[GuardRail]:
    """Those that are not passed."""
    return (rail for rail in rails if not rail.passed)
