"""A program with :func:`mirror.enable_mirror` in tests, and the sidecars that it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import psycopg

from mirror.core.control import ControlClient, wait_for_mirror
from mirror.core.folders import holder, resolve, source_folder
from mirror.parity.compare import compare
from tests.support.waiting import LIMIT, ended, until

_PROGRAM = Path(__file__).with_name("gateway_process.py")


class GatewayError(Exception):
    """The program's code has raised."""


class Gateway:
    """One such program, as a child process."""

    def __init__(
        self, database: Path, dsn: str, *, driver: str = "apsw", state: str = "state", schema: str = "public"
    ) -> None:
        self.database = resolve(database)
        self.dsn = dsn
        self.state_dir = database.parent / state
        self.schema = schema
        foreign = ("ARGENT_", "CLAWDBOT_", "MIRROR_", "PG")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self._killed = False
        self._has_sidecar = True  # or may have
        self._process = subprocess.Popen(
            [sys.executable, str(_PROGRAM), driver],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment | {"HOME": str(database.parent)},
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def do(self, code: str) -> Any:
        """Run code there; returns its ``answer``."""
        self.begin(code)
        return self.end()

    def begin(self, code: str) -> None:
        """Begin what :meth:`do` does, without waiting for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(textwrap.dedent(code)) + "\n")
        self._process.stdin.flush()

    def end(self) -> Any:
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise GatewayError(answer["error"])
        return answer["answer"]

    def enable(self, *, sidecar: str = "follows") -> None:
        """Run the one line that enables the mirror, and wait until a sidecar follows."""
        arguments = f"[{str(self.database)!r}], postgres={self.dsn!r}, state_dir={str(self.state_dir)!r}"
        self.do(f"import mirror\nm = mirror.enable_mirror({arguments}, sidecar={sidecar!r})")
        if sidecar != "none":
            self.await_following()
        else:
            self._has_sidecar = False  # the mirror that runs is the test's

    def await_following(self) -> None:
        with self.control() as client:
            until(lambda: client.status().phase == "following")

    def control(self) -> ControlClient:
        """A conversation with the sidecar, once there is one."""
        return wait_for_mirror(source_folder(self.state_dir, self.database), LIMIT)

    def status(self) -> dict[str, Any]:
        """The source's status."""
        with self.control() as client:
            return dict(msgspec.to_builtins(client.status()))

    def status_when(self, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The source's first status that fulfils a condition."""

        def look() -> dict[str, Any] | None:
            status = self.status()
            return status if good(status) else None

        return until(look, alive=lambda: self._killed or self._process.poll() is None) or {}

    def await_hook(self) -> None:
        """Wait until the program's hook is connected to the sidecar."""
        self.status_when(
            lambda status: any(f"pid {self.pid})" in writer for writer in status["hook"].get("writers", []))
        )

    def await_checked(self) -> dict[str, Any]:
        """Wait until all commits that hooks have sent are checked; return the hook's status."""
        return dict(self.status_when(lambda status: not status["hook"]["waiting"])["hook"])

    def check(self) -> None:
        """All that is committed is in Postgres, and equal."""
        with self.control() as gate, psycopg.connect(self.dsn) as connection:
            assert gate.wait(LIMIT), gate.status()
            report = compare(self.database, connection, self.schema, gate)
        assert report.agreement == "equal" and report.tables, report.to_json()

    def sidecar_pid(self) -> int:
        """Process id of the sidecar that holds the source's lock."""
        pid = holder(source_folder(self.state_dir, self.database))
        assert pid is not None
        return pid

    def kill(self) -> None:
        self._killed = True
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Let it end as programs do."""
        if self._process.poll() is None:
            self._process.communicate(timeout=LIMIT)

    def stop_sidecar(self) -> None:
        """End the sidecar that is left, if there is one, and wait until it has ended."""
        pid = holder(source_folder(self.state_dir, self.database))
        if pid is None:
            return
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            return
        until(lambda: ended(pid))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self._killed and (source_folder(self.state_dir, self.database) / "lock").exists():
                self.check()
        finally:
            self.kill() if kind is not None else self.close()
            if self._has_sidecar:
                self.stop_sidecar()
