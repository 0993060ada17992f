"""The demo's story: write, mirror, kill, recover, prove."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mirror.cli.output import print_line
from mirror.core.control import ControlClient, wait_for_mirror
from mirror.core.errors import ControlError, MirrorError
from mirror.core.folders import source_folder
from mirror.core.status import StatusReport
from mirror.postgres.embedded import start_embedded

#: Seconds that the program writes at most, if it is never asked to end.
WRITE_SECONDS = 900.0
#: Seconds to watch: a mirror that follows, none, and the new one.
KILL_AFTER, DOWN_FOR, END_AFTER = 5.0, 2.0, 5.0
#: Seconds that anything may take that is waited for, also beside other programs on a slow machine.
PATIENCE = 120.0
_SHOWN = ("memory_items", "category_items", "live_memory_candidates", "memory_categories")


@dataclass
class Outcome:
    """What was claimed, and whether it was seen to be true."""

    claims: list[tuple[str, bool]]

    def add(self, claim: str, holds: bool) -> None:
        """Record a claim."""
        self.claims.append((claim, holds))

    @property
    def all_true(self) -> bool:
        """Whether everything was true."""
        return all(holds for _, holds in self.claims)


class Story:
    """One run in a folder of its own."""

    def __init__(self, folder: Path, console: Console) -> None:
        self._database = folder / "memory.db"
        self._state = folder / "state"
        self._state.mkdir()
        self._source_folder = source_folder(self._state, self._database)
        self._log = open(folder / "sidecar.log", "ab")  # noqa: SIM115 - open as long as the processes run
        self._console = console
        self._dsn = ""
        self._sidecar: subprocess.Popen[bytes] | None = None
        self._events: list[str] = []
        self._begun = time.monotonic()

    def run(self) -> Outcome:
        """Run the story; the outcome says which claims were true. Raises ``MirrorError`` if it cannot be run."""
        outcome = Outcome([])
        writer: subprocess.Popen[bytes] | None = None
        with start_embedded(self._state) as server:
            self._dsn = server.dsn
            self._event(f"embedded Postgres is up: {server.dsn}")
            try:
                writer = self._python("mirror.cli.demo.writer", str(self._database), str(WRITE_SECONDS))
                self._event(f"a separate program writes {self._database.name} with plain sqlite3 (pid {writer.pid})")
                self._wait_until(self._database.exists, "the writer to create its database")
                self._kill_and_recover(outcome, writer)
            finally:
                for process in (self._sidecar, writer):
                    if process is not None and process.poll() is None:
                        process.terminate()
                        process.wait(PATIENCE)
                self._log.close()
        return outcome

    def _kill_and_recover(self, outcome: Outcome, writer: subprocess.Popen[bytes]) -> None:
        with Live(console=self._console, refresh_per_second=8, transient=True) as live:
            self._start_sidecar()
            self._past(None, live)  # before the first copy is complete there is no position to go on from
            self._watch(live, KILL_AFTER)
            before = self._status()
            os.kill(self._sidecar_pid, signal.SIGKILL)
            self._process.wait()
            outcome.add("the sidecar was killed with -9 while the program was writing", writer.poll() is None)
            self._event(f"kill -9 of the sidecar (pid {self._sidecar_pid}) at position {before.applied}")
            self._watch(live, DOWN_FOR)
            restarted = time.monotonic()
            self._start_sidecar()
            first = self._past(before.applied, live)
            self._event(
                f"a new sidecar went on after {time.monotonic() - restarted:.1f} s from where Postgres was:"
                f" {before.applied} → {first.applied}"
            )
            outcome.add("it went on from the old position, without copying the source again", not first.resyncs)
            self._watch(live, END_AFTER)
        writer.terminate()
        written = json.loads(writer.communicate(timeout=PATIENCE)[0])
        self._event(f"the program made {written['calls']:,} calls and ended")
        with ControlClient(self._source_folder) as client:
            outcome.add("everything committed is in Postgres", client.wait(PATIENCE))
            last = client.status()
        for gap in last.gaps:
            self._event(f"while no mirror ran: {gap.reason}; all pages were compared, and what differed was sent")
        counts = self._counts(list(written["rows"]))
        same = all(counts.get(table) == rows for table, rows in written["rows"].items() if "_fts" not in table)
        outcome.add("each table has as many rows as the program says", same)
        found, elsewhere = self._search()
        for line in found:
            self._event(f"  {line}")
        outcome.add("a hybrid query (vector and text) as the agent's role finds its memories", bool(found))
        outcome.add("row security: the same query as nobody, and as another agent, finds nothing", not elsewhere)
        verdict = self._parity()
        outcome.add(f"parity: {verdict['rows']:,} rows, every value equal", verdict["verdict"] == "equal")
        self._process.terminate()
        outcome.add("the sidecar stopped cleanly", self._process.wait(PATIENCE) == 0)

    # -- the sidecar -------------------------------------------------------------------------------

    @property
    def _process(self) -> subprocess.Popen[bytes]:
        assert self._sidecar is not None
        return self._sidecar

    @property
    def _sidecar_pid(self) -> int:
        return self._process.pid

    def _python(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )

    def _start_sidecar(self) -> None:
        self._sidecar = subprocess.Popen(
            [sys.executable, "-P", "-m", "mirror", "up", str(self._database), *self._where()],
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
        )
        wait_for_mirror(self._source_folder, PATIENCE, lambda: self._process.poll() is None).close()
        self._event(f"mirror up (pid {self._sidecar.pid})")

    def _where(self) -> list[str]:
        return ["--state-dir", str(self._state), "--postgres", self._dsn]

    def _status(self) -> StatusReport:
        with ControlClient(self._source_folder) as client:
            return client.status()

    def _past(self, position: str | None, live: Live) -> StatusReport:
        """The status once Postgres has a position that is not this one, shown until then.

        Not once it has everything: beside a writer without pauses a busy machine may never get there.
        """
        seen: list[StatusReport] = []

        def went_on() -> bool:
            if self._process.poll() is not None:
                raise MirrorError("run the demo", detail=f"the sidecar ended with code {self._process.returncode}")
            with contextlib.suppress(ControlError):  # it may take long to answer
                seen.append(self._status())
            return bool(seen) and seen[-1].applied not in (None, position)

        self._watch(live, PATIENCE, until=went_on)
        if not went_on():
            raise MirrorError("run the demo", detail="gave up waiting for the sidecar to go on")
        return seen[-1]

    def _wait_until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            if time.monotonic() > deadline:
                raise MirrorError("run the demo", detail=f"gave up waiting for {what}")
            time.sleep(0.02)

    def _search(self) -> tuple[list[str], list[str]]:
        """What a search by words and meaning finds as the store's own agent, and as others: two lists of lines."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            near = connection.execute(
                "SELECT embedding::text FROM memory_items WHERE embedding IS NOT NULL ORDER BY created_at DESC LIMIT 1"
            ).fetchone()
            connection.execute("SET ROLE argent_app")
            self._event("SET ROLE argent_app; SELECT * FROM search_memories('deploy OR vector', <768 numbers>, 3)")
            found: dict[str, list[str]] = {}
            for agent in ("", "another agent", "argent"):
                connection.execute("SELECT set_config('app.agent_id', %s, false)", (agent,))
                rows = connection.execute(
                    "SELECT score, summary FROM search_memories('deploy OR vector', %s::vector, 3)", near
                )
                found[agent] = [f"{score:.4f}  {summary[:60]}" for score, summary in rows]
        return found["argent"], found[""] + found["another agent"]

    def _parity(self) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "mirror", "parity", str(self._database), "--json", *self._where()],
            stdout=subprocess.PIPE,
            check=False,
        )
        if not done.stdout:
            raise MirrorError("run the demo", detail="parity gave no report")
        report: dict[str, Any] = json.loads(done.stdout)["reports"][0]
        return report

    # -- showing -----------------------------------------------------------------------------------

    def _event(self, text: str) -> None:
        self._events.append(text)
        print_line(self._console, Text(f"{time.monotonic() - self._begun:5.1f} s", "dim"), f"  {text}")

    def _watch(self, live: Live, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            live.update(self._table())
            time.sleep(0.1)

    def _table(self) -> Table:
        table = Table("in Postgres", *_SHOWN, "position", "lag")
        counts = self._counts(_SHOWN)
        try:
            status = self._status()
        except ControlError:
            position, lag = "sidecar is down", "-"
        else:
            lag = "?" if status.lag_seconds is None else f"{status.lag_seconds * 1000:.0f} ms"
            position = status.applied or "-"
        table.add_row("rows", *(f"{counts.get(name, 0):,}" for name in _SHOWN), position, lag)
        return table

    def _counts(self, tables: Any) -> dict[str, int]:
        counts: dict[str, int] = {}
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            for table in tables:
                found = connection.execute("SELECT to_regclass(%s)", (f'public."{table}"',)).fetchone()
                if found is not None and found[0] is not None:
                    row = connection.execute(SQL("SELECT count(*) FROM {}").format(Identifier(table))).fetchone()
                    counts[table] = int(row[0]) if row else 0
        return counts
