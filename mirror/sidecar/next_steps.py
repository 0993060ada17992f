"""What a person can do about a report: commands that can be pasted, and why. Pure."""

from __future__ import annotations

import shlex
from pathlib import Path

from mirror.core.commands import completed
from mirror.core.peer import start_step
from mirror.core.source_settings import proposed_schema
from mirror.core.status import Phase, StatusReport, is_lost, named
from mirror.core.words import counted
from mirror.sidecar.refused import causes, renamings


def next_steps(report: StatusReport, options: str = "", own_schema: str = "") -> list[str]:
    """What the user can do about a report, one step an item.

    ``options``: what a command needs besides the source's name, with a space in front. ``own_schema``: the command that
    gives the source a schema of its own.
    """
    source = _named(report, options)
    steps = []
    if report.phase is Phase.WAITING:
        steps.append("nothing, or repair what the last error names; the mirror goes on by itself")
    if is_lost(report):
        assert report.error is not None
        steps.append(report.error["next_step"])
    elif is_gone(report):
        steps.append(if_moved(Path(report.source), options))
    elif report.phase is Phase.FAILED:
        steps.append(f"put right what the last error names, and start `mirror up {source}`")
    if report.phase is Phase.PAUSED:
        steps.append(f"`mirror resume {source}` goes on")
    if report.phase is Phase.STOPPED and not is_gone(report) and (report.reverse is None or not report.reverse.ended):
        steps.append(start_step(Path(report.source), options))
    steps += refused(report, options, own_schema)
    steps += [f"{note.rule}: {note.next_step}" for note in report.rules if note.next_step]
    for each in report.kept:
        shown = f"`mirror dropped list {shlex.quote(each.kept)}{options}`"
        steps.append(
            f"have {named(each.objects)} use {report.schema}.{each.table}: {shown} says what is for {each.kept}"
        )
    if report.index_error:
        steps.append(f"start the mirror again to build the vector index: {report.index_error}")
    if report.after_copy_error:
        again = f"`mirror adopt {source} --after-copy FILE`"
        said = f"the SQL for after the copy could not be run: {report.after_copy_error}"
        steps.append(
            f"{said}; put it right, {again} again with the other options as before, and start the mirror again"
        )
    if report.discrepancies:
        steps.append(f"hook and WAL disagree: look at mirror.discrepancies, and run `{comparison(report, options)}`")
    if report.read_differences:
        reads = counted(report.read_differences, "read")
        steps.append(f"{reads} of programs answered differently: `mirror differences list {source}`")
    if report.reverse is not None and report.reverse.strays:
        rows = counted(report.reverse.strays, "row was", "rows were")
        found = f"{rows} written to the file, and not to Postgres"
        steps.append(f"{found}: `mirror cutover strays {source}`")
    if report.reverse is not None and report.reverse.rejects and not report.reverse.ended:
        rows = counted(report.reverse.rejects, "row of Postgres is", "rows of Postgres are")
        found = f"{rows} not in the file, which does not take what it cannot hold"
        steps.append(f"{found}: `mirror rejects list {source}`")
    if report.reverse is not None and report.reverse.kept_open:
        steps.append(f"the reverse window has elapsed, and the way back is open still: {report.reverse.kept_open}")
    if report.overwritten:
        steps.append(f"look at rows of others that were replaced: `mirror overwritten list {source}`")
    for told in (report.changes.redis, report.changes.webhook) if report.changes else ():
        if told is not None and told.error:
            steps.append(f"changes are not told: {told.error}")
    if report.rejects:
        steps.append(look_at_rejects(report, options))
    return [completed(step, report.source, options) for step in steps]


def is_gone(report: StatusReport) -> bool:
    """Whether the file of a source that was mirrored is not there any more; not where Postgres is the original."""
    return report.file_missing and report.applied is not None and report.reverse is None


def if_moved(source: Path, options: str) -> str:
    """What to do where the file is not there any more; ``options``: as for :func:`next_steps`."""
    name = shlex.quote(str(source))
    gone = f"if it is gone for good: `mirror remove {name}{options}`"
    return f"if the file was moved: `mirror rename {name} NEW.db{options}`; {gone}"


def refused(report: StatusReport, options: str = "", own_schema: str = "") -> list[str]:
    """The steps for tables that Postgres refuses; as for :func:`next_steps`."""
    steps = []
    taken = [refusal.table for refusal in report.refusals if refusal.own_schema]
    steps += renamings(report.refusals, options)
    if taken:
        proposed = proposed_schema(Path(report.source), report.schema)
        command = own_schema or f"mirror up {_named(report, options)} --schema {proposed}"
        steps.append(f"{command}  # names that are taken: {', '.join(taken)}")
    for cause in causes(report.refusals, report.schema):
        if not cause.own_schema:
            again = f"put that right, and `mirror rejects retry {_named(report, options)}` tries again at once"
            steps.append(f"{cause.named}: {cause.next_step or again}")
    return steps


def look_at_rejects(report: StatusReport, options: str = "") -> str:
    """The step for rows that are rejected; ``options``: as for :func:`next_steps`."""
    rows = counted(report.rejects, "row")
    return f"look at the {rows} that Postgres cannot hold: `mirror rejects list {_named(report, options)}`"


def comparison(report: StatusReport, options: str = "") -> str:
    """The command that compares a source; ``options``: as for :func:`next_steps`."""
    return f"mirror parity {_named(report, options)}"


def _named(report: StatusReport, options: str) -> str:
    return f"{shlex.quote(report.source)}{options}"
