"""The state directory: one folder per source, its lock, and the path of its control socket."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
from pathlib import Path

from mirror.errors import StateError

#: sockaddr_un holds 108 bytes on Linux and 104 on macOS, with the final zero.
_LONGEST_SOCKET = 100


def resolve(source: Path | str) -> Path:
    """The name of a source for good: its absolute path, links followed."""
    return Path(source).expanduser().resolve()


def source_folder(state_dir: Path, source: Path) -> Path:
    """The folder of one source (``source`` as :func:`resolve` gives it)."""
    digest = hashlib.sha256(os.fsencode(source)).hexdigest()[:10]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", source.name)[:40]
    return state_dir / "sources" / f"{name}-{digest}"


def known_sources(state_dir: Path) -> list[Path]:
    """The sources that have a folder in the state directory."""
    found = []
    for name in sorted((state_dir / "sources").glob("*/source")):
        found.append(Path(os.fsdecode(name.read_bytes())))
    return found


def control_path(folder: Path) -> Path:
    """Where the control socket of a source lies: in its folder, or, if that name is too long, aside."""
    path = folder / "control.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"mirror-{os.getuid()}-{digest}.sock"


class SourceLock:
    """The right to mirror a source with this state directory; the kernel drops it with the process."""

    def __init__(self, folder: Path, source: Path) -> None:
        """Take it; raises ``StateError`` at once if another mirror has it."""
        self._folder = folder
        self._source = source
        self._descriptor = self._take()

    def _take(self) -> int:
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise StateError(
                "mirror a source",
                str(self._source),
                f"another mirror of it is running (pid {holder or 'unknown'})",
                next_step="stop that one first; `mirror status` shows it",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor

    def _open(self) -> int:
        """Make what every folder has, and open the file that is locked."""
        folder = self._folder
        try:
            (folder / "spool").mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)  # it holds a copy of the source, which may be private
            (folder / "source").write_bytes(os.fsencode(self._source))
            return os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StateError(
                "use the state directory", str(folder), str(error), next_step="choose another --state-dir"
            ) from error

    @property
    def intact(self) -> bool:
        """Whether the file that is locked is still the one in the folder."""
        try:
            return os.path.samestat(os.stat(self._folder / "lock"), os.fstat(self._descriptor))
        except OSError:
            return False

    def renew(self) -> None:
        """Make a folder that was deleted anew, and take its lock; raises ``StateError`` as at first."""
        if self.intact:
            os.close(self._open())  # a lock of flock belongs to the open file: this drops none
            return
        descriptor = self._take()
        os.close(self._descriptor)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go."""
        os.close(self._descriptor)
