"""Programs read and write through the storage adapters while all around them changes: no read of the past, no lost
write, no error.

Each writes down what it asked, when, and what it was answered (:mod:`tests.support.history_process`); a checker
(:mod:`tests.support.history`) looks at all of it together.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mirror.storage.adapters import PostgresAdapter, SQLiteAdapter
from tests.support import history_process
from tests.support.history import Event, State, check, figures
from tests.support.history_process import ALL, SHARED, Call, Recorder
from tests.support.memustore import create_dashboard, create_store
from tests.support.mirrors import MirrorProcess
from tests.support.postgres import PostgresServer
from tests.support.waiting import until

PROGRAM = Path(history_process.__file__)
LIBRARIES = ("apsw", "sqlite3")
#: Items that all sessions change.
SHARED_ITEMS = 8
#: Seconds for which the mirror is away after it was killed.
AWAY = 1.0


class Plan(NamedTuple):
    """What is done to programs, in how long."""

    seconds: float
    processes: int
    flips: int
    kills: int
    restarts: int = 1

    def steps(self) -> list[tuple[float, str]]:
        """When to do what, in seconds from the beginning."""

        def times(number: int, shift: float) -> list[float]:
            return [self.seconds * (at + shift) / number for at in range(number)]

        return sorted(
            [(at, "flip") for at in times(self.flips, 0.1)]
            + [(at, "kill") for at in times(self.kills, 0.35)]
            + [(at + AWAY, "start") for at in times(self.kills, 0.35)]
            + [(at, "restart") for at in times(self.restarts, 0.62)]
        )


SHORT = Plan(seconds=10, processes=4, flips=4, kills=2)
FULL = Plan(seconds=60, processes=8, flips=20, kills=5)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A Postgres of the test's own, to restart."""
    server = PostgresServer(own=True)
    yield server
    server.stop()


class Run:
    """Programs, their mirror, their configuration, and what is done to them."""

    def __init__(self, folder: Path, server: PostgresServer, plan: Plan, storage: dict[str, Any]) -> None:
        self.folder, self.server, self.plan, self.storage = folder, server, plan, storage
        self.dsn = server.create_database()
        self.config, self.histories = folder / "mirror.json", folder / "histories"
        self.histories.mkdir()
        create_store(folder / "memory.db").close()
        create_dashboard(folder / "dashboard.db").close()
        self.mirror = MirrorProcess([folder / "memory.db", folder / "dashboard.db"], self.dsn, folder / "state")
        self.mirror.log = folder / "log"
        self.flips: list[tuple[int, str]] = []
        self.processes: list[subprocess.Popen[str]] = []
        self.read_from = "sqlite"
        self._write_config()

    def _write_config(self) -> None:
        """Every other time as an editor does that writes into the file that is there."""
        named = {"backend": "dual", "readFrom": self.read_from, "postgres": {"connectionString": self.dsn}}
        value = {
            "sources": ["memory.db", "dashboard.db"],
            "stateDir": str(self.folder / "state"),
            "storage": self.storage | named,
        }
        if len(self.flips) % 2:
            self.config.write_text(json.dumps(value))
        else:
            aside = self.config.with_suffix(".new")
            aside.write_text(json.dumps(value))
            aside.replace(self.config)

    def flip(self) -> None:
        self.read_from = "postgres" if self.read_from == "sqlite" else "sqlite"
        self.flips.append((time.monotonic_ns(), self.read_from))
        self._write_config()

    def begin(self) -> None:
        """Start the mirror, make the items that all share, and start the programs."""
        self.mirror.start()
        self.mirror.wait_applied()
        record = Recorder(self.histories / "99.jsonl", 99)
        with SQLiteAdapter(self.config) as adapter:
            for number in range(SHARED_ITEMS):
                arguments = {"memory_type": SHARED, "summary": f"shared{number} 0"}
                begin = time.monotonic_ns()
                made = adapter.memory.create_item(**arguments)
                record.call("first", Call("create_item", arguments), begin, made, None)
        away = self.folder / "away"
        away.mkdir()
        elsewhere = away / "mirror.json"
        elsewhere.write_text(
            json.dumps({"storage": {"backend": "postgres", "postgres": {"connectionString": self.dsn}}})
        )
        for number in range(self.plan.processes):
            self._launch(str(self.config), str(number), LIBRARIES[number % 2])
        self._launch(str(elsewhere), "tokens")
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def _launch(self, config: str, *arguments: str) -> None:
        command = [sys.executable, str(PROGRAM), config, str(self.histories), *arguments]
        self.processes.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=self.folder)
        )

    def disturb(self) -> None:
        """Do what the plan says, when it says it."""
        began = time.monotonic()
        for at, step in self.plan.steps():
            time.sleep(max(0.0, began + at - time.monotonic()))
            match step:
                case "flip":
                    self.flip()
                case "kill":
                    self.mirror.kill()
                case "start":
                    self.mirror.start(wait=False)
                case "restart":
                    self.server.restart()
        time.sleep(max(0.0, began + self.plan.seconds - time.monotonic()))

    def end(self) -> None:
        """Once each program has read from Postgres again, have all of them end; the reader of tokens last."""
        if self.read_from == "sqlite":
            self.flip()
        since = time.monotonic_ns()
        waiting = set(range(self.plan.processes))

        def all_read() -> bool:
            for number in [*waiting]:
                path = self.histories / f"{number}.jsonl"
                if any(event.begin > since and event.store == "postgres" for event in events_in(path)):
                    waiting.discard(number)
            return not waiting

        until(all_read, alive=lambda: all(process.poll() is None for process in self.processes))
        for process in self.processes[:-1]:
            self._finish(process)
        self._finish(self.processes[-1])

    def _finish(self, process: subprocess.Popen[str]) -> None:
        output, _ = process.communicate(timeout=300)
        assert output == "done\n" and process.returncode == 0

    def events(self) -> list[Event]:
        return [event for path in sorted(self.histories.iterdir()) for event in events_in(path)]

    def final(self) -> dict[str, dict[str, State]]:
        """What both stores have at the end, when the mirror has caught up."""
        found = {}
        for name, kind in (("sqlite", SQLiteAdapter), ("postgres", PostgresAdapter)):
            with kind(self.config) as adapter:
                adapter.init()
                items = adapter.memory.list_items(limit=ALL)
                found[name] = {item.id: history_process.state(item) for item in items}
        return found

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()
        self.mirror.end()

    def delays(self, events: list[Event]) -> list[float]:
        """Seconds from each change of the configuration until each process had it."""
        found = []
        for number in range(self.plan.processes):
            seen = [event for event in events if event.operation == "setting" and event.process == number]
            for at, value in self.flips:
                later = [event.begin for event in seen if event.begin > at and event.arguments == [value]]
                found += [(min(later) - at) / 1e9] if later else []
        return found


def events_in(path: Path) -> list[Event]:
    """The events of a history, but for one that is being written."""
    lines = path.read_bytes().split(b"\n")[:-1]
    return [Event.of_json(json.loads(line)) for line in lines]


def prove(folder: Path, server: PostgresServer, plan: Plan, **storage: Any) -> None:
    run = Run(folder, server, plan, storage)
    try:
        run.begin()
        run.disturb()
        run.end()
        run.mirror.check()
        events = run.events()
        violations = check(events, run.final())
        report(run, events)
        assert not violations, f"{len(violations)}: {violations[:10]}"
        assert {"postgres", "sqlite"} <= {event.store for event in events}
        assert any(event.at for event in events), "nothing was read at a token"
    finally:
        run.close()


def report(run: Run, events: list[Event]) -> None:
    """Print what has happened."""
    delays = run.delays(events)
    settings = f"{len(delays)} times, median {statistics.median(delays):.3f} s, longest {max(delays):.3f} s"
    print(json.dumps(figures(events), indent=1))
    print(f"a setting was in effect: {settings}, of {len(run.flips) * run.plan.processes}")


def test_while_everything_changes(folder: Path, server: PostgresServer) -> None:
    prove(folder, server, SHORT, reads={"maxWaitMs": 200})


@pytest.mark.slow
def test_for_a_minute_while_everything_changes(folder: Path, server: PostgresServer) -> None:
    prove(folder, server, FULL)
