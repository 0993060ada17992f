"""A real Postgres for tests: one server a session, one database a test.

It is the one that pip installs, started for the session, unless ``MIRROR_TEST_POSTGRES`` names another: a connection
string of its superuser ``postgres``. That server has pgvector and lets every role in without a password, because tests
connect as roles that they create. Nothing of it is changed but databases and roles.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import tempfile
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from mirror.postgres.embedded import EmbeddedPostgres, start_embedded

#: Names a server to use.
VARIABLE = "MIRROR_TEST_POSTGRES"
#: No session connects to it, so any number of databases can be made of it at once.
_TEMPLATE = "template0"
#: Files in memory, if there is room: creating a database then takes a third of the time. Otherwise the default place.
_IN_MEMORY, _LEAST_ROOM = Path("/dev/shm"), 4 << 30
#: Settings; all may be changed while the server runs.
_SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB"}


class PostgresServer:
    """A server; a started one has a directory of its own (short, because a socket's path may have 107 bytes)."""

    def __init__(self, *, own: bool = False) -> None:
        """Use the server that the environment names, or start one; ``own``: start one in any case.

        A started server has no durability: its data is deleted after the tests.
        """
        self._numbers = itertools.count(1)
        self._prefix = f"test_{os.getpid()}_{secrets.token_hex(3)}"
        self._started: EmbeddedPostgres | None = None
        given = os.environ.get(VARIABLE, "")
        if given and not own:
            self.dsn = given
            """Connection string of the server's database ``postgres``."""
            return
        self._directory = Path(tempfile.mkdtemp(prefix="mpg", dir=_place()))
        self._started = start_embedded(self._directory)
        self.dsn = self._started.dsn
        with self.connect() as conn:
            for setting, value in _SETTINGS.items():
                conn.execute(SQL("ALTER SYSTEM SET {} = {}").format(Identifier(setting), value))
            conn.execute("SELECT pg_reload_conf()")

    def connect(self, dsn: str | None = None) -> psycopg.Connection[tuple[object, ...]]:
        """Return a new autocommit connection."""
        return psycopg.connect(dsn or self.dsn, autocommit=True)

    def create_database(self, like: str | None = None) -> str:
        """Create an empty database, or a copy of one without connections; return its connection string."""
        name = f"{self._prefix}_{next(self._numbers)}"
        template = _TEMPLATE if like is None else str(conninfo_to_dict(like)["dbname"])
        with self.connect() as conn:
            conn.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template)))
        return make_conninfo(self.dsn, dbname=name)

    def drop_database(self, dsn: str) -> None:
        """Drop a database that :meth:`create_database` made, ending its sessions; also roles named after it."""
        name = str(conninfo_to_dict(dsn)["dbname"])
        with self.connect() as conn:
            conn.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
            roles = conn.execute("SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", [name + "_"])
            for (role,) in roles.fetchall():
                conn.execute(SQL("DROP ROLE {}").format(Identifier(str(role))))

    def restart(self) -> None:
        """Stop a server that was started here, ending its sessions, and start it again at the same address."""
        assert self._started is not None
        self._started._cluster.stop()
        self._started.start_again()

    def stop(self) -> None:
        """Stop the server if it was started here, and remove its directory."""
        if self._started is not None:
            self._started.stop()
            shutil.rmtree(self._directory, ignore_errors=True)


def _place() -> str:
    try:
        left = os.statvfs(_IN_MEMORY)
    except OSError:
        return "/tmp"
    return str(_IN_MEMORY) if left.f_bavail * left.f_frsize >= _LEAST_ROOM else "/tmp"
