"""Projects: tasks that other tasks are parts of, marked ``{"type": "project"}`` in their metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mirror.core.errors import ConfigError
from mirror.storage.arguments import Name, arguments_of
from mirror.storage.models.dashboard import TASKS, ProjectWithChildren
from mirror.storage.operations.base import Context, reads, writes
from mirror.storage.operations.tasks import (
    PROJECT,
    TYPE,
    Priority,
    Status,
    TaskSource,
    among,
    create,
    keep,
    named,
    new,
    only,
)
from mirror.storage.statements import Any_, Linked, Op, Referring, Select, SelectCounting, eq, every, run

_ARGUMENTS = {
    "title", "description", "priority", "source", "assignee", "due_at", "agent_id", "channel_id", "depends_on",
    "team_id", "tags", "metadata",
}  # fmt: skip


@writes("dashboard", many=True)
def create_project(
    ctx: Context,
    title: Name,
    tasks: Sequence[Mapping[str, Any]],
    description: str | None = None,
    priority: Priority | None = None,
    tags: Sequence[str] | None = None,
    source: TaskSource | None = None,
    agent_id: str | None = None,
) -> Op[ProjectWithChildren]:
    """Create a project and its tasks in one transaction. Each task: the arguments of ``tasks.create``.

    ``source``: agent if not given; a task has its own source and agent, or the project's.
    """
    for arguments in tasks:
        if "title" not in arguments or (unknown := set(arguments) - _ARGUMENTS):
            detail = "a task needs a title" if "title" not in arguments else f"unknown: {', '.join(sorted(unknown))}"
            raise ConfigError("create a project", title, detail, next_step="give the arguments of tasks.create")
    wanted = [arguments_of(create.make, arguments) for arguments in tasks]
    project = new(
        ctx, title, description, priority, source or "agent", agent_id=agent_id, tags=tags, metadata={TYPE: PROJECT}
    )
    yield from keep(project)
    children = []
    at = project.created_at
    for arguments in wanted:
        child = new(ctx, **arguments, parent_task_id=project.id)
        # Each a millisecond after the one before it, so that their order is kept.
        at = max(child.created_at, at + 1)
        child = replace(
            child,
            source=arguments.get("source") or project.source,
            agent_id=child.agent_id or project.agent_id,
            created_at=at,
            updated_at=at,
        )
        yield from keep(child)
        children.append(child)
    return ProjectWithChildren(project, tuple(children), len(children), 0)


@reads("dashboard")
def list_projects(
    ctx: Context,
    status: Status | Sequence[Status] | None = None,
    agent_id: str | None = None,
    limit: int = 50,
) -> Op[list[ProjectWithChildren]]:
    """Projects, the newest first, with the numbers of their tasks but without these."""
    wanted = every(
        eq(f"metadata.{TYPE}", PROJECT),
        among("status", status),
        None if agent_id is None else eq("agent_id", agent_id),
    )
    counts = (Referring(TASKS, "parent_task_id"), Referring(TASKS, "parent_task_id", eq("status", "completed")))
    found = yield from run(SelectCounting(Select(TASKS, wanted, ("-created_at",), limit), counts))
    return [ProjectWithChildren(project, (), total, completed) for project, total, completed in found]


@reads("dashboard")
def get_project_with_children(ctx: Context, project_id: str) -> Op[ProjectWithChildren | None]:
    """A project and its tasks; None if there is none. Raises ``StorageError`` for a short id that several have."""
    these = named(project_id)
    wanted = Any_((these, Linked("parent_task_id", TASKS, "id", these)))
    found = yield from run(Select(TASKS, wanted, ("created_at",)))
    named_so = [task for task in found if task.id.startswith(project_id)]
    project = only(project_id, [task for task in named_so if len(project_id) < 36 or task.id == project_id])
    if project is None:
        return None
    tasks = tuple(task for task in found if task.parent_task_id == project.id)
    return ProjectWithChildren(project, tasks, len(tasks), sum(task.status == "completed" for task in tasks))
