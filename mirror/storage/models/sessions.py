"""Rows of sessions and of what was observed in them, and of agents, in Postgres alone."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.storage.tables import Json, Millis, Row, table_of


@dataclass(frozen=True, slots=True)
class AgentSession(Row, table="sessions", source="postgres"):
    """A conversation or a run of an agent. Times are milliseconds since 1970."""

    id: str
    session_key: str
    title: str | None
    metadata: Json
    started_at: Millis
    ended_at: Millis | None


@dataclass(frozen=True, slots=True)
class Observation(Row, table="observations", source="postgres"):
    """Something that happened in a session. Postgres gives the ids, in the order of writing."""

    id: int
    session_id: str | None
    kind: str
    content: str
    metadata: Json
    observed_at: Millis


@dataclass(frozen=True, slots=True)
class Agent(Row, table="agents", source="postgres", key=("agent_id",)):
    """An agent's entry in the registry, which the mirror or an administrator makes."""

    agent_id: str
    display_name: str | None
    created_at: Millis


SESSIONS = table_of(AgentSession)
SESSION_OBSERVATIONS = table_of(Observation)
AGENTS = table_of(Agent)
