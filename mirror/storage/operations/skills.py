"""Personal skills: procedures that an agent may have learned, and what was done with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mirror.storage.arguments import Name
from mirror.storage.models.memory import SKILL_REVIEWS, SKILLS, PersonalSkillCandidate, PersonalSkillReview
from mirror.storage.operations.base import Context, reads, refuse, settable, texts, without, writes
from mirror.storage.statements import Delete, Insert, Op, Select, Update, eq, every, first, run

_FIXED = {"id", "agent_id", "operator_id", "profile_id", "created_at", "updated_at"}
_LISTS = {column.name for column in SKILLS.columns if column.sequence}


@writes("memory")
def create_personal_skill_candidate(
    ctx: Context,
    title: Name,
    summary: str,
    scope: str = "operator",
    trigger_patterns: Iterable[str] | None = None,
    procedure_outline: str | None = None,
    preconditions: Iterable[str] | None = None,
    execution_steps: Iterable[str] | None = None,
    expected_outcomes: Iterable[str] | None = None,
    related_tools: Iterable[str] | None = None,
    source_memory_ids: Iterable[str] | None = None,
    source_episode_ids: Iterable[str] | None = None,
    source_task_ids: Iterable[str] | None = None,
    source_lesson_ids: Iterable[str] | None = None,
    supersedes_candidate_ids: Iterable[str] | None = None,
    superseded_by_candidate_id: str | None = None,
    conflicts_with_candidate_ids: Iterable[str] | None = None,
    contradiction_count: int = 0,
    evidence_count: int = 0,
    recurrence_count: int = 1,
    confidence: float = 0.5,
    strength: float = 0.5,
    usage_count: int = 0,
    success_count: int = 0,
    failure_count: int = 0,
    state: str = "candidate",
    operator_notes: str | None = None,
    operator_id: str | None = None,
    profile_id: str | None = None,
    agent_id: str | None = None,
) -> Op[PersonalSkillCandidate]:
    """Propose a skill. ``agent_id``: who may have learned it; the adapter's agent by default."""
    given = dict(locals())
    del given["ctx"]
    now = ctx.stamp()
    for name in _LISTS:
        given[name] = texts("create a personal skill", given[name])
    made = PersonalSkillCandidate(**given | {
        "id": ctx.new_id(), "agent_id": ctx.agent if agent_id is None else agent_id, "created_at": now,
        "updated_at": now, "last_reviewed_at": None, "last_used_at": None, "last_reinforced_at": None,
        "last_contradicted_at": None,
    })  # fmt: skip
    yield from run(Insert(SKILLS, without(made)))
    return made


@reads("memory")
def get_personal_skill_candidate(ctx: Context, candidate_id: str) -> Op[PersonalSkillCandidate | None]:
    """A personal skill; None if there is none with this id."""
    return first((yield from run(Select(SKILLS, eq("id", candidate_id)))))


@reads("memory")
def list_personal_skill_candidates(
    ctx: Context, state: str | None = None, limit: int = 50
) -> Op[list[PersonalSkillCandidate]]:
    """Personal skills, those with most confidence first, then those that were changed last."""
    wanted = every(None if state is None else eq("state", state))
    return (yield from run(Select(SKILLS, wanted, ("-confidence", "-updated_at"), limit)))


@writes("memory", many=True)
def update_personal_skill_candidate(
    ctx: Context, candidate_id: str, fields: Mapping[str, Any]
) -> Op[PersonalSkillCandidate | None]:
    """Set some of a personal skill's columns, but for its id, its agent, operator and profile, and created_at.

    None as a value clears what may be empty. None if there is no such skill.
    """
    values = settable("update a personal skill", fields, set(SKILLS.by_name) - _FIXED)
    for name in _LISTS & set(values):
        values[name] = texts("update a personal skill", values[name])
    yield from run(Update(SKILLS, values | {"updated_at": ctx.stamp()}, eq("id", candidate_id)))
    return first((yield from run(Select(SKILLS, eq("id", candidate_id)))))


@writes("memory")
def delete_personal_skill_candidate(ctx: Context, candidate_id: str) -> Op[bool]:
    """Delete a personal skill; its reviews stay. False if there is no such skill."""
    return (yield from run(Delete(SKILLS, eq("id", candidate_id)))) > 0


@writes("memory")
def create_personal_skill_review_event(
    ctx: Context,
    candidate_id: str,
    actor_type: str,
    action: str,
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
    agent_id: str | None = None,
) -> Op[PersonalSkillReview]:
    """Note what was done with a personal skill; ``actor_type``: system or operator."""
    agent = ctx.agent if agent_id is None else agent_id
    if details is not None and not isinstance(details, Mapping):
        refuse("note what was done with a skill", f"{details!r:.60}", "details need an object")
    made = PersonalSkillReview(
        ctx.new_id(), candidate_id, agent, actor_type, action, reason, dict(details or {}), ctx.stamp()
    )
    yield from run(Insert(SKILL_REVIEWS, without(made)))
    return made


@reads("memory")
def list_personal_skill_review_events(
    ctx: Context, candidate_id: str, limit: int = 20
) -> Op[list[PersonalSkillReview]]:
    """What was done with a personal skill, the newest first."""
    return (yield from run(Select(SKILL_REVIEWS, eq("candidate_id", candidate_id), ("-created_at",), limit)))
