"""What only the storage adapter on SQLite has: files without full-text tables, values of any type in any column."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror.core.errors import ConfigError
from mirror.storage.memory import AsyncMemory, Memory
from mirror.storage.models.memory import MemoryItem
from mirror.storage.operations.search import Scoring
from tests.support.storage import Stores, on_sqlite

SCORINGS: tuple[Scoring, ...] = ("similarity", "salience", "identity")
METHODS = [name for name in vars(Memory) if not name.startswith("_")]


@pytest.fixture
def stores(folder: Path) -> Iterator[Stores]:
    yield from on_sqlite(folder)


@pytest.fixture
def bare(stores: Stores) -> Memory:
    """Without full-text tables, as a file of a SQLite without FTS5."""
    for trigger in ("items", "cats", "lessons"):
        for event in ("ai", "ad", "au"):
            stores.sql(f"DROP TRIGGER memu_{trigger}_{event}")
    for table in ("memory_items_fts", "memory_categories_fts", "lessons_fts"):
        stores.sql(f"DROP TABLE {table}")
    return stores.memory


def test_without_full_text_tables_words_are_found_as_parts(bare: Memory) -> None:
    item = bare.create_item("event", "Dragons everywhere", lesson="feed the dragon")
    other = bare.create_item("event", "a dragon and a unicorn")
    category = bare.create_category("Dragons")
    bare.link_item_to_category(item.id, category.id)
    found = bare.search_by_keyword("unicorn dragon")
    assert [(result.item, result.categories) for result in found] == [(other, ()), (item, ("Dragons",))]
    assert bare.search_by_keyword("%") == [] and bare.search_by_keyword("_") == []
    assert bare.search_categories_by_keyword("dragon") == [category]
    assert [result.item for result in bare.search_by_keyword("dragon", where={"lesson": {"ne": None}})] == [item]
    lesson = bare.create_lesson("mistake", "c", "a", "o", "l", tags=["dragon"])
    assert bare.search_lessons("dragon") == [lesson]


#: Columns of memory items, and what another program can leave there.
_LEFT = [
    *[("extra", value) for value in ("'[1,2]'", "'{bad'", "'\"s\"'", "x'7b7d'", "'{\"n\": NaN}'", "'[' || '['")],
    *[("extra", value) for value in ("'{\"t\":\"\\\\ud800\"}'", "5", "''", "printf('%.*c', 5000, '[')")],
    *[("embedding", value) for value in ("x'0102'", "'text'", "'twelve bytes'", "x''", "7")],
    ("embedding", "x'0000c07f0000807f00000000'"),
    *[(name, value) for name in ("reinforcement_count", "emotional_valence", "emotional_arousal")
      for value in ("'abc'", "x'00ff'", "1.5", "9e999")],
    *[(name, value)
      for name in ("created_at", "summary", "significance", "happened_at", "mood_at_capture", "memory_type")
      for value in ("x'ff00'", "''", "'no time'", "'a' || char(0)")],
]  # fmt: skip


@pytest.mark.parametrize(("column", "value"), _LEFT)
def test_a_row_that_does_not_fit_keeps_no_other_from_being_read(stores: Stores, column: str, value: str) -> None:
    """Nor can it not be changed."""
    memory, near = stores.memory, [1.0, 0.5, 0.25]
    ids = [
        memory.create_items([{"memory_type": "event", "summary": f"tea {n}", "embedding": near}])[0].id for n in (0, 1)
    ]
    person = memory.create_entity("Ada", "person")
    topic = memory.create_category("drinks")
    for id_ in ids:
        memory.link_item_to_entity(id_, person.id)
        memory.link_item_to_category(id_, topic.id)
    stores.sql(f"UPDATE memory_items SET {column} = {value} WHERE id = '{ids[0]}'")
    assert {item.id for item in memory.list_items()} == {item.id for item in memory.get_items(ids)} == {*ids}
    for searched in (
        memory.search_by_keyword("tea"),
        memory.search_by_vector(near),
        memory.search_items("tea", near),
        memory.search_items("tea", near, scoring="salience"),
        memory.search_items("tea", near, scoring="identity"),
        memory.get_category_items(topic.id),
        memory.get_entity_items(person.id),
    ):
        found = [one if isinstance(one, MemoryItem) else one.item for one in searched]
        assert ids[1] in {item.id for item in found} <= {*ids}
        assert all(isinstance(item.reinforcement_count, int) and isinstance(item.extra, dict) for item in found)
    memory.get_item_history(ids[0])
    changed = memory.update_item_summary(ids[0], "coffee")
    assert changed is not None and changed.summary == "coffee"
    assert memory.reinforce_item(ids[0]) is not None


@pytest.mark.parametrize(("table", "column"), [("entities", "bond_strength"), ("memory_categories", "name")])
@pytest.mark.parametrize("value", ["x'ff'", "'strong'", "''"])
def test_what_is_joined_and_does_not_fit(stores: Stores, table: str, column: str, value: str) -> None:
    memory = stores.memory
    [item] = memory.create_items([{"memory_type": "event", "summary": "tea", "embedding": [1.0, 0.5]}])
    person, topic = memory.create_entity("Ada", "person"), memory.create_category("drinks")
    memory.link_item_to_entity(item.id, person.id)
    memory.link_item_to_category(item.id, topic.id)
    stores.sql(f"UPDATE {table} SET {column} = {value}")
    for scoring in SCORINGS:
        [found] = memory.search_items("tea", [1.0, 0.5], scoring=scoring)
        assert found.item == item and len(found.categories) == 1
    assert memory.get_item_entity_bond_map([item.id])[item.id] == (person.bond_strength,)
    assert memory.list_entities() and memory.list_categories()


def test_a_parameter_that_sqlite_has_no_type_for(stores: Stores) -> None:
    """No library's own error comes through."""
    for wrong in (object(), 2**70, "half \ud800"):
        id_: Any = wrong
        for call in (stores.memory.get_item, stores.memory.delete_item, stores.memory.get_item_categories):
            with pytest.raises(ConfigError):
                call(id_)
    assert stores.memory.list_items() == []


def test_each_method_has_an_asynchronous_twin_of_the_same_signature() -> None:
    assert [name for name in vars(AsyncMemory) if not name.startswith("_")] == METHODS
    for name in METHODS:
        one, other = getattr(Memory, name), getattr(AsyncMemory, name)
        assert inspect.signature(one) == inspect.signature(other) and one.__doc__ == other.__doc__
        assert inspect.iscoroutinefunction(other) and not inspect.iscoroutinefunction(one)


#: Their names, but for those that are no part of ``adapter.memory`` (knowledge observations), in snake_case.
_THEIRS = """
create_resource get_resource list_resources delete_resource update_resource_embedding create_item get_item list_items
find_item_by_hash delete_item update_item_embedding reinforce_item update_item_summary count_items search_by_vector
search_by_keyword search_by_keyword_shared search_items_by_keyword search_items create_category get_category
get_category_by_name get_or_create_category list_categories get_category_items get_category_item_count
get_item_categories link_item_to_category unlink_item_from_category update_category_name update_category_summary
update_category_embedding delete_category search_categories_by_keyword search_categories_by_vector create_entity
get_entity find_entity_by_name get_or_create_entity list_entities update_entity update_entity_embedding delete_entity
get_entity_items get_item_entities link_item_to_entity unlink_item_from_entity get_item_entity_bond_map
search_entities_by_keyword search_entities_by_vector create_reflection get_reflection list_reflections
get_recent_reflections create_lesson get_lesson list_lessons search_lessons search_lessons_by_keyword
get_lessons_by_tool get_lessons_by_tag get_relevant_lessons count_lessons reinforce_lesson decay_lesson decay_lessons
merge_lesson_occurrences delete_lesson create_personal_skill_candidate get_personal_skill_candidate
list_personal_skill_candidates update_personal_skill_candidate delete_personal_skill_candidate
create_personal_skill_review_event list_personal_skill_review_events create_live_candidate get_live_candidate
list_live_candidates mark_live_candidate_merged mark_live_candidate_promoted mark_live_candidate_discarded
mark_live_candidate_expired record_promotion_event get_live_candidate_stats record_model_feedback
get_latest_model_feedback_id update_model_feedback_self_eval update_model_feedback_user_rating
get_model_performance_stats get_model_performance_by_tier count_model_feedback update_item_significance
update_item_emotion update_item_reflection get_stats
"""


def test_no_method_of_theirs_is_missing() -> None:
    assert set(_THEIRS.split()) <= set(METHODS)
