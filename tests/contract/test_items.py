"""Memory items: what every store answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mirror.core.errors import ConfigError, ConstraintError
from mirror.storage.memory import Memory
from mirror.storage.models.memory import MemoryItem
from mirror.storage.operations.base import content_hash
from mirror.storage.tables import Embedding
from tests.support.storage import Stores


def create(memory: Memory, summary: str = "Met Ada", **more: Any) -> MemoryItem:
    return memory.create_item("event", summary, **more)


def test_a_new_item(memory: Memory) -> None:
    made = create(memory)
    assert (made.reinforcement_count, made.significance, made.extra) == (1, "routine", {})
    assert made.content_hash == content_hash(" met ada\n") and made.embedding is None
    assert made.created_at == made.updated_at == made.last_reinforced_at == "2026-11-28T12:00:00.001Z"


def test_expired_items_are_hidden(stores: Stores, memory: Memory) -> None:
    made = create(memory, ttl=60)
    assert memory.get_item(made.id) == made and memory.count_items() == 1
    stores.clock.forward(seconds=61)
    assert memory.get_item(made.id) is None and memory.list_items() == [] and memory.count_items() == 0
    assert memory.get_items([made.id]) == [] and memory.get_item_history(made.id) == []
    assert memory.find_item_by_hash(made.content_hash or "") is None
    assert memory.update_item_summary(made.id, "x") is None and memory.reinforce_item(made.id) is None
    assert memory.update_item_embedding(made.id, [1.0]) is False
    assert memory.update_item_embeddings({made.id: [1.0]}) == 0
    for change in (
        lambda: memory.update_item_significance(made.id, "core"),
        lambda: memory.update_item_emotion(made.id, 0.5, 0.5),
        lambda: memory.update_item_reflection(made.id, "x"),
        lambda: memory.update_item(made.id, {"extra": {"expiresAt": None}}),
    ):
        assert change() is None
    topic, person = memory.create_category("topic"), memory.create_entity("Ada", "person")
    with pytest.raises(ConstraintError, match=f"item {made.id}"):
        memory.link_item_to_category(made.id, topic.id)
    with pytest.raises(ConstraintError, match=f"item {made.id}"):
        memory.link_item_to_entity(made.id, person.id)
    assert memory.get_entity(person.id) == person
    left = "SELECT reinforcement_count, embedding IS NULL, significance, updated_at = created_at FROM memory_items"
    assert stores.sql(left) == [(1, True, "routine", True)]
    assert memory.delete_expired_items() == 1 and memory.delete_expired_items() == 0


@pytest.mark.parametrize("ttl", [-1, float("nan"), "60", float("inf")])
def test_what_is_no_time_to_live(memory: Memory, ttl: Any) -> None:
    with pytest.raises(ConfigError):
        create(memory, ttl=ttl)


@pytest.mark.parametrize("expires", ["soon", 5, None, ["2020-01-01T00:00:00.000Z"]])
def test_an_end_that_is_no_time_hides_nothing(stores: Stores, memory: Memory, expires: Any) -> None:
    """As another program can leave it."""
    made = create(memory, extra={"expiresAtX": "2020-01-01T00:00:00.000Z"})
    extra = json.dumps({"expiresAt": expires} | made.extra)
    stores.sql(f"UPDATE memory_items SET extra = '{extra}'")
    stores.clock.forward(days=1)
    found = memory.get_item(made.id)
    assert found is not None and found.extra["expiresAt"] == expires


def with_extra(memory: Memory, extra: dict[str, Any]) -> list[Callable[[], MemoryItem | None]]:
    """The ways in which ``extra`` is given."""
    made = create(memory)
    return [
        lambda: create(memory, extra=extra),
        lambda: memory.create_items([{"memory_type": "event", "summary": "x", "extra": extra}])[0],
        lambda: memory.update_item(made.id, {"extra": extra}),
    ]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2026-12-01T05:00:00+05:00", "2026-12-01T00:00:00.000Z"),
        ("2026-12-01 00:00:00", "2026-12-01T00:00:00.000Z"),
        ("2026-12-01", "2026-12-01T00:00:00.000Z"),
        ("2026-12-01T00:00:00.1239Z", "2026-12-01T00:00:00.123Z"),
    ],
)
def test_an_end_is_kept_in_one_form(stores: Stores, memory: Memory, given: str, kept: str) -> None:
    """The stores compare it as text."""
    for way in with_extra(memory, {"expiresAt": given, "a": 1}):
        made = way()
        assert made is not None and made.extra["expiresAt"] == kept and memory.get_item(made.id) == made
    stores.clock.forward(days=3)
    assert memory.list_items() == []


@pytest.mark.parametrize(
    "wrong",
    [
        *[{"expiresAt": value} for value in ("tomorrow", 1, "", "2026-02-30", ["2026-12-01"], True)],
        *[{"visibility": value} for value in ("everyone", "Family", "", 1, ["family"])],
    ],
)
def test_what_is_kept_in_extra_is_checked(memory: Memory, wrong: dict[str, Any]) -> None:
    ways = with_extra(memory, wrong)
    before = memory.list_items()
    for way in ways:
        with pytest.raises(ConfigError):
            way()
    assert memory.list_items() == before


def test_a_time_to_live_and_a_visibility_are_updated(stores: Stores, memory: Memory) -> None:
    made = create(memory, extra={"a": 1})
    changed = memory.update_item(made.id, {"ttl": 60, "visibility": "family"})
    assert changed is not None and changed.extra["visibility"] == "family" and changed.extra["a"] == 1
    changed = memory.update_item(made.id, {"ttl": None, "visibility": None, "summary": "x"})
    assert changed is not None and set(changed.extra) == {"a", "history"} and changed == memory.get_item(made.id)
    for wrong in ({"ttl": -1}, {"ttl": "60"}, {"visibility": "everyone"}):
        with pytest.raises(ConfigError):
            memory.update_item(made.id, wrong)
    memory.update_item(made.id, {"ttl": 60})
    stores.clock.forward(seconds=61)
    assert memory.get_item(made.id) is None


@pytest.mark.parametrize("visibility", ["private", "team", "family", "public"])
def test_visibility(memory: Memory, visibility: Any) -> None:
    made = create(memory, visibility=visibility)
    assert memory.get_item(made.id) == made and made.extra["visibility"] == visibility


def test_what_is_no_visibility(memory: Memory) -> None:
    with pytest.raises(ConfigError):
        create(memory, visibility="everybody")


def test_the_history_of_an_item(memory: Memory) -> None:
    made = create(memory, "first")
    memory.update_item_summary(made.id, "second")
    changed = memory.update_item_summary(made.id, "third")
    assert changed is not None and changed.summary == "third"
    assert [entry["before"]["summary"] for entry in memory.get_item_history(made.id)] == ["first", "second"]
    for number in range(25):
        memory.update_item_emotion(made.id, number, 0.5)
    history = memory.get_item_history(made.id)
    assert len(history) == 20 and history[-1]["before"] == {"emotional_valence": 23, "emotional_arousal": 0.5}
    assert memory.get_item_history("no such id") == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda memory, id_: memory.update_item_summary(id_, "x"), {"summary": "x", "content_hash": content_hash("x")}),
        (lambda memory, id_: memory.update_item_significance(id_, "core"), {"significance": "core"}),
        (
            lambda memory, id_: memory.update_item_emotion(id_, -2, 0.5),
            {"emotional_valence": -2, "emotional_arousal": 0.5},
        ),
        (lambda memory, id_: memory.update_item_reflection(id_, "r"), {"reflection": "r", "lesson": "kept"}),
        (lambda memory, id_: memory.update_item_reflection(id_, "r", "l"), {"reflection": "r", "lesson": "l"}),
        (lambda memory, id_: memory.update_item(id_, {"memory_type": "self"}), {"memory_type": "self"}),
        (lambda memory, id_: memory.update_item(id_, {"lesson": None}), {"lesson": None}),
        (lambda memory, id_: memory.update_item(id_, {"embedding": [1, 2]}), {"embedding": Embedding([1, 2])}),
        (lambda memory, id_: memory.reinforce_item(id_), {"reinforcement_count": 2}),
    ],
)
def test_changes(stores: Stores, memory: Memory, change: Any, expected: dict[str, Any]) -> None:
    made = create(memory, lesson="kept")
    stores.clock.forward(seconds=5)
    changed = change(memory, made.id)
    assert changed == memory.get_item(made.id) and changed.updated_at > made.updated_at
    assert {name: getattr(changed, name) for name in expected} == expected
    assert change(memory, "no such id") is None


@pytest.mark.parametrize(
    "fields", [{"id": "x"}, {"created_at": "x"}, {"nothing": 1}, {"reinforcement_count": 5}, {"content_hash": "x"}]
)
def test_what_cannot_be_changed_is_refused(memory: Memory, fields: dict[str, Any]) -> None:
    made = create(memory)
    with pytest.raises(ConfigError):
        memory.update_item(made.id, {"significance": "core"} | fields)
    assert memory.get_item(made.id) == made


@pytest.mark.parametrize("fields", [{"summary": None}, {"significance": 5}, {"emotional_valence": "x"}, {"extra": 5}])
def test_values_that_do_not_fit(memory: Memory, fields: dict[str, Any]) -> None:
    made = create(memory)
    with pytest.raises(ConfigError):
        memory.update_item(made.id, fields)
    assert memory.get_item(made.id) == made


def test_the_list(memory: Memory) -> None:
    resource = memory.create_resource("session:1")
    first, second = create(memory, "first", resource_id=resource.id), create(memory, "second", significance="core")
    third = memory.create_item("profile", "third")
    assert memory.list_items() == [third, second, first] and memory.count_items() == 3
    assert memory.list_items("event") == [second, first] and memory.count_items("event") == 2
    assert memory.list_items(resource_id=resource.id) == [first] and memory.list_items(significance="core") == [second]
    assert memory.list_items("event", None, "core") == [second] and memory.list_items("skill") == []
    assert memory.list_items(limit=1, offset=1) == [second]


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_times_of_both_forms_are_in_one_order(stores: Stores, memory: Memory, offset: int) -> None:
    """The original orders texts, where a space is before T."""
    times = [f"2026-11-{day:02} {hour:02}:00:00" for day in (1, 2, 3) for hour in (5, 12, 23)]
    made = [create(memory, time) for time in times]
    for number, (item, time) in enumerate(zip(made, times, strict=True)):
        text = time if number % 2 else time.replace(" ", "T") + ".000Z"
        stores.sql(f"UPDATE memory_items SET created_at = '{text}' WHERE id = '{item.id}'")
    newest = [item.summary for item in made[::-1]]
    assert [item.summary for item in memory.list_items()] == newest
    assert [item.summary for item in memory.list_items(limit=4, offset=offset)] == newest[offset : offset + 4]


def test_by_hash_the_oldest(memory: Memory) -> None:
    first, _ = create(memory), create(memory, " MET ADA ")
    assert memory.find_item_by_hash(content_hash("met ada")) == first
    assert memory.find_item_by_hash("no such hash") is None


def test_batches(memory: Memory) -> None:
    made = memory.create_items([{"memory_type": "event", "summary": f"{number}"} for number in range(50)])
    ids = [item.id for item in made]
    assert memory.get_items(ids[::-1]) == made[::-1] and memory.get_items([ids[3], "no", ids[3]]) == [made[3]] * 2
    assert memory.update_item_embeddings({ids[0]: [1, 2], ids[1]: [3, 4], "no such id": [5, 6]}) == 2
    assert list((memory.get_items(ids[:1])[0]).embedding or ()) == [1, 2]
    assert memory.delete_items(ids[:10]) == 10 and memory.count_items() == 40
    assert memory.create_items([]) == [] and memory.delete_items([]) == 0 and memory.get_items([]) == []


@pytest.mark.parametrize("wrong", [{"summary": "x"}, {"memory_type": "x"}, {"memory_type": "x", "summary": "x", "y": 1},
                                   {"memory_type": "event", "summary": None}, {"memory_type": "event", "summary": 5},
                                   {"memory_type": "x", "summary": "x", "embedding": ["1"]}])  # fmt: skip
def test_a_batch_is_all_or_nothing(memory: Memory, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        memory.create_items([{"memory_type": "event", "summary": "fine"}, wrong])
    assert memory.count_items() == 0


def test_a_batch_that_the_store_refuses_is_not_there_in_part(memory: Memory) -> None:
    with pytest.raises(ConstraintError):
        memory.create_items([
            {"memory_type": "event", "summary": "fine"},
            {"memory_type": "event", "summary": "of nothing", "resource_id": "no such id"},
        ])  # fmt: skip
    assert memory.count_items() == 0


def test_an_item_outlives_its_resource(memory: Memory) -> None:
    resource = memory.create_resource("session:1", text="what was said")
    made = create(memory, resource_id=resource.id)
    assert resource.caption == "what was said" and memory.delete_resource(resource.id)
    found = memory.get_item(made.id)
    assert found is not None and found.resource_id is None
    with pytest.raises(ConstraintError):
        create(memory, resource_id=resource.id)


def test_resources(memory: Memory) -> None:
    first, second = memory.create_resource("a", caption="c", text="t"), memory.create_resource("b", text="")
    assert (first.caption, second.caption) == ("c", None)
    assert memory.list_resources() == [second, first] and memory.list_resources(1, 1) == [first]
    assert memory.update_resource_embedding(first.id, [1, 2, 3]) is True
    assert memory.update_resource_embedding("no such id", [1, 2, 3]) is False
    found = memory.get_resource(first.id)
    assert found is not None and list(found.embedding or ()) == [1, 2, 3]


def test_embeddings_are_float32(memory: Memory) -> None:
    made = create(memory)
    assert memory.update_item_embedding(made.id, [0.1, 1 / 3, -1e-20]) is True
    found = memory.get_item(made.id)
    assert found is not None and list(found.embedding or ()) == pytest.approx([0.1, 1 / 3, -1e-20], rel=1e-6)
    assert memory.update_item_embedding("no such id", [1, 2, 3]) is False
    assert memory.update_item_embedding(made.id, found.embedding or ()) and memory.get_item(made.id) is not None


def test_confirmations_at_a_time_are_all_counted(memory: Memory) -> None:
    made = create(memory)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(memory.reinforce_item, [made.id] * 40))
    found = memory.get_item(made.id)
    assert found is not None and found.reinforcement_count == 41


def test_changes_at_a_time_are_all_in_the_history(memory: Memory) -> None:
    made = create(memory, "0")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: memory.update_item_summary(made.id, f"{number}"), range(1, 16)))
    assert len({entry["before"]["summary"] for entry in memory.get_item_history(made.id)}) == 15


def test_extra_comes_back_as_it_was(memory: Memory) -> None:
    extra = {"n": 1, "f": 0.1, "big": 2**53, "t": 'é\n"\\ \u2028', "none": None, "yes": True, "deep": {"l": [[], {}]}}
    made = create(memory, extra=extra)
    found = memory.get_item(made.id)
    assert found is not None and found.extra == extra == made.extra


@pytest.mark.parametrize("extra", ["[1, 2]", "null", '"a text"', "5"])
def test_an_extra_that_is_no_object(stores: Stores, memory: Memory, extra: str) -> None:
    """As another program can leave it: it keeps no other row from being read, and is there until it is set."""
    made, other = create(memory), create(memory, "Met Eve")
    stores.sql(f"UPDATE memory_items SET extra = '{extra}' WHERE id = '{made.id}'")
    found = memory.get_item(made.id)
    assert found is not None and found.extra == {}
    assert {item.id for item in memory.list_items()} == {made.id, other.id}
    assert {one.item.id for one in memory.search_by_keyword("met")} == {made.id, other.id}
    assert memory.list_items(where={"extra.topic": "x"}) == [] and memory.get_item_history(made.id) == []
    changed = memory.update_item_summary(made.id, "Met nobody")
    assert changed is not None and changed.summary == "Met nobody"
    [(kept,)] = stores.sql(f"SELECT extra FROM memory_items WHERE id = '{made.id}'")
    if extra != "null":
        assert (kept if stores.kind == "postgres" else json.loads(kept)) == json.loads(extra)
    changed = memory.update_item(made.id, {"extra": {"a": 1}, "mood_at_capture": "calm"})
    assert changed is not None and changed.extra["a"] == 1 and len(memory.get_item_history(made.id)) >= 1


def test_what_is_created_is_what_is_read(memory: Memory) -> None:
    """Lists for tuples, at once."""
    made = create(memory, extra={"t": (1, 2), "o": {"t": ("a", [("b",)])}})
    assert made.extra == {"t": [1, 2], "o": {"t": ["a", [["b"]]]}} and memory.get_item(made.id) == made


def test_errors_name_what_is_wrong(memory: Memory) -> None:
    made, topic = create(memory), memory.create_category("topic")
    with pytest.raises(ConstraintError, match="resource"):
        create(memory, resource_id="no such id")
    with pytest.raises(ConstraintError, match="resource"):
        memory.update_item(made.id, {"resource_id": "no such id"})
    with pytest.raises(ConstraintError, match="category no such id"):
        memory.link_item_to_category(made.id, "no such id")
    with pytest.raises(ConstraintError, match="item no such id"):
        memory.link_item_to_category("no such id", topic.id)
    with pytest.raises(ConstraintError, match="entity no such id"):
        memory.link_item_to_entity(made.id, "no such id")
    for use in (
        lambda: memory.create_items([{"memory_type": "event", "summary": None}]),
        lambda: memory.update_item(made.id, {"summary": None}),
    ):
        with pytest.raises(ConfigError, match=r"summary.*needs a value"):
            use()
    with pytest.raises(ConfigError) as refused:
        memory.search_by_vector([1.0], agent_id="bob")
    assert "write" not in str(refused.value) and "for_agent('bob')" in str(refused.value)
