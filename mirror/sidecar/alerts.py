"""What is worth telling somebody, and what has been told: pure.

A *condition* is a kind of trouble of a source, or of the whole process. It is told once when it has lasted for some
time, and once when it has been over for that time. What is to be told is always the difference between what holds and
what was told. So nothing queues up while a webhook is away: what begins and ends meanwhile is not told at all, and one
message has all that is new, by kind, however many sources there are.

==============  ======================================================================================================
``lag``         the oldest commit that Postgres lacks is too old
``rejects``     rows that Postgres cannot hold, or tables that it refuses
``stopped``     the source is not followed: the mirror of it has failed, or waits for something other than Postgres
``stalled``     its loop does not turn
``postgres``    Postgres is away, or does not do what it should
``parity``      the last comparison found differences, or is too old
``disk``        too little room in the state directory
``redis``       the configured Redis is away, or cannot write its files
==============  ======================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from mirror.core.config.alert_settings import AlertSettings
from mirror.core.status import Phase, RedisReport, StatusReport, is_lost
from mirror.core.words import counted

#: Sources that a message names of each kind; it counts all.
MOST_NAMED = 20
#: Characters of a detail, and of the text.
_MOST_DETAIL, _MOST_TEXT = 500, 2000
_OF_POSTGRES = "postgres"
_NO_REASON = "no reason is known"


class Condition(NamedTuple):
    """A kind of trouble, and the source's path; empty: of the whole process."""

    kind: str
    source: str = ""


class Change(NamedTuple):
    """The beginning or the end of a condition."""

    condition: Condition
    began: bool
    since: float
    """Unix time."""
    detail: str
    """What there is to know of a beginning; empty for an end."""


#: What holds, with what there is to know of it; None: it is not known whether it does.
Found = Mapping[Condition, str | None]


def conditions(
    reports: Iterable[StatusReport],
    stalled: Iterable[str],
    free_bytes: int | None,
    redis: RedisReport | None,
    settings: AlertSettings,
) -> Found:
    """What holds now. ``stalled``: names of sources. ``free_bytes``: of the state directory; None: not known."""
    found: dict[Condition, str | None] = {Condition("stalled", name): "its loop does not turn" for name in stalled}
    for report in reports:
        for kind, detail in (
            ("lag", _lag(report, settings)),
            ("rejects", _rejects(report, settings)),
            ("stopped", _stopped(report)),
            ("postgres", (report.last_error or _NO_REASON) if _is_of_postgres(report) else ""),
            ("parity", _parity(report, settings)),
        ):
            if detail != "":
                found[Condition(kind, report.source)] = detail
    if free_bytes is None:
        found[Condition("disk")] = None
    elif free_bytes < settings.free_bytes:
        found[Condition("disk")] = f"{free_bytes:,} bytes are free in the state directory"
    if redis is not None and redis.error is not None:
        found[Condition("redis")] = f"{redis.place} does not answer: {redis.error}"
    elif redis is not None and redis.write_error is not None:
        found[Condition("redis")] = f"{redis.place} cannot write {redis.write_error}"
    return found


def _lag(report: StatusReport, settings: AlertSettings) -> str | None:
    if report.reverse is not None:
        return ""  # nothing of it waits for Postgres
    if report.lag_seconds is None:
        return None
    return f"{report.lag_seconds:,.0f} s behind" if report.lag_seconds > settings.lag_seconds else ""


def _rejects(report: StatusReport, settings: AlertSettings) -> str:
    rows = report.rejects + (0 if report.reverse is None or report.reverse.ended else report.reverse.rejects)
    parts = [counted(rows, "rejected row")] if rows > settings.rejects else []
    return " and ".join(parts + ([counted(len(report.refusals), "refused table")] if report.refusals else []))


def _stopped(report: StatusReport) -> str:
    if report.reverse is not None and report.reverse.ended:
        return ""
    # One that is stopped by hand is not looked at: its process is gone, or it is another's.
    wrong = is_lost(report) or report.phase in (Phase.FAILED, Phase.SILENT)
    if wrong or (report.phase is Phase.WAITING and report.error is not None and not _is_of_postgres(report)):
        return f"{report.phase}: {report.last_error or _NO_REASON}"
    return ""


def _is_of_postgres(report: StatusReport) -> bool:
    of_postgres = report.error is not None and str(report.error.get("code", "")).split(".")[0] == _OF_POSTGRES
    return of_postgres and report.phase is Phase.WAITING and not is_lost(report)


def _parity(report: StatusReport, settings: AlertSettings) -> str:
    if report.reverse is not None:
        return ""  # Postgres is the original
    if report.parity.proof == "different":
        return report.parity.headline or report.parity.proof
    age = report.parity.age_seconds
    return f"compared {age / 3600:.0f} hours ago" if age is not None and age > settings.parity_hours * 3600 else ""


class Watch:
    """Which conditions have been told, and since when others hold. Thread: one."""

    def __init__(self, hold_seconds: float, told: Iterable[Condition] = ()) -> None:
        """``told``: those whose beginning was told before."""
        self.told = set(told)
        self._hold_seconds = hold_seconds
        self._since: dict[Condition, float] = {}
        """Since when it is other than it was told."""
        self._details: dict[Condition, str] = {}

    def look(self, found: Found, now: float) -> list[Change]:
        """What is to be told now, in order. ``now``: Unix time, as of all calls."""
        other = {each for each, detail in found.items() if detail is not None and each not in self.told}
        other |= self.told - found.keys()
        # What is not known stays as it was.
        unknown = {each for each, detail in found.items() if detail is None}
        self._since = {each: self._since.get(each, now) for each in other | (unknown & self._since.keys() - self.told)}
        self._details.update((each, detail) for each, detail in found.items() if detail is not None)
        self._details = {each: self._details.get(each, "") for each in self._since}
        due = [each for each, since in self._since.items() if each in other and now - since >= self._hold_seconds]
        return [
            Change(each, each not in self.told, self._since[each], "" if each in self.told else self._details[each])
            for each in sorted(due)
        ]

    def was_told(self, changes: Iterable[Change]) -> None:
        """These were delivered."""
        for change in changes:
            (self.told.add if change.began else self.told.discard)(change.condition)
            self._since.pop(change.condition, None)


def message(changes: list[Change], told: Iterable[Condition], host: str, now: float) -> dict[str, Any]:
    """What is sent, as JSON values.

    ``{"version": 1, "host", "at", "text", "changes": [{"kind", "state": "began" or "ended", "count", "sources",
    "since", "detail"}], "holding"}``: ``text`` is all of it for people, where chat programs look for it; ``changes`` is
    by kind, with at most :data:`MOST_NAMED` sources each and the detail of the first; ``holding`` counts the conditions
    that hold then. Times are ISO 8601.
    """
    groups: dict[tuple[bool, str], list[Change]] = {}
    for change in changes:
        groups.setdefault((not change.began, change.condition.kind), []).append(change)
    after = {*told} | {change.condition for change in changes if change.began}
    after -= {change.condition for change in changes if not change.began}
    return {
        "version": 1,
        "host": host,
        "at": _time(now),
        "text": f"mirror on {host}: {'; '.join(_line(kind, group) for (_, kind), group in sorted(groups.items()))}"[
            :_MOST_TEXT
        ],
        "changes": [
            {
                "kind": kind,
                "state": "ended" if ended else "began",
                "count": len(group),
                "sources": [change.condition.source for change in group if change.condition.source][:MOST_NAMED],
                "since": _time(min(change.since for change in group)),
                "detail": group[0].detail[:_MOST_DETAIL],
            }
            for (ended, kind), group in sorted(groups.items())
        ],
        "holding": len(after),
    }


def _line(kind: str, group: list[Change]) -> str:
    names = [Path(change.condition.source).name for change in group if change.condition.source]
    who = "" if not names else names[0] if len(names) == 1 else f"{len(names)} sources ({names[0]}, …)"
    what = f"{kind} is over" if not group[0].began else kind
    parts = [what + (f" of {who}" if who else ""), group[0].detail[:_MOST_DETAIL]]
    return ": ".join(filter(None, parts))


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
