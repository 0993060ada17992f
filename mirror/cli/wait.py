"""``mirror wait``: until all that was committed is in Postgres."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from mirror.cli import status_words as words
from mirror.cli.options import common, help_end, json_option, own_schema_command, postgres_of, schema_of
from mirror.cli.plain import printable
from mirror.core.config.settings import Settings
from mirror.core.control import ControlClient, wait_for_mirror
from mirror.core.errors import ControlError, NotRunningError, SealedError
from mirror.core.folders import source_folder
from mirror.core.peer import start_all_step
from mirror.core.place import is_missing
from mirror.core.status import Phase, StatusReport, encode
from mirror.core.words import counted, duration
from mirror.sidecar.kept_report import is_starting
from mirror.sidecar.next_steps import next_steps
from mirror.sidecar.refused import causes

#: Sources that an error names.
_MOST_NAMED = 5


class _Outcome(NamedTuple):
    """What became of the wait for one source."""

    source: Path
    late: str = ""
    """Why not everything is there; empty: it is."""
    refused: Sequence[str] = ()
    """Tables that Postgres refuses, and why."""
    steps: Sequence[str] = ()
    report: StatusReport | None = None

    @property
    def problems(self) -> list[str]:
        """In lines for people."""
        return [*([self.late] if self.late else []), *self.refused]

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        report = self.report
        return {
            "source": str(self.source),
            "applied": not self.late,
            "position": None if report is None else report.applied,
            "captured": None if report is None else report.captured,
            "reason": self.late or None,
            "refused": list(self.refused),
            "next_steps": list(self.steps),
        }


def _seconds(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    if not value >= 0:  # NaN, too
        raise click.BadParameter(f"{value:g} is no time to wait: give seconds, 0 or more")
    return value


@click.command(
    short_help="Wait until all commits are in Postgres.",
    epilog=help_end(
        "mirror wait memory.db --timeout 60",
        codes={
            0: "everything is in Postgres",
            1: "not in time, and a line says why; or Postgres refuses a table",
            3: "no mirror of the source runs here, nor did one start in time",
        },
    ),
)
@common
@json_option
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=float,
    default=30.0,
    show_default=True,
    callback=_seconds,
    help="Seconds to wait, for all sources together.",
)
def wait(settings: Settings, debug: bool, as_json: bool, timeout: float) -> None:
    """Wait until Postgres has everything that was committed to SQLite before this command began.

    Of a source that was moved to Postgres: until the file has everything that was committed there. A mirror that only
    just starts is waited for.

    Prints nothing if that succeeds. Without SOURCE it waits for the sources that
    mirror.json lists, or else for all that the state directory knows.
    """
    deadline = time.monotonic() + timeout
    found = []
    known = settings.known()
    for source in known:
        try:
            found.append(outcome := _wait_for(source, settings, deadline, timeout))
        except NotRunningError as error:
            _name_all(error, [each for each in known if each == source or not _runs(each, settings)], settings)
            raise
        for problem in () if as_json else outcome.problems:
            click.secho(f"mirror: {printable(f'{source}: {problem}')}", fg="red", err=True)
    if as_json:
        document = {"version": 1, "sources": [each.document() for each in found]}
        click.echo(msgspec.json.format(encode(document), indent=2).decode())
    sys.exit(1 if any(each.problems for each in found) else 0)


def _runs(source: Path, settings: Settings) -> bool:
    try:
        ControlClient(source_folder(settings.state_dir, source)).close()
    except NotRunningError:
        return False
    except ControlError:  # it is there, and does not answer
        return True
    return True


def _name_all(error: NotRunningError, stopped: Sequence[Path], settings: Settings) -> None:
    """Have the error name all sources that no mirror has, where there are several, with one step."""
    there = [source for source in stopped if not is_missing(source)]
    if len(stopped) > 1 and there:
        error.folder = None  # else the step is that of one
        error.place = ", ".join(source.name for source in stopped[:_MOST_NAMED])
        error.place += f" and {len(stopped) - _MOST_NAMED} more" if stopped[_MOST_NAMED:] else ""
        error.detail = f"no mirror of these {counted(len(stopped), 'source')} is running"
        error.next_step = start_all_step(there, settings.options)


def _wait_for(source: Path, settings: Settings, deadline: float, timeout: float) -> _Outcome:
    """Wait for one source until the deadline. Raises ``NotRunningError``, and what no time would have helped."""
    folder = source_folder(settings.state_dir, source)
    try:
        with wait_for_mirror(folder, deadline - time.monotonic()) as client:
            try:
                applied = client.wait(max(0.0, deadline - time.monotonic()))
                report = client.status()
            except SealedError:
                return _wait_for_file(source, settings, client, deadline, timeout)
    except ControlError as error:
        if isinstance(error, NotRunningError):
            if settings.dsn is not None:
                from mirror.cli.moved import require_way_back

                require_way_back("wait", source, settings.dsn, schema_of(settings, source))
            if is_starting(source, folder):
                return _Outcome(source, f"Postgres does not have everything after {timeout:g} s: it is starting")
            raise
        # What could still have come right, had there been more time, is the answer no; the rest are errors.
        if not error.retryable or time.monotonic() < deadline:
            raise
        return _Outcome(source, f"Postgres does not have everything after {timeout:g} s: {error}")
    refused = [cause.said for cause in causes(report.refusals, report.schema)]
    steps = next_steps(report, settings.options, own_schema_command(settings, source, report.schema))
    if applied:
        return _Outcome(source, "", refused, steps if refused else (), report)
    late = f"Postgres does not have everything after {timeout:g} s: {_behind(report)}; {_doing(report, settings)}"
    return _Outcome(source, late, refused, steps, report)


def _wait_for_file(
    source: Path, settings: Settings, client: ControlClient, deadline: float, timeout: float
) -> _Outcome:
    from mirror.cli.moved import wait_for_file  # needs Postgres' driver, which loads slowly

    with postgres_of(settings) as dsn:
        if wait_for_file(source, dsn, schema_of(settings, source), deadline):
            return _Outcome(source)
    report = client.status()
    late = f"the file does not have everything after {timeout:g} s: {_doing(report, settings)}"
    return _Outcome(source, late, steps=next_steps(report, settings.options), report=report)


def _behind(report: StatusReport) -> str:
    """How far Postgres is behind."""
    now = time.time()
    behind = [f"{duration(now - report.behind_since, whole=True)} behind"] if report.behind_since is not None else []
    if report.applied is not None:
        behind.append(f"Postgres is at {report.applied}, the log at {report.captured or 'a place not known yet'}")
    else:
        behind.append("nothing is there yet")
    return ", ".join(behind)


def _doing(report: StatusReport, settings: Settings) -> str:
    """What the mirror does meanwhile, or what keeps it; and where there is more to read."""
    doing = words.detail(report) or words.state(report)
    why = f": {report.last_error}" if report.phase is Phase.WAITING and report.last_error else ""
    return f"{doing}{why} -- `mirror status {shlex.quote(report.source)}{settings.options}` shows more"
