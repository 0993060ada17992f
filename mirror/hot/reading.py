"""How an agent reads its messages: at least once, each acknowledged or tried again.

A reader is one consumer of the agent's group, with a name of its own. What it gets is *pending* until it is
acknowledged. If the reader dies, another of the same agent takes its pending messages over, once they have been without
a sign for :attr:`Reading.claim_after` seconds. After :attr:`Reading.tries` deliveries a message is a dead letter.

What may be handed over twice: a message whose reader is slower than ``claim_after`` and does not say so
(:meth:`Reading.keep`), and one whose acknowledgement did not arrive. What is never lost: a message whose answer was
lost with the connection; the server counts it as delivered, and the next read asks for it.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from typing import Any

from mirror.core.errors import HotAwayError, HotStateError, HotUnsureError
from mirror.hot.family import ALL, Message, group_of, message_of, trim
from mirror.hot.given import patience, seconds, whole
from mirror.hot.names import Names
from mirror.hot.requests import Command, Request, Script, Steps, Value

#: Seconds that one command blocks at most: so long a wait that is cut without a word is noticed.
LONGEST_BLOCK = 5.0
#: Seconds between two times that what was read by all is deleted.
_TRIM_EVERY = 60.0
_MOST = 1000
_log = logging.getLogger(__name__)
_READ = "read messages"


class Reading:
    """The state of one reader, and what it asks. One read at a time."""

    def __init__(self, names: Names, agent: str, claim_after: float, tries: int) -> None:
        """``claim_after``: seconds without a sign; ``tries``: deliveries after which a message is given up."""
        self.agent = agent
        self.claim_after = seconds(_READ, str(agent), "claim_after", claim_after, 0.001)
        self.tries = whole(_READ, str(agent), "tries", tries)
        self.consumer = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._names = names
        self._group = group_of(agent)
        self._at_work: set[str] = set()
        # Whether messages may have been delivered to us whose answer we did not see.
        self._missed = False
        self._next_claim = 0.0
        self._next_trim = time.monotonic() + _TRIM_EVERY

    def read(self, count: int = 10, wait: float = 0.0) -> Steps[list[Message]]:
        """Up to ``count`` messages: those taken over from dead readers, then new ones.

        ``wait``: seconds to wait for one; of any length. Messages for others are acknowledged and not returned. Raises
        ``ConfigError``, ``HotStateError``; where that is retryable, the next read goes on with nothing lost.
        """
        count = whole(_READ, self.agent, "count", count, _MOST)
        end = time.monotonic() + patience(_READ, self.agent, wait)
        while True:
            if time.monotonic() >= self._next_trim:
                self._next_trim = time.monotonic() + _TRIM_EVERY
                yield from trim(self._names)
            if self._missed:
                found = yield from self._claim(count, 0.0, self.consumer, self._at_work)
                # More of them than fit: the next read asks again.
                self._missed = len(found) >= count
            else:
                found = yield from self._claim_due(count)
            if len(found) < count:
                left = 0.0 if found else end - time.monotonic()
                found += yield from self._new(count - len(found), min(left, self._turn))
            mine = [message for message in found if message.recipient in (ALL, self.agent)]
            if others := [message.id for message in found if message.recipient not in (ALL, self.agent)]:
                yield from self.acknowledge(*others)
            if mine or time.monotonic() >= end:
                return mine

    def acknowledge(self, *messages: Message | str) -> Steps[None]:
        """Say that messages were dealt with, by themselves or by their ids: they are not delivered again."""
        if ids := [_id(message) for message in messages]:
            yield Command("acknowledge messages", ("XACK", self._names.family, self._group, *ids))
            self._at_work.difference_update(ids)

    def fail(self, message: Message | str, reason: str) -> Steps[str]:
        """Say that a message could not be dealt with; it is delivered again in some seconds, or given up.

        Return ``again``; ``dead``: it was tried too often, and is a dead letter with the reason; ``lost``: it is not
        this reader's any more. Sent once: where the answer is lost, ``HotUnsureError`` is raised.
        """
        keys = (self._names.family, self._names.family_dead)
        args = (self._group, self.consumer, _id(message), self.tries, self.agent, reason, self._claim_ms)
        said = yield from self._in_group(Script("give a message back", "family_fail", keys, args, again=False))
        self._at_work.discard(_id(message))
        return str(said)

    def keep(self, *messages: Message | str) -> Steps[list[str]]:
        """Say that this reader is still at work on messages; return the ids of those that are not its own any more."""
        ids = [_id(message) for message in messages]
        if not ids:
            return []
        args = (self._group, self.consumer, *ids)
        script = Script("keep messages", "family_keep", (self._names.family,), args)
        lost: list[str] = yield from self._in_group(script)
        self._at_work.difference_update(lost)
        return lost

    @property
    def _turn(self) -> float:
        """Seconds that one command blocks at most, and between two looks for what dead readers have left."""
        return min(self.claim_after / 4, LONGEST_BLOCK)

    @property
    def _claim_ms(self) -> int:
        return max(1, round(self.claim_after * 1000))

    def _claim_due(self, count: int) -> Steps[list[Message]]:
        """Take over what dead readers have left, now and then: at each read it would cost more than it is worth."""
        if time.monotonic() < self._next_claim:
            return []
        found = yield from self._claim(count, self.claim_after)
        if len(found) < count:
            self._next_claim = time.monotonic() + self._turn
        return found

    def _claim(
        self, count: int, idle: float, whose: str = "", left_alone: set[str] | frozenset[str] = frozenset()
    ) -> Steps[list[Message]]:
        args: tuple[Value, ...] = (self._group, self.consumer, round(idle * 1000), self.tries, count, self.agent, whose)
        keys = (self._names.family, self._names.family_dead)
        script = Script("take messages over", "family_claim", keys, (*args, *sorted(left_alone)), again=False)
        found, dead, gone = yield from self._delivering(script)
        self._at_work.difference_update(dead, gone)
        if dead:
            _log.warning("messages of %s were given up after %d tries: %s", self.agent, self.tries, ", ".join(dead))
        if gone:
            _log.warning("messages of %s were deleted before they were acknowledged: %s", self.agent, ", ".join(gone))
        messages = [
            message_of(id, dict(zip(fields[::2], fields[1::2], strict=True)), deliveries)
            for id, fields, deliveries in found  # noqa: A001
        ]
        self._at_work.update(message.id for message in messages)
        return messages

    def _new(self, count: int, wait: float) -> Steps[list[Message]]:
        block: tuple[Value, ...] = ("BLOCK", max(1, round(wait * 1000))) if wait > 0 else ()
        head = ("XREADGROUP", "GROUP", self._group, self.consumer, "COUNT", count, *block)
        asked = Command(_READ, (*head, "STREAMS", self._names.family, ">"), again=False, waits=bool(block))
        answer = yield from self._delivering(asked)
        messages = [message_of(id, fields) for _, entries in answer or () for id, fields in entries]  # noqa: A001
        self._at_work.update(message.id for message in messages)
        return messages

    def _delivering(self, request: Request) -> Steps[Any]:
        """Ask for messages; whatever ends that without an answer, some may have been delivered."""
        try:
            return (yield from self._in_group(request))
        except HotUnsureError as error:
            self._missed = True
            step = "read again: what was delivered without being seen comes first"
            raise HotAwayError(error.operation, error.place, error.detail, next_step=step) from error
        except HotStateError:
            raise
        except BaseException:  # a cancelled task, Ctrl+C
            self._missed = True
            raise

    def _in_group(self, request: Request) -> Steps[Any]:
        """Ask; where the group is missing (first read, or the server has lost its data), make it first."""
        try:
            return (yield request)
        except HotStateError as error:
            if error.reply != "NOGROUP":
                raise
        try:
            yield Command("make a group", ("XGROUP", "CREATE", self._names.family, self._group, "0", "MKSTREAM"))
        except HotStateError as error:
            if error.reply != "BUSYGROUP":  # another reader has just made it
                raise
        return (yield request)


def _id(message: Message | str) -> str:
    return message if isinstance(message, str) else message.id
