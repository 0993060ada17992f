"""What ``mirror up`` says of Postgres at its start, of refused tables, and of what there is to do at its end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from mirror.cli.logs import announce, complain, writes_lines
from mirror.cli.options import advise_replacing, own_schema_command
from mirror.cli.up_view import UpView
from mirror.core.config.settings import Settings
from mirror.core.config.which_postgres import REMEMBERED
from mirror.core.dsn import hide_password, without_password
from mirror.core.errors import GOES_ON, MirrorError, OthersWroteError, SealedError
from mirror.core.positions import Lsn
from mirror.core.status import Phase, StatusReport, moved_text
from mirror.core.words import counted
from mirror.parity.proof import ENOUGH, described
from mirror.sidecar.pipeline import Pipeline
from mirror.sidecar.refused import causes
from mirror.sidecar.server_outage import STARTED_AGAIN
from mirror.sidecar.status import SourceStatus
from mirror.sidecar.supervisor import Supervisor

#: Sources that are told one by one; of more, all together. And those that a step names.
MOST_ANNOUNCED, MOST_NAMED = 20, 5


@dataclass(frozen=True, slots=True)
class Given:
    """What was given to the command, and what it needs to be given again."""

    sources: Sequence[Path]
    """Those that were named; none: mirror.json lists them."""
    flags: str
    once: bool

    @classmethod
    def of(cls, given: Mapping[str, Any], sources: Sequence[Path]) -> Given:
        """``given``: the command's parameters. ``sources``: what it mirrors."""
        flags = "".join(f" --{name.replace('_', '-')}" for name in ("once", "until_eof") if given[name])
        flags += "".join(
            f" --{name} {shlex.quote(given[name])}"
            for name in ("agent", "profile")
            if given.get(name) not in (None, "auto")
        )
        return cls(sources if given["sources"] else (), flags, given["once"])

    def again(self, options: str, sources: Sequence[Path] | None = None) -> str:
        """The command, for all sources or for some of them."""
        named = "".join(f" {shlex.quote(str(each))}" for each in (self.sources if sources is None else sources))
        return f"mirror up{named}{options}{self.flags}"


# -- at the start --------------------------------------------------------------------------------------


def psql_command(dsn: str) -> str:
    """A command that opens the database, without its password; empty if ``dsn`` is no connection string."""
    if not (plain := without_password(dsn)):
        return ""
    if not plain.startswith(("postgres:", "postgresql:")):
        try:
            parts = {name: str(value) for name, value in conninfo_to_dict(plain).items() if value is not None}
        except ProgrammingError:
            return ""
        name = quote(parts.pop("dbname", ""), safe="")
        if parts.get("port") == "5432":
            del parts["port"]
        query = "&".join(f"{key}={quote(value, safe='/')}" for key, value in sorted(parts.items()))
        plain = f"postgresql:///{name}{'?' if query else ''}{query}"
    return f"psql {shlex.quote(plain)}"


def tell_postgres(settings: Settings, dsn: str) -> None:
    """Say which Postgres it is, and how to look into it. Each command has a line of its own, to be copied whole."""
    whence = "" if settings.remembered is None else f" ({REMEMBERED})"
    if not writes_lines():
        announce(f"Postgres: {hide_password(dsn)}{whence}")
        return
    where = f"embedded, in {settings.state_dir / 'postgres'}" if settings.dsn is None else hide_password(dsn) + whence
    announce(f"Postgres: {where}")
    announce(f"Look into it: `mirror psql{settings.options}`")
    if command := psql_command(dsn):
        announce(command, wrap=False)


# -- what is refused -----------------------------------------------------------------------------------


class Refusals:
    """Tells each cause of refused tables once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._told: dict[str, set[str]] = {}
        """By source: the lines that hold."""
        self._seen: dict[str, object] = {}

    def lines(self, state: SourceStatus) -> list[str]:
        """One for each cause; where no table can be mirrored, the first says that."""
        name, options = Path(state.source).name, self._settings.options
        own_schema = own_schema_command(self._settings, Path(state.source), state.schema)
        lines = []
        for cause in causes(state.refusals, state.schema):
            advice = cause.advice(options, own_schema)
            lines.append(f"{cause.said}{f' -- {advice}' if advice else ''}")
        if is_refused(state) and lines:
            none = f"none of its {counted(state.tables, 'table')} can be mirrored"
            if len(lines) == 1:
                which = lines[0].removeprefix("Postgres refuses ").removeprefix(f"{counted(state.tables, 'table')}: ")
                lines[0] = f"{none}: {which}"
            else:
                lines.insert(0, none)
        return [f"{name}: {line}" for line in lines]

    def tell(self, pipeline: Pipeline, view: UpView) -> None:
        """Tell what is new of a source."""
        for line in self._new(pipeline.status):
            view.say(line, bad=True)

    def complain(self, pipeline: Pipeline) -> None:
        """Tell what has not been told of a source, at the end."""
        for line in self._new(pipeline.status):
            complain(line)

    def _new(self, state: SourceStatus) -> list[str]:
        if self._seen.get(state.source) is state.refusals:
            return []
        self._seen[state.source] = state.refusals
        told, lines = self._told.get(state.source, set()), self.lines(state) if state.refusals else []
        self._told[state.source] = set(lines)  # what ends, and comes back, is told again
        return [line for line in lines if line not in told]


def is_refused(state: SourceStatus) -> bool:
    """Whether a source has tables, and Postgres takes none of them."""
    return state.tables > 0 and len(state.refusals) >= state.tables


# -- at the end ----------------------------------------------------------------------------------------


class Due(IntEnum):
    """What there is to do once the command has ended; of several sources, the highest counts."""

    NOTHING, PARITY, UP, POSTGRES = range(4)


def left(state: SourceStatus, done: int, tables: int) -> tuple[str, Due]:
    """What Postgres has of a source in the end, and what is due.

    ``done``, ``tables``: how many tables its last copy has loaded, and of how many.
    """
    away = state.error is not None and str(state.error.get("code", "")).startswith("postgres")
    if state.applied is None:
        if away:
            return "Postgres has nothing of it: it could not be reached", Due.POSTGRES
        if tables:
            at = f"it had loaded {done:,} of {counted(tables, 'table')}, which count once all are there"
            return f"Postgres has nothing of it yet: the first copy was cut short; {at}", Due.UP
        return "Postgres has nothing of it yet", Due.UP
    lacks = [f"{counted(state.rejects, 'row')} that it cannot hold"] if state.rejects else []
    if state.refusals:
        refused = counted(len(state.refusals), "table that is", "tables that are")
        lacks.append(f"{refused} not as in the file")
    rejects = f", but for {' and '.join(lacks)}" if lacks else ""
    until = "" if state.committed_at is None else f", up to {_moment(state.committed_at)}"
    if state.phase is Phase.PAUSED:
        return f"it is paused; Postgres has what there was{until}{rejects}", Due.NOTHING
    if is_refused(state):
        return "Postgres has none of it", Due.NOTHING
    behind = state.captured is not None and Lsn.parse(state.applied) < Lsn.parse(state.captured)
    if state.caught_up_at is None or behind:
        return f"Postgres has part of it{until}{rejects}; `mirror up` goes on", Due.POSTGRES if away else Due.UP
    return f"Postgres has all of it{until}{rejects}", Due.PARITY


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def report_end(
    supervisor: Supervisor,
    settings: Settings,
    gave_up: Sequence[MirrorError],
    refusals: Refusals,
    given: Given,
) -> None:
    """Say what each source has come to, and what to do next.

    Raises the last ``MirrorError`` if a source was given up or has ended with an error; else ``SystemExit`` with 2 if
    Postgres took nothing of a source, or, of a command that ends by itself, not all.
    """
    failed = [*gave_up, *supervisor.errors]
    if len(supervisor.pipelines) > sum(isinstance(error, SealedError) for error in failed):
        # Finalized before it began, beside others that are mirrored: that is all that there is to do.
        failed = [error for error in failed if not isinstance(error, SealedError)]
    for error in failed:
        if given.once:  # it does not go on
            error.next_step = error.next_step.replace(GOES_ON, "; then run it again")
        if isinstance(error, OthersWroteError):
            advise_replacing(error, f"{given.again(settings.options, [Path(error.place)])} --replace-rows")
    due: dict[Pipeline, Due] = {}
    whole = 0
    for pipeline in supervisor.pipelines:
        state, name = pipeline.status, Path(pipeline.status.source).name
        if state.reverse is not None and pipeline.error not in failed:
            announce(f"{name}: {_moved(state.report())}")
        elif pipeline.error is None:
            words, due[pipeline] = left(state, len(pipeline.copying.loaded), pipeline.copying.tables)
            if due[pipeline] is Due.PARITY and len(supervisor.pipelines) > MOST_ANNOUNCED and not state.rejects:
                whole += 1
            else:
                announce(f"{name}: {words}")
    if whole:
        announce(f"{counted(whole, 'source')}: Postgres has all of them")
    for pipeline in supervisor.pipelines:
        refusals.complain(pipeline)
    for error in failed[:-1]:
        complain(str(error), error)
    if failed:
        _say_stopped(settings, supervisor)
        raise failed[-1]
    refused = [pipeline.status for pipeline in supervisor.pipelines if pipeline.status.refusals]
    if given.once and refused:
        sys.exit(2)
    _say_stopped(settings, supervisor)
    _say_next(supervisor, settings, due, given)
    if any(map(is_refused, refused)):
        sys.exit(2)


def _say_stopped(settings: Settings, supervisor: Supervisor) -> None:
    """Say that the embedded Postgres ended with the command, unless another one uses it."""
    data = settings.state_dir / "postgres"
    if settings.dsn is not None or (data / "postmaster.pid").exists():
        return
    moved = any(pipeline.status.reverse is not None for pipeline in supervisor.pipelines)
    needed = ", and programs that were moved need it" if moved else ""
    announce(
        f"The embedded Postgres stopped, too{needed}: its data is in {data}; "
        f"`mirror psql{settings.options}` starts it again."
    )


def _moved(report: StatusReport) -> str:
    """What a mirror that ends leaves of a source that was moved to Postgres."""
    assert report.reverse is not None
    rejects = report.reverse.rejects
    if report.reverse.ended:
        return f"{moved_text(report)}; there is nothing left to do for the mirror"
    rows = counted(rejects, "row")
    return moved_text(report) + (f"; the file does not take {rows} of Postgres" if rejects else "")


def _say_next(supervisor: Supervisor, settings: Settings, due: Mapping[Pipeline, Due], given: Given) -> None:
    """One step: what is due most for those that are mirrored; else for the first that is carried back."""
    options = settings.options
    most = max(due.values(), default=Due.NOTHING)
    first = next((pipeline for pipeline, step in due.items() if step is most), None)
    if first is not None and most is Due.POSTGRES:
        assert first.status.error is not None
        step = first.status.error["next_step"] or "see what Postgres' own log says"
        # The embedded one starts with the command.
        first_of_all = "" if step == STARTED_AGAIN else f"{step}; then "
        announce(f"Next: {first_of_all}`{given.again(options)}`.")
    elif most is Due.UP:
        announce(f"Next: `{given.again(options)}` goes on.")
    elif most is Due.PARITY:
        _say_parity(due, options)
    elif not due:
        for state in (pipeline.status for pipeline in supervisor.pipelines):
            if state.reverse is not None and not state.reverse.ended:
                source = shlex.quote(state.source)
                back = f"`mirror cutover rollback {source}{options}` goes back to the file"
                announce(f"Next: `mirror up {source}{options}` carries on; {back}.")
                return


def _say_parity(due: Mapping[Pipeline, Due], options: str) -> None:
    """For the sources that were not compared yet; where they are many, for all that the state directory knows."""
    never = [
        shlex.quote(pipeline.status.source)
        for pipeline, step in due.items()
        if step is Due.PARITY and described(pipeline.task.folder).proof not in ENOUGH
    ]
    if never:
        named = " ".join(["mirror parity", *(never if len(never) <= MOST_NAMED else ())])
        announce(f"Next: `{named}{options}` compares every value.")
