"""Categories: what every store answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from mirror.core.errors import ConfigError, ConstraintError
from mirror.storage.memory import Memory
from tests.support.storage import Stores


def test_a_taken_name(memory: Memory) -> None:
    """Every store raises the same error; the original lets its driver's through."""
    memory.create_category("work")
    with pytest.raises(ConstraintError):
        memory.create_category("work")
    assert len(memory.list_categories()) == 1


@pytest.mark.parametrize("name", ["", "  ", None, 5])
def test_a_category_needs_a_name(memory: Memory, name: str) -> None:
    for make in (memory.create_category, memory.get_or_create_category):
        with pytest.raises(ConfigError):
            make(name)
    assert memory.list_categories() == []


def test_names_differ_by_case(memory: Memory) -> None:
    upper, lower = memory.create_category("Work"), memory.create_category("work")
    assert memory.get_category_by_name("Work") == upper and memory.get_category_by_name("work") == lower
    assert memory.get_category_by_name("WORK") is None


def test_get_or_create(memory: Memory) -> None:
    made = memory.get_or_create_category("work", "what is paid")
    assert memory.get_or_create_category("work", "something else") == made
    assert memory.get_category(made.id) == made and made.description == "what is paid"


def test_get_or_create_makes_one_however_many_ask(memory: Memory) -> None:
    """The original looks first and creates then, so that two that ask at a time get an error, or two of them."""
    names = [f"category {number % 5}" for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(memory.get_or_create_category, names))
    assert len({category.id for category in found}) == 5 == len(memory.list_categories())
    assert all(category.name == name for category, name in zip(found, names, strict=True))


def test_the_list_is_by_name_in_the_order_of_code_points(memory: Memory) -> None:
    names = ["b", "A", "a", "É", "Z", "a b", "ä"]
    for name in names:
        memory.create_category(name)
    assert [category.name for category in memory.list_categories()] == sorted(names)
    assert [category.name for category in memory.list_categories("")] == sorted(names)


def test_the_list_by_query(memory: Memory) -> None:
    memory.create_category("garden", "plants and trees")
    memory.create_category("work", "what is paid")
    assert [category.name for category in memory.list_categories("trees")] == ["garden"]
    assert {category.name for category in memory.list_categories("plants paid")} == {"garden", "work"}
    assert memory.list_categories("%") == [] and memory.list_categories("nothing") == []


def test_twenty_by_query_without_a_limit(memory: Memory) -> None:
    for number in range(25):
        memory.create_category(f"trees {number}")
    assert len(memory.list_categories("trees")) == 20 and len(memory.list_categories("trees", 22)) == 22


def test_renaming(stores: Stores, memory: Memory) -> None:
    made = memory.create_category("work")
    stores.clock.forward(seconds=5)
    changed = memory.update_category_name(made.id, "labour")
    assert changed is not None and changed.name == "labour" and changed.updated_at > made.updated_at
    assert memory.get_category_by_name("work") is None and memory.get_category(made.id) == changed
    assert memory.update_category_name("no such id", "other") is None


def test_renaming_to_a_taken_name(memory: Memory) -> None:
    made = memory.create_category("work")
    memory.create_category("garden")
    with pytest.raises(ConstraintError):
        memory.update_category_name(made.id, "garden")
    with pytest.raises(ConfigError):
        memory.update_category_name(made.id, " ")
    assert memory.get_category(made.id) == made


def test_a_renamed_category_is_found_by_its_new_name(memory: Memory) -> None:
    made = memory.create_category("work")
    memory.update_category_name(made.id, "garden")
    assert [found.id for found in memory.search_categories_by_keyword("garden")] == [made.id]
    assert memory.search_categories_by_keyword("work") == []


def test_summaries(memory: Memory) -> None:
    made = memory.create_category("work")
    assert memory.update_category_summary(made.id, "All of it went well") is True
    changed = memory.get_category(made.id)
    assert changed is not None and changed.summary == "All of it went well"
    assert [found.id for found in memory.search_categories_by_keyword("well")] == [made.id]
    assert memory.update_category_summary("no such id", "x") is False


def test_links(memory: Memory) -> None:
    item, category = memory.create_item("event", "Met Ada"), memory.create_category("work")
    assert memory.link_item_to_category(item.id, category.id) is True
    assert memory.link_item_to_category(item.id, category.id) is False
    assert memory.get_category_items(category.id) == [item] and memory.get_item_categories(item.id) == [category]
    assert memory.get_category_item_count(category.id) == 1
    assert memory.unlink_item_from_category(item.id, category.id) is True
    assert memory.unlink_item_from_category(item.id, category.id) is False
    assert memory.get_category_items(category.id) == [] and memory.get_category_item_count(category.id) == 0


def test_links_to_what_is_not_there(memory: Memory) -> None:
    item, category = memory.create_item("event", "Met Ada"), memory.create_category("work")
    for item_id, category_id in (("no such id", category.id), (item.id, "no such id")):
        with pytest.raises(ConstraintError):
            memory.link_item_to_category(item_id, category_id)


@pytest.mark.parametrize("ids", [(None, "x"), ("x", None), (None, None)])
def test_links_need_ids(memory: Memory, ids: tuple[str, str]) -> None:
    """The original's INSERT OR IGNORE drops them in silence."""
    with pytest.raises(ConfigError):
        memory.link_item_to_category(*ids)


def test_items_of_a_category_newest_first(memory: Memory) -> None:
    category = memory.create_category("work")
    items = [memory.create_item("event", f"item {number}") for number in range(3)]
    for item in items:
        memory.link_item_to_category(item.id, category.id)
    assert memory.get_category_items(category.id) == items[::-1]
    assert memory.get_category_items(category.id, 2) == items[:0:-1]


def test_categories_of_an_item_by_name(memory: Memory) -> None:
    item = memory.create_item("event", "Met Ada")
    for name in ("b", "c", "a"):
        memory.link_item_to_category(item.id, memory.create_category(name).id)
    assert [category.name for category in memory.get_item_categories(item.id)] == ["a", "b", "c"]


def test_expired_items_are_in_no_category(stores: Stores, memory: Memory) -> None:
    item, category = memory.create_item("event", "for a minute", ttl=60), memory.create_category("work")
    memory.link_item_to_category(item.id, category.id)
    assert memory.get_category_item_count(category.id) == 1
    stores.clock.forward(seconds=61)
    assert memory.get_category_items(category.id) == [] and memory.get_category_item_count(category.id) == 0
    assert memory.get_item_categories(item.id) == []


def test_a_deleted_category_leaves_its_items(memory: Memory) -> None:
    item, category = memory.create_item("event", "Met Ada"), memory.create_category("work")
    memory.link_item_to_category(item.id, category.id)
    assert memory.delete_category(category.id)
    assert memory.get_item(item.id) == item and memory.get_item_categories(item.id) == []
    assert memory.search_categories_by_keyword("work") == []
    again = memory.create_category("work")
    assert memory.get_category_items(again.id) == []


def test_a_deleted_item_leaves_its_categories(memory: Memory) -> None:
    item, category = memory.create_item("event", "Met Ada"), memory.create_category("work")
    memory.link_item_to_category(item.id, category.id)
    assert memory.delete_item(item.id)
    assert memory.get_category(category.id) == category and memory.get_category_item_count(category.id) == 0


def test_search_by_embeddings(memory: Memory) -> None:
    near, far = memory.create_category("near"), memory.create_category("far")
    memory.create_category("without")
    assert memory.update_category_embedding(near.id, [1, 0, 0]) and memory.update_category_embedding(far.id, [1, 1, 0])
    found = memory.search_categories_by_vector([1, 0, 0])
    assert [result.category.name for result in found] == ["near", "far"]
    assert found[0].score == pytest.approx(1) and found[1].score == pytest.approx(0.5**0.5)
    assert memory.update_category_embedding("no such id", [1, 0, 0]) is False


def test_a_deleted_category_is_not_found_by_its_embedding(memory: Memory) -> None:
    """The original leaves it in the index of vectors, where the next row gets its place."""
    gone = memory.create_category("gone")
    memory.update_category_embedding(gone.id, [1.0] * 768)
    memory.delete_category(gone.id)
    memory.create_category("next")
    assert memory.search_categories_by_vector([1.0] * 768) == []
