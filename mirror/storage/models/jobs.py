"""Rows of recurring jobs, which are in Postgres alone. Times are milliseconds since 1970.

``agent_id`` is the agent that does the work, as it is of a task: one adapter has jobs for several.
"""

from __future__ import annotations

from dataclasses import dataclass

from mirror.storage.tables import Json, Millis, Row, Texts, table_of

_AGENT = {"agent_id": "source_agent_id"}


@dataclass(frozen=True, slots=True)
class JobTemplate(Row, table="job_templates", source="postgres"):
    """A kind of work: the role, how it is done, and which tools it may use."""

    id: str
    name: str
    department_id: str | None
    description: str | None
    role_prompt: str
    sop: str | None
    success_definition: str | None
    default_mode: str
    default_stage: str
    tools_allow: Texts
    tools_deny: Texts
    relationship_contract: Json
    tags: Texts
    metadata: Json
    created_at: Millis
    updated_at: Millis


@dataclass(frozen=True, slots=True)
class JobAssignment(Row, table="job_assignments", source="postgres", stored=_AGENT):
    """A template that an agent works by, every so many minutes, up to a stage of deployment."""

    id: str
    template_id: str
    agent_id: str
    title: str
    enabled: bool
    cadence_minutes: int
    execution_mode: str
    deployment_stage: str
    promotion_state: str
    scope_limit: str | None
    review_required: bool
    next_run_at: Millis | None
    last_run_at: Millis | None
    metadata: Json
    created_at: Millis
    updated_at: Millis


@dataclass(frozen=True, slots=True)
class JobRun(Row, table="job_runs", source="postgres", stored=_AGENT):
    """One time that an assignment was worked on, by a task, and what a person said of it."""

    id: str
    assignment_id: str
    template_id: str
    agent_id: str
    task_id: str
    execution_mode: str
    deployment_stage: str
    review_status: str
    reviewed_by: str | None
    reviewed_at: Millis | None
    status: str
    summary: str | None
    blockers: str | None
    metadata: Json
    created_at: Millis
    started_at: Millis
    ended_at: Millis | None


@dataclass(frozen=True, slots=True)
class JobEvent(Row, table="job_events", source="postgres"):
    """Something that happened, for which assignments may have a task made."""

    id: str
    event_type: str
    source: str
    idempotency_key: str | None
    target_agent_id: str | None
    payload: Json
    metadata: Json
    created_at: Millis
    processed_at: Millis | None
    outcome: str | None


TEMPLATES = table_of(JobTemplate)
ASSIGNMENTS = table_of(JobAssignment)
RUNS = table_of(JobRun)
EVENTS = table_of(JobEvent)


@dataclass(frozen=True, slots=True)
class JobContext:
    """The assignment for which a task was made, and its template."""

    assignment: JobAssignment
    template: JobTemplate


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """Which tools a session may use (None: all) and which not (None: none)."""

    tools_allow: tuple[str, ...] | None
    tools_deny: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class EnqueuedEvent:
    """Whether an event is new, and the event: the earlier one with its idempotency key, if it is not."""

    accepted: bool
    event: JobEvent


@dataclass(frozen=True, slots=True)
class ProcessedEvents:
    """How many events were taken, and how many tasks were made for them."""

    processed_events: int
    created_tasks: int
