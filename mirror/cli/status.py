"""``mirror status``: what the mirror of each source does.

Programs ask with ``--json`` again and again: what only people are shown is loaded where it is shown.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import click
import msgspec
from msgspec.structs import replace

from mirror.cli.gone import moved_from, rename_command
from mirror.cli.looking import Looking, Seen
from mirror.cli.options import common_even_if_broken, help_end, json_option, own_schema_command, schema_of
from mirror.core.config.settings import DEFAULT_SCHEMA, Settings
from mirror.core.control import ControlClient
from mirror.core.errors import MirrorError, NotRunningError, StateError
from mirror.core.folders import known_sources, source_folder, spool_bytes
from mirror.core.status import Phase, StatusDocument, StatusReport, encode
from mirror.core.words import names_apart
from mirror.parity.proof import described
from mirror.sidecar.kept_report import kept_report
from mirror.sidecar.next_steps import comparison, is_gone, next_steps

#: Seconds for which a mirror that has only begun to follow is waited for, and between two questions.
MEASURE_SECONDS, MEASURE_PAUSE = 30.0, 0.1
#: Seconds between two looks with ``--watch``.
EVERY_SECONDS = 1.0
#: Phases in which nothing is in Postgres yet that could be compared, or it is being replaced.
_NOT_THERE_YET = frozenset((Phase.STARTING, Phase.SNAPSHOT))

#: What stands before a check that is not passed, where its name would be untrue or a riddle ("following: stopped").
_LABELS = {"following": "", "complete": "not all is equal: "}

#: In which a source that was never compared can be, and nothing else is to be done first.
_AT_REST = frozenset((Phase.FOLLOWING, Phase.STOPPED))


@click.command(
    short_help="Show what the mirror of each source does.",
    epilog=help_end(
        "mirror status",
        "mirror status memory.db --json",
        "mirror status --watch  # until Ctrl-C",
        "mirror status --check || echo 'look at the mirror'",
        codes={
            0: "it was shown, whatever it is; with --check: all is as it should be",
            1: "with --check: something is not, which a line says",
            3: "with --check: of one source at least no mirror runs here",
        },
    ),
)
@common_even_if_broken
@json_option
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C; with --json one line each time.")
@click.option(
    "--check",
    is_flag=True,
    help="For alerts: print a line for each thing that is not as it should be, as /readyz finds it, and say it by the"
    " exit code.",
)
def status(settings: Settings, debug: bool, as_json: bool, watch: bool, check: bool) -> None:
    """Show what the mirror of each source is doing, what is wrong, and what to do next.

    Without SOURCE it shows the sources that mirror.json lists, or else all that the state directory knows.

    last commit: how old the newest commit is that Postgres has. lag: how old the oldest commit is that Postgres does
    not have yet; - where nobody can know. rejects: rows that Postgres cannot hold. gaps: how often the log was not
    complete, so that pages were compared instead; healed: all that was missed is in Postgres. commits: since the
    mirror started. applied, captured: positions in the source's log, generation:frame.
    """
    if watch and check:
        raise click.UsageError("--watch shows it until Ctrl-C, and --check looks once: give one of them.")
    with Looking(settings, partial(status_of, settings=settings)) as looking:
        if watch:
            with suppress(KeyboardInterrupt):  # that is how it ends
                _watch(looking, settings, as_json=as_json)
            return
        seen = looking.look()
    if as_json:
        click.echo(msgspec.json.format(_document(seen), indent=2).decode())
    elif not check:
        from mirror.cli.status_screen import show_seen

        show_seen(seen, settings)
    if check:
        sys.exit(_judged(seen, settings, quiet=as_json))


def _document(seen: Seen) -> bytes:
    return encode(StatusDocument(sources=list(seen.reports), redis=seen.around.redis, alerts=seen.around.alerts))


# -- again and again -------------------------------------------------------------------------------------


def _watch(looking: Looking, settings: Settings, *, as_json: bool) -> None:
    """Show it until Ctrl-C."""
    looks = _looks(looking)
    if as_json:
        for seen in looks:
            click.echo(_document(seen))
    else:
        from mirror.cli.status_screen import watch

        watch(looks, settings)


def _looks(looking: Looking) -> Iterator[Seen]:
    while True:
        began = time.monotonic()
        yield looking.look()
        time.sleep(max(0.0, looking.again(EVERY_SECONDS, began) - time.monotonic()))


# -- for alerts ------------------------------------------------------------------------------------------


def _judged(seen: Seen, settings: Settings, *, quiet: bool) -> int:
    """The exit code: 0 if all is as it should be. What is not is printed, unless ``quiet``."""
    # They take longer to load than a status takes to show.
    from mirror.cli.output import print_line
    from mirror.cli.status_view import console_of
    from mirror.sidecar.serve.health import ready
    from mirror.sidecar.serve.http import free_bytes

    found = ready(
        seen.reports,
        seen.around.stalled,
        free_bytes(settings.state_dir),
        seen.around.redis,
        settings.options,
    )
    names = names_apart([*(report.source for report in seen.reports), *map(str, known_sources(settings.state_dir))])
    console = console_of()
    without_postgres = {each.source for each in found.checks if each.name == "postgres" and each.state != "ok"}
    for each in () if quiet else found.checks:
        if each.state != "ok" and not (each.name == "following" and each.source in without_postgres):  # one cause
            place = f"{names.get(each.source, each.source)}: " if each.source else ""
            joint = "; next: " if " -- " in each.detail else " -- "  # an error has a step of its own
            step = f"{joint}{each.next_step}" if each.next_step not in each.detail else ""
            style = "red" if each.state == "failed" else "yellow"
            print_line(console, f"{place}{_LABELS.get(each.name, f'{each.name}: ')}{each.detail}{step}", style=style)
    if any(report.phase is Phase.STOPPED and not _has_moved(report) for report in seen.reports):
        return 3
    return 0 if found.state == "ok" else 1


def _has_moved(report: StatusReport) -> bool:
    """Whether nobody is to mirror it any more."""
    return report.reverse is not None and bool(report.reverse.ended)


# -- one source ------------------------------------------------------------------------------------------


def status_of(source: Path, settings: Settings) -> StatusReport:
    """The status that the mirror of a source reports, or saved last; with the last comparison and the next steps."""
    folder, options = source_folder(settings.state_dir, source), settings.options
    silent: MirrorError | None = None
    unknown: MirrorError | None = None
    try:
        with ControlClient(folder) as client:
            report = client.status()
    except NotRunningError:
        report, unknown = _kept(source, settings, folder)
    except MirrorError as error:
        # It may well be running: only what it saved last is known.
        report, _ = _kept(source, settings, folder)
        report = replace(report, phase=Phase.SILENT, last_error=str(error), error=error.to_dict())
        silent = error
    if unknown is not None:
        report = replace(report, phase=Phase.FAILED, last_error=str(unknown), error=unknown.to_dict())
        steps = [unknown.next_step] if unknown.next_step else []
    elif silent is None:
        old = moved_from(settings, source) if report.phase is Phase.STOPPED else None
        if old is not None:
            report = replace(report, last_error=f"it has the rows of {old}, which is not there any more")
        steps = (
            [rename_command(settings, old, source)]
            if old is not None
            else next_steps(report, options, own_schema_command(settings, source, report.schema))
        )
    else:
        steps = [silent.next_step] if silent.next_step else []
    return with_proof(replace(report, configuration=settings.problem), folder, settings, steps)


def measured_status_of(source: Path, settings: Settings) -> StatusReport:
    """The status, with a lag where the mirror follows: just started, it is waited for until it has caught up once.

    Without one after ``MEASURE_SECONDS``.
    """
    deadline = time.monotonic() + MEASURE_SECONDS
    while True:
        report = status_of(source, settings)
        known = report.phase is not Phase.FOLLOWING or report.worst_lag_seconds is not None
        if known or time.monotonic() > deadline:
            return report
        time.sleep(MEASURE_PAUSE)


def with_proof(report: StatusReport, folder: Path, settings: Settings, steps: Sequence[str]) -> StatusReport:
    """The report with the last comparison, and with these next steps and what that one advises; and the spool's size.

    ``folder``: the source's.
    """
    proof, steps = described(folder), [*steps]
    parity = comparison(report, settings.options)
    if report.reverse is not None or report.applied is None or report.phase in _NOT_THERE_YET or is_gone(report):
        pass  # a comparison is refused, as Postgres is the original; or there is nothing yet that could be compared
    elif proof.proof == "different" and proof.repairable:
        others = " --replace-rows" if report.others_wrote else ""
        # A repair does not help against what Postgres refuses: the step for that is among the others.
        steps += [
            f"{parity}  # shows what differs",
            f"{parity} --repair{others} --dry-run  # then: what would make Postgres equal",
        ]
    elif proof.proof == "not checked":
        steps.append(f"{parity}  # the last comparison could not check all")
    elif proof.proof == "stale":
        steps.append(f"{parity}  # the last comparison is more than a day old")
    elif proof.proof == "never" and report.tables > len(report.refusals) and report.phase in _AT_REST:
        steps.append(f"{parity}  # never compared")
    elif report.others_wrote and report.phase in _AT_REST:
        steps.append(f"{parity}  # shows what others have written")
    return replace(report, parity=proof, next_steps=steps, spool_bytes=spool_bytes(folder))


def _kept(source: Path, settings: Settings, folder: Path) -> tuple[StatusReport, MirrorError | None]:
    """What was saved last of a source; and, if that cannot be read, why."""
    problem: MirrorError
    schema = settings.schema or settings.schemas.get(source) or DEFAULT_SCHEMA
    try:
        schema = schema_of(settings, source)
        return kept_report(source, schema, folder), None
    except MirrorError as error:
        problem = error
    except OSError as error:
        step = "run it as the user that runs the mirror, or let this user read the file"
        place, detail = str(error.filename or folder), error.strerror or str(error)
        problem = StateError("read the saved status", place, detail, next_step=step)
    try:
        return kept_report(source, schema, folder), problem
    except OSError:
        return StatusReport(source=str(source), schema=schema), problem
