"""What callers give that cannot be: each is refused as ``ConfigError`` with a next step, before anything is asked."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from mirror.core.errors import ConfigError, LockLostError
from mirror.core.positions import Lsn
from mirror.hot.connection import Address
from mirror.hot.facade import AsyncHotState, HotState, get_async_hot_state
from mirror.hot.leases import LONGEST_TTL
from mirror.hot.locks import Lock
from tests.support.waiting import LIMIT

_NO_TIMES: tuple[Any, ...] = (math.inf, math.nan, -1, 0, 1e12, 10**400, 10**5000, "5", None, True)
_NO_NAMES: tuple[Any, ...] = (None, 5, b"ada", "", "a b", ["ada"])
_NO_WAITS: tuple[Any, ...] = (math.nan, "5", None, True)
_NO_COUNTS: tuple[Any, ...] = (0, -1, 1.5, math.inf, 10**5000, "5", None, True)
_NO_NUMBERS: tuple[Any, ...] = (math.inf, -math.inf, math.nan, 10**400, -(10**5000), "5", True)

#: What is called, whether of threads or of an event loop, and with what. ``h``: hot state.
CASES: dict[str, tuple[Callable[[Any, Any], Any], tuple[Any, ...]]] = {
    "locks.take, ttl": (lambda h, x: h.locks.take("x", x), _NO_TIMES),
    "locks.take, wait": (lambda h, x: h.locks.take("x", wait=x), _NO_WAITS),
    "locks.take, name": (lambda h, x: h.locks.take(x), _NO_NAMES),
    "reader, claim_after": (lambda h, x: h.family.reader("bob", claim_after=x).read(), _NO_TIMES),
    "reader, tries": (lambda h, x: h.family.reader("bob", tries=x).read(), _NO_COUNTS),
    "reader, agent": (lambda h, x: h.family.reader(x).read(), _NO_NAMES),
    "read, count": (lambda h, x: h.family.reader("bob").read(x), _NO_COUNTS),
    "read, wait": (lambda h, x: h.family.reader("bob").read(wait=x), _NO_WAITS),
    "drop_older_than": (lambda h, x: h.family.drop_older_than(x), _NO_TIMES),
    "dead_letters, count": (lambda h, x: h.family.dead_letters(x), _NO_COUNTS),
    "send, sender": (lambda h, x: h.family.send(x, "observation", {}), _NO_NAMES),
    "send, recipient": (lambda h, x: h.family.send("ada", "observation", {}, x), _NO_NAMES),
    "agents.set, agent": (lambda h, x: h.agents.set(x), _NO_NAMES),
    "agents.get, agent": (lambda h, x: h.agents.get(x), _NO_NAMES),
    "agents.set, valence": (lambda h, x: h.agents.set("ada", current_valence=x), _NO_NUMBERS),
    "presence.beat, agent": (lambda h, x: h.presence.beat(x), _NO_NAMES),
    "presence.beat, seconds": (lambda h, x: h.presence.beat("ada", x), _NO_TIMES),
    "context.read, agent": (lambda h, x: h.context.read(x), (None, 5, b"ada")),
    "context.read, limit": (lambda h, x: h.context.read("ada", limit=x), _NO_COUNTS),
    "context.append, summary": (lambda h, x: h.context.append("ada", session_key="s", summary=x), (None, 5, " ")),
    "dashboard.publish, data": (lambda h, x: h.dashboard.publish("mood_change", "ada", x), (None, 5, "x", [1])),
    "follow, source": (lambda h, x: h.changes.follow(x).read(), (None, 5, b"x.db")),
    "follow, position": (
        lambda h, x: h.changes.follow("x.db", x).read(),
        (5, 1.5, "", "5", "99999999999999999999999:1", "1:99999999999999999999999", Lsn(2**64, 0), "9" * 5000 + ":1"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_threads(hot: HotState, case: str) -> None:
    call, values = CASES[case]
    for value in values:
        with pytest.raises(ConfigError) as raised:
            call(hot, value)
        assert raised.value.next_step
        assert len(str(raised.value)) < 6000


async def _called(call: Callable[[Any, Any], Any], hot: AsyncHotState, value: object) -> None:
    result = call(hot, value)
    if inspect.isawaitable(result):
        await result


@pytest.mark.parametrize("case", CASES)
def test_event_loops(valkey: Address, case: str) -> None:
    call, values = CASES[case]

    async def go() -> None:
        async with get_async_hot_state(valkey) as hot:
            for value in values:
                with pytest.raises(ConfigError):
                    await _called(call, hot, value)

    asyncio.run(go())


def test_a_listener_with_an_odd_wait(hot: HotState) -> None:
    with hot.dashboard.listen() as listener:
        for value in _NO_WAITS:
            with pytest.raises(ConfigError):
                listener.get(value)


def test_the_ends_of_what_can_be(hot: HotState) -> None:
    with hot.locks.take("x", LONGEST_TTL, wait=math.inf) as lock:
        assert lock.held
    hot.family.send("ada", "observation", {})
    assert hot.family.reader("bob", claim_after=10 * 365 * 86_400).read(wait=-1)
    assert not hot.family.drop_older_than(10 * 365 * 86_400).messages
    hot.agents.set("ada", current_valence=10**300, current_arousal=-1.5)
    state = hot.agents.get("ada")
    assert state is not None
    assert (state.current_valence, state.current_arousal) == (1e300, -1.5)
    assert hot.changes.follow("x.db", f"{2**63 - 1}:{2**63 - 1}").read() == []


def test_a_lock_whose_thread_dies_is_lost(hot: HotState, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whatever error: nobody renews it any more, and the holder is told while it is still its own."""
    monkeypatch.setattr("mirror.hot.leases.renew", lambda *_: 1 / 0)
    heard = list[Lock]()
    told = threading.Event()

    def lost(lock: Lock) -> None:
        heard.append(lock)
        told.set()

    lock = hot.locks.take("x", ttl=3, on_lost=lost)
    assert told.wait(LIMIT)
    assert heard == [lock]
    assert not lock.held
    with pytest.raises(LockLostError, match="ZeroDivisionError"):
        _ = lock.fence
    assert not lock.release()


def test_a_lock_whose_task_dies_is_lost(valkey: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.hot.leases.renew", lambda *_: 1 / 0)

    async def go() -> None:
        async with get_async_hot_state(valkey) as hot:
            told = asyncio.Event()
            lock = await hot.locks.take("x", ttl=3, on_lost=lambda _: told.set())
            await asyncio.wait_for(told.wait(), LIMIT)
            with pytest.raises(LockLostError, match="ZeroDivisionError"):
                lock.check()
            assert not await lock.release()

    asyncio.run(go())
