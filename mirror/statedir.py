"""The state directory: one folder per source, its lock, and the path of its control socket."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from mirror.errors import StateError
from mirror.files import write_atomically

#: sockaddr_un holds 108 bytes on Linux and 104 on macOS, with the final zero.
_LONGEST_SOCKET = 100
#: Files in a source's folder: the source's path; where the control socket lies, if not here.
_SOURCE, _ASIDE = "source", "control.path"
_SOCKETS = "use the directory of the control socket"
_SHORTER = "see who has made it, and remove it; or name a --state-dir with a shorter path, and the socket lies there"


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
    for name in sorted((state_dir / "sources").glob(f"*/{_SOURCE}")):
        path = _path_in(name)
        # The folder is named after the whole path: what a crash or a full disk has left of one names another folder.
        if path is not None and source_folder(state_dir, path).name == name.parent.name:
            found.append(path)
    return found


def _path_in(name: Path) -> Path | None:
    """The absolute path that a file contains; None if it is not there, or contains anything else."""
    try:
        path = Path(os.fsdecode(name.read_bytes()))
    except OSError:
        return None
    return path if path.is_absolute() and "\0" not in str(path) else None


def holder(folder: Path) -> int | None:
    """The process that holds the lock of a source, or did last, as it has written down; None: nothing is known."""
    try:
        return int((folder / "lock").read_bytes())
    except (OSError, ValueError):
        return None


def control_path(folder: Path) -> Path:
    """Where the control socket of a source lies, for whoever wants to connect to it.

    In the source's folder; or, if that name is too long for a socket, where the source's mirror has written that it
    lies, because its environment may be another than ours.
    """
    path = folder / "control.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET:
        return path
    return _path_in(folder / _ASIDE) or _aside(folder)


def make_control_path(folder: Path) -> Path:
    """Where the mirror of a source is to put its control socket; whoever looks for it by :func:`control_path` finds it.

    It lies in a directory that is ours and open to nobody else: the source's folder, or, if the name is too long,
    ``$XDG_RUNTIME_DIR/mirror``, or ``mirror-UID`` in the directory for temporary files, which is made if need be.
    Raises ``StateError`` if that directory is another user's, or open to others: then it is left as it is.
    """
    path = folder / "control.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET:
        require_private(folder.resolve(), next_step="choose another --state-dir")
        return path
    path = _aside(folder)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StateError(_SOCKETS, str(path.parent), error.strerror or "", next_step=_SHORTER) from error
    require_private(path.parent)
    try:
        write_atomically(folder / _ASIDE, os.fsencode(path), durable=False)
    except OSError as error:
        raise StateError("use the state directory", str(folder), str(error)) from error
    return path


def require_private(directory: Path, *, user: int | None = None, next_step: str = "") -> None:
    """Raise ``StateError`` unless a directory belongs to us, is open to nobody else, and is no link.

    ``user``: its owner; None: our effective user. ``next_step``: of the error.
    """
    owner = os.geteuid() if user is None else user
    try:
        found = os.lstat(directory)
    except OSError as error:
        detail = error.strerror or str(error)
    else:
        if stat.S_ISLNK(found.st_mode):
            detail = "it is a link, which somebody else may have made"
        elif not stat.S_ISDIR(found.st_mode):
            detail = "it is no directory"
        elif found.st_uid != owner:
            detail = f"it belongs to another user (uid {found.st_uid}, not {owner})"
        elif found.st_mode & 0o077:
            detail = f"other users may open it (mode {stat.S_IMODE(found.st_mode):04o}, not 0700)"
        else:
            return
    raise StateError(_SOCKETS, str(directory), detail, next_step=next_step or _SHORTER)


def _aside(folder: Path) -> Path:
    """Where the socket lies by our environment, if its name would be too long in the source's folder."""
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    shared = ["/tmp"]  # noqa: S108 - what is made there must turn out to be ours
    with suppress(FileNotFoundError):  # none can be written to
        shared.insert(0, tempfile.gettempdir())
    candidates = [Path(directory) / f"mirror-{os.geteuid()}" for directory in shared]
    if (runtime := _runtime_directory()) is not None:
        candidates.insert(0, runtime / "mirror")
    paths = [directory / f"{digest}.sock" for directory in candidates]
    return next((path for path in paths if len(os.fsencode(path)) <= _LONGEST_SOCKET), paths[-1])


def _runtime_directory() -> Path | None:
    """What ``XDG_RUNTIME_DIR`` names, if that is ours alone; the variable may be left over from another user."""
    name = os.environ.get("XDG_RUNTIME_DIR", "")
    if not os.path.isabs(name):
        return None
    try:
        require_private(Path(name).resolve())
    except StateError:
        return None
    return Path(name)


class SourceLock:
    """The right to mirror a source with this state directory; the kernel drops it with the process."""

    def __init__(self, folder: Path, source: Path) -> None:
        """Take it; raises ``StateError`` at once if another mirror has it."""
        self._folder = folder
        self._source = source
        self._descriptor = self._take()

    def _take(self) -> int:
        folder = self._folder
        try:
            self._furnish()
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            self._name()
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

    def _furnish(self) -> None:
        """Make what every folder has. Raises ``OSError``."""
        (self._folder / "spool").mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.chmod(0o700)  # it holds a copy of the source, which may be private

    def _name(self) -> None:
        """Write down the source's name; the lock must be held. Raises ``OSError``."""
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
        """Make a folder that was deleted anew, and take its lock; raises ``StateError`` as at first."""
        if self.intact:
            try:
                self._furnish()
                self._name()
            except OSError as error:
                raise self._unusable(error) from error
            return
        descriptor = self._take()
        os.close(self._descriptor)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go."""
        os.close(self._descriptor)
