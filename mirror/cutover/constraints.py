"""Guard rails of tables that no profile knows: what SQLite enforces on them, and whether Postgres does.

Such a table has its rows and its key in Postgres, and nothing else of what it declares. So what is missing is never
passed in silence: it fails, with the statement that makes it, until it is made or acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from mirror.core.checks import Check, Code
from mirror.core.errors import SourceError
from mirror.cutover.breaches import repeated, rows_without
from mirror.cutover.readiness import Readiness
from mirror.postgres.migrate import statement
from mirror.replica.declared import Declarations, Declared, Index, Reference, read_declarations

#: Things that are named, of many.
_NAMED = 5
#: The column that leads each key of a table with the rows of several agents.
_AGENT = "agent_id"


@dataclass(frozen=True, slots=True)
class _Held:
    """A table of the source, and where and how Postgres has it."""

    name: str
    target: str
    names: Mapping[str, str]
    """By the name in the source, lower case: the name in Postgres."""
    declared: Declared
    columns: Mapping[str, Mapping[str, Any]]
    """By the name in Postgres: as ``enforced.sql`` describes them."""
    indexes: Sequence[Mapping[str, Any]]
    refs: Sequence[Mapping[str, Any]]

    def column(self, source: str) -> str:
        """The name in Postgres of a column of the source; raises ``KeyError``."""
        name = self.names[source.lower()]
        if name not in self.columns:
            raise KeyError(source)
        return name

    def type_of(self, column: str) -> str:
        """The type of a column of Postgres."""
        return str(self.columns[column]["type"])


class _Rail:
    """What one guard rail has found: rows that break a constraint, and constraints that Postgres does not have."""

    def __init__(self) -> None:
        self.total = 0
        self.broken: list[str] = []
        self.missing: list[str] = []
        self.statements: list[str] = []


def judge_constraints(
    found: Readiness, connection: psycopg.Connection[Any], source: Path, schema: str, agent: str | None
) -> dict[tuple[str, str], int]:
    """Add the guard rails of all tables that no migration of a profile makes.

    ``agent``: the owner of the source's rows, None or empty if its tables are its own. Returns the highest number that
    SQLite ever gave, by table and column of Postgres. Raises psycopg's errors.
    """
    parameters = {"path": str(source), "schema": schema}
    stored = connection.execute(statement("mirrored_tables"), parameters).fetchall()
    if all(curated for _, _, _, curated in stored):
        return {}
    try:
        declared = read_declarations(source)
    except SourceError as error:
        found.add(Code.CONSTRAINT, "constraints", False, f"could not be read: {error.detail}", error.next_step)
        return {}
    there = {row[0]: row[1:] for row in connection.execute(statement("enforced"), {"schema": schema}).fetchall()}
    tables = {}
    for name, target, columns, curated in stored:
        table = declared.table(name)
        if table is None or target not in there:
            continue  # dropped a moment ago: parity is the guard rail for that
        names = {each.get("source", each["name"]).lower(): each["name"] for each in columns}
        tables[name.lower()] = curated, _Held(name, target, names, table, *there[target])
    judge = _Judge(connection, schema, agent or None, {name: held for name, (_, held) in tables.items()})
    own = [held for curated, held in tables.values() if not curated]
    _add(found, Code.FOREIGN_KEYS, "foreign keys", judge.references(own))
    _add(found, Code.UNIQUE_INDEXES, "unique indexes", judge.unique(own))
    _add(found, Code.NOT_NULL, "not null", judge.not_null(own))
    _add(found, Code.SEQUENCES, "sequences", judge.sequences(own))
    _describe(found, own, declared, judge)
    given = [held for held in own if held.declared.given_id is not None and held.declared.last_id]
    return {(held.target, held.column(str(held.declared.given_id))): held.declared.last_id for held in given}


def _add(found: Readiness, code: Code, name: str, rail: _Rail) -> None:
    passed = not rail.broken and not rail.missing
    if not rail.total:
        figure = "none in SQLite"
    elif passed:
        figure = f"Postgres has all {rail.total:,}"
    else:
        parts = [*([_listed(rail.broken)] if rail.broken else ())]
        if rail.missing:
            parts.append(f"{len(rail.missing):,} of {rail.total:,} are not in Postgres: {_listed(rail.missing)}")
        figure = "; ".join(parts)
    steps = ["change the rows in the source"] if rail.broken else []
    if rail.statements:
        steps.append(f"for programs that write, at the switch: {_listed(rail.statements, '; ')}")
    steps.append(f"if that is planned, or programs only read, add --acknowledge '{name}'")
    found.add_or_acknowledge(code, name, passed, figure, "; ".join(steps))


def _describe(found: Readiness, own: Sequence[_Held], declared: Declarations, judge: _Judge) -> None:
    """Say what the tables are good for, and name what only makes reads slow or is no table."""
    others = judge.other_indexes(own)
    if others:
        figure = f"{len(others):,} that are not unique are not in Postgres, so reads may be slow: {_listed(others)}"
        found.rails.append(Check(Code.OTHER_OBJECTS, "other indexes", "note", figure))
    if declared.views:
        figure = f"{len(declared.views):,} are not in Postgres: {_listed(declared.views)}"
        found.rails.append(Check(Code.OTHER_OBJECTS, "views", "note", figure))
    triggers = sum(held.declared.triggers for held in own)
    if triggers:
        figure = f"{triggers:,} are not in Postgres: what they do, the program that writes has to do"
        found.rails.append(Check(Code.OTHER_OBJECTS, "triggers", "note", figure))
    figure = (
        f"{len(own):,} are a replica to read: rows and keys. Defaults, CHECK and triggers do not come along: a program "
        "that is to write needs them made in Postgres"
    )
    found.rails.append(Check(Code.TABLES, "tables", "note", figure))


def _listed(items: Sequence[str], between: str = ", ") -> str:
    more = f"{between}and {len(items) - _NAMED:,} more" if len(items) > _NAMED else ""
    return between.join(items[:_NAMED]) + more


class _Judge:
    """Compares what is declared with what Postgres has."""

    def __init__(
        self, connection: psycopg.Connection[Any], schema: str, agent: str | None, tables: Mapping[str, _Held]
    ) -> None:
        """``tables``: by name in the source, lower case."""
        self._connection = connection
        self._schema = schema
        self._agent = agent
        self._tables = tables
        self._owned: Composable = (
            SQL("true") if agent is None else SQL("t.{} = {}").format(Identifier(_AGENT), Literal(agent))
        )
        self._led = () if agent is None else (_AGENT,)

    def _sql(self, composed: Composed) -> str:
        return composed.as_string(self._connection)

    def _table(self, held: _Held) -> Identifier:
        return Identifier(self._schema, held.target)

    def references(self, tables: Iterable[_Held]) -> _Rail:
        """Foreign keys."""
        rail = _Rail()
        for held in tables:
            for reference in held.declared.references:
                rail.total += 1
                self._judge_reference(rail, held, reference)
        return rail

    def _judge_reference(self, rail: _Rail, held: _Held, reference: Reference) -> None:
        label = f"{held.name}({', '.join(reference.columns)}) to {reference.referred}"
        other = self._tables.get(reference.referred.lower())
        if other is None:
            rail.broken.append(f"{label}: there is no such table in Postgres")
            return
        wanted = reference.referred_columns or other.declared.primary_key
        try:
            ours = [held.column(name) for name in reference.columns]
            theirs = [other.column(name) for name in wanted]
            pairs = list(zip(ours, theirs, strict=True))
        except (KeyError, ValueError):
            rail.broken.append(f"{label}: it does not have these columns")
            return
        led = list(self._led)
        keys = [SQL("t.{}").format(Identifier(name)) for name in ours]
        joined = [
            SQL("r.{} = t.{}").format(Identifier(b), Identifier(a))
            for a, b in [*((each, each) for each in led), *pairs]
        ]
        try:
            orphans = rows_without(self._connection, self._table(held), keys, self._owned, self._table(other), joined)
        except psycopg.errors.UndefinedFunction:
            types = ", ".join(f"{held.type_of(a)} with {other.type_of(b)}" for a, b in pairs)
            rail.broken.append(f"{label}: Postgres does not compare {types}")
            return
        if orphans:
            rail.broken.append(f"{label}: {orphans.count:,} rows refer to none: {orphans.named}")
        ref = {"columns": led + ours, "referred": other.target, "referred_columns": led + theirs}
        if ref not in held.refs:
            rail.missing.append(label)
            action = "" if reference.on_delete == "NO ACTION" else f" ON DELETE {reference.on_delete}"
            rail.statements.append(
                self._sql(
                    SQL("ALTER TABLE {} ADD FOREIGN KEY ({}) REFERENCES {} ({})").format(
                        self._table(held), _names(led + ours), self._table(other), _names(led + theirs)
                    )
                )
                + action
            )

    def unique(self, tables: Iterable[_Held]) -> _Rail:
        """Unique indexes, and so also UNIQUE and PRIMARY KEY."""
        rail = _Rail()
        for held in tables:
            for index in held.declared.indexes:
                if index.unique:
                    rail.total += 1
                    self._judge_unique(rail, held, index)
        return rail

    def _judge_unique(self, rail: _Rail, held: _Held, index: Index) -> None:
        label = f"{held.name}({', '.join(part.column or 'an expression' for part in index.parts)})"
        try:
            keys, parts = self._keys(held, index, "t.")
        except KeyError as error:
            rail.missing.append(f"{label}: {error.args[0]}")
            return
        if not index.partial:
            try:
                taken = repeated(self._connection, self._table(held), parts, self._owned)
            except psycopg.errors.UndefinedFunction:
                rail.broken.append(f"{label}: Postgres has no order for these types")
                return
            if taken:
                rail.broken.append(f"{label}: {taken.count:,} taken more than once: {taken.named}")
        if any(each["unique"] and sorted(each["keys"]) == sorted(keys) for each in held.indexes):
            return
        rail.missing.append(f"{label} where a condition holds" if index.partial else label)
        _, plain = self._keys(held, index, "")
        led = [Identifier(name) for name in self._led]
        rail.statements.append(
            self._sql(SQL("CREATE UNIQUE INDEX ON {} ({})").format(self._table(held), SQL(", ").join([*led, *plain])))
            + (" WHERE …" if index.partial else "")
        )

    def _keys(self, held: _Held, index: Index, alias: str) -> tuple[list[str], list[Composable]]:
        """What an index has in Postgres: its keys as Postgres lists them, and those of the source as SQL.

        Raises ``KeyError``, with the reason, where there is nothing like it in Postgres.
        """
        listed, composed = list(self._led), list[Composable]()
        for part in index.parts:
            if part.column is None:
                raise KeyError("it is of an expression")
            try:
                name = held.column(part.column)
            except KeyError:
                raise KeyError(f"{part.column} is not in Postgres") from None
            column = SQL("{}{}").format(SQL("t.") if alias else SQL(""), Identifier(name))
            kind = held.type_of(name)
            if part.collation == "BINARY" or kind not in ("text", "jsonb"):
                listed.append(name)
                composed.append(column)
            elif part.collation == "NOCASE" and kind == "text":
                listed.append(held.columns[name]["lower"])
                composed.append(SQL("lower({})").format(column))
            elif part.collation == "RTRIM" and kind == "text":
                listed.append(held.columns[name]["rtrim"])
                composed.append(SQL("rtrim({}, ' ')").format(column))
            else:
                raise KeyError(f"{part.column} is compared by {part.collation}, which Postgres has not for {kind}")
        return listed, composed

    def not_null(self, tables: Iterable[_Held]) -> _Rail:
        """Columns that must not be NULL."""
        rail = _Rail()
        for held in tables:
            rail.total += len(held.declared.not_null)
            loose = []
            for source in held.declared.not_null:
                if (name := held.names.get(source.lower())) is None or name not in held.columns:
                    rail.missing.append(f"{held.name}.{source}: the column is not in Postgres")
                elif not held.columns[name]["not_null"]:
                    loose.append((source, name))
            if loose:
                self._count_nulls(rail, held, loose)
        return rail

    def _count_nulls(self, rail: _Rail, held: _Held, loose: Sequence[tuple[str, str]]) -> None:
        counts = SQL(", ").join(
            SQL("count(*) FILTER (WHERE t.{} IS NULL)").format(Identifier(name)) for _, name in loose
        )
        query = SQL("SELECT {} FROM {} AS t WHERE {}").format(counts, self._table(held), self._owned)
        row = self._connection.execute(query).fetchone()
        for (source, _), nulls in zip(loose, row or (), strict=True):
            rail.missing.append(f"{held.name}.{source}")
            if nulls:
                rail.broken.append(f"{held.name}.{source}: {nulls:,} rows have NULL")
        steps = SQL(", ").join(SQL("ALTER COLUMN {} SET NOT NULL").format(Identifier(name)) for _, name in loose)
        rail.statements.append(self._sql(SQL("ALTER TABLE {} {}").format(self._table(held), steps)))

    def sequences(self, tables: Iterable[_Held]) -> _Rail:
        """Numbers that SQLite gives to rows that come without one."""
        rail = _Rail()
        for held in tables:
            if (source := held.declared.given_id) is None:
                continue
            rail.total += 1
            try:
                name = held.column(source)
            except KeyError:
                rail.missing.append(f"{held.name}.{source}: the column is not in Postgres")
                continue
            if held.columns[name]["sequence"] is not None:
                continue  # its value is a guard rail of its own
            last = held.declared.last_id
            rail.missing.append(f"{held.name}.{source}" + (f" (SQLite is at {last:,})" if last else ""))
            query = SQL("SELECT max({}) FROM {}").format(Identifier(name), self._table(held))
            row = self._connection.execute(query).fetchone()
            start = max(last, (row and row[0]) or 0, 0) + 1
            made = SQL("ALTER TABLE {} ALTER COLUMN {} ADD GENERATED BY DEFAULT AS IDENTITY (START WITH {})")
            rail.statements.append(self._sql(made.format(self._table(held), Identifier(name), Literal(start))))
        return rail

    def other_indexes(self, tables: Iterable[_Held]) -> list[str]:
        """Indexes that are not unique, and that Postgres has nothing like."""
        missing = []
        for held in tables:
            for index in held.declared.indexes:
                if index.unique:
                    continue
                try:
                    keys, _ = self._keys(held, index, "")
                except KeyError:
                    keys = []
                if not any(keys and each["keys"][: len(keys)] == keys for each in held.indexes):
                    missing.append(f"{index.name} on {held.name}")
        return missing


def _names(names: Iterable[str]) -> Composed:
    return SQL(", ").join(map(Identifier, names))
