"""Reflections: what an agent thought about a period."""

from __future__ import annotations

from collections.abc import Iterable

from mirror.storage.models.memory import REFLECTIONS, Reflection
from mirror.storage.operations.base import Context, reads, texts, without, writes
from mirror.storage.statements import Insert, Op, Select, eq, every, first, run
from mirror.storage.tables import Time


@writes("memory")
def create_reflection(
    ctx: Context,
    trigger_type: str,
    content: str,
    period_start: Time | None = None,
    period_end: Time | None = None,
    lessons_extracted: Iterable[str] | None = None,
    entities_involved: Iterable[str] | None = None,
    self_insights: Iterable[str] | None = None,
    mood: str | None = None,
    agent_id: str | None = None,
) -> Op[Reflection]:
    """Keep a reflection; ``trigger_type``: what made the agent think, as in ``heartbeat``."""
    ctx.require_agent(agent_id)
    operation = "create a reflection"
    made = Reflection(
        ctx.new_id(), trigger_type, period_start, period_end, content, texts(operation, lessons_extracted),
        texts(operation, entities_involved), texts(operation, self_insights), mood, ctx.stamp(),
    )  # fmt: skip
    yield from run(Insert(REFLECTIONS, without(made)))
    return made


@reads("memory")
def get_reflection(ctx: Context, reflection_id: str) -> Op[Reflection | None]:
    """A reflection; None if there is none with this id."""
    return first((yield from run(Select(REFLECTIONS, eq("id", reflection_id)))))


@reads("memory")
def list_reflections(ctx: Context, trigger_type: str | None = None, limit: int | None = None) -> Op[list[Reflection]]:
    """Reflections, the newest first."""
    wanted = every(None if trigger_type is None else eq("trigger_type", trigger_type))
    return (yield from run(Select(REFLECTIONS, wanted, ("-created_at",), limit)))


@reads("memory")
def get_recent_reflections(ctx: Context, limit: int = 5) -> Op[list[Reflection]]:
    """The newest reflections, the newest first."""
    return (yield from run(Select(REFLECTIONS, order=("-created_at",), limit=limit)))
