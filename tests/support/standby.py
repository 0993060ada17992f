"""A streaming standby of a Postgres that the tests have started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from mirror.postgres.cluster import MAX_CONNECTIONS, Cluster, _as, _let_pass
from tests.support.postgres import PostgresServer, _place
from tests.support.waiting import until


class Standby:
    """It follows its primary until :meth:`pause`, :meth:`cut_off` or :meth:`promote`."""

    def __init__(self, primary: PostgresServer) -> None:
        """``primary``: a server of the test's own."""
        assert primary._started is not None
        self._directory = Path(tempfile.mkdtemp(prefix="mps", dir=_place()))
        data = self._directory / "postgres"
        data.mkdir(mode=0o700)
        self._owner = primary._started._cluster._owner()
        if self._owner is not None:
            os.chown(data, *self._owner)
            os.chown(self._directory, *self._owner)  # the socket is made there: the backup has the primary's
            _let_pass(data)
            os.chown(primary._started._cluster.data / "log", *self._owner)  # a backup reads all that is there
        programs = Cluster(data)._programs
        known = conninfo_to_dict(primary.dsn)
        where = "-h", known["host"], "-p", known.get("port", 5432), "-U", "postgres"
        self._run(programs / "pg_basebackup", "-D", data, *where, "-R", "-X", "stream", "-c", "fast", "--no-sync")
        self.dsn = make_conninfo(primary.dsn, host=str(self._directory))
        """Connection string of its database ``postgres``."""
        with open(data / "log", "ab") as log:
            self._process = subprocess.Popen(
                [
                    programs / "postgres",
                    "-D",
                    data,
                    "-h",
                    "",
                    "-k",
                    self._directory,
                    "-c",
                    f"max_connections={MAX_CONNECTIONS}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **_as(self._owner),
            )
        until(self._connects, alive=lambda: self._process.poll() is None)

    def _run(self, *command: object) -> None:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, **_as(self._owner))
        assert done.returncode == 0, done.stderr

    def _connects(self) -> bool:
        try:
            psycopg.connect(self.dsn, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def of(self, dsn: str) -> str:
        """The connection string of a database that the primary has."""
        return make_conninfo(self.dsn, dbname=conninfo_to_dict(dsn)["dbname"])

    def _ask(self, statement: str) -> object:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
        return None if row is None else row[0]

    def pause(self) -> None:
        """Let no more of the primary's commits be seen."""
        self._ask("SELECT pg_wal_replay_pause()")
        until(lambda: self._ask("SELECT pg_get_wal_replay_pause_state()") == "paused")

    def resume(self) -> None:
        self._ask("SELECT pg_wal_replay_resume()")

    def cut_off(self) -> None:
        """Receive no more from the primary: what it commits from now on, the standby never has."""
        self._ask("ALTER SYSTEM SET primary_conninfo = ''")
        self._ask("SELECT pg_reload_conf()")
        until(lambda: self._ask("SELECT count(*) FROM pg_stat_wal_receiver") == 0)

    def promote(self) -> None:
        """Make it a primary."""
        self._ask("SELECT pg_promote()")
        until(lambda: self._ask("SELECT NOT pg_is_in_recovery()"))

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
