"""Sessions and what was observed in them: on Postgres, and on tables of the same columns in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.core.errors import UnsupportedError
from mirror.storage.agent_sessions import AgentSessions
from tests.support.storage import on_sqlite
from tests.support.tables_of_postgres import tables_of_postgres


@pytest.fixture(params=["tables", "postgres"])
def sessions(request: pytest.FixtureRequest, folder: Path) -> Iterator[AgentSessions]:
    if request.param == "postgres":
        yield AgentSessions(request.getfixturevalue("postgres_stores").memory._runner)
    else:
        for tables in tables_of_postgres(folder):
            yield AgentSessions(tables)


def test_a_session(sessions: AgentSessions) -> None:
    made = sessions.start("agent:ada:main", title="Talk", metadata={"channel": "c"})
    assert sessions.get(made.id) == made and sessions.get("nobody") is None
    other = sessions.start("agent:ada:other")
    assert sessions.list() == [other, made] and sessions.list(session_key="agent:ada:main") == [made]
    assert sessions.end(made.id) and not sessions.end(made.id) and not sessions.end("nobody")
    ended = sessions.get(made.id)
    assert ended is not None and ended.ended_at is not None and ended.ended_at >= made.started_at
    assert sessions.list(open_only=True) == [other]
    assert sessions.list(since=other.started_at) == [other] and sessions.list(until=made.started_at) == [ended]
    assert sessions.list(limit=1, offset=1) == [ended]


def test_observations(sessions: AgentSessions) -> None:
    made = sessions.start("s")
    times = [sessions.observe(made.id, kind, f"text of {kind}", {"n": 1}) for kind in ("note", "tool_call", "note")]
    sessions.observe(None, "note", "of no session 100%")
    found = sessions.list_observations(session_id=made.id)
    assert [each.kind for each in found] == ["note", "tool_call", "note"]
    assert [each.observed_at for each in found] == times[::-1] and found[0].metadata == {"n": 1}
    assert len(sessions.list_observations()) == 4 and len(sessions.list_observations(limit=2, offset=1)) == 2
    assert [each.kind for each in sessions.list_observations(kinds=["tool_call"])] == ["tool_call"]
    assert [each.content for each in sessions.list_observations(contains="NO SESSION 100%")] == ["of no session 100%"]
    assert len(sessions.list_observations(since=times[1], until=times[2])) == 2
    assert sessions.delete(made.id) and not sessions.delete(made.id)
    assert len(sessions.list_observations()) == 1


@pytest.mark.parametrize("sessions", ["postgres"], indirect=True)
def test_the_registry(sessions: AgentSessions) -> None:
    found = sessions.get_agent()
    assert found is not None and found.agent_id == "argent"


def test_sqlite_says_what_is_missing(folder: Path) -> None:
    for stores in on_sqlite(folder):
        for call in (stores.adapter.sessions.list, stores.adapter.sessions.get_agent, stores.adapter.knowledge.search):
            with pytest.raises(UnsupportedError):
                call()
