"""The Python blocks of mirror/hot/README.md are run, each in a process of its own; its tables name what is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from mirror.hot.connection import Address
from tests.support.waiting import LIMIT

HOT = Path(__file__).parents[2] / "mirror/hot"
TEXT = (HOT / "README.md").read_text()


def test_every_block_runs(folder: Path, valkey: Address, dsn: str) -> None:
    redis = {"host": valkey.host, "port": valkey.port, "db": valkey.db}
    (folder / "mirror.json").write_text(json.dumps({"storage": {"redis": redis}}))
    environment = os.environ | {"MIRROR_CONFIG": str(folder / "mirror.json"), "ARGENT_PG_URL": dsn}
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.DOTALL)
    shown = ""
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block], env=environment, cwd=folder, capture_output=True, text=True, timeout=LIMIT
        )
        assert done.returncode == 0 and "Traceback" not in done.stderr, done
        shown += done.stdout
    assert len(blocks) == 4
    for told in (
        "status='processing'",
        "['ada']",
        "Wrote to Bob",
        "{'task': 7}",
        "pending=0",
        "written as holder",
        "followed",
    ):
        assert told in shown, told


def test_every_module_is_named() -> None:
    for path in HOT.iterdir():
        if path.suffix in (".py", ".sql") and path.name != "__init__.py":
            assert f"`{path.name}`" in TEXT, path.name
