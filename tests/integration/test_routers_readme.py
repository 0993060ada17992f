"""The Python blocks of the section about routers are run, beside a real mirror of tables that the program made."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.integration.test_routers import write_flag
from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import LIMIT

README = Path(__file__).parents[2] / "mirror/storage/README.md"
#: What is put behind each block: reads come from Postgres after a while.
READS = """
import time
from mirror.storage.reads import READS
while ("postgres", "fresh") not in READS.values():
    assert read() == 7
print("fresh")
"""
MORE = {
    "django": """
from django.conf import settings
settings.configure(**{name: value for name, value in globals().items() if name.isupper()})
import django
django.setup()
from django.db import models
Cup = type("Cup", (models.Model,), {
    "__module__": "app", "n": models.IntegerField(), "Meta": type("Meta", (), {"app_label": "app", "db_table": "cup"})})
read = lambda: Cup.objects.get(pk=1).n
""",
    "sqlalchemy": """
from sqlalchemy import column, select, table
def read():
    with Session() as session:
        return session.execute(select(column("n")).select_from(table("cup", column("n")))).scalar()
""",
    "langgraph": "",
}


def run(folder: Path, block: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", block],
        env=os.environ | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_block_runs(folder: Path, dsn: str, mirror: MirrorProcess, writer: Writer) -> None:
    database = folder / "app.db"
    mirror.sources[:] = [database]
    (section,) = re.findall(r"^## Read routers.*?(?=^## )", README.read_text(), re.M | re.DOTALL)
    blocks = re.findall(r"^```python\n(.*?)^```", section, re.M | re.DOTALL)
    named = {key: str(value) for key, value in conninfo_to_dict(dsn).items()}
    name = named.pop("dbname")
    environment = {f"PG{key.upper()}": value for key, value in named.items()}
    blocks = [
        block.replace("///app", f"///{name}", 1).replace('"NAME": "app"', f'"NAME": "{name}"') for block in blocks
    ]
    blocks[1] = blocks[1].replace(f"sqlite:///{name}", "sqlite:///app")
    with Writer(database) as own:
        own.run("PRAGMA journal_mode=WAL", "CREATE TABLE cup(id INTEGER PRIMARY KEY, n INTEGER)")
        own.run("INSERT INTO cup VALUES (1, 7)")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE cup(id bigint PRIMARY KEY, n bigint)")
        # LangGraph's stores make their tables at first; then both are adopted.
        setup = "from langgraph.store.postgres import PostgresStore\nfrom langgraph.store.sqlite import SqliteStore\n"
        setup += f"with PostgresStore.from_conn_string('postgresql:///{name}') as store: store.setup()\n"
        setup += "with SqliteStore.from_conn_string('app.db') as store: store.setup()\n"
        run(folder, setup, environment)
        adopted = CommandLine(folder, dsn).run("adopt", database)
        assert adopted.code == 0, adopted.out + adopted.err
        mirror.start()
        mirror.wait_applied()
        write_flag(folder / "mirror.json", "postgres")
        assert json.loads((folder / "mirror.json").read_text())["storage"]["backend"] == "dual"
        for (kind, more), block in zip(MORE.items(), blocks, strict=True):
            code = block if kind == "langgraph" else block + more + READS
            shown = run(folder, code, environment)
            assert shown.strip().splitlines()[-1] == ("{'kind': 'green'}" if kind == "langgraph" else "fresh")
