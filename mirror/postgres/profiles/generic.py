"""The mapping of any table that has no profile of its own.

Names stay as they are. Where Postgres cannot take a name, the changed name depends on the name only, so
that every run finds the same one:

* longer than 63 bytes: cut at a character and ended with ``_`` and 8 hex digits of its SHA-256;
* a Postgres system column (``xmin``, ``ctid`` and so on), ``_original``, or ``_rowid`` in a table that is keyed on
  the extra column ``_rowid``: ``_`` is appended until it is free;
* ``agent_id`` in a source that belongs to an agent, because the agent's id has that name: ``source_agent_id``;
* empty: ``_``.

If two names of one table become equal all the same, that is a :class:`ConfigError`.

Types follow the declared type (see :func:`pg_type`). A declared type that SQLite gives NUMERIC
affinity by default because it does not know it (STRING, UUID) says nothing about the
values, so its column is jsonb, which holds any value, until these say more (:mod:`mirror.postgres.kinds`). A column
declared JSON or JSONB holds documents (:mod:`mirror.postgres.originals`), unless it is of the key: two texts of one
document must stay two keys; or the table has as many columns as Postgres takes, so that there is no room for the texts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from types import MappingProxyType

from mirror.core.errors import ConfigError
from mirror.core.tables import Column, ColumnMapping, ColumnType, Table, TableMapping

#: Longest Postgres identifier in bytes (NAMEDATALEN - 1).
MAX_NAME_BYTES = 63

#: Most columns of a key (INDEX_MAX_KEYS).
MAX_KEY_COLUMNS = 32

#: Most columns of a table (MaxHeapAttributeNumber).
MAX_COLUMNS = 1600

#: The column with the agent that owns a row.
AGENT = "agent_id"

#: The column with what values of other columns were, where those cannot be turned back.
ORIGINAL = "_original"

#: Columns that every Postgres table already has, or may get.
_TAKEN = frozenset({"tableoid", "ctid", "xmin", "xmax", "cmin", "cmax", ORIGINAL})

#: No column has another type than its declared one calls for.
NO_OVERRIDES: Mapping[str, ColumnType] = MappingProxyType({})

_BOOLEAN_TYPES = frozenset({"BOOLEAN", "BOOL"})
_DECIMAL_TYPES = frozenset({"DECIMAL", "NUMERIC", "DEC"})
_BINARY_TYPES = frozenset({"BYTEA", "BINARY", "VARBINARY"})
_DOCUMENT_TYPES = frozenset({"JSON", "JSONB"})
_TIME_TYPES = frozenset({"DATE", "DATETIME", "TIMESTAMP", "TIME", "TIMESTAMPTZ"})

#: The word a declared type begins with: "DECIMAL(10,2)" -> "DECIMAL", "TIMESTAMP WITH ..." -> "TIMESTAMP".
_FIRST_WORD = re.compile(r"\s*([A-Za-z_]+)")


def _word(column: Column) -> str:
    found = _FIRST_WORD.match(column.declared_type)
    return found.group(1).upper() if found else ""


def column_type(column: Column, *, of_key: bool) -> ColumnType:
    """Take a source column, which the table's declared key has or not; return what its declared type calls for.

    ``of_key``: also of a table without room for what documents were.
    """
    if column.affinity == "NUMERIC" and _word(column) in _DOCUMENT_TYPES and not of_key:
        return ColumnType("jsonb", "document")
    return ColumnType(pg_type(column))


def pg_type(column: Column) -> str:
    """Take a source column and return the Postgres type that its declared type calls for."""
    word = _word(column)
    match column.affinity:
        case "INTEGER":
            return "bigint"
        case "REAL":
            return "double precision"
        case "TEXT":
            return "text"
        case "BLOB":
            return "bytea" if "BLOB" in column.declared_type.upper() else "jsonb"
        case _:
            if word in _BOOLEAN_TYPES:
                return "boolean"
            if word in _DECIMAL_TYPES:
                return "numeric"
            if word in _BINARY_TYPES:
                return "bytea"
            return "text" if word in _TIME_TYPES else "jsonb"


def pg_name(name: str) -> str:
    """Take a name of the source and return it, or a shortened form if it is too long for Postgres."""
    raw = name.encode()
    if not raw:
        return "_"
    if len(raw) <= MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:8]
    return f"{raw[: MAX_NAME_BYTES - 9].decode(errors='ignore')}_{digest}"


def map_table(
    table: Table,
    schema: str,
    *,
    overrides: Mapping[str, ColumnType] = NO_OVERRIDES,
    rowid_key: bool = False,
    of_agent: bool = False,
) -> TableMapping:
    """Return how ``table`` is stored in the Postgres schema ``schema``.

    ``overrides``: by source column, the type that it has in place of what its declared type calls for, because it has
    values that do not fit that. ``rowid_key``: key the table on ``_rowid`` although it declares a primary key, because
    that key has NULL. ``of_agent``: the rows are an agent's, and ``agent_id`` is the first column of the table and of
    its key.

    The key is the declared primary key, else ``_rowid``, also where the declared one has more columns than Postgres
    takes. SQLite allows NULL in most declared keys; the declared key is used until a row has NULL in it. Raises
    :class:`ConfigError` if two column names become the same in Postgres, if ``rowid_key`` is asked for a table that has
    no rowid, if the key of such a table has too many columns, or if the table has.
    """
    if rowid_key and table.without_rowid:
        raise ConfigError("map a table", table.name, "a WITHOUT ROWID table cannot be keyed on its rowid")
    too_many = len(table.primary_key) + of_agent > MAX_KEY_COLUMNS
    if too_many and table.without_rowid:
        raise ConfigError(
            "map a table",
            table.name,
            f"its key has {len(table.primary_key)} columns, and Postgres takes {MAX_KEY_COLUMNS} columns in a key",
            next_step=f"make it a table with a rowid, or with at most {MAX_KEY_COLUMNS - of_agent} columns in its key",
        )
    by_rowid = rowid_key or too_many or not table.primary_key
    width = len(table.columns) + by_rowid + of_agent
    if width > MAX_COLUMNS:
        added = [name for name, there in (("_rowid", by_rowid), (AGENT, of_agent)) if there]
        counted = " and ".join([f"{len(table.columns):,} columns", *added])
        raise ConfigError(
            "map a table",
            table.name,
            f"{counted}; Postgres takes {MAX_COLUMNS:,} columns at most",
            next_step='split it, or leave columns out: "omit" in mirror.json; all other tables are mirrored',
        )
    taken = _TAKEN | {"_rowid"} if by_rowid else _TAKEN
    source_names = {column.name for column in table.columns}
    if of_agent:
        taken = taken | {AGENT}
    names: dict[str, str] = {}
    for column in table.columns:
        name = f"source_{AGENT}" if of_agent and column.name == AGENT else pg_name(column.name)
        while name in taken or (name != column.name and name in source_names):
            name += "_"
        if name in names.values():
            raise ConfigError(
                "map a table",
                table.name,
                f"two columns would be named {name!r} in Postgres",
                next_step="rename one of the columns",
            )
        names[column.name] = name
    columns = []
    for column in table.columns:
        of_key = column.name in table.primary_key
        held, codec = overrides.get(column.name) or column_type(column, of_key=of_key or width == MAX_COLUMNS)
        columns.append(ColumnMapping(names[column.name], held, of_key and not by_rowid, codec))
    key = None if by_rowid else tuple(names[name] for name in table.primary_key)
    return TableMapping(table, schema, pg_name(table.name), tuple(columns), key)
