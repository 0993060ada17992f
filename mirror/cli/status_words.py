"""What commands say of a source's status to people: pure, from a report to words."""

from __future__ import annotations

import time

from mirror.core.status import (
    GapReport,
    OutageReport,
    Phase,
    ProgressReport,
    StatusReport,
    WideningReport,
    healed,
    moved_text,
)
from mirror.core.words import amount, counted, duration

#: What is waited for, by the beginning of the error's code (:mod:`mirror.core.errors`).
_WAITS_FOR = {"postgres": "Postgres", "source": "the file", "state": "the state directory"}
_DAY = 86400.0


def state(report: StatusReport) -> str:
    """What the mirror does, in two or three words."""
    match report.phase:
        case Phase.SNAPSHOT:
            return _loading(report.progress)
        case Phase.REDIFF:
            return "comparing the file"
        case Phase.WAITING:
            return _waiting(report)
        case Phase.FOLLOWING if report.refusals and len(report.refusals) >= report.tables:
            return "all tables refused"
        case Phase.STOPPED if report.reverse is not None and report.reverse.ended:
            return "moved to Postgres"
        case Phase.STOPPED if report.killed is not None:
            return "killed"
        case Phase.STOPPED if _is_new(report):
            return "never mirrored"
    return report.phase.value


def detail(report: StatusReport) -> str | None:
    """What there is to say besides of what it does, or why it does nothing; None: nothing."""
    match report.phase:
        case Phase.SNAPSHOT if report.progress is not None:
            return _progress(report.progress)
        case Phase.WAITING if report.outage is not None and report.outage.ended_at is None:
            return _long_wait(report, report.outage)
        case Phase.FAILED | Phase.STOPPED if report.reverse is None or not report.reverse.ended:
            return _ended(report)
        case Phase.FOLLOWING if not report.tables:
            return "it has no table yet: its program has made none"
    return None


def _loading(progress: ProgressReport | None) -> str:
    if progress is None:
        return "loading"
    if progress.unit == "bytes":
        return "copying the file"
    return f"loading, table {progress.table} of {progress.tables}" if progress.table and progress.tables else "loading"


def _progress(progress: ProgressReport) -> str:
    if progress.unit == "bytes":
        return f"copying the file: {amount(progress.done)}" + (
            f" of {amount(progress.total)}" if progress.total else ""
        )
    of = " so far" if progress.total is None else f" of {progress.total:,}"
    number = f" (table {progress.table} of {progress.tables})" if progress.table and progress.tables else ""
    return f"loading {progress.what} {progress.done:,}{of}{number}"


def _waiting(report: StatusReport) -> str:
    family = str((report.error or {}).get("code", "")).partition(".")[0]
    return f"waiting for {_WAITS_FOR[family]}" if family in _WAITS_FOR else "waiting"


def _long_wait(report: StatusReport, outage: OutageReport) -> str:
    now = time.time()
    since = f"{duration(now - outage.began_at, whole=True)}, tried {counted(outage.tries, 'time')}"
    told = f"{since}, since {clock(outage.began_at, now)}"
    spooled = report.spool_bytes if report.applied is not None else 0  # else the file is copied, sooner or later
    kept = f"; commits are kept: {amount(spooled)} of spool so far" if spooled else ""
    return f"{_waiting(report)} ({told}){kept}"


def gap(found: GapReport, report: StatusReport) -> str:
    """A gap of a report, and what it has cost."""
    if not healed(found, report):
        return f"gap: {found.reason} ({found.at})"
    rows = [f"{counted(found.rows, 'row')} sent"] if found.rows is not None else []
    took = [duration(found.seconds)] if found.seconds is not None else []
    return f"gap, healed: {found.reason} ({', '.join([found.at, *rows, *took])})"


def widened(report: StatusReport) -> list[str]:
    """The columns that are jsonb because of values that do not fit: since when, and for which."""
    known = {each.column: each for each in report.widenings}
    return [_widened(column, known.get(column)) for column in report.widened]


def _widened(column: str, known: WideningReport | None) -> str:
    if known is None:
        return f"widened: {column} is jsonb, because of values that do not fit its type"
    since = "" if known.since is None else f" since {clock(known.since, time.time())}"
    was = f", and was {known.was}" if known.was else ""
    row = f" in the row {known.key}" if known.key else ""
    first = f" (first {known.kind}{f' {known.value}' if known.value else ''}{row})" if known.kind else ""
    return f"widened: {column} is jsonb{since}{was}{first}"


def _is_new(report: StatusReport) -> bool:
    return report.applied is None and report.stopped_at is None and report.killed is None


def _ended(report: StatusReport) -> str | None:
    if report.killed is not None:
        how = f"killed (its process {report.killed} is gone)"
    elif report.stopped_at is not None:
        how = f"{report.phase.value} {ago(time.time() - report.stopped_at)}"
    elif _is_new(report):
        return None
    else:
        how = "its mirror has ended without a word, or runs where this command cannot see it"
    if report.file_missing:
        return f"{how}; its file is not there"
    if report.unread_bytes is None:
        return how
    since = f"up to {amount(report.unread_bytes)} not read yet" if report.unread_bytes else "nothing written since"
    return f"{how}; {since}"


def gaps(report: StatusReport) -> str:
    """How many gaps there were, and whether all are healed."""
    number = len(report.gaps)
    left = sum(not healed(gap, report) for gap in report.gaps)
    return "0" if not number else f"{number:,}, {f'{left:,} not' if left else 'all'} healed"


def parity(report: StatusReport) -> str:
    """The last comparison, and how long ago it was."""
    last = report.parity
    if last.age_seconds is None:
        return "never compared"
    equal = last.proof == "verified" and last.rows is not None
    found = f"equal, {counted(last.rows or 0, 'row')}" if equal else last.headline or last.proof
    return f"checked {'by itself ' if last.by_itself else ''}{ago(last.age_seconds)}: {found}"


def moved(report: StatusReport) -> list[str]:
    """What there is to say of a source that was moved to Postgres."""
    back = report.reverse
    if back is None:
        return []
    said = [moved_text(report)]
    if back.until is not None and not back.ended:
        until = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(back.until))
        said.append(f"reverse window until {until}: then the way back ends by itself")
    return said


# -- figures ---------------------------------------------------------------------------------------------


def lag(report: StatusReport) -> str:
    """How far it is behind; - where nobody can know, or nothing is there yet that could be behind."""
    return "-" if is_beginning(report) or report.phase is Phase.STOPPED else _known(report.lag_seconds)


def _known(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def last_commit(report: StatusReport) -> str:
    """How old the newest commit is that Postgres has."""
    seconds = report.freshness_seconds
    return "-" if seconds is None or is_beginning(report) else ago(seconds)


def is_beginning(report: StatusReport) -> bool:
    """Whether Postgres has nothing of the source yet, or what it has is being replaced."""
    return report.applied is None or report.phase in (Phase.STARTING, Phase.SNAPSHOT)


def ago(seconds: float) -> str:
    """How long ago something was."""
    return f"{duration(seconds, whole=True)} ago"


def clock(at: float, now: float) -> str:
    """A time of day, here; with the date if that is not today's or last night's."""
    return time.strftime("%H:%M" if now - at < _DAY / 2 else "%Y-%m-%d %H:%M", time.localtime(at))
