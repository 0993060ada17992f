"""Full-text search of a source, and what may take its place in Postgres.

The virtual tables of FTS3, FTS4 and FTS5 are left out with the tables in which they keep themselves: an index of one
store is no use in the other. In Postgres an application has a column of ``tsvector``, or a table for it, which nobody
fills while rows are mirrored: its triggers do not fire for them. What fills it is SQL of the user's (``--after-copy``).

The arguments of such a table are columns and options, of FTS5 (https://www.sqlite.org/fts5.html) and FTS4
(https://www.sqlite.org/fts3.html)::

    CREATE VIRTUAL TABLE s USING fts5(title, body, ref UNINDEXED, content='notes', content_rowid='id')
    CREATE VIRTUAL TABLE s USING fts4(title TEXT, body, notindexed=body, content="notes", tokenize=porter "x")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from psycopg.sql import SQL, Composable, Identifier

from mirror.core.rules import folded
from mirror.core.sql_words import Token, tokens
from mirror.core.virtual import VirtualTable
from mirror.postgres.adopted.found import FoundColumn, FoundTable
from mirror.sqlite.decode.schema import is_shadow_name

MODULES = frozenset(("fts3", "fts4", "fts5"))
_VECTOR = "tsvector"


@dataclass(frozen=True, slots=True)
class SearchTable:
    """A table of full-text search of the source."""

    table: str
    module: str
    columns: tuple[str, ...]
    """Those that are searched; empty: those of the table that has the texts."""
    texts_in: str
    """The table that has its texts; empty: it has them itself, or nothing has."""
    holds_texts: bool
    """Whether it has them itself."""
    tables: tuple[str, ...]
    """In which it keeps itself, and which are not mirrored either."""
    in_postgres: tuple[str, ...]
    """What may take its place there: tables, and columns of tsvector that have to be filled."""
    computed: tuple[str, ...]
    """Columns of tsvector that Postgres computes itself."""
    example: str
    """SQL that fills a column by the default configuration of text search; empty: it is not known which."""
    made_of: str
    """Of which tables the one of its name there is made, as a preset says; empty: it is not known."""


def find_search(
    virtual: Iterable[VirtualTable],
    statements: Mapping[str, str],
    names: Iterable[str],
    pairs: Mapping[str, str],
    found: Mapping[str, FoundTable],
    made_of: Mapping[str, str],
) -> list[SearchTable]:
    """The tables of full-text search.

    ``statements``: how they were made, by name. ``names``: of all tables of the file. ``pairs``: where tables go.
    ``found``: the tables in Postgres. ``made_of``: what a preset says of some, by name.
    """
    all_names = sorted(names)
    made = []
    for each in virtual:
        if each.module not in MODULES:
            continue
        columns, texts_in = arguments(statements.get(each.name, ""), each.module)
        tables = tuple(name for name in all_names if is_shadow_name(name, {each.name.lower(): each.module}))
        made.append(_placed(each, columns, texts_in, tables, pairs, found, made_of.get(each.name, "")))
    return made


def _placed(
    each: VirtualTable,
    columns: tuple[str, ...],
    texts_in: str,
    tables: tuple[str, ...],
    pairs: Mapping[str, str],
    found: Mapping[str, FoundTable],
    made_of: str,
) -> SearchTable:
    target = next((to for name, to in pairs.items() if folded(name) == folded(texts_in)), "")
    same = [table for name, table in found.items() if folded(name) == folded(each.name)]
    texts = [found[target]] if target in found else []
    vectors = list(_vectors([*same, *texts])) or list(_vectors(found.values()))
    filled = [f"{table.name}.{column.name}" for table, column in vectors if not column.generated]
    wanted = [(table, column) for table, column in vectors if table in texts and not column.generated]
    example = _example(*wanted[0], columns).as_string(None) if len(wanted) == 1 and columns else ""
    return SearchTable(
        each.name,
        each.module,
        columns,
        texts_in,
        each.holds_data,
        tables,
        (*(f"the table {table.name}" for table in same), *filled),
        tuple(f"{table.name}.{column.name}" for table, column in vectors if column.generated),
        example,
        made_of,
    )


def _vectors(tables: Iterable[FoundTable]) -> Iterator[tuple[FoundTable, FoundColumn]]:
    for table in tables:
        for column in table.columns:
            if column.type.name == _VECTOR:
                yield table, column


def _example(table: FoundTable, column: FoundColumn, columns: Iterable[str]) -> Composable:
    there = {folded(each.name): each.name for each in table.columns}
    texts = SQL(", ").join(Identifier(there[folded(name)]) for name in columns if folded(name) in there)
    made = SQL("to_tsvector(concat_ws(' ', {}))").format(texts)
    at, name = Identifier(table.schema, table.name), Identifier(column.name)
    return SQL("UPDATE {} SET {} = {} WHERE {} IS DISTINCT FROM {}").format(at, name, made, name, made)


def arguments(statement: str, module: str) -> tuple[tuple[str, ...], str]:
    """The columns that a table of full-text search searches, and the table that has its texts, by its CREATE statement.

    Empty where the statement does not say.
    """
    columns, left_out, texts_in = list[str](), set[str](), ""
    for argument in _divided(statement):
        first = argument[0]
        if len(argument) > 1 and argument[1].text in ("=", "=="):
            value = argument[2].value if len(argument) > 2 else ""
            if first.value.lower() == "content":
                texts_in = value
            elif first.value.lower() == "notindexed":
                left_out.add(folded(value))
        elif module != "fts5" and first.is_word("TOKENIZE"):
            continue
        elif not any(token.is_word("UNINDEXED") for token in argument[1:]):
            columns.append(first.value)
    if not columns and not texts_in and module != "fts5":
        columns = ["content"]
    return tuple(name for name in columns if folded(name) not in left_out), texts_in


def _divided(statement: str) -> Iterator[list[Token]]:
    """The arguments of a virtual table."""
    depth, argument = 0, list[Token]()
    for token in tokens(statement):
        if token.kind == "sign" and token.text in "()":
            depth += 1 if token.text == "(" else -1
            if (depth, token.text) == (1, "(") or depth == 0:
                continue
        if depth == 1 and token.text == ",":
            if argument:
                yield argument
            argument = []
        elif depth:
            argument.append(token)
    if argument:
        yield argument
