"""Filters of memory items (``where``): what every store finds."""

from __future__ import annotations

from typing import Any

import pytest

from mirror.core.errors import ConfigError
from mirror.storage.memory import Memory
from tests.support.storage import Stores

CASES: list[tuple[dict[str, Any], str]] = [
    ({}, "abc"),
    ({"significance": "core"}, "a"),
    ({"significance": {"ne": "core"}}, "bc"),
    ({"mood_at_capture": "calm"}, "a"),
    ({"mood_at_capture": {"ne": "calm"}}, "bc"),
    ({"mood_at_capture": None}, "c"),
    ({"mood_at_capture": {"ne": None}}, "ab"),
    ({"mood_at_capture": {"in": ["calm", "glad"]}}, "ab"),
    ({"mood_at_capture": {"in": ["calm", None]}}, "ac"),
    ({"mood_at_capture": {"in": []}}, ""),
    ({"not": {"mood_at_capture": "calm"}}, "bc"),
    ({"not": {"mood_at_capture": {"gt": "a"}}}, "c"),
    ({"emotional_valence": {"gt": 0}}, "b"),
    ({"emotional_valence": {"gte": 0}}, "bc"),
    ({"emotional_valence": {"lt": 0}}, "a"),
    ({"emotional_valence": {"gte": -1.5, "lt": 0.5}}, "ac"),
    ({"emotional_valence": -1.5}, "a"),
    ({"reinforcement_count": {"lte": 1}}, "abc"),
    ({"summary": {"contains": "dragon"}}, "ab"),
    ({"summary": {"contains": "DRAGON"}}, "ab"),
    ({"summary": {"contains": "%"}}, "c"),
    ({"summary": {"contains": "_"}}, ""),
    ({"summary": {"contains": "'"}}, "b"),
    ({"summary": {"gt": "b"}}, "bc"),
    ({"extra.topic": "people"}, "a"),
    ({"extra.topic": {"ne": "people"}}, "bc"),
    ({"extra.topic": {"in": ["people", "places"]}}, "ab"),
    ({"extra.topic": {"contains": "PEO"}}, "a"),
    ({"extra.n": 1}, "a"),
    ({"extra.n": 1.0}, "a"),
    ({"extra.n": {"gte": 1}}, "ab"),
    ({"extra.n": {"gt": 1, "lte": 2.5}}, "b"),
    ({"extra.n": {"lt": "z"}}, "c"),
    ({"extra.flag": True}, "b"),
    ({"extra.flag": {"ne": True}}, "ac"),
    ({"extra.tags": {"contains": "x"}}, "a"),
    ({"extra.tags": {"contains": "y z"}}, "a"),
    ({"extra.a b\"c": 1}, "c"),
    ({"extra.nothing": {"ne": 5}}, "abc"),
    ({"or": [{"significance": "core"}, {"emotional_valence": {"gt": 0}}]}, "ab"),
    ({"and": [{"significance": "core"}, {"emotional_valence": {"gt": 0}}]}, ""),
    ({"or": []}, ""),
    ({"and": []}, "abc"),
    ({"not": {"or": [{"extra.n": 1}, {"extra.topic": "places"}]}}, "c"),
    ({"not": {"not": {"significance": "core"}}}, "a"),
    ({"significance": "core", "extra.topic": "people"}, "a"),
    ({"happened_at": {"gt": "2026-11-01T00:00:00.000Z"}}, "b"),
    ({"happened_at": {"lte": "2026-11-01 00:00:00"}}, "a"),
    ({"happened_at": "2026-11-01T00:00:00.000Z"}, "a"),
    ({"happened_at": "2026-11-01 00:00:00"}, "a"),
    ({"happened_at": None}, "c"),
    ({"created_at": {"gt": "2020-01-01 00:00:00"}}, "abc"),
]  # fmt: skip


@pytest.fixture
def filled(memory: Memory) -> Memory:
    memory.create_item(
        "event", "a dragon", happened_at="2026-11-01T00:00:00.000Z", significance="core", mood_at_capture="calm",
        emotional_valence=-1.5, extra={"topic": "people", "n": 1, "tags": ["x", "y z"]},
    )  # fmt: skip
    memory.create_item(
        "event", "b's Dragon", happened_at="2026-11-01 00:00:01", mood_at_capture="glad", emotional_valence=0.5,
        extra={"topic": "places", "n": 2.5, "flag": True},
    )  # fmt: skip
    memory.create_item("profile", "c 100%", extra={"n": "one", 'a b"c': 1})
    return memory


def test_filters(filled: Memory) -> None:
    for where, found in CASES:
        listed = filled.list_items(where=where)
        assert "".join(sorted(item.summary[0] for item in listed)) == found, where
        assert filled.count_items(where=where) == len(found), where


@pytest.mark.parametrize(
    "where",
    [
        {"nothing": 1}, {"extra": 1}, {"extra.": 1}, {"summary.x": 1}, {"embedding": None}, {"significance": 5},
        {"emotional_valence": "x"}, {"summary": {"like": "x"}}, {"summary": {"gt": None}}, {"summary": {"in": "core"}},
        {"emotional_valence": {"contains": "1"}}, {"or": {"significance": "core"}}, {"and": "x"}, {"not": []}, [], "x",
        {"reinforcement_count": True},
    ],
)  # fmt: skip
def test_what_is_no_filter(filled: Memory, where: Any) -> None:
    with pytest.raises(ConfigError):
        filled.list_items(where=where)
    with pytest.raises(ConfigError):
        filled.count_items(where=where)


def test_with_other_conditions(filled: Memory) -> None:
    assert len(filled.list_items("event", where={"extra.n": {"gte": 1}})) == 2
    assert filled.list_items("profile", where={"extra.n": {"gte": 1}}) == []
    assert filled.count_items("event", {"significance": "core"}) == 1


def test_a_list_of_many_values(filled: Memory) -> None:
    moods = [f"mood {number}" for number in range(5000)]
    assert len(filled.list_items(where={"mood_at_capture": {"in": [*moods, "calm"]}})) == 1
    assert len(filled.list_items(where={"extra.n": {"in": [*range(1, 3000)]}})) == 1


def test_filters_hide_what_is_expired(stores: Stores, filled: Memory) -> None:
    filled.create_item("event", "d", significance="core", ttl=60)
    assert filled.count_items(where={"significance": "core"}) == 2
    stores.clock.forward(seconds=61)
    assert filled.count_items(where={"significance": "core"}) == filled.count_items(where={"or": [{"extra.n": 1}]}) == 1
