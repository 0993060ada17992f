"""Teams of sessions: what every store answers."""

from __future__ import annotations

import pytest

from mirror.core.errors import ConstraintError
from mirror.storage.dashboard import Teams
from mirror.storage.models.dashboard import Team, TeamWithMembers
from mirror.storage.operations.teams import MemberStatus
from tests.support.storage import Stores


@pytest.fixture
def teams(stores: Stores) -> Teams:
    return stores.teams


@pytest.fixture
def team(teams: Teams) -> Team:
    return teams.create("builders", "lead-session")


def test_what_is_created_is_what_is_read(teams: Teams) -> None:
    made = teams.create(name="builders", lead_session_key="s1", config={"size": 3, "deep": {"list": [1, None]}})
    assert teams.get(made.id) == TeamWithMembers(made, ())
    assert made.status == "active" and made.created_at == made.updated_at


def test_without_a_configuration_it_is_empty(teams: Teams) -> None:
    made = teams.create("a", "s")
    found = teams.get(made.id)
    assert found is not None and found.team.config == {} == made.config


def test_the_leader_is_no_member_until_it_is_added(teams: Teams, team: Team) -> None:
    """On SQLite the original does so, and on Postgres it does not."""
    assert teams.get_members(team.id) == [] and teams.get_team_for_session("lead-session") is None
    teams.add_member(team.id, "lead-session", "lead")
    assert [member.role for member in teams.get_members(team.id)] == ["lead"]


def test_what_is_not_there(teams: Teams) -> None:
    for nobody in ("", "nobody", "%"):
        assert teams.get(nobody) is teams.disband(nobody) is teams.get_team_for_session(nobody) is None
        assert teams.get_members(nobody) == []
        assert teams.remove_member(nobody, "s") is teams.update_member_status(nobody, "s", "idle") is False


def test_a_team_has_no_short_id(teams: Teams, team: Team) -> None:
    assert teams.get(team.id[:8]) is None


def test_members_come_in_the_order_in_which_they_joined(teams: Teams, team: Team) -> None:
    made = [teams.add_member(team.id, key, label=f"label {key}") for key in ("z", "a", "m")]
    assert teams.get_members(team.id) == made
    assert teams.get(team.id) == TeamWithMembers(team, tuple(made))
    assert all((each.role, each.status, each.team_id) == ("worker", "active", team.id) for each in made)
    assert all(each.joined_at == each.last_active_at for each in made)


def test_a_member_may_have_another_status_and_no_label(teams: Teams, team: Team) -> None:
    made = teams.add_member(team.id, "s", "lead", "", "idle")
    assert (made.label, made.status) == (None, "idle") and teams.get_members(team.id) == [made]


def test_a_member_that_is_added_once_more_is_as_it_was_added_last(teams: Teams, team: Team) -> None:
    """The original's Postgres leaves it as it was."""
    first = teams.add_member(team.id, "s", "worker", "old")
    teams.update_member_status(team.id, "s", "failed")
    other = teams.add_member(team.id, "t")
    again = teams.add_member(team.id, "s", "lead", "new")
    assert again.joined_at > first.joined_at and (again.role, again.label, again.status) == ("lead", "new", "active")
    assert teams.get_members(team.id) == [other, again]


def test_the_team_must_be_there(teams: Teams) -> None:
    with pytest.raises(ConstraintError):
        teams.add_member("nobody", "s")


def test_a_session_may_be_in_several_teams(teams: Teams, team: Team) -> None:
    other = teams.create("others", "s2")
    teams.add_member(team.id, "s", "lead")
    teams.add_member(other.id, "s", "worker")
    assert [member.role for member in teams.get_members(team.id)] == ["lead"]
    assert teams.remove_member(other.id, "s") and len(teams.get_members(team.id)) == 1


def test_remove_a_member(teams: Teams, team: Team) -> None:
    teams.add_member(team.id, "s")
    kept = teams.add_member(team.id, "t")
    assert teams.remove_member(team.id, "s") is True
    assert teams.get_members(team.id) == [kept]
    assert teams.remove_member(team.id, "s") is False


@pytest.mark.parametrize("status", ["active", "idle", "completed", "failed"])
def test_the_status_of_a_member(teams: Teams, team: Team, status: MemberStatus) -> None:
    before = teams.add_member(team.id, "s")
    other = teams.add_member(team.id, "t")
    assert teams.update_member_status(team.id, "s", status) is True
    after, same = teams.get_members(team.id)
    assert (after.status, after.joined_at, same) == (status, before.joined_at, other)
    assert after.last_active_at is not None and after.last_active_at > before.joined_at


def test_active_teams_the_newest_first(teams: Teams) -> None:
    made = [teams.create(str(n), "s") for n in range(4)]
    gone = teams.disband(made[1].id)
    assert teams.list() == [made[3], made[2], made[0]]
    assert teams.list(status="disbanded") == [gone] and teams.list("completed") == []
    assert teams.list(status=None) == [made[3], made[2], gone, made[0]]


def test_disband(teams: Teams, team: Team) -> None:
    """The original's Postgres leaves the members active."""
    teams.add_member(team.id, "s", "lead")
    teams.add_member(team.id, "t")
    other = teams.create("others", "s2")
    outside = teams.add_member(other.id, "s")
    gone = teams.disband(team.id)
    assert gone is not None and gone.status == "disbanded" and gone.updated_at > team.updated_at
    found = teams.get(team.id)
    assert found is not None and found.team == gone
    assert {(member.status, member.last_active_at) for member in found.members} == {("completed", gone.updated_at)}
    assert teams.get_members(other.id) == [outside]


def test_the_team_of_a_session(teams: Teams) -> None:
    old, new = teams.create("old", "l"), teams.create("new", "l")
    for team in (old, new):
        teams.add_member(team.id, "s")
    teams.add_member(old.id, "t")
    assert teams.get_team_for_session("s") == teams.get(new.id)
    assert teams.get_team_for_session("t") == teams.get(old.id)
    assert teams.get_team_for_session("l") is None
    teams.disband(new.id)
    assert teams.get_team_for_session("s") == teams.get(old.id)
    teams.remove_member(old.id, "s")
    assert teams.get_team_for_session("s") is None


@pytest.mark.parametrize("text", ["a'b", 'quo"te', "100%_sure", "日本語 🎉"])
def test_texts_are_kept_exactly(teams: Teams, text: str) -> None:
    made = teams.create(text, text, {text: text})
    member = teams.add_member(made.id, text, label=text)
    assert teams.get(made.id) == TeamWithMembers(made, (member,))
    assert teams.get_team_for_session(text) == teams.get(made.id)
