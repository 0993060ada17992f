"""One rehearsal from its beginning to its end: what is done, one after the other, and what is found."""

from __future__ import annotations

import json
import subprocess
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirror.cli.options import schema_of
from mirror.cli.status import measured_status_of
from mirror.core.checks import Code
from mirror.core.commands import command, completed
from mirror.core.config.settings import Settings
from mirror.core.control import ControlClient, wait_for_mirror
from mirror.core.errors import ControlError, MirrorError, NotRunningError, SealedError, SinkError, StateError
from mirror.core.folders import source_folder
from mirror.core.recorded_load import RecordedLoad
from mirror.core.status import Phase
from mirror.core.words import counted
from mirror.cutover.move import Move
from mirror.cutover.rails import plan as judge
from mirror.cutover.rehearsal.clone import copy, require_room
from mirror.cutover.rehearsal.load import Load
from mirror.cutover.rehearsal.pause import Pause, measure
from mirror.cutover.rehearsal.place import Live, Place
from mirror.cutover.rehearsal.statements import statements_of
from mirror.cutover.rehearsal.workload import Work, Workload, workload
from mirror.cutover.steps import Step
from mirror.parity.report import AGREE, KINDS
from mirror.parity.shown import said
from mirror.postgres import phase
from mirror.postgres.failures import translated
from mirror.postgres.phase import Event
from mirror.postgres.profiles import ADOPTED, PROFILES
from mirror.postgres.sessions import connect
from mirror.postgres.target import load_targets

#: Guard rails that say as much of the clone as of the source: those that are about rows, tables and the way they are
#: held. The others are about the mirror, the machine and the moment, and are looked at where they are true.
_OF_THE_DATA = frozenset(
    {
        Code.RULE,
        Code.POSTGRES,
        Code.PGVECTOR,
        Code.INDEXES,
        Code.CONSTRAINT,
        Code.SEQUENCE,
        Code.LEFT_OUT,
        Code.PARITY,
        Code.GAPS,
        Code.REJECTS,
        Code.REFUSED,
        Code.KEPT_TABLES,
        Code.DISCREPANCIES,
    }
)
#: Those that another comparison may pass.
_COMPARED = frozenset({Code.PARITY, Code.GAPS})
#: How often the clone is compared until no commit was missed meanwhile.
_COMPARISONS = 5
#: Seconds for the mirror of the clone to begin, and to copy it: a bound against waiting for ever.
_MIRROR_SECONDS = 24 * 3600.0
#: Seconds for which it may wait for something before that counts as an error.
_PATIENCE_SECONDS = 30.0
#: Commits of the writer before and after each move.
_COMMITS = 20
#: Seconds for which the writer writes before the first move, from which its rate is known.
_STEADY_SECONDS = 2.0
#: Rows that the file does not take, of which the reasons are told.
_MOST_REJECTS = 5


class _GapsError(MirrorError):
    """Only guard rails are missed that another comparison may pass."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that would fail."""

    where: str
    """The source, or its clone."""
    what: str
    detail: str
    next_step: str = ""


@dataclass(slots=True)
class Outcome:
    """What a rehearsal has found."""

    source: Path
    load: Workload | None = None
    rate: float = 0.0
    """Commits a second, as they were made before the moves."""
    rows_per_commit: float = 0.0
    there: Pause | None = None
    """At the switch to Postgres; of an attempt that failed, too."""
    back: Pause | None = None
    moved: bool = False
    """Whether the clone went to Postgres and back."""
    calls: int = 0
    failed: int = 0
    rows: int = 0
    parity: str = ""
    parity_back: str = ""
    problems: list[Problem] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def works(self) -> bool:
        """Whether nothing would fail."""
        return self.moved and not self.problems


class Rehearsal:
    """The rehearsal of one source. ``say``: told of each step as it goes: an event, its words, a detail."""

    def __init__(
        self,
        source: Path,
        settings: Settings,
        dsn: str,
        acknowledged: Sequence[str],
        say: Callable[[str, str, str], None],
    ) -> None:
        self._settings, self._dsn = settings, dsn
        self._acknowledged = (*acknowledged, "backups")
        self._say = say
        self._source = source
        self._outcome = Outcome(source)
        self._gaps_count = True

    def run(self) -> Outcome:
        """Carry it out; raises ``MirrorError`` if it cannot be done. What it has made is removed in any case."""
        live = self._live()
        load = self._recorded(live)
        self._judge_live(live)
        size = require_room(live.path, self._settings.state_dir)
        with Place(self._settings, self._dsn, live) as place:
            self._note("begun", "copy the file", f"{size >> 20:,} MB")
            begun = time.monotonic()
            copy(live.path, place.database)
            self._note("done", "copy the file", f"in {time.monotonic() - begun:,.1f} s")
            clone = place.configure()
            with place.log() as log:
                mirror = place.start(
                    "mirror", "up", "--config", str(place.config), "--until-eof", stdout=log, stderr=log
                )
            self._await_mirror(place, clone, mirror)
            self._rehearse(place, clone, live, load)
        self._note("done", "remove the clone", "")
        return self._outcome

    def _note(self, event: str, words: str, detail: str) -> None:
        self._outcome.steps.append({"step": words, "event": event, "detail": detail})
        self._say(event, words, detail)

    # -- the live source, which is only read ------------------------------------------------------------

    def _live(self) -> Live:
        source, schema = self._source, schema_of(self._settings, self._source)
        place = "rehearse a move"
        with connect(self._dsn, raw=True) as conn, translated(place, str(source)):
            (there,) = conn.execute("SELECT to_regclass('mirror.phase') IS NOT NULL").fetchone() or (False,)
            row = (
                conn.execute(
                    "SELECT source_id, agent_id, profile FROM mirror.sources"
                    " WHERE path = $1::text AND schema_name = $2::text AND generation IS NOT NULL",
                    (str(source), schema),
                ).fetchone()
                if there
                else None
            )
            if row is None:
                why = f"it is not mirrored into the schema {schema}"
                raise SinkError(place, str(source), why, next_step="run `mirror up`")
            if phase.read(conn, row[0]).sealed_at is not None:
                step = "`mirror cutover status` shows where it is"
                raise SealedError(place, str(source), "it was moved to Postgres", next_step=step)
            if row[2] == ADOPTED:
                why = "it is mirrored into an application's own tables, of which there is no second set to try it on"
                step = (
                    f"{command('cutover advance', str(source), self._settings.options, ' --dry-run')}: prints the steps"
                )
                raise SinkError(place, str(source), why, next_step=step)
        return Live(source, schema, row[1], row[2] or "generic")

    def _recorded(self, live: Live) -> RecordedLoad | None:
        try:
            with ControlClient(source_folder(self._settings.state_dir, live.path)) as client:
                return client.load()
        except NotRunningError:
            return None

    def _judge_live(self, live: Live) -> None:
        from mirror.cli.opened import OF_WRITES, SEEN_TO

        settings = self._settings
        verdict = judge(
            live.path,
            measured_status_of(live.path, settings),
            source_folder(settings.state_dir, live.path),
            self._dsn,
            live.schema,
            {*self._acknowledged, *SEEN_TO, *OF_WRITES},
            settings.options,
        )
        wrong = [rail for rail in verdict.rails if not rail.passed]
        self._outcome.problems += [Problem("the source", rail.name, rail.detail, rail.next_step) for rail in wrong]
        figure = f"{len(verdict.rails) - len(wrong):,} of {len(verdict.rails):,} guard rails are passed"
        self._note("failed" if wrong else "done", "look at the source", figure)

    # -- the clone ----------------------------------------------------------------------------------------

    def _await_mirror(self, place: Place, clone: Settings, process: subprocess.Popen[bytes]) -> None:
        folder = source_folder(clone.state_dir, place.database)

        def alive() -> bool:
            return process.poll() is None

        begun = time.monotonic()
        waits: float | None = None
        while True:
            if not alive():
                raise StateError("rehearse a move", "the clone's mirror", f"it has ended: {place.last_words()}")
            try:
                with wait_for_mirror(folder, _MIRROR_SECONDS, alive) as client:
                    status = client.status()
            except ControlError as error:
                if not error.retryable:
                    raise
                continue
            if status.phase is Phase.FOLLOWING and status.indexing is None:
                break
            if status.phase is not Phase.WAITING:
                waits = None
            elif time.monotonic() - (waits := waits or time.monotonic()) > _PATIENCE_SECONDS:
                raise StateError("rehearse a move", "the clone's mirror", status.last_error or "it waits")
            time.sleep(0.05)
        self._note(
            "done", "mirror the clone", f"{counted(status.tables, 'table')} in {time.monotonic() - begun:,.1f} s"
        )

    def _rehearse(self, place: Place, clone: Settings, live: Live, recorded: RecordedLoad | None) -> None:
        outcome = self._outcome
        self._compare(place)
        work = self._work(place, clone, live, recorded)
        with Load(place, work) as load:
            load.await_commits("sqlite", _COMMITS)
            load.wait(lambda: load.sqlite[-1] - load.sqlite[0] >= _STEADY_SECONDS)
            begun = time.monotonic()
            in_file = self._there_and_back(place, clone, load)
            load.stop()
            outcome.rate = _rate(load.times(), begun)
            outcome.calls, outcome.failed = load.calls, load.failed
            outcome.rows_per_commit = load.rows / max(load.calls - load.failed, 1)
            if load.failed:
                detail = f"{load.failed:,} of {load.calls:,}: {'; '.join(load.errors)}"
                step = "look at these errors: programs would meet them, too"
                outcome.problems.append(Problem("the clone", "failed calls", detail, step))
        if in_file:
            outcome.parity = self._compare(place)

    def _work(self, place: Place, clone: Settings, live: Live, recorded: RecordedLoad | None) -> Work:
        profile = PROFILES.get(live.profile)
        with connect(self._dsn, raw=True) as conn, translated("rehearse a move", str(live.path)):
            row = conn.execute(
                "SELECT source_id, agent_id FROM mirror.sources WHERE path = $1::text AND schema_name = $2::text",
                (str(place.database), place.schema),
            ).fetchone()
            assert row is not None
            targets = load_targets(conn, *row)
            statements = statements_of(
                place.database, conn, targets.values(), () if profile is None else profile.constraints
            )
        if not statements:
            step = "rehearse it when a table has rows"
            raise StateError("rehearse a move", str(live.path), "no table has a row to write again", next_step=step)
        found = self._outcome.load = workload(recorded, statements)
        self._note("done", "replay the load", f"{found.rate:,.0f} commits/s: {found.note}")
        return Work(str(place.database), str(place.config), found.rate, list(found.tables))

    def _compare(self, place: Place) -> str:
        """Compare the clone with its tables in Postgres, as `mirror parity` does; returns the verdict."""
        with place.log() as log:
            process = place.start(
                "mirror", "parity", "--json", "--config", str(place.config), stdout=subprocess.PIPE, stderr=log
            )
        out, _ = process.communicate()
        try:
            told = json.loads(out)
            (report,) = told["reports"]
        except (ValueError, KeyError) as error:
            raise StateError("compare the clone", str(place.database), place.last_words()) from error
        self._outcome.rows = int(report["rows"])
        number, rows = counted(len(report["tables"]), "table"), counted(report["rows"], "row")
        headline = f"{report['verdict'].replace('_', ' ')}: {number}, {rows}"
        if wrong := [table["table"] for table in report["tables"] if table["status"] not in AGREE]:
            headline += f"; not {', '.join(wrong)}"
            examples = [(table["table"], each) for table in report["tables"] for each in table["examples"]]
            for table, each in examples[:_MOST_REJECTS]:
                values = f"{said(each['source_value'])} in SQLite, {said(each['target_value'])} in Postgres"
                column = f" {each['column']} {values}" if each["column"] else ""
                headline += f"; {table} {said(each['key'])}: {KINDS[each['kind']]}{column}"
        if report["reason"]:
            headline += f"; {report['reason']}"
        if differs := report["verdict"] not in AGREE:
            step = "`mirror parity` on the source; report it if that is equal"
            self._outcome.problems.append(Problem("the clone", "parity", headline, step))
        self._note("failed" if differs else "done", "compare the clone with Postgres", headline)
        return headline

    def _there_and_back(self, place: Place, clone: Settings, load: Load) -> bool:
        """Returns False if the clone could not be moved back: then the file does not count."""
        outcome = self._outcome
        if not self._forward(place, clone):
            return True
        begun = time.monotonic()
        there = self._forward(place, clone)
        ended = time.monotonic()
        load.await_commits("postgres" if there else "sqlite", _COMMITS)
        outcome.there = measure(load.times(), begun, ended)
        if there:
            self._find_rejects(place)
            begun = time.monotonic()
            outcome.moved = self._move(place, clone, back=True)
            ended = time.monotonic()
            if not outcome.moved:
                return False
            load.await_commits("sqlite", _COMMITS)
            outcome.back = measure(load.times(), begun, ended)
        outcome.moved = self._move(place, clone, back=True) and there
        return True

    def _forward(self, place: Place, clone: Settings) -> bool:
        for _ in range(_COMPARISONS):
            try:
                return self._move(place, clone, back=False)
            except _GapsError:
                self._compare(place)
        # The load keeps two mirrors busy, which the real move does not have to; all is compared at the switch anyway.
        self._gaps_count = False
        self._note("undone", "look for gaps", "the clone's mirror had to compare pages again and again under this load")
        return self._move(place, clone, back=False)

    def _move(self, place: Place, clone: Settings, *, back: bool) -> bool:
        """Move the clone by one phase; False: that failed, and is among the problems."""
        from mirror.cli.moves import _carry_out
        from mirror.cli.opened import opened

        failed: list[str] = []

        def say(step: Step[Move], event: Event, detail: str) -> None:
            if event == "failed":
                failed.append(step.words)
            if back and step.name == "verify" and event == "done":
                self._outcome.parity_back = detail
            if event != "begun":
                self._note(event, step.words, detail)

        try:
            with opened(place.database, self._dsn, clone, self._acknowledged) as move:
                move.judge = lambda _: self._rails(place, clone)
                number = _carry_out(move, say, back=back, final=False)
        except _GapsError:
            raise
        except MirrorError as error:
            what = failed[0] if failed else error.operation
            step = completed(error.next_step, str(self._source), self._settings.options)
            self._outcome.problems.append(Problem("the clone", what, error.detail or str(error), step))
            return False
        words = {(2, False): "1 → 2", (3, False): "2 → 3", (2, True): "3 → 2", (1, True): "2 → 1"}[number, back]
        self._note("done", f"phase {words}", "")
        return True

    def _rails(self, place: Place, clone: Settings) -> str:
        """As the command judges, but only what is about the data, and is not known of the source already."""
        from mirror.cli.opened import OF_WRITES, SEEN_TO

        source = place.database
        known = {*self._acknowledged, *SEEN_TO, *OF_WRITES}
        folder = source_folder(clone.state_dir, source)
        verdict = judge(
            source,
            measured_status_of(source, clone),
            folder,
            self._dsn,
            place.schema,
            known,
            self._settings.options,
            named=str(self._source),
        )
        told = {problem.what for problem in self._outcome.problems}
        codes = _OF_THE_DATA if self._gaps_count else _OF_THE_DATA - _COMPARED
        wrong = [rail for rail in verdict.rails if not rail.passed and rail.code in codes and rail.name not in told]
        if wrong:
            detail = "; ".join(f"{rail.name}: {rail.detail}" for rail in wrong)
            steps = "; ".join(f"{rail.name}: {rail.next_step}" for rail in wrong)
            kind = _GapsError if all(rail.code in _COMPARED for rail in wrong) else MirrorError
            raise kind("move a source", str(source), detail, next_step=steps)
        return f"{len(verdict.rails):,} passed"

    def _find_rejects(self, place: Place) -> None:
        with connect(self._dsn, raw=True) as conn, translated("look at the way back", str(place.database)):
            rows = conn.execute(
                "SELECT r.source_table, r.key, r.reason FROM mirror.reverse_rejects r JOIN mirror.sources s USING"
                " (source_id) WHERE s.schema_name = $1::text LIMIT $2::bigint",
                (place.schema, str(_MOST_REJECTS)),
            ).fetchall()
        step = (
            "change the row in the source, or the program that writes it: the file does not take it as Postgres has it"
        )
        self._outcome.problems += [
            Problem("the clone", f"way back of {table}", f"row {', '.join(key)}: {reason}", step)
            for table, key, reason in rows
        ]


def _rate(times: Sequence[float], until: float) -> float:
    """Commits a second before a moment."""
    before = bisect_left(times, until)
    return (before - 1) / (times[before - 1] - times[0])
