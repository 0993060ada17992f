"""The SQL with which the rehearsal's writer writes rows again that are there, in SQLite and in Postgres.

A row is *touched*: a value that no constraint is about becomes another, and at the next time what it was, so that the
mirror has to carry it; where there is none, a column is set to itself. Or it is *taken*, deleted, and later *put* there
again as it was; not where other tables refer to it, because Postgres would then refuse that, or change their rows, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from contextlib import closing
from pathlib import Path

import apsw
import msgspec
from psycopg.sql import Identifier, Literal

from mirror.core.errors import SourceError
from mirror.core.quote import quoted
from mirror.core.tables import Constraint
from mirror.cutover.rehearsal.columns import Toggle, toggled
from mirror.postgres.ddl import table_sql
from mirror.postgres.profiles.generic import AGENT
from mirror.postgres.target import ROWID, Conn, Target
from mirror.replica.declared import Declared, read_declarations
from mirror.reverse.writer import rowid_name

#: Rows of a table that the writer writes to; and how many there must be for some of them to be taken.
MOST_KEYS, LEAST_ROWS = 1000, 10
_CHECK = re.compile(r"\bcheck\b", re.IGNORECASE)


class StoreStatements(msgspec.Struct, frozen=True):
    """The statements for one table in one store. The parameters of a row are its key."""

    keys: str
    """Some keys; a row for each."""
    touch: str
    keep: str
    """Set a column to itself."""
    take: str
    """Delete a row; it gives what ``put`` takes, or the row was gone."""
    put: str


class TableStatements(msgspec.Struct, frozen=True):
    """The statements for one table."""

    name: str
    swappable: bool
    sqlite: StoreStatements
    postgres: StoreStatements


def statements_of(
    database: Path,
    conn: Conn,
    targets: Iterable[Target],
    wanted: Collection[Constraint],
) -> dict[str, TableStatements]:
    """By source table, the statements for each ordinary table that has rows.

    ``conn``: raw cursors. ``wanted``: constraints of the profile. Raises ``SourceError``.
    """
    declared = read_declarations(database)
    referred = {each.referred.lower() for table in declared.tables.values() for each in table.references}
    referred |= {each.referred.lower() for each in wanted if each.referred}
    found = {}
    try:
        with closing(apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)) as db:
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            for target in targets:
                table = declared.table(target.source)
                if table is None or target.virtual is not None:
                    continue
                [[rows]] = db.execute(
                    f"SELECT count(*) FROM (SELECT 1 FROM {quoted(table.name)} LIMIT {LEAST_ROWS})"
                ).fetchall()
                if not rows:
                    continue
                swappable = rows == LEAST_ROWS and table.name.lower() not in referred
                bound_columns = {name for each in wanted if each.table == target.name for name in each.columns}
                found[target.source] = _statements(db, conn, target, table, swappable, bound_columns)
    except apsw.Error as error:
        raise SourceError("rehearse a move", str(database), f"{type(error).__name__}: {error}") from error
    return found


def _statements(
    db: apsw.Connection,
    conn: Conn,
    target: Target,
    table: Declared,
    swappable: bool,
    bound_columns: set[str],
) -> TableStatements:
    columns = [
        str(name)
        for name, hidden in db.execute("SELECT name, hidden FROM pragma_table_xinfo(?)", (table.name,))
        if not hidden
    ]
    [[text]] = db.execute("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (table.name,)).fetchall()
    changed = None if _CHECK.search(str(text)) else toggled(target, table, columns, bound_columns)
    by_rowid = target.key is None
    key = [rowid_name(columns)] if by_rowid else [c.source for c in target.columns if c.name in (target.key or ())]
    # A column to set to itself: no key, if there is another one.
    plain = next((c for c in columns if c not in key), columns[0])
    held = next((c for c in target.columns if c.source == plain), target.columns[0])
    plain = held.source if held.source in columns else plain
    name = quoted(table.name)
    setting = changed.sqlite.format(c=quoted(changed.column.source)) if changed else ""
    same = " AND ".join(f"{quoted(column)} IS ?" for column in key)
    whole = [*key, *columns] if by_rowid else columns
    named = ", ".join(map(quoted, whole))
    sqlite = StoreStatements(
        keys=f"SELECT {', '.join(map(quoted, key))} FROM {name} LIMIT {MOST_KEYS}",
        touch=f"UPDATE {name} SET {setting} WHERE {same}" if setting else "",
        keep=f"UPDATE {name} SET {quoted(plain)} = {quoted(plain)} WHERE {same}",
        take=f"DELETE FROM {name} WHERE {same} RETURNING {named}",
        put=f"INSERT INTO {name}({named}) VALUES ({', '.join('?' * len(whole))})",
    )
    return TableStatements(table.name, swappable, sqlite, _in_postgres(conn, target, held.name, changed))


def _in_postgres(conn: Conn, target: Target, plain: str, changed: Toggle | None) -> StoreStatements:
    def name_of(name: str) -> str:
        return Identifier(name).as_string(conn)

    own = target.key if target.key is not None else (ROWID,)
    types = {column.name: column.pg_type for column in target.columns} | {ROWID: "bigint"}
    table = table_sql(target).as_string(conn)
    owned = "true" if target.agent is None else f"{name_of(AGENT)} = {Literal(target.agent).as_string(conn)}"
    same = " AND ".join([owned, *(f"{name_of(name)} = ${at}::text::{types[name]}" for at, name in enumerate(own, 1))])
    rows = conn.execute(
        "SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = $1::regclass AND attnum > 0"
        " AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
        (table,),
    ).fetchall()
    stored = [name_of(str(name)) for (name,) in rows]
    texts = ", ".join(f"{name_of(name)}::text" for name in own)
    return StoreStatements(
        keys=f"SELECT {texts} FROM {table} WHERE {owned} LIMIT {MOST_KEYS}",
        touch=f"UPDATE {table} SET {changed.postgres.format(c=name_of(changed.column.name))} WHERE {same}"
        if changed
        else "",
        keep=f"UPDATE {table} SET {name_of(plain)} = {name_of(plain)} WHERE {same}",
        # As the text of a whole row, which loses nothing.
        take=f"DELETE FROM {table} AS mirror_row WHERE {same} RETURNING mirror_row::text",
        put=f"INSERT INTO {table} ({', '.join(stored)}) SELECT {', '.join(f'(r).{name}' for name in stored)}"
        f" FROM (SELECT $1::text::{table} AS r) AS one",
    )
