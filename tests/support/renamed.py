"""A source whose file is given another name by ``mirror cutover advance --fence rename``; programs that look for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from mirror.core.place import is_away, is_stand_in, other_name
from tests.support.commands import CommandLine, stop
from tests.support.source import Writer
from tests.support.waiting import LIMIT

READING = Path(__file__).with_name("reading_process.py")
MOVING = Path(__file__).with_name("move_process.py")
CONFIGURATION = '{"sources": ["../source.db"], "storage": {"backend": "dual", "readFrom": "sqlite"}}'
QUERY = "SELECT id, body FROM notes ORDER BY id"


@contextmanager
def connected(database: Path, *statements: str) -> Iterator[Callable[[], str]]:
    """A program that has connected to a file, and reads for the first time when what is yielded is called."""
    program = subprocess.Popen(
        [sys.executable, str(READING), "--later", str(database), *statements],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None and program.stdout.readline() == "connected\n"
        yield lambda: program.communicate(timeout=LIMIT)[0].strip()
    finally:
        program.kill()
        program.communicate()


def opened_anew(database: Path, *statements: str) -> str:
    """What a program gets that starts now and opens the file by a name: rows as JSON, or an error."""
    done = subprocess.run(
        [sys.executable, str(READING), str(database), *statements],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    return done.stdout.strip()


class RenamedWorld:
    """A source that is moved: its mirror, a program that has it open, and Postgres."""

    def __init__(
        self,
        cli: CommandLine,
        writer: Writer,
        database: Path,
        postgres: psycopg.Connection[tuple[Any, ...]],
        mode: str,
    ) -> None:
        self.cli, self.writer, self.database, self.postgres = cli, writer, database, postgres
        self.other = other_name(database)
        self.inode = os.stat(database).st_ino
        self.companions = {"wal": ["-shm", "-wal"], "truncate": ["-journal"]}.get(mode, [])
        self.mirror: subprocess.Popen[str] | None = None
        self.log = cli.folder / "mirror.log"

    def kill_mirror(self) -> None:
        assert self.mirror is not None
        self.mirror.kill()
        self.mirror.communicate()
        self.mirror = None

    def start_mirror(self) -> None:
        with self.log.open("a") as log:
            self.mirror = self.cli.start("up", self.database, stdout=log, stderr=log)

    def stop_mirror(self) -> None:
        """As Ctrl-C does: it closes the file."""
        if self.mirror is not None:
            stop(self.mirror)
            self.mirror = None

    def run(self, *command: object, code: int = 0) -> str:
        done = self.cli.run("cutover", *command)
        assert done.code == code, (command, done)
        return done.out + done.err

    def kill(self, seam: str, *command: str) -> None:
        """Run a command that kills itself at a seam."""
        done = subprocess.run(
            [sys.executable, str(MOVING), seam, "cutover", *command],
            env=self.cli.environment(),
            cwd=self.cli.folder,
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, (seam, done.stdout, done.stderr)

    def advance(self, fence: str = "rename", code: int = 0) -> str:
        return self.run("advance", "--acknowledge", "backups", "--fence", fence, code=code)

    def there(self) -> list[list[Any]]:
        return [list(row) for row in self.postgres.execute(QUERY).fetchall()]

    def status(self) -> dict[str, Any]:
        (source,) = json.loads(self.cli.run("status", "--json").out)["sources"]
        assert isinstance(source, dict)
        return source

    def strays(self) -> list[dict[str, Any]]:
        (source,) = json.loads(self.run("strays", "--json"))["sources"]
        found: list[dict[str, Any]] = source["strays"]
        return found

    def in_file(self) -> str:
        """What the file has, by the name that it has: read by a program of its own."""
        return opened_anew(self.other if is_away(self.database) else self.database, QUERY)

    def carried(self) -> bool:
        return self.in_file() == json.dumps(self.there())

    def require_no_program_finds_it(self) -> None:
        before = sorted(os.listdir(self.database.parent))
        for statement in (QUERY, "INSERT INTO notes VALUES (99, 'astray')", "CREATE TABLE IF NOT EXISTS other(x)"):
            assert opened_anew(self.database, statement).startswith("error unable to open database file")
        assert sorted(os.listdir(self.database.parent)) == before
        assert is_stand_in(self.database)

    def require_as_before(self) -> None:
        """The file has its own name, and nothing else is left."""
        names = [path.name for path in self.database.parent.iterdir() if path.name.startswith(self.database.name)]
        assert sorted(names) == [self.database.name + suffix for suffix in ("", *self.companions)]
        found = os.stat(self.database)
        assert (found.st_ino, found.st_nlink) == (self.inode, 1)
        assert self.cli.run("wait").code == 0 and self.cli.run("parity").code == 0


@contextmanager
def renamed_world(folder: Path, dsn: str, writer: Writer, database: Path, mode: str = "wal") -> Iterator[RenamedWorld]:
    """One in phase 2, with one row. ``mode``: SQLite's journal mode."""
    (folder / "argent").mkdir()
    (folder / "argent" / "mirror.json").write_text(CONFIGURATION)
    writer.run(f"PRAGMA journal_mode={mode}")
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)", "INSERT INTO notes VALUES (1, 'one')")
    cli = CommandLine(folder, dsn)
    with psycopg.connect(dsn, autocommit=True) as postgres:
        made = RenamedWorld(cli, writer, database, postgres, mode)
        try:
            made.start_mirror()
            assert cli.run("wait", database, "--timeout", LIMIT).code == 0 and cli.run("parity").code == 0
            made.advance("hold")
            yield made
        finally:
            made.stop_mirror()
            print(made.log.read_text())  # shown where a test fails
