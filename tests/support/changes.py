"""A mirror that tells changes, and a follower of them, in tests."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from mirror.core.changes import Change
from mirror.hot.connection import Address
from mirror.hot.facade import HotState
from tests.support.mirrors import MirrorProcess
from tests.support.waiting import LIMIT, until


def tell(mirror: MirrorProcess, redis: Address | None = None, **more: Any) -> MirrorProcess:
    """Have a mirror, which is not started yet, tell changes. ``more``: ``log``, ``keep``."""
    if redis is not None:
        more["redis"] = [redis.host, redis.port, redis.db]
    mirror.environment["MIRROR_CHANGES"] = json.dumps(more)
    return mirror


def published(mirror: MirrorProcess) -> dict[str, Any]:
    """The status of a mirror that has published all that it has applied."""

    def good(status: dict[str, Any]) -> bool:
        redis = status["changes"]["redis"]
        return bool(redis and redis["position"] == status["applied"] and status["applied"] and not redis["error"])

    mirror.wait_applied()
    return dict(mirror.status_when(good))


def followed(hot: HotState, mirror: MirrorProcess, begin: str, end: str) -> list[Change]:
    """What a follower gets after one position, up to another."""
    follower = hot.changes.follow(mirror.sources[0], begin)
    found: list[Change] = []
    until(lambda: found.extend(follower.read(1.0)) or (found and found[-1].lsn == end), seconds=LIMIT)
    return found


def in_chain(changes: list[Change]) -> bool:
    """Whether each change comes right after the one before."""
    return all(after.after == before.lsn for before, after in pairwise(changes))


def numbers(changes: list[Change]) -> list[int]:
    """The keys that were inserted, in the order of the transactions."""
    return [
        key for change in changes for table in change.tables for key in sorted(key for (key,) in table.keys["inserted"])
    ]


def are_all_there(found: list[tuple[int, list[int]]], written: int) -> bool:
    """Whether rows with the numbers from 1 were inserted once each, by entry: how many, and those that it names."""
    named = [number for _, numbers in found for number in sorted(numbers)]
    return sum(count for count, _ in found) == written and named == sorted(set(named)) and named[-1:] <= [written]
