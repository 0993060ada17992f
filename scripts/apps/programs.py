"""The programs that are started where an application is moved: its own, and the mirror."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from application import Application
from places import ROOT

#: Seconds that any single step may take on a busy machine.
LIMIT = 900
#: Settings of the person who runs a script, which would change what the mirror does.
_FOREIGN = ("ARGENT_", "CLAWDBOT_", "MIRROR_", "PG", "SHOP_", "DJANGO_", "PRISMA_")


class StopError(Exception):
    """The rest cannot be tried."""


class Programs:
    """An application's folder, and what is started there."""

    def __init__(self, application: Application, folder: Path, tools: Path, dsn: str) -> None:
        self.application = application
        self.folder = folder
        self.program = folder / "app"
        self.source = self.program / "shop.db"
        self.tools = tools
        self.dsn = dsn
        self.config = folder / ".argentos" / "mirror.json"
        self._mirror: subprocess.Popen[bytes] | None = None
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        self._log = folder / "mirror.log"

    def run(self, *command: object, store: str = "sqlite", fine: bool = True) -> subprocess.CompletedProcess[str]:
        """Run its Python, in its folder; ``fine``: it must succeed."""
        return self.execute(self.tools, *command, store=store, fine=fine)

    def call(self, *arguments: object, store: str = "sqlite", fine: bool = True) -> subprocess.CompletedProcess[str]:
        """Run its program."""
        return self.execute(*self.application.command(self.tools), *arguments, store=store, fine=fine)

    def execute(self, *command: object, store: str = "sqlite", fine: bool = True) -> subprocess.CompletedProcess[str]:
        """Run anything in the folder of its program. Raises :class:`StopError` if it fails and must be ``fine``."""
        done = subprocess.run(
            [*map(str, command)],
            cwd=self.program,
            env=self.environment(store),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        if fine and done.returncode:
            said = " ".join(map(str, command))
            raise StopError(f"{said} on {store} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start its program on SQLite."""
        return subprocess.Popen(
            [*self.application.command(self.tools), *map(str, arguments)],
            cwd=self.program,
            env=self.environment("sqlite"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def environment(self, store: str) -> dict[str, str]:
        """Of a program of the application."""
        ours = {"SHOP_STATE": str(self.folder / "state"), "SHOP_CONFIG": str(self.config)}
        return self._environment | ours | self.application.environment(store, self.dsn)

    def mirror(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a command of the mirror."""
        return subprocess.run(
            [sys.executable, "-m", "mirror", *map(str, arguments)],
            cwd=self.folder,
            env=self._of_mirror(),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )

    def _of_mirror(self) -> dict[str, str]:
        more = {"PYTHONPATH": str(ROOT), "ARGENT_PG_URL": self.dsn, "MIRROR_STATE_DIR": str(self.folder / "state")}
        return self._environment | more | {"HOME": str(self.folder)}

    def start_mirror(self) -> None:
        """``mirror up``."""
        with self._log.open("ab") as log:
            self._mirror = subprocess.Popen(
                [sys.executable, "-m", "mirror", "up", str(self.source)],
                cwd=self.folder,
                env=self._of_mirror(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def end_mirror(self, number: signal.Signals | None) -> int:
        """End it by a signal, or have it end by itself; its exit code."""
        assert self._mirror is not None
        process, self._mirror = self._mirror, None
        if number is not None:
            process.send_signal(number)
        try:
            return process.wait(LIMIT)
        finally:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End what still runs."""
        if self._mirror is not None:
            self._mirror.kill()
            self._mirror.wait()

    def log_tail(self) -> str:
        """The last lines of the mirror's log."""
        return "\n".join(self.log().splitlines()[-15:])

    def log(self) -> str:
        """The mirror's log."""
        return self._log.read_text() if self._log.exists() else ""
