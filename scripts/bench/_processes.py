"""Processes under measurement: what they have spent and hold, and ``mirror up`` of any build as one of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

import psutil
from _environments import THIS, Build
from common import environment

_STOP_SECONDS = 60.0


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started, itself first."""
    first = psutil.Process(pid)
    return [first, *first.children(recursive=True)]


def spent(processes: Sequence[psutil.Process]) -> float:
    """Seconds of processor time, user and system, of processes and of those of their children that have ended."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # its parent has counted it, if it waited for it
            times = process.cpu_times()
            total += times.user + times.system
            total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


Group = Callable[[], list[psutil.Process]]


class Meter:
    """What groups of processes spend from its making on."""

    def __init__(self, groups: Mapping[str, Group]) -> None:
        """``groups``: the processes of each, looked up when they are asked for: some begin or end meanwhile."""
        self._groups = groups
        self._before = self._all()

    def _all(self) -> dict[str, float]:
        return {name: spent(group()) for name, group in self._groups.items()}

    def taken(self) -> dict[str, float]:
        """Seconds of processor time of each group."""
        return {name: seconds - self._before[name] for name, seconds in self._all().items()}


def resident(processes: Sequence[psutil.Process]) -> float:
    """Megabytes of resident memory, pages that they share counted for each."""
    return float(sum(process.memory_info().rss for process in processes)) / 1e6


class Running:
    """A process of ours, with a name for what it does; killed at the end if it has not been stopped."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        root: Path = THIS.root,
        cwd: Path | None = None,
        log: bool = False,
        **env: str,
    ) -> None:
        """``root``: whose package it imports. ``log``: show what it says. ``env``: more variables for it."""
        shown = None if log else subprocess.DEVNULL
        self.process = subprocess.Popen(
            [str(word) for word in command], env=environment(root) | env, stdin=subprocess.DEVNULL, stdout=shown,
            stderr=shown, start_new_session=True,
            cwd=cwd or root,  # `python -m` looks there first
        )  # fmt: skip
        self.pid = self.process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def kill(self) -> None:
        """End it as ``kill -9`` does: it alone, not what it has started."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it by SIGTERM; what does not end in a minute is killed."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.runs:
            self.stop()


class Up(Running):
    """``mirror up`` of a build, by its command line alone: older builds have it, too."""

    def __init__(
        self,
        dsn: str,
        state_dir: Path,
        sources: Sequence[Path],
        *,
        build: Build = THIS,
        schemas: Sequence[str] = (),
        log: bool = False,
    ) -> None:
        """``schemas``: one for each source; none: all in ``public``."""
        named: list[str | Path] = list(sources)
        if schemas:
            config = state_dir.with_suffix(".json")
            pairs = zip(sources, schemas, strict=True)
            config.write_text(json.dumps({"sources": [{"path": str(path), "schema": name} for path, name in pairs]}))
            named = ["--config", config]
        self.build, self.options = build, ["--postgres", dsn, "--state-dir", str(state_dir)]
        command = [build.python, "-m", "mirror", "up", *named, *self.options]
        super().__init__(command, root=build.root, log=log)

    def groups(self, server_pid: int) -> dict[str, Group]:
        """The mirror's process, its capture, and the processes of Postgres."""
        return {
            "mirror": lambda: family(self.pid)[:1],
            "capture": lambda: family(self.pid)[1:],
            "Postgres": partial(family, server_pid),
        }
