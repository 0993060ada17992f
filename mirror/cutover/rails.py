"""Guard rails before reads move to Postgres: each with a verdict, its figure, and the next step.

Nothing is changed. A guard rail that cannot be checked is not passed. The constraints that SQLite enforces and
Postgres does not yet are checked by finding rows that would break them: here those of the source's profile, and in
:mod:`mirror.cutover.constraints` those that any other table declares.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Identifier, Literal

from mirror.core.checks import Check, Code
from mirror.core.errors import MirrorError, SinkError
from mirror.core.status import LAG_MINUTES, Phase, StatusReport
from mirror.core.status import named as shown
from mirror.core.tables import Constraint
from mirror.core.words import counted
from mirror.cutover import adopted, sequences, statistics, vector_indexes
from mirror.cutover.breaches import repeated, rows_without
from mirror.cutover.constraints import judge_constraints
from mirror.cutover.mirrored import targets_of
from mirror.cutover.readiness import Part, Readiness
from mirror.cutover.renamed import judge_kept, judge_rules, note_changes, note_dropped
from mirror.parity.proof import ENOUGH, FORMS, last_run
from mirror.postgres.failures import translated
from mirror.postgres.migrate import require_known_schema, statement
from mirror.postgres.profiles import ADOPTED, PROFILES
from mirror.postgres.sessions import connect

#: Seconds. The worst lag of the last minutes that is still good enough for reads.
LAG_SECONDS = 1.0
#: Bytes that must be free for the state directory.
ROOM_BYTES = 1 << 30
#: Guard rails that an operator may acknowledge: backups that can be restored; rows, tables and columns that Postgres
#: will not have, or in another type; views and grants for tables that are only kept; commits on which the hook and the
#: WAL disagreed, and reads that differed, when it is known why. And what SQLite enforces and Postgres does not,
#: where it is planned, or programs only read; and what only makes reads slow.
ACKNOWLEDGED = (
    "backups",
    "lag",
    "rejects",
    "widened columns",
    "left out",
    "kept tables",
    "discrepancies",
    "read differences",
    adopted.SCRIPT,
    "foreign keys",
    "unique indexes",
    "not null",
    sequences.NAME,
    statistics.NAME,
    vector_indexes.NAME,
)


def plan(
    source: Path,
    status: StatusReport,
    folder: Path,
    dsn: str,
    schema: str,
    acknowledged: Collection[str],
    options: str = "",
    presets: Mapping[str, Sequence[str]] = MappingProxyType({}),
    named: str = "",
) -> Readiness:
    """Judge whether reads of a source may move to Postgres. Errors of Postgres become guard rails that are not passed.

    ``status``: its status report. ``folder``: its folder in the state directory. ``acknowledged``: names of
    :data:`ACKNOWLEDGED`. ``options``: the options that commands need besides its name, for the next steps.
    ``presets``: ``cutover.sequences`` of mirror.json. ``named``: the source that these are to name, of a clone.
    """
    found = Readiness(str(source), options, acknowledged, named=named)
    _check_mirror(found, status, folder)
    forms = None
    try:
        with connect(dsn) as connection, translated("look at Postgres"):
            require_known_schema(connection)
            forms = _forms(connection, source, schema)
            _check_postgres(found, connection, source, schema, presets, status)
    except MirrorError as error:
        found.add(Code.POSTGRES, "Postgres", False, str(error), error.next_step or "repair it, and plan again")
    if found.phase == 3:  # what else there is to say is about a move that was made
        found.rails, found.statements = [rail for rail in found.rails if rail.code is Code.PHASE], []
        return found
    _judge_parity(found, folder, forms)
    known = "backups" in acknowledged
    figure = "acknowledged" if known else "not acknowledged"
    step = f"back up Postgres and the SQLite file, try to restore both; then {found.plan_with('backups')}"
    found.add(Code.BACKUPS, "backups", known, figure, step)
    return found


def _check_mirror(found: Readiness, status: StatusReport, folder: Path) -> None:
    following = status.phase is Phase.FOLLOWING
    steps = {
        Phase.PAUSED: f"resume it: {found.step('resume')}",
        Phase.STOPPED: f"start it, and wait until it follows: {found.step('up')}",
        Phase.FAILED: f"{found.step('status')} says why; once that is repaired, {found.step('up')}",
    }
    step = steps.get(status.phase, f"wait until it follows: {found.step('status')} says what it does")
    found.add(Code.MIRROR, "mirror", following, str(status.phase), step)
    _judge_lag(found, status)
    last = last_run(folder)
    gaps = status.gaps
    copied = [gap for gap in gaps if last is None or _seconds(gap.at) > last.finished_at]
    figure = "none" if not gaps else f"{len(copied):,} of {counted(len(gaps), 'gap')}"
    if last is None and gaps:
        figure = f"{counted(len(gaps), 'gap')}, and never compared"
    found.add(Code.GAPS, "gaps since parity", not copied, figure, f"compare again: {found.step('parity')}")
    if status.profile != ADOPTED:
        _judge_left_out(found, status)
        _judge_widened(found, status.widened)
        _note_not_json(found, status.not_json)
    judge_rules(found, status)
    note_changes(found, status)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    step = f"make room for the state directory: {ROOM_BYTES >> 20:,} MB must be free"
    found.add(Code.DISK, "disk", free >= ROOM_BYTES, f"{free >> 20:,} MB free", step)


def _judge_widened(found: Readiness, widened: Sequence[str]) -> None:
    """Columns that are jsonb because of values that do not fit their type."""
    step = (
        f"correct the values in the source, and give the columns their own types again: {found.step('rejects retry')};"
        f" or, if programs work with jsonb there, {found.plan_with('widened columns')}"
    )
    figure = f"jsonb, because of values that do not fit, so queries that compute with them fail: {', '.join(widened)}"
    figure = figure if widened else "none: every column has its own type"
    found.add_or_acknowledge(Code.COLUMN_WIDENED, "widened columns", not widened, figure, step)


def _note_not_json(found: Readiness, columns: list[str]) -> None:
    """Columns declared JSON with values that are none, so that queries for members find nothing in them."""
    if columns:
        figure = f"{counted(len(columns), 'column')} with values that are no JSON, so JSON strings: {shown(columns)}"
        step = f"`#>> '{{}}'` gives such a text; once all are JSON, {found.step('rejects retry')} looks at them again"
        found.rails.append(Check(Code.COLUMN_NO_JSON, "JSON columns", "note", figure, step))


def _judge_lag(found: Readiness, status: StatusReport) -> None:
    """The worst lag of the last minutes, when that was, and until when it counts."""
    following, worst, at = status.phase is Phase.FOLLOWING, status.worst_lag_seconds, status.worst_lag_at
    enough = following and worst is not None and worst <= LAG_SECONDS
    lag = "not measured" if worst is None else f"{worst * 1000:,.0f} ms at worst in the last minutes"
    again = found.plan_with("lag")
    if not following:
        step = "it is measured while the mirror follows"
    elif worst is None:
        step = f"it is measured from when the mirror has caught up for the first time; or {again}"
    else:
        step = f"find what slows the mirror: reads would be that old; the limit is {LAG_SECONDS:g} s; or {again}"
    if worst is not None and worst > LAG_SECONDS and at is not None:
        why = f" ({status.worst_lag_why})" if status.worst_lag_why else ""
        lag = f"{worst:,.1f} s at worst, at {_clock(at)}{why}; the limit is {LAG_SECONDS:g} s"
        clears = f"this clears at {_clock(at + LAG_MINUTES * 60 + 1)}"
        if following and status.lag_seconds == 0:
            step = f"{clears}, if nothing else holds the mirror up: {found.step('cutover plan', found.acknowledging())}"
            step = f"{step}; or {again}"
    found.add_or_acknowledge(Code.LAG, "lag", enough, lag, step)


def _clock(seconds: float) -> str:
    """A moment, as the clock of this machine shows it."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _judge_parity(found: Readiness, folder: Path, forms: Mapping[str, str] | None) -> None:
    """``forms``: of the tables that Postgres has; None: not known."""
    last = last_run(folder)
    proof = "never" if last is None else last.proof(time.time())
    figure = "never compared" if last is None else last.headline
    if proof == "stale":
        figure = f"{proof}: {figure}"
    repair = " --repair --dry-run" if last is not None and proof == "different" and last.repairable else ""
    step = found.step("parity", repair)
    if last is None and forms is None:
        step = f"it is compared once it is mirrored: {found.step('up')}"
    parts: list[Part] = [figure]
    never: list[str] = []
    if last is not None and forms is None:
        parts.append("whether the tables are still those that were compared is not known")
    elif last is not None and forms is not None:
        never = last.never_compared(forms)
        parts.append(("made or changed since, and not compared: ", never, ", "))
    passed = proof in ENOUGH and forms is not None and not never
    found.add_many(Code.PARITY, "parity", passed, figure=parts, steps=[step])


def _forms(connection: psycopg.Connection[Any], source: Path, schema: str) -> dict[str, str] | None:
    """The forms of the source's tables in Postgres; None if it is not mirrored there."""
    query = "SELECT source_id FROM mirror.sources WHERE path = %s AND schema_name = %s"
    with translated("check Postgres", str(source)):
        row = connection.execute(query, (str(source), schema)).fetchone()
        return None if row is None else dict(connection.execute(FORMS, row).fetchall())


def _judge_left_out(found: Readiness, status: StatusReport) -> None:
    """Virtual tables that hold data, columns that only the program computes, and those that a rule leaves out: programs
    do not find them there."""
    if status.virtual is None:
        step = f"it is known once the mirror has begun: {found.step('up')}"
        found.add(Code.LEFT_OUT, "left out", False, "not known", step)
        return
    missing = [*status.virtual, *status.left_out, *status.omitted]
    figure = f"not in Postgres: {', '.join(missing)}" if missing else "no table and no column that holds data"
    step = f"keep what programs read of these in ordinary tables; or, if they do not, {found.plan_with('left out')}"
    found.add_or_acknowledge(Code.LEFT_OUT, "left out", not missing, figure, step)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _check_postgres(
    found: Readiness,
    connection: psycopg.Connection[Any],
    source: Path,
    schema: str,
    presets: Mapping[str, Sequence[str]],
    status: StatusReport,
) -> None:
    with translated("check Postgres", str(source)):
        row = connection.execute(statement("readiness"), {"path": str(source), "schema": schema}).fetchone()
        if row is None:
            step, why = f"run {found.step('up')}", f"it is not mirrored into the schema {schema} here"
            raise SinkError("check Postgres", str(source), why, next_step=step)
        rejects, refused, discrepancies, differences, compared, profile_name, agent, vector, invalid, source_id = row
        profile = PROFILES.get(profile_name or "generic")
        if profile is None:
            why = f"its profile is {profile_name}, of a later version of the mirror"
            raise SinkError("check Postgres", str(source), why, next_step="use that version")
        _judge_phase(found, connection, source, schema)
        step = (
            f"{found.step('rejects list')} shows them, and how to change them in the source; or, if Postgres need not"
            f" have them, {found.plan_with('rejects')}"
        )
        figure = counted(rejects, "row") if rejects else "none: Postgres has every row"
        found.add_or_acknowledge(Code.REJECTS, "rejects", not rejects, figure, step)
        figure = ", ".join(refused) or "none"
        found.add(Code.REFUSED, "refused tables", not refused, figure, f"{found.step('status')} says why")
        judge_kept(found, connection, source, schema)
        note_dropped(found, connection, source, schema)
        step = f"look at the table mirror.discrepancies; {found.step('parity')}; {found.plan_with('discrepancies')}"
        figure = f"{discrepancies:,} between hook and WAL"
        found.add_or_acknowledge(Code.DISCREPANCIES, "discrepancies", not discrepancies, figure, step)
        _judge_reads(found, differences, compared)
        figure = f"invalid: {', '.join(invalid)}" if invalid else "all valid"
        found.add(Code.INDEXES, "indexes", not invalid, figure, "REINDEX the invalid ones")
        if profile.migrations:
            figure = "installed" if vector else "missing"
            found.add(Code.PGVECTOR, "pgvector", bool(vector), figure, "CREATE EXTENSION vector")
        for constraint in profile.constraints:
            _find_breaches(found, connection, schema, agent, constraint)
        targets = targets_of(connection, source, schema)
        known = found.acknowledged
        found.adopted = profile.name == ADOPTED
        if found.adopted:
            adopted.judge(found, connection, source, source_id, targets, status)
            known = {*known, sequences.NAME}  # none has ever moved: the mirror has brought the numbers
        else:
            judge_constraints(found, connection, source, schema, agent)
        free = sequences.known(connection, source_id, presets)
        sequences.judge(found, connection, source, targets, free, known)
        statistics.judge(found, connection, targets)
        vector_indexes.judge(found, connection, targets)
        mirrored = {target.name for target in targets if target.schema == schema}
        for table, column, sequence in connection.execute(statement("identities"), {"schema": schema}).fetchall():
            if table not in mirrored:
                _check_sequence(found, connection, schema, table, column, sequence)


def _judge_phase(found: Readiness, connection: psycopg.Connection[Any], source: Path, schema: str) -> None:
    """Where there is no phase to move to, say so."""
    row = connection.execute(
        "SELECT CASE WHEN p.sealed_at IS NULL THEN least(p.phase, 2) ELSE 3 END, p.finalized_at IS NOT NULL"
        " FROM mirror.phase p JOIN mirror.sources s USING (source_id) WHERE s.path = %s AND s.schema_name = %s",
        (str(source), schema),
    ).fetchone()
    if row is None:
        return
    found.phase, found.finalized = row
    if found.phase == 3:
        figure = "3: programs use Postgres alone" + (", and the move was finalized" if found.finalized else "")
        step = "nothing is left to do" if found.finalized else f"{found.step('cutover finalize')} ends the way back"
        found.add(Code.PHASE, "phase", False, figure, step)


def _judge_reads(found: Readiness, differences: int, compared: int | None) -> None:
    """What programs found that ran some of their reads on both stores (``storage.reads.shadowPercent``)."""
    name = "read differences"
    if not differences and not compared:
        figure = "none, but no reads were compared: set storage.reads.shadowPercent to compare some"
        found.rails.append(Check(Code.READ_DIFFERENCES, name, "note", figure))
        return
    figure = f"{differences:,} kept, of {counted(compared or 0, 'read')} compared"
    step = (
        f"{found.step('differences list')}; compare the tables: {found.step('parity')}; once each is explained, "
        f"{found.step('differences forget')}, or {found.plan_with(name)}"
    )
    found.add_or_acknowledge(Code.READ_DIFFERENCES, name, not differences, figure, step)


def _find_breaches(
    found: Readiness, connection: psycopg.Connection[Any], schema: str, agent: str, wanted: Constraint
) -> None:
    """Find rows that a constraint would not allow."""
    table, own = Identifier(schema, wanted.table), [name for name in wanted.columns if name != "agent_id"]
    keys = [SQL("t.{}").format(Identifier(name)) for name in own]
    owned = SQL("t.agent_id = {}").format(Literal(agent))
    if wanted.referred:
        pairs = zip(wanted.columns, wanted.referred_columns, strict=True)
        joined = [SQL("r.{} = t.{}").format(Identifier(theirs), Identifier(ours)) for ours, theirs in pairs]
        found_rows = rows_without(connection, table, keys, owned, Identifier(schema, wanted.referred), joined)
        what = counted(found_rows.count, "orphan") + f" of {wanted.referred}"
    else:
        found_rows = repeated(connection, table, keys, owned)
        what = f"{found_rows.count:,} taken more than once"
    figure = f"{what} in {wanted.table}: {found_rows.named}" if found_rows else "no row breaks it"
    step = "change the rows in the source, or leave this constraint out"
    found.add(Code.CONSTRAINT, wanted.name, not found_rows, figure, step)


def _check_sequence(
    found: Readiness, connection: psycopg.Connection[Any], schema: str, table: str, column: str, sequence: str
) -> None:
    """Of a table that is not the source's: a move does not set it."""
    query = SQL("SELECT (SELECT max({}) FROM {}), last_value, is_called FROM {}").format(
        Identifier(column), Identifier(schema, table), _sequence(connection, sequence)
    )
    row = connection.execute(query).fetchone()
    assert row is not None
    highest, last, called = row
    figure = f"{'at' if called else 'starts with'} {last}, the highest value is {highest or 'none'}"
    step = SQL("SELECT setval({}, {})").format(Literal(sequence), Literal(highest)).as_string(connection)
    passed = highest is None or (last >= highest if called else last > highest)
    found.add(Code.SEQUENCE, f"sequence of {table}.{column}", passed, figure, step)


def _sequence(connection: psycopg.Connection[Any], name: str) -> Composable:
    row = connection.execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s::regclass",
        (name,),
    ).fetchone()
    assert row is not None
    return Identifier(*row)
