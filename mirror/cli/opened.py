"""A move of one source as commands carry it out: with this machine's guard rails, comparisons and settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from mirror.cli.adapters import judge_adapters
from mirror.cli.options import schema_of
from mirror.cli.running import gate_of
from mirror.cli.status import measured_status_of
from mirror.core.config.settings import Settings
from mirror.core.errors import MirrorError, NotReadyError, SinkError
from mirror.core.faults import no_fault
from mirror.core.folders import source_folder
from mirror.core.words import counted
from mirror.cutover import adopted, sequences, statistics, vector_indexes
from mirror.cutover.constraints import judge_constraints
from mirror.cutover.mirrored import targets_of
from mirror.cutover.move import Move
from mirror.cutover.narrowing import AtCommit
from mirror.cutover.rails import plan as judge
from mirror.cutover.readiness import Readiness
from mirror.parity.compare import compare
from mirror.parity.views import open_source
from mirror.postgres.failures import translated
from mirror.postgres.sessions import Session, connect
from mirror.replica.declared import read_declarations
from mirror.reverse.proof import differences
from mirror.sidecar.parity_runs import derived, record

#: Guard rails that a step of the move itself sees to, which raises an error where it cannot.
SEEN_TO = frozenset({statistics.NAME, vector_indexes.NAME})
#: Those that are no matter while programs only read.
OF_WRITES = frozenset({adopted.NAME, "unique indexes", "not null", sequences.NAME})


def opened(source: Path, dsn: str, settings: Settings, acknowledged: Sequence[str], fence: str = "hold") -> Move:
    """Connect to Postgres. Raises ``UnknownSourceError`` if it is not mirrored there, ``SinkError``."""
    folder, schema = source_folder(settings.state_dir, source), schema_of(settings, source)

    def rails(number: int) -> str:
        known = {*acknowledged, *SEEN_TO, *(OF_WRITES if number < 3 else ())}
        now = measured_status_of(source, settings)
        verdict = judge(source, now, folder, dsn, schema, known, settings.options, settings.sequences)
        if verdict.reached:
            judge_adapters(verdict, source, settings, dsn, schema)
        if not verdict.ready:
            wrong = [rail for rail in verdict.rails if not rail.passed]
            detail = "; ".join(f"{rail.name}: {rail.detail}" for rail in wrong)
            verdict.acknowledged = acknowledged
            step = f"{verdict.step('cutover plan', verdict.acknowledging())} says what to do"
            raise NotReadyError("move a source", str(source), f"NOT READY: {detail}", next_step=step)
        return f"{counted(len(verdict.rails), 'check')} passed"

    def verify() -> str:
        with (
            connect(dsn, autocommit=False) as connection,
            gate_of(source, dsn, settings.state_dir, schema, settings.options, settings.rules) as gate,
        ):

            def progress(table: str, rows: int) -> None:
                move.doing = f"{table}, {counted(rows, 'row')}"

            known = derived(connection, source, schema)
            report = compare(source, connection, schema, gate, progress=progress, derived=known)
            if not report.reason:
                record(connection, source, schema, report, folder, whole=True)
        if report.agreement != "equal":
            wrong = ", ".join(table.table for table in report.tables if table.status in ("different", "not mirrored"))
            detail = report.reason or report.headline + (f" ({wrong})" if wrong else "")
            step = f"{Readiness(str(source), settings.options).step('parity')} shows the rows"
            raise SinkError("compare with Postgres", str(source), detail, next_step=step)
        return report.headline

    def constrain(connection: psycopg.Connection[Any], agent: str | None) -> str:
        found = Readiness(str(source), settings.options, acknowledged)
        if move.adopted:
            return adopted.put_back(found, connection, move.source_id, move.targets)
        declared = read_declarations(source)
        judge_constraints(found, connection, source, schema, agent, sequences.HEADROOM, declared)
        for text in found.statements:
            connection.execute(text.encode(), prepare=False)
        after = Readiness(str(source), settings.options, acknowledged)
        judge_constraints(after, connection, source, schema, agent, declared=declared, made=True)
        if wrong := [rail for rail in after.rails if not rail.passed]:
            detail = "; ".join(f"{rail.name}: {rail.detail}" for rail in wrong)
            step = f"{after.step('cutover plan', after.acknowledging())} says what to do"
            raise MirrorError("make constraints", str(source), detail, next_step=step)
        return f"{counted(len(found.statements), 'statement')} for what SQLite enforces"

    def verify_again(connection: Session, since: str) -> str:
        return _equal(*differences(connection, source, schema, since))

    @contextmanager
    def commits() -> Iterator[AtCommit]:
        with (
            gate_of(source, dsn, settings.state_dir, schema, settings.options, settings.rules) as gate,
            closing(open_source(source)) as opened,
        ):
            yield lambda begin, read: opened.at_commit(gate, begin, lambda: read(opened.connection))

    def verify_back(connection: Session) -> str:
        return _equal(*differences(connection, source, schema))

    def _equal(count: int, found: list[str]) -> str:
        if found:
            raise SinkError("compare with the file", str(source), "; ".join(found[:3]))
        return f"{counted(count, 'row')} compared: equal"

    def prepare() -> str:
        found = Readiness(str(source), settings.options, acknowledged)
        with (
            connect(dsn, name="mirror cutover", raw=True) as connection,
            translated("prepare a move", str(source)),
        ):
            targets = targets_of(connection, source, schema)
            free = sequences.known(connection, move.source_id, settings.sequences)
            said = [
                statistics.analyze(connection, targets, found),
                vector_indexes.warm_all(connection, targets, acknowledged, found),
                f"sequences: {sequences.set_all(connection, source, targets, free, sequences.AHEAD)}",
            ]
        return "; ".join(filter(None, said))

    move = Move(
        source, folder, dsn, schema, settings, fence, rails, verify, constrain, verify_again, commits, verify_back,
        prepare,
        faults=no_fault,
    )  # fmt: skip
    return move
