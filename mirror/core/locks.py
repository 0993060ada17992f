"""Locks of a source's state folder: the right to mirror it, and the right to hold its mirror for a comparison.

Both are ``flock`` locks, which the kernel drops when the process ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from mirror.core.errors import StateError
from mirror.core.files import write_atomically
from mirror.core.folders import _SOURCE, holder


class SourceLock:
    """The right to mirror a source with this state directory."""

    def __init__(self, folder: Path, source: Path) -> None:
        """Take it; raises ``StateError`` at once if another mirror has it."""
        self._folder = folder
        self._source = source
        self._descriptor = self._take()

    def _take(self) -> int:
        folder = self._folder
        try:
            self._make_folder()
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            self._write_name()
        except BlockingIOError:
            os.close(descriptor)
            raise StateError(
                "mirror a source",
                str(self._source),
                f"another mirror of it is running (pid {holder(folder) or 'unknown'})",
                next_step="stop that one first; `mirror status` shows it",
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise self._unusable(error) from error
        return descriptor

    def _make_folder(self) -> None:
        """Create the folder and what every one contains. Raises ``OSError``."""
        (self._folder / "spool").mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.chmod(0o700)  # it contains a copy of the source, which may be private

    def _write_name(self) -> None:
        """Write the source's path into its file; the lock must be held. Raises ``OSError``."""
        name = os.fsencode(self._source)
        path = self._folder / _SOURCE
        if not path.exists() or path.read_bytes() != name:
            write_atomically(path, name, durable=False)

    def _unusable(self, error: OSError) -> StateError:
        return StateError(
            "use the state directory", str(self._folder), str(error), next_step="choose another --state-dir"
        )

    @property
    def intact(self) -> bool:
        """Whether the file that is locked is still the one in the folder."""
        try:
            return os.path.samestat(os.stat(self._folder / "lock"), os.fstat(self._descriptor))
        except OSError:
            return False

    def renew(self) -> None:
        """Create a folder that was deleted again, and take its lock; raises ``StateError`` as the first time."""
        if self.intact:
            try:
                self._make_folder()
                self._write_name()
            except OSError as error:
                raise self._unusable(error) from error
            return
        descriptor = self._take()
        os.close(self._descriptor)
        self._descriptor = descriptor

    def release(self) -> None:
        """Release it."""
        os.close(self._descriptor)


_LOCK = "parity.lock"


class ParityLock:
    """The right to hold a source's mirror: for a whole ``mirror parity``, or for one round in the background."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self, *, wait: bool) -> bool:
        """Take it; False if another process has it and ``wait`` is not set."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def give(self) -> None:
        """Release it; it can be taken again."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release it and close its file; it cannot be taken again."""
        os.close(self._descriptor)
