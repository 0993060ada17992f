"""Lessons and reflections: what every store answers."""

from __future__ import annotations

from typing import Any

import pytest

from mirror.core.errors import ConfigError
from mirror.storage.memory import Memory
from mirror.storage.models.memory import Lesson
from tests.support.storage import Stores

DAY = 86400


def create(memory: Memory, lesson: str = "test it", **more: Any) -> Lesson:
    given = {"type": "mistake", "context": "a build", "action": "deployed", "outcome": "it failed"} | more
    return memory.create_lesson(lesson=lesson, **given)


def read(memory: Memory, lesson: Lesson) -> Lesson:
    found = memory.get_lesson(lesson.id)
    assert found is not None
    return found


def test_reflections_newest_first(memory: Memory) -> None:
    made = [memory.create_reflection("heartbeat" if number % 2 else "evening", f"{number}") for number in range(7)]
    assert memory.list_reflections() == made[::-1] and memory.get_recent_reflections() == made[:1:-1]
    assert memory.list_reflections("evening") == made[::-2] and memory.list_reflections("evening", 1) == [made[6]]
    assert memory.list_reflections(trigger_type="none") == [] and memory.get_recent_reflections(2) == made[:4:-1]


def test_a_new_lesson(memory: Memory) -> None:
    made = create(memory)
    assert (made.occurrences, made.confidence, made.tags, made.embedding) == (1, 0.5, (), None)
    assert made.last_seen == made.created_at == made.updated_at


def test_the_list_is_by_confidence_then_by_last_seen(memory: Memory) -> None:
    low, high = create(memory, confidence=0.25), create(memory, confidence=0.75, type="success")
    old, new = create(memory), create(memory)
    assert memory.list_lessons() == [high, new, old, low]
    assert memory.list_lessons("success") == [high] and memory.list_lessons(type="discovery") == []
    assert memory.count_lessons() == 4 and memory.count_lessons("mistake") == 3


@pytest.mark.parametrize(("confidence", "after"), [(0.5, 0.6), (0.95, 1.0), (1.0, 1.0), (0.0, 0.1)])
def test_reinforcing(stores: Stores, memory: Memory, confidence: float, after: float) -> None:
    made = create(memory, confidence=confidence)
    stores.clock.forward(seconds=5)
    assert memory.reinforce_lesson(made.id) is True
    changed = read(memory, made)
    assert changed.confidence == pytest.approx(after, abs=1e-12) and changed.confidence <= 1
    assert changed.occurrences == 2 and changed.last_seen == changed.updated_at > made.updated_at


@pytest.mark.parametrize(
    ("confidence", "amount", "after"), [(0.5, 0.2, 0.3), (0.1, 0.5, 0.0), (0.0, 0.1, 0.0), (0.5, 0, 0.5), (1.0, 5, 0.0)]
)
def test_decay(memory: Memory, confidence: float, amount: float, after: float) -> None:
    made = create(memory, confidence=confidence)
    assert memory.decay_lesson(made.id, amount) is True
    changed = read(memory, made)
    assert changed.confidence == pytest.approx(after, abs=1e-12) and changed.confidence >= 0
    assert (changed.occurrences, changed.last_seen) == (1, made.last_seen)


@pytest.mark.parametrize("amount", [-0.1, float("nan"), "much", None, True])
def test_what_cannot_be_taken_from_a_confidence(memory: Memory, amount: Any) -> None:
    """A negative amount would add, beyond all bounds."""
    made = create(memory)
    with pytest.raises(ConfigError):
        memory.decay_lesson(made.id, amount)
    with pytest.raises(ConfigError):
        memory.decay_lessons(0, amount)
    assert read(memory, made) == made


@pytest.mark.parametrize("days", [-1, float("inf"), 1e12, "old", None])
def test_days_that_are_none(memory: Memory, days: Any) -> None:
    with pytest.raises(ConfigError):
        memory.decay_lessons(days, 0.1)


def test_decay_of_old_lessons(stores: Stores, memory: Memory) -> None:
    old, spent = create(memory, confidence=0.5), create(memory, confidence=0.0)
    stores.clock.forward(days=10)
    new = create(memory, confidence=0.5)
    assert memory.decay_lessons(5, 0.2) == 1
    assert read(memory, old).confidence == pytest.approx(0.3)
    assert read(memory, new) == new and read(memory, spent) == spent
    assert memory.decay_lessons(20, 0.2) == 0
    assert memory.decay_lessons(0, 0.1) == 2


@pytest.mark.parametrize("last_seen", ["2026-11-28 11:59:00", "2026-11-28T11:59:00.000Z"])
def test_times_of_both_forms_are_old_alike(stores: Stores, memory: Memory, last_seen: str) -> None:
    """The original compares texts, so that each space form of a day is before all others of the day."""
    made = create(memory)
    stores.sql(f"UPDATE lessons SET last_seen = '{last_seen}' WHERE id = '{made.id}'")
    stores.clock.now = stores.clock.now.replace(hour=12, minute=0, second=0)
    assert memory.decay_lessons(1 / 24, 0.1) == 0
    stores.clock.forward(minutes=59, seconds=30)
    assert memory.decay_lessons(1 / 24, 0.1) == 1


def test_lessons_last_seen_in_both_forms_are_in_order(stores: Stores, memory: Memory) -> None:
    times = ["2026-11-28 10:00:00", "2026-11-28T09:00:00.000Z", "2026-11-28 11:00:00", "2026-11-28T10:30:00.000Z"]
    made = [create(memory, str(time)) for time in times]
    for lesson, time in zip(made, times, strict=True):
        stores.sql(f"UPDATE lessons SET last_seen = '{time}' WHERE id = '{lesson.id}'")
    assert [lesson.id for lesson in memory.list_lessons()] == [made[at].id for at in (2, 3, 0, 1)]


def test_a_decayed_lesson_keeps_its_place_in_time(stores: Stores, memory: Memory) -> None:
    made = create(memory)
    stores.clock.forward(seconds=5)
    assert memory.decay_lesson(made.id, 0.1) and read(memory, made).updated_at[:10] == "2026-11-28"
    assert memory.list_lessons() == [read(memory, made)]


def test_merging(memory: Memory) -> None:
    made = create(memory, tags=["a"])
    assert memory.merge_lesson_occurrences(made.id, 3, ["a", "b"]) is True
    changed = read(memory, made)
    assert (changed.occurrences, changed.tags) == (4, ("a", "b"))
    assert memory.get_lessons_by_tag("b") == [changed]
    assert memory.search_lessons("b") == [changed]


@pytest.mark.parametrize("arguments", [(-1, ["a"]), ("2", ["a"]), (1, "tags"), (1, [1])])
def test_what_cannot_be_merged(memory: Memory, arguments: tuple[Any, Any]) -> None:
    made = create(memory)
    with pytest.raises(ConfigError):
        memory.merge_lesson_occurrences(made.id, *arguments)
    assert read(memory, made) == made


@pytest.mark.parametrize(
    "call",
    [
        lambda memory: memory.reinforce_lesson("no such id"),
        lambda memory: memory.decay_lesson("no such id", 0.1),
        lambda memory: memory.merge_lesson_occurrences("no such id", 1, []),
        lambda memory: memory.delete_lesson("no such id"),
    ],
)
def test_what_is_not_there_is_said_to_be_not_there(memory: Memory, call: Any) -> None:
    """In the original these do nothing in silence."""
    assert call(memory) is False


@pytest.mark.parametrize(
    ("asked", "found"),
    [("make", 1), ("make run", 1), ("mak", 0), ("MAKE", 0), ("%", 0), ("a_b", 1), ("aXb", 0), ('q"x', 1), ("é", 1),
     ('make","q', 0), ("", 0)],
)  # fmt: skip
def test_tools_and_tags_match_as_a_whole(memory: Memory, asked: str, found: int) -> None:
    """The original looks for them in the JSON's text with LIKE, where % and _ match anything and " nothing."""
    create(memory, tags=["make", "make run", "a_b", 'q"x', "é"], related_tools=["make", "make run", "a_b", 'q"x', "é"])
    create(memory, tags=["other"], related_tools=["other"])
    assert len(memory.get_lessons_by_tag(asked)) == found
    assert len(memory.get_lessons_by_tool(asked)) == found


def test_by_tool_those_with_most_confidence_first(memory: Memory) -> None:
    low = create(memory, confidence=0.25, related_tools=["make"], tags=["ci"])
    high = create(memory, confidence=0.75, related_tools=["make", "git"], tags=["ci"])
    assert memory.get_lessons_by_tool("make") == [high, low] == memory.get_lessons_by_tag("ci")


@pytest.mark.parametrize(
    "query", ["dragons", "dragons castles", "DRAGONS", "dragons!", '"dragons"', "dragons OR", "a dragons"]
)
def test_search(memory: Memory, query: str) -> None:
    made = create(memory, context="where dragons live")
    create(memory)
    assert memory.search_lessons(query) == [made] == memory.search_lessons_by_keyword(query)


@pytest.mark.parametrize("field", ["context", "action", "outcome", "lesson", "correction", "tags"])
def test_search_in_each_text(memory: Memory, field: str) -> None:
    made = create(memory, **{field: ["dragons"] if field == "tags" else "here be dragons"})
    assert memory.search_lessons("dragons") == [made]


def test_relevant_lessons(memory: Memory) -> None:
    both = create(memory, "feed dragons", related_tools=["make"])
    words = create(memory, "dragons eat what they are given, and then some more of it")
    tool = create(memory, "unrelated", related_tools=["make", "git"])
    create(memory, "neither")
    assert memory.get_relevant_lessons(["make"], "dragons")[0] == both
    assert {lesson.id for lesson in memory.get_relevant_lessons(["make"], "dragons")} == {both.id, words.id, tool.id}
    assert memory.get_relevant_lessons(["git"]) == [tool]
    assert memory.get_relevant_lessons(["git", "make"])[0] == tool, "two tools count more than one"
    assert {lesson.id for lesson in memory.get_relevant_lessons(query="dragons")} == {both.id, words.id}
    assert memory.get_relevant_lessons() == [] == memory.get_relevant_lessons([], " ")
    assert len(memory.get_relevant_lessons(["make"], "dragons", 2)) == 2


def test_relevance_is_weighed_by_confidence_and_time(stores: Stores, memory: Memory) -> None:
    old = create(memory, related_tools=["make"])
    stores.clock.forward(days=91)
    new, sure = create(memory, related_tools=["make"], confidence=0.4), create(memory, related_tools=["make"])
    assert memory.get_relevant_lessons(["make"]) == [sure, new, old]


@pytest.mark.parametrize("tools", ["make", [1], 5])
def test_tools_are_a_list_of_texts(memory: Memory, tools: Any) -> None:
    with pytest.raises(ConfigError):
        memory.get_relevant_lessons(tools)


def test_a_deleted_lesson_is_not_found(memory: Memory) -> None:
    made = create(memory, "dragons", tags=["a"], related_tools=["make"])
    assert memory.delete_lesson(made.id)
    assert (
        memory.search_lessons("dragons") == memory.get_lessons_by_tag("a") == memory.get_lessons_by_tool("make") == []
    )
