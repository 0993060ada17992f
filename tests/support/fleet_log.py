"""What the programs of a fleet write down, and a board in memory that all of them and the test see."""

from __future__ import annotations

import json
import mmap
import os
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

#: Programs that a board has room for.
MOST = 16


class State(IntEnum):
    """What a program does, and what it is to do."""

    STARTING = 0
    RUNNING = 1
    PAUSED = 2
    STOPPED = 3


class Board:
    """Numbers of 8 bytes in a mapped file: each has one writer, and is written at once."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 * (1 + 3 * MOST)))
        descriptor = os.open(path, os.O_RDWR)
        try:
            self._numbers = memoryview(mmap.mmap(descriptor, 0)).cast("Q")
        finally:
            os.close(descriptor)

    @property
    def wanted(self) -> State:
        """What all programs are to do."""
        return State(self._numbers[0])

    @wanted.setter
    def wanted(self, state: State) -> None:
        self._numbers[0] = state

    def state(self, program: int) -> State:
        return State(self._numbers[1 + program])

    def is_now(self, program: int, state: State) -> None:
        self._numbers[1 + program] = state

    def tell(self, program: int, counted: int) -> None:
        """Say what the shared counter was when it was last acknowledged to a program."""
        self._numbers[1 + MOST + program] = counted

    def newest(self) -> int:
        """The highest number of the shared counter that was acknowledged to anyone."""
        return max(self._numbers[1 + MOST : 1 + 2 * MOST])

    def count(self, program: int) -> None:
        self._numbers[1 + 2 * MOST + program] += 1

    def turns(self, program: int) -> int:
        """How often a program has done all its calls."""
        return int(self._numbers[1 + 2 * MOST + program])


@dataclass
class Known:
    """What a log shows."""

    items: dict[str, int] = field(default_factory=dict)
    """Versions of the items that were acknowledged and not deleted, by id, the oldest first."""
    counted: list[int] = field(default_factory=list)
    """Numbers of the shared counter that were acknowledged."""
    made: int = 0
    """Creations that were begun."""
    pending: tuple[str, str] | None = None
    """The call that was begun last, if it has not ended: kind, and id (or summary)."""
    maybe_made: set[str] = field(default_factory=set)
    """Summaries of items whose creation was begun and never ended."""
    maybe_counted: int = 0
    """Confirmations of the shared counter that were begun and never ended."""
    failed: str = ""


class Log:
    """One program's. A line is in the file (the system's, not only this process') before the call goes on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def begin(self, kind: str, name: str) -> None:
        self._write("begin", kind, name)

    def end(self, kind: str, name: str, version: int) -> None:
        """The call was acknowledged: of the item with this id there is now this version."""
        self._write("end", kind, name, version)

    def resolve(self, kind: str, name: str, version: int) -> None:
        """What became of a call in which the process was killed, as a later one has read."""
        self._write("end", kind, name, version)

    def fail(self, why: str) -> None:
        self._write("fail", why)

    def _write(self, *entry: object) -> None:
        os.write(self._descriptor, (json.dumps(entry) + "\n").encode())

    def read(self) -> Known:
        return read(self._path)


def read(path: Path) -> Known:
    """What a log shows; its last line may be cut off."""
    known = Known()
    for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
        if not line.endswith("\n"):
            continue
        what, *entry = json.loads(line)
        if what == "fail":
            known.failed = entry[0]
        elif what == "begin":
            _left(known)
            known.pending = entry[0], entry[1]
            known.made += entry[0] == "create"
        else:
            _end(known, *entry)
    return known


def _left(known: Known) -> None:
    """Another call begins: what became of the one before is not known to the program."""
    if known.pending is not None and known.pending[0] == "create":
        known.maybe_made.add(known.pending[1])
    if known.pending is not None and known.pending[0] == "count":
        known.maybe_counted += 1
    known.pending = None


def _end(known: Known, kind: str, name: str, version: int) -> None:
    known.pending = None
    if kind == "count":
        known.counted.append(version)
    elif version:
        known.items[name] = version
    else:
        known.items.pop(name, None)
