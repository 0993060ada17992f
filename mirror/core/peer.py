"""Both ends of a control socket check each other: the other process must belong to our user, or to root.

The socket is in a directory that is closed to other users (:mod:`mirror.core.sockets`). In addition the kernel says
which user is at the other end, so that no rows or requests pass between two users even if that directory was opened to
others, or another user was the first to create it.
"""

from __future__ import annotations

import errno
import os
import shlex
import socket
import struct
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from mirror.core.errors import ControlError, NotRunningError, StateError
from mirror.core.folders import holder, source_of
from mirror.core.sockets import control_path, require_private

#: What is known where nobody listens.
NOBODY = "no mirror of this source is running"
#: Seconds between two tries to connect to a mirror that has its queue of connections full.
_PAUSE = 0.01

# struct ucred of unix(7): pid, uid, gid.
_CREDENTIALS = struct.Struct("=iII")
# <sys/un.h> of macOS.
_SOL_LOCAL, _LOCAL_PEERPID = 0, 2


def peer_user(connection: socket.socket) -> int:
    """The user id (effective) of the process at the other end of a connected Unix socket; raises ``OSError``."""
    if sys.platform == "linux":
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(data)[1])
    import ctypes  # takes longer to load than the rest of this module

    user, group = ctypes.c_uint32(), ctypes.c_uint32()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.getpeereid(connection.fileno(), ctypes.byref(user), ctypes.byref(group)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return user.value


def peer_process(connection: socket.socket) -> int | None:
    """The id of the process at the other end; None: it has none here, or is not known. Raises ``OSError``."""
    if sys.platform == "linux":
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(data)[0]) or None
    return connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID) or None


def is_trusted(user: int) -> bool:
    """Whether the other end may see our data: it is the same user, or root, who can read everything anyway."""
    return user in (os.geteuid(), 0)


def connect(folder: Path, timeout: float) -> socket.socket:
    """Connect to the running mirror of the source with this folder in the state directory.

    ``timeout``: seconds that it may take to accept; also the timeout that the socket then has. Raises
    ``NotRunningError`` (retryable) if nothing listens there, ``ControlError`` for any other obstacle; it is retryable
    if the mirror is there but does not accept.
    """
    path = control_path(folder)
    if path.parent != folder:
        try:
            require_private(path.parent)
        except StateError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise not_running("reach the mirror", folder, NOBODY) from error
            raise ControlError("reach the mirror", str(path), str(error)) from error
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise ControlError("reach the mirror", str(path), str(error), retryable=True) from error
    try:
        _connect(connection, path, timeout)
        user = peer_user(connection)
        if not is_trusted(user):
            step = "run this as the user that runs the mirror, or end the process that listens there"
            detail = f"what listens there belongs to another user (uid {user})"
            raise ControlError("reach the mirror", str(path), detail, next_step=step)
        connection.settimeout(timeout)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        connection.close()
        raise not_running("reach the mirror", folder, NOBODY) from error
    except TimeoutError as error:
        connection.close()
        raise silent("reach the mirror", folder, timeout) from error
    except PermissionError as error:
        connection.close()
        step = "run this as the user that runs the mirror"
        raise ControlError("reach the mirror", str(path), "you may not open it", next_step=step) from error
    except OSError as error:
        connection.close()
        raise ControlError("reach the mirror", str(path), error.strerror or str(error), retryable=True) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(connection: socket.socket, path: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    connection.settimeout(timeout)
    while True:
        try:
            connection.connect(str(path))
            return
        except BlockingIOError:  # its queue is full: it is busy, or stopped
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "not accepted") from None
            time.sleep(_PAUSE)


def not_running(operation: str, folder: Path, detail: str) -> NotRunningError:
    """The error where no mirror of the source with this folder is running, or not any more.

    Its next step is what can be told of the folder alone: a command line knows which other options it was given.
    """
    source = source_of(folder)
    step = start_step(source, f" --state-dir {shlex.quote(str(folder.parent.parent))}")
    error = NotRunningError(operation, str(source or folder), detail, next_step=step, retryable=True)
    error.folder = folder
    return error


def start_step(source: Path | None, options: str) -> str:
    """How to start the mirror of a source; ``options``: what the command needs besides, with a space in front."""
    return f"start it with `mirror up {'FILE.db' if source is None else shlex.quote(str(source))}{options}`"


def start_all_step(sources: Iterable[Path | str], options: str) -> str:
    """As :func:`start_step`, for one mirror of several sources."""
    return f"start them with `mirror up {' '.join(shlex.quote(str(source)) for source in sources)}{options}`"


def silent(operation: str, folder: Path, seconds: float) -> ControlError:
    """The error for a mirror that does not answer within ``seconds``. ``folder``: the state folder of its source."""
    process = "its process" if (pid := holder(folder)) is None else f"its process (pid {pid})"
    return ControlError(
        operation,
        str(control_path(folder)),
        f"it does not answer within {seconds:.3g} seconds",
        next_step=f"look at {process}: it is stopped, or the machine is short of memory or time",
        retryable=True,
    )
