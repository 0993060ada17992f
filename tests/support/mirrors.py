"""A mirror in tests: run in a process of its own, killed at will, and checked by parity at the end."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil

from mirror.core.control import ControlClient, wait_for_mirror
from mirror.core.folders import resolve, source_folder
from mirror.core.positions import Lsn
from mirror.parity.compare import compare
from mirror.parity.report import ParityReport
from mirror.postgres.sessions import connect
from mirror.sidecar.supervisor import SPOOL_LIMIT
from tests.support.launcher import Launched, launch
from tests.support.waiting import LIMIT, until

_psutil: Any = importlib.import_module("psutil")  # comes with the embedded Postgres


class MirrorProcess:
    """``mirror up`` of one or more sources as a child process."""

    def __init__(self, sources: list[Path], dsn: str, state_dir: Path, schema: str = "public") -> None:
        self.sources = [resolve(source) for source in sources]
        self.names: list[Path] = []
        """Other names of the sources, by which it is given them."""
        self.dsn = dsn
        self.its_dsn = dsn
        """The connection string of the mirror itself, if it is another one."""
        self.state_dir = state_dir
        self.spool_limit = SPOOL_LIMIT
        self.schema = schema
        self.agents: dict[Path, str] = {}
        """The agents of sources."""
        self.schemas: dict[Path, str] = {}
        """The schemas of sources that have another one."""
        self.environment: dict[str, str] = {}
        """Additional environment variables of the mirror."""
        self.log: Path | None = None
        """File for its output; None: the output of the tests."""
        self.profile: str | None = None
        self.save_pages: int | None = None
        """Number of changed pages after which a save is due; None: the default."""
        self.stop_seconds: float | None = 60.0
        """What a stop has not done by then is cut off; None: after as long as usual, which a busy machine exceeds."""
        self._process: Launched | subprocess.Popen[bytes] | None = None
        self.last_position: dict[Path, Lsn] = {}

    def start(self, *, kill_at: str = "", hit: int = 1, wait: bool = True, capture_at: str = "") -> None:
        """Start it; with ``kill_at``, it kills itself when it reaches that fault seam for the ``hit``-th time.

        With ``capture_at`` its capture process does, once.
        """
        more = {"MIRROR_AGENTS": json.dumps({str(resolve(path)): agent for path, agent in self.agents.items()})}
        if self.profile is not None:
            more["MIRROR_PROFILE"] = self.profile
        if self.save_pages is not None:
            more["MIRROR_SAVE_PAGES"] = str(self.save_pages)
        if capture_at:
            more["MIRROR_CAPTURE_SEAM"] = f"{capture_at} {hit} {self.capture_killed}"
        more["MIRROR_SCHEMAS"] = json.dumps({str(resolve(path)): name for path, name in self.schemas.items()})
        if self.stop_seconds is not None:
            more["MIRROR_STOP_SECONDS"] = str(self.stop_seconds)
        self._process = launch(
            [
                self.its_dsn,
                str(self.state_dir),
                self.schema,
                str(self.spool_limit),
                kill_at,
                str(hit),
                *map(str, self.names or self.sources),
            ],
            os.environ | more | self.environment,
            self.log,
        )
        if wait:
            for source in self.sources:
                self.control(source).close()

    @property
    def capture_killed(self) -> Path:
        """This file exists once the capture process has killed itself."""
        return self.state_dir.with_name("capture-killed")

    def control(self, source: Path | None = None) -> ControlClient:
        """A conversation with the running mirror."""
        folder = source_folder(self.state_dir, source or self.sources[0])
        return wait_for_mirror(folder, LIMIT, lambda: self.alive)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """The mirror's process and, once it runs, the one that captures."""
        assert self._process is not None
        main = psutil.Process(self._process.pid)
        return [main, *main.children()]

    def capture(self) -> psutil.Process:
        """The process that captures."""
        _, capture = self.processes()
        return capture

    def wait_applied(self, timeout: float = LIMIT) -> None:
        """Wait until all that is committed now is in Postgres."""
        for source in self.sources:
            with self.control(source) as client:
                assert client.wait(timeout), client.status()
                now = Lsn.parse(client.status().applied)
                assert now >= self.last_position.get(source, now), "the position went back"
                self.last_position[source] = now

    def status(self, source: Path | None = None) -> dict[str, Any]:
        with self.control(source) as client:
            return dict(msgspec.to_builtins(client.status()))

    def status_when(self, good: Callable[[dict[str, Any]], bool], source: Path | None = None) -> dict[str, Any]:
        """The first status that fulfils a condition."""

        def look() -> dict[str, Any] | None:
            status = self.status(source)
            return status if good(status) else None

        return until(look, alive=lambda: self.alive) or {}

    def settle(self) -> None:
        """Wait until it follows: while the source is copied again, parity would report that it could not check."""
        self.status_when(lambda status: status["phase"] == "following")

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends within some seconds."""
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait_killed(self) -> None:
        """Wait until the fault seam has killed it."""
        assert self._process is not None
        assert self._process.wait(LIMIT) == -signal.SIGKILL

    def tell_where(self) -> None:
        """Have it write what its threads are doing to its log."""
        if self.alive:
            os.kill(self._process.pid, signal.SIGUSR1)

    def kill(self) -> None:
        """Kill it; one whose last source was just finalized has ended by itself."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @property
    def capture_pid(self) -> int:
        """Its capture process, as soon as it has one."""
        assert self._process is not None
        children = until(_psutil.Process(self._process.pid).children, alive=lambda: self.alive)
        return int(children[0].pid)

    def kill_capture(self) -> None:
        """Kill its capture process, as soon as it has one."""
        os.kill(self.capture_pid, signal.SIGKILL)

    def stop(self) -> int:
        """Stop it as a service manager does; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(LIMIT)

    def parity(self, source: Path | None = None) -> ParityReport:
        """Compare every value now."""
        source = source or self.sources[0]
        with self.control(source) as gate, connect(self.dsn, autocommit=False) as connection:
            return compare(source, connection, self.schemas.get(source, self.schema), gate)

    def check(self) -> None:
        """All that is committed is in Postgres, and every value is equal; or in the rejects."""
        self.wait_applied()
        for source in self.sources:
            report = self.parity(source)
            assert report.agreement == "equal", report.to_json()
            assert report.tables, "parity compared nothing"

    def end(self) -> None:
        """Clean up, whatever state it is in."""
        if self.alive:
            assert self._process is not None
            self._process.terminate()
            try:
                self._process.wait(90)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
