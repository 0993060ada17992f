"""Tasks that are made for jobs: because an assignment is due, or because something happened.

Each is made once, however many programs ask at the same time: an assignment, or an event, is taken by an update that
only the first of them can do. (The original makes a task for each of them.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mirror.storage.models.dashboard import TASKS, Task
from mirror.storage.models.jobs import (
    ASSIGNMENTS,
    EVENTS,
    RUNS,
    TEMPLATES,
    JobAssignment,
    JobEvent,
    JobTemplate,
    ProcessedEvents,
)
from mirror.storage.operations.base import Context, without, writes
from mirror.storage.operations.job_runs import new_run
from mirror.storage.operations.jobs import ASSIGNMENT
from mirror.storage.operations.tasks import new
from mirror.storage.statements import (
    Any_,
    Compare,
    Condition,
    Count,
    Insert,
    OneOf,
    Op,
    Select,
    Update,
    eq,
    every,
    run,
)
from mirror.storage.tables import Millis

_UNFINISHED = ("pending", "in_progress", "blocked")


@writes("postgres", many=True, alone=True)
def ensure_due_tasks(ctx: Context, agent_id: str | None = None, now: Millis | None = None) -> Op[int]:
    """Make a task for each enabled assignment that is due; returns how many were made.

    None is made for an assignment whose last task is not finished; it is due again after its cadence. ``agent_id``:
    only this agent's. ``now``: milliseconds since 1970.
    """
    at = ctx.millis() if now is None else now
    due = every(
        eq("enabled", True),
        Any_((Compare("next_run_at", "eq", None), Compare("next_run_at", "lte", at))),
        None if agent_id is None else eq("agent_id", agent_id),
    )
    # In the order of ids, as every program takes them, so that no two wait for each other.
    assignments: list[JobAssignment] = yield from run(Select(ASSIGNMENTS, due, ("id",)))
    templates = yield from _templates(assignments)
    made = 0
    for assignment in assignments:
        template = templates.get(assignment.template_id)
        if template is None:
            continue
        later = {"next_run_at": at + assignment.cadence_minutes * 60_000, "updated_at": at}
        if not (yield from run(Update(ASSIGNMENTS, later, every(eq("id", assignment.id), due)))):
            continue  # another program has taken it
        if (yield from _has_unfinished(assignment)):
            continue
        task = _task(ctx, assignment, template, at, due_at=at + assignment.cadence_minutes * 60_000)
        yield from _keep(ctx, assignment, task, at, {})
        made += 1
    return made


@writes("postgres", many=True, alone=True)
def ensure_event_tasks(
    ctx: Context, now: Millis | None = None, agent_id: str | None = None, limit: int = 50
) -> Op[ProcessedEvents]:
    """Take the oldest events that wait, and make a task for each enabled assignment that an event's type triggers.

    ``metadata.eventTriggers`` of an assignment has the types. None is made for one whose last task is not finished.
    ``agent_id``: only events that are for this agent or for nobody in particular; the latter are made tasks of for
    all agents, because an event is taken once. ``now``: milliseconds since 1970.
    """
    at = ctx.millis() if now is None else now
    waiting = every(
        Compare("processed_at", "eq", None),
        None if agent_id is None else _for_agent(agent_id),
    )
    events: list[JobEvent] = yield from run(Select(EVENTS, waiting, ("created_at",), limit))
    assignments: list[JobAssignment] = []
    if events:
        assignments = yield from run(Select(ASSIGNMENTS, eq("enabled", True), ("id",)))
    templates = yield from _templates(assignments)
    taken = made = 0
    for event in events:
        unprocessed = every(eq("id", event.id), Compare("processed_at", "eq", None))
        if not (yield from run(Update(EVENTS, {"processed_at": at}, unprocessed))):
            continue  # another program has taken it
        taken += 1
        outcome = {"matchedAssignments": 0, "skippedOpenTask": 0, "createdTasks": 0}
        for assignment in assignments:
            template = templates.get(assignment.template_id)
            if template is None or not _triggers(assignment, event):
                continue
            outcome["matchedAssignments"] += 1
            # Changes nothing, but two events at the same time must not both find no unfinished task.
            yield from run(Update(ASSIGNMENTS, {"title": assignment.title}, eq("id", assignment.id)))
            if (yield from _has_unfinished(assignment)):
                outcome["skippedOpenTask"] += 1
                continue
            task = _task(ctx, assignment, template, at, due_at=at, event=event)
            more = {"triggerType": "event", "triggerEventType": event.event_type, "eventId": event.id}
            later = {"next_run_at": at + assignment.cadence_minutes * 60_000, "updated_at": at}
            yield from run(Update(ASSIGNMENTS, later, eq("id", assignment.id)))
            yield from _keep(ctx, assignment, task, at, more)
            outcome["createdTasks"] += 1
        made += outcome["createdTasks"]
        yield from run(Update(EVENTS, {"outcome": json.dumps(outcome, separators=(",", ":"))}, eq("id", event.id)))
    return ProcessedEvents(taken, made)


def _for_agent(agent_id: str) -> Condition:
    return Any_((Compare("target_agent_id", "eq", None), eq("target_agent_id", agent_id)))


def _templates(assignments: list[JobAssignment]) -> Op[dict[str, JobTemplate]]:
    wanted = tuple(dict.fromkeys(assignment.template_id for assignment in assignments))
    if not wanted:
        return {}
    found = yield from run(Select(TEMPLATES, OneOf("id", wanted)))
    return {template.id: template for template in found}


def _triggers(assignment: JobAssignment, event: JobEvent) -> bool:
    if event.target_agent_id is not None and event.target_agent_id != assignment.agent_id:
        return False
    triggers = assignment.metadata.get("eventTriggers")
    return isinstance(triggers, list) and event.event_type in triggers


def _has_unfinished(assignment: JobAssignment) -> Op[bool]:
    wanted = every(eq(f"metadata.{ASSIGNMENT}", assignment.id), OneOf("status", _UNFINISHED))
    return (yield from run(Count(TASKS, wanted))) > 0


def _keep(ctx: Context, assignment: JobAssignment, task: Task, at: int, more: Mapping[str, Any]) -> Op[None]:
    yield from run(Insert(TASKS, without(task)))
    yield from run(Insert(RUNS, without(new_run(ctx, assignment, task.id, more))))
    yield from run(Update(ASSIGNMENTS, {"last_run_at": at}, eq("id", assignment.id)))


def _task(
    ctx: Context,
    assignment: JobAssignment,
    template: JobTemplate,
    at: int,
    due_at: int,
    event: JobEvent | None = None,
) -> Task:
    metadata: dict[str, Any] = {
        "type": "job", "jobTemplateId": template.id, ASSIGNMENT: assignment.id,
        "jobExecutionMode": assignment.execution_mode, "jobDeploymentStage": assignment.deployment_stage,
    }  # fmt: skip
    if event is not None:
        metadata |= {"triggerType": "event", "triggerEventType": event.event_type, "jobEventId": event.id}
    made = new(
        ctx,
        assignment.title if event is None else f"{assignment.title} [{event.event_type}]",
        _description(assignment, template, event),
        source="job",
        assignee=assignment.agent_id,
        due_at=due_at,
        agent_id=assignment.agent_id,
        tags=template.tags,
        metadata=metadata,
    )
    return replace(made, created_at=at, updated_at=at)


def _description(assignment: JobAssignment, template: JobTemplate, event: JobEvent | None) -> str:
    """All that whoever does the task has to know, in paragraphs."""
    objective = template.relationship_contract.get("relationshipObjective")
    parts = [
        template.description,
        f"Role: {template.role_prompt}",
        template.sop and f"How it is done:\n{template.sop}",
        template.success_definition and f"Done when: {template.success_definition}",
        f"Stage: {assignment.deployment_stage}, mode: {assignment.execution_mode}",
        objective and f"Aim of the relationship: {objective}",
    ]
    if event is not None:
        payload = json.dumps(event.payload, ensure_ascii=False, indent=2)
        parts += [f"Because of: {event.event_type} ({event.source})", f"What came with it:\n{payload}"]
    return "\n\n".join(part for part in parts if part)
