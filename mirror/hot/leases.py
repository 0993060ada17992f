"""Locks between agents: what the server is asked, and until when a holder may believe that it has one.

``agent:lock:{name}`` holds ``number owner`` for as long as the lock is taken; ``agent:lock:{name}:fence`` the last
number, for ever. Each holder's number is higher than that of any holder before.

A lock of this kind cannot stop a holder that stalls and wakes up later: it may be in the middle of a write. What can is
the place that is written to: see :mod:`.fenced`. Nor is a lock kept over a loss of the server's data: two may then
have it for a moment, and their numbers tell who was first.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from mirror.core.errors import LockLostError, LockTakenError
from mirror.hot.given import seconds
from mirror.hot.names import Names, lock_key
from mirror.hot.requests import Script, Steps

#: Shorter ones would be lost at each hiccup of a network or a busy machine.
SHORTEST_TTL = 0.5
#: A day: a holder that dies would keep others out for longer than anybody waits.
LONGEST_TTL = 86_400.0
_TAKE = "take a lock"


def clock() -> float:
    """Seconds that also pass while the machine sleeps or the process is stopped."""
    # (Linux stops CLOCK_MONOTONIC while it sleeps; macOS does not, and has no CLOCK_BOOTTIME.)
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass
class Lease:
    """A lock as its holder knows it. What it says of itself needs no connection."""

    name: str
    fence: int
    owner: str
    ttl: float
    """Seconds."""
    deadline: float
    """By :func:`clock`: from then on it counts as lost. Before the server's time is over, which began later."""
    lost: str = ""
    """Why it is not held any more; empty: it is."""

    @property
    def every(self) -> float:
        """Seconds between two renewals."""
        return self.ttl / 3

    @property
    def answer_seconds(self) -> float:
        """How long one renewal may take: two may fail before the deadline."""
        return self.ttl / 6

    def over(self) -> bool:
        """Whether it is not held any more, or not for certain."""
        if not self.lost and clock() >= self.deadline:
            self.lost = f"it was not renewed within {self.ttl:g} s"
        return bool(self.lost)

    def error(self) -> LockLostError:
        """For who uses it after it was lost."""
        step = "stop what the lock is for, and take it again; what was written since is refused only where it is fenced"
        return LockLostError("use a lock", self.name, self.lost, next_step=step)


def _deadline(sent: float, ttl: float) -> float:
    return sent + ttl * 5 / 6


def take(names: Names, name: str, ttl: float) -> Steps[Lease]:
    """Take a lock for ``ttl`` seconds: half a second to a day.

    Raises ``ConfigError``, ``LockTakenError`` if another has it, ``HotStateError``.
    """
    ttl = seconds(_TAKE, str(name), "ttl", ttl, SHORTEST_TTL, LONGEST_TTL)
    keys = (lock_key(names.lock, name), lock_key(names.fence, name))
    owner = secrets.token_hex(12)
    sent = clock()
    fence, left = yield Script(_TAKE, "lock_take", keys, (owner, round(ttl * 1000)))
    if fence is None:
        detail = f"another holds it, for {max(left, 0) / 1000:.1f} s if it does not renew it"
        raise LockTakenError(_TAKE, name, detail, next_step="wait, or do without")
    return Lease(name, int(fence), owner, ttl, _deadline(sent, ttl))


def renew(names: Names, lease: Lease) -> Steps[bool]:
    """Renew it; whether it is still held. A failure leaves the deadline as it is."""
    sent = clock()
    args = (f"{lease.fence} {lease.owner}", round(lease.ttl * 1000))
    kept = yield Script("renew a lock", "lock_renew", (lock_key(names.lock, lease.name),), args)
    if kept:
        lease.deadline = _deadline(sent, lease.ttl)
    elif not lease.lost:
        lease.lost = "the server does not know it any more: another took it, or the server lost its data"
    return bool(kept)


def release(names: Names, lease: Lease) -> Steps[bool]:
    """Give it back; whether it was held until now. Another's lock of the same name is left alone."""
    args = (f"{lease.fence} {lease.owner}",)
    return bool((yield Script("release a lock", "lock_release", (lock_key(names.lock, lease.name),), args)))
