"""Guard rails of tables that no profile knows: what SQLite enforces on them, and whether Postgres does.

Such a table has its rows and its key in Postgres, and nothing else of what it declares. So what is missing is never
passed in silence: it is named, with the statement that makes it, which the move into phase 3 runs; or, where none does
or rows come first, it fails until it is acknowledged. The statements of all guard rails run from the first to the last:
keys before what refers to them.

In a table that other sources fill, too, the mirror makes sequences, and nothing that would refuse their rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from mirror.core.checks import Code
from mirror.core.errors import SourceError
from mirror.core.words import counted
from mirror.cutover.foreign_keys import ForeignKeys
from mirror.cutover.held import Held, Place, Rail
from mirror.cutover.readiness import Readiness
from mirror.cutover.unique_keys import UniqueKeys, index_keys
from mirror.postgres.migrate import statement
from mirror.postgres.target import ROWID
from mirror.replica.declared import Declarations, read_declarations

#: The highest number that a row of SQLite, and a sequence of Postgres, can have.
_LAST_ID = 2**63 - 1


def judge_constraints(
    found: Readiness,
    connection: psycopg.Connection[Any],
    source: Path,
    schema: str,
    agent: str | None,
    headroom: int = 0,
    declared: Declarations | None = None,
    *,
    made: bool = False,
) -> None:
    """Add the guard rails of all tables that no migration of a profile makes.

    ``agent``: the owner of the source's rows, None or empty if its tables are its own. ``headroom``: numbers
    that sequences which are to be made leave out. ``declared``: what the source declares, if that is known already.
    ``made``: the statements have run, so what is missing fails. Raises psycopg's errors.
    """
    parameters = {"path": str(source), "schema": schema}
    stored = connection.execute(statement("mirrored_tables"), parameters).fetchall()
    if all(curated for _, _, _, curated, _ in stored):
        return
    try:
        declared = declared or read_declarations(source)
    except SourceError as error:
        found.add(Code.CONSTRAINT, "constraints", False, f"could not be read: {error.detail}", error.next_step)
        return
    there = {row[0]: row[1:] for row in connection.execute(statement("enforced"), {"schema": schema}).fetchall()}
    tables: dict[str, Held] = {}
    own: list[Held] = []
    for name, target, columns, curated, shared in stored:
        table = declared.table(name)
        if table is None or target not in there:
            continue  # dropped a moment ago: parity is the guard rail for that
        names = {each.get("source", each["name"]).lower(): each["name"] for each in columns}
        codecs = {each["name"]: each.get("codec", "") for each in columns}
        stored_as, indexes, refs = there[target]
        held = Held(name, target, names, codecs, table, stored_as, indexes, refs, shared)
        tables[name.lower()] = held
        if not curated:
            own.append(held)
    place = Place(connection, schema, agent or None)
    unique = UniqueKeys(place)
    unique.note_present(tables.values())
    alone = [held for held in own if not held.shared]
    _add(found, Code.UNIQUE_INDEXES, "unique indexes", unique.judge(alone), made=made)
    _add(found, Code.NOT_NULL, "not null", _not_null(place, alone), made=made)
    _add(found, Code.SEQUENCES, "sequences", _sequences(place, own, headroom), made=made)
    _add(found, Code.FOREIGN_KEYS, "foreign keys", ForeignKeys(place, tables, unique.plain).judge(alone), made=made)
    _note_shared(found, place, tables, own)
    _describe(found, own, declared, place, headroom)


def _note_shared(found: Readiness, place: Place, tables: Mapping[str, Held], own: Sequence[Held]) -> None:
    """Name what tables miss that other sources fill, too: the mirror does not make it."""
    shared = [held for held in own if held.shared]
    unique = UniqueKeys(place)
    unique.note_present(tables.values())
    rails = [unique.judge(shared), _not_null(place, shared), ForeignKeys(place, tables, unique.plain).judge(shared)]
    if missing := [label for rail in rails for label in (*rail.broken, *rail.missing)]:
        figure = "other sources fill tables that lack what SQLite enforces: "
        step = "once all of them are in phase 3: "
        statements = [text for rail in rails for text in rail.statements]
        found.add_note(Code.CONSTRAINT, "shared tables", (figure, missing, ", "), step=(step, statements, "; "))


def _add(found: Readiness, code: Code, name: str, rail: Rail, *, made: bool) -> None:
    passed = not rail.broken and not rail.missing
    if not rail.total:
        figure = ["none in SQLite"]
    elif passed:
        figure = [f"Postgres has all {rail.total:,}"]
    else:
        figure = []
    number, of = len(rail.missing), f"of {rail.total:,}"
    missing = f"{counted(number, f'{of} is', f'{of} are')} not in Postgres: "
    found.statements += rail.statements
    if not passed and rail.makeable and not made:
        step = "the move to phase 3 makes them at the switch: "
        found.add_note(code, name, (missing, rail.missing, ", "), step=(step, rail.statements, "; "))
        return
    first = ["change the rows in the source, and plan again"] if rail.broken else []
    if rail.unmade:
        first.append(f"where no statement makes one ({rail.unmade:,}), the programs that write have to see to it")
    last = f"if that is planned, or programs only read, {found.plan_with(name)}"
    found.add_many(
        code,
        name,
        passed,
        figure=[*figure, ("", rail.broken, ", "), (missing, rail.missing, ", ")],
        steps=[*first, ("for programs that write, at the switch: ", rail.statements, "; "), last],
    )


def _describe(found: Readiness, own: Sequence[Held], declared: Declarations, place: Place, headroom: int) -> None:
    """Say what the tables are good for, and name what only makes reads slow or is no table."""
    if others := _other_indexes(own, place):
        number = counted(len(others), "that is not unique is", "that are not unique are")
        figure = f"{number} not in Postgres, so reads may be slow: "
        found.add_note(Code.OTHER_OBJECTS, "other indexes", (figure, others, ", "))
    if declared.views:
        figure = f"{counted(len(declared.views), 'is', 'are')} not in Postgres: "
        found.add_note(Code.OTHER_OBJECTS, "views", (figure, declared.views, ", "))
    triggers = sum(held.declared.triggers for held in own)
    if triggers:
        number = counted(triggers, "is not in Postgres: what it does", "are not in Postgres: what they do")
        figure = f"{number}, the program that writes has to do"
        found.add_note(Code.OTHER_OBJECTS, "triggers", figure)
    if conflicts := [held.name for held in own if held.declared.conflicts]:
        figure = "rows that SQLite then ignores, or replaces others by, Postgres refuses: "
        found.add_note(Code.OTHER_OBJECTS, "ON CONFLICT", (figure, conflicts, ", "))
    figure = (
        f"{counted(len(own), 'is', 'are')} a replica to read: rows and keys. Defaults, CHECK and triggers do not come"
        " along: a program that is to write needs them made in Postgres"
    )
    keyless = _keyless(place, own, headroom)
    number = counted(len(keyless.missing), "without a key has", "without a key have")
    number = f"{number} the column {ROWID} in its place, which each new row needs: "
    found.add_note(
        Code.TABLES,
        "tables",
        figure,
        (number, keyless.missing, ", "),
        step=("for programs that write, at the switch: ", keyless.statements, "; "),
    )
    found.statements += keyless.statements


def _not_null(place: Place, tables: Iterable[Held]) -> Rail:
    """Columns that must not be NULL."""
    rail = Rail()
    for held in tables:
        rail.total += len(held.declared.not_null)
        loose = []
        for source in held.declared.not_null:
            if (name := held.names.get(source.lower())) is None or name not in held.columns:
                rail.cannot(f"{held.name}.{source}", "the column is not in Postgres")
            elif not held.columns[name]["not_null"]:
                loose.append((source, name))
        if loose:
            _count_nulls(place, rail, held, loose)
    return rail


def _count_nulls(place: Place, rail: Rail, held: Held, loose: Sequence[tuple[str, str]]) -> None:
    counts = SQL(", ").join(SQL("count(*) FILTER (WHERE t.{} IS NULL)").format(Identifier(name)) for _, name in loose)
    query = SQL("SELECT {} FROM {} AS t WHERE {}").format(counts, place.table(held), place.owned)
    row = place.connection.execute(query).fetchone()
    steps = []
    for (source, name), nulls in zip(loose, row or (), strict=True):
        label = f"{held.name}.{source}"
        if nulls:
            rail.broken.append(f"{label}: NULL in {counted(nulls, 'row')}")
            rail.cannot(label, "these rows come first")
        else:
            rail.make(label)
            steps.append(SQL("ALTER COLUMN {} SET NOT NULL").format(Identifier(name)))
    if steps:
        rail.statements.append(place.sql(SQL("ALTER TABLE {} {}").format(place.table(held), SQL(", ").join(steps))))


def _sequences(place: Place, tables: Iterable[Held], headroom: int) -> Rail:
    """Numbers that SQLite gives to rows that come without one."""
    rail = Rail()
    for held in tables:
        if (source := held.declared.given_id) is None:
            continue
        rail.total += 1
        label = f"{held.name}.{source}"
        try:
            name = held.column(source)
        except KeyError:
            rail.cannot(label, "the column is not in Postgres")
            continue
        if held.columns[name]["sequence"] is not None:
            continue  # its value is a guard rail of its own
        last = held.declared.last_id
        label += f" (SQLite is at {last:,})" if last else ""
        if held.type_of(name) != "bigint" or not held.columns[name]["not_null"]:
            rail.cannot(label, f"the column is {held.type_of(name)} in Postgres, and no key of its own there")
            continue
        # A row that is a reject is not in Postgres.
        _number(place, rail, held, name, label, max(last, held.declared.highest_id or 0), headroom)
    return rail


def _number(place: Place, rail: Rail, held: Held, name: str, label: str, last: int, headroom: int) -> None:
    """``last``: the highest number of a row that may be deleted, or is not in Postgres."""
    query = SQL("SELECT max({}) FROM {}").format(Identifier(name), place.table(held))
    row = place.connection.execute(query).fetchone()
    highest = max(last, (row and row[0]) or 0, 0)
    if highest >= _LAST_ID:
        rail.cannot(label, f"its numbers are used up: {highest:,} is the last one that there is")
        return
    first = min(highest + 1 + headroom, _LAST_ID) if highest else 1
    made = SQL("ALTER TABLE {} ALTER COLUMN {} ADD GENERATED BY DEFAULT AS IDENTITY (START WITH {})")
    rail.make(label, place.sql(made.format(place.table(held), Identifier(name), Literal(first))))


def _keyless(place: Place, tables: Iterable[Held], headroom: int) -> Rail:
    """Tables without a key of their own: Postgres has SQLite's rowid as a column, which every new row needs."""
    rail = Rail()
    for held in tables:
        if ROWID in held.columns and ROWID not in held.names.values() and held.columns[ROWID]["sequence"] is None:
            _number(place, rail, held, ROWID, held.name, 0, headroom)
    return rail


def _other_indexes(tables: Iterable[Held], place: Place) -> list[str]:
    """Indexes that are not unique, and that Postgres has nothing like."""
    missing = []
    for held in tables:
        for index in held.declared.indexes:
            if index.unique:
                continue
            try:
                keys, _ = index_keys(place, held, index)
            except KeyError:
                keys = []
            if not any(
                keys and each["condition"] is None and each["keys"][: len(keys)] == keys for each in held.indexes
            ):
                missing.append(f"{index.name} on {held.name}")
    return missing
