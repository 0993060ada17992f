"""Model feedback: how models did, request by request."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Literal

from mirror.storage.models.memory import FEEDBACK, ModelFeedback
from mirror.storage.models.results import ModelPerformance, TierPerformance
from mirror.storage.operations.base import Context, at_least, iso, one_of, reads, without, writes
from mirror.storage.statements import (
    Compare,
    Condition,
    Count,
    Insert,
    Op,
    Select,
    Summary,
    Update,
    eq,
    every,
    first,
    run,
)

Rating = Literal["up", "down"]


@writes("memory")
def record_model_feedback(
    ctx: Context,
    provider: str,
    model: str,
    tier: str,
    session_type: str,
    complexity_score: float,
    duration_ms: int,
    success: bool,
    error_type: str | None = None,
    input_tokens: int = 0,
    output_tokens: int = 0,
    total_tokens: int = 0,
    tool_call_count: int = 0,
    session_key: str | None = None,
    profile: str | None = None,
    agent_id: str | None = None,
) -> Op[ModelFeedback]:
    """Keep how a model did in a request of ``duration_ms`` milliseconds."""
    ctx.require_agent(agent_id)
    made = ModelFeedback(
        ctx.new_id(), provider, model, tier, session_type, complexity_score, duration_ms, success, error_type,
        input_tokens, output_tokens, total_tokens, tool_call_count, None, session_key, profile, ctx.stamp(), None, None,
    )  # fmt: skip
    yield from run(Insert(FEEDBACK, without(made, "user_feedback", "self_eval_score", "self_eval_reasoning")))
    return made


@reads("memory")
def get_model_feedback(ctx: Context, feedback_id: str) -> Op[ModelFeedback | None]:
    """How a model did in a request; None if there is none with this id."""
    return first((yield from run(Select(FEEDBACK, eq("id", feedback_id)))))


@reads("memory")
def get_latest_model_feedback_id(ctx: Context, session_key: str) -> Op[str | None]:
    """The id of a conversation's newest feedback; None if it has none."""
    found = yield from run(Select(FEEDBACK, eq("session_key", session_key), ("-created_at",), 1))
    return found[0].id if found else None


@writes("memory")
def update_model_feedback_self_eval(ctx: Context, feedback_id: str, score: float, reasoning: str) -> Op[bool]:
    """Set what the agent thought of its answer; False if there is no such feedback."""
    values = {"self_eval_score": score, "self_eval_reasoning": reasoning}
    return (yield from run(Update(FEEDBACK, values, eq("id", feedback_id)))) > 0


@writes("memory")
def update_model_feedback_user_rating(ctx: Context, session_key: str, feedback: Rating) -> Op[int]:
    """Set what the user thought (up or down) of a conversation's requests without a rating; returns how many."""
    values = {"user_feedback": one_of("rate an answer", feedback, ("up", "down"))}
    return (yield from run(Update(FEEDBACK, values, every(eq("session_key", session_key), eq("user_feedback", None)))))


def _since(ctx: Context, days: float | None) -> Condition | None:
    if days is None:
        return None
    at = ctx.clock() - timedelta(days=at_least("read feedback", days, 0, 1e6))
    return Compare("created_at", "gt", iso(at))


def _rounded(mean: float | None) -> int:
    return math.floor((mean or 0) + 0.5)


@reads("memory")
def get_model_performance_stats(
    ctx: Context,
    provider: str | None = None,
    model: str | None = None,
    session_type: str | None = None,
    since_days_ago: float | None = None,
) -> Op[list[ModelPerformance]]:
    """How each model did, those with most requests first."""
    given = {"provider": provider, "model": model, "session_type": session_type}
    wanted = every(
        *[eq(name, value) for name, value in given.items() if value is not None], _since(ctx, since_days_ago)
    )
    counts = (eq("success", True), eq("user_feedback", "up"), eq("user_feedback", "down"))
    means = ("duration_ms", "input_tokens", "output_tokens")
    rows = yield from run(Summary(FEEDBACK, ("provider", "model"), means, counts, wanted))
    made = [
        ModelPerformance(
            provider_, model_, total, good, total - good, good / total,
            _rounded(duration), _rounded(tokens_in), _rounded(tokens_out), up, down,
        )
        for provider_, model_, total, duration, tokens_in, tokens_out, good, up, down in rows
    ]  # fmt: skip
    return sorted(made, key=lambda one: (-one.total_requests, one.provider, one.model))


@reads("memory")
def get_model_performance_by_tier(ctx: Context, since_days_ago: float | None = None) -> Op[list[TierPerformance]]:
    """How each model did in each tier, by tier; in each, those with most requests first."""
    by, means = ("tier", "provider", "model"), ("duration_ms", "total_tokens")
    rows = yield from run(Summary(FEEDBACK, by, means, (eq("success", True),), every(_since(ctx, since_days_ago))))
    made = [
        TierPerformance(tier, provider, model, total, good / total, _rounded(duration), _rounded(tokens))
        for tier, provider, model, total, duration, tokens, good in rows
    ]
    return sorted(made, key=lambda one: (one.tier, -one.total_requests, one.provider, one.model))


@reads("memory")
def count_model_feedback(ctx: Context) -> Op[int]:
    """The number of requests that feedback was kept of."""
    return (yield from run(Count(FEEDBACK)))
