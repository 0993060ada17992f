"""The source's schema at a position: the rows of ``sqlite_schema`` as :class:`~mirror.core.tables.Table` values.

SQLite itself parses the CREATE statements: they are put into the schema table of an empty
in-memory database, which then answers the usual pragmas. So no SQL is parsed here, and names that
only the program knows (functions in CHECK constraints, collations, modules) are no obstacle.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import apsw

from mirror.core.errors import FormatError, SourceError
from mirror.core.rules import NO_RULES, Rules
from mirror.core.tables import Affinity, Column, Table
from mirror.core.values import Value
from mirror.core.virtual import SHADOWS, VirtualTable, module_of, virtual_tables
from mirror.sqlite.decode.carried import carried_table, obstacle, owner_of
from mirror.sqlite.decode.generated import by_version, is_computable
from mirror.sqlite.decode.rows import RowFormat
from mirror.sqlite.format.btree import Geometry, ReadPage, cell_pointers, children, is_interior, page_kind
from mirror.sqlite.format.record import decode_record


@dataclass(frozen=True, slots=True)
class SchemaRow:
    """One row of ``sqlite_schema``."""

    kind: str
    name: str
    table: str
    root: int
    sql: str | None


@dataclass(frozen=True)
class Schema:
    """The ordinary tables of a source, by name, and its virtual ones."""

    tables: dict[str, Table]
    virtual: tuple[VirtualTable, ...] = ()
    rules: Rules = NO_RULES
    """What is left out of ``tables``."""
    _formats: dict[str, RowFormat] = field(default_factory=dict, compare=False, repr=False)

    def format(self, table: Table, encoding: str) -> RowFormat:
        """How records of a table are read; kept, because making it takes longer than decoding a row."""
        known = self._formats.get(table.name)
        if known is None or known.table is not table:
            known = self._formats[table.name] = RowFormat(table, encoding)
        return known

    @cached_property
    def by_root(self) -> dict[int, Table]:
        """The tables by the root page of their b-tree."""
        return {table.root: table for table in self.tables.values()}


def read_schema(read: ReadPage, geometry: Geometry, encoding: str, rules: Rules = NO_RULES) -> Schema:
    """Decode the schema table (the b-tree at page 1) and parse it; raises ``SourceError``."""
    return parse_schema(_schema_rows(read, geometry, encoding), rules)


def _schema_rows(read: ReadPage, geometry: Geometry, encoding: str) -> Iterator[SchemaRow]:
    stack = [1]
    seen: set[int] = set()
    while stack:
        pgno = stack.pop()
        if pgno in seen:
            raise FormatError("read the schema", f"page {pgno}", "the page is its own ancestor")
        seen.add(pgno)
        page = read(pgno)
        if is_interior(page_kind(page, pgno)):
            stack.extend(reversed(children(page, pgno)))
            continue
        for pointer in cell_pointers(page, pgno):
            cell = geometry.table_leaf_cell(page, pointer)
            match decode_record(geometry.payload(page, cell, read), encoding):
                case [str(kind), str(name), str(table), int() | None as root, sql] if 0 <= (root or 0) < 1 << 32:
                    yield SchemaRow(kind, name, table, root or 0, sql if isinstance(sql, str) else None)
                case other:
                    raise FormatError("read the schema", f"page {pgno}", f"row {other!r}")


def is_shadow_name(name: str, virtual: dict[str, str]) -> bool:
    """Whether a table belongs to one of the virtual tables (name → module, both lower case)."""
    lower = name.lower()
    for owner, module in virtual.items():
        if lower.startswith(owner + "_"):
            # Of an unknown module no tables are known: rather one table too many is mirrored.
            suffixes = SHADOWS.get(module)
            if suffixes is not None and re.fullmatch(suffixes, lower[len(owner) + 1 :]):
                return True
    return False


def parse_schema(rows: Iterable[SchemaRow], rules: Rules = NO_RULES) -> Schema:
    """Turn the rows of ``sqlite_schema`` into tables; raises ``SourceError`` if SQLite cannot parse them.

    Left out of ``tables``: virtual tables and the tables that well-known modules keep, and SQLite's own ``sqlite_*``;
    and tables and columns that ``rules`` leave out. Where they say so, the data of a virtual table are in it.
    """
    ordinary: list[SchemaRow] = []
    indexes: list[SchemaRow] = []
    virtual: dict[str, str | None] = {}
    for row in rows:
        if row.kind == "table" and row.root == 0:
            virtual[row.name] = row.sql
        elif row.kind == "table" and not row.name.lower().startswith("sqlite_") and not rules.excludes(row.name):
            ordinary.append(row)
        elif row.kind == "index" and row.sql is None:
            indexes.append(row)
    described = virtual_tables(virtual.items(), (row.name for row in ordinary))
    described = tuple(replace(table, obstacle=obstacle(table, rules)) for table in described)
    carried = [table for table in described if table.obstacle is None]
    modules = {name.lower(): module_of(statement) for name, statement in virtual.items()}
    ordinary = [row for row in ordinary if owner_of(row.name, carried) or not is_shadow_name(row.name, modules)]
    kept = {row.name.lower() for row in ordinary}
    indexes = [row for row in indexes if row.table.lower() in kept]
    database = apsw.Connection(":memory:")
    try:
        database.collation_needed(lambda connection, name: connection.create_collation(name, _any_order))
        # SQLite checks that root pages exist and differ, so the empty database gets that many pages.
        database.execute("PRAGMA page_size=512")
        database.execute("CREATE TABLE mirror_pad(x)")
        database.execute("INSERT INTO mirror_pad VALUES (zeroblob(?))", (512 * (len(ordinary) + len(indexes) + 4),))
        database.execute("PRAGMA writable_schema=ON")
        database.execute("DELETE FROM sqlite_schema")
        for root, row in enumerate((*ordinary, *indexes), start=2):
            database.execute(
                "INSERT INTO sqlite_schema(type, name, tbl_name, rootpage, sql) VALUES (?,?,?,?,?)",
                (row.kind, row.name, row.table, root, row.sql),
            )
        database.execute("PRAGMA writable_schema=RESET")
        tables = {row.name: _describe(database, row) for row in ordinary}
    except apsw.Error as error:
        raise SourceError("parse the schema", "sqlite_schema", str(error)) from error
    finally:
        database.close()
    for name in list(tables):
        if owner := owner_of(name, carried):
            table = carried_table(tables.pop(name), owner, virtual[owner.name] or "")
            if table is None:
                described = tuple(
                    replace(each, obstacle=_ONLY_PROGRAM) if each is owner else each for each in described
                )
            else:
                tables[table.name] = table
    return Schema({name: _without(table, rules) for name, table in tables.items()}, described, rules)


#: Why an FTS5 table cannot be read as rows.
_ONLY_PROGRAM = "only its program can open it (a tokenizer of its own), or it keeps only a part of its columns"


def _any_order(left: str, right: str) -> int:
    return (left > right) - (left < right)


def _describe(database: apsw.Connection, row: SchemaRow) -> Table:
    [(without_rowid, strict)] = database.execute(
        "SELECT wr, strict FROM pragma_table_list WHERE schema='main' AND name=? COLLATE NOCASE", (row.name,)
    )
    columns: list[Column] = []
    keys: list[tuple[int, str]] = []
    stored: dict[int, int] = {}
    left_out: list[str] = []
    definition = ""
    for cid, name, declared, not_null, default, key, hidden in database.execute(
        'SELECT cid, name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)', (row.name,)
    ):
        if hidden != 2:
            stored[cid] = len(columns)
        elif definition or is_computable(row.sql or ""):
            definition = row.sql or ""
        else:
            left_out.append(name)
            continue
        kind = declared or ""
        # ANY is no type of its own, except in STRICT tables, where nothing is converted.
        stored_as: Affinity = "BLOB" if strict and kind.upper() == "ANY" else affinity(kind)
        columns.append(Column(name, kind, stored_as, bool(not_null), _added_default(default, stored_as)))
        if key:
            keys.append((key, name))
    primary_key = tuple(name for _, name in sorted(keys))
    key_index = database.execute("SELECT name FROM pragma_index_list(?) WHERE origin='pk'", (row.name,)).get
    rowid_alias = primary_key[0] if len(primary_key) == 1 and key_index is None and not without_rowid else None
    storage = tuple(stored.values())
    collations: tuple[str, ...] = ()
    if without_rowid:
        order = list(database.execute('SELECT cid, "desc", coll, key FROM pragma_index_xinfo(?)', (key_index,)))
        storage = tuple(stored[cid] for cid, _, _, _ in order if cid in stored)
        collations = tuple(collation for _, _, collation, key in order if key)
    table = Table(
        row.name,
        row.root,
        tuple(columns),
        primary_key,
        rowid_alias,
        bool(without_rowid),
        storage,
        collations,
        definition,
        tuple(left_out),
    )
    return replace(table, by_version=by_version(table, strict=bool(strict))) if definition else table


def _without(table: Table, rules: Rules) -> Table:
    """The table without the columns that a rule leaves out: never those of its key."""
    omitted = tuple(
        name
        for name in (*(column.name for column in table.columns), *table.left_out)
        if rules.omits(table.name, name) and name not in table.primary_key
    )
    if not omitted:
        return table
    places = tuple(at for at, column in enumerate(table.columns) if column.name not in omitted)
    return replace(
        table,
        columns=tuple(table.columns[at] for at in places),
        left_out=tuple(name for name in table.left_out if name not in omitted),
        by_version=tuple(name for name in table.by_version if name not in omitted),
        omitted=omitted,
        inherited=tuple((name, rule) for name in omitted if (rule := rules.inherits(table.name, name))),
        whole=table.declared,
        places=tuple(table.places[at] for at in places) if table.places else places,
    )


def affinity(declared: str) -> Affinity:
    """SQLite's affinity of a declared type (https://sqlite.org/datatype3.html, section 3.1)."""
    kind = declared.upper()
    if "INT" in kind:
        return "INTEGER"
    if "CHAR" in kind or "CLOB" in kind or "TEXT" in kind:
        return "TEXT"
    if "BLOB" in kind or not kind:
        return "BLOB"
    if "REAL" in kind or "FLOA" in kind or "DOUB" in kind:
        return "REAL"
    return "NUMERIC"


@lru_cache(maxsize=4096)
def _added_default(default: str | None, kind: Affinity) -> Value:
    """The value that rows written before ADD COLUMN show: SQLite itself is asked.

    It refuses a DEFAULT that is no constant once a table has rows; such a column has no short records.
    """
    if default is None:
        return None
    probe = apsw.Connection(":memory:")
    try:
        probe.execute("CREATE TABLE t(a); INSERT INTO t VALUES (1)")
        probe.execute(f"ALTER TABLE t ADD COLUMN c {kind} DEFAULT {default}")
        value: Value = probe.execute("SELECT c FROM t").get
    except apsw.Error:
        return None
    finally:
        probe.close()
    return value
