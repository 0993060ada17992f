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
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier
from rich.console import Console

from mirror.cli.demo.screen import Screen, doing
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
#: Seconds between two looks at what is shown.
LOOK_SECONDS = 0.2
#: What is in the demo's folder besides the database: the mirror's own files, Postgres' among them, and its log.
STATE, LOG = "state", "mirror.log"
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
        self._state = folder / STATE
        self._state.mkdir()
        self._source_folder = source_folder(self._state, self._database)
        self._log = open(folder / LOG, "ab")  # noqa: SIM115 - open as long as the processes run
        self._screen = Screen(console)
        self._dsn = ""
        self._mirror: subprocess.Popen[bytes] | None = None

    def run(self) -> Outcome:
        """Run the story; the outcome says which claims were true. Raises ``MirrorError`` if it cannot be run."""
        outcome = Outcome([])
        writer: subprocess.Popen[bytes] | None = None
        with self._screen as screen, ExitStack() as stack:
            with screen.waiting_for("making a Postgres"):
                self._dsn = stack.enter_context(start_embedded(self._state)).dsn
            screen.event("a Postgres of its own runs")
            try:
                writer = self._python("mirror.cli.demo.writer", str(self._database), str(WRITE_SECONDS))
                screen.event(f"a separate program writes {self._database.name} with plain sqlite3 (pid {writer.pid})")
                self._wait_until(self._database.exists, "the program to create its database")
                self._kill_and_recover(outcome, writer)
            finally:
                for process in (self._mirror, writer):
                    if process is not None and process.poll() is None:
                        process.terminate()
                        process.wait(PATIENCE)
                self._log.close()
        return outcome

    def _kill_and_recover(self, outcome: Outcome, writer: subprocess.Popen[bytes]) -> None:
        screen = self._screen
        self._start_mirror()
        with screen.waiting_for("copying what is there, while the program writes on"):
            self._past(None)  # before the first copy is complete there is no position to go on from
        with screen.waiting_for("the mirror follows; soon it is killed"):
            self._watch(KILL_AFTER)
        before = self._status()
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        outcome.add("the mirror was killed with -9 while the program was writing", writer.poll() is None)
        screen.event(f"kill -9: the mirror (pid {self._process.pid}) is gone, in the midst of its work")
        with screen.waiting_for("no mirror runs, and the program writes on"):
            self._watch(DOWN_FOR)
        restarted = time.monotonic()
        self._start_mirror()
        with screen.waiting_for("reading what happened meanwhile"):
            first = self._past(before.applied)
        screen.event(f"it went on from where Postgres was, after {time.monotonic() - restarted:.1f} s")
        outcome.add("it went on from the old position, without copying the source again", not first.resyncs)
        with screen.waiting_for("the mirror follows; soon the program ends"):
            self._watch(END_AFTER)
        with screen.waiting_for("the program ends"):
            writer.terminate()
            written = json.loads(writer.communicate(timeout=PATIENCE)[0])
        screen.event(f"the program made {written['calls']:,} calls and ended")
        with screen.waiting_for("the rest goes to Postgres"), ControlClient(self._source_folder) as client:
            outcome.add("everything committed is in Postgres", client.wait(PATIENCE))
            last = client.status()
        screen.clear()
        if last.gaps:
            screen.event(
                "while the mirror was down SQLite recycled its log, so the mirror compared",
                "the whole file with its copy and sent what differed. Nothing was lost",
            )
        counts = self._counts(list(written["rows"]))
        same = all(counts.get(table) == rows for table, rows in written["rows"].items() if "_fts" not in table)
        outcome.add("each table has as many rows as the program says", same)
        found, elsewhere = self._search()
        screen.event("SET ROLE argent_app; a search by words and by meaning, the best three:", *found)
        outcome.add("a hybrid query (vector and text) as the agent's role finds its memories", bool(found))
        outcome.add("row security: the same query as nobody, and as another agent, finds nothing", not elsewhere)
        with screen.waiting_for("comparing every value of every row"):
            verdict = self._parity()
        outcome.add(f"parity: {verdict['rows']:,} rows, every value equal", verdict["verdict"] == "equal")
        self._process.terminate()
        outcome.add("the mirror stopped cleanly", self._process.wait(PATIENCE) == 0)

    # -- the mirror --------------------------------------------------------------------------------

    @property
    def _process(self) -> subprocess.Popen[bytes]:
        assert self._mirror is not None
        return self._mirror

    def _python(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )

    def _start_mirror(self) -> None:
        self._mirror = subprocess.Popen(
            [sys.executable, "-P", "-m", "mirror", "up", str(self._database), *self._where()],
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
        )
        with self._screen.waiting_for("the mirror starts"):
            wait_for_mirror(self._source_folder, PATIENCE, lambda: self._process.poll() is None).close()
        self._screen.event(f"mirror up (pid {self._process.pid})")

    def _where(self) -> list[str]:
        return ["--state-dir", str(self._state), "--postgres", self._dsn]

    def _status(self) -> StatusReport:
        with ControlClient(self._source_folder) as client:
            return client.status()

    def _past(self, position: str | None) -> StatusReport:
        """The status once Postgres has a position that is not this one, shown until then.

        Not once it has everything: beside a writer without pauses a busy machine may never get there.
        """
        seen: list[StatusReport] = []

        def went_on() -> bool:
            if self._process.poll() is not None:
                raise MirrorError("run the demo", detail=f"the mirror has ended: {self._last_words()}")
            with contextlib.suppress(ControlError):  # it may take long to answer
                seen.append(self._status())
            return bool(seen) and seen[-1].applied not in (None, position)

        self._watch(PATIENCE, until=went_on)
        if not went_on():
            raise MirrorError("run the demo", detail="gave up waiting for the mirror to go on")
        return seen[-1]

    def _last_words(self) -> str:
        lines = (self._state.parent / LOG).read_text(errors="replace").splitlines()
        return lines[-1] if lines else f"exit code {self._process.returncode}"

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
            capture_output=True,
            check=False,
        )
        if not done.stdout:
            raise MirrorError("run the demo", detail=f"parity gave no report: {done.stderr.decode().strip()}")
        report: dict[str, Any] = json.loads(done.stdout)["reports"][0]
        return report

    # -- showing -----------------------------------------------------------------------------------

    def _watch(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            counts = self._counts(_SHOWN)
            self._screen.show({name: counts.get(name, 0) for name in _SHOWN}, self._doing())
            time.sleep(LOOK_SECONDS)

    def _doing(self) -> str:
        if self._process.poll() is not None:
            return "killed: no mirror runs"
        try:
            return doing(self._status())
        except ControlError:
            return "starting"

    def _counts(self, tables: Any) -> dict[str, int]:
        counts: dict[str, int] = {}
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            for table in tables:
                found = connection.execute("SELECT to_regclass(%s)", (f'public."{table}"',)).fetchone()
                if found is not None and found[0] is not None:
                    row = connection.execute(SQL("SELECT count(*) FROM {}").format(Identifier(table))).fetchone()
                    counts[table] = int(row[0]) if row else 0
        return counts
