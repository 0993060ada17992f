"""What ``/healthz`` and ``/readyz`` answer: named checks. Pure.

Healthy is a process whose loops turn: a supervisor of services restarts one that is not. Ready is one whose sources are
where they should be: programs may rely on Postgres. Nothing is checked for these answers; they come from the status.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from mirror.core.commands import command
from mirror.core.status import Phase, RedisReport, StatusReport, is_lost
from mirror.core.words import counted
from mirror.sidecar.next_steps import comparison, refused
from mirror.sidecar.serve.metrics import LEAST_FREE_BYTES

State = Literal["ok", "degraded", "failed"]
#: Phases in which a source is where it should be.
_AT_WORK = frozenset((Phase.FOLLOWING, Phase.REVERSE, Phase.REDIFF))
#: In which it is where somebody wants it to be, though programs see in Postgres what was there then.
_WANTED = frozenset((Phase.PAUSED,))
#: Errors of the mirror that are Postgres' (:mod:`mirror.core.errors`).
_OF_POSTGRES = "postgres"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check."""

    name: str
    state: State
    source: str | None = None
    detail: str = ""
    next_step: str = ""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON of both answers."""

    version: int = 1
    state: State
    """The worst of the checks."""
    checks: list[Check]

    @property
    def code(self) -> int:
        """HTTP status: what is degraded is in service."""
        return 503 if self.state == "failed" else 200


def healthy(stalled: Iterable[str]) -> Health:
    """``stalled``: sources whose loop does not turn."""
    checks = [
        Check(name="loop", state="failed", source=source, detail="it does not turn", next_step="restart the mirror")
        for source in stalled
    ]
    return _all(checks or [Check(name="loop", state="ok")])


def ready(
    reports: Iterable[StatusReport],
    stalled: Iterable[str],
    free_bytes: int | None,
    redis: RedisReport | None = None,
    options: str = "",
) -> Health:
    """``free_bytes``: of the state directory; None: not known. ``redis``: None: not configured.

    ``options``: what a command needs besides a source's name, with a space in front.
    """
    checks, reports = [*healthy(stalled).checks], [*reports]
    for problem in dict.fromkeys(report.configuration for report in reports if report.configuration):
        step = "put it right; until then what runs goes on with what it said before"
        checks.append(Check(name="configuration", state="degraded", detail=problem, next_step=step))
    for report in reports:
        checks += [_at_work(report), _postgres(report), _complete(report, options), *_changes(report)]
    if free_bytes is None or free_bytes >= LEAST_FREE_BYTES:
        checks.append(Check(name="disk", state="ok"))
    else:
        detail = f"{free_bytes:,} bytes are free in the state directory"
        checks.append(Check(name="disk", state="failed", detail=detail, next_step="make room there"))
    return _all(checks if redis is None else [*checks, _redis(redis)])


def _at_work(report: StatusReport) -> Check:
    ended = report.reverse is not None and report.reverse.ended
    if (report.phase in _AT_WORK and not is_lost(report)) or ended:
        return Check(name="following", state="ok", source=report.source, detail=report.phase)
    step = report.next_steps[0] if report.next_steps else ""
    if report.phase in _WANTED:
        return Check(name="following", state="degraded", source=report.source, detail=report.phase, next_step=step)
    detail = f"{report.phase}: {report.last_error}" if report.last_error else str(report.phase)
    if report.killed is not None:
        detail = f"killed: its process {report.killed} is gone"
    return Check(name="following", state="failed", source=report.source, detail=detail, next_step=step)


def _postgres(report: StatusReport) -> Check:
    if report.error is not None and str(report.error.get("code", "")).split(".")[0] == _OF_POSTGRES:
        return Check(name="postgres", state="failed", source=report.source, detail=report.last_error or "")
    return Check(name="postgres", state="ok", source=report.source)


def _complete(report: StatusReport, options: str) -> Check:
    """Whether all rows are in Postgres: what is missing is known, and the rest in service."""
    missing = []
    if report.rejects:
        rows = counted(report.rejects, "row")
        shows = f"`{command('rejects list', report.source, options)}`"
        missing.append((f"{rows} that Postgres cannot hold", shows))
    if report.refusals:
        tables = counted(len(report.refusals), "table")
        missing.append((f"{tables} that Postgres refuses", "; ".join(refused(report, options))))
    if report.reverse is not None and not report.reverse.ended:
        if report.reverse.rejects:
            rows = counted(report.reverse.rejects, "row")
            missing.append(
                (
                    f"{rows} of Postgres that the file cannot hold",
                    f"`{command('rejects list', report.source, options)}`",
                )
            )
        if report.reverse.strays:
            rows = counted(report.reverse.strays, "row")
            missing.append(
                (
                    f"{rows} of the file that Postgres does not have",
                    f"`{command('cutover strays', report.source, options)}`",
                )
            )
    if report.parity.proof == "different":
        missing.append((f"comparison: {report.parity.headline}", f"`{comparison(report, options)}`"))
    return Check(
        name="complete",
        state="degraded" if missing else "ok",
        source=report.source,
        detail="; ".join(detail for detail, _ in missing),
        next_step="; ".join(step for _, step in missing),
    )


def _redis(report: RedisReport) -> Check:
    """Degraded at worst: the mirror needs none, and programs that do notice it themselves."""
    trouble = report.error or (f"it cannot write {report.write_error}" if report.write_error else "")
    step = report.next_step if trouble else ""
    return Check(name="redis", state="degraded" if trouble else "ok", detail=trouble or report.place, next_step=step)


def _changes(report: StatusReport) -> list[Check]:
    """Whether changes are told, if they are to be: Postgres is right without that."""
    if report.changes is None:
        return []
    told = {"Redis": report.changes.redis, "the webhook": report.changes.webhook}
    detail = "; ".join(f"{place}: {each.error}" for place, each in told.items() if each is not None and each.error)
    return [Check(name="changes", state="degraded" if detail else "ok", source=report.source, detail=detail)]


def _all(checks: list[Check]) -> Health:
    states = {check.state for check in checks}
    worst: State = "failed" if "failed" in states else "degraded" if "degraded" in states else "ok"
    return Health(state=worst, checks=checks)
