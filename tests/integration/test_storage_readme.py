"""The Python blocks of mirror/storage/README.md are run, each in a process of its own, beside a real mirror."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg

from mirror.postgres.migrate import sql_directory
from tests.support.memustore import create_dashboard, create_store
from tests.support.mirrors import MirrorProcess
from tests.support.tenants import add_agents, as_application, make_tables
from tests.support.waiting import LIMIT

ROOT = Path(__file__).parents[2]


def without_routers() -> str:
    """The README but for the section about routers, whose blocks ``test_routers_readme.py`` runs."""
    text = (ROOT / "mirror/storage/README.md").read_text()
    return re.sub(r"^## Read routers.*?(?=^## )", "", text, count=1, flags=re.M | re.DOTALL)


def test_every_block_runs(folder: Path, dsn: str, make_mirror: Callable[..., MirrorProcess]) -> None:
    create_store(folder / "memory.db").close()
    create_dashboard(folder / "dashboard.db").close()
    mirror = make_mirror(folder / "memory.db", folder / "dashboard.db")
    mirror.start()
    mirror.wait_applied()
    storage = {"backend": "dual", "readFrom": "postgres", "postgres": {"connectionString": dsn}}
    config = {"sources": ["memory.db", "dashboard.db"], "stateDir": str(folder / "state"), "storage": storage}
    (folder / "mirror.json").write_text(json.dumps(config))
    environment = os.environ | {"MIRROR_CONFIG": str(folder / "mirror.json"), "MIRROR_SECRET_KEY": "5a" * 32}
    blocks = re.findall(r"^```python\n(.*?)^```", without_routers(), re.M | re.DOTALL)
    shown = ""
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block], env=environment, cwd=folder, capture_output=True, text=True, timeout=LIMIT
        )
        assert done.returncode == 0 and "Traceback" not in done.stderr, done
        shown += done.stdout
    assert len(blocks) == 4
    for told in ("'Tea with Ada'", "Boil water.", "s3cret", "mirror_reads_total", "Ada prefers tea"):
        assert told in shown, told


def test_the_names_of_arguments_in_sql(dsn: str) -> None:
    """Those of the README are those of the functions."""
    make_tables(dsn)
    text = (sql_directory() / "README.md").read_text()
    with psycopg.connect(dsn) as owner:
        for function in ("search_memories", "search_knowledge"):
            [(names,)] = owner.execute(
                "SELECT proargnames[:pronargs] FROM pg_catalog.pg_proc WHERE proname = %s", (function,)
            ).fetchall()
            assert f"`{function}({', '.join(names)})`" in text
    add_agents(dsn, "ada")
    with as_application(dsn) as app:
        for query in re.findall(r"`(SELECT id, score FROM search_memories[^`]*)`", text):
            app.execute("SELECT set_config('app.agent_id', 'ada', false)")
            assert app.execute(query.encode()).fetchall() == []
