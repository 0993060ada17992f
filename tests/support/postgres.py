"""A real Postgres for tests: one server a session, one database a test, copied from a template."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from mirror.postgres.embedded import EmbeddedPostgres, start_embedded

_TEMPLATE = "mirror_template"


class PostgresServer:
    """A server in a directory of its own (short, because a socket's path may have 107 bytes)."""

    def __init__(self) -> None:
        """Start the server, without durability: its data goes with the tests."""
        self._directory = Path(tempfile.mkdtemp(prefix="mpg", dir="/tmp"))
        self._server: EmbeddedPostgres = start_embedded(self._directory)
        self._numbers = itertools.count(1)
        with self.connect() as conn:
            conn.execute("ALTER SYSTEM SET fsync = off")
            conn.execute("SELECT pg_reload_conf()")
            conn.execute(SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(_TEMPLATE)))

    @property
    def dsn(self) -> str:
        """Connection string of the server's database ``postgres``."""
        return self._server.dsn

    def connect(self, dsn: str | None = None) -> psycopg.Connection[tuple[object, ...]]:
        """Return a new autocommit connection."""
        return psycopg.connect(dsn or self.dsn, autocommit=True)

    def create_database(self) -> str:
        """Create an empty database and return its connection string."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        with self.connect() as conn:
            conn.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(_TEMPLATE)))
        return make_conninfo(self.dsn, dbname=name)

    def drop_database(self, dsn: str) -> None:
        """Drop a database that :meth:`create_database` made, ending its sessions."""
        name = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
        with self.connect() as conn:
            conn.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))

    def stop(self) -> None:
        """Stop the server and remove its directory."""
        self._server.stop()
        shutil.rmtree(self._directory, ignore_errors=True)
