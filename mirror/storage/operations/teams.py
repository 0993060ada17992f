"""Teams of sessions.

What the original does on Postgres and not on SQLite, and this does on neither: it makes the leader a member, leaves the
members of a disbanded team as they were, and leaves a member as it was who is added once more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from mirror.storage.arguments import Name
from mirror.storage.models.dashboard import TEAM_MEMBERS, TEAMS, Team, TeamMember, TeamWithMembers
from mirror.storage.operations.base import Context, reads, without, writes
from mirror.storage.statements import Delete, Insert, Linked, Op, Select, Update, eq, every, first, run

TeamStatus = Literal["active", "completed", "disbanded"]
Role = Literal["lead", "worker"]
MemberStatus = Literal["active", "idle", "completed", "failed"]


@writes("dashboard")
def create(ctx: Context, name: Name, lead_session_key: Name, config: Mapping[str, Any] | None = None) -> Op[Team]:
    """Create a team. Its leader is a member once it is added as one."""
    now = ctx.millis()
    team = Team(ctx.new_id(), name, lead_session_key, "active", now, now, dict(config or {}))
    yield from run(Insert(TEAMS, without(team)))
    return team


def _members(team_id: str) -> Op[list[TeamMember]]:
    return run(Select(TEAM_MEMBERS, eq("team_id", team_id), ("joined_at",)))


def _team(team_id: str) -> Op[Team | None]:
    return first((yield from run(Select(TEAMS, eq("id", team_id)))))


@reads("dashboard", many=True)
def get(ctx: Context, team_id: str) -> Op[TeamWithMembers | None]:
    """A team and its members; None if there is none."""
    team = yield from _team(team_id)
    return None if team is None else TeamWithMembers(team, tuple((yield from _members(team_id))))


@reads("dashboard")
def list_(ctx: Context, status: TeamStatus | None = "active") -> Op[list[Team]]:
    """Teams, the newest first: the active ones, unless another status is given, or None for all."""
    wanted = every(None if status is None else eq("status", status))
    return (yield from run(Select(TEAMS, wanted, ("-created_at",))))


@writes("dashboard")
def add_member(
    ctx: Context,
    team_id: str,
    session_key: Name,
    role: Role = "worker",
    label: str | None = None,
    status: MemberStatus = "active",
) -> Op[TeamMember]:
    """Add a session to a team; one that is in it joins once more. Raises ``ConstraintError`` if there is no team."""
    now = ctx.millis()
    member = TeamMember(team_id, session_key, role, label or None, status, now, now)
    yield from run(Insert(TEAM_MEMBERS, without(member), replace=True))
    return member


def _member(team_id: str, session_key: str) -> Any:
    return every(eq("team_id", team_id), eq("session_key", session_key))


@writes("dashboard")
def remove_member(ctx: Context, team_id: str, session_key: str) -> Op[bool]:
    """Take a session out of a team; False if it is not in it."""
    return (yield from run(Delete(TEAM_MEMBERS, _member(team_id, session_key)))) > 0


@writes("dashboard")
def update_member_status(ctx: Context, team_id: str, session_key: str, status: MemberStatus) -> Op[bool]:
    """Set a member's status, which also says that it was active now; False if it is not in the team."""
    values = {"status": status, "last_active_at": ctx.millis()}
    return (yield from run(Update(TEAM_MEMBERS, values, _member(team_id, session_key)))) > 0


@writes("dashboard", many=True)
def disband(ctx: Context, team_id: str) -> Op[Team | None]:
    """End a team; all its members are completed then. None if there is no such team."""
    team = yield from _team(team_id)
    if team is None:
        return None
    now = ctx.millis()
    yield from run(Update(TEAMS, {"status": "disbanded", "updated_at": now}, eq("id", team_id)))
    values = {"status": "completed", "last_active_at": now}
    yield from run(Update(TEAM_MEMBERS, values, eq("team_id", team_id)))
    return dataclasses.replace(team, status="disbanded", updated_at=now)


@reads("dashboard", many=True)
def get_team_for_session(ctx: Context, session_key: str) -> Op[TeamWithMembers | None]:
    """The newest active team that a session is in, with its members; None if there is none."""
    mine = Linked("id", TEAM_MEMBERS, "team_id", eq("session_key", session_key))
    team: Team | None = first((yield from run(Select(TEAMS, every(eq("status", "active"), mine), ("-created_at",), 1))))
    return None if team is None else TeamWithMembers(team, tuple((yield from _members(team.id))))


@reads("dashboard")
def get_members(ctx: Context, team_id: str) -> Op[list[TeamMember]]:
    """The members of a team in the order in which they joined."""
    return (yield from _members(team_id))
