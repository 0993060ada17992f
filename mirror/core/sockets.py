"""Where the control socket of a source lies."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from mirror.core.errors import StateError
from mirror.core.files import write_atomically
from mirror.core.folders import _ASIDE, _path_in

#: sockaddr_un holds 108 bytes on Linux and 104 on macOS, with the final zero.
_LONGEST_SOCKET = 100


_SOCKETS = "use the directory of the control socket"


_SHORTER = "see who has made it, and remove it; or name a --state-dir with a shorter path, and the socket lies there"


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
