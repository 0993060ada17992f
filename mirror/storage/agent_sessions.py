"""The methods of ``adapter.sessions``: sessions of an agent, and what was observed. In Postgres alone."""

from __future__ import annotations

from mirror.storage.facade import AsyncMethods, Methods, acall, call
from mirror.storage.operations import sessions


class AgentSessions(Methods):
    """Sessions, observations, and the agent's entry in the registry."""

    get_agent = call(sessions.get_agent)
    start = call(sessions.start)
    get = call(sessions.get)
    list = call(sessions.list_)
    end = call(sessions.end)
    delete = call(sessions.delete)
    observe = call(sessions.observe)
    list_observations = call(sessions.list_observations)


class AsyncAgentSessions(AsyncMethods):
    """:class:`AgentSessions`, as coroutines."""

    get_agent = acall(sessions.get_agent)
    start = acall(sessions.start)
    get = acall(sessions.get)
    list = acall(sessions.list_)
    end = acall(sessions.end)
    delete = acall(sessions.delete)
    observe = acall(sessions.observe)
    list_observations = acall(sessions.list_observations)
