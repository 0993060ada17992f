"""Tasks.

A task is named by its id, or by the first four or more characters of it if no other task's id begins so.

What the original does that is not right, and this does not do: it orders by the *text* of the priority (urgent, normal,
low, high, background), takes any of the tasks that a short id may mean, matches parts of tags and ``%`` in them, leaves
out tasks whose metadata has no type where projects are to be left out, and, on Postgres, loses the metadata of a task
that is blocked or failed and unblocks only tasks of the same team.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mirror.core.errors import ConstraintError, StorageError
from mirror.storage.arguments import Name
from mirror.storage.jsontext import as_read
from mirror.storage.models.dashboard import TASKS, Completion, Task
from mirror.storage.operations.base import UNSET, Context, Unset, given, reads, some, without, writes
from mirror.storage.statements import (
    Any_,
    Compare,
    Condition,
    Contains,
    Count,
    CountBy,
    Delete,
    Insert,
    Not,
    OneOf,
    Op,
    Ranked,
    Select,
    StartsWith,
    Update,
    Words,
    eq,
    every,
    first,
    run,
)
from mirror.storage.tables import Millis

Status = Literal["pending", "in_progress", "blocked", "completed", "failed", "cancelled"]
Priority = Literal["urgent", "high", "normal", "low", "background"]
TaskSource = Literal["user", "agent", "heartbeat", "schedule", "channel", "job"]

STATUSES: tuple[Status, ...] = ("pending", "in_progress", "blocked", "completed", "failed", "cancelled")
#: The most urgent first.
PRIORITIES: tuple[Priority, ...] = ("urgent", "high", "normal", "low", "background")
#: By priority, then by when it is due (those that are not, last), then the newest first.
ORDER = (Ranked("priority", PRIORITIES), "due_at", "-created_at")

#: Members of a task's metadata, as the original names them, and the reason that it gives for open dependencies.
BLOCKED_REASON, FAILURE_REASON, TYPE, PROJECT = "blockedReason", "failureReason", "type", "project"
WAITING = "Waiting on dependencies"

_ENDED = ("completed", "failed", "cancelled")
#: How many characters of an id are enough, and how many an id has that is not cut short.
_LEAST, _WHOLE = 4, 36


def named(task_id: str) -> Condition:
    """Tasks with this id, or with an id that begins so. The condition is true of the task with just this id, too."""
    return StartsWith("id", task_id) if _LEAST <= len(task_id) < _WHOLE else eq("id", task_id)


def only(task_id: str, found: Sequence[Task]) -> Task | None:
    """The task that an id names, of those for which :func:`named` is true. Raises ``StorageError`` if several are."""
    exact = next((task for task in found if task.id == task_id), None)
    if exact is None and len(found) > 1:
        raise StorageError(
            "find a task",
            task_id,
            f"several tasks' ids begin so: {found[0].id}, {found[1].id}",
            next_step="give more of the id",
        )
    return exact or first(found)


def find(task_id: str) -> Op[Task | None]:
    """The task that an id names; None if there is none."""
    # In the order of ids, the task with just this id comes before all that begin with it.
    return only(task_id, (yield from run(Select(TASKS, named(task_id), ("id",), 2))))


def new(
    ctx: Context,
    title: Name,
    description: str | None = None,
    priority: str | None = None,
    source: str | None = None,
    assignee: str | None = None,
    due_at: Millis | None = None,
    agent_id: str | None = None,
    channel_id: str | None = None,
    parent_task_id: str | None = None,
    depends_on: Sequence[str] | None = None,
    team_id: str | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Task:
    """A task that is not kept yet. Empty texts are no values, as in the original."""
    now = ctx.millis()
    return Task(
        id=ctx.new_id(),
        title=title,
        description=description or None,
        status="blocked" if depends_on else "pending",
        priority=priority or "normal",
        source=source or "user",
        created_at=now,
        updated_at=now,
        started_at=None,
        completed_at=None,
        due_at=due_at or None,
        agent_id=agent_id or None,
        session_id=None,
        channel_id=channel_id or None,
        parent_task_id=parent_task_id or None,
        tags=None if tags is None else tuple(tags),
        metadata=None if metadata is None else _metadata(metadata),
        assignee=assignee or None,
        depends_on=tuple(depends_on or ()),
        team_id=team_id or None,
    )


def _metadata(given: Mapping[str, Any]) -> dict[str, Any]:
    TASKS.check("metadata", given)
    made: dict[str, Any] = as_read(given)
    return made


def keep(task: Task) -> Op[int]:
    """Insert a new task, with the columns that the original names."""
    return run(Insert(TASKS, without(task, "started_at", "completed_at", "session_id")))


@writes("dashboard")
def create(
    ctx: Context,
    title: Name,
    description: str | None = None,
    priority: Priority | None = None,
    source: TaskSource | None = None,
    assignee: str | None = None,
    due_at: Millis | None = None,
    agent_id: str | None = None,
    channel_id: str | None = None,
    parent_task_id: str | None = None,
    depends_on: Sequence[str] | None = None,
    team_id: str | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Op[Task]:
    """Create a task: blocked if it depends on others, pending otherwise.

    ``priority``: normal if not given; ``source``: user. ``due_at``: milliseconds since 1970. ``agent_id``: the agent
    that it is about, which may be another.
    """
    task = new(
        ctx, title, description, priority, source, assignee, due_at, agent_id, channel_id, parent_task_id, depends_on,
        team_id, tags, metadata,
    )  # fmt: skip
    yield from keep(task)
    return task


@reads("dashboard")
def get(ctx: Context, task_id: str) -> Op[Task | None]:
    """A task; None if there is none. Raises ``StorageError`` for a short id that several tasks' ids begin with."""
    return (yield from find(task_id))


def change(ctx: Context, task: Task, values: Mapping[str, Any]) -> Op[Task | None]:
    """Set columns of a task, and the times that its status gives."""
    now = ctx.millis()
    times: dict[str, Any] = {"updated_at": now}
    status = values.get("status")
    if status == "in_progress" and (task.status == "pending" or task.started_at is None):
        times["started_at"] = now
    if status in _ENDED:
        times["completed_at"] = now
    yield from run(Update(TASKS, times | dict(values), eq("id", task.id)))
    return first((yield from run(Select(TASKS, eq("id", task.id)))))


@writes("dashboard", many=True)
def update(
    ctx: Context,
    task_id: str,
    title: Name | Unset = UNSET,
    description: str | Unset | None = UNSET,
    status: Status | Unset = UNSET,
    priority: Priority | Unset = UNSET,
    assignee: str | Unset | None = UNSET,
    due_at: Millis | Unset | None = UNSET,
    depends_on: Sequence[str] | Unset | None = UNSET,
    team_id: str | Unset | None = UNSET,
    tags: Sequence[str] | Unset | None = UNSET,
    metadata: Mapping[str, Any] | Unset | None = UNSET,
) -> Op[Task | None]:
    """Set what is given of a task; None, where that is allowed, takes the value away. None if there is no such task.

    A task that goes from pending to in_progress starts now; one that becomes completed, failed or cancelled ends now.
    """
    task = yield from find(task_id)
    if task is None:
        return None
    values = given(
        title=title, description=description, status=status, priority=priority, assignee=assignee, due_at=due_at,
        depends_on=depends_on, team_id=team_id, tags=tags, metadata=metadata,
    )  # fmt: skip
    if "depends_on" in values:
        values["depends_on"] = tuple(values["depends_on"] or ())
    return (yield from change(ctx, task, values))


@writes("dashboard", many=True)
def delete(ctx: Context, task_id: str) -> Op[bool]:
    """Delete a task; False if there is none. Raises ``ConstraintError`` for one that other tasks are parts of."""
    task = yield from find(task_id)
    if task is None:
        return False
    if parts := (yield from run(Count(TASKS, eq("parent_task_id", task.id)))):
        subtasks = "a subtask" if parts == 1 else f"{parts} subtasks"
        step = "delete its subtasks first"
        raise ConstraintError("delete a task", task.id, f"it has {subtasks}", next_step=step)
    return (yield from run(Delete(TASKS, eq("id", task.id)))) > 0


@reads("dashboard")
def list_(
    ctx: Context,
    status: Status | Sequence[Status] | None = None,
    priority: Priority | Sequence[Priority] | None = None,
    source: TaskSource | Sequence[TaskSource] | None = None,
    assignee: str | Unset | None = UNSET,
    agent_id: str | None = None,
    channel_id: str | None = None,
    team_id: str | None = None,
    tags: Sequence[str] | None = None,
    due_before: Millis | None = None,
    due_after: Millis | None = None,
    is_project: bool | None = None,
    parent_task_id: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> Op[list[Task]]:
    """Tasks for which all that is given is true: the most urgent first, then those due first, then the newest.

    ``status``, ``priority``, ``source``: one value, or any of several. ``assignee``: None for tasks without one.
    ``tags``: any of them. ``due_before`` and ``due_after``: milliseconds since 1970, both inclusive.
    """
    project = eq(f"metadata.{TYPE}", PROJECT)
    wanted = every(
        among("status", status),
        among("priority", priority),
        among("source", source),
        None if assignee is UNSET else eq("assignee", assignee),
        _equal("agent_id", agent_id),
        _equal("channel_id", channel_id),
        _equal("team_id", team_id),
        Any_(tuple(Contains("tags", tag) for tag in some("list tasks", tuple(tags)))) if tags else None,
        None if due_before is None else Compare("due_at", "lte", due_before),
        None if due_after is None else Compare("due_at", "gte", due_after),
        None if is_project is None else project if is_project else Not(project),
        _equal("parent_task_id", parent_task_id),
    )
    return (yield from run(Select(TASKS, wanted, ORDER, limit, offset)))


def among(column: str, wanted: str | Sequence[str] | None) -> Condition | None:
    """The column has the value, or one of the values; None: no condition."""
    if wanted is None:
        return None
    return OneOf(column, (wanted,) if isinstance(wanted, str) else tuple(wanted))


def _equal(column: str, value: str | None) -> Condition | None:
    return None if value is None else eq(column, value)


@reads("dashboard")
def search(ctx: Context, query: str, limit: int = 20) -> Op[list[Task]]:
    """Tasks with any of the words in the title, the description or the tags, the best first."""
    return [found[0] for found in (yield from run(Words(TASKS, query, limit)))]


@writes("dashboard", many=True)
def start(ctx: Context, task_id: str) -> Op[Task | None]:
    """Begin a task: it is in_progress then, or blocked, if a task that it depends on is not completed.

    None if there is no such task.
    """
    task = yield from find(task_id)
    if task is None:
        return None
    if (yield from _open(task.depends_on, {})):
        reason = {BLOCKED_REASON: WAITING}
        return (yield from change(ctx, task, {"status": "blocked", "metadata": (task.metadata or {}) | reason}))
    return (yield from change(ctx, task, {"status": "in_progress"}))


def _open(depends_on: Sequence[str], known: dict[str, Task]) -> Op[bool]:
    """Whether any of the tasks is not completed, or is not there. ``known``: tasks that need not be read again."""
    missing = tuple(dict.fromkeys(task_id for task_id in depends_on if task_id not in known))
    if missing:
        known |= {task.id: task for task in (yield from run(Select(TASKS, OneOf("id", missing))))}
    for task_id in depends_on:
        task = known.get(task_id)
        if task is None and len(task_id) < _WHOLE:
            task = yield from find(task_id)
        if task is None or task.status != "completed":
            return True
    return False


@writes("dashboard", many=True)
def complete(ctx: Context, task_id: str) -> Op[Task | None]:
    """Complete a task; blocked tasks that waited for it alone are pending then. None if there is no such task."""
    return (yield from _complete(ctx, task_id)).task


@writes("dashboard", many=True)
def complete_and_resolve(ctx: Context, task_id: str) -> Op[Completion]:
    """Complete a task; the result has it, and the blocked tasks that waited for it alone and are pending now."""
    return (yield from _complete(ctx, task_id))


def _complete(ctx: Context, task_id: str) -> Op[Completion]:
    found = yield from find(task_id)
    task = None if found is None else (yield from change(ctx, found, {"status": "completed"}))
    if task is None:
        return Completion(None)
    unblocked = []
    known = {task.id: task}
    waiting = every(eq("status", "blocked"), Contains("depends_on", task.id))
    for candidate in (yield from run(Select(TASKS, waiting, ("created_at",)))):
        if (yield from _open(candidate.depends_on, known)):
            continue
        values: dict[str, Any] = {"status": "pending"}
        if BLOCKED_REASON in (candidate.metadata or {}):
            values["metadata"] = {name: value for name, value in candidate.metadata.items() if name != BLOCKED_REASON}
        changed = yield from change(ctx, candidate, values)
        if changed is not None:
            unblocked.append(changed)
    return Completion(task, tuple(unblocked))


@writes("dashboard", many=True)
def block(ctx: Context, task_id: str, reason: str | None = None) -> Op[Task | None]:
    """Say that a task cannot go on, and why, in its metadata; None if there is no such task."""
    return (yield from _stop(ctx, task_id, "blocked", BLOCKED_REASON, reason))


@writes("dashboard", many=True)
def fail(ctx: Context, task_id: str, reason: str | None = None) -> Op[Task | None]:
    """Say that a task has failed, and why, in its metadata; None if there is no such task."""
    return (yield from _stop(ctx, task_id, "failed", FAILURE_REASON, reason))


def _stop(ctx: Context, task_id: str, status: Status, member: str, reason: str | None) -> Op[Task | None]:
    task = yield from find(task_id)
    if task is None:
        return None
    metadata = {name: value for name, value in (task.metadata or {}).items() if name != member}
    if reason is not None:
        # An object of JavaScript keeps the place of a member that is set again.
        metadata = (task.metadata or {}) | {member: reason}
    return (yield from change(ctx, task, {"status": status, "metadata": metadata}))


@reads("dashboard")
def get_counts(ctx: Context) -> Op[dict[str, int]]:
    """The number of tasks by status; each of :data:`STATUSES` is there."""
    counted = yield from run(CountBy(TASKS, "status"))
    return dict.fromkeys(STATUSES, 0) | counted


@reads("dashboard")
def get_overdue(ctx: Context) -> Op[list[Task]]:
    """Tasks that are pending or in progress and were due before now."""
    wanted = every(OneOf("status", ("pending", "in_progress")), Compare("due_at", "lte", ctx.millis()))
    return (yield from run(Select(TASKS, wanted, ORDER)))
