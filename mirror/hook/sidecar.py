"""The sidecar as a child of the program: started where none is running for a source, and again when it has ended.

The right to mirror a source is a lock in its folder, which the sidecar takes: of two that are started at once by two
programs, one ends. A thread of its own does all this, so that the program waits for nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from mirror.client import ControlClient
from mirror.config import Settings
from mirror.errors import ControlError
from mirror.statedir import source_folder

#: Seconds between two looks, and until one that ended is started again, at first and at most.
LOOK_SECONDS = 0.25
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
#: How long a mirror that is running may take to answer.
ANSWER_SECONDS = 2.0
#: A log that is longer when the sidecar is started is begun anew.
_LOG_BYTES = 1 << 20
_LOG = "sidecar.log"


class Sidecar:
    """Keeps one running for each of some sources."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._pause = FIRST_PAUSE
        self._next = 0.0
        self._stopping = threading.Event()
        self.error: str | None = None
        """Why the last one could not be started, or ended."""
        self._thread = threading.Thread(target=self._run, name="mirror sidecar", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Process id of the one that this program has started, while it runs."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def close(self) -> None:
        """Start none any more. One that follows the program is told to end."""
        self._stopping.set()
        self._thread.join(2 * LOOK_SECONDS)
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        # It lives on, and is nobody's to wait for: else Popen would complain when it is thrown away.
        process.returncode = process.poll() or 0

    def abandon(self) -> None:
        """In a child after a fork: the sidecar is the parent's. (One that follows, follows both.)"""
        if self._process is not None:
            self._process.returncode = 0
            self._process = None

    def _run(self) -> None:
        while True:
            try:
                self._look()
            except OSError as error:  # no more processes, no room for the log
                self.error = str(error)
                self._put_off()
            if self._stopping.wait(LOOK_SECONDS):
                return

    def _look(self) -> None:
        process = self._process
        if process is not None:
            if process.poll() is None:
                return
            self._process = None
            if process.returncode:
                self.error = f"the sidecar ended with exit code {process.returncode}: {self._last_words()}"
            self._put_off()
        if time.monotonic() < self._next:
            return
        missing = [source for source in self._settings.sources if source.is_file() and not self._runs(source)]
        if missing:
            self._start(missing)

    def _put_off(self) -> None:
        self._next = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _runs(self, source: Path) -> bool:
        """Whether a mirror of the source is running, whoever started it."""
        try:
            ControlClient(source_folder(self._settings.state_dir, source), ANSWER_SECONDS).close()
        except ControlError:
            return False
        self._pause, self.error = FIRST_PAUSE, None
        return True

    def _start(self, sources: Sequence[Path]) -> None:
        # -P: not what lies in the program's working directory.
        command = [sys.executable, "-P", "-m", "mirror", "up", *map(str, sources)]
        command += ["--state-dir", str(self._settings.state_dir)]
        if self._settings.schema is not None:
            command += ["--schema", self._settings.schema]
        if self._settings.config is not None:
            command += ["--config", str(self._settings.config)]
        environment = dict(os.environ)
        if self._settings.dsn is not None:
            environment["ARGENT_PG_URL"] = self._settings.dsn  # not on the command line, where everybody can read it
        follows = self._settings.sidecar == "follows"
        if follows:
            command.append("--until-eof")
        with self._log() as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if follows else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # the terminal's Ctrl-C is for the program
            )

    def _log(self) -> BinaryIO:
        folder = self._settings.state_dir
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / _LOG
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.unlink()
        return open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600))

    def _last_words(self) -> str:
        try:
            lines = (self._settings.state_dir / _LOG).read_text(errors="replace").split("\n")
        except FileNotFoundError:
            return "its log was deleted"
        return next((line for line in reversed(lines) if line), "")
