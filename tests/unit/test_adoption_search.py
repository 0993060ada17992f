"""Full-text search of a source, and what may take its place in Postgres."""

from __future__ import annotations

import pytest

from mirror.adoption.search import arguments, find_search
from mirror.core.virtual import VirtualTable
from mirror.postgres.adopted.found import FoundColumn, FoundTable, FoundType

TEXT, VECTOR = (FoundType(oid, name, name, name) for oid, name in ((25, "text"), (3614, "tsvector")))


def table(name: str, *columns: FoundColumn) -> FoundTable:
    return FoundTable("app", name, columns)


NOTES = table("notes", FoundColumn("Title", TEXT), FoundColumn("body", TEXT), FoundColumn("words", VECTOR))
COMPUTED = table("notes", FoundColumn("body", TEXT), FoundColumn("words", VECTOR, generated="s"))
OF_NOTES = "CREATE VIRTUAL TABLE find USING fts5(title, body, content='notes')"
OWN = "CREATE VIRTUAL TABLE find USING fts4(title, body)"


def found(statement: str, *there: FoundTable, holds_data: bool = False) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    module = "fts5" if "fts5" in statement else "fts4"
    virtual = [VirtualTable("find", module, holds_data), VirtualTable("near", "rtree", True)]
    names = ["find", "find_data", "find_segments", "find_out", "notes", "near_node"]
    made = find_search(virtual, {"find": statement}, names, {"notes": "notes"}, {each.name: each for each in there}, {})
    (search,) = made
    assert search.tables == (("find_data",) if module == "fts5" else ("find_segments",))
    assert search.holds_texts is holds_data
    return search.in_postgres, search.computed, search.example


def test_a_column_that_has_to_be_filled() -> None:
    wanted = 'to_tsvector(concat_ws(\' \', "Title", "body"))'
    example = f'UPDATE "app"."notes" SET "words" = {wanted} WHERE "words" IS DISTINCT FROM {wanted}'
    assert found(OF_NOTES, NOTES) == (("notes.words",), (), example)


def test_a_column_that_postgres_computes() -> None:
    assert found(OF_NOTES, COMPUTED) == ((), ("notes.words",), "")


def test_a_table_of_the_same_name() -> None:
    same = table("Find", FoundColumn("id", TEXT), FoundColumn("vector", VECTOR))
    assert found(OWN, same, NOTES, holds_data=True) == (("the table Find", "Find.vector"), (), "")


def test_columns_of_other_tables_where_it_is_not_known_whose_texts_it_has() -> None:
    assert found(OWN, NOTES, holds_data=True) == (("notes.words",), (), "")
    assert found(OWN, table("notes", FoundColumn("body", TEXT)), holds_data=True) == ((), (), "")


@pytest.mark.parametrize(
    ("statement", "module", "columns", "texts_in"),
    [
        ("CREATE VIRTUAL TABLE s USING fts5(a, b UNINDEXED, content='t', content_rowid=\"id\")", "fts5", ["a"], "t"),
        (
            "CREATE VIRTUAL TABLE s USING fts5(a, tokenize = 'unicode61 separators ''.'', prefix='2 3')",
            "fts5",
            ["a"],
            "",
        ),
        ('CREATE VIRTUAL TABLE s USING fts4(a TEXT, [b c], notindexed="b c", tokenize=porter)', "fts4", ["a"], ""),
        ("CREATE VIRTUAL TABLE s USING fts3(a varchar(10), tokenize icu tr_TR)", "fts3", ["a"], ""),
        ('CREATE VIRTUAL TABLE s USING fts4(content="t")', "fts4", [], "t"),
        ("CREATE VIRTUAL TABLE s USING fts4", "fts4", ["content"], ""),
        ("CREATE VIRTUAL TABLE s USING fts5(a, content='')", "fts5", ["a"], ""),
    ],
)
def test_what_is_searched(statement: str, module: str, columns: list[str], texts_in: str) -> None:
    assert arguments(statement, module) == (tuple(columns), texts_in)
