"""The SQL files, and bringing the ``mirror`` schema up to date with them.

Does not guarantee downgrades: a database that a newer mirror has migrated is left as it is.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache, lru_cache
from pathlib import Path

import psycopg

from mirror.errors import SinkError

#: Advisory lock (one-key form) under which one mirror at a time migrates.
_MIGRATION_LOCK = 0x6D6972726F72

_MIGRATION_NAME = re.compile(r"(\d{4})_\w+\.sql")


@lru_cache(maxsize=1)
def sql_directory() -> Path:
    """Return where the SQL files are: in the installed package, else in the checkout."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "sql", package.parent / "sql"):
        if (candidate / "bootstrap.sql").is_file():
            return candidate
    raise SinkError("read the SQL files", str(package), "sql/ is missing", next_step="install the package again")


@cache
def statement(name: str) -> bytes:
    """Take a query's name; return the text of ``sql/<name>.sql``."""
    return (sql_directory() / f"{name}.sql").read_bytes()


def migrate(conn: psycopg.Connection[tuple[object, ...]], directory: Path | None = None) -> list[int]:
    """Apply the migrations that are missing, each in one transaction, and return their versions.

    ``conn`` must be in autocommit mode. Raises :class:`SinkError` if a file that has been applied
    has changed since, and psycopg's errors as they come.
    """
    directory = directory or sql_directory()
    applied: list[int] = []
    conn.execute("SELECT pg_advisory_lock($1::bigint)", (str(_MIGRATION_LOCK),))
    try:
        known = _known(conn)
        for path in sorted(directory.glob("[0-9]*.sql")):
            if not (match := _MIGRATION_NAME.fullmatch(path.name)):
                continue
            version, text = int(match.group(1)), path.read_bytes()
            checksum = hashlib.sha256(text).hexdigest()
            if version in known:
                if known[version] != checksum:
                    raise SinkError(
                        "migrate the mirror schema",
                        path.name,
                        "this migration was applied in another form",
                        next_step="restore the file as released and put the change in a new migration",
                    )
                continue
            with conn.transaction():
                conn.execute(text)
                conn.execute(
                    "INSERT INTO mirror.migrations (version, name, checksum) VALUES ($1::int, $2::text, $3::text)",
                    (str(version), path.stem, checksum),
                )
            applied.append(version)
    finally:
        if not conn.broken:
            conn.execute("SELECT pg_advisory_unlock($1::bigint)", (str(_MIGRATION_LOCK),))
    return applied


def _known(conn: psycopg.Connection[tuple[object, ...]]) -> dict[int, str]:
    """Return the checksums of the applied migrations by version, making the table if needed."""
    there = conn.execute("SELECT to_regclass('mirror.migrations') IS NOT NULL").fetchone()
    if there == (False,):
        with conn.transaction():
            conn.execute(statement("bootstrap"))
    rows = conn.execute("SELECT version, checksum FROM mirror.migrations").fetchall()
    return {int(str(version)): str(checksum) for version, checksum in rows}
