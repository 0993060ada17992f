"""Several programs that use one agent's data, with their mirror, and their histories (see :mod:`.history_process`)."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mirror.storage.adapters import PostgresAdapter, SQLiteAdapter
from tests.support import history_process
from tests.support.history import Event, State, check, figures
from tests.support.history_process import ALL, SHARED, Call, Recorder
from tests.support.memustore import create_dashboard, create_store
from tests.support.mirrors import MirrorProcess
from tests.support.waiting import until

PROGRAM = Path(history_process.__file__)
LIBRARIES = ("apsw", "sqlite3")
#: Items that all sessions change.
SHARED_ITEMS = 8
#: For which reads wait while the test waits for their answers from a store.
PATIENCE_MS = {"postgres": 30_000, "sqlite": 2_000}


class Programs:
    """Programs, their mirror, and their configuration, which a test changes."""

    def __init__(self, folder: Path, dsn: str, number: int, **storage: Any) -> None:
        """``dsn``: of an empty database, for mirror and programs. ``number``: of processes."""
        self.folder, self.dsn, self.number, self.storage = folder, dsn, number, storage
        self.tokens_dsn = dsn
        """For reads at tokens."""
        self.config, self.histories = folder / "mirror.json", folder / "histories"
        self.histories.mkdir()
        create_store(folder / "memory.db").close()
        create_dashboard(folder / "dashboard.db").close()
        self.mirror = MirrorProcess([folder / "memory.db", folder / "dashboard.db"], self.dsn, folder / "state")
        self.mirror.log = folder / "log"
        self.flips: list[tuple[int, str]] = []
        self.processes: list[subprocess.Popen[str]] = []
        self.read_from = "sqlite"
        self.configure()

    def configure(self) -> None:
        """Write it; every other time as an editor does that writes into the file that is there."""
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
        self.configure()

    def begin(self) -> None:
        """Start the mirror, make the items that all share, and start the programs."""
        if not self.mirror.alive:
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
            json.dumps({"storage": {"backend": "postgres", "postgres": {"connectionString": self.tokens_dsn}}})
        )
        for number in range(self.number):
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

    def wait_answered(self, store: str, reason: str = "") -> None:
        """Wait until each program has had an answer from this store, for this reason, to what it asked after now.

        Reads are patient meanwhile: on a busy machine Postgres may always be behind for longer than they usually wait,
        and nothing else is said of them then; programs that wait write less.
        """
        usual = self.storage
        self.storage = usual | {"reads": usual.get("reads", {}) | {"maxWaitMs": PATIENCE_MS[store]}}
        self.configure()
        try:
            self._wait_answered(store, reason)
        finally:
            self.storage = usual
            self.configure()

    def _wait_answered(self, store: str, reason: str) -> None:
        since = time.monotonic_ns()
        paths = [self.histories / f"{number}.jsonl" for number in range(self.number)]
        waiting = {path: path.stat().st_size for path in paths}

        def wanted(event: Event) -> bool:
            return event.begin > since and event.store == store and reason in ("", event.reason)

        def all_were() -> bool:
            for path, at in [*waiting.items()]:
                events, waiting[path] = events_in(path, at)
                if any(map(wanted, events)):
                    del waiting[path]
            return not waiting

        until(all_were, alive=lambda: all(process.poll() is None for process in self.processes))

    def finish(self) -> None:
        """Once each program has read from Postgres again, have all of them end; the reader of tokens last."""
        if self.read_from == "sqlite":
            self.flip()
        self.wait_answered("postgres")
        for process in self.processes[:-1]:
            self._finish_one(process)
        self._finish_one(self.processes[-1])

    def _finish_one(self, process: subprocess.Popen[str]) -> None:
        output, _ = process.communicate(timeout=300)
        assert output == "done\n" and process.returncode == 0

    def events(self) -> list[Event]:
        return [event for path in sorted(self.histories.iterdir()) for event in events_in(path)[0]]

    def final(self) -> dict[str, dict[str, State]]:
        """What both stores have at the end, when the mirror has caught up."""
        found = {}
        for name, kind in (("sqlite", SQLiteAdapter), ("postgres", PostgresAdapter)):
            with kind(self.config) as adapter:
                adapter.init()
                items = adapter.memory.list_items(limit=ALL)
                found[name] = {item.id: history_process.state(item) for item in items}
        return found

    def prove(self) -> list[Event]:
        """When the programs have ended: both stores are equal, and the history is one that may be; it is returned."""
        self.mirror.check()
        events = self.events()
        violations = check(events, self.final())
        self._report(events)
        assert not violations, f"{len(violations)}: {violations[:10]}"
        assert {"postgres", "sqlite"} <= {event.store for event in events}
        assert any(event.at for event in events), "nothing was read at a token"
        return events

    def _report(self, events: list[Event]) -> None:
        """Print what has happened."""
        print(json.dumps(figures(events), indent=1))
        if delays := self._delays(events):
            settings = f"median {statistics.median(delays):.3f} s, longest {max(delays):.3f} s"
            print(f"a setting was in effect: {settings}, {len(delays)} of {len(self.flips) * self.number} times")

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()
        self.mirror.end()

    def _delays(self, events: list[Event]) -> list[float]:
        """Seconds from each change of the configuration until each process had it."""
        found = []
        for number in range(self.number):
            seen = [event for event in events if event.operation == "setting" and event.process == number]
            for at, value in self.flips:
                later = [event.begin for event in seen if event.begin > at and event.arguments == [value]]
                found += [(min(later) - at) / 1e9] if later else []
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def events_in(path: Path, at: int = 0) -> tuple[list[Event], int]:
    """The events of a history from a place on, but for one that is being written, and where they end."""
    with path.open("rb") as file:
        file.seek(at)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    return [Event.of_json(json.loads(line)) for line in whole.splitlines()], at + len(whole)
