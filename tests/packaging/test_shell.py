"""The shell scripts pass shellcheck, and run in the bash of macOS (3.2), as far as that can be seen."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKER = Path(sys.executable).with_name("shellcheck")
SCRIPTS = sorted({ROOT / "scripts" / "check", ROOT / ".ci" / "run", *(ROOT / "scripts").rglob("*.sh")})
FINDINGS = sorted((ROOT / "findings").glob("*.sh"))
#: What bash 3.2 does not have.
_LATER = re.compile(r"\b(mapfile|readarray|declare -[An]|local -n|coproc)\b|\$\{\w+(\^\^?|,,?|@[A-Z])\}|&>>|\|&|;;&")


def test_shellcheck_finds_nothing() -> None:
    """Nothing is left out: neither by options, nor by settings of a folder or a person."""
    done = subprocess.run([CHECKER, "--norc", *SCRIPTS, *FINDINGS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing_in_one_alone(script: Path) -> None:
    """From its own folder, and without the files that it sources named beside it."""
    done = subprocess.run([CHECKER, script.name], cwd=script.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_it_is_written_for_the_oldest_bash_in_use(script: Path) -> None:
    assert not _LATER.search(script.read_text())


@pytest.mark.parametrize("script", [path for path in SCRIPTS if path.name != "setup-common.sh"], ids=lambda p: p.name)
def test_it_can_be_started_and_stops_at_the_first_failure(script: Path) -> None:
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n") and "\nset -euo pipefail\n" in text
    assert script.stat().st_mode & 0o100
