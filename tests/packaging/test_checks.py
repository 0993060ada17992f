"""The checks before a commit are those that CI runs, and CI runs what the README says."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_hooks_of_pre_commit_are_the_checks() -> None:
    hooks = re.findall(r"^ +entry: \.venv/bin/python (.+)$", (ROOT / ".pre-commit-config.yaml").read_text(), re.M)
    checks = re.findall(r'^"\$python" (.+)$', (ROOT / "scripts" / "check").read_text(), re.M)
    assert hooks == checks != []


def test_every_job_runs_the_same_script() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    jobs = re.findall(r"^  [a-z]+:\n    name: ", workflow, re.M)
    assert re.findall(r"^ +- run: (.+)$", workflow, re.M) == [".ci/run"] * len(jobs) != []
