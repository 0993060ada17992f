"""The mirror as a person runs it, by its commands, and Postgres as anybody reads it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

_ROOT = Path(__file__).resolve().parents[3]
#: Settings of the person who runs this.
_FOREIGN = ("ARGENT_", "CLAWDBOT_", "MIRROR_", "PG_URL")
#: Until it follows, waits or ends; it takes one or two seconds on a quiet machine.
_SETTLED_SECONDS = 60.0
_END_SECONDS = 60.0

#: Rows of each table, as ``_rows.py`` shows them.
Rows = dict[str, dict[str, Any]]


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Its last line."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return lines[-1] if lines else ""


class Mirror:
    """``mirror up`` of one file in a process of its own, and the commands that people ask it with."""

    def __init__(self, source: Path, folder: Path, dsn: str) -> None:
        self.source = source
        self._folder = folder
        self._log = folder / "mirror.log"
        self._process: subprocess.Popen[bytes] | None = None
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._environment = kept | {"HOME": str(folder), "ARGENT_PG_URL": dsn, "PYTHONPATH": path}

    @property
    def runs(self) -> bool:
        """Whether its process has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and wait until it follows, says why it waits, or has ended."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("up"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )
        deadline = time.monotonic() + _SETTLED_SECONDS
        while self.runs and time.monotonic() < deadline:
            status = self.status()
            if status.get("phase") == "following" or status.get("last_error"):
                return
            time.sleep(0.1)

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End it as a service manager does."""
        if self._process is None or not self.runs:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def run(self, *arguments: str) -> Done:
        """Run a command about the file."""
        first, *options = arguments
        done = subprocess.run(
            self._command(*first.split(), options=options),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            env=self._environment,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def status(self) -> dict[str, Any]:
        """Its status report; empty if there is none."""
        try:
            sources = json.loads(self.run("status", "--json").out)["sources"]
        except (ValueError, KeyError):
            return {}
        return dict(sources[0]) if sources else {}

    def log_says(self) -> str:
        """The last line of its log."""
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        return lines[-1] if lines else ""

    def _command(self, *words: str, options: list[str] | None = None) -> list[str]:
        state = ["--state-dir", str(self._folder / "state")]
        return [sys.executable, "-m", "mirror", *words, str(self.source), *state, *(options or [])]


@contextmanager
def database(server: str) -> Iterator[str]:
    """Give the connection string of a new database, dropped at the end."""
    name = f"writers_{os.getpid()}_{time.monotonic_ns()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        try:
            yield psycopg.conninfo.make_conninfo(server, dbname=name)
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def missing(dsn: str, truth: Rows) -> str:
    """Compare the rows of a database with Postgres; return how they differ, or an empty text."""
    places, lost, wrong = [], 0, 0
    with psycopg.connect(dsn) as connection:
        for name, table in truth.items():
            wanted = Counter(tuple(row) for row in table["rows"])
            got = _rows_of(connection, name, table["columns"])
            if got != wanted:
                places.append(name)
                lost += (wanted - (got or Counter())).total()
                wrong += ((got or Counter()) - wanted).total()
    if not places:
        return ""
    rows = sum(len(table["rows"]) for table in truth.values())
    return f"{lost} of {rows} rows are missing, {wrong} are wrong, in {', '.join(places)}"


def _rows_of(connection: psycopg.Connection[Any], name: str, columns: list[str]) -> Counter[tuple[str, ...]] | None:
    """Return the rows of a table of Postgres; None if it or one of its columns is not there."""
    listed = ", ".join(f'"{column}"' for column in columns)
    try:
        with connection.transaction():
            rows = connection.execute(f'SELECT {listed} FROM public."{name}"').fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        return None
    return Counter(tuple(_shown(value) for value in row) for row in rows)


def _shown(value: object) -> str:
    """Show a value of Postgres as ``_rows.py`` shows the same of SQLite."""
    if value is None:
        return "null"
    if isinstance(value, int):
        return f"i:{value}"
    if isinstance(value, float):
        return f"r:{value.hex()}"
    if isinstance(value, bytes):
        return f"b:{hashlib.sha256(value).hexdigest()}"
    return f"t:{value}"


def apart(file: Rows, truth: Rows) -> str:
    """Return which tables a file does not hold as they were written, or an empty text; it may hold others."""
    return ", ".join(name for name in sorted(truth) if file.get(name) != truth[name])
