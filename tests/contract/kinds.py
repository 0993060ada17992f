"""What can be created, with all arguments that a test needs, and how it is read again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mirror.storage.memory import Memory


@dataclass(frozen=True)
class Kind:
    """A kind of rows: how one is created, read and deleted."""

    create: str
    least: dict[str, Any]
    """The arguments that are needed."""
    full: dict[str, Any]
    """All others, each with a value other than its default."""
    get: str = ""
    delete: str = ""

    def make(self, memory: Memory, **more: Any) -> Any:
        """Create one."""
        return getattr(memory, self.create)(**self.least | more)

    def read(self, memory: Memory, made: Any) -> Any:
        """Read it again."""
        return getattr(memory, self.get)(made.id)


KINDS = {
    "resource": Kind(
        "create_resource",
        {"url": "session:1"},
        {"modality": "image", "local_path": "/x/y.png", "caption": "a cat"},
        "get_resource",
        "delete_resource",
    ),
    "item": Kind(
        "create_item",
        {"memory_type": "event", "summary": "Met Ada"},
        {
            "happened_at": "2026-11-01T10:00:00.000Z", "extra": {"topic": "people", "n": [1, 2.5, None, {"é": True}]},
            "emotional_valence": -1.5, "emotional_arousal": 0.25, "mood_at_capture": "calm", "significance": "core",
            "reflection": "it mattered", "lesson": "ask earlier",
        },
        "get_item",
        "delete_item",
    ),
    "category": Kind(
        "create_category", {"name": "work"}, {"description": "what is paid"}, "get_category", "delete_category"
    ),
    "entity": Kind(
        "create_entity",
        {"name": "Ada"},
        {"entity_type": "pet", "relationship": "cat", "bond_strength": 0.875, "emotional_texture": "warm"},
        "get_entity",
        "delete_entity",
    ),
    "reflection": Kind(
        "create_reflection",
        {"trigger_type": "heartbeat", "content": "A quiet day"},
        {
            "period_start": "2026-11-27T00:00:00.000Z", "period_end": "2026-11-28T00:00:00.000Z",
            "lessons_extracted": ["one", "two"], "entities_involved": ["Ada"], "self_insights": ["I wait"],
            "mood": "calm",
        },
        "get_reflection",
    ),
    "lesson": Kind(
        "create_lesson",
        {"type": "mistake", "context": "a build", "action": "deployed", "outcome": "it failed", "lesson": "test it"},
        {
            "correction": "run the tests", "confidence": 0.75, "tags": ["build", "ci"], "related_tools": ["make"],
            "source_episode_ids": ["e1", "e2"],
        },
        "get_lesson",
        "delete_lesson",
    ),
    "skill": Kind(
        "create_personal_skill_candidate",
        {"title": "Deploy", "summary": "How to deploy"},
        {
            "scope": "family", "trigger_patterns": ["deploy *"], "procedure_outline": "1, 2, 3",
            "preconditions": ["green"], "execution_steps": ["build", "push"], "expected_outcomes": ["live"],
            "related_tools": ["make"], "source_memory_ids": ["m1"], "source_episode_ids": ["e1"],
            "source_task_ids": ["t1"], "source_lesson_ids": ["l1"], "supersedes_candidate_ids": ["c0"],
            "superseded_by_candidate_id": "c9", "conflicts_with_candidate_ids": ["c7"], "contradiction_count": 1,
            "evidence_count": 2, "recurrence_count": 3, "confidence": 0.25, "strength": 0.125, "usage_count": 4,
            "success_count": 5, "failure_count": 6, "state": "incubating", "operator_notes": "careful",
            "operator_id": "op", "profile_id": "profile", "agent_id": "other",
        },
        "get_personal_skill_candidate",
        "delete_personal_skill_candidate",
    ),
    "candidate": Kind(
        "create_live_candidate",
        {"role": "user", "candidate_type": "preference", "fact_text": "Likes tea", "confidence": 0.5},
        {
            "session_key": "s1", "message_id": "m1", "trigger_flags": ["likes"], "entities": ["Ada"],
            "memory_type_hint": "profile", "significance_hint": "noteworthy", "ttl_hours": 1,
        },
        "get_live_candidate",
    ),
    "feedback": Kind(
        "record_model_feedback",
        {
            "provider": "p", "model": "m", "tier": "fast", "session_type": "chat", "complexity_score": 0.5,
            "duration_ms": 120, "success": True,
        },
        {
            "error_type": "timeout", "input_tokens": 10, "output_tokens": 20, "total_tokens": 30,
            "tool_call_count": 2, "session_key": "s1", "profile": "default",
        },
        "get_model_feedback",
    ),
}  # fmt: skip

DELETABLE = [name for name, kind in KINDS.items() if kind.delete]
