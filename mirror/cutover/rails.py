"""Guard rails before reads move to Postgres: each with a verdict, its figure, and what to do.

Nothing is changed. A guard rail that cannot be looked at is not passed. What SQLite enforces and Postgres does not
yet (foreign keys, unique names) is looked for as rows that would break it: the constraints of the source's profile.
"""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Identifier, Literal

from mirror.core.checks import Check, Code, all_passed
from mirror.core.errors import MirrorError, SinkError
from mirror.core.status import Phase, StatusReport
from mirror.core.tables import Constraint
from mirror.parity.proof import last_run
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement
from mirror.postgres.profiles import PROFILES

#: The worst lag of the last minutes that reads may meet.
LAG_SECONDS = 1.0
#: Free space that the state directory must keep.
ROOM_BYTES = 1 << 30
#: What an operator may answer for: a copy that can be restored; rows that Postgres will not have; commits of which
#: the hook and the WAL told different things, when it is known why.
ACKNOWLEDGED = ("backups", "rejects", "discrepancies")
#: Examples of orphans that are named.
_EXAMPLES = 3


@dataclass(slots=True)
class Readiness:
    """The verdict on one source."""

    source: str
    options: str = ""
    """What a command needs besides the source's name to mean this mirror."""
    acknowledged: Collection[str] = ()
    rails: list[Check] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Whether every guard rail is passed."""
        return all_passed(self.rails)

    def add(self, code: Code, name: str, passed: bool, figure: str, next_step: str) -> None:
        """Note a guard rail; the next step counts only if it is not passed."""
        self.rails.append(Check(code, name, "ok" if passed else "problem", figure, "" if passed else next_step))

    def add_or_acknowledge(self, code: Code, name: str, passed: bool, figure: str, next_step: str) -> None:
        """Note a guard rail that an operator may answer for, which is then told."""
        if passed or name not in self.acknowledged:
            self.add(code, name, passed, figure, next_step)
        else:
            self.rails.append(Check(code, name, "note", f"{figure}, acknowledged"))

    def command(self, what: str, more: str = "") -> str:
        """A command on this source, as one can paste it."""
        return f"mirror {what} {shlex.quote(self.source)}{self.options}{more}"


def plan(
    source: Path,
    status: StatusReport,
    folder: Path,
    dsn: str,
    schema: str,
    acknowledged: Collection[str],
    options: str = "",
) -> Readiness:
    """Judge whether reads of a source may move. ``status``: its status report. ``folder``: its state folder.

    ``options``: what commands need besides its name, for the next steps.
    """
    found = Readiness(str(source), options, acknowledged)
    _look_at_mirror(found, status, folder)
    try:
        with translated("connect to Postgres"), psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
            _look_at_postgres(found, connection, source, schema)
    except MirrorError as error:
        found.add(Code.POSTGRES, "Postgres", False, str(error), error.next_step or "repair it, and plan again")
    known = "backups" in acknowledged
    figure = "acknowledged" if known else "not acknowledged"
    step = "back up Postgres and the SQLite file, try to restore both, and say --acknowledge backups"
    found.add(Code.BACKUPS, "backups", known, figure, step)
    return found


def _look_at_mirror(found: Readiness, status: StatusReport, folder: Path) -> None:
    following = status.phase is Phase.FOLLOWING
    step = f"run `{found.command('up')}`, and wait until it follows"
    found.add(Code.MIRROR, "mirror", following, str(status.phase), step)
    worst = status.worst_lag_seconds
    lag = "not measured" if worst is None else f"{worst * 1000:,.0f} ms at worst in the last minutes"
    enough = following and worst is not None and worst <= LAG_SECONDS
    step = f"find what slows it: reads would wait; the limit is {LAG_SECONDS:g} s"
    found.add(Code.LAG, "lag", enough, lag, step if following else "it is measured while the mirror follows")
    last = last_run(folder)
    proof = "never" if last is None else last.proof(time.time())
    told = "never compared" if last is None else f"{proof}: {last.headline}"
    repair = " --repair" if last is not None and proof == "different" and last.repairable else ""
    found.add(Code.PARITY, "parity", proof == "verified", told, found.command("parity", repair))
    gaps = status.gaps
    copied = [gap for gap in gaps if last is not None and _seconds(gap.at) > last.finished_at]
    told, step = f"{len(copied)} of {len(gaps)}", f"compare once more: {found.command('parity')}"
    found.add(Code.GAPS, "gaps since parity", last is not None and not copied, told, step)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    step = f"make room for the state directory: {ROOM_BYTES >> 20:,} MB must be free"
    found.add(Code.DISK, "disk", free >= ROOM_BYTES, f"{free >> 20:,} MB free", step)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _look_at_postgres(found: Readiness, connection: psycopg.Connection[Any], source: Path, schema: str) -> None:
    with translated("look at Postgres", str(source)):
        row = connection.execute(statement("readiness"), {"path": str(source), "schema": schema}).fetchone()
        if row is None:
            step = f"run `{found.command('up')}`"
            raise SinkError("look at Postgres", str(source), f"it is not mirrored into {schema} here", next_step=step)
        rejects, refused, discrepancies, held_by, agent, vector, invalid = row
        profile = PROFILES.get(held_by or "generic")
        if profile is None:
            why = f"its profile is {held_by}, of a later version of the mirror"
            raise SinkError("look at Postgres", str(source), why, next_step="use that version")
        step = f"{found.command('rejects list')}; change the rows in the source, or say --acknowledge rejects"
        found.add_or_acknowledge(Code.REJECTS, "rejects", not rejects, f"{rejects:,} rows", step)
        told = ", ".join(refused) or "none"
        found.add(Code.REFUSED, "refused tables", not refused, told, f"{found.command('status')} says why")
        step = "look at mirror.discrepancies, run mirror parity, and say --acknowledge discrepancies"
        told = f"{discrepancies:,} between hook and WAL"
        found.add_or_acknowledge(Code.DISCREPANCIES, "discrepancies", not discrepancies, told, step)
        told = f"invalid: {', '.join(invalid)}" if invalid else "all valid"
        found.add(Code.INDEXES, "indexes", not invalid, told, "REINDEX them")
        if profile.migrations:
            told = "installed" if vector else "missing"
            found.add(Code.PGVECTOR, "pgvector", bool(vector), told, "CREATE EXTENSION vector")
        for constraint in profile.constraints:
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
    step = "change the rows in the source, or leave this constraint out"
    found.add(Code.CONSTRAINT, wanted.name, not count, told, step)


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
    passed = highest is None or (last is not None and last >= highest)
    found.add(Code.SEQUENCE, f"sequence of {table}.{column}", passed, told, step)


def _sequence(connection: psycopg.Connection[Any], name: str) -> Composable:
    row = connection.execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s::regclass",
        (name,),
    ).fetchone()
    assert row is not None
    return Identifier(*row)
