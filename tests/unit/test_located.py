"""An error that the system gave is told with the place where it happened."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mirror.core.errors import StateError
from mirror.sidecar.source_folder import SourceTask, located

TASK = SourceTask(Path("/data/source.db"), Path("/state/sources/source.db-1"), "dsn", "public")


def error(number: int, name: object = None) -> OSError:
    return OSError(number, os.strerror(number)) if name is None else OSError(number, os.strerror(number), name)


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (
            error(errno.ENOENT, "/state/sources/source.db-1/spool/1.seg"),
            "use the state directory (/state/sources/source.db-1/spool/1.seg): No such file or directory",
        ),
        (
            error(errno.EACCES, b"/state/sources/source.db-1/lock"),
            "use the state directory (/state/sources/source.db-1/lock): Permission denied -- choose another"
            f" --state-dir, or let this user (uid {os.geteuid()}) write there",
        ),
        (
            error(errno.ENOSPC),
            "use the state directory (/state/sources/source.db-1): No space left on device -- make room in /, or"
            " choose another --state-dir",
        ),
        (
            error(errno.EROFS, "/state/sources/source.db-1/lock"),
            "use the state directory (/state/sources/source.db-1/lock): Read-only file system -- choose another"
            " --state-dir",
        ),
        (error(errno.ENOENT, "/usr/bin/python"), "run the mirror (/usr/bin/python): No such file or directory"),
        (error(errno.EACCES, 7), "run the mirror (/data/source.db): Permission denied"),
        (error(errno.ENOBUFS), "run the mirror (/data/source.db): No buffer space available"),
        (
            error(errno.EMFILE),
            "open a file or a socket: Too many open files -- raise the limit of open files (`ulimit -n`)",
        ),
        (
            error(errno.EMFILE, "/state/sources/source.db-1/shadow.db"),
            "open a file or a socket (/state/sources/source.db-1/shadow.db): Too many open files"
            " -- raise the limit of open files (`ulimit -n`)",
        ),
        (OSError("short write"), "run the mirror (/data/source.db): short write"),
    ],
)
def test_the_place(cause: OSError, told: str) -> None:
    found = located(cause, TASK)
    assert str(found) == told
    assert found.retryable
    assert isinstance(found, StateError) == told.startswith("use the state directory")
