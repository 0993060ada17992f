"""Programs on a MemuStore, for the benchmark ``storage``: their files, their configuration, their processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Any

from common import BENCH, Mirror, Workbench, environment

#: The agent of a store for which the configuration names none.
AGENT = "argent"


def run(script: str, *job: str, python: str = sys.executable, **options: Any) -> dict[str, Any]:
    """Run a job of a script in a process of its own; what it printed last."""
    command = [python, str(BENCH / script), *job, json.dumps(options)]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script} {' '.join(job)} failed with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def build(path: Path, items: int, dims: int) -> None:
    """Make a MemuStore with items."""
    ddl = resources.files("mirror.cli.demo").joinpath("memory_store.sql").read_text()
    run("_memories.py", "build", path=str(path), ddl=ddl, items=items, dims=dims)


def configure(bench: Workbench, source: Path, name: str, schema: str = "public", **storage: Any) -> str:
    """A mirror.json for a program; its path."""
    path = bench.folder / f"{name}.json"
    value = {
        "sources": [{"path": str(source), "schema": schema}],
        "stateDir": str(bench.state_dir),
        "storage": {"postgres": {"connectionString": bench.dsn}} | storage,
    }
    path.write_text(json.dumps(value))
    return str(path)


def with_schema(bench: Workbench, schema: str) -> str:
    """A DSN whose connections look into a schema first."""
    return f"{bench.dsn} options='-c search_path={schema},public'"


def wait_for_index(bench: Workbench, mirror: Mirror, schema: str, dims: int, timeout: float = 1200.0) -> None:
    """Wait until the items' embeddings have their index."""
    deadline = time.monotonic() + timeout
    valid = (
        "SELECT bool_or(i.indisvalid) FROM pg_index i WHERE i.indrelid = to_regclass($1)"
        " AND pg_get_indexdef(i.indexrelid) LIKE $2"
    )
    with bench.connect() as conn:
        while conn.execute(valid, [f"{schema}.memory_items", f"%hnsw%vector({dims})%"]).fetchone() != (True,):
            status = mirror.status()
            if time.monotonic() > deadline or status["index_error"]:
                raise SystemExit(f"there is no index of the embeddings: {status['index_error']}")
            time.sleep(0.1)
