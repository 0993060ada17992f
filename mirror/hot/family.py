"""Messages between agents, on ``stream:family``. See :mod:`.reading` for how an agent reads them.

Fields of an entry: sender, type, recipient (an agent, or ``*`` for all) and payload (JSON). Each agent has a consumer
group, ``agent:{id}``, created at 0: a new agent gets all that is still there. A message is there until every
group has acknowledged it. An agent that never reads again holds all back: :func:`status` shows it, and :func:`forget`
or :func:`drop_older_than` lets go.

``stream:family:dead`` has what was given up: the message's fields, after agent, id, deliveries, consumer and reason.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mirror.core.errors import ConfigError
from mirror.hot import given
from mirror.hot.dashboard import json_text
from mirror.hot.names import Names, key
from mirror.hot.requests import Command, Script, Steps

#: For all agents.
ALL = "*"
#: Seconds for which a message that is sent again is known; longer than anything is sent again.
_TOKEN_SECONDS = 60
#: Seconds without a call after which a consumer that has no messages counts as gone.
_GONE_SECONDS = 60 * 60
#: Messages that are looked at in one call, so that the server stays free for others.
_AT_ONCE = 1000
#: Lag is counted up to here.
_COUNTED = 1000
_SEND = "send a message"


@dataclass(frozen=True, slots=True)
class Message:
    """A message as an agent gets it."""

    id: str
    """``milliseconds-number``, of the server's clock."""
    sender: str
    type: str
    """lesson_shared, task_handoff, observation, alert, specforge_progress, specforge_task_assigned; or another."""
    payload: str
    """As it was sent: JSON, if the sender is us."""
    recipient: str = ALL
    deliveries: int = 1
    """How often it was delivered to this agent, this time included."""

    @property
    def data(self) -> Any:
        """The payload, decoded. Raises ``ValueError`` if it is no JSON."""
        return json.loads(self.payload)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that an agent did not get."""

    id: str
    """Of the letter."""
    agent: str
    reason: str
    message: Message


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """How far an agent is."""

    agent: str
    lag: int | None
    """Messages that were not delivered to it yet; None: more than 1,000, and the server does not know."""
    pending: int
    """Messages that were delivered, and not acknowledged."""
    oldest_pending_seconds: float | None
    """How long ago the oldest of these was sent; None: there is none."""
    consumers: int


@dataclass(frozen=True, slots=True)
class FamilyStatus:
    """What is waiting for whom."""

    messages: int
    """In the stream, read or not."""
    dead_letters: int
    groups: Mapping[str, GroupStatus]
    """By agent. A group of another program that is no agent's goes by its own name."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What an agent misses."""

    agent: str
    id: str
    state: str
    """unread, or unacknowledged."""


@dataclass(frozen=True, slots=True)
class Dropping:
    """What an age limit has deleted."""

    messages: int
    dropped: tuple[Dropped, ...]
    """Those that somebody still had to read or to acknowledge."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What an agent had not acknowledged when it was forgotten; others may still get it."""

    known: bool
    pending: int
    unread: int
    """At most 1,000 are counted."""


def group_of(agent: str) -> str:
    """The name of an agent's consumer group. Raises ``ConfigError`` for a name that is none."""
    return key("agent:{id}", agent)


def send(names: Names, sender: str, type: str, payload: Any, recipient: str = ALL) -> Steps[str]:  # noqa: A002
    """Send a message; return its id. ``payload``: a text, which is sent as it is, or what JSON can hold.

    It arrives once, also where the connection breaks: it is sent again with the same token, which the server knows for
    a minute. For a single recipient a group is made if it has none, so that the message is kept until it is read.
    Raises ``ConfigError``, ``HotStateError``.
    """
    group = "" if recipient == ALL else group_of(recipient)
    group_of(sender)
    if not type:
        raise ConfigError(_SEND, sender, "it has no type", next_step="say what kind of message it is: observation")
    text = payload if isinstance(payload, str) else json_text(payload, _SEND, names.family)
    token = names.family_sent.replace("{id}", secrets.token_hex(12))
    args = (_TOKEN_SECONDS * 1000, group, sender, type, recipient, text)
    return str((yield Script(_SEND, "family_send", (names.family, token), args)))


def status(names: Names) -> Steps[FamilyStatus]:
    """What is waiting for whom: lag and pending by agent."""
    keys = (names.family, names.family_dead)
    messages, dead, *groups = yield Script("see how messages are read", "family_status", keys, (_COUNTED,))
    found = {}
    for name, consumers, pending, lag, wait in groups:
        agent = name.removeprefix("agent:")
        found[agent] = GroupStatus(
            agent, None if lag < 0 else lag, pending, None if wait < 0 else wait / 1000, consumers
        )
    return FamilyStatus(messages, dead, found)


def forget(names: Names, agent: str) -> Steps[Forgotten]:
    """Forget that an agent reads messages: nothing is kept for it any more.

    If it reads again, it begins with all that is still there.
    """
    args = (group_of(agent),)
    known, pending, unread = yield Script("forget an agent", "family_forget", (names.family,), args, again=False)
    return Forgotten(bool(known), pending, unread)


def trim(names: Names) -> Steps[int]:
    """Delete the messages that all agents have read and acknowledged; return how many. Readers do it each minute."""
    args = (_GONE_SECONDS * 1000,)
    return int((yield Script("delete messages that were read", "family_trim", (names.family,), args)))


def drop_older_than(names: Names, seconds: float) -> Steps[Dropping]:
    """Delete all messages older than ``seconds``, read or not; report who misses which. Raises ``ConfigError``."""
    doing = "delete old messages"
    seconds = given.seconds(doing, names.family, "the age", seconds, 0.001)
    messages, dropped = 0, list[Dropped]()
    while True:
        args = (round(seconds * 1000), _AT_ONCE)
        number, *flat = yield Script(doing, "family_drop_old", (names.family,), args, again=False)
        messages += number
        dropped += [Dropped(*flat[at : at + 3]) for at in range(0, len(flat), 3)]
        if number < _AT_ONCE - 1:
            return Dropping(messages, tuple(dropped))


def dead_letters(names: Names, count: int = 100, after: str = "-") -> Steps[list[DeadLetter]]:
    """The oldest messages that were given up. ``after``: the id of a letter, to go on after it."""
    count = given.whole("read dead letters", names.family_dead, "count", count)
    start = after if after == "-" else f"({after}"
    rows = yield Command("read dead letters", ("XRANGE", names.family_dead, start, "+", "COUNT", count))
    return [_letter(row[0], row[1]) for row in rows]


def revive(names: Names, letter: str) -> Steps[str | None]:
    """Send a dead letter again, to its agent alone; return the new message's id, None if there is no such letter.

    Sent once: where the answer is lost, ``HotUnsureError`` is raised.
    """
    keys = (names.family_dead, names.family)
    found = yield Script("send a dead letter again", "family_revive", keys, (letter,), again=False)
    return None if found is None else str(found)


def bury(names: Names, *letters: str) -> Steps[None]:
    """Delete dead letters, by their ids."""
    if letters:
        yield Command("delete dead letters", ("XDEL", names.family_dead, *letters))


def message_of(id: str, fields: Mapping[str, str], deliveries: int = 1) -> Message:  # noqa: A002
    """The message that an entry holds; what is missing is as the original takes it."""
    return Message(
        id,
        fields.get("sender", ""),
        fields.get("type") or "observation",
        fields.get("payload") or "{}",
        fields.get("recipient") or ALL,
        deliveries,
    )


def _letter(id: str, fields: Mapping[str, str]) -> DeadLetter:  # noqa: A002
    deliveries = fields.get("deliveries", "")
    message = message_of(fields.get("id", ""), fields, int(deliveries) if deliveries.isdigit() else 0)
    return DeadLetter(id, fields.get("agent", ""), fields.get("reason", ""), message)
