"""Rows of a dashboard (dashboard.db). Times are milliseconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.storage.tables import Json, Millis, Row, Texts, table_of


@dataclass(frozen=True, slots=True)
class Task(Row, table="tasks", source="dashboard", words="tasks_fts", stored={"agent_id": "source_agent_id"}):
    """A task; one with ``{"type": "project"}`` in its metadata is a project."""

    id: str
    title: str
    description: str | None
    status: str
    priority: str
    source: str
    created_at: Millis
    updated_at: Millis
    started_at: Millis | None
    completed_at: Millis | None
    due_at: Millis | None
    agent_id: str | None
    session_id: str | None
    channel_id: str | None
    parent_task_id: str | None
    tags: Texts | None
    metadata: Json | None
    assignee: str | None
    depends_on: Texts
    team_id: str | None


@dataclass(frozen=True, slots=True)
class Team(Row, table="teams", source="dashboard"):
    """Sessions that work together."""

    id: str
    name: str
    lead_session_key: str
    status: str
    created_at: Millis
    updated_at: Millis
    config: Json


@dataclass(frozen=True, slots=True)
class TeamMember(Row, table="team_members", source="dashboard", key=("team_id", "session_key")):
    """A session in a team."""

    team_id: str
    session_key: str
    role: str
    label: str | None
    status: str
    joined_at: Millis
    last_active_at: Millis | None


TASKS = table_of(Task)
TEAMS = table_of(Team)
TEAM_MEMBERS = table_of(TeamMember)


@dataclass(frozen=True, slots=True)
class Completion:
    """A task that was completed, and those that waited for it alone."""

    task: Task | None
    unblocked_tasks: tuple[Task, ...] = ()


@dataclass(frozen=True, slots=True)
class ProjectWithChildren:
    """A project, its tasks from the oldest to the newest (none in a list of projects), and how many there are."""

    project: Task
    tasks: tuple[Task, ...]
    task_count: int
    completed_count: int


@dataclass(frozen=True, slots=True)
class TeamWithMembers:
    """A team, and its members in the order in which they joined."""

    team: Team
    members: tuple[TeamMember, ...]
