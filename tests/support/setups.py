"""The setup scripts in tests: run as a person runs them, in a folder that any user can read."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.commands import Done
from tests.support.waiting import LIMIT

SCRIPTS = Path(__file__).parents[2] / "scripts"
#: Whom root runs what may not run as root.
NOBODY = "nobody"


def as_nobody() -> dict[str, Any]:
    """Options of a process, for root: that it runs as another user; empty for others."""
    if os.geteuid():
        return {}
    found = pwd.getpwnam(NOBODY)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def listening() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class Setup:
    """Runs a script of ``scripts/`` with ``folder`` as home."""

    def __init__(self, folder: Path, name: str, path: str, **options: Any) -> None:
        """``path``: the ``PATH``; ``options``: for ``subprocess.run``."""
        self._home = folder
        self._path = path
        self._options = options
        scripts = folder / "scripts"
        scripts.mkdir(mode=0o755, exist_ok=True)
        for each in SCRIPTS.glob("setup-*.sh"):
            shutil.copy(each, scripts)
        self._script = scripts / name

    def run(self, *arguments: object, env: Mapping[str, str] | None = None) -> Done:
        """Run it to its end."""
        environment = {"HOME": str(self._home), "PATH": self._path, "LC_ALL": "C", **(env or {})}
        done = subprocess.run(
            [self._script, *map(str, arguments)],
            env=environment,
            cwd=self._home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            **self._options,
        )
        return Done(done.returncode, done.stdout, done.stderr)


def files(folder: Path) -> dict[Path, tuple[int, int]]:
    """All files below a folder, with their inode and time of change."""
    return {
        path: (path.lstat().st_ino, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() or path.is_symlink()
    }
