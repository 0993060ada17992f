"""Three sources in one mirror: two that go on, and one to which something happens."""

from __future__ import annotations

import fcntl
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from mirror.core.folders import source_folder
from mirror.core.sockets import control_path
from tests.support.commands import CommandLine
from tests.support.descriptors import mapped_files, open_files
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import until

#: Seconds within which a row of a source that goes on must be in Postgres. (It takes some ten milliseconds, more on a
#: machine under load; if one source had to wait for another, it would take longer than this.)
LIMIT = 5.0
FILL = (
    "WITH RECURSIVE n(i) AS (SELECT {0} UNION ALL SELECT i + 1 FROM n WHERE i < {1})"
    " INSERT INTO t_{2} SELECT i, 'row ' || i || hex(randomblob(50)) FROM n"
)


class House:
    """``one`` and ``two`` go on, ``bad`` may not; each in a folder of its own, with a table ``t_NAME``."""

    def __init__(self, folder: Path, dsn: str, make_mirror: Callable[..., MirrorProcess]) -> None:
        self.folder = folder
        self.dsn = dsn
        self.paths = {name: folder / name / f"{name}.db" for name in ("one", "two", "bad")}
        self.bad = self.paths["bad"]
        self.writers: dict[str, Writer] = {}
        for name, path in self.paths.items():
            path.parent.mkdir()
            self.writers[name] = Writer(path)
            self.writers[name].run(
                "PRAGMA journal_mode=WAL",
                "PRAGMA synchronous=NORMAL",
                f"CREATE TABLE t_{name}(id INTEGER PRIMARY KEY, v)",
                FILL.format(1, 500, name),
            )
        self.mirror = make_mirror(*self.paths.values())
        self.mirror.log = folder / "mirror.log"
        self.cli = CommandLine(folder, dsn)
        self.lags: list[float] = []

    @property
    def state(self) -> Path:
        """The failing source's folder in the state directory."""
        return source_folder(self.mirror.state_dir, self.bad.resolve())

    def start(self) -> None:
        """Have all three followed."""
        self.mirror.start()
        self.mirror.wait_applied()

    def close(self) -> None:
        for writer in self.writers.values():
            writer.kill()
        print(self.log)

    # -- the two that go on ------------------------------------------------------------------------

    @contextmanager
    def others_go_on(self, *, capture_dies: bool = False) -> Iterator[None]:
        """During the block, write rows to the two others in turn, and check that each is in Postgres soon.

        They must not be interrupted either, unless ``capture_dies``.
        """
        before = {name: self.mirror.status(self.paths[name]) for name in ("one", "two")}
        ended = threading.Event()
        problems: list[str] = []
        thread = threading.Thread(target=self._probe, args=(ended, problems))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            worst, middle = max(self.lags), sorted(self.lags)[len(self.lags) // 2]
            print(f"lag of the others: {len(self.lags)} rows, median {middle:.3f} s, worst {worst:.3f} s")
        assert not problems, problems
        assert self.mirror.alive
        for name, then in before.items():
            now = self.mirror.status(self.paths[name])
            assert now["phase"] == "following", now
            assert now["resyncs"] == then["resyncs"], "it was copied again"
            assert now["gaps"] == then["gaps"]
            assert capture_dies or now["interruptions"] == then["interruptions"], now

    def _probe(self, ended: threading.Event, problems: list[str]) -> None:
        number = 1_000_000
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            while not ended.is_set() or not self.lags:
                number += 1
                for name in ("one", "two"):
                    self.writers[name].run(f"INSERT INTO t_{name} VALUES ({number}, 'marker')")
                    written = time.monotonic()
                    query = f"SELECT 1 FROM t_{name} WHERE id = {number}".encode()
                    while connection.execute(query).fetchone() is None:
                        if time.monotonic() - written > LIMIT:
                            problems.append(f"row {number} of {name} was not in Postgres after {LIMIT} seconds")
                            return
                        time.sleep(0.005)
                    self.lags.append(time.monotonic() - written)

    # -- the one to which something happens --------------------------------------------------------

    def status_of_bad(self) -> dict[str, Any]:
        """The failing source's status, as the command reports it, also when no process mirrors it."""
        done = self.cli.run("status", self.bad, "--json", *self.options)
        assert done.code == 0, done
        (report,) = json.loads(done.out)["sources"]
        return dict(report)

    @property
    def options(self) -> list[object]:
        """The options with which a command finds this mirror's source."""
        schema = self.mirror.schemas.get(self.bad)
        return ["--state-dir", self.mirror.state_dir, *(() if schema is None else ("--schema", schema))]

    @property
    def log(self) -> str:
        """What the mirror's processes have logged."""
        assert self.mirror.log is not None
        return self.mirror.log.read_text() if self.mirror.log.exists() else ""

    def errors(self) -> list[str]:
        """The errors in the log."""
        return [line for line in self.log.splitlines() if "| ERROR" in line]

    def await_failure(self) -> str:
        """Wait until the source has failed and is not retried; return the line that was logged."""
        until(lambda: bool(self.errors()))
        until(lambda: not self.is_held(self.state / "lock"))
        (line,) = self.errors()
        assert "bad.db" in line
        return line

    @staticmethod
    def is_held(lock: Path) -> bool:
        """Whether a process has the lock of a file, if there is one."""
        if not lock.exists():
            return False
        with open(lock, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def held_files(self) -> list[str]:
        """Which of the source's files the mirror's processes have open, or mapped: database, log, index, state."""
        folders = self.state.resolve(), self.bad.parent.resolve()
        return [
            f"{process.pid}: {path}"
            for process in self.mirror.processes()
            for folder in folders
            for path in (*open_files(process.pid, folder), *mapped_files(process.pid, folder))
        ]

    def assert_released(self) -> None:
        """Locks, socket, files and Postgres are free, while the process goes on."""
        until(lambda: not self.held_files() and not self.is_held(self.state / "spool" / "lock"))
        assert not control_path(self.state).exists()
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            query = (
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            until(lambda: connection.execute(query, (0x6D697272,)).fetchone() == (2,))
