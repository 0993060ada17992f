"""Reads of programs on storage adapters in the status of their mirror."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mirror
from mirror.core.control import ControlClient
from mirror.core.folders import source_folder
from mirror.storage import reporting
from tests.support.mirrors import MirrorProcess
from tests.support.storage import create_files, write_config
from tests.support.waiting import LIMIT

#: A program that reads its memory twice and its tasks once, and ends without closing its adapter.
PROGRAM = """
import sys, mirror
from mirror.storage import reporting
reporting.LAST_SECONDS = 200
adapter = mirror.get_storage_adapter(config=sys.argv[1])
for _ in range(2):
    adapter.memory.count_items()
adapter.tasks.list()
"""


def test_programs_that_come_and_go(
    folder: Path, dsn: str, make_mirror: Callable[..., MirrorProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "LAST_SECONDS", LIMIT)
    create_files(folder)
    process = make_mirror(folder / "memory.db", folder / "dashboard.db")
    process.start()
    process.wait_applied()
    config = write_config(folder, dsn, backend="dual")

    def reads(name: str) -> dict[str, int]:
        with ControlClient(source_folder(folder / "state", process.sources[name == "dashboard"]), LIMIT) as client:
            return {f"{each.store}:{each.reason}": each.count for each in client.status().reads}

    with mirror.get_storage_adapter(config=config) as adapter:
        adapter.memory.count_items()
    assert reads("memory") == {"sqlite:setting": 1} and reads("dashboard") == {}
    subprocess.run([sys.executable, "-c", PROGRAM, config], check=True, timeout=LIMIT)
    assert reads("memory") == {"sqlite:setting": 3} and reads("dashboard") == {"sqlite:setting": 1}
