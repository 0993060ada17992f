"""Both ends of a control socket make sure of each other: the other process must be our user's, or root's.

The socket lies in a directory that is open to nobody else (:mod:`mirror.core.folders`). The kernel also knows which
user is at the other end, so that neither a directory that somebody has opened nor a name that somebody else has taken
first lets rows or requests pass between two users.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import time
from pathlib import Path

from mirror.core.errors import ControlError, NotRunningError, StateError
from mirror.core.folders import holder
from mirror.core.sockets import control_path, require_private

#: Seconds between two tries to connect to a mirror that has as many callers as it can keep waiting.
_PAUSE = 0.01

# struct ucred of unix(7): pid, uid, gid.
_CREDENTIALS = struct.Struct("=iII")


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


def is_trusted(user: int) -> bool:
    """Whether the other end may see what ours does: it is the same user's, or root's, who sees everything anyway."""
    return user in (os.geteuid(), 0)


def connect(folder: Path, timeout: float) -> socket.socket:
    """Connect to the running mirror of the source with this folder in the state directory.

    ``timeout``: seconds that it may take to accept; also the timeout that the socket then has. Raises
    ``NotRunningError`` (retryable) if nobody listens there, ``ControlError`` for anything else that is in the way;
    retryable if the mirror is there and only does not accept.
    """
    path = control_path(folder)
    if path.parent != folder:
        try:
            require_private(path.parent)
        except StateError as error:
            if not os.path.lexists(path.parent):
                raise _not_running(path) from error
            raise ControlError("reach the mirror", str(path), str(error)) from error
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise ControlError("reach the mirror", str(path), str(error), retryable=True) from error
    try:
        _connect(connection, path, timeout)
        user = peer_user(connection)
        if not is_trusted(user):
            step = "run this as the user that runs the mirror, and end what else listens there"
            detail = f"what listens there belongs to another user (uid {user})"
            raise ControlError("reach the mirror", str(path), detail, next_step=step)
        connection.settimeout(timeout)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        connection.close()
        raise _not_running(path) from error
    except TimeoutError as error:
        connection.close()
        raise silent("reach the mirror", folder, timeout) from error
    except PermissionError as error:
        connection.close()
        step = "run this as the user that runs the mirror"
        raise ControlError("reach the mirror", str(path), "it may not be opened", next_step=step) from error
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
        except BlockingIOError:  # its queue is full: it is busy, or stands still
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "not accepted") from None
            time.sleep(_PAUSE)


def _not_running(path: Path) -> NotRunningError:
    return NotRunningError(
        "reach the mirror",
        str(path),
        "no mirror of this source is running",
        next_step="start it with `mirror up`",
        retryable=True,
    )


def silent(operation: str, folder: Path, seconds: float) -> ControlError:
    """The error for a mirror that is there and does not answer within so many seconds. ``folder``: of its source."""
    process = "its process" if (pid := holder(folder)) is None else f"its process (pid {pid})"
    return ControlError(
        operation,
        str(control_path(folder)),
        f"it does not answer within {seconds:.3g} seconds",
        next_step=f"look at {process}: it is stopped, or the machine is short of memory or time",
        retryable=True,
    )
