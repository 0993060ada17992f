"""Keeping which Postgres `mirror up` was given, so that later commands need not be told; never its password."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psycopg
from loguru import logger
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from mirror.core.config.settings import Settings
from mirror.core.config.which_postgres import REMEMBERED
from mirror.core.dsn import hide_password
from mirror.core.errors import ConfigError, MirrorError, NewerStateError, StateError
from mirror.core.published import mirrored_sources
from mirror.core.remembered_server import SERVER_FILE, RememberedServer, remember_server, remembered_server
from mirror.core.state_errors import state_error
from mirror.postgres.cluster import Cluster

#: What tells one database from another.
_PLACE = ("service", "host", "hostaddr", "port", "dbname")
#: What each session of the mirror sets for itself.
_OWN = frozenset(("application_name", "client_encoding", "connect_timeout"))
#: Names that a line of the log lists.
_MOST_NAMED = 5


def to_remember(dsn: str, environment: Mapping[str, str]) -> RememberedServer:
    """What is kept of a connection string that libpq could use: all but its passwords.

    What libpq took from its variables (PGHOST and the like) is kept as well: another shell may have others. With a
    service, that says it all. ``dsn``: raises psycopg's ``ProgrammingError`` for what is no connection string.
    """
    known = Conninfo.get_defaults()
    public = {option.keyword.decode() for option in known if not option.dispchar}
    given = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    kept = {name: value for name, value in given.items() if name in public}
    taken = {
        option.keyword.decode(): value
        for option in known
        if option.envvar is not None and (value := environment.get(option.envvar.decode()))
    }
    if "service" in kept or "service" in taken:
        kept.setdefault("service", taken.get("service", ""))
    else:
        kept = {name: value for name, value in taken.items() if name in public - _OWN} | kept
    secret = {name for name in (given | taken) if name not in public and "password" in name}
    return RememberedServer(make_conninfo("", **kept), bool(secret))


def is_own(dsn: str, state_dir: Path) -> bool:
    """Whether a connection string leads to the embedded server of a state directory, which is found there anyway.

    Its socket is there only while it runs, so that this is not to be remembered.
    """
    data = (state_dir / "postgres").resolve()
    running = Cluster(data).postmaster() if data.exists() else None
    return running is not None and conninfo_to_dict(dsn).get("host") == running.socket_directory


def require_password(server: RememberedServer, state_dir: str) -> None:
    """Raise ``ConfigError`` if Postgres asks for the password that came with the server when it was given.

    Whatever else keeps it from connecting is for those to say who connect.
    """
    if os.environ.get("PGPASSWORD"):
        return
    try:
        psycopg.connect(server.dsn, connect_timeout=10, application_name="mirror command").close()
    except psycopg.OperationalError as error:
        if error.pgconn is None or not error.pgconn.needs_password:
            return
    else:
        return
    raise ConfigError(
        "connect to Postgres",
        state_dir,
        f"{hide_password(server.dsn)}, {REMEMBERED}, wants the password that was given then, and it is not kept there",
        next_step="put it into ~/.pgpass, or `export PGPASSWORD='…'`, or name the server with it: `export PG_URL='…'`",
    )


class Remembering:
    """Keeps the server of a mirror once the first source has begun there. Thread: any."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._guard = threading.Lock()
        self._done = settings.dsn is None or settings.remembered is not None

    def __call__(self) -> None:
        """Keep it, if that was not done. Raises ``StateError``, that of what a newer mirror keeps among them."""
        with self._guard:
            if not self._done:
                self._keep()
                self._done = True

    def _keep(self) -> None:
        settings = self._settings
        assert settings.dsn is not None
        if is_own(settings.dsn, settings.state_dir):
            return
        now = to_remember(settings.dsn, os.environ)
        try:
            before = remembered_server(settings.state_dir)
        except NewerStateError:
            raise
        except StateError:
            before = None
        if now == before:
            return
        try:
            remember_server(settings.state_dir, now)
        except OSError as error:
            raise state_error(error, settings.state_dir / SERVER_FILE, retryable=True) from error
        embedded = settings.state_dir / "postgres"
        if before is None and not embedded.exists():
            but = ", but its password: put that into ~/.pgpass" if now.needs_password else ""
            words = "the state directory remembers {}: later commands need no --postgres{}"
            logger.info(words, _named(now), but)
        elif before is None or _place(before) != _place(now):
            last = f"the embedded Postgres in {embedded}" if before is None else _named(before)
            words = "{} takes the place of {}, where all stays as it is; what it lacks is copied into it"
            logger.warning(words, _named(now), last)
            self._warn_of_others(last)

    def _warn_of_others(self, last: str) -> None:
        """Of what was mirrored with the state directory, and does not come along."""
        settings, left = self._settings, list[Path]()
        with suppress(MirrorError):  # the directory is in use: what is wrong with it is said elsewhere
            left = [each for each in mirrored_sources(settings.state_dir) if each not in settings.sources]
        if left:
            names = ", ".join(source.name for source in left[:_MOST_NAMED])
            more = f" and {len(left) - _MOST_NAMED} more" if left[_MOST_NAMED:] else ""
            logger.warning(
                "a state directory has one server, and {}{} {} in {}: mirror {} into the new one, too, or with another"
                " --state-dir; until then name that server to commands on {}: --postgres",
                names,
                more,
                "are" if left[1:] else "is",
                last,
                *["them" if left[1:] else "it"] * 2,
            )


def _named(server: RememberedServer) -> str:
    """A few words for people."""
    values = {name: str(value) for name, value in conninfo_to_dict(server.dsn).items()}
    if "service" in values:
        return f"the Postgres of the service {values['service']}"
    host = values.get("host") or values.get("hostaddr") or "this machine"
    port = f", port {values['port']}" if "port" in values else ""
    return f"the database {values.get('dbname') or values.get('user') or 'of this user'} at {host}{port}"


def _place(server: RememberedServer) -> tuple[str | None, ...]:
    values = conninfo_to_dict(server.dsn)
    return tuple(None if (value := values.get(name)) is None else str(value) for name in _PLACE)
