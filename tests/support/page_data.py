"""Made-up status of many sources, for looking at the page, and for its tests."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mirror.core.status import (
    AlertsReport,
    AroundReport,
    GapReport,
    Phase,
    ProofReport,
    ReadCount,
    RedisReport,
    RefusalReport,
    StatusReport,
)
from mirror.sidecar.serve.http import Address, Looks, StatusServer
from mirror.sidecar.serve.metrics import Watched

AROUND = AroundReport(
    redis=RedisReport(
        place="redis 127.0.0.1:6380/0",
        seen_at=1.0,
        ping_seconds=0.0002,
        server="Valkey 9.1.2",
        used_bytes=1_630_000,
        max_bytes=256_000_000,
        policy="noeviction",
        append_only=True,
        clients=7,
        agents=3,
    ),
    alerts=AlertsReport(place="https://alerts.example.org", delivered=3),
)


def path_of(number: int) -> str:
    """Of a source."""
    return f"/home/ada/.argentos/agents/agent-{number:03}/memory.db"


def report(number: int, path: str, began: float) -> StatusReport:
    """One of them: every 17th waits, every 11th has rejects, the rest is well."""
    at = time.time()
    chance = random.Random(number)
    given: dict[str, Any] = {
        "phase": Phase.FOLLOWING, "lag_seconds": round(abs(0.02 * chance.gauss(1, 1)), 3),
        "freshness_seconds": 4.2 + number,
        "committed_at": at - 4, "commits": 1000 * number + int(3 * (at - began)), "tables": 32, "profile": "memustore",
        "transactions": 900 * number + int(chance.randrange(5) * (at - began)), "rows": 12_345 * (number + 1),
        "parity": ProofReport(proof="verified", age_seconds=60.0 * number + 30), "agent": f"agent-{number:03}",
        "captured": "3:18211", "applied": "3:18211",
        "reads": [
            ReadCount(store="postgres", reason="fresh", count=18_200 + number),
            ReadCount(store="sqlite", reason="behind", count=120),
        ],
    }  # fmt: skip
    if number % 17 == 3:
        error = "connect to Postgres (host=127.0.0.1 port=5433): connection refused -- start it, or check the address"
        given |= {
            "phase": Phase.WAITING,
            "last_error": error,
            "error": {"code": "postgres"},
            "lag_seconds": 75.0 + number,
        }
        given |= {"next_steps": ["nothing, or repair what the last error names; the mirror goes on by itself"]}
    elif number % 11 == 5:
        step = f"look at the 12 rows that Postgres cannot hold: `mirror rejects list {path}`"
        given |= {"rejects": 12, "next_steps": [step], "gaps": [GapReport(generation=1, reason="r", at="")]}
        given |= {"refusals": [RefusalReport(table="notes", reason="it has more columns than Postgres takes")]}
    return StatusReport(source=path, schema="public", **given)


class MadeUp:
    """A status page of so many sources, on a port of its own."""

    def __init__(self, count: int, folder: Path, path: Callable[[int], str] = path_of) -> None:
        self.count, self._path, began = count, path, time.time()
        looks = Looks(
            lambda: [Watched(report(number, path(number), began), folder) for number in range(count)],
            self._history,
            tuple,
            folder,
            lambda: AROUND,
        )
        self._server = StatusServer(Address("127.0.0.1", 0), looks)
        self.url = self._server.url

    def _history(self) -> dict[str, list[tuple[int, float, int]]]:
        now = int(time.time())
        found = {}
        for number in range(self.count):
            chance = random.Random(number)
            found[self._path(number)] = [
                (now - 300 + at, 0.01 + abs(chance.gauss(0, 0.02)), chance.randrange(40)) for at in range(300) if at % 7
            ]
        return found

    def close(self) -> None:
        """End it."""
        self._server.close()
