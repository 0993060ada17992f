"""Memory items: what every store answers."""

from __future__ import annotations

from mirror.storage.memory import Memory
from tests.support.storage import Stores


def test_what_is_created_is_what_is_read(memory: Memory) -> None:
    made = memory.create_item(memory_type="event", summary="Met Ada", extra={"topic": "people", "n": [1, 2.5, None]})
    assert memory.get_item(made.id) == made
    assert (made.reinforcement_count, made.significance, made.extra["topic"]) == (1, "routine", "people")


def test_expired_items_are_hidden(stores: Stores, memory: Memory) -> None:
    made = memory.create_item(memory_type="event", summary="for a minute", ttl=60)
    assert memory.get_item(made.id) == made and memory.count_items() == 1
    stores.clock.forward(seconds=61)
    assert memory.get_item(made.id) is None and memory.list_items() == [] and memory.count_items() == 0
    assert memory.delete_expired_items() == 1


def test_the_history_of_an_item(memory: Memory) -> None:
    made = memory.create_item(memory_type="event", summary="first")
    memory.update_item_summary(made.id, "second")
    changed = memory.update_item_summary(made.id, "third")
    assert changed is not None and changed.summary == "third"
    assert [entry["before"]["summary"] for entry in memory.get_item_history(made.id)] == ["first", "second"]
