"""The statements that make and change mirrored tables, composed, with every name quoted."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from mirror.core.positions import Lsn
from mirror.core.tables import ANY_TEXT
from mirror.postgres import kinds
from mirror.postgres.names import KEPT
from mirror.postgres.profiles.generic import MAX_NAME_BYTES, ORIGINAL
from mirror.postgres.target import Target, TargetColumn

_TYPES: dict[str, SQL] = {
    "bigint": SQL("bigint"),
    "double precision": SQL("double precision"),
    "text": SQL("text"),
    "bytea": SQL("bytea"),
    "boolean": SQL("boolean"),
    "numeric": SQL("numeric"),
    "jsonb": SQL("jsonb"),
    "timestamp with time zone": SQL("timestamp with time zone"),
    "vector": SQL("vector"),  # the session's search_path has the extension's schema
}


#: The name of a type as Postgres' quoting makes it, with its schema or without.
_TYPE_NAME = re.compile(r'(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_ ]*)(?:\.(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*))?(?:\[\])?')


def type_sql(pg_type: str) -> SQL:
    """Take the name of a type that mappings use; return it as SQL. Raises ``ValueError`` for what is no such name."""
    if (known := _TYPES.get(pg_type)) is not None:
        return known
    if not _TYPE_NAME.fullmatch(pg_type):
        raise ValueError(f"not the name of a type: {pg_type}")
    return SQL(pg_type)  # of an adopted table, as the catalog gives it


def table_sql(target: Target) -> Identifier:
    """Return the quoted, schema-qualified name of a target."""
    return Identifier(target.schema, target.name)


def names_sql(names: tuple[str, ...]) -> Composed:
    """Return quoted column names, separated by commas."""
    return SQL(", ").join(map(Identifier, names))


def create_table(target: Target) -> Composed:
    """CREATE TABLE without its primary key, which :func:`add_primary_key` adds (after a COPY)."""
    columns: list[Composable] = []
    for name, pg_type in target.stored:
        column = SQL("{} {}").format(Identifier(name), type_sql(pg_type))
        if name in target.key_columns:
            # Ordering by key must be SQLite's BINARY order, whatever the database's collation.
            column += SQL(' COLLATE "C" NOT NULL') if pg_type == "text" else SQL(" NOT NULL")
        columns.append(column)
    return SQL("CREATE TABLE {} ({})").format(table_sql(target), SQL(", ").join(columns))


def add_primary_key(target: Target) -> Composed:
    """ALTER TABLE that makes the key columns the primary key; Postgres names it."""
    return SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(table_sql(target), names_sql(target.key_columns))


def rename_table(schema: str, old: str, new: str) -> Composed:
    """ALTER TABLE ... RENAME inside one schema."""
    return SQL("ALTER TABLE {} RENAME TO {}").format(Identifier(schema, old), Identifier(new))


def mark_kept(target: Target, name: str, source_id: int, *, strange: bool = False) -> Composed:
    """COMMENT that says that a table is kept, under this name, after its source has dropped it; and of which, and when.

    ``strange``: it is not known that a mirror has made it.
    In the comment, because that stays with the table when it is renamed, dumped and restored.
    """
    more = {"strange": True} if strange else {}
    details = _details(table=target.source, source=source_id, **more)
    return SQL("COMMENT ON TABLE {} IS {}").format(Identifier(target.schema, name), details)


def _details(**known: object) -> Literal:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return Literal(f"{KEPT} {json.dumps({**known, 'since': since}, ensure_ascii=False)}")


def drop_table(target: Target) -> Composed:
    """DROP TABLE; fails if a view depends on it."""
    return SQL("DROP TABLE {}").format(table_sql(target))


def add_plain_column(target: Target, name: str, pg_type: str) -> Composed:
    """Add a column that is NULL in every row that is there."""
    return SQL("ALTER TABLE {} ADD COLUMN {} {}").format(table_sql(target), Identifier(name), type_sql(pg_type))


def add_column(target: Target, name: str, pg_type: str, default: str | None) -> list[Composed]:
    """Add a column in which every row that is there has ``default`` (in text form).

    The default is dropped again: later rows come with their own value.
    """
    table, column = table_sql(target), Identifier(name)
    if default is None:
        return [add_plain_column(target, name, pg_type)]
    return [
        SQL("ALTER TABLE {} ADD COLUMN {} {} DEFAULT {}").format(table, column, type_sql(pg_type), Literal(default)),
        SQL("ALTER TABLE {} ALTER COLUMN {} DROP DEFAULT").format(table, column),
    ]


def rename_column(target: Target, old: str, new: str) -> Composed:
    """ALTER TABLE that renames one column."""
    return SQL("ALTER TABLE {} RENAME COLUMN {} TO {}").format(table_sql(target), Identifier(old), Identifier(new))


def drop_column(target: Target, name: str, lsn: Lsn, table: str, source_id: int) -> list[Composed]:
    """Rename a column that the source has dropped to :func:`dropped_name`; new rows have NULL in it.

    A comment says of what it was, as with a table (:func:`mark_kept`). ``table``: its name in the source now.
    """
    kept = dropped_name(name, lsn)
    optional = SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL").format(table_sql(target), Identifier(kept))
    source = next(column.source for column in target.columns if column.name == name)
    details = _details(table=table, column=source, source=source_id)
    words = SQL("COMMENT ON COLUMN {}.{} IS {}").format(table_sql(target), Identifier(kept), details)
    return [rename_column(target, name, kept), optional, words]


def widen_columns(target: Target, columns: Sequence[TargetColumn]) -> Composed:
    """ALTER TABLE that turns columns into jsonb without loss, in one rewrite of the table."""
    steps = []
    for column in columns:
        steps.append(SQL("ALTER COLUMN {} TYPE jsonb USING {}").format(Identifier(column.name), lossless_sql(column)))
    return SQL("ALTER TABLE {} {}").format(table_sql(target), SQL(", ").join(steps))


def lossless_sql(column: TargetColumn) -> Composable:
    """A column that may become jsonb, in the lossless encoding."""
    name = Identifier(column.name)
    if column.codec in kinds.WORDS:
        true, false = (Literal(word) for word in kinds.WORDS[column.codec])
        return SQL("CASE {0} WHEN true THEN to_jsonb({1}::text) WHEN false THEN to_jsonb({2}::text) END").format(
            name, true, false
        )
    value: Composable = SQL("mirror.lossless({})").format(name)
    if column.codec == kinds.NUMBER:
        whole = SQL("{0} = trunc({0}) AND abs({0}) <= {1}::float8").format(name, Literal(kinds.EXACT))
        return SQL("CASE WHEN {} THEN to_jsonb({}::bigint) ELSE {} END").format(whole, name, value)
    if column.codec == ANY_TEXT.codec:  # it shows something else where there is an original
        return SQL("coalesce({} -> {}, {})").format(Identifier(ORIGINAL), Literal(column.source), value)
    return value


def dropped_name(name: str, lsn: Lsn) -> str:
    """Take the name of a table or column and the position of its drop; return the name under which it is kept."""
    suffix = f"__dropped_{lsn.generation}_{lsn.frame}"
    raw = name.encode()
    if len(raw) + len(suffix) > MAX_NAME_BYTES:
        suffix = f"_{hashlib.sha256(raw).hexdigest()[:8]}{suffix}"
        name = raw[: MAX_NAME_BYTES - len(suffix)].decode(errors="ignore")
    return name + suffix
