"""Foreign keys of an application's own tables, and the rows that they would not allow.

While a source is mirrored none of them acts: they are set aside or bypassed (:mod:`mirror.postgres.adopted.guards`). A
foreign key is known by its definition, as ``pg_get_constraintdef`` writes it where names have their schemas
(:mod:`mirror.postgres.adopted.full_names`); they are quoted where that is needed::

    FOREIGN KEY (a, "B") REFERENCES app.things(c, "D") [MATCH FULL] [ON …] [DEFERRABLE …] [NOT VALID]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import RawCursor
from psycopg.sql import SQL, Composed, Identifier

from mirror.cutover.breaches import Breaches, rows_without
from mirror.postgres.adopted.full_names import in_full
from mirror.postgres.adopted.guards import FOREIGN_KEY, NOT_VALID
from mirror.postgres.migrate import statement
from mirror.postgres.target import Target

_NAME = r'"(?:[^"]|"")+"|[^\s"(),.]+'
_NAMES = rf"(?:{_NAME})(?:, (?:{_NAME}))*"
_DEFINITION = re.compile(rf"FOREIGN KEY \(({_NAMES})\) REFERENCES ({_NAME})\.({_NAME})\(({_NAMES})\).*", re.DOTALL)
_EACH = re.compile(_NAME)


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key, of a mirrored table or to one."""

    schema: str
    table: str
    name: str
    definition: str
    aside: bool
    """Whether it is not there, because it was set aside."""

    @property
    def validated(self) -> bool:
        """Whether the application has all rows obey it, and not only new ones."""
        return not self.definition.endswith(NOT_VALID)

    @property
    def at(self) -> Identifier:
        """The qualified name of its table."""
        return Identifier(self.schema, self.table)

    @property
    def parts(self) -> tuple[tuple[str, ...], Identifier, tuple[str, ...]] | None:
        """Its columns, the table that it refers to, and that one's columns; None: it is of another form."""
        match = _DEFINITION.fullmatch(self.definition)
        if match is None:
            return None
        schema, table = map(_plain, match.group(2, 3))
        return _listed(match[1]), Identifier(schema, table), _listed(match[4])

    def loosened(self) -> Sequence[Composed]:
        """What makes it one that holds for new rows only."""
        made = SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(self.at, Identifier(self.name), SQL(self.definition))
        drop = SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(self.at, Identifier(self.name))
        return drop, made + SQL(NOT_VALID)


def _listed(names: str) -> tuple[str, ...]:
    return tuple(_plain(match[0]) for match in _EACH.finditer(names))


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name[0] == '"' else name


def find(connection: psycopg.Connection[Any], source_id: int, targets: Sequence[Target]) -> list[Reference]:
    """The foreign keys of a source's tables and to them, also those that are set aside. Raises psycopg's errors."""
    cursor, found = RawCursor(connection), list[Reference]()
    for schema in sorted({target.schema for target in targets}):
        names = [target.name for target in targets if target.schema == schema]
        rows = in_full(connection, statement("adopted_guards"), (schema, names))
        found += [
            Reference(table_schema, table, name, definition, aside=False)
            for kind, table_schema, table, name, definition in rows
            if kind == FOREIGN_KEY
        ]
    aside = cursor.execute(
        "SELECT schema_name, table_name, name, definition FROM mirror.set_aside"
        " WHERE source_id = $1::bigint AND kind = $2::text ORDER BY 1, 2, 3",
        (str(source_id), FOREIGN_KEY),
    ).fetchall()
    there = {(each.schema, each.table, each.name) for each in found}
    found += [
        Reference(schema, table, name, definition, aside=True)
        for schema, table, name, definition in aside
        if (schema, table, name) not in there
    ]
    return found


def orphans(connection: psycopg.Connection[Any], reference: Reference, targets: Iterable[Target]) -> Breaches:
    """The rows that refer to none, named by their keys. ``connection``: with psycopg's placeholders.

    Of a foreign key that is read in no form that is known, none. Raises psycopg's errors.
    """
    if reference.parts is None:
        return Breaches(0, "")
    ours, referred, theirs = reference.parts
    target = next((each for each in targets if (each.schema, each.name) == (reference.schema, reference.table)), None)
    shown = ours if target is None else target.key_columns
    joined = [
        SQL("r.{} = t.{}").format(Identifier(their), Identifier(our)) for our, their in zip(ours, theirs, strict=True)
    ]
    keys = [SQL("t.{}").format(Identifier(name)) for name in ours]
    named = [SQL("t.{}").format(Identifier(name)) for name in shown]
    return rows_without(connection, reference.at, keys, SQL("true"), referred, joined, shown=named)
