"""Entities: what every store answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mirror.core.errors import ConfigError, ConstraintError
from mirror.storage.memory import Memory
from mirror.storage.models.memory import Entity
from tests.support.storage import Stores


def read(memory: Memory, entity: Entity) -> Entity:
    found = memory.get_entity(entity.id)
    assert found is not None
    return found


def test_a_taken_name(memory: Memory) -> None:
    memory.create_entity("Ada")
    with pytest.raises(ConstraintError):
        memory.create_entity("Ada")


@pytest.mark.parametrize("name", ["", "  ", None, 5])
def test_an_entity_needs_a_name(memory: Memory, name: str) -> None:
    for make in (memory.create_entity, memory.get_or_create_entity):
        with pytest.raises(ConfigError):
            make(name)
    assert memory.list_entities() == []


@pytest.mark.parametrize("asked", ["Ada", "ada", "ADA", "aDa"])
def test_names_are_found_without_regard_to_case(memory: Memory, asked: str) -> None:
    made = memory.create_entity("Ada")
    assert memory.find_entity_by_name(asked) == made and memory.get_or_create_entity(asked) == made


@pytest.mark.parametrize("asked", ["Ad", "Ada ", "A%", "A_a", "Ádа", ""])
def test_other_names_are_not(memory: Memory, asked: str) -> None:
    memory.create_entity("Ada")
    assert memory.find_entity_by_name(asked) is None


def test_of_two_that_differ_by_case_the_exact_one_is_found(memory: Memory) -> None:
    """The original gives any of them."""
    first, second = memory.create_entity("Ada"), memory.create_entity("ADA")
    assert memory.find_entity_by_name("ADA") == second and memory.find_entity_by_name("Ada") == first
    assert memory.find_entity_by_name("ada") == first


def test_get_or_create(memory: Memory) -> None:
    made = memory.get_or_create_entity("Ada", entity_type="pet", relationship="cat", bond_strength=0.9)
    assert memory.get_or_create_entity("ada", entity_type="person") == made
    assert (made.entity_type, made.relationship, made.bond_strength) == ("pet", "cat", 0.9)
    with pytest.raises(ConfigError):
        memory.get_or_create_entity("Ada", agent_id="somebody else")


def test_get_or_create_makes_one_however_many_ask(memory: Memory) -> None:
    names = [f"entity {number % 5}" for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(memory.get_or_create_entity, names))
    assert len({entity.id for entity in found}) == 5 == len(memory.list_entities())


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"relationship": "friend"}, {"bond_strength": 0.5}),
        ({"bond_strength": 0.25}, {"relationship": None}),
        ({"emotional_texture": "warm", "profile_summary": "She writes"}, {"entity_type": "person"}),
        ({"entity_type": "organization"}, {"name": "Ada"}),
        ({"relationship": None}, {"name": "Ada"}),
    ],
)
def test_changes(stores: Stores, memory: Memory, fields: dict[str, Any], kept: dict[str, Any]) -> None:
    made = memory.create_entity("Ada")
    stores.clock.forward(seconds=5)
    changed = memory.update_entity(made.id, fields)
    assert changed is not None and changed == read(memory, made) and changed.updated_at > made.updated_at
    for name, value in (fields | kept).items():
        assert getattr(changed, name) == value


@pytest.mark.parametrize("fields", [{"nam": "x"}, {"name": "x"}, {"id": "x"}, {"memory_count": 9}, {"bondStrength": 1}])
def test_what_cannot_be_changed_is_refused(memory: Memory, fields: dict[str, Any]) -> None:
    """The original ignores names that it does not know."""
    made = memory.create_entity("Ada")
    with pytest.raises(ConfigError):
        memory.update_entity(made.id, {"relationship": "friend"} | fields)
    assert read(memory, made) == made


@pytest.mark.parametrize("fields", [{"bond_strength": None}, {"entity_type": None}, {"bond_strength": "strong"}])
def test_values_that_do_not_fit(memory: Memory, fields: dict[str, Any]) -> None:
    made = memory.create_entity("Ada")
    with pytest.raises(ConfigError):
        memory.update_entity(made.id, fields)
    assert read(memory, made) == made


def test_no_changes(memory: Memory) -> None:
    made = memory.create_entity("Ada")
    assert memory.update_entity(made.id, {}) == made
    assert memory.update_entity("no such id", {"relationship": "x"}) is None
    assert memory.update_entity("no such id", {}) is None


def test_the_list(memory: Memory) -> None:
    weak, strong = memory.create_entity("weak", bond_strength=0.1), memory.create_entity("strong", bond_strength=0.9)
    pet = memory.create_entity("pet", entity_type="pet", bond_strength=0.5)
    assert memory.list_entities() == [strong, pet, weak]
    assert memory.list_entities("pet") == [pet] and memory.list_entities(entity_type="place") == []
    assert memory.list_entities(min_bond_strength=0.5) == [strong, pet]
    assert memory.list_entities(min_bond_strength=0) == [strong, pet, weak]
    assert memory.list_entities("person", 0.5, 1) == [strong]


def test_of_equal_bonds_the_one_with_most_memories_is_first(memory: Memory) -> None:
    one, other = memory.create_entity("one"), memory.create_entity("other")
    memory.link_item_to_entity(memory.create_item("event", "x").id, other.id)
    assert [entity.id for entity in memory.list_entities()] == [other.id, one.id]


def test_links(stores: Stores, memory: Memory) -> None:
    item, made = memory.create_item("event", "Met Ada"), memory.create_entity("Ada")
    stores.clock.forward(seconds=5)
    assert memory.link_item_to_entity(item.id, made.id, "subject") is True
    linked = read(memory, made)
    assert linked.memory_count == 1 and (linked.last_mentioned_at or "") > (made.last_mentioned_at or "")
    assert memory.get_entity_items(made.id) == [item] and memory.get_item_entities(item.id) == [linked]
    assert memory.link_item_to_entity(item.id, made.id, "mentioned") is False
    assert read(memory, made).memory_count == 1
    assert stores.sql("SELECT role FROM item_entities") == [("subject",)]
    assert memory.unlink_item_from_entity(item.id, made.id) is True
    assert read(memory, made).memory_count == 0 and memory.get_entity_items(made.id) == []
    before = read(memory, made)
    assert memory.unlink_item_from_entity(item.id, made.id) is False and read(memory, made) == before


def test_links_to_what_is_not_there_change_nothing(memory: Memory) -> None:
    item, made = memory.create_item("event", "Met Ada"), memory.create_entity("Ada")
    for item_id, entity_id in (("no such id", made.id), (item.id, "no such id")):
        with pytest.raises(ConstraintError):
            memory.link_item_to_entity(item_id, entity_id)
    assert read(memory, made) == made


@pytest.mark.parametrize("how", ["delete_item", "delete_items", "delete_expired_items"])
def test_the_number_of_memories_follows_deleted_items(stores: Stores, memory: Memory, how: str) -> None:
    """The original leaves it as it was."""
    made, other = memory.create_entity("Ada"), memory.create_entity("Bob")
    kept, gone = memory.create_item("event", "kept"), memory.create_item("event", "gone", ttl=60)
    for item in (kept, gone):
        memory.link_item_to_entity(item.id, made.id)
    memory.link_item_to_entity(kept.id, other.id)
    assert read(memory, made).memory_count == 2
    if how == "delete_item":
        assert memory.delete_item(gone.id) is True
    elif how == "delete_items":
        assert memory.delete_items([gone.id, "no such id", gone.id]) == 1
    else:
        stores.clock.forward(seconds=61)
        assert memory.delete_expired_items() == 1
    assert read(memory, made).memory_count == 1 and read(memory, other).memory_count == 1
    assert memory.get_entity_items(made.id) == [kept]


def test_many_links_at_a_time_are_all_counted(memory: Memory) -> None:
    made = memory.create_entity("Ada")
    items = [memory.create_item("event", f"item {number}").id for number in range(24)]
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda item: memory.link_item_to_entity(item, made.id), items))
    assert read(memory, made).memory_count == 24


def test_a_deleted_entity_leaves_its_items(memory: Memory) -> None:
    item, made = memory.create_item("event", "Met Ada"), memory.create_entity("Ada")
    memory.link_item_to_entity(item.id, made.id)
    assert memory.delete_entity(made.id)
    assert memory.get_item(item.id) == item and memory.get_item_entities(item.id) == []
    assert memory.find_entity_by_name("Ada") is None


def test_items_of_an_entity_newest_first(memory: Memory) -> None:
    made = memory.create_entity("Ada")
    items = [memory.create_item("event", f"item {number}") for number in range(3)]
    for item in items:
        memory.link_item_to_entity(item.id, made.id)
    assert memory.get_entity_items(made.id) == items[::-1] and memory.get_entity_items(made.id, 1) == [items[2]]


def test_entities_of_an_item_by_bond(stores: Stores, memory: Memory) -> None:
    item = memory.create_item("event", "Met them", ttl=60)
    for name, bond in (("weak", 0.1), ("strong", 0.9), ("middle", 0.5)):
        memory.link_item_to_entity(item.id, memory.create_entity(name, bond_strength=bond).id)
    assert [entity.name for entity in memory.get_item_entities(item.id)] == ["strong", "middle", "weak"]
    stores.clock.forward(seconds=61)
    assert memory.get_item_entities(item.id) == []


def test_bonds(memory: Memory) -> None:
    items = [memory.create_item("event", f"item {number}").id for number in range(3)]
    weak, strong = memory.create_entity("weak", bond_strength=0.25), memory.create_entity("strong", bond_strength=0.75)
    memory.link_item_to_entity(items[0], strong.id)
    memory.link_item_to_entity(items[0], weak.id)
    memory.link_item_to_entity(items[1], weak.id)
    assert memory.get_item_entity_bond_map(items) == {items[0]: (0.25, 0.75), items[1]: (0.25,)}
    assert memory.get_item_entity_bond_map([items[2], "no such id"]) == {}
    assert memory.get_item_entity_bond_map([]) == {}


@pytest.mark.parametrize("many", [499, 501, 40_000])
def test_of_many_ids(memory: Memory, many: int) -> None:
    """SQLite and Postgres limit the parameters of a statement."""
    item, made = memory.create_item("event", "Met Ada"), memory.create_entity("Ada")
    memory.link_item_to_entity(item.id, made.id)
    ids = [*(f"no such id {number}" for number in range(many)), item.id]
    assert memory.get_item_entity_bond_map(ids) == {item.id: (0.5,)}
    assert memory.get_items(ids) == [item]
    assert memory.delete_items(ids) == 1


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("Ada", ["Ada Lovelace"]), ("ada love", ["Ada Lovelace"]), ("LOVELACE", ["Ada Lovelace"]),
        ("friend", ["Ada Lovelace", "Bob"]), ("writes", ["Bob"]), ("Zürich", ["Zürich"]), ("100%", ["Bob"]),
        ("%", ["Bob"]), ("_", []), ("A%a", []), ("'", []), ("\\", []), ("", []), ("  ", []), ("漢字", ["Zürich"]),
        ('"Ada"', []), ("Ada OR Bob", []),
    ],
)  # fmt: skip
def test_search_by_words(memory: Memory, query: str, found: list[str]) -> None:
    """The original takes % and _ in a query as wildcards, and no query as all."""
    memory.create_entity("Ada Lovelace", relationship="friend", bond_strength=0.9)
    bob = memory.create_entity("Bob", relationship="a Friend", bond_strength=0.4)
    memory.create_entity("Zürich", "place", "漢字", 0.2)
    memory.update_entity(bob.id, {"profile_summary": "He writes 100% of it"})
    assert [entity.name for entity in memory.search_entities_by_keyword(query)] == found


def test_search_by_embeddings(memory: Memory) -> None:
    near, far = memory.create_entity("near"), memory.create_entity("far")
    memory.create_entity("without")
    assert memory.update_entity_embedding(near.id, [0, 2, 0]) and memory.update_entity_embedding(far.id, [1, 1, 0])
    found = memory.search_entities_by_vector([0, 1, 0])
    assert [result.entity.name for result in found] == ["near", "far"]
    assert [result.score for result in found] == pytest.approx([1, 0.5**0.5])
    assert memory.update_entity_embedding("no such id", [1, 0, 0]) is False
    memory.delete_entity(near.id)
    assert [result.entity.name for result in memory.search_entities_by_vector([0, 1, 0])] == ["far"]
