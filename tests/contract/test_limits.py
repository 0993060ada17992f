"""Limits and offsets mean the same everywhere: 0 is none, a negative one is an error, a huge one is all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mirror.core.errors import ConfigError
from mirror.storage.memory import Memory
from tests.contract.kinds import KINDS

VECTOR = [1.0, 0.0, 0.0]
Lister = Callable[[Memory, dict[str, Any]], Any]

LISTS: dict[str, Lister] = {
    "list_resources": lambda memory, limit: memory.list_resources(**limit),
    "list_items": lambda memory, limit: memory.list_items(**limit),
    "list_categories": lambda memory, limit: memory.list_categories(**limit),
    "list_categories by query": lambda memory, limit: memory.list_categories("work", **limit),
    "get_category_items": lambda memory, limit: memory.get_category_items(_one(memory, "category"), **limit),
    "list_entities": lambda memory, limit: memory.list_entities(**limit),
    "get_entity_items": lambda memory, limit: memory.get_entity_items(_one(memory, "entity"), **limit),
    "list_reflections": lambda memory, limit: memory.list_reflections(**limit),
    "get_recent_reflections": lambda memory, limit: memory.get_recent_reflections(**limit),
    "list_lessons": lambda memory, limit: memory.list_lessons(**limit),
    "search_lessons": lambda memory, limit: memory.search_lessons("build", **limit),
    "search_lessons_by_keyword": lambda memory, limit: memory.search_lessons_by_keyword("build", **limit),
    "get_lessons_by_tool": lambda memory, limit: memory.get_lessons_by_tool("make", **limit),
    "get_lessons_by_tag": lambda memory, limit: memory.get_lessons_by_tag("ci", **limit),
    "get_relevant_lessons": lambda memory, limit: memory.get_relevant_lessons(["make"], "build", **limit),
    "list_personal_skill_candidates": lambda memory, limit: memory.list_personal_skill_candidates(**limit),
    "list_personal_skill_review_events": lambda memory, limit: memory.list_personal_skill_review_events("c", **limit),
    "list_live_candidates": lambda memory, limit: memory.list_live_candidates(**limit),
    "list_promotion_events": lambda memory, limit: memory.list_promotion_events("c", **limit),
    "search_by_keyword": lambda memory, limit: memory.search_by_keyword("Ada", **limit),
    "search_items_by_keyword": lambda memory, limit: memory.search_items_by_keyword("Ada", **limit),
    "search_by_vector": lambda memory, limit: memory.search_by_vector(VECTOR, **limit),
    "search_items": lambda memory, limit: memory.search_items("Ada", VECTOR, **limit),
    "search_categories_by_keyword": lambda memory, limit: memory.search_categories_by_keyword("work", **limit),
    "search_categories_by_vector": lambda memory, limit: memory.search_categories_by_vector(VECTOR, **limit),
    "search_entities_by_keyword": lambda memory, limit: memory.search_entities_by_keyword("Ada", **limit),
    "search_entities_by_vector": lambda memory, limit: memory.search_entities_by_vector(VECTOR, **limit),
}


def _one(memory: Memory, name: str) -> str:
    listed: Any = memory.list_categories() if name == "category" else memory.list_entities()
    return str(listed[0].id)


@pytest.fixture
def filled(memory: Memory) -> Memory:
    """Two of each kind."""
    for number in (1, 2):
        for name, kind in KINDS.items():
            named = {"category": "name", "entity": "name", "candidate": "fact_text"}.get(name)
            kind.make(memory, **kind.full | ({named: f"{kind.least[named]} {number}"} if named else {}))
        memory.create_personal_skill_review_event("c", "system", "promoted")
        memory.record_promotion_event("c", "runtime", "promote")
    for item in memory.list_items():
        memory.update_item_embedding(item.id, VECTOR)
        memory.link_item_to_category(item.id, _one(memory, "category"))
        memory.link_item_to_entity(item.id, _one(memory, "entity"))
    for category in memory.list_categories():
        memory.update_category_embedding(category.id, VECTOR)
    for entity in memory.list_entities():
        memory.update_entity_embedding(entity.id, VECTOR)
    return memory


@pytest.mark.few(27)
@pytest.mark.parametrize("name", LISTS)
def test_limits(filled: Memory, name: str) -> None:
    """The original takes a limit of 0 as none in some lists, and a negative one as none on SQLite."""
    everything = LISTS[name](filled, {})
    assert len(everything) == 2
    for limit in (0, 1, 2, 3, 10**6, 2**31, 2**63, 10**30):
        assert LISTS[name](filled, {"limit": limit}) == everything[:limit], limit


@pytest.mark.few(27)
@pytest.mark.parametrize("name", LISTS)
def test_what_is_no_limit(filled: Memory, name: str) -> None:
    for wrong in (-1, -(10**30), 1.5, True, "2"):
        with pytest.raises(ConfigError):
            LISTS[name](filled, {"limit": wrong})


@pytest.mark.parametrize("name", ["list_resources", "list_items", "list_lessons"])
def test_pages(filled: Memory, name: str) -> None:
    everything = LISTS[name](filled, {})
    assert LISTS[name](filled, {"limit": 1, "offset": 1}) == everything[1:]
    assert LISTS[name](filled, {"limit": 5, "offset": 0}) == everything
    assert LISTS[name](filled, {"offset": 2}) == []
    assert LISTS[name](filled, {"offset": 2**63}) == []
    with pytest.raises(ConfigError):
        LISTS[name](filled, {"offset": -1})
