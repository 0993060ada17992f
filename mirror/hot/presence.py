"""Who is online: ``agent:presence:{id}``, which is gone 30 seconds after the agent's last sign of life.

The key is what counts, for us and for the original. A sorted set beside it makes a list without KEYS or SCAN.
"""

from __future__ import annotations

from mirror.hot import given
from mirror.hot.names import Names, key
from mirror.hot.requests import Command, Script, Steps, Transaction

#: Seconds that an agent counts as online after a sign of life.
TTL = 30.0
#: Seconds between two signs: two may fail before it counts as offline.
EVERY = TTL / 3


def beat(names: Names, agent: str, seconds: float = TTL) -> Steps[None]:
    """Say that an agent is online, for some seconds. That works while the server's memory is full, too.

    Raises ``ConfigError`` for a time that is none, ``HotStateError``.
    """
    doing, keys = "say that an agent is online", (key(names.presence, agent), names.online)
    seconds = given.seconds(doing, agent, "the time", seconds, 0.001)
    yield Script(doing, "presence_beat", keys, (agent, round(seconds * 1000)))


def leave(names: Names, agent: str) -> Steps[None]:
    """Say that an agent is not online any more."""
    gone = ("DEL", key(names.presence, agent)), ("ZREM", names.online, agent)
    yield Transaction("say that an agent is offline", gone)


def is_online(names: Names, agent: str) -> Steps[bool]:
    """Whether an agent is online."""
    return bool((yield Command("see whether an agent is online", ("EXISTS", key(names.presence, agent)))))


def online(names: Names) -> Steps[list[str]]:
    """The agents that are online, in order: those that said so here, and those that also read messages.

    An agent that only another program keeps online, and that has never read a message, is not listed; :func:`is_online`
    knows it.
    """
    before, _, after = names.presence.partition("{id}")
    found = yield Script("list who is online", "presence_online", (names.online, names.family), (before, after))
    return sorted(found)
