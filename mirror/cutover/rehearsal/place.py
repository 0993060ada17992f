"""Where rehearsals take place, and how nothing of one is left.

Each has a name of its own. In the state directory it has ``rehearsals/NAME/``: the clone of the file, a configuration,
a state directory, and the numbers of the processes that it has started. In Postgres it has the schema
``mirror_rehearsal_NAME`` and, in the schema ``mirror``, rows and functions of a source of its own. While it runs it
holds an exclusive ``flock`` on ``lock`` in its folder, and an advisory lock in Postgres: what is not locked is left
over.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import psutil
from psycopg.sql import SQL, Identifier

from mirror.core.config.settings import Settings, load_settings
from mirror.core.errors import StateError
from mirror.core.files import write_atomically
from mirror.postgres.failures import translated
from mirror.postgres.sessions import Session, connect

#: How the schemas begin. The rest is the rehearsal's name.
SCHEMA = "mirror_rehearsal_"
#: First key of the advisory lock of a rehearsal; the second is made of its name. ("mirh")
_LOCK = 0x6D697268
_NAME = re.compile(r"[0-9a-f]{12}")
#: A process that has another start than so many seconds before or after is another one with the same number.
_SAME_START = 1.0
_PROCESSES, _LOCK_FILE = "processes", "lock"
#: The priority of the processes: the mirror of the source, which must not be late, comes first.
_NICE = 5
#: Seconds for a process that was killed to be gone.
_GONE_SECONDS = 30.0
#: Variables that name files of the live configuration, which must not be found from a rehearsal.
_FOREIGN = re.compile(r"(MIRROR|ARGENT|CLAWDBOT)_.*|PG_URL")

#: The schemas of rehearsals that Postgres knows anything of.
_LEFT = """
SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname LIKE $1::text
UNION SELECT schema_name FROM mirror.sources WHERE schema_name LIKE $1::text
UNION SELECT schema_name FROM mirror.profile_migrations WHERE schema_name LIKE $1::text
UNION SELECT schema_name FROM mirror.vector_dimensions WHERE schema_name LIKE $1::text
"""


@dataclass(frozen=True, slots=True)
class Live:
    """The source that is rehearsed, as Postgres knows it."""

    path: Path
    schema: str
    agent: str | None
    profile: str


class Place:
    """The place of one rehearsal: made with it, and removed at the end of its ``with`` block. Thread: one."""

    def __init__(self, settings: Settings, dsn: str, live: Live) -> None:
        """Lock a new one. Raises ``SinkError``, ``StateError``."""
        self.name = secrets.token_hex(6)
        self.schema = f"{SCHEMA}{self.name}"
        self.folder = settings.state_dir.resolve() / "rehearsals" / self.name
        self.database = self.folder / "file" / live.path.name
        self.config = self.folder / "mirror.json"
        self.environment = {name: value for name, value in os.environ.items() if not _FOREIGN.fullmatch(name)}
        self.environment |= {
            "ARGENT_STATE_DIR": str(self.folder),
            "ARGENT_CONFIG_PATH": str(self.folder / "argent.json"),
            "ARGENT_PG_URL": dsn,  # neither in a file nor on a command line, which others can read
        }
        self._agent = None if live.agent is None else self.schema  # of which no program asks
        self._dsn, self._settings, self._live = dsn, settings, live
        self._conn = connect(dsn, name="mirror rehearsal", raw=True)
        try:
            _try_lock(self._conn, self.name)
            self.database.parent.mkdir(parents=True, mode=0o700)
            self._lock = open(self.folder / _LOCK_FILE, "wb")  # noqa: SIM115 - held until the end
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._conn.close()
            raise StateError(
                "rehearse a move", str(self.folder), error.strerror or str(error), next_step="name a --state-dir"
            ) from error
        except BaseException:
            self._conn.close()
            raise

    def configure(self) -> Settings:
        """Write the configuration of the clone, in phase 1, and read it as its programs do. Raises ``ConfigError``."""
        settings, live = self._settings, self._live
        entry = {"path": str(self.database), "schema": self.schema, "profile": live.profile}
        values: dict[str, Any] = {
            "sources": [entry if self._agent is None else entry | {"agent": self._agent}],
            "stateDir": str(self.folder / "state"),
            "storage": {"backend": "dual", "readFrom": "sqlite", "writeTo": ["sqlite", "postgres"]},
        }
        if settings.columns:
            values["columns"] = dict(settings.columns)
        if settings.tables:
            values["tables"] = dict(settings.tables)
        write_atomically(self.config, json.dumps(values, indent=2).encode(), durable=False)
        write_atomically(self.folder / "argent.json", b"{}", durable=False)
        return load_settings((), None, None, None, str(self.config), self.environment)

    def start(self, module: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a Python module of ours as a process that is ended with the rehearsal, also by the next one."""
        process = subprocess.Popen(
            # -P: import nothing from the working directory.
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            env=self.environment,
            cwd=self.folder,
            start_new_session=True,  # the terminal's Ctrl-C is for this process
            **options,
        )
        known = psutil.Process(process.pid)
        with open(self.folder / _PROCESSES, "a") as file:
            file.write(f"{process.pid} {known.create_time()}\n")
        with suppress(psutil.Error):  # it has ended; or the system does not allow it
            known.nice(_NICE)
        return process

    def log(self) -> IO[bytes]:
        """Where processes write what goes wrong."""
        return open(self.folder / "log", "ab")

    def last_words(self) -> str:
        """The last line that they wrote there."""
        lines = (self.folder / "log").read_text(errors="replace").split("\n") if (self.folder / "log").exists() else []
        return next((line for line in reversed(lines) if line), "it said nothing")

    def remove(self) -> None:
        """End its processes, and remove all of it. Raises ``SinkError``, ``StateError``; then the next one does."""
        _end_processes(self.folder)
        try:
            if self._conn.closed:
                self._conn = connect(self._dsn, name="mirror rehearsal", raw=True)
            _remove_from_postgres(self._conn, self.schema)
        finally:
            self._conn.close()
            _remove_folder(self.folder)
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def clean(state_dir: Path, dsn: str) -> list[str]:
    """Remove what rehearsals that were killed have left; returns the names of these.

    Raises ``SinkError``, ``StateError``.
    """
    folders = state_dir / "rehearsals"
    names = {name for name in (os.listdir(folders) if folders.is_dir() else ()) if _NAME.fullmatch(name)}
    cleaned = []
    with connect(dsn, name="mirror rehearsal", raw=True) as conn:
        with translated("clean up rehearsals"):
            (there,) = conn.execute("SELECT to_regclass('mirror.vector_dimensions') IS NOT NULL").fetchone() or (False,)
            like = SCHEMA.replace("_", "\\_") + "%"
            schemas = [str(row[0]) for row in conn.execute(_LEFT, (like,)).fetchall()] if there else []
        names |= {schema.removeprefix(SCHEMA) for schema in schemas if _NAME.fullmatch(schema.removeprefix(SCHEMA))}
        for name in sorted(names):
            # Both locks: the folder of one that has just begun is not locked yet, and another server may have it.
            if not _try_lock(conn, name) or not _remove_left_over(folders / name):
                continue
            if there:
                _remove_from_postgres(conn, f"{SCHEMA}{name}")
            cleaned.append(name)
    return cleaned


def _remove_left_over(folder: Path) -> bool:
    """Remove the folder of a rehearsal, if there is one; False: it still runs."""
    try:
        with open(folder / _LOCK_FILE, "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _end_processes(folder)
            _remove_folder(folder)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass
    return True


def _end_processes(folder: Path) -> None:
    """Kill the processes that a rehearsal has started, and what they have started."""
    try:
        lines = (folder / _PROCESSES).read_text().splitlines()
    except FileNotFoundError:
        return
    found: list[psutil.Process] = []
    for line in lines:
        number, _, start = line.partition(" ")
        try:
            process = psutil.Process(int(number))
            if abs(process.create_time() - float(start)) < _SAME_START:
                found += [process, *process.children(recursive=True)]
        except (psutil.Error, ValueError):
            continue  # it has ended; or the line was cut off, and its process ends with its input
    for process in found:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(found, timeout=_GONE_SECONDS)


def _remove_folder(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
        folder.parent.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        if folder.exists():
            step = "`mirror cutover rehearse --clean` removes it"
            raise StateError("remove a rehearsal", str(folder), error.strerror or str(error), next_step=step) from error


def _try_lock(conn: Session, name: str) -> bool:
    key = int(name[:8], 16) - (1 << 31)
    with translated("lock a rehearsal"):
        row = conn.execute("SELECT pg_try_advisory_lock($1::int, $2::int)", (str(_LOCK), str(key))).fetchone()
    return row == (True,)


def _remove_from_postgres(conn: Session, schema: str) -> None:
    with translated("remove a rehearsal from Postgres", schema), conn.transaction():
        sources = conn.execute(
            "SELECT source_id FROM mirror.sources WHERE schema_name = $1::text FOR UPDATE", (schema,)
        ).fetchall()
        conn.execute(SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(Identifier(schema)))
        for (source_id,) in sources:
            functions = conn.execute(
                "SELECT p.oid::regprocedure::text FROM pg_catalog.pg_proc p"
                " WHERE p.pronamespace = 'mirror'::regnamespace AND p.proname LIKE $1::text",
                (f"capture\\_{source_id}\\_%",),
            ).fetchall()
            for (function,) in functions:
                conn.execute(f"DROP FUNCTION {function}".encode())
            conn.execute("DELETE FROM mirror.outbox WHERE source_id = $1::bigint", (str(source_id),))
        for table in ("sources", "profile_migrations", "vector_dimensions"):
            query = SQL("DELETE FROM {} WHERE schema_name = $1::text").format(Identifier("mirror", table))
            conn.execute(query, (schema,))
