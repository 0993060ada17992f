"""What the rows of the table of steps and faults came to: ``python -m tests.support.outcomes FOLDER``.

Where MIRROR_OUTCOMES names a folder, each row that has gone well leaves a file there; this makes
``tests/fault/OUTCOMES.md`` of all.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mirror.cutover.ways import BACK_TO_1, BACK_TO_2, FINALIZE, TO_2, TO_3
from tests.support.commands import Done

TABLE = Path(__file__).parents[1] / "fault" / "OUTCOMES.md"
_WAYS = {"1 to 2": TO_2, "2 to 3": TO_3, "3 to 2": BACK_TO_2, "2 to 1": BACK_TO_1, "finalize": FINALIZE}
_FAULTS = ("command", "mirror", "program", "all")
_HEAD = """# What a kill in each step of a move comes to

Made by `MIRROR_OUTCOMES=folder .venv/bin/python -m pytest -m "slow or not slow" tests/fault/test_cutover_fleet.py`
and `.venv/bin/python -m tests.support.outcomes folder`.

While eight programs work, a command that moves them stands at a place between two steps (*before*) or in one (*in*:
what it does is done, and not logged), and something is killed with -9: the command, the mirror, one of the programs, or
all three. In the last case a program that knows of no move then writes to the file, before the mirror is started again.

In each row that was run no call of a program failed, nothing that was acknowledged was lost or came twice, no read was
of the past, and both stores were equal at the end. A cell says how the command ended; *undone* or *left* (the next one
does the rest) where it did not come to its end; and what the same command then did.

"""


def record(way: str, seam: str, fault: str, done: Done, stood: dict[str, Any], then: str) -> None:
    """Keep what a row came to, if that is wanted. ``stood``: the phase when all was started again."""
    if fault in ("command", "all"):
        first = "killed"
    else:
        first = "completed" if done.code == 0 else "failed"
    if then:
        first += f", {'left' if stood['moving_to'] is not None else 'undone'} in phase {stood['phase']}"
    _keep(way, seam, fault, f"{first}; then {then}" if then else first)


def record_failure(way: str, seam: str, fault: str, error: BaseException) -> None:
    """Keep that a row has failed, and why."""
    if isinstance(error, Exception):  # not that somebody has interrupted it
        _keep(way, seam, fault, "**failed**", str(error))


def _keep(way: str, seam: str, fault: str, text: str, why: str = "") -> None:
    if not (folder := os.environ.get("MIRROR_OUTCOMES")):
        return
    path = Path(folder) / f"{way} {seam} {fault}.json".replace("/", "-")
    path.write_text(json.dumps({"way": way, "seam": seam, "fault": fault, "outcome": text, "why": why}))


def table(found: Iterable[dict[str, str]]) -> str:
    """The Markdown text."""
    known = {(one["way"], one["seam"], one["fault"]): one["outcome"] for one in found}
    lines = []
    for way, steps in _WAYS.items():
        lines += [f"## {way}", "", "| | " + " | ".join(f"{fault} killed" for fault in _FAULTS) + " |", "|---" * 5 + "|"]
        for step in steps:
            for where in ("before", "in"):
                seam = f"{where} {step.name}"
                cells = [known.get((way, seam, fault), "not run") for fault in _FAULTS]
                lines.append(f"| {seam} | {' | '.join(cells)} |")
        lines.append("")
    return _HEAD + "\n".join(lines)


if __name__ == "__main__":
    TABLE.write_text(table(json.loads(path.read_text()) for path in Path(sys.argv[1]).glob("*.json")))
