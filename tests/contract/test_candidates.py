"""The live inbox: what every store answers. (In the original, on Postgres, all of it does nothing.)"""

from __future__ import annotations

from typing import Any

import pytest

from mirror.core.errors import ConfigError
from mirror.storage.memory import Memory
from mirror.storage.models.memory import LiveCandidate
from mirror.storage.models.results import LiveCandidateStats
from mirror.storage.operations.base import content_hash
from tests.support.storage import Stores


def create(memory: Memory, fact: str = "Likes tea", **more: Any) -> LiveCandidate:
    given = {"role": "user", "candidate_type": "preference", "confidence": 0.5, "session_key": "s1"} | more
    made = memory.create_live_candidate(fact_text=fact, **given)
    assert made is not None
    return made


def read(memory: Memory, candidate: LiveCandidate) -> LiveCandidate:
    found = memory.get_live_candidate(candidate.id)
    assert found is not None
    return found


def test_a_new_candidate(memory: Memory) -> None:
    made = create(memory)
    assert (made.status, made.promoted_item_id, made.fact_hash) == ("pending", None, content_hash("likes tea "))
    assert made.source_ts == made.created_at and made.expires_at[:11] == "2026-11-29T" and read(memory, made) == made


@pytest.mark.parametrize("hours", [1, 0.5, 48, 0])
def test_when_it_expires(memory: Memory, hours: float) -> None:
    made = create(memory, ttl_hours=hours)
    later = memory.list_live_candidates(expires_before="2027-01-01T00:00:00.000Z")
    assert later == [made] and memory.list_live_candidates(expires_before=made.expires_at) == []
    assert made.expires_at >= made.created_at


@pytest.mark.parametrize(
    ("more", "new"),
    [
        ({}, False), ({"fact": " LIKES TEA "}, False), ({"confidence": 0.9, "message_id": "m2"}, False),
        ({"fact": "Likes coffee"}, True), ({"role": "assistant"}, True), ({"session_key": "s2"}, True),
        ({"session_key": None}, True),
    ],
)  # fmt: skip
def test_the_same_fact_is_noted_once_in_a_conversation(memory: Memory, more: dict[str, Any], new: bool) -> None:
    made = create(memory)
    more = dict(more)  # the next store's test has the same one
    given = {
        "role": "user", "candidate_type": "preference", "confidence": 0.5, "session_key": "s1",
        "fact_text": more.pop("fact", "Likes tea"),
    } | more  # fmt: skip
    second = memory.create_live_candidate(**given)
    assert (second is not None) == new and len(memory.list_live_candidates()) == 1 + new
    assert read(memory, made) == made


@pytest.mark.parametrize("more", [{"role": "system"}, {"ttl_hours": -1}, {"ttl_hours": "x"}, {"entities": "Ada"}])
def test_wrong_arguments(memory: Memory, more: dict[str, Any]) -> None:
    """The original answers None to any error, as to a fact that is known."""
    with pytest.raises(ConfigError):
        create(memory, **more)
    assert memory.list_live_candidates() == []


def test_the_list(memory: Memory) -> None:
    first, second = create(memory, "first"), create(memory, "second", session_key="s2")
    third = create(memory, "third", ttl_hours=1)
    memory.mark_live_candidate_discarded(first.id, "noise")
    assert memory.list_live_candidates("pending") == [third, second]
    assert memory.list_live_candidates(session_key="s2") == [second]
    assert memory.list_live_candidates("pending", 1) == [third]
    assert memory.list_live_candidates("pending", expires_before=second.expires_at) == [third]
    assert len(memory.list_live_candidates()) == 3 and memory.list_live_candidates("merged") == []


@pytest.mark.parametrize("at", ["2026-11-28 13:30:00", "2026-11-28T13:30:00.000Z"])
def test_times_of_both_forms(stores: Stores, memory: Memory, at: str) -> None:
    soon, late = create(memory, "soon", ttl_hours=1), create(memory, "late", ttl_hours=2)
    assert memory.list_live_candidates(expires_before=at) == [soon]
    stores.sql(f"UPDATE live_memory_candidates SET expires_at = '2026-11-28 13:40:00' WHERE id = '{soon.id}'")
    assert memory.list_live_candidates(expires_before=at) == []
    assert late in memory.list_live_candidates()


def test_promoted(stores: Stores, memory: Memory) -> None:
    made = create(memory)
    stores.clock.forward(seconds=5)
    assert memory.mark_live_candidate_promoted(made.id, "item 1", "it matters") is True
    changed = read(memory, made)
    assert (changed.status, changed.promoted_item_id, changed.promotion_reason) == ("promoted", "item 1", "it matters")
    assert changed.updated_at > made.updated_at
    [event] = memory.list_promotion_events(made.id)
    assert (event.actor, event.action, event.result, event.reason) == ("runtime", "promote", "ok", "it matters")


def test_merged(memory: Memory) -> None:
    made = create(memory)
    assert memory.mark_live_candidate_merged(made.id, "item 1") is True
    changed = read(memory, made)
    assert (changed.status, changed.promoted_item_id) == ("merged", "item 1")
    assert changed.promotion_reason == "dedup-reinforce"
    [event] = memory.list_promotion_events(made.id)
    assert (event.action, event.reason) == ("merge", "dedup-reinforce")


def test_discarded(memory: Memory) -> None:
    made = create(memory)
    assert memory.mark_live_candidate_discarded(made.id, "noise", "contemplation") is True
    changed = read(memory, made)
    assert (changed.status, changed.promoted_item_id, changed.promotion_reason) == ("discarded", None, "noise")
    [event] = memory.list_promotion_events(made.id)
    assert (event.actor, event.action) == ("contemplation", "discard")


def test_expired_are_only_those_that_were_pending(memory: Memory) -> None:
    """The original notes the end of all that it is given, decided or not, there or not."""
    pending, decided = create(memory, "pending"), create(memory, "decided")
    memory.mark_live_candidate_promoted(decided.id, "item 1")
    assert memory.mark_live_candidate_expired([pending.id, decided.id, "no such id", pending.id]) == 1
    assert read(memory, pending).status == "expired" and read(memory, decided).status == "promoted"
    assert [event.action for event in memory.list_promotion_events(pending.id)] == ["expire"]
    assert [event.action for event in memory.list_promotion_events(decided.id)] == ["promote"]
    assert memory.list_promotion_events("no such id") == [] and memory.mark_live_candidate_expired([]) == 0


@pytest.mark.parametrize(
    "decide",
    [
        lambda memory: memory.mark_live_candidate_promoted("no such id", "item 1", "x"),
        lambda memory: memory.mark_live_candidate_merged("no such id", "item 1"),
        lambda memory: memory.mark_live_candidate_discarded("no such id", "noise"),
    ],
)
def test_nothing_is_noted_of_what_is_not_there(memory: Memory, decide: Any) -> None:
    assert decide(memory) is False and memory.list_promotion_events("no such id") == []


def test_events(memory: Memory) -> None:
    made = memory.record_promotion_event("c", "sis", "retry", "error", "why", "it failed")
    last = memory.record_promotion_event("c", "sis", "retry")
    memory.record_promotion_event("other", "sis", "retry")
    assert memory.list_promotion_events("c") == [last, made] and memory.list_promotion_events("c", 1) == [last]
    assert (made.result, made.reason, made.error) == ("error", "why", "it failed")
    with pytest.raises(ConfigError):
        memory.record_promotion_event("c", "sis", "retry", "maybe")  # type: ignore[arg-type]


def test_numbers(memory: Memory) -> None:
    assert memory.get_live_candidate_stats() == LiveCandidateStats()
    made = [create(memory, f"fact {number}") for number in range(6)]
    memory.mark_live_candidate_promoted(made[0].id, "i")
    memory.mark_live_candidate_merged(made[1].id, "i")
    memory.mark_live_candidate_discarded(made[2].id, "noise")
    memory.mark_live_candidate_expired([made[3].id])
    assert memory.get_live_candidate_stats() == LiveCandidateStats(2, 1, 1, 1, 1)
