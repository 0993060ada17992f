"""The path of a source's control socket."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from mirror.core.errors import StateError
from mirror.core.files import write_atomically
from mirror.core.folders import _ASIDE, _path_in
from mirror.core.state_errors import state_error

#: Bytes of a path. sockaddr_un has room for 108 on Linux and 104 on macOS, with the final zero.
_LONGEST_SOCKET = 100


_SOCKETS = "use the directory of the control socket"


_SHORTER = "see who made it, and remove it; or choose a --state-dir with a shorter path, which then has the socket"


def control_path(folder: Path) -> Path:
    """The path of a source's control socket, for a client that connects to it. ``folder``: the source's state folder.

    In that folder; or, if its path is too long for a socket, where the source's mirror has written that the socket is,
    because its environment may be another than ours.
    """
    path = folder / "control.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET:
        return path
    return _path_in(folder / _ASIDE) or _aside(folder)


def forget_control_path(folder: Path) -> None:
    """The folder has got another name: where its mirror puts the socket has to be decided anew. Raises ``OSError``."""
    (folder / _ASIDE).unlink(missing_ok=True)


def make_control_path(folder: Path) -> Path:
    """The path at which the mirror of a source puts its control socket; :func:`control_path` then returns it.

    It is in a directory that belongs to us and is closed to other users: the source's folder, or, if that path is too
    long, ``$XDG_RUNTIME_DIR/mirror``, or ``mirror-UID`` in the directory for temporary files, which is created if
    needed. Raises ``StateError`` if that directory is another user's, or open to others; it is then left unchanged.
    """
    path = folder / "control.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET:
        require_private(folder.resolve(), next_step="choose another --state-dir")
        return path
    path = _aside(folder)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise state_error(error, path.parent, _SOCKETS, otherwise=_SHORTER) from error
    require_private(path.parent)
    try:
        write_atomically(folder / _ASIDE, os.fsencode(path), durable=False)
    except OSError as error:
        raise state_error(error, folder) from error
    return path


def require_control_path(folder: Path) -> None:
    """Raise ``StateError`` where :func:`make_control_path` would; nothing is made."""
    path = folder / "control.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET:
        return  # the folder is made private as its lock is taken
    path = _aside(folder)
    if os.path.lexists(path.parent):
        require_private(path.parent)
    elif not os.access(path.parent.parent, os.W_OK | os.X_OK):
        raise StateError(_SOCKETS, str(path.parent), "it cannot be made", next_step=_SHORTER)
    elif len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise StateError(_SOCKETS, str(path.parent), "its path is too long for a socket", next_step=_SHORTER)


def require_private(directory: Path, *, user: int | None = None, next_step: str = "") -> None:
    """Raise ``StateError`` unless a directory belongs to us, is closed to other users, and is no link.

    ``user``: uid that must own it; None: the effective user. ``next_step``: of the error, whose cause is the
    ``OSError`` if the directory cannot be seen.
    """
    owner = os.geteuid() if user is None else user
    try:
        found = os.lstat(directory)
    except OSError as error:
        detail = error.strerror or str(error)
        raise StateError(_SOCKETS, str(directory), detail, next_step=next_step or _SHORTER) from error
    if stat.S_ISLNK(found.st_mode):
        detail = "it is a link, which another user may have made"
    elif not stat.S_ISDIR(found.st_mode):
        detail = "it is not a directory"
    elif found.st_uid != owner:
        detail = f"it belongs to another user (uid {found.st_uid}, not {owner})"
    elif found.st_mode & 0o077:
        detail = f"other users may open it (mode {stat.S_IMODE(found.st_mode):04o}, not 0700)"
    else:
        return
    raise StateError(_SOCKETS, str(directory), detail, next_step=next_step or _SHORTER)


def _aside(folder: Path) -> Path:
    """The path of the socket by our environment, for a source whose folder has too long a path."""
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    shared = ["/tmp"]  # noqa: S108 - require_private checks that it is ours
    with suppress(FileNotFoundError):  # no such directory can be written to
        import tempfile

        shared.insert(0, tempfile.gettempdir())
    candidates = [Path(directory) / f"mirror-{os.geteuid()}" for directory in shared]
    if (runtime := _runtime_directory()) is not None:
        candidates.insert(0, runtime / "mirror")
    paths = [directory / f"{digest}.sock" for directory in candidates]
    return next((path for path in paths if len(os.fsencode(path)) <= _LONGEST_SOCKET), paths[-1])


def _runtime_directory() -> Path | None:
    """The directory ``XDG_RUNTIME_DIR``, if it is ours alone; the variable may be left over from another user."""
    name = os.environ.get("XDG_RUNTIME_DIR", "")
    if not os.path.isabs(name):
        return None
    try:
        require_private(Path(name).resolve())
    except StateError:
        return None
    return Path(name)
