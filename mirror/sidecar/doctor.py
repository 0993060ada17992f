"""Preflight: what would go wrong, before anything is copied; and the Postgres type that each column gets.

Nothing is written anywhere, except the files that SQLite itself makes beside a WAL database, and what
:mod:`mirror.sidecar.doctor_place` tries for a moment. What takes no time comes first, the values of the tables last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import apsw
import psycopg

from mirror.core.checks import Code
from mirror.core.config.settings import DEFAULT_AGENT
from mirror.core.errors import ConfigError, MirrorError, SinkError, SourceError, recover
from mirror.core.inherited import Known, inherited
from mirror.core.rules import NO_RULES, Rules
from mirror.core.tables import ColumnType, TableMapping
from mirror.core.virtual import left_out
from mirror.core.words import counted
from mirror.postgres.failures import translated
from mirror.postgres.migrate import require_known_schema, statement
from mirror.postgres.names import occupants, taken
from mirror.postgres.profiles import ADOPTED, PROFILES, memustore
from mirror.postgres.profiles.generic import MAX_COLUMNS
from mirror.postgres.rules import with_rules
from mirror.postgres.sessions import connect
from mirror.postgres.source_copy import stand_in
from mirror.replica.declared import open_to_read
from mirror.replica.filesystem import host_folder, mounts, shared_with_host
from mirror.replica.source_connection import OpenSource
from mirror.sidecar.doctor_place import check_place
from mirror.sidecar.doctor_report import Report
from mirror.sidecar.doctor_values import Held, check_values, rows_of
from mirror.sidecar.rule_notes import rule_notes
from mirror.sqlite.decode.schema import Schema, SchemaRow, parse_schema

#: What a source has besides tables, by SQLite's word, and the plural.
_OBJECTS = {"view": "views", "trigger": "triggers", "index": "indexes"}
#: As ``server_version_num``.
OLDEST_POSTGRES = 150_000


def examine(
    source: Path,
    dsn: str | None,
    state_dir: Path,
    schema: str,
    agent: str | None,
    profile: str | None,
    own_schema: str,
    rules: Rules = NO_RULES,
    problems: Iterable[MirrorError] = (),
) -> Report:
    """Check a source, and the Postgres that it is to be mirrored to. Errors become findings.

    ``dsn``: None for the embedded server, which is not started. ``schema``, ``agent``, ``profile``: as for `mirror up`.
    ``own_schema``: the command that gives the source a schema of its own. ``rules``: those of mirror.json.
    ``problems``: what has been found already.
    """
    report = Report(str(source), agent, profile)
    check_place(report, source, state_dir, embedded=dsn is None)
    for problem in problems:
        report.fails(Code.POSTGRES if isinstance(problem, SinkError) else Code.STATE_DIRECTORY, "mirror", problem)
    held: Held = {}
    known: list[Known] = []
    reached = False
    if dsn is not None:
        try:
            with connect(dsn) as connection, translated("look at Postgres"):
                _check_server(report, connection, schema)
                if _is_adopted(connection, report.source, schema):
                    report.profile, report.agent = ADOPTED, None
                held = _held_types(connection, report.source, schema)
                known = _known_tables(connection, report.source, schema)
                reached = True
        except MirrorError as error:
            report.fails(Code.POSTGRES, "Postgres", error)
    mappings: list[TableMapping] = []
    try:
        wal = _check_file(report, source)
        if report.profile == ADOPTED:
            detail = "adopted: it goes into its application's own tables; mirror adopt --dry-run says what does not fit"
            report.add(Code.PROFILE, "ok", "profile", detail)
        else:
            mappings = _check_tables(report, source, schema, rules, held, known, wal=wal)
    except MirrorError as error:
        report.fails(Code.SOURCE, "source", error)
    if dsn is not None and reached:
        try:
            with connect(dsn) as connection, translated("look at Postgres"):
                _check_for_profile(report, connection, schema)
                _find_collisions(report, connection, schema, mappings, own_schema)
        except MirrorError as error:
            report.fails(Code.POSTGRES, "Postgres", error)
    return report


def _check_file(report: Report, source: Path) -> bool:
    """Check the file; returns whether it is in WAL mode. Raises ``SourceError``."""
    opened = OpenSource(source)  # raises if it cannot be followed: network, encryption, locks, rights
    try:
        wal = opened.in_wal_mode
    finally:
        opened.close()
    detail = "a readable SQLite database on a local file system; its locks and WAL can be read"
    report.add(Code.FILE, "ok", "file", detail)
    if kind := shared_with_host(source, mounts()):
        report.add(Code.FILE_SYSTEM, "note", "file system", *host_folder(kind))
    report.add(Code.SQLITE, "ok", "SQLite", f"library {apsw.sqlite_lib_version()}")
    if wal:
        report.add(Code.JOURNAL_MODE, "ok", "journal mode", "WAL: every commit is followed")
    else:
        report.add(
            Code.JOURNAL_MODE,
            "note",
            "journal mode",
            "not WAL: after each change all pages are compared, which is slower",
            "have the program run PRAGMA journal_mode=WAL, if possible",
        )
    return wal


def _is_adopted(connection: psycopg.Connection[Any], source: str, schema: str) -> bool:
    """Whether a source is, or is to be, mirrored into an application's own tables."""
    if connection.execute("SELECT to_regclass('mirror.adoptions') IS NOT NULL").fetchone() != (True,):
        return False
    query = (
        "SELECT EXISTS (SELECT FROM mirror.adoptions JOIN mirror.sources USING (source_id)"
        " WHERE path = %s AND schema_name = %s)"
    )
    return connection.execute(query, (source, schema)).fetchone() == (True,)


def _held_types(connection: psycopg.Connection[Any], source: str, schema: str) -> Held:
    found = connection.execute("SELECT to_regclass('mirror.tables') IS NOT NULL").fetchone()
    if found != (True,):
        return {}
    rows = connection.execute(statement("doctor_types"), {"path": source, "schema": schema}).fetchall()
    return {(table, column): ColumnType(*held) for table, column, *held in rows}


def _known_tables(connection: psycopg.Connection[Any], source: str, schema: str) -> list[Known]:
    """The tables of a source as Postgres has them: what was left out there may have another name by now."""
    found = connection.execute("SELECT to_regclass('mirror.tables') IS NOT NULL").fetchone()
    if found != (True,):
        return []
    rows = connection.execute(statement("doctor_omitted"), {"path": source, "schema": schema}).fetchall()
    return [Known(name, tuple(shown), omitted) for name, shown, omitted in rows]


def _check_tables(
    report: Report, source: Path, schema: str, rules: Rules, held: Held, known: list[Known], *, wal: bool
) -> list[TableMapping]:
    """Recognise the source, and check every value of its tables; returns how they would be stored in Postgres."""
    connection = open_to_read(source, wal=wal)
    connection.collation_needed(stand_in)
    try:
        found: list[Any] = connection.execute(
            "SELECT type, name, tbl_name, ifnull(rootpage, 0), sql FROM sqlite_schema"
        ).fetchall()
        known_schema = parse_schema(SchemaRow(*row) for row in found)
        tables = known_schema.tables
        if report.profile is None:
            of_memustore = memustore.recognise(tables, lambda table: rows_of(connection, table))
            report.profile = "memustore" if of_memustore else "generic"
        if report.agent is None and report.profile == "memustore":
            report.agent = DEFAULT_AGENT
        if followed := rules.of(report.profile, report.agent):
            known_schema = parse_schema((SchemaRow(*row) for row in found), followed)
            if heirs := inherited(known, known_schema.tables, followed):
                known_schema = parse_schema((SchemaRow(*row) for row in found), followed.with_inherited(heirs))
            tables = known_schema.tables
        for note in rule_notes(rules, known_schema, report.profile, report.agent):
            report.add(Code.RULE, "note", f"rule {note.rule}", note.detail, note.next_step)
        kind = "a MemuStore or its dashboard" if report.profile == "memustore" else "any SQLite tables"
        owner = f", of the agent {report.agent}" if report.agent else ""
        report.add(
            Code.PROFILE, "ok", "profile", f"{report.profile}: for {kind}{owner}; {counted(len(tables), 'table')}"
        )
        _name_the_rest(report, known_schema, found, _foreign_keys(connection, tables))
        mappings = []
        profiles = with_rules(PROFILES, rules)
        for table in tables.values():
            if table.left_out:
                names = ", ".join(table.left_out)
                detail = f"left out: {names}: virtual columns that only the program computes"
                step = "make them STORED, if they are wanted in Postgres"
                report.add(Code.TABLE_LEFT_OUT, "note", f"table {table.name}", detail, step)
            if table.omitted:
                detail = f"left out by a rule in mirror.json: {', '.join(table.omitted)}"
                step = "take the rule away if they are wanted in Postgres; `mirror cutover plan` asks about them"
                report.add(Code.TABLE_OMITTED, "note", f"table {table.name}", detail, step)
            if table.by_version:
                names = ", ".join(table.by_version)
                detail = f"computed by the mirror's SQLite, maybe otherwise than by the program's version: {names}"
                step = (
                    'make them STORED if they must be what the program reads, or leave them out: "omit" in mirror.json'
                )
                report.add(Code.TABLE_BY_VERSION, "note", f"table {table.name}", detail, step)
            try:
                mapping = profiles[report.profile].map_table(table, schema, of_agent=report.agent is not None)
            except ConfigError as error:
                wide = len(table.columns) >= MAX_COLUMNS
                report.fails(Code.TABLE_TOO_WIDE if wide else Code.TABLE_UNMAPPED, f"table {table.name}", error)
                continue
            mappings.append(mapping)
            try:
                check_values(report, connection, mapping, held)
            except apsw.CorruptError as error:
                detail = f"it is damaged ({error}); the rows that can be read are mirrored, and all other tables"
                report.add(Code.TABLE_UNREADABLE, "problem", f"table {table.name}", detail, recover(source))
            except apsw.Error as error:
                # A virtual column that cannot be computed; or, outside WAL mode, a program that is writing.
                detail = f"its values could not be read: {error}"
                step = "run `mirror doctor` again when no program writes"
                report.add(Code.TABLE_UNREADABLE, "note", f"table {table.name}", detail, step)
        return mappings
    except apsw.Error as error:
        raise SourceError("read the source", str(source), f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()


def _foreign_keys(connection: apsw.Connection, tables: Iterable[str]) -> int:
    count = "SELECT count(DISTINCT id) FROM pragma_foreign_key_list(?)"
    return sum(int(connection.execute(count, (name,)).get) for name in tables)


def _name_the_rest(report: Report, schema: Schema, rows: Iterable[tuple[Any, ...]], foreign_keys: int) -> None:
    """What the source has and the mirror does not carry: virtual tables, views, triggers, indexes, foreign keys.

    ``rows``: those of ``sqlite_schema``.
    """
    profile = PROFILES[report.profile or "generic"]
    holding = left_out(schema.virtual, profile.derived)
    if holding:
        detail = f"left out: {', '.join(holding)}: their data is in no table that is mirrored"
        step = "keep what programs read of these in ordinary tables; `mirror cutover plan` is NOT READY because of them"
        report.add(Code.VIRTUAL_TABLES, "note", "virtual tables", detail, step)
    for table in schema.virtual:
        if table.obstacle:
            step = "take the rule out of mirror.json"
            report.add(Code.VIRTUAL_TABLES, "note", f"virtual table {table.name}", table.obstacle, step)
    if carried := [str(table) for table in schema.virtual if table.obstacle is None]:
        detail = f"mirrored as rows, by a rule in mirror.json: {', '.join(carried)}"
        report.add(Code.VIRTUAL_TABLES, "ok", "virtual tables", detail)
    others = [str(table) for table in schema.virtual if not table.holds_data or table.name in profile.derived]
    if others:
        detail = f"left out: {', '.join(others)}: made from other tables, or by a module outside the file"
        report.add(Code.VIRTUAL_TABLES, "note", "derived virtual tables", detail, "search in Postgres by its own means")
    # An index without a statement is that of a key or of UNIQUE.
    counts = Counter(kind for kind, _, _, _, statement_ in rows if kind != "table" and statement_ is not None)
    text = [
        *(counted(counts[kind], kind, many) for kind, many in _OBJECTS.items() if counts[kind]),
        *([counted(foreign_keys, "foreign key")] if foreign_keys else []),
    ]
    if text:
        own = "; the profile's tables have indexes of their own" if profile.migrations else ""
        detail = f"not carried to Postgres: {', '.join(text)}{own}"
        step = "make those that programs need in Postgres, where the mirror leaves them alone"
        step += "; foreign keys are made when programs move (`mirror cutover plan`)" if foreign_keys else ""
        report.add(Code.OTHER_OBJECTS, "note", "views, triggers, indexes", detail, step)


def _check_server(report: Report, connection: psycopg.Connection[Any], schema: str) -> None:
    """Raises ``SinkError``: if a newer mirror uses the database, too."""
    version = connection.info.server_version
    detail = f"version {version // 10000}.{version % 10000}, database {connection.info.dbname}"
    if version < OLDEST_POSTGRES:
        report.add(Code.POSTGRES, "problem", "Postgres", detail, "use Postgres 15 or newer")
    else:
        report.add(Code.POSTGRES, "ok", "Postgres", detail)
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        step = "create a database with ENCODING 'UTF8'"
        report.add(Code.ENCODING, "problem", "encoding", f"the database's is {encoding}", step)
    read_only, may_create, may_use = _answers(connection, schema)[:3]
    if read_only:
        step = "name the primary server, or end its read-only mode"
        report.add(Code.READ_ONLY, "problem", "rights", "the database is read-only", step)
    if not may_create or not may_use:
        where = "the database" if not may_create else f"the schema {schema}"
        step = "grant the mirror's user CREATE on it"
        report.add(Code.RIGHTS, "problem", "rights", f"the user may not create in {where}", step)
    else:
        report.add(Code.RIGHTS, "ok", "rights", "the user may create schemas and tables")
    require_known_schema(connection)


def _answers(connection: psycopg.Connection[Any], schema: str) -> tuple[Any, ...]:
    row = connection.execute(statement("doctor"), {"schema": schema}).fetchone()
    if row is None:
        raise SinkError("check Postgres", connection.info.dbname, "no answer")
    return tuple(row)


def _check_for_profile(report: Report, connection: psycopg.Connection[Any], schema: str) -> None:
    """What the profile and the agent need of Postgres, once they are known. Raises ``SinkError``."""
    vector, available, app_role, app_bypasses, may_make_roles = _answers(connection, schema)[3:]
    if report.profile == "memustore":
        if not vector and not available:
            step = "install it, or use --profile generic"
            report.add(Code.PGVECTOR, "problem", "pgvector", "the server does not have it", step)
        else:
            report.add(Code.PGVECTOR, "ok", "pgvector", "installed" if vector else "available")
    if report.agent is not None:
        if app_bypasses:
            step = "ALTER ROLE argent_app NOSUPERUSER NOBYPASSRLS"
            report.add(Code.ROW_SECURITY, "problem", "row security", "the role argent_app can bypass it", step)
        elif not app_role and not may_make_roles:
            step = "CREATE ROLE argent_app LOGIN"
            report.add(Code.ROW_SECURITY, "problem", "row security", "the role argent_app is missing", step)
        else:
            detail = "the role argent_app exists" if app_role else "the role argent_app can be created"
            report.add(Code.ROW_SECURITY, "ok", "row security", detail)


def _find_collisions(
    report: Report, connection: psycopg.Connection[Any], schema: str, mappings: list[TableMapping], own_schema: str
) -> None:
    """Find names that are taken: by tables of other sources, and by what is not the mirror's."""
    wanted = {mapping.name for mapping in mappings} | (
        set(memustore.TABLES) if report.profile == "memustore" else set()
    )
    ours: set[str] = set()
    found = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = to_regclass('mirror.profile_migrations'))"
    ).fetchone()
    if found == (True,):
        for name, path, agent in connection.execute(statement("doctor_tables"), {"schema": schema}).fetchall():
            ours.add(name)
            # Tables of agents are shared, but not by two sources of one agent.
            apart = None not in (agent, report.agent) and agent != report.agent
            if name in wanted and path != report.source and not apart:
                detail = f"{schema}.{name} mirrors another source, {path}"
                report.add(Code.TABLE_NAME, "problem", f"table {name}", detail, own_schema)
        ledger = "SELECT EXISTS (SELECT FROM mirror.profile_migrations WHERE schema_name = %s)"
        if connection.execute(ledger, (schema,)).fetchone() == (True,):
            ours |= set(memustore.TABLES)
    for occupant in sorted(occupants(connection, schema), key=lambda each: (each.name, each.kind)):
        name, known = occupant.name, occupant.table in ours
        if name in wanted and not occupant.gives_way(ours=known) and not (occupant.is_table and known):
            detail = taken(f"{schema}.{name}", occupant).detail
            step = f"rename or drop it, or give this source a schema of its own: {own_schema}"
            report.add(Code.TABLE_NAME, "problem", f"table {name}", detail, step)
