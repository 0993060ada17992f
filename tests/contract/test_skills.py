"""Personal skills: what every store answers."""

from __future__ import annotations

from typing import Any

import pytest

from mirror.core.errors import ConfigError
from mirror.storage.memory import Memory
from mirror.storage.models.memory import SKILLS, PersonalSkillCandidate
from tests.contract.kinds import KINDS
from tests.support.storage import Stores

FIXED = {"id", "agent_id", "operator_id", "profile_id", "created_at", "updated_at"}
TIMES = ["last_reviewed_at", "last_used_at", "last_reinforced_at", "last_contradicted_at"]
VALUES = {
    name: value for name, value in (KINDS["skill"].least | KINDS["skill"].full).items() if name not in FIXED
} | dict.fromkeys(TIMES, "2026-11-28T12:00:05.000Z")
NULLABLE = [column.name for column in SKILLS.columns if column.optional and column.name not in FIXED]


def create(memory: Memory, **more: Any) -> PersonalSkillCandidate:
    return memory.create_personal_skill_candidate(**KINDS["skill"].least | more)


def test_a_new_skill(memory: Memory) -> None:
    made = create(memory)
    assert (made.state, made.scope, made.recurrence_count, made.confidence) == ("candidate", "operator", 1, 0.5)
    assert made.agent_id == "argent" and made.last_used_at is None


def test_all_that_can_be_changed_is() -> None:
    assert set(VALUES) == {column.name for column in SKILLS.columns} - FIXED


@pytest.mark.parametrize("field", sorted(VALUES))
def test_changes(stores: Stores, memory: Memory, field: str) -> None:
    made = create(memory)
    stores.clock.forward(seconds=5)
    value = VALUES[field]
    changed = memory.update_personal_skill_candidate(made.id, {field: value})
    assert changed is not None and changed == memory.get_personal_skill_candidate(made.id)
    assert getattr(changed, field) == (tuple(value) if isinstance(value, list) else value)
    assert changed.updated_at > made.updated_at
    others = {column.name for column in SKILLS.columns} - {field, "updated_at"}
    assert all(getattr(changed, name) == getattr(made, name) for name in others)


@pytest.mark.parametrize("field", NULLABLE)
def test_what_may_be_empty_can_be_cleared(memory: Memory, field: str) -> None:
    """The original takes None as "not given" for some of them, so that they can never be cleared."""
    made = create(memory)
    memory.update_personal_skill_candidate(made.id, {field: VALUES[field]})
    changed = memory.update_personal_skill_candidate(made.id, {field: None})
    assert changed is not None and getattr(changed, field) is None


@pytest.mark.parametrize("fields", [{name: "x"} for name in sorted(FIXED)] + [{"usageCount": 1}, {"titel": "x"}])
def test_what_cannot_be_changed_is_refused(memory: Memory, fields: dict[str, Any]) -> None:
    made = create(memory)
    with pytest.raises(ConfigError):
        memory.update_personal_skill_candidate(made.id, {"title": "other"} | fields)
    assert memory.get_personal_skill_candidate(made.id) == made


@pytest.mark.parametrize("fields", [{"title": None}, {"state": None}, {"confidence": "1"}, {"usage_count": 1.5}])
def test_values_that_do_not_fit(memory: Memory, fields: dict[str, Any]) -> None:
    made = create(memory)
    with pytest.raises(ConfigError):
        memory.update_personal_skill_candidate(made.id, fields)
    assert memory.get_personal_skill_candidate(made.id) == made


def test_of_what_is_not_there(memory: Memory) -> None:
    assert memory.update_personal_skill_candidate("no such id", {"title": "x"}) is None


def test_the_list(memory: Memory) -> None:
    low, high = create(memory, confidence=0.25), create(memory, confidence=0.75, state="promoted")
    old, new = create(memory), create(memory)
    assert memory.list_personal_skill_candidates() == [high, new, old, low]
    changed = memory.update_personal_skill_candidate(old.id, {"usage_count": 1})
    assert memory.list_personal_skill_candidates() == [high, changed, new, low]
    assert memory.list_personal_skill_candidates("promoted") == [high]
    assert memory.list_personal_skill_candidates(limit=2) == [high, changed]


def test_reviews(memory: Memory) -> None:
    made = create(memory)
    first = memory.create_personal_skill_review_event(made.id, "system", "authored")
    second = memory.create_personal_skill_review_event(
        candidate_id=made.id, actor_type="operator", action="operator_note", reason="good",
        details={"n": [1, {"é": None}]}, agent_id="other",
    )  # fmt: skip
    memory.create_personal_skill_review_event("another", "system", "authored")
    assert memory.list_personal_skill_review_events(made.id) == [second, first]
    assert memory.list_personal_skill_review_events(candidate_id=made.id, limit=1) == [second]
    assert (first.agent_id, first.details, first.reason) == ("argent", {}, None)
    assert (second.agent_id, second.details) == ("other", {"n": [1, {"é": None}]})


def test_reviews_stay_when_the_skill_goes(memory: Memory) -> None:
    made = create(memory)
    review = memory.create_personal_skill_review_event(made.id, "system", "deleted")
    assert memory.delete_personal_skill_candidate(made.id) is True
    assert memory.list_personal_skill_review_events(made.id) == [review]


@pytest.mark.parametrize("details", ["x", ["x"], {"o": object()}, {"n": float("inf")}])
def test_details_that_are_no_object(memory: Memory, details: Any) -> None:
    with pytest.raises(ConfigError):
        memory.create_personal_skill_review_event("c", "system", "authored", details=details)
