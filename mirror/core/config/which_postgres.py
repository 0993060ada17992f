"""Which Postgres is mirrored into, and where programs reach it: the places that can say so, the first one first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mirror.core.config.looked_at import look_at
from mirror.core.config.lookup import READ, Found
from mirror.core.config.values import first, of_environment, text_in
from mirror.core.errors import ConfigError, StateError
from mirror.core.remembered_server import SERVER_FILE, RememberedServer, remembered_server

PG_VARIABLES = ("ARGENT_PG_URL", "PG_URL")
#: The origin of a server that the state directory remembers; and of none.
REMEMBERED = "remembered from the last `mirror up`"
_EMBEDDED = "default: the embedded Postgres in the state directory"
_KEY = "storage.postgres.connectionString"


def which_postgres(
    read: Found, flag: str | None, environment: Mapping[str, str], state_dir: Path, *, lenient: bool
) -> tuple[str | None, str, RememberedServer | None]:
    """The Postgres that is mirrored into (None: the embedded one), where that is said, and what is remembered, where
    it is that.

    Raises ``ConfigError`` for a variable that is needed and not set, ``StateError`` for what is remembered and cannot
    be used; ``lenient``: the latter counts as nothing.
    """
    dsn, origin = first(
        (flag, "--postgres"),
        *of_environment(environment, *PG_VARIABLES),
        (text_in(read.ours, "postgres", "connection_string"), f"{read.mirror_path}: postgres.connectionString"),
        *program_dsns(read),
        default=(None, _EMBEDDED),
    )
    if dsn is not None:
        return dsn, origin, None
    look_at(state_dir / SERVER_FILE)
    if _KEY in read.argent.missing:
        raise ConfigError(
            READ,
            str(read.argent_path),
            f"{_KEY}: the variable {read.argent.missing[_KEY]} is not set",
            next_step="set it, or name Postgres: --postgres, ARGENT_PG_URL, postgres.connectionString in mirror.json",
        )
    try:
        remembered = remembered_server(state_dir)
    except StateError:
        if not lenient:
            raise
        remembered = None
    return (None, origin, None) if remembered is None else (remembered.dsn, REMEMBERED, remembered)


def program_dsns(read: Found) -> list[tuple[str | None, str]]:
    """Where files say that the program reaches Postgres."""
    exported = [(read.argent.exported.get(name), f"{read.argent_path}: env.{name}") for name in PG_VARIABLES]
    return [
        (text_in(read.ours, "storage", "postgres", "connection_string"), f"{read.mirror_path}: {_KEY}"),
        *exported,
        (text_in(read.theirs, "postgres", "connection_string"), f"{read.argent_path}: {_KEY}"),
    ]
