"""Model feedback, and the numbers of all that there is: what every store answers."""

from __future__ import annotations

from typing import Any

import pytest

from mirror.core.errors import ConfigError
from mirror.storage.memory import Memory
from mirror.storage.models.memory import ModelFeedback
from mirror.storage.models.results import MemoryStats, ModelPerformance, TierPerformance
from tests.contract.kinds import KINDS
from tests.support.storage import Stores


def record(memory: Memory, **more: Any) -> ModelFeedback:
    return memory.record_model_feedback(**KINDS["feedback"].least | more)


def read(memory: Memory, feedback: ModelFeedback) -> ModelFeedback:
    found = memory.get_model_feedback(feedback.id)
    assert found is not None
    return found


def test_the_latest_of_a_conversation(stores: Stores, memory: Memory) -> None:
    assert memory.get_latest_model_feedback_id("s1") is None
    first = record(memory, session_key="s1")
    record(memory, session_key="s2")
    second = record(memory, session_key="s1")
    assert memory.get_latest_model_feedback_id("s1") == second.id
    stores.sql(f"UPDATE model_feedback SET created_at = '2026-11-28 13:00:00' WHERE id = '{first.id}'")
    assert memory.get_latest_model_feedback_id("s1") == first.id, "both forms of a time are one order"


def test_self_evaluation(memory: Memory) -> None:
    made = record(memory)
    assert memory.update_model_feedback_self_eval(made.id, 0.75, "good enough") is True
    changed = read(memory, made)
    assert (changed.self_eval_score, changed.self_eval_reasoning) == (0.75, "good enough")
    assert memory.update_model_feedback_self_eval("no such id", 1, "x") is False


def test_user_rating(memory: Memory) -> None:
    made = [record(memory, session_key="s1"), record(memory, session_key="s1"), record(memory, session_key="s2")]
    assert memory.update_model_feedback_user_rating("s1", "up") == 2
    late = record(memory, session_key="s1")
    assert memory.update_model_feedback_user_rating("s1", "down") == 1
    assert [read(memory, one).user_feedback for one in (*made, late)] == ["up", "up", None, "down"]
    assert memory.update_model_feedback_user_rating("s1", "up") == 0


@pytest.mark.parametrize("rating", ["good", "UP", "", None])
def test_what_is_no_rating(memory: Memory, rating: Any) -> None:
    made = record(memory, session_key="s1")
    with pytest.raises(ConfigError):
        memory.update_model_feedback_user_rating("s1", rating)
    assert read(memory, made).user_feedback is None


def test_performance(memory: Memory) -> None:
    record(memory, duration_ms=100, input_tokens=1, output_tokens=10, session_key="s1")
    record(memory, duration_ms=101, input_tokens=2, output_tokens=10, success=False, session_key="s2")
    record(memory, model="other", duration_ms=7, success=False)
    memory.update_model_feedback_user_rating("s1", "up")
    memory.update_model_feedback_user_rating("s2", "down")
    assert memory.get_model_performance_stats() == [
        ModelPerformance("p", "m", 2, 1, 1, 0.5, 101, 2, 10, 1, 1),
        ModelPerformance("p", "other", 1, 0, 1, 0.0, 7, 0, 0, 0, 0),
    ]
    assert memory.count_model_feedback() == 3


@pytest.mark.parametrize(
    ("chosen", "totals"),
    [
        ({}, [2, 1]), ({"provider": "p"}, [2]), ({"model": "n"}, [1]), ({"session_type": "chat"}, [2]),
        ({"provider": "p", "model": "n"}, []), ({"provider": "no"}, []),
    ],
)  # fmt: skip
def test_performance_of_some(memory: Memory, chosen: dict[str, str], totals: list[int]) -> None:
    record(memory)
    record(memory)
    record(memory, provider="q", model="n", session_type="cron")
    assert [one.total_requests for one in memory.get_model_performance_stats(**chosen)] == totals


def test_performance_by_tier(memory: Memory) -> None:
    record(memory, total_tokens=10)
    record(memory, total_tokens=15, success=False)
    record(memory, model="n", total_tokens=1)
    record(memory, tier="best", duration_ms=0)
    assert memory.get_model_performance_by_tier() == [
        TierPerformance("best", "p", "m", 1, 1.0, 0, 0),
        TierPerformance("fast", "p", "m", 2, 0.5, 120, 13),
        TierPerformance("fast", "p", "n", 1, 1.0, 120, 1),
    ]


def test_performance_since(stores: Stores, memory: Memory) -> None:
    """The original compares times of two forms as texts, and takes 0 days as all."""
    record(memory)
    stores.clock.forward(hours=23)
    assert [one.total_requests for one in memory.get_model_performance_stats(since_days_ago=1)] == [1]
    stores.clock.forward(hours=2)
    assert memory.get_model_performance_stats(since_days_ago=1) == memory.get_model_performance_by_tier(1) == []
    assert [one.total_requests for one in memory.get_model_performance_by_tier(1.5)] == [1]
    assert memory.get_model_performance_stats(since_days_ago=0) == []


@pytest.mark.parametrize("days", [-1, float("nan"), 1e9, "1"])
def test_days_that_are_none(memory: Memory, days: Any) -> None:
    with pytest.raises(ConfigError):
        memory.get_model_performance_stats(since_days_ago=days)
    with pytest.raises(ConfigError):
        memory.get_model_performance_by_tier(days)


def test_no_performance_yet(memory: Memory) -> None:
    assert memory.get_model_performance_stats() == memory.get_model_performance_by_tier() == []
    assert memory.count_model_feedback() == 0


def test_numbers_of_all(stores: Stores, memory: Memory) -> None:
    empty = memory.get_stats()
    assert empty == MemoryStats(0, 0, 0, 0, 0, 0, 0, {}, empty.vec_available)
    for name in ("resource", "category", "entity", "reflection", "lesson", "feedback"):
        KINDS[name].make(memory)
    memory.create_item("event", "one")
    memory.create_item("event", "two", ttl=60)
    memory.create_item("profile", "three", ttl=60)
    stats = memory.get_stats()
    assert stats == MemoryStats(1, 3, 1, 1, 1, 1, 1, {"event": 2, "profile": 1}, empty.vec_available)
    stores.clock.forward(seconds=61)
    assert memory.get_stats().items == 1 and memory.get_stats().items_by_type == {"event": 1}
