"""The end of a move into an application's own tables: guard rails, and what the switch makes there again.

What these tables enforce is the application's, and nothing is made of what SQLite declares. But while a source is
mirrored, neither foreign keys nor triggers of theirs act on its rows. The switch puts back what was set aside, and has
Postgres look at all rows for each foreign key: one that rows break is, where that is acknowledged, NOT VALID from then
on, so that Postgres says what is so. A table without a key gets numbers for its column ``_rowid``, by which the way
back finds its rows; the column goes when that ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg import RawCursor
from psycopg.sql import SQL, Composed, Identifier, Literal

from mirror.core.checks import Code
from mirror.core.errors import MirrorError, SourceError
from mirror.core.rules import folded
from mirror.core.status import StatusReport
from mirror.core.words import counted
from mirror.cutover.breaches import Breaches
from mirror.cutover.readiness import Readiness
from mirror.cutover.references import Reference, find, orphans
from mirror.postgres.adopted import after_copy, guards
from mirror.postgres.adopted.decisions import Decisions, load
from mirror.postgres.ddl import table_sql
from mirror.postgres.migrate import statement
from mirror.postgres.sessions import placeholders
from mirror.postgres.target import ROWID, Target
from mirror.replica.declared import Declarations, Declared, Index, read_declarations

#: What `--acknowledge` calls the foreign keys.
NAME = "foreign keys"
#: And the SQL of `mirror adopt --after-copy`.
SCRIPT = "after copy"

_NOT_VALID = """
SELECT c.conname::text || ' of ' || t.relname
  FROM pg_catalog.pg_constraint c
  JOIN pg_catalog.pg_class t ON t.oid = c.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
 WHERE NOT c.convalidated AND n.nspname = ANY ($1::text[]) AND t.relname = ANY ($2::text[])
 ORDER BY t.relname, c.conname
"""


def judge(
    found: Readiness,
    connection: psycopg.Connection[Any],
    source: Path,
    source_id: int,
    targets: Sequence[Target],
    status: StatusReport,
) -> None:
    """Add the guard rails of a source that was adopted. Raises psycopg's errors."""
    references = find(connection, source_id, targets)
    _judge_references(found, connection, references, targets)
    _note_guards(found, connection, source_id, references)
    rows = RawCursor(connection).execute(
        _NOT_VALID, (sorted({each.schema for each in targets}), [each.name for each in targets])
    )
    loose = [name for (name,) in rows.fetchall()]
    if loose:
        step = "ALTER TABLE … VALIDATE CONSTRAINT … has Postgres look at them"
        figure = "constraints of Postgres that are NOT VALID, so they hold for new rows only: "
        found.add_note(Code.CONSTRAINT, "not valid", (figure, loose, ", "), step=step)
    try:
        declared = read_declarations(source)
    except SourceError as error:
        found.add(Code.CONSTRAINT, "constraints", False, f"could not be read: {error.detail}", error.next_step)
        return
    with placeholders(connection, RawCursor):
        decisions = load(connection, source_id)
        assert decisions is not None
        if decisions.after_copy:
            _judge_script(found, after_copy.read(connection, source_id))
    _note_uniques(found, connection, declared, targets, decisions.schema)
    _note_left_out(found, declared, decisions, status)


def _judge_references(
    found: Readiness,
    connection: psycopg.Connection[Any],
    references: Sequence[Reference],
    targets: Sequence[Target],
) -> None:
    broken = [
        _named(reference, breaches) for reference in references if (breaches := orphans(connection, reference, targets))
    ]
    unread = [f"{each.name} of {each.table}" for each in references if each.parts is None]
    fine = "none in Postgres" if not references else f"{len(references):,}: each row has what it refers to"
    found.add_many(
        Code.FOREIGN_KEYS,
        NAME,
        not broken and not unread,
        figure=[
            fine if not broken and not unread else "",
            ("rows that refer to none, which the foreign keys of Postgres would not allow: ", broken, "; "),
            ("of a form that is not known, so not looked at: ", unread, ", "),
        ],
        steps=[
            "change the rows in the source, and plan again; or, if they may stay, "
            f"{found.plan_with(NAME)}: these foreign keys are NOT VALID then, and hold for new rows only"
        ],
    )


def _named(reference: Reference, breaches: Breaches) -> str:
    """Orphans, with the keys of some, where they are known."""
    if not breaches.count:
        return f"{reference.name} of {reference.table}"
    keys = f"{breaches.named}; …" if breaches.count > breaches.named.count("; ") + 1 else breaches.named
    return f"{reference.name}: {counted(breaches.count, 'row')} of {reference.table} ({keys})"


def _note_guards(
    found: Readiness, connection: psycopg.Connection[Any], source_id: int, references: Iterable[Reference]
) -> None:
    rows = RawCursor(connection).execute(
        "SELECT name || ' of ' || table_name FROM mirror.set_aside WHERE source_id = $1::bigint AND kind = $2::text"
        " ORDER BY table_name, name",
        (str(source_id), guards.TRIGGER),
    )
    aside = [f"{each.name} of {each.table}" for each in references if each.aside]
    aside += [name for (name,) in rows.fetchall()]
    if aside:
        figure = "foreign keys and triggers that do not act while the source is mirrored: "
        step = "the switch puts them back"
        found.add_note(Code.CONSTRAINT, "set aside", (figure, aside, ", "), step=step)


def _judge_script(found: Readiness, state: after_copy.State | None) -> None:
    """Whether the SQL for after the copy was run, which the switch does once more."""
    assert state is not None
    figure = f"{state.file} was run at {state.at}; the switch runs it again"
    if not state.at:
        figure = f"{state.file} could not be run: {state.error}" if state.error else f"{state.file} was not run yet"
    step = (
        f"put it right, {found.step('adopt')} again with it and the same options, and start the mirror again; or, as"
        f" the switch tries it in any case, and is undone where it fails, {found.plan_with(SCRIPT)}"
    )
    if not state.error:
        again = f"the mirror runs it when it is started again, by {found.step('up')}"
        step = f"{again}; or, as the switch runs it in any case, {found.plan_with(SCRIPT)}"
    found.add_or_acknowledge(Code.AFTER_COPY, SCRIPT, bool(state.at), figure, step)


def _note_uniques(
    found: Readiness,
    connection: psycopg.Connection[Any],
    declared: Declarations,
    targets: Iterable[Target],
    schema: str,
) -> None:
    """What SQLite has unique, and Postgres has not."""
    there = {row[0]: row[1:3] for row in connection.execute(statement("enforced"), {"schema": schema}).fetchall()}
    missing = []
    for target in targets:
        table = declared.table(target.source)
        if table is not None and target.name in there:
            columns, indexes = there[target.name]
            missing += [
                _label(table, index)
                for index in table.indexes
                if index.unique and not any(_is_like(index, each, target, columns) for each in indexes)
            ]
    if missing:
        figure = "SQLite has them, and no index of Postgres is like them: "
        step = "if programs rely on them, make them in Postgres by a migration of the application"
        found.add_note(Code.UNIQUE_INDEXES, "unique indexes", (figure, missing, ", "), step=step)


def _label(table: Declared, index: Index) -> str:
    parts = [
        (part.column or "an expression") + ("" if part.collation == "BINARY" else f" COLLATE {part.collation}")
        for part in index.parts
    ]
    return f"{table.name}({', '.join(parts)})" + (" where a condition holds" if index.partial else "")


def _is_like(index: Index, there: Mapping[str, Any], target: Target, columns: Mapping[str, Any]) -> bool:
    """Whether a unique index of Postgres is of the same columns; expressions and conditions are not read."""
    if not there["unique"] or index.partial is (there["condition"] is None):
        return False
    names = {folded(column.source): column.name for column in target.columns}
    wanted = []
    for part in index.parts:
        name = names.get(folded(part.column)) if part.column is not None else None
        if name is not None and part.collation != "BINARY" and not columns[name]["type"].endswith("citext"):
            name = None
        wanted.append("e:" if name is None else f"c:{name}")
    return sorted(wanted) == sorted(key if key.startswith("c:") else "e:" for key in there["keys"])


def _note_left_out(found: Readiness, declared: Declarations, decisions: Decisions, status: StatusReport) -> None:
    """What programs of the application do not find in Postgres, or find as its migrations have it."""
    computed = {folded(f"{table}.{column}") for table, names in decisions.computed.items() for column in names}
    columns = [name for name in (*status.left_out, *status.omitted) if folded(name) not in computed]
    by_reason: dict[str, list[str]] = {"excluded": [], "kept": []}
    for name in declared.tables:
        if reason := decisions.left_out(name):
            by_reason[reason].append(name)
    found.add_note(
        Code.LEFT_OUT,
        "left out",
        "" if any((columns, status.virtual, *by_reason.values())) else "no table and no column",
        ("not mirrored: ", [*by_reason["excluded"], *(status.virtual or ())], ", "),
        ("each side has its own rows: ", by_reason["kept"], ", "),
        ("columns: ", columns, ", "),
    )


# -- the switch ------------------------------------------------------------------------------------------


def put_back(found: Readiness, connection: psycopg.Connection[Any], source_id: int, targets: Sequence[Target]) -> str:
    """Have all act again that the application's migrations made, in the transaction of the connection.

    Raises :class:`MirrorError` if rows break a foreign key and that was not acknowledged, and psycopg's errors.
    """
    references = find(connection, source_id, targets)
    with placeholders(connection, RawCursor):
        # Of those that were aside; Postgres has looked at all rows.
        invalid = set(guards.put_back(connection, source_id))
    broken = {
        each: breaches
        for each in references
        if not each.aside or (each.schema, each.table, each.name) in invalid
        if (breaches := orphans(connection, each, targets)) or each.aside
    }
    if broken and NAME not in found.acknowledged:
        detail = "; ".join(_named(each, breaches) for each, breaches in broken.items())
        step = f"{found.step('cutover plan', found.acknowledging())} says what to do"
        raise MirrorError("put foreign keys back", found.source, f"rows refer to none: {detail}", next_step=step)
    loosened = [each for each in broken if each.validated]
    for each in loosened:
        for text in each.loosened() if not each.aside else ():  # what was aside is so already
            connection.execute(text)
    said = f"{counted(len(references), 'foreign key')} and all triggers act"
    return f"{said}, {len(loosened):,} of them for new rows only" if loosened else said


def number_rows(conn: psycopg.Connection[Any], targets: Iterable[Target], headroom: int) -> list[str]:
    """Give numbers to the rows that programs will insert into tables without a key; returns what undoes it.

    ``conn``: raw, in a transaction. ``headroom``: numbers that are left out. Raises psycopg's errors.
    """
    undone = []
    for target in targets:
        if target.key is not None:
            continue
        table, column = table_sql(target), Identifier(ROWID)
        ((highest,),) = conn.execute(SQL("SELECT max({}) FROM {}").format(column, table)).fetchall()
        first = Literal(max(highest or 0, 0) + 1 + headroom)
        alter = SQL("ALTER TABLE {} ALTER COLUMN {} ").format(table, column)
        conn.execute(alter + SQL("SET NOT NULL"))
        made: Composed = SQL("ADD GENERATED BY DEFAULT AS IDENTITY (START WITH {})").format(first)
        conn.execute(alter + made)
        undone += [(alter + SQL(text)).as_string(conn) for text in ("DROP IDENTITY IF EXISTS", "DROP NOT NULL")]
    return undone
