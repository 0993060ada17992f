"""Sessions, what was observed in them, and the agent's entry in the registry. In Postgres alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mirror.storage.models.sessions import AGENTS, SESSION_OBSERVATIONS, SESSIONS, Agent, AgentSession, Observation
from mirror.storage.operations.base import Context, reads, without, writes
from mirror.storage.statements import (
    Compare,
    Contains,
    Delete,
    Insert,
    OneOf,
    Op,
    Select,
    Update,
    eq,
    every,
    first,
    run,
)
from mirror.storage.tables import Millis


@reads("postgres")
def get_agent(ctx: Context) -> Op[Agent | None]:
    """This agent's entry in the registry; None if it has none, and so sees nothing that others share."""
    return first((yield from run(Select(AGENTS))))


@writes("postgres")
def start(
    ctx: Context, session_key: str, title: str | None = None, metadata: Mapping[str, Any] | None = None
) -> Op[AgentSession]:
    """Begin a session."""
    made = AgentSession(ctx.new_id(), session_key, title, dict(metadata or {}), ctx.millis(), None)
    yield from run(Insert(SESSIONS, without(made)))
    return made


@reads("postgres")
def get(ctx: Context, session_id: str) -> Op[AgentSession | None]:
    """A session; None if there is none."""
    return first((yield from run(Select(SESSIONS, eq("id", session_id)))))


@reads("postgres")
def list_(
    ctx: Context,
    session_key: str | None = None,
    open_only: bool = False,
    since: Millis | None = None,
    until: Millis | None = None,
    limit: int = 50,
    offset: int = 0,
) -> Op[list[AgentSession]]:
    """Sessions, the newest first. ``since``, ``until``: when they began, milliseconds since 1970, both inclusive."""
    wanted = every(
        None if session_key is None else eq("session_key", session_key),
        Compare("ended_at", "eq", None) if open_only else None,
        None if since is None else Compare("started_at", "gte", since),
        None if until is None else Compare("started_at", "lte", until),
    )
    return (yield from run(Select(SESSIONS, wanted, ("-started_at",), limit, offset)))


@writes("postgres")
def end(ctx: Context, session_id: str) -> Op[bool]:
    """End a session; False if there is none, or it has ended."""
    wanted = every(eq("id", session_id), Compare("ended_at", "eq", None))
    return (yield from run(Update(SESSIONS, {"ended_at": ctx.millis()}, wanted))) > 0


@writes("postgres", many=True)
def delete(ctx: Context, session_id: str) -> Op[bool]:
    """Delete a session with what was observed in it; False if there is none."""
    yield from run(Delete(SESSION_OBSERVATIONS, eq("session_id", session_id)))
    return (yield from run(Delete(SESSIONS, eq("id", session_id)))) > 0


@writes("postgres")
def observe(
    ctx: Context,
    session_id: str | None,
    kind: str,
    content: str,
    metadata: Mapping[str, Any] | None = None,
) -> Op[int]:
    """Note something that happened; returns its time, milliseconds since 1970."""
    now = ctx.millis()
    values = {
        "session_id": session_id, "kind": kind, "content": content, "metadata": dict(metadata or {}),
        "observed_at": now,
    }  # fmt: skip
    yield from run(Insert(SESSION_OBSERVATIONS, values))
    return now


@reads("postgres")
def list_observations(
    ctx: Context,
    session_id: str | None = None,
    kinds: Sequence[str] | None = None,
    contains: str | None = None,
    since: Millis | None = None,
    until: Millis | None = None,
    limit: int = 50,
    offset: int = 0,
) -> Op[list[Observation]]:
    """What was observed, the newest first. ``contains``: a part of the content; ``kinds``: any of them."""
    wanted = every(
        None if session_id is None else eq("session_id", session_id),
        OneOf("kind", tuple(kinds)) if kinds else None,
        None if contains is None else Contains("content", contains),
        None if since is None else Compare("observed_at", "gte", since),
        None if until is None else Compare("observed_at", "lte", until),
    )
    return (yield from run(Select(SESSION_OBSERVATIONS, wanted, ("-observed_at", "-id"), limit, offset)))
