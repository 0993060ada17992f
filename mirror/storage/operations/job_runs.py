"""Runs of jobs and their reviews, and the events that cause jobs. In Postgres alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mirror.core.errors import StorageError
from mirror.storage.arguments import Name
from mirror.storage.models.jobs import ASSIGNMENTS, EVENTS, RUNS, EnqueuedEvent, JobAssignment, JobEvent, JobRun
from mirror.storage.operations.base import Context, iso, reads, without, writes
from mirror.storage.operations.jobs import STAGES, Mode, Stage, cleaned, mode_of, one, set_columns, stage_of
from mirror.storage.statements import Compare, Insert, Op, Select, Update, eq, every, first, run
from mirror.storage.tables import Millis

RunStatus = Literal["running", "completed", "blocked", "failed"]
ReviewStatus = Literal["pending", "approved", "held", "rolled-back"]
EventSource = Literal["internal_hook", "webhook", "manual", "system"]
Action = Literal["promote", "hold", "rollback"]

#: Reviews that a run keeps at most: the newest.
MOST_REVIEWS = 25
_SOURCES = ("internal_hook", "webhook", "manual", "system")


# -- runs ----------------------------------------------------------------------------------------------


def new_run(ctx: Context, assignment: JobAssignment, task_id: str, metadata: Mapping[str, Any]) -> JobRun:
    """A run of an assignment that begins now, and is not kept yet."""
    now = ctx.millis()
    return JobRun(
        id=ctx.new_id(),
        assignment_id=assignment.id,
        template_id=assignment.template_id,
        agent_id=assignment.agent_id,
        task_id=task_id,
        execution_mode=assignment.execution_mode,
        deployment_stage=assignment.deployment_stage,
        review_status=_review(assignment.execution_mode),
        reviewed_by=None,
        reviewed_at=None,
        status="running",
        summary=None,
        blockers=None,
        metadata=dict(metadata),
        created_at=now,
        started_at=now,
        ended_at=None,
    )


def _review(mode: str) -> ReviewStatus:
    return "approved" if mode == "live" else "pending"


@writes("postgres")
def create_run(
    ctx: Context,
    assignment_id: str,
    template_id: str,
    agent_id: str,
    task_id: str,
    execution_mode: Mode,
    deployment_stage: Stage | None = None,
    review_status: ReviewStatus | None = None,
    reviewed_by: str | None = None,
    reviewed_at: Millis | None = None,
    status: RunStatus = "running",
    summary: str | None = None,
    blockers: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Op[JobRun]:
    """Say that an assignment is worked on. A simulation waits for a review, unless a status of review is given."""
    now = ctx.millis()
    made = JobRun(
        id=ctx.new_id(),
        assignment_id=assignment_id,
        template_id=template_id,
        agent_id=agent_id,
        task_id=task_id,
        execution_mode=execution_mode,
        deployment_stage=deployment_stage or stage_of(execution_mode),
        review_status=review_status or _review(execution_mode),
        reviewed_by=reviewed_by,
        reviewed_at=reviewed_at,
        status=status,
        summary=summary,
        blockers=blockers,
        metadata=dict(metadata or {}),
        created_at=now,
        started_at=now,
        ended_at=None,
    )
    yield from run(Insert(RUNS, without(made)))
    return made


@writes("postgres", many=True)
def review_run(
    ctx: Context,
    run_id: str,
    review_status: ReviewStatus,
    reviewed_by: str | None = None,
    notes: str | None = None,
    action: Action | None = None,
    target_stage: Stage | None = None,
) -> Op[JobRun | None]:
    """Say what a person thinks of a run, and maybe what follows for its assignment. None if there is no such run.

    ``promote``: to the next stage, or to ``target_stage``; ``hold``: stays where it is; ``rollback``: back to
    simulation, and not enabled. The run's metadata keeps the last :data:`MOST_REVIEWS` reviews.
    """
    found: JobRun | None = yield from one(RUNS, run_id)
    if found is None:
        return None
    moment = ctx.clock()
    review = {
        "status": review_status, "reviewedBy": reviewed_by, "reviewedAt": iso(moment), "notes": notes,
        "action": action, "targetStage": target_stage,
    }  # fmt: skip
    history = found.metadata.get("reviewHistory")
    earlier = [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []
    metadata = found.metadata | {"review": review, "reviewHistory": [*earlier, review][-MOST_REVIEWS:]}
    now = int(moment.timestamp() * 1000)
    values = {"review_status": review_status, "reviewed_by": reviewed_by, "reviewed_at": now, "metadata": metadata}
    changed: JobRun | None = yield from set_columns(RUNS, run_id, values)
    assignment: JobAssignment | None = None
    if action is not None:
        assignment = yield from one(ASSIGNMENTS, found.assignment_id)
    if action is not None and assignment is not None:
        follows = _following(assignment, action, target_stage) | {"updated_at": now}
        yield from run(Update(ASSIGNMENTS, follows, eq("id", assignment.id)))
    return changed


def _following(assignment: JobAssignment, action: Action, target: Stage | None) -> dict[str, Any]:
    if action == "hold":
        return {"promotion_state": "held", "review_required": True}
    if action == "rollback":
        return {
            "deployment_stage": "simulate", "execution_mode": "simulate", "promotion_state": "rolled-back",
            "review_required": True, "enabled": False,
        }  # fmt: skip
    now_at = next((at for at, each in enumerate(STAGES) if each == assignment.deployment_stage), 0)
    stage = target or STAGES[min(now_at + 1, len(STAGES) - 1)]
    return {
        "deployment_stage": stage, "execution_mode": mode_of(stage), "promotion_state": "approved-next-stage",
        "review_required": stage != "live", "enabled": True,
    }  # fmt: skip


@writes("postgres", many=True)
def complete_run_for_task(
    ctx: Context,
    task_id: str,
    status: Literal["completed", "blocked", "failed"],
    summary: str | None = None,
    blockers: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Op[JobRun | None]:
    """End the newest run of a task that is running; None if there is none. What is not given stays as it is."""
    wanted = every(eq("task_id", task_id), eq("status", "running"))
    found: JobRun | None = first((yield from run(Select(RUNS, wanted, ("-started_at",), 1))))
    if found is None:
        return None
    values: dict[str, Any] = {"status": status, "ended_at": ctx.millis()}
    more = {"summary": summary, "blockers": blockers, "metadata": None if metadata is None else dict(metadata)}
    values |= {name: value for name, value in more.items() if value is not None}
    changed: JobRun | None = yield from set_columns(RUNS, found.id, values)
    return changed


@reads("postgres")
def list_runs(
    ctx: Context, assignment_id: str | None = None, task_id: str | None = None, limit: int = 50
) -> Op[list[JobRun]]:
    """Runs, the newest first."""
    wanted = every(
        None if assignment_id is None else eq("assignment_id", assignment_id),
        None if task_id is None else eq("task_id", task_id),
    )
    return (yield from run(Select(RUNS, wanted, ("-started_at",), limit)))


# -- events --------------------------------------------------------------------------------------------


@writes("postgres", many=True)
def enqueue_event(
    ctx: Context,
    event_type: Name,
    source: EventSource = "system",
    idempotency_key: str | None = None,
    target_agent_id: str | None = None,
    payload: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Op[EnqueuedEvent]:
    """Keep an event until tasks are made for it; once only for each idempotency key.

    ``target_agent_id``: only this agent's assignments get a task.
    """
    kind = event_type.strip()
    if not kind:
        raise StorageError("enqueue an event", detail="it has no type", next_step="give an event_type")
    made = JobEvent(
        id=ctx.new_id(),
        event_type=kind,
        source=source if source in _SOURCES else "system",
        idempotency_key=cleaned(idempotency_key),
        target_agent_id=cleaned(target_agent_id),
        payload=dict(payload or {}),
        metadata=dict(metadata or {}),
        created_at=ctx.millis(),
        processed_at=None,
        outcome=None,
    )
    if (yield from run(Insert(EVENTS, without(made), ignore=True))):
        return EnqueuedEvent(True, made)
    earlier = first((yield from run(Select(EVENTS, eq("idempotency_key", made.idempotency_key)))))
    return EnqueuedEvent(False, earlier or made)


@reads("postgres")
def list_events(
    ctx: Context, event_type: str | None = None, processed: bool | None = None, limit: int = 100
) -> Op[list[JobEvent]]:
    """Events, the newest first. ``processed``: those for which tasks were made, or those that wait."""
    wanted = every(
        None if event_type is None else eq("event_type", event_type),
        None if processed is None else Compare("processed_at", "ne" if processed else "eq", None),
    )
    return (yield from run(Select(EVENTS, wanted, ("-created_at",), limit)))
