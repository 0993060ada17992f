"""The live inbox: facts from running conversations that may become memories, and what was decided about each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any, Literal

from mirror.storage.arguments import Name
from mirror.storage.models.memory import CANDIDATES, PROMOTIONS, LiveCandidate, PromotionEvent
from mirror.storage.models.results import LiveCandidateStats
from mirror.storage.operations.base import Context, at_least, content_hash, iso, one_of, reads, texts, without, writes
from mirror.storage.statements import Compare, CountBy, Insert, Op, Select, Update, eq, every, first, run
from mirror.storage.tables import Time

Role = Literal["user", "assistant"]


@writes("memory")
def create_live_candidate(
    ctx: Context,
    role: Role,
    candidate_type: Name,
    fact_text: str,
    confidence: float,
    session_key: str | None = None,
    message_id: str | None = None,
    trigger_flags: Iterable[str] | None = None,
    entities: Iterable[str] | None = None,
    memory_type_hint: str | None = None,
    significance_hint: str | None = None,
    ttl_hours: float = 24,
) -> Op[LiveCandidate | None]:
    """Note a fact; None if this role said the same in this conversation before. It expires in ``ttl_hours``."""
    one_of("create a live candidate", role, ("user", "assistant"))
    hours = at_least("create a live candidate", ttl_hours, 0, 1e6)
    flags, about = texts("create a live candidate", trigger_flags), texts("create a live candidate", entities)
    begun = ctx.clock()
    now = iso(begun)
    made = LiveCandidate(
        ctx.new_id(), session_key, message_id, role, candidate_type, fact_text, content_hash(fact_text), confidence,
        flags, about, memory_type_hint, significance_hint, now, iso(begun + timedelta(hours=hours)), "pending",
        None, None, now, now,
    )  # fmt: skip
    kept = yield from run(Insert(CANDIDATES, without(made, "promoted_item_id", "promotion_reason"), True))
    return made if kept else None


@reads("memory")
def get_live_candidate(ctx: Context, candidate_id: str) -> Op[LiveCandidate | None]:
    """A live candidate; None if there is none with this id."""
    return first((yield from run(Select(CANDIDATES, eq("id", candidate_id)))))


@reads("memory")
def list_live_candidates(
    ctx: Context,
    status: str | None = None,
    limit: int = 50,
    session_key: str | None = None,
    expires_before: Time | None = None,
) -> Op[list[LiveCandidate]]:
    """Live candidates, the newest first; ``expires_before``: a time."""
    wanted = every(
        None if status is None else eq("status", status),
        None if session_key is None else eq("session_key", session_key),
        None if expires_before is None else Compare("expires_at", "lt", expires_before),
    )
    return (yield from run(Select(CANDIDATES, wanted, ("-created_at",), limit)))


@writes("memory", many=True)
def mark_live_candidate_promoted(
    ctx: Context, candidate_id: str, promoted_to_item_id: str, reason: str | None = None
) -> Op[bool]:
    """Note that a candidate became an item; False if there is no such candidate."""
    values = {"status": "promoted", "promoted_item_id": promoted_to_item_id, "promotion_reason": reason}
    return (yield from _decide(ctx, candidate_id, values, "promote", reason))


@writes("memory", many=True)
def mark_live_candidate_merged(ctx: Context, candidate_id: str, merged_into_item_id: str) -> Op[bool]:
    """Note that a candidate says what an item says already; False if there is no such candidate."""
    values = {"status": "merged", "promoted_item_id": merged_into_item_id, "promotion_reason": "dedup-reinforce"}
    return (yield from _decide(ctx, candidate_id, values, "merge", "dedup-reinforce"))


@writes("memory", many=True)
def mark_live_candidate_discarded(ctx: Context, candidate_id: str, reason: str, actor: str = "runtime") -> Op[bool]:
    """Note that a candidate will not become an item; False if there is no such candidate."""
    values = {"status": "discarded", "promotion_reason": reason}
    return (yield from _decide(ctx, candidate_id, values, "discard", reason, actor))


@writes("memory", many=True)
def mark_live_candidate_expired(ctx: Context, candidate_ids: Iterable[str]) -> Op[int]:
    """Note of candidates that nothing was decided in time; returns of how many of them that was so."""
    expired = 0
    for candidate_id in dict.fromkeys(texts("expire live candidates", candidate_ids)):
        values = {"status": "expired", "updated_at": ctx.stamp()}
        pending = every(eq("id", candidate_id), eq("status", "pending"))
        if (yield from run(Update(CANDIDATES, values, pending))):
            yield from _note(ctx, candidate_id, "runtime", "expire")
            expired += 1
    return expired


def _decide(
    ctx: Context, candidate_id: str, values: Mapping[str, Any], action: str, reason: str | None, actor: str = "runtime"
) -> Op[bool]:
    changed = yield from run(Update(CANDIDATES, dict(values) | {"updated_at": ctx.stamp()}, eq("id", candidate_id)))
    if changed:
        yield from _note(ctx, candidate_id, actor, action, reason=reason)
    return changed > 0


def _note(
    ctx: Context,
    candidate_id: str,
    actor: str,
    action: str,
    result: str = "ok",
    reason: str | None = None,
    error: str | None = None,
) -> Op[PromotionEvent]:
    made = PromotionEvent(ctx.new_id(), candidate_id, actor, action, result, reason, error, ctx.stamp())
    yield from run(Insert(PROMOTIONS, without(made)))
    return made


@writes("memory")
def record_promotion_event(
    ctx: Context,
    candidate_id: str,
    actor: str,
    action: str,
    result: Literal["ok", "error"] = "ok",
    reason: str | None = None,
    error: str | None = None,
) -> Op[PromotionEvent]:
    """Keep what was decided about a candidate, or what went wrong."""
    one_of("record a promotion event", result, ("ok", "error"))
    return (yield from _note(ctx, candidate_id, actor, action, result, reason, error))


@reads("memory")
def list_promotion_events(ctx: Context, candidate_id: str, limit: int = 50) -> Op[list[PromotionEvent]]:
    """What was decided about a candidate, the newest first."""
    return (yield from run(Select(PROMOTIONS, eq("candidate_id", candidate_id), ("-created_at",), limit)))


@reads("memory")
def get_live_candidate_stats(ctx: Context) -> Op[LiveCandidateStats]:
    """The number of candidates of each status."""
    found = yield from run(CountBy(CANDIDATES, "status"))
    known = [field.name for field in fields(LiveCandidateStats)]
    return LiveCandidateStats(**{name: found.get(name, 0) for name in known})
