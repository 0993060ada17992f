"""Settings that follow their files: an edit takes effect within a second in each running process.

The files are mirror.json, argent.json and all that it includes, wherever links lead, and those that are not there yet
but would count. :mod:`.file_watch` says when to look at them; here is decided what to believe:

* Files are read once they have been quiet for :data:`QUIET`, and read again if they have changed meanwhile, so that no
  mixture of two versions is taken.
* A file that cannot be used, or that is gone, may be half-way through being replaced: that counts only after
  :data:`DOUBT` without a change. If it cannot be used then, the earlier settings stay in use,
  :attr:`LiveSettings.problem` says why, and it is logged once.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from mirror.core.config.argent_json import FOLDER_VARIABLES, PATH_VARIABLES
from mirror.core.config.looked_at import looked_at
from mirror.core.config.lookup import absolute
from mirror.core.config.settings import Settings, load_settings
from mirror.core.errors import ConfigError, StateError
from mirror.storage import file_watch

#: Seconds without a change before files are read, and how many it may take at most while they go on changing.
QUIET, LONGEST = 0.05, 0.25
#: Seconds without a change before it counts that a file is gone or cannot be used.
DOUBT = 0.3
#: How often files are read again because they have changed meanwhile.
_ATTEMPTS = 5
#: Variables that are paths, which a program that changes its working directory must not change.
_PATHS = (*PATH_VARIABLES, *FOLDER_VARIABLES, "MIRROR_CONFIG", "MIRROR_STATE_DIR")

#: Handled by the program's own logging configuration.
logger = logging.getLogger("mirror")

#: What is known of a path: the file behind it (device, inode, size, times), or a word for anything else. None: nothing.
_Stamp = tuple[int, ...] | str | None
Listener = Callable[[Settings], None]


class _Problem(NamedTuple):
    text: str
    since: float


@dataclass(frozen=True, slots=True)
class _Reading:
    """What files said at one moment."""

    stamps: Mapping[Path, _Stamp]
    """Of all paths that count."""
    settings: Settings | None
    """None: they cannot be used."""
    error: ConfigError | StateError | None
    steady: bool
    """Nothing has changed while they were read."""


class LiveSettings:
    """The settings of ``config``, or of the usual places: read now, and again whenever the files change.

    ``environment``: the variables, as they are now; None: those of this process. Raises ``ConfigError`` or
    ``StateError`` if the files cannot be used to begin with, or contradict themselves; later nothing is raised. In a
    child that this process forks it goes on by itself. A context manager, which closes it.
    """

    current: Settings
    """Replaced as a whole when files change. Its ``storage`` has no contradictions."""

    def __init__(self, config: str | Path | None = None, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(os.environ if environment is None else environment)
        for name in _PATHS:
            value = self._environment.get(name, "").strip()
            if value and not value.startswith("~"):
                self._environment[name] = os.path.abspath(value)
        self._config = None if config is None else str(absolute(str(config), self._environment))
        self._listeners: dict[object, Listener] = {}
        self._problem: _Problem | None = None
        self._changed_at = self._began_at = 0.0
        self._due: float | None = None
        reading = self._first()
        assert reading.settings is not None
        self.current = reading.settings
        self._seen = self._taken = reading.stamps
        file_watch.add(self)

    @property
    def problem(self) -> str | None:
        """Why what the files say now is not used, in one line; None: it is."""
        return None if self._problem is None else self._problem.text

    @property
    def since(self) -> float | None:
        """Since when :attr:`problem` is so: seconds since the epoch."""
        return None if self._problem is None else self._problem.since

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with the new settings after each change; returns what ends that.

        It is called in the thread that watches the files, after :attr:`current` was replaced. What it raises is logged.
        """
        token = object()
        self._listeners[token] = listener

        def end() -> None:
            self._listeners.pop(token, None)

        return end

    def close(self) -> None:
        """Follow the files no more; :attr:`current` stays as it is."""
        file_watch.remove(self)
        self._listeners.clear()

    def __enter__(self) -> LiveSettings:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # -- for the watching thread, which alone calls these ----------------------------------------------

    def paths(self) -> Iterable[Path]:
        """The files and folders that count, those that are not there included."""
        return self._seen

    def forget(self) -> None:
        """Read the files at the next look, whether they have changed or not."""
        self._seen = {}

    def look(self, now: float) -> float | None:
        """Look for changes, and take what is certain of them; ``now`` in seconds of the monotonic clock.

        Returns when to look again at the latest; None: when something changes.
        """
        stamps = _stamps(self._seen)
        if stamps != self._seen or not stamps:
            if self._due is None:
                self._began_at = now
            self._seen, self._changed_at = stamps, now
            self._due = min(now + QUIET, self._began_at + LONGEST)
        if self._due is None or now < self._due:
            return self._due
        reading = self._read(stamps)
        if {*reading.stamps.items()} - {*stamps.items()} and stamps:
            self._changed_at = now
        self._seen = reading.stamps
        certain = reading.settings is not None and reading.steady and not self._lacks(reading)
        if certain or now - self._changed_at >= DOUBT:
            self._due = None
            self._take(reading)
        else:
            self._due = self._changed_at + DOUBT
        return self._due

    def _lacks(self, reading: _Reading) -> bool:
        """Whether something is gone that was there."""
        missing = {path for path, found in reading.stamps.items() if found is None}
        return any(self._taken.get(path) is not None for path in missing)

    def _take(self, reading: _Reading) -> None:
        if reading.settings is None:
            text = str(reading.error)
            if self.problem != text:
                logger.warning("the configuration cannot be used, what it said before stays in use: %s", text)
            self._problem = _Problem(text, self.since or time.time())
            return
        if self._problem is not None:
            logger.info("the configuration can be used again")
        self._taken, self._problem = reading.stamps, None
        if reading.settings == self.current:
            return
        self.current = reading.settings
        for listener in list(self._listeners.values()):
            try:
                listener(reading.settings)
            except Exception:  # it is the program's, and the others must hear of the change
                logger.exception("a listener failed on a change of the configuration")

    # -- reading ---------------------------------------------------------------------------------------

    def _first(self) -> _Reading:
        """What files say when nothing is known yet; raises ``ConfigError``."""
        deadline = time.monotonic() + DOUBT
        while True:
            reading = self._read({})
            if reading.settings is not None and reading.steady:
                return reading
            if time.monotonic() >= deadline:
                if reading.error is not None:
                    raise reading.error
                return reading
            time.sleep(QUIET)

    def _read(self, before: Mapping[Path, _Stamp]) -> _Reading:
        """Read the files until nothing changes meanwhile. ``before``: the stamps of the paths that count, as known."""
        for _ in range(_ATTEMPTS):
            settings, error = None, None
            with file_watch.no_fork, looked_at() as paths:
                try:
                    settings = load_settings((), None, None, None, self._config, self._environment)
                    settings.agreed_storage()
                except (ConfigError, StateError) as found:
                    settings, error = None, found
            after = _stamps(paths)
            if after == before:
                break
            before = after
        else:
            return _Reading(after, settings, error, steady=False)
        return _Reading(after, settings, error, steady=True)


def _stamps(paths: Iterable[Path]) -> dict[Path, _Stamp]:
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> _Stamp:
    """What every write to the file changes, and so does replacing it, or a link on the way to it."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "a link that leads nowhere" if os.path.islink(path) else None
    except (OSError, ValueError) as error:
        return str(error)
    if stat.S_ISDIR(found.st_mode):
        return "a folder"  # its times change with every file in it, which says nothing about the configuration
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode
