"""Programs that stand in for others: each writes down how it was called, and does no more than a test has it do."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

#: Writes its arguments as one line of JSON, and goes on with what a test wants.
_RECORDER = (
    "import json, os, sys\n"
    "with open(sys.argv[1], 'a') as calls:\n"
    "    calls.write(json.dumps([os.path.basename(sys.argv[2]), *sys.argv[3:]]) + '\\n')\n"
)


class Stubs:
    """A folder for the front of ``PATH``."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "stubs"
        self.bin.mkdir(mode=0o755, exist_ok=True)
        self._calls = folder / "calls"
        self._calls.touch(mode=0o666)
        self._calls.chmod(0o666)
        self._recorder = folder / "record.py"
        self._recorder.write_text(_RECORDER)

    def add(self, name: str, then: str = "exit 0") -> None:
        """Have a program of this name; ``then``: what it does, for ``sh``, with its arguments in ``"$@"``."""
        path = self.bin / name
        record = shlex.join([sys.executable, "-S", str(self._recorder), str(self._calls)])
        path.write_text(f'#!/bin/sh\n{record} "$0" "$@" </dev/null\n{then}\n')
        path.chmod(0o755)

    @property
    def calls(self) -> list[list[str]]:
        """Each call's program and arguments, the earliest first."""
        return [json.loads(line) for line in self._calls.read_text().splitlines()]

    def forget(self) -> None:
        """Forget the calls until now."""
        self._calls.write_text("")

    @property
    def path(self) -> str:
        """The ``PATH`` that finds them first."""
        return f"{self.bin}:{os.environ['PATH']}"
