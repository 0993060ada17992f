"""Recurring jobs: templates, assignments, runs, and events. In Postgres alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from mirror.core.errors import StorageError
from mirror.storage.arguments import Name
from mirror.storage.models.dashboard import TASKS, Task
from mirror.storage.models.jobs import (
    ASSIGNMENTS,
    TEMPLATES,
    JobAssignment,
    JobContext,
    JobTemplate,
    ToolPolicy,
)
from mirror.storage.operations.base import UNSET, Context, Unset, given, reads, refuse, without, writes
from mirror.storage.statements import Insert, Op, Select, Update, eq, every, first, run
from mirror.storage.tables import Millis, Table

Mode = Literal["simulate", "live"]
Stage = Literal["simulate", "shadow", "limited-live", "live"]
PromotionState = Literal["draft", "in-review", "approved-next-stage", "held", "rolled-back"]

#: From the most careful to the last.
STAGES: tuple[Stage, ...] = ("simulate", "shadow", "limited-live", "live")
#: Minutes between two runs, where nothing else is said.
DAILY = 1440
#: The member of a task's metadata that has its assignment.
ASSIGNMENT = "jobAssignmentId"

#: Tools of the original that reach people, which a stage before the last may not use.
_NOT_IN_SIMULATION = ("atera_ticket", "message", "send_payload")
_NOT_IN_LIMITED_LIVE = ("message", "send_payload")
#: A limit of scope with one of these lets an assignment reach people before the last stage.
_OUTBOUND = ("outbound", "customer reply", "customer-facing", "messaging allowed")
#: It does not with one of these words: "no outbound messages" has both.
_FORBIDDING = frozenset(("no", "not", "never", "without", "forbidden"))


def mode_of(stage: str) -> Mode:
    """The mode of a stage."""
    return "live" if stage in ("limited-live", "live") else "simulate"


def stage_of(mode: str) -> Stage:
    """The stage of a mode, where none is given."""
    return "live" if mode == "live" else "simulate"


def one(table: Table, row_id: str) -> Op[Any]:
    """The row with an id; None if there is none."""
    return first((yield from run(Select(table, eq("id", row_id)))))


def set_columns(table: Table, row_id: str, values: Mapping[str, Any]) -> Op[Any]:
    """Set columns of the row with an id, and read it; None if there is none."""
    yield from run(Update(table, values, eq("id", row_id)))
    return (yield from one(table, row_id))


def cleaned(value: str | None) -> str | None:
    """A text without space at its ends; None for an empty one."""
    return (value or "").strip() or None


def _cadence(minutes: int) -> int:
    if not 1 <= minutes < 2**31:
        refuse("set how often a job is done", "cadence_minutes", f"{minutes}, but it needs 1 minute or more")
    return minutes


def _distinct(values: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values or ()))


# -- templates -----------------------------------------------------------------------------------------


@writes("postgres")
def create_template(
    ctx: Context,
    name: Name,
    role_prompt: Name,
    department_id: str | None = None,
    description: str | None = None,
    sop: str | None = None,
    success_definition: str | None = None,
    default_mode: Mode | None = None,
    default_stage: Stage | None = None,
    tools_allow: Sequence[str] | None = None,
    tools_deny: Sequence[str] | None = None,
    relationship_contract: Mapping[str, Any] | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Op[JobTemplate]:
    """Create a template. Without a mode or a stage its assignments begin in simulation."""
    now = ctx.millis()
    stage = default_stage or stage_of(default_mode or "simulate")
    made = JobTemplate(
        id=ctx.new_id(),
        name=name.strip(),
        department_id=cleaned(department_id),
        description=cleaned(description),
        role_prompt=role_prompt.strip(),
        sop=cleaned(sop),
        success_definition=cleaned(success_definition),
        default_mode=default_mode or mode_of(stage),
        default_stage=stage,
        tools_allow=_distinct(tools_allow),
        tools_deny=_distinct(tools_deny),
        relationship_contract=dict(relationship_contract or {}),
        tags=_distinct(tags),
        metadata=dict(metadata or {}),
        created_at=now,
        updated_at=now,
    )
    yield from run(Insert(TEMPLATES, without(made)))
    return made


@reads("postgres")
def list_templates(ctx: Context) -> Op[list[JobTemplate]]:
    """All templates, the one changed last first."""
    return (yield from run(Select(TEMPLATES, order=("-updated_at",))))


@reads("postgres")
def get_template(ctx: Context, template_id: str) -> Op[JobTemplate | None]:
    """A template; None if there is none."""
    found: JobTemplate | None = yield from one(TEMPLATES, template_id)
    return found


@writes("postgres", many=True)
def update_template(
    ctx: Context,
    template_id: str,
    name: str | Unset = UNSET,
    department_id: str | Unset | None = UNSET,
    description: str | Unset | None = UNSET,
    role_prompt: str | Unset = UNSET,
    sop: str | Unset | None = UNSET,
    success_definition: str | Unset | None = UNSET,
    default_mode: Mode | Unset = UNSET,
    default_stage: Stage | Unset = UNSET,
    tools_allow: Sequence[str] | Unset | None = UNSET,
    tools_deny: Sequence[str] | Unset | None = UNSET,
    relationship_contract: Mapping[str, Any] | Unset | None = UNSET,
    tags: Sequence[str] | Unset | None = UNSET,
    metadata: Mapping[str, Any] | Unset | None = UNSET,
) -> Op[JobTemplate | None]:
    """Set what is given of a template; None takes a value away. None if there is no such template.

    An empty name or role changes nothing. A stage sets its mode, too, unless that is given.
    """
    values: dict[str, Any] = {}
    for column, text in given(name=name, role_prompt=role_prompt).items():
        if kept := cleaned(text):
            values[column] = kept
    texts = given(department_id=department_id, description=description, sop=sop, success_definition=success_definition)
    values |= {column: cleaned(text) for column, text in texts.items()}
    lists = given(tools_allow=tools_allow, tools_deny=tools_deny, tags=tags)
    values |= {column: _distinct(items) for column, items in lists.items()}
    objects = given(relationship_contract=relationship_contract, metadata=metadata)
    values |= {column: dict(items or {}) for column, items in objects.items()}
    values |= given(default_mode=default_mode, default_stage=default_stage)
    if default_stage is not UNSET:
        values.setdefault("default_mode", mode_of(default_stage))
    changed: JobTemplate | None = yield from set_columns(TEMPLATES, template_id, values | {"updated_at": ctx.millis()})
    return changed


# -- assignments ---------------------------------------------------------------------------------------


@writes("postgres", many=True)
def create_assignment(
    ctx: Context,
    template_id: str,
    agent_id: Name,
    title: str | None = None,
    enabled: bool = True,
    cadence_minutes: int = DAILY,
    execution_mode: Mode | None = None,
    deployment_stage: Stage | None = None,
    promotion_state: PromotionState = "draft",
    scope_limit: str | None = None,
    review_required: bool = True,
    next_run_at: Millis | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Op[JobAssignment]:
    """Have an agent work by a template. It is due now, or at ``next_run_at`` (milliseconds since 1970).

    ``metadata.eventTriggers``: types of events for which it gets a task, too. Raises ``StorageError`` if there is no
    such template.
    """
    template: JobTemplate | None = yield from one(TEMPLATES, template_id)
    if template is None:
        raise StorageError(
            "assign a job", template_id, "there is no such template", next_step="create it with jobs.create_template"
        )
    now = ctx.millis()
    stage = deployment_stage or template.default_stage
    made = JobAssignment(
        id=ctx.new_id(),
        template_id=template_id,
        agent_id=agent_id.strip(),
        title=cleaned(title) or template.name,
        enabled=enabled,
        cadence_minutes=_cadence(cadence_minutes),
        execution_mode=execution_mode or mode_of(stage),
        deployment_stage=stage,
        promotion_state=promotion_state,
        scope_limit=cleaned(scope_limit),
        review_required=review_required,
        next_run_at=next_run_at or now,
        last_run_at=None,
        metadata=dict(metadata or {}),
        created_at=now,
        updated_at=now,
    )
    yield from run(Insert(ASSIGNMENTS, without(made)))
    return made


@reads("postgres")
def list_assignments(ctx: Context, agent_id: str | None = None, enabled: bool | None = None) -> Op[list[JobAssignment]]:
    """Assignments, the one changed last first."""
    wanted = every(
        None if agent_id is None else eq("agent_id", agent_id), None if enabled is None else eq("enabled", enabled)
    )
    return (yield from run(Select(ASSIGNMENTS, wanted, ("-updated_at",))))


@reads("postgres")
def get_assignment(ctx: Context, assignment_id: str) -> Op[JobAssignment | None]:
    """An assignment; None if there is none."""
    found: JobAssignment | None = yield from one(ASSIGNMENTS, assignment_id)
    return found


@writes("postgres", many=True)
def update_assignment(
    ctx: Context,
    assignment_id: str,
    enabled: bool | Unset = UNSET,
    cadence_minutes: int | Unset = UNSET,
    execution_mode: Mode | Unset = UNSET,
    deployment_stage: Stage | Unset = UNSET,
    promotion_state: PromotionState | Unset = UNSET,
    scope_limit: str | Unset | None = UNSET,
    review_required: bool | Unset = UNSET,
    next_run_at: Millis | Unset | None = UNSET,
    title: str | Unset = UNSET,
    metadata: Mapping[str, Any] | Unset | None = UNSET,
) -> Op[JobAssignment | None]:
    """Set what is given of an assignment; None takes a value away. None if there is no such assignment.

    A stage sets its mode, too, unless that is given. Without ``next_run_at`` it is due at once.
    """
    values = given(
        enabled=enabled, execution_mode=execution_mode, deployment_stage=deployment_stage,
        promotion_state=promotion_state, scope_limit=scope_limit, review_required=review_required,
        next_run_at=next_run_at,
    )  # fmt: skip
    if cadence_minutes is not UNSET:
        values["cadence_minutes"] = _cadence(cadence_minutes)
    if deployment_stage is not UNSET:
        values.setdefault("execution_mode", mode_of(deployment_stage))
    if title is not UNSET and (kept := cleaned(title)):
        values["title"] = kept
    if metadata is not UNSET:
        values["metadata"] = dict(metadata or {})
    values["updated_at"] = ctx.millis()
    changed: JobAssignment | None = yield from set_columns(ASSIGNMENTS, assignment_id, values)
    return changed


@reads("postgres", many=True)
def get_context_for_task(ctx: Context, task_id: str) -> Op[JobContext | None]:
    """The assignment for which a task was made, and its template; None if it was made for none."""
    task: Task | None = yield from one(TASKS, task_id)
    assignment_id = ((task and task.metadata) or {}).get(ASSIGNMENT)
    if not isinstance(assignment_id, str):
        return None
    assignment: JobAssignment | None = yield from one(ASSIGNMENTS, assignment_id)
    template = None if assignment is None else (yield from one(TEMPLATES, assignment.template_id))
    return None if assignment is None or template is None else JobContext(assignment, template)


@reads("postgres")
def resolve_session_tool_policy_for_assignment(
    ctx: Context, assignment: JobAssignment, template: JobTemplate
) -> Op[ToolPolicy]:
    """The tools that a session which works on an assignment may and may not use.

    Up to the stage ``shadow``, and in simulation, it may reach nobody; in ``limited-live`` only if its limit of scope
    says that it may.
    """
    yield from ()
    stage, scope = assignment.deployment_stage, (assignment.scope_limit or "").lower()
    deny: tuple[str, ...] = template.tools_deny
    if assignment.execution_mode != "live" or stage not in ("limited-live", "live"):
        deny += _NOT_IN_SIMULATION
    elif stage == "limited-live" and not (
        any(words in scope for words in _OUTBOUND) and _FORBIDDING.isdisjoint(re.findall(r"\w+", scope))
    ):
        deny += _NOT_IN_LIMITED_LIVE
    return ToolPolicy(template.tools_allow or None, _distinct(deny) or None)
