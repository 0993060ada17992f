"""The asynchronous twins: each has the same methods; what holds on threads holds on an event loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

import pytest
import redis

from mirror.core.errors import HotAwayError, HotUnsureError
from mirror.hot import presence
from mirror.hot.connection import Address, get_async_redis_client, get_redis_client
from mirror.hot.dashboard import Event
from mirror.hot.facade import (
    Agents,
    AsyncAgents,
    AsyncContext,
    AsyncFamily,
    AsyncHotState,
    AsyncReader,
    Context,
    Family,
    HotState,
    Reader,
    get_async_hot_state,
)
from mirror.hot.listening import AsyncDashboard, AsyncListener, Dashboard, Listener
from mirror.hot.locks import AsyncLock, AsyncLocks, Lock, Locks
from mirror.hot.online import AsyncKeptOnline, AsyncPresence, KeptOnline, Presence
from tests.support.proxy import Proxy, Trap
from tests.support.valkey import ValkeyServer
from tests.support.waiting import LIMIT

TWINS = [
    (Agents, AsyncAgents),
    (Context, AsyncContext),
    (Dashboard, AsyncDashboard),
    (Family, AsyncFamily),
    (HotState, AsyncHotState),
    (KeptOnline, AsyncKeptOnline),
    (Listener, AsyncListener),
    (Lock, AsyncLock),
    (Locks, AsyncLocks),
    (Presence, AsyncPresence),
    (Reader, AsyncReader),
]


def public(kind: type) -> dict[str, list[str]]:
    return {
        name: list(inspect.signature(value).parameters)
        for name, value in inspect.getmembers(kind, callable)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("kind", "twin"), TWINS)
def test_twins_have_the_same_methods(kind: type, twin: type) -> None:
    """But that a task begins with ``async with``."""
    theirs = public(twin)
    if kind is KeptOnline:
        del theirs["start"]
    assert public(kind) == theirs


def run(at: Address, work: Callable[[AsyncHotState], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(LIMIT), get_async_hot_state(at) as hot:
            await work(hot)

    asyncio.run(whole())


async def until(look: Callable[[], Awaitable[object]]) -> None:
    while not await look():
        await asyncio.sleep(0.01)


def test_state_presence_dashboard_and_context(valkey: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "EVERY", 0.02)
    raw = get_redis_client(valkey)

    async def work(hot: AsyncHotState) -> None:
        await hot.agents.set("ada", status="idle", current_mood="glad")
        state = await hot.agents.get("ada")
        assert state is not None
        assert (state.status, state.current_mood) == ("idle", "glad")
        async with hot.presence.keep("ada"):
            raw.delete("agent:presence:ada")
            await until(lambda: hot.presence.is_online("ada"))
            assert await hot.presence.online() == ["ada"]
        assert await hot.presence.online() == []
        async with hot.dashboard.listen() as listener:
            assert await hot.dashboard.publish("agent_status", "ada", {"n": 1}) == 1
            assert await listener.get(LIMIT) == Event("agent_status", "ada", {"n": 1})
            assert await listener.get(0) is None
            await hot.dashboard.publish("agent_status", "ada", {"n": 2})
            async for event in listener:
                assert event.data == {"n": 2}
                break
        await hot.context.append("ada", session_key="s", summary="hello")
        assert [event.summary for event in await hot.context.read("ada")] == ["hello"]

    run(valkey, work)


def test_messages(valkey: Address) -> None:
    async def work(hot: AsyncHotState) -> None:
        reader = hot.family.reader("bob", claim_after=0.05, tries=2)
        waiting = asyncio.create_task(reader.read(wait=LIMIT))
        await until(lambda: group(hot))
        sent = await hot.family.send("ada", "alert", {"n": 1}, "bob")
        [message] = await waiting
        assert (message.id, message.data) == (sent, {"n": 1})
        assert await reader.keep(message) == []
        assert await reader.fail(message, "no") == "again"
        [message] = await reader.read(wait=LIMIT)
        assert await reader.fail(message, "no") == "dead"
        [letter] = await hot.family.dead_letters()
        await hot.family.revive(letter.id)
        await reader.acknowledge(*await reader.read())
        status = await hot.family.status()
        assert (status.groups["bob"].pending, status.groups["bob"].lag) == (0, 0)
        assert await hot.family.trim() == 1
        assert (await hot.family.forget("bob")).known

    async def group(hot: AsyncHotState) -> bool:
        return "bob" in (await hot.family.status()).groups

    run(valkey, work)


def test_a_read_that_is_cancelled_loses_nothing(valkey: Address) -> None:
    """Neither one that waits nor one that is answered in the same moment."""

    async def work(hot: AsyncHotState) -> None:
        reader = hot.family.reader("bob")
        await reader.read()
        got: list[str] = []
        sent: list[str] = []
        for number in range(60):
            reading = asyncio.create_task(reader.read(count=1, wait=LIMIT))
            for _ in range(number % 12):
                await asyncio.sleep(0)
            sent.append(await hot.family.send("ada", "alert", {"n": number}))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            reading.cancel()
            try:
                got += [message.id for message in await reading]
            except asyncio.CancelledError:
                pass
        while some := await reader.read():
            got += [message.id for message in some]
        assert sorted(got) == sent

    run(valkey, work)


def test_cut_connections(valkey: Address) -> None:
    raw = get_redis_client(valkey)

    async def work(hot: AsyncHotState) -> None:
        reader = hot.family.reader("bob")
        await reader.read()
        sprung = proxy.set_trap(Trap(False, b"$15\r\n", 10))
        sent = [await hot.family.send("ada", "alert", "{}")]
        assert await asyncio.to_thread(sprung.wait, LIMIT)
        assert [one for one, _ in raw.xrange("stream:family")] == sent
        for wait in (0, LIMIT):
            proxy.set_trap(Trap(False, b"sender"))
            with pytest.raises(HotAwayError):
                await reader.read(wait=wait)
            [message] = await reader.read(wait=wait)
            assert message.id == sent[-1]
            await reader.acknowledge(message)
            sent.append(await hot.family.send("ada", "alert", "{}"))
        proxy.set_trap(Trap(False, b"QUEUED\r\n", 40))
        with pytest.raises(HotUnsureError):
            await hot.context.append("ada", session_key="s", summary="once")
        assert raw.xlen("agent:cross_channel_log:ada") == 1
        async with hot.dashboard.listen() as listener:
            proxy.cut()
            with pytest.raises(HotAwayError):
                await listener.get(LIMIT)
        await hot.agents.set("ada", status="idle")

    with Proxy(f"host={valkey.host} port={valkey.port}") as proxy:
        run(Address(port=proxy._port, db=valkey.db), work)


def test_the_server_is_restarted() -> None:
    with ValkeyServer(appendonly=True) as server:

        async def work(hot: AsyncHotState) -> None:
            reader = hot.family.reader("bob")
            await reader.read()
            sent = []
            for kill in (server.kill, server.stop):
                sent.append(await hot.family.send("ada", "alert", "{}"))
                kill()
                sending = asyncio.create_task(hot.family.send("ada", "alert", "{}"))
                await asyncio.to_thread(server.start)
                try:
                    sent.append(await sending)
                except HotAwayError:  # it took longer than is waited for
                    pass
            assert [message.id for message in await reader.read(count=100)] == sent

        run(server.address(), work)


def test_an_idle_read_is_longer_than_their_timeout(valkey: Address) -> None:
    async def work(hot: AsyncHotState) -> None:
        assert await hot.family.reader("bob").read(wait=6) == []

    run(valkey, work)


def test_redis_py_itself_repeats_nothing(valkey: Address) -> None:
    async def work() -> None:
        client = get_async_redis_client(Address(port=proxy._port, db=valkey.db))
        await client.ping()
        proxy.set_trap(Trap(False, b"-0\r\n", -2))
        with pytest.raises(redis.exceptions.ConnectionError):
            await client.xadd("stream", {"n": "1"})
        await client.aclose()

    with Proxy(f"host={valkey.host} port={valkey.port}") as proxy:
        asyncio.run(work())
    assert get_redis_client(valkey).xlen("stream") == 1


def test_a_cancellation_is_not_swallowed(valkey: Address) -> None:
    """At whatever moment it comes; redis-py alone goes on as if nothing had happened."""

    async def work(hot: AsyncHotState) -> None:
        for turns in range(20):
            task = asyncio.create_task(hot.agents.get("ada"))
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await hot.agents.get("ada") is None

    run(valkey, work)
