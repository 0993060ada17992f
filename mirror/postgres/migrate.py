"""The SQL files, and the migrations of the ``mirror`` schema and of profiles.

Not guaranteed: downgrades. A database that a newer mirror has migrated is left as it is, and is not used.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from loguru import logger
from psycopg.sql import SQL, Identifier

from mirror.core.errors import NewerSchemaError, SinkError
from mirror.core.versions import UPGRADE, package_version

#: Advisory lock (one-key form) under which one mirror at a time migrates.
_MIGRATION_LOCK = 0x6D6972726F72
#: Another one for the tables of profiles, because it is held until the first load's transaction ends.
_PROFILE_LOCK = 0x6D6972726F73

_MIGRATION_NAME = re.compile(r"(\d{4})_\w+\.sql")


@lru_cache(maxsize=1)
def sql_directory() -> Path:
    """Return where the SQL files are: in the installed package, else in the checkout."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "sql", package.parent / "sql"):
        if (candidate / "queries" / "bootstrap.sql").is_file():
            return candidate
    raise SinkError("read the SQL files", str(package), "sql/ is missing", next_step="install the package again")


@cache
def statement(name: str) -> bytes:
    """Take a query's name; return the text of ``sql/queries/<name>.sql``."""
    return (sql_directory() / "queries" / f"{name}.sql").read_bytes()


def migrate(conn: psycopg.Connection[tuple[object, ...]], directory: Path | None = None) -> list[int]:
    """Apply the mirror's own migrations that are missing, each in one transaction, and return their versions.

    ``conn`` must be in autocommit mode. Raises :class:`NewerSchemaError` if a newer mirror has applied others,
    :class:`SinkError` if a file that has been applied has changed since, and psycopg's errors untranslated.
    """
    applied: list[int] = []
    conn.execute("SELECT pg_advisory_lock($1::bigint)", (str(_MIGRATION_LOCK),))
    try:
        directory = directory or sql_directory() / "migrations"
        for found in _missing(directory, known := _known(conn), _newer_schema):
            if not applied and known:
                _name_makers(conn)
            with conn.transaction():
                conn.execute(found.text)
                conn.execute(
                    "INSERT INTO mirror.migrations (version, name, checksum, mirror_version)"
                    " VALUES ($1::int, $2::text, $3::text, $4::text)",
                    (str(found.version), found.name, found.checksum, package_version()),
                )
            applied.append(found.version)
    finally:
        if not conn.broken:
            conn.execute("SELECT pg_advisory_unlock($1::bigint)", (str(_MIGRATION_LOCK),))
    return applied


def require_known_schema(conn: psycopg.Connection[Any]) -> None:
    """Raise :class:`NewerSchemaError` if a newer mirror has migrated the schema ``mirror``.

    For what uses it without migrating it. A user who may not look passes: what he uses is there in every version.
    """
    there = (
        "SELECT CASE WHEN to_regclass('mirror.migrations') IS NULL THEN false"
        " ELSE has_table_privilege(to_regclass('mirror.migrations'), 'SELECT') END"
    )
    if conn.execute(there).fetchone() == (True,):
        rows = conn.execute(_APPLIED).fetchall()
        _missing(sql_directory() / "migrations", {int(row[0]): _Applied(*row[1:]) for row in rows}, _newer_schema)


def schema_version() -> int:
    """The number of the newest migration of the schema ``mirror`` that this package has."""
    return max(found.version for found in _released(sql_directory() / "migrations"))


def migrate_profile(
    conn: psycopg.Connection[tuple[object, ...]], profile: str, schema: str, directory: Path | None = None
) -> list[int]:
    """Apply the missing migrations of ``sql/profiles/<profile>`` to a schema, inside the caller's transaction.

    Returns their versions. Raises as :func:`migrate` does, and :class:`SinkError` where the server does not have the
    extension ``vector`` or the user may not create it; psycopg's errors untranslated.
    """
    directory = directory or sql_directory() / "profiles" / profile

    def newer(number: int, _: str | None) -> NewerSchemaError:
        made = f"a newer mirror made the tables of {profile} in {schema} (version {number})"
        return _newer(made, f"version {max(found.version for found in _released(directory))}")

    if not _missing(directory, _known_of_profile(conn, profile, schema), newer):
        return []
    # The second mirror waits for the first one's transaction, and then finds everything applied.
    conn.execute("SELECT pg_advisory_xact_lock($1::bigint)", (str(_PROFILE_LOCK),))
    missing = _missing(directory, _known_of_profile(conn, profile, schema), newer)
    _require_vector(conn, schema)
    before = conn.execute("SELECT current_setting('search_path')").fetchone()
    conn.execute("SELECT set_config('search_path', $1::text, true)", (_search_path(conn, schema),))
    for found in missing:
        conn.execute(found.text)
        conn.execute(
            "INSERT INTO mirror.profile_migrations (schema_name, profile, version, name, checksum)"
            " VALUES ($1::text, $2::text, $3::int, $4::text, $5::text)",
            (schema, profile, str(found.version), found.name, found.checksum),
        )
    conn.execute("SELECT set_config('search_path', $1::text, true)", before)
    _open_vector(conn)
    return [found.version for found in missing]


def _require_vector(conn: psycopg.Connection[tuple[object, ...]], schema: str) -> None:
    """Create the extension ``vector`` in this schema, unless the database has it; raises :class:`SinkError`."""
    there = conn.execute(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'vector'),"
        " EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'vector')"
    ).fetchone()
    if there == (False, False):
        raise SinkError(
            "make the profile's tables",
            conn.info.dbname,
            "the server does not have the extension vector (pgvector)",
            next_step="install pgvector on the server, or use --profile generic",
        )
    if there == (False, True):
        try:
            with conn.transaction():
                conn.execute(SQL("CREATE EXTENSION vector SCHEMA {}").format(Identifier(schema)))
        except psycopg.errors.InsufficientPrivilege as error:
            raise SinkError(
                "make the profile's tables",
                conn.info.dbname,
                "the mirror's user may not create the extension vector",
                next_step="as an administrator, in this database: CREATE EXTENSION vector",
                retryable=True,
            ) from error


def _open_vector(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    """Let applications' role use the schema of the extension ``vector``; warn where that cannot be."""
    closed = (
        "SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'vector' AND NOT has_schema_privilege('argent_app', n.oid, 'USAGE')"
    )
    for (schema,) in conn.execute(closed).fetchall():
        grant = SQL("GRANT USAGE ON SCHEMA {} TO argent_app").format(Identifier(str(schema)))
        try:
            with conn.transaction():
                conn.execute(grant)
        except psycopg.errors.InsufficientPrivilege:
            pass  # said below, as where the server grants nothing and only warns
    for _ in conn.execute(closed).fetchall():
        logger.warning("programs cannot use the type vector until its schema's owner runs {}", grant.as_string(conn))


def _search_path(conn: psycopg.Connection[tuple[object, ...]], schema: str) -> str:
    """The schema that new objects go to, and the one of the extension ``vector``, as a ``search_path``."""
    row = conn.execute(
        "SELECT concat_ws(', ', quote_ident($1::text), quote_ident(n.nspname)) FROM pg_catalog.pg_extension e"
        " JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'",
        (schema,),
    ).fetchone()
    assert row is not None
    return str(row[0])


@dataclass(frozen=True, slots=True)
class _Migration:
    version: int
    name: str
    text: bytes
    checksum: str


class _Applied(NamedTuple):
    checksum: str
    mirror_version: str | None = None
    """That of the package which has applied it; None: not known."""


#: What ``mirror.migrations`` says of them; tables of before do not say who has applied one.
_APPLIED = "SELECT version, checksum, to_jsonb(m) ->> 'mirror_version' FROM mirror.migrations m"


@cache
def _released(directory: Path) -> tuple[_Migration, ...]:
    """The numbered files of a folder, in order. Numbers may be left out."""
    found = []
    for path in sorted(directory.glob("[0-9]*.sql")):
        if match := _MIGRATION_NAME.fullmatch(path.name):
            text = path.read_bytes()
            found.append(_Migration(int(match.group(1)), path.stem, text, hashlib.sha256(text).hexdigest()))
    return tuple(found)


def _missing(
    directory: Path, known: Mapping[int, _Applied], newer: Callable[[int, str | None], NewerSchemaError]
) -> list[_Migration]:
    """The numbered files that have not been applied, in order.

    ``newer``: makes the error for the newest migration that was applied and is not among them, of its number and the
    version of its mirror. Raises that, and :class:`SinkError` if a file has changed since it was applied.
    """
    released = _released(directory)
    if unknown := known.keys() - {found.version for found in released}:
        raise newer(max(unknown), known[max(unknown)].mirror_version)
    missing = []
    for found in released:
        if found.version not in known:
            missing.append(found)
        elif known[found.version].checksum != found.checksum:
            raise SinkError(
                "migrate the mirror schema",
                f"{found.name}.sql",
                "this migration was applied in another form: another build of mirror made this schema",
                next_step="use the mirror that made it, or a database of its own (--postgres)",
            )
    return missing


def _newer_schema(number: int, mirror_version: str | None) -> NewerSchemaError:
    by = f"mirror {mirror_version}" if mirror_version else "a newer mirror"
    return _newer(f"the schema mirror was made by {by} (schema {number})", f"schema {schema_version()}")


def _newer(made: str, ours: str) -> NewerSchemaError:
    return NewerSchemaError(
        "use Postgres",
        detail=f"{made}; this is mirror {package_version()} ({ours})",
        next_step=f"upgrade this one: `{UPGRADE}`; or name another database (--postgres)",
    )


def _known_of_profile(conn: psycopg.Connection[tuple[object, ...]], profile: str, schema: str) -> dict[int, _Applied]:
    rows = conn.execute(
        "SELECT version, checksum FROM mirror.profile_migrations WHERE schema_name = $1::text AND profile = $2::text",
        (schema, profile),
    ).fetchall()
    return {int(str(version)): _Applied(str(checksum)) for version, checksum in rows}


def _known(conn: psycopg.Connection[tuple[object, ...]]) -> dict[int, _Applied]:
    """Return the applied migrations by version, making the table if needed."""
    there = conn.execute("SELECT to_regclass('mirror.migrations') IS NOT NULL").fetchone()
    if there == (False,):
        with conn.transaction():
            conn.execute(statement("bootstrap"))
    rows = conn.execute(_APPLIED).fetchall()
    return {int(str(version)): _Applied(str(checksum), str(made) if made else None) for version, checksum, made in rows}


def _name_makers(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    """Give the table of migrations, where a mirror of before has made it, the column with who has applied them."""
    named = conn.execute(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = 'mirror.migrations'::regclass"
        " AND attname = 'mirror_version')"
    ).fetchone()
    if named == (False,):
        conn.execute("ALTER TABLE mirror.migrations ADD COLUMN mirror_version text")


def create_schema(conn: psycopg.Connection[tuple[object, ...]], schema: str) -> None:
    """Create the Postgres schema if it is not there (checked first: CREATE ... IF NOT EXISTS needs a privilege)."""
    there = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1::text)"
    if conn.execute(there, (schema,)).fetchone() != (True,):
        conn.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(schema)))
