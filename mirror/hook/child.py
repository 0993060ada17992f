"""The sidecar as a child of the program: started where none is running for a source, and again when it has ended.

The right to mirror a source is a lock in its folder, which the sidecar takes: if two programs start one at the same
time, one of the two ends. A thread does all this, so that the program never waits.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mirror.core.backoff import Backoff
from mirror.core.config.settings import Settings
from mirror.core.control import ControlClient
from mirror.core.errors import ControlError
from mirror.core.folders import source_folder
from mirror.core.notify import VARIABLES
from mirror.core.state_errors import file_error

#: Handled by the program's own logging configuration.
logger = logging.getLogger("mirror")

#: Seconds between two checks; and until a sidecar that ended is started again, at first and at most.
LOOK_SECONDS = 0.25
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
#: Seconds between two checks of a source that our own child mirrors: we notice when that child ends.
SERVED_SECONDS = 1.0
#: Seconds until a process that was started mirrors the first of its sources (it may have to make a Postgres first), and
#: from then on until it mirrors the others.
STARTING_SECONDS, OTHERS_SECONDS = 60.0, 5.0
#: If a process that goes on does not mirror its source for so many seconds, the source has ended in it.
GONE_SECONDS = 2.0
#: Seconds that a mirror that is running may take to answer.
ANSWER_SECONDS = 2.0
#: Bytes. A log that is longer when the sidecar is started is deleted and begun again.
_LOG_BYTES = 1 << 20
_LOG = "sidecar.log"
#: What a line of it begins with.
_TIME_AND_LEVEL = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+Z [A-Z]+ +")


def missing(source: Path) -> str | None:
    """Why there is no file of this name that could be mirrored; None: there is one.

    What is in it is not looked at: no descriptor may be closed on a file to which the program has connections.
    """
    try:
        mode = os.stat(source).st_mode
    except FileNotFoundError:
        if os.path.isdir(source.parent):
            return "there is no such file: it is mirrored as soon as there is one"
        return f"there is no directory {source.parent}: check the path; it is mirrored as soon as there is such a file"
    except (OSError, ValueError) as error:
        return f"it cannot be looked at: {getattr(error, 'strerror', None) or error}"
    if stat.S_ISDIR(mode):
        return "it is a directory: name the file in it"
    return None if stat.S_ISREG(mode) else "it is no file that can be mirrored: check the path"


class _Child:
    """A process that was started for some sources."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.settled = time.monotonic() + STARTING_SECONDS
        """When (monotonic) all its sources should be mirrored: from then on one that is not has ended in it."""

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def serves(self) -> None:
        """It mirrors one of its sources, so the others will follow."""
        self.settled = min(self.settled, time.monotonic() + OTHERS_SECONDS)

    def leave(self) -> None:
        """Close our end. The process goes on and is not waited for; without a return code Popen would warn about it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.returncode = self.process.poll() or 0


@dataclass
class _Care:
    """What is known about the mirror of one source."""

    source: Path
    child: _Child | None = None
    """The last process that we started for it."""
    next: float = 0.0
    """When (monotonic) to check again."""
    pause: Backoff = field(default_factory=lambda: Backoff(FIRST_PAUSE, LONGEST_PAUSE))
    served_since: float | None = None
    missing_since: float | None = None
    error: str | None = None
    """Why the last process could not be started, or has ended."""
    logged: bool = False
    """Whether that was logged, since a process last mirrored it for long."""

    def is_served(self, now: float) -> None:
        """Note that some process mirrors it."""
        self.error = self.missing_since = None
        self.served_since = self.served_since or now
        if now - self.served_since > LONGEST_PAUSE:
            self.pause.reset()
            self.logged = False
        if self.child is not None and self.child.lives:
            self.child.serves()
            self.next = now + SERVED_SECONDS

    def has_ended(self, now: float) -> bool:
        """Note that no process mirrors it; returns whether one must be started, because none is about to mirror it."""
        self.served_since, self.missing_since = None, self.missing_since or now
        if self.child is None or not self.child.lives:
            return True
        return now > self.child.settled and now - self.missing_since > GONE_SECONDS

    def log(self) -> None:
        """Log why no process mirrors it, once, however often one is started again."""
        if self.error is not None and not self.logged:
            self.logged = True
            logger.warning("%s is not mirrored, which is tried again and again: %s", self.source, self.error)

    def put_off(self, now: float, error: str | None) -> None:
        """Note that it could not be started, or has ended: wait before the next start, longer each time."""
        self.error = error
        self.next = now + self.pause.next()


class Sidecar:
    """Keeps some sources mirrored: at first all in one process; a source that ended in it gets a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._children: list[_Child] = []
        self._care = {source: _Care(source) for source in settings.sources}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror sidecar", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Process id of the first sidecar started by this program that still runs; None if there is none."""
        return next((child.process.pid for child in tuple(self._children) if child.lives), None)

    @property
    def error(self) -> str | None:
        """Why the last one could not be started, or ended; None while all sources are mirrored."""
        return next((care.error for care in self._care.values() if care.error is not None), None)

    @property
    def log(self) -> Path:
        """The file with what those say that this program has started."""
        return self._settings.state_dir / _LOG

    @property
    def stop(self) -> str:
        """The command that ends the mirror of the sources, also after the end of the program."""
        sources = " ".join(shlex.quote(str(source)) for source in self._settings.sources)
        return f"mirror down {sources} --state-dir {shlex.quote(str(self._settings.state_dir))}"

    def is_starting(self, source: Path) -> bool:
        """Whether none mirrors the source yet, because one is being started or is about to be."""
        care, now = self._care[source], time.monotonic()
        if self._stopping.is_set() or care.error is not None:
            return False
        child = care.child
        return now < child.settled if child is not None and child.lives else now >= care.next

    def error_of(self, source: Path) -> str | None:
        """Why the last one for a source could not be started, or ended; None while the source is mirrored."""
        return self._care[source].error

    def close(self) -> None:
        """Start no sidecar any more. Those that follow the program end, because their standard input ends."""
        self._stopping.set()
        self._thread.join(2 * LOOK_SECONDS)
        children, self._children = self._children, []
        for child in children:
            child.leave()

    def abandon(self) -> None:
        """In a child after a fork: the sidecars are the parent's. (Those that follow, follow both.)"""
        for child in self._children:
            child.process.returncode = 0
        self._children = []

    def _run(self) -> None:
        while True:
            self._look()
            if self._stopping.wait(LOOK_SECONDS):
                return

    def _look(self) -> None:
        now = time.monotonic()
        for child in [child for child in self._children if not child.lives]:
            self._children.remove(child)
            self._note_end(child, now)
        together: list[Path] = []
        alone: list[Path] = []
        for source, care in self._care.items():
            if now < care.next or missing(source) is not None:
                continue
            if self._runs(source):
                care.is_served(now)
            elif care.has_ended(now):
                care.log()  # only now: a process of another program may have had it
                (together if care.child is None or not care.child.lives else alone).append(source)
        for sources in ([together] if together else []) + [[source] for source in alone]:
            try:
                self._start(sources)
            except OSError as error:  # no more processes, no room for the log
                told = str(file_error(error, self._settings.state_dir) or error)
                for source in sources:
                    self._care[source].put_off(now, told)

    def _note_end(self, child: _Child, now: float) -> None:
        code = child.process.returncode
        error = None
        if code < 0:  # what it said last has nothing to do with that
            error = f"the sidecar was killed (signal {-code})"
        elif code:
            error = f"the sidecar ended with exit code {code}: {self._last_words()}"
        for care in self._care.values():
            if care.child is child:
                care.child = care.missing_since = None
                care.put_off(now, error)

    def _runs(self, source: Path) -> bool:
        """Whether a mirror of the source is running, also one that another process started."""
        try:
            ControlClient(source_folder(self._settings.state_dir, source), ANSWER_SECONDS).close()
        except ControlError:
            return False
        return True

    def _start(self, sources: Sequence[Path]) -> None:
        # -P: import nothing from the program's working directory.
        command = [sys.executable, "-P", "-m", "mirror", "up", *map(str, sources)]
        command += ["--state-dir", str(self._settings.state_dir)]
        if self._settings.schema is not None:
            command += ["--schema", self._settings.schema]
        if self._settings.config is not None:
            command += ["--config", str(self._settings.config)]
        # Where the program is a service, the sidecar does not speak to its manager in its place.
        environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        if self._settings.dsn is not None and self._settings.remembered is None:
            environment["ARGENT_PG_URL"] = self._settings.dsn  # not on the command line, which every user can read
        follows = self._settings.sidecar == "follows"
        if follows:
            command.append("--until-eof")
        with self._log() as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if follows else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # the terminal's Ctrl-C is for the program
            )
        if all(self._care[source].error is None for source in sources):  # else it is started again and again
            logger.info(
                "a mirror was started (pid %s); its log is %s, and `%s` ends it", process.pid, self.log, self.stop
            )
        child = _Child(process)
        self._children.append(child)
        for source in sources:
            self._care[source].child, self._care[source].missing_since = child, None

    def _log(self) -> BinaryIO:
        folder = self._settings.state_dir
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.log
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.unlink()
        return open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600))

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").split("\n")
        except FileNotFoundError:
            return "its log was deleted"
        except OSError as error:
            return f"its log cannot be read: {error}"
        return _said(next((line for line in reversed(lines) if line), ""))


def _said(line: str) -> str:
    """What a line of the sidecar's log says, without time and level; it is JSON if mirror.json says so."""
    try:
        return str(json.loads(line)["message"])
    except (ValueError, LookupError, TypeError):
        return _TIME_AND_LEVEL.sub("", line)
