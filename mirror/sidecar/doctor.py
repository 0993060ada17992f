"""Preflight: what would go wrong, before anything is copied; and the Postgres type that each column gets.

The source is read as parity reads it: through SQL, some thousand rows at a time, so that no read transaction lasts
long. Its program may write during that: each chunk then shows another state, which is good enough to find what kinds of
values a column has. Nothing is written anywhere, except the files that SQLite itself makes beside a WAL database.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import psycopg

from mirror.core.checks import Check, Code, Level, all_passed
from mirror.core.config.settings import DEFAULT_AGENT
from mirror.core.errors import ConfigError, MirrorError, SinkError, SourceError
from mirror.core.quote import quoted
from mirror.core.rules import NO_RULES, Rules
from mirror.core.tables import Table, TableMapping
from mirror.core.values import BadText, Row, Value
from mirror.core.virtual import left_out
from mirror.postgres.cluster import forbidden_in
from mirror.postgres.codecs import Misfit, Reject, UnfitText, key_encoder
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement
from mirror.postgres.names import occupants, taken
from mirror.postgres.profiles import PROFILES, memustore
from mirror.postgres.rules import with_rules
from mirror.postgres.sessions import connect
from mirror.postgres.source_copy import stand_in
from mirror.postgres.typed import encoder
from mirror.replica.declared import open_to_read
from mirror.replica.source_connection import OpenSource
from mirror.sqlite.decode.schema import Schema, SchemaRow, parse_schema

#: By source table and column: the type that it has in Postgres already.
Held = dict[tuple[str, str], str]
#: Rows read at a time.
CHUNK_ROWS = 2_000
#: Rows checked of a WITHOUT ROWID table, which has no rowid by which it can be read in chunks.
KEYED_ROWS = 100_000
#: Room that a source needs in the state directory, as a factor of its size and bytes more: for its copy, and as much
#: again for what is spooled during the copy.
ROOM_FACTOR, ROOM_BYTES = 2, 256 << 20
#: As ``server_version_num``.
OLDEST_POSTGRES = 150_000
#: Postgres' limit for one table.
MOST_COLUMNS = 1600


@dataclass(slots=True)
class ColumnReport:
    """The values of a column, and the Postgres type that it gets."""

    table: str
    column: str
    declared: str
    becomes: str
    """Its type in Postgres."""
    classes: dict[str, int] = field(default_factory=dict)
    """Number of values by SQLite's storage class: null, integer, real, text, blob."""
    rejects: dict[str, int] = field(default_factory=dict)
    """Number of values that Postgres cannot hold, by the reason: their rows go to ``mirror.rejects``."""
    escaped: int = 0
    """Number of texts with NUL or bytes that are not valid: shown without them, and whole in ``_original``."""
    misfits: int = 0
    """Number of values that do not fit its type, because of which it becomes jsonb."""


@dataclass(slots=True)
class Report:
    """Everything that was found about one source."""

    source: str
    agent: str | None = None
    profile: str | None = None
    findings: list[Check] = field(default_factory=list)
    columns: list[ColumnReport] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether no finding is a problem."""
        return all_passed(self.findings)

    def add(self, code: Code, level: Level, name: str, detail: str, next_step: str = "") -> None:
        """Add a finding."""
        self.findings.append(Check(code, name, level, detail, next_step))

    def fails(self, code: Code, name: str, error: MirrorError) -> None:
        """Add an error as a problem."""
        detail = f"{error.place}: {error.detail}" if error.place else error.detail
        step = error.next_step or "repair it, and run `mirror doctor` again"
        self.add(code, "problem", name, detail or str(error), step)


def examine(
    source: Path,
    dsn: str | None,
    state_dir: Path,
    schema: str,
    agent: str | None,
    profile: str | None,
    own_schema: str,
    rules: Rules = NO_RULES,
) -> Report:
    """Check a source, and the Postgres that it is to be mirrored to. Errors become findings.

    ``dsn``: None for the embedded server, which is not checked. ``schema``, ``agent``, ``profile``: as for `mirror up`.
    ``own_schema``: the command that gives the source a schema of its own. ``rules``: those of mirror.json.
    """
    report = Report(str(source), agent, profile)
    if dsn is None and (found := forbidden_in(state_dir)):
        step = "name another --state-dir, or a Postgres of your own"
        detail = f"the embedded Postgres cannot run in {state_dir}: {'a space' if found == ' ' else found}"
        report.add(Code.STATE_DIRECTORY, "problem", "state directory", detail, step)
    mappings: list[TableMapping] = []
    held: Held = {}
    unreachable: MirrorError | None = None
    if dsn is not None:
        try:
            with connect(dsn) as connection, translated("look at Postgres"):
                held = _held_types(connection, report.source, schema)
        except MirrorError as error:
            unreachable = error
    try:
        mappings = _check_tables(report, source, schema, rules, held, wal=_check_file(report, source, state_dir))
    except MirrorError as error:
        report.fails(Code.SOURCE, "source", error)
    if dsn is None:
        detail = "no server is configured: the embedded one will be started in the state directory"
        step = "to use another server, name it: --postgres, or ARGENT_PG_URL"
        report.add(Code.POSTGRES, "note", "Postgres", detail, step)
        return report
    try:
        if unreachable is not None:
            raise unreachable
        with connect(dsn) as connection, translated("look at Postgres"):
            _check_postgres(report, connection, schema, mappings, own_schema)
    except MirrorError as error:
        report.fails(Code.POSTGRES, "Postgres", error)
    return report


def _check_file(report: Report, source: Path, state_dir: Path) -> bool:
    """Check the file and its place; returns whether it is in WAL mode. Raises ``SourceError``."""
    opened = OpenSource(source)  # raises if it cannot be followed: network, encryption, locks, rights
    try:
        wal = opened.in_wal_mode
        size = opened.size()
    finally:
        opened.close()
    detail = "a readable SQLite database on a local file system; its locks and WAL can be read"
    report.add(Code.FILE, "ok", "file", detail)
    report.add(Code.SQLITE, "ok", "SQLite", f"library {apsw.sqlite_lib_version()}")
    if wal:
        report.add(
            Code.JOURNAL_MODE,
            "ok",
            "journal mode",
            "WAL: every commit is followed; a program that locks the file for itself"
            " alone (exclusive locking mode, Turso's engine) cannot open it beside a mirror",
        )
    else:
        report.add(
            Code.JOURNAL_MODE,
            "note",
            "journal mode",
            "not WAL: after each change all pages are compared, which is slower",
            "have the program run PRAGMA journal_mode=WAL, if possible",
        )
    above = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    free, needed = shutil.disk_usage(above).free, ROOM_FACTOR * size + ROOM_BYTES
    detail = f"{free >> 20:,} MB free for a source of {size >> 20:,} MB"
    if free < needed:
        step = f"make room for {needed >> 20:,} MB, or name another --state-dir"
        report.add(Code.DISK, "problem", "disk", detail, step)
    else:
        report.add(Code.DISK, "ok", "disk", detail)
    return wal


def _held_types(connection: psycopg.Connection[Any], source: str, schema: str) -> Held:
    found = connection.execute("SELECT to_regclass('mirror.tables') IS NOT NULL").fetchone()
    if found != (True,):
        return {}
    rows = connection.execute(statement("doctor_types"), {"path": source, "schema": schema}).fetchall()
    return {(table, column): pg_type for table, column, pg_type in rows}


def _check_tables(
    report: Report, source: Path, schema: str, rules: Rules, held: Held, *, wal: bool
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
            known = memustore.recognise(tables, lambda table: _rows(connection, table))
            report.profile = "memustore" if known else "generic"
        if report.agent is None and report.profile == "memustore":
            report.agent = DEFAULT_AGENT
        if followed := rules.of(report.profile, report.agent):
            known_schema = parse_schema((SchemaRow(*row) for row in found), followed)
            tables = known_schema.tables
        elif rules:
            detail = "the tables of an agent follow no rules of mirror.json"
            report.add(Code.CONFIGURATION, "note", "rules", detail, "leave the agent out, or the rules")
        kind = "a MemuStore or its dashboard" if report.profile == "memustore" else "any SQLite tables"
        owner = f", of the agent {report.agent}" if report.agent else ""
        report.add(Code.PROFILE, "ok", "profile", f"{report.profile}: for {kind}{owner}; {len(tables)} tables")
        _name_the_rest(report, known_schema, found)
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
                report.fails(Code.TABLE_UNMAPPED, f"table {table.name}", error)
                continue
            mappings.append(mapping)
            if len(table.columns) > MOST_COLUMNS:
                detail = f"{len(table.columns):,} columns; Postgres takes {MOST_COLUMNS:,} at most"
                step = "split it; all other tables are mirrored"
                report.add(Code.TABLE_TOO_WIDE, "problem", f"table {table.name}", detail, step)
                continue
            try:
                _check_values(report, connection, mapping, held)
            except apsw.CorruptError as error:
                detail = f"it is damaged ({error}); the rows that can be read are mirrored, and all other tables"
                step = (
                    "make a new file with SQLite's own tool, `sqlite3 FILE .recover | sqlite3 NEW`, and put it in place"
                )
                report.add(Code.TABLE_UNREADABLE, "problem", f"table {table.name}", detail, step)
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


def _name_the_rest(report: Report, schema: Schema, rows: Iterable[tuple[Any, ...]]) -> None:
    """What the source has and the mirror does not carry: virtual tables, views, triggers, indexes.

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
    if counts:
        kinds = (("view", "view", "views"), ("trigger", "trigger", "triggers"), ("index", "index", "indexes"))
        text = ", ".join(f"{counts[k]:,} {one if counts[k] == 1 else many}" for k, one, many in kinds if counts[k])
        own = "; the profile's tables have indexes of their own" if profile.migrations else ""
        detail = f"not carried to Postgres: {text}{own}"
        step = "make those that programs need in Postgres, where the mirror leaves them alone"
        report.add(Code.OTHER_OBJECTS, "note", "views, triggers, indexes", detail, step)


def _check_values(report: Report, connection: apsw.Connection, mapping: TableMapping, held: Held) -> None:
    table = mapping.table
    columns = [
        ColumnReport(table.name, column.name, column.declared_type, target.pg_type)
        for column, target in zip(table.columns, mapping.columns, strict=True)
    ]
    classes = [Counter[str]() for _ in columns]
    rejects = [Counter[str]() for _ in columns]
    keys = [at for at, target in enumerate(mapping.columns) if target.name in (mapping.key or ())]
    encoders = [
        key_encoder(target.pg_type) if at in keys and not target.codec else encoder(target.pg_type, target.codec)
        for at, target in enumerate(mapping.columns)
    ]
    null_keys = rows = 0
    for row in _rows(connection, table):
        rows += 1
        null_keys += any(row[at] is None for at in keys)
        for at, value in enumerate(row):
            classes[at][_class_of(value)] += 1
            try:
                encoders[at](value)
            except Misfit:
                columns[at].misfits += 1
            except Reject as reject:
                if isinstance(reject, UnfitText) and at not in keys and report.agent is None:
                    columns[at].escaped += 1
                else:
                    rejects[at][reject.reason] += 1
    report.columns += columns
    for at, found in enumerate(columns):
        found.classes, found.rejects = dict(classes[at].most_common()), dict(rejects[at].most_common())
        declared, has = found.becomes, held.get((found.table, found.column))
        found.becomes = "jsonb" if found.misfits else has or declared
        if has not in (None, declared, "jsonb"):
            detail = f"is {has} in Postgres, where it would now be {found.becomes}"
            step = (
                "start `mirror up` again: a rule for a column takes effect then, another type when the table is copied"
            )
            report.add(Code.COLUMN_WIDENED, "note", f"column {table.name}.{found.column}", detail, step)
        elif has == "jsonb" != declared and not found.misfits:
            detail = f"is jsonb in Postgres, though every value fits {declared}"
            step = f"`mirror rejects retry {report.source}` gives it that type, while `mirror up` runs"
            report.add(Code.COLUMN_WIDENED, "note", f"column {table.name}.{found.column}", detail, step)
        if found.misfits:
            verb = "is" if has == "jsonb" else "becomes"
            detail = f"{verb} jsonb: {found.misfits:,} values do not fit its type"
            step = "nothing is lost; for a typed column, change these values in the source before `mirror up`"
            report.add(Code.COLUMN_WIDENED, "note", f"column {table.name}.{found.column}", detail, step)
        elif found.escaped:
            detail = f"{found.escaped:,} texts have a NUL or are not valid: shown without that, and whole in _original"
            step = "nothing is lost; sql/README.md says how to read them"
            report.add(Code.COLUMN_ESCAPED, "note", f"column {table.name}.{found.column}", detail, step)
        for reason, count in found.rejects.items():
            report.add(
                Code.COLUMN_REJECTS,
                "problem",
                f"column {table.name}.{found.column}",
                f"{count:,} rows would go to mirror.rejects: {reason}",
                "change the values in the source, or accept it: `mirror rejects list` shows the rows later",
            )
    if null_keys and report.agent is not None:
        report.add(
            Code.TABLE_KEY,
            "problem",
            f"table {table.name}",
            f"{null_keys:,} rows would go to mirror.rejects: NULL in the primary key",
            "give these rows a key in the source",
        )
    elif null_keys:
        detail = f"keyed by _rowid: {null_keys:,} rows have NULL in their key"
        step = "for its own key in Postgres, give these rows a key in the source"
        report.add(Code.TABLE_KEY, "note", f"table {table.name}", detail, step)
    if table.without_rowid and rows >= KEYED_ROWS:
        detail = f"only its first {KEYED_ROWS:,} rows were checked"
        step = "after `mirror up`, `mirror status` counts all rejected rows"
        report.add(Code.TABLE_LARGE, "note", f"table {table.name}", detail, step)


def _class_of(value: Value) -> str:
    kinds = {type(None): "null", int: "integer", float: "real", str: "text", BadText: "text", bytes: "blob"}
    return kinds[type(value)]


def _rows(connection: apsw.Connection, table: Table) -> Iterator[Row]:
    """All rows, one read transaction a chunk; of a WITHOUT ROWID table the first :data:`KEYED_ROWS`."""
    encoding = str(connection.pragma("encoding"))
    names = [quoted(column.name) for column in table.columns]
    parts = [f"typeof({n}), CASE typeof({n}) WHEN 'text' THEN CAST({n} AS BLOB) ELSE {n} END" for n in names]
    taken = {column.name.lower() for column in table.columns}
    rowid = next((name for name in ("rowid", "oid", "_rowid_") if name not in taken), None)
    if table.without_rowid or rowid is None:
        query = f"SELECT 0, {', '.join(parts)} FROM {quoted(table.name)} LIMIT {KEYED_ROWS}"
        for raw in connection.execute(query).fetchall():
            yield _decoded(raw[1:], encoding)
        return
    query = f"SELECT {rowid}, {', '.join(parts)} FROM {quoted(table.name)}"
    chunk = connection.execute(f"{query} ORDER BY {rowid} LIMIT {CHUNK_ROWS}").fetchall()
    while chunk:
        for raw in chunk:
            yield _decoded(raw[1:], encoding)
        following = f"{query} WHERE {rowid} > ? ORDER BY {rowid} LIMIT {CHUNK_ROWS}"
        chunk = connection.execute(following, (chunk[-1][0],)).fetchall()


def _decoded(raw: tuple[Any, ...], encoding: str) -> Row:
    values: list[Value] = []
    for kind, value in zip(raw[::2], raw[1::2], strict=True):
        if kind == "text":
            try:
                values.append(value.decode(encoding))
            except UnicodeDecodeError:
                values.append(BadText(value))
        else:
            values.append(value)
    return tuple(values)


def _check_postgres(
    report: Report, connection: psycopg.Connection[Any], schema: str, mappings: list[TableMapping], own_schema: str
) -> None:
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
    row = connection.execute(statement("doctor"), {"schema": schema}).fetchone()
    if row is None:
        raise SinkError("check Postgres", connection.info.dbname, "no answer")
    read_only, may_create, may_use, vector, available, app_role, app_bypasses, may_make_roles = row
    if read_only:
        step = "name the primary server, or end its read-only mode"
        report.add(Code.READ_ONLY, "problem", "rights", "the database is read-only", step)
    if not may_create or not may_use:
        where = "the database" if not may_create else f"the schema {schema}"
        step = "grant the mirror's user CREATE on it"
        report.add(Code.RIGHTS, "problem", "rights", f"the user may not create in {where}", step)
    else:
        report.add(Code.RIGHTS, "ok", "rights", "the user may create schemas and tables")
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
    _find_collisions(report, connection, schema, mappings, own_schema)


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
