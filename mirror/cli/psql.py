"""``mirror psql``: a session of psql on the database of the mirror."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import Identifier

from mirror.cli.options import common_as, help_end, postgres_of, schema_of
from mirror.core.config.settings import Settings, load_settings
from mirror.core.errors import ConfigError
from mirror.postgres.cluster import psql_of_package

#: Where the command keeps what comes behind ``--``, among the values of click's context.
_BEHIND = "mirror.cli.psql"
#: Parameters of a connection that nobody may read in the list of processes.
_SECRET = ("password", "sslpassword")


class _Command(click.Command):
    """Hands on what is behind ``--``, or begins with a short option of psql's, as it is."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = self._end(args)
        behind = args[at + 1 :] if args[at : at + 1] == ["--"] else args[at:]
        if behind:
            args, ctx.meta[_BEHIND] = args[:at], behind
        return super().parse_args(ctx, args)

    def _end(self, args: list[str]) -> int:
        """Where the command's own arguments end. A long option that it does not know is a mistake in one of its own."""
        own = {name for param in self.params for name in param.opts} | {"-h"}
        takes = {name for param in self.params for name in param.opts if not getattr(param, "is_flag", True)}
        skip = False
        for at, each in enumerate(args):
            if skip:
                skip = False
            elif each == "--" or (each[:1] == "-" and each[1:2] not in ("", "-") and each not in own):
                return at
            else:
                skip = each in takes
        return len(args)


@click.command(
    cls=_Command,
    short_help="Open psql on the mirror's database.",
    epilog=help_end(
        "mirror psql",
        "mirror psql shop.db",
        "mirror psql shop.db -- -c 'SELECT count(*) FROM orders'",
        codes={
            0: "psql has ended well",
            1: "psql: a fatal error of its own",
            2: "psql: no connection; or it could not be started: stderr says why",
            3: "psql: an error in a script, with ON_ERROR_STOP",
        },
    ),
)
@common_as(load_settings, "[SOURCE] [-- ARGUMENTS]")
def psql(settings: Settings, debug: bool) -> None:
    """Open psql on the database of the mirror, with the schema of SOURCE's tables in front of its search_path.

    ARGUMENTS are psql's own; where the first is a short option, as -c, the -- may be left out. An embedded Postgres is
    started for as long as psql runs, if it does not run. You are the mirror's user: what you write to its tables counts
    as written by others (see `mirror overwritten`).
    """
    if settings.origins.get("sources") == "arguments" and len(settings.sources) > 1:
        raise ConfigError("open psql", detail="it takes one source", next_step="psql's own arguments come behind --")
    schema = _schema(settings)
    with postgres_of(settings) as dsn:
        program, given = _program(embedded=settings.dsn is None), click.get_current_context().meta.get(_BEHIND, [])
        connection, environment = _connection(dsn, schema, os.environ, embedded=settings.dsn is None)
        with _deaf():
            code = subprocess.call([program, "--dbname", connection, *given], env=environment)
    sys.exit(code if code >= 0 else 128 - code)


def _schema(settings: Settings) -> str | None:
    """The schema of the source that is named, or of all that are known; None: they have several, or none."""
    if settings.schema is not None:
        return settings.schema
    known = settings.known() if settings.origins.get("sources") == "arguments" else _all(settings)
    schemas = {schema_of(settings, source) for source in known}
    return schemas.pop() if len(schemas) == 1 else None


def _all(settings: Settings) -> tuple[Path, ...]:
    try:
        return settings.known()
    except ConfigError:
        return ()  # none is mirrored, or not any more: there may be something to look at all the same


def _program(*, embedded: bool) -> str:
    """psql: that of the embedded Postgres for it; else the one that is installed. Raises ``ConfigError``."""
    installed, own = shutil.which("psql"), psql_of_package()
    found = (own or installed) if embedded else (installed or own)
    if found is None:
        step = "install it (Debian: apt install postgresql-client; macOS: brew install libpq), or any other client"
        raise ConfigError("open psql", detail="no psql is installed here", next_step=step)
    return str(found)


def _connection(
    dsn: str, schema: str | None, environment: Mapping[str, str], *, embedded: bool
) -> tuple[str, dict[str, str]]:
    """The connection string for psql's command line, without a password, and its environment, which has it."""
    try:
        values = conninfo_to_dict(dsn)
    except ProgrammingError:
        step = "see `mirror config show`"
        raise ConfigError("open psql", detail="the connection string cannot be read", next_step=step) from None
    # Those of other servers would add to what is said of this one.
    has = {name: value for name, value in environment.items() if not (embedded and name.startswith("PG"))}
    if values.get("password"):
        has["PGPASSWORD"] = str(values["password"])
    if schema is not None:
        path = f"{Identifier(schema).as_string()},public".replace("\\", "\\\\").replace(" ", "\\ ")
        before = values.get("options") or has.get("PGOPTIONS") or ""
        values["options"] = f"{before} -c search_path={path}".lstrip()
    shown = {name: value for name, value in values.items() if name not in _SECRET}
    return make_conninfo("", **shown), has


@contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C is for psql, which cancels a query with it."""
    before = signal.signal(signal.SIGINT, lambda *_: None)  # (what is ignored stays so in psql)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
