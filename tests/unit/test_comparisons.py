"""What counts as a difference between two stores' answers, and what is kept of it."""

from __future__ import annotations

import importlib
import json
import pkgutil
import random
from collections.abc import Iterator
from typing import Any

import pytest

from mirror.core.errors import ConfigError, SinkError
from mirror.storage import operations
from mirror.storage.comparisons import (
    COMPARISONS,
    DEPTH,
    EQUALITY,
    SEARCH,
    Difference,
    Ignore,
    Outcome,
    Ranked,
    comparison_of,
    difference,
    method_of,
    recording,
)
from mirror.storage.evidence import MOST_JSON, arguments_of, as_text, clean, texts_apart
from mirror.storage.models.memory import ITEMS, CategoryItem, MemoryItem
from mirror.storage.operations import items
from mirror.storage.operations.base import Context, Operation
from mirror.storage.statements import Count, Counts, Near, Select, Together, Words
from mirror.storage.tables import Embedding

METHOD = "items.list_items"


def item(key: str, **values: Any) -> MemoryItem:
    given = {
        "resource_id": None, "memory_type": "fact", "summary": f"summary of {key}", "embedding": None,
        "happened_at": None, "content_hash": None, "reinforcement_count": 1, "last_reinforced_at": None, "extra": {},
        "created_at": "2026-11-23T00:05:04.442Z", "updated_at": "2026-11-23T00:05:04.442Z", "emotional_valence": 0.0,
        "emotional_arousal": 0.0, "mood_at_capture": None, "significance": "routine", "reflection": None,
        "lesson": None,
    }  # fmt: skip
    return MemoryItem(id=key, **(given | values))


def judged(one: Any, other: Any, method: str = METHOD) -> Difference | Ignore | None:
    return difference(method, Outcome(one), Outcome(other))


def kind(one: Any, other: Any) -> str:
    found = judged(one, other)
    assert isinstance(found, Difference), found
    return found.kind


def test_equal_answers() -> None:
    for value in (None, 7, "text", [], [item("1"), item("2")], item("1"), {"a": 1}, item("1", extra={"a": [1, 2.0]})):
        assert judged(value, value) is None
    vector = Embedding([0.5, 0.25])
    assert judged([item("1", embedding=vector)], [item("1", embedding=Embedding([0.5, 0.25]))]) is None


def test_kinds_of_differences() -> None:
    assert kind(item("1"), None) == kind(None, item("1")) == "rows"
    assert kind([item("1"), item("2")], [item("1")]) == "rows"
    assert kind([item("1")], [item("1"), item("1")]) == "rows"
    assert kind([item("1"), item("2")], [item("2"), item("1")]) == "order"
    assert kind([item("1", summary="a")], [item("1", summary="b")]) == "values"
    assert kind(3, 4) == kind({"a": 1}, {"a": 2}) == kind([1, 2], [2, 1]) == "values"
    links = [CategoryItem("1", "a"), CategoryItem("1", "b")]
    assert kind(links, links[:1]) == "rows" and kind(links, links[::-1]) == "order"


def test_only_what_differs_is_kept() -> None:
    found = judged([item("1"), item("2", extra={"a": 1, "b": 2})], [item("1"), item("2", extra={"a": 1, "b": 3})])
    assert found == Difference("values", [{"id": "2", "extra": {"b": 2}}], [{"id": "2", "extra": {"b": 3}}])
    found = judged(item("1", summary="x" * 500 + "one"), item("1", summary="x" * 500 + "two"))
    assert isinstance(found, Difference)
    assert found.sqlite["summary"].endswith("xone") and found.postgres["summary"].endswith("xtwo")
    assert found.sqlite["summary"].startswith("…x") and len(found.sqlite["summary"]) < 60
    found = judged({"a": 1}, {"a": 1, "b": 2})
    assert isinstance(found, Difference) and (found.sqlite, found.postgres) == ({}, {"b": 2})


def test_errors() -> None:
    refused, failed = ConfigError("read", detail="no such column"), SinkError("read", detail="syntax", sqlstate="42601")
    assert difference(METHOD, Outcome(error=refused), Outcome(error=failed)) is None
    for one, other in ((Outcome(error=refused), Outcome([])), (Outcome([]), Outcome(error=failed))):
        found = difference(METHOD, one, other)
        assert isinstance(found, Difference) and found.kind == "error"
    found = difference("search.search_by_keyword", Outcome([]), Outcome(error=failed))
    assert isinstance(found, Difference) and found.postgres.startswith("SinkError (postgres): read: syntax")


def test_a_field_that_tells_of_the_store_is_left_out() -> None:
    one, other = {"items": 1, "vec_available": True}, {"items": 1, "vec_available": False}
    assert judged(one, other, "stats.get_stats") is None
    assert isinstance(judged(one, other | {"items": 2}, "stats.get_stats"), Difference)


# -- searches ------------------------------------------------------------------------------------------


def by_words(text: str, *found: tuple[str, float], **values: Any) -> Outcome:
    return Outcome(ranked=[Ranked(Words(ITEMS, text, 10), [(item(key, **values), rank) for key, rank in found])])


def by_vector(*found: tuple[str, float], limit: int = 10) -> Outcome:
    statement = Near(ITEMS, Embedding([1, 0]), limit)
    return Outcome(ranked=[Ranked(statement, [(item(key), similarity) for key, similarity in found])])


def ranked(number: int, first: int = 0) -> list[tuple[str, float]]:
    return [(f"{first + at}", 1.0 - at / 1000) for at in range(number)]


def search_kind(one: Outcome, other: Outcome) -> str | None:
    found = difference("search.search_by_keyword", one, other)
    assert not isinstance(found, Ignore)
    return None if found is None else found.kind


def test_other_ranks_and_another_order_are_no_difference() -> None:
    found = ranked(30)
    shuffled = [(key, 1 - at) for at, (key, _) in enumerate(random.Random(1).sample(found, len(found)))]
    assert search_kind(by_words("tea", *found), by_words("tea", *found)) is None
    assert search_kind(by_words("tea", *found), by_words("tea", *shuffled)) is None
    tied = [(key, 0.5) for key, _ in reversed(found)]
    assert search_kind(by_words("tea", *found), by_words("tea", *tied)) is None


def test_the_wrong_way_round_is_a_difference() -> None:
    found = ranked(30)
    backwards = [(key, 1 - at) for at, (key, _) in enumerate(reversed(found))]
    assert search_kind(by_words("tea", *found), by_words("tea", *backwards)) == "order"
    assert search_kind(by_words("tea", *found), by_words("tea", *reversed(found))) == "order", "worst first"
    assert search_kind(by_words("tea", *found[:3]), by_words("tea", *backwards[-3:])) is None, "three say nothing"
    groups = [(str(at), 1.0 if at < 10 else 0.5) for at in range(20)]
    turned = [(str(at), 0.7) for at in range(10, 20)] + [(str(at), 0.1) for at in range(10)]
    assert search_kind(by_words("teas", *groups), by_words("teas", *turned)) is None, "nor do two ranks"


def test_overlap_of_words() -> None:
    found = ranked(20)
    more = ranked(60)
    assert search_kind(by_words("teas", *found), by_words("teas", *more)) is None, "Postgres knows other forms"
    assert search_kind(by_words("tea", *found), by_words("tea", *ranked(20, 6))) is None
    assert search_kind(by_words("tea", *found), by_words("tea", *ranked(20, 7))) == "overlap"
    assert search_kind(by_words("tea", *found), by_words("tea")) == "overlap"
    assert search_kind(by_words("teas"), by_words("teas", ("1", 0.5))) is None
    assert search_kind(by_words("tea", *found), by_words("tea", *found[:14])) is None
    assert search_kind(by_words("tea", *found), by_words("tea", *found[:13])) == "overlap", "a third is missing"
    assert search_kind(by_words("the tea", *found), by_words("the tea", *found[:3])) is None, "the others have 'the'"
    assert search_kind(by_words("tea", *ranked(DEPTH)), by_words("tea")) == "overlap"
    full, other = ranked(DEPTH), ranked(DEPTH, DEPTH)
    assert search_kind(by_words("tea", *full), by_words("tea", *other)) is None, "of more matches nothing is known"


def test_rows_that_both_found_are_equal() -> None:
    assert search_kind(by_words("tea", ("1", 1)), by_words("tea", ("1", 0.2), summary="other")) == "values"


def test_frequent_words_are_left_out_only_beside_others() -> None:
    assert search_kind(by_words("The and", *ranked(9)), by_words("The and")) == "overlap"
    assert search_kind(by_words("The and", *ranked(20)), by_words("The and", *ranked(3))) == "overlap"
    assert search_kind(by_words("the tea", *ranked(9)), by_words("the tea")) == "overlap"


def test_embeddings() -> None:
    found = ranked(10)
    near = [(key, similarity + 1e-5) for key, similarity in found]
    assert search_kind(by_vector(*found), by_vector(*near)) is None
    far = [(key, similarity - 0.01) for key, similarity in found]
    assert search_kind(by_vector(*found), by_vector(*far)) == "values"
    assert search_kind(by_vector(*found), by_vector(*ranked(9, 0), ("x", 0.2))) is None, "one of ten was not found"
    assert search_kind(by_vector(*found), by_vector(*ranked(7))) == "overlap"
    ties = [(f"tie {at}", found[-1][1]) for at in range(5)]
    assert (
        search_kind(by_vector(*found[:5], *ties), by_vector(*found[:5], *[(f"x {key}", n) for key, n in ties])) is None
    )


def test_searches_are_recorded_and_asked_for_more() -> None:
    def search(ctx: Context, query: str) -> Iterator[Any]:
        found = yield Words(ITEMS, query, 2)
        rows = yield Select(ITEMS)
        return [row.id for row, _ in found], len(rows)

    outcome = Outcome()
    operation = Operation(search, "memory", reads=True, many=True)  # type: ignore[arg-type]
    op = recording(operation, outcome).make(Context("argent"), "tea")
    asked = op.send(None)
    assert isinstance(asked, Words) and asked.limit == DEPTH
    assert isinstance(op.send([(item(str(at)), 1.0) for at in range(5)]), Select)
    with pytest.raises(StopIteration) as stop:
        op.send([item("9")])
    assert stop.value.value == (["0", "1"], 1), "the operation sees what it asked for"
    assert [len(one.found) for one in outcome.ranked] == [5] and outcome.statements == 2
    assert recording(operation, outcome).name == operation.name == "search"


def test_searches_together_are_searches() -> None:
    def operation(ctx: Context) -> Iterator[Any]:
        first = yield Together((Words(ITEMS, "tea", 1), Select(ITEMS), Near(ITEMS, Embedding([1]), 5)))
        second = yield Counts((("items", Count(ITEMS)),))
        return first, second, (yield Count(ITEMS))

    outcome = Outcome()
    op = recording(Operation(operation, "memory", reads=True, many=True), outcome).make(Context("argent"))  # type: ignore[arg-type]
    asked: Any = op.send(None)
    assert [getattr(part, "limit", None) for part in asked.parts] == [DEPTH, None, 5]
    op.send([[(item("1"), 1.0), (item("2"), 0.5)], [item("2")], [(item("3"), 0.5)]])
    op.send({"items": 3})
    with pytest.raises(StopIteration) as stop:
        op.send(7)
    assert stop.value.value == ([[(item("1"), 1.0)], [item("2")], [(item("3"), 0.5)]], {"items": 3}, 7)
    assert [[row.id for row, _ in one.found] for one in outcome.ranked] == [["1", "2"], ["3"]]


def test_what_fails_in_recording_is_no_answer() -> None:
    """Else a defect of ours, on both sides, would be taken for two equal errors."""

    def operation(ctx: Context) -> Iterator[Any]:
        return (yield Words(ITEMS, "tea", 5))

    outcome = Outcome()
    op = recording(Operation(operation, "memory", reads=True, many=False), outcome).make(Context("argent"))  # type: ignore[arg-type]
    op.send(None)
    with pytest.raises(TypeError):
        op.send(7)
    assert isinstance(outcome.defect, TypeError)


def test_the_table_names_methods_that_exist() -> None:
    there: dict[str, Operation[..., Any]] = {}
    modules = {found.name for found in pkgutil.iter_modules(operations.__path__)}
    for name in modules:
        module = importlib.import_module(f"{operations.__name__}.{name}")
        there |= {method_of(one): one for one in vars(module).values() if isinstance(one, Operation)}
    assert {"items.get_item", "items.list_items"} <= set(there)
    missing = {name for name in COMPARISONS if name.partition(".")[0] in modules} - set(there)
    assert not missing
    assert all(there[name].reads for name in COMPARISONS if name in there)


def test_comparison_by_default() -> None:
    assert comparison_of(METHOD, Outcome([]), Outcome([])) is EQUALITY
    assert comparison_of("tasks.search", by_words("tea"), Outcome([])) is SEARCH


# -- evidence ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret",
    [
        "enc:v1:c2VjcmV0:abcdef", "sk-proj-abcdefghijklmnop", "ghp_0123456789abcdef0123", "Bearer abc.def",
        "postgresql://ada:hunter2@host/db", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.c2ln", "password: hunter2",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----", "AKIAIOSFODNN7EXAMPLE",
    ],
)  # fmt: skip
def test_no_secrets(secret: str) -> None:
    hidden = secret.removeprefix("postgresql://").removesuffix("@host/db").removeprefix("password: ")
    assert hidden not in json.dumps(clean(item("1", summary=f"it is {secret} now")))
    assert hidden not in "".join(texts_apart(f"a {secret}", f"b {secret} c"))
    assert hidden not in arguments_of(items.get_item, (secret,), {})


def test_members_named_as_secrets_are_left_out() -> None:
    cleaned = clean({"apiKey": "hunter2", "accessToken": "hunter2", "user_password": 3, "input_tokens": 7})
    assert "hunter2" not in json.dumps(cleaned) and cleaned["input_tokens"] == 7
    assert cleaned["user_password"] != 3


def test_evidence_is_bounded_and_without_embeddings() -> None:
    big = [item(str(at), summary="ä" * 100_000, embedding=Embedding([0.123456789] * 1536)) for at in range(500)]
    text = as_text(clean(big))
    assert len(text) <= MOST_JSON and "0.1234" not in text
    nested: Any = {}
    for _ in range(100):
        nested = {"in": [nested]}
    assert len(as_text(clean(nested))) < 200
    assert len(arguments_of(items.list_items, (), {"where": {"summary": {"in": ["x" * 5000] * 5000}}})) <= 200
    assert "0.5" not in json.dumps(clean([0.5] * 1536)) and "0.5" not in json.dumps(clean(Embedding([0.5] * 3)))
    assert as_text(clean("\0 and \ud800")).isprintable(), "Postgres can hold it"


def test_equal_arguments_have_equal_digests() -> None:
    by_place = arguments_of(items.list_items, ("fact",), {"limit": 3})
    assert by_place == arguments_of(items.list_items, (), {"limit": 3, "memory_type": "fact"})
    assert by_place != arguments_of(items.list_items, ("fact",), {"limit": 4})
    long = "x" * 1000
    assert arguments_of(items.get_item, (f"{long}1",), {}) != arguments_of(items.get_item, (f"{long}2",), {})
    vectors = [Embedding([1, 2]), Embedding([1, 3])]
    digests = {arguments_of(items.update_item_embedding, ("1", one), {}) for one in vectors}
    assert len(digests) == 2
    assert arguments_of(items.get_item, ("1", 2, 3), {}), "also if they do not fit"
