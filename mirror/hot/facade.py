"""``get_hot_state()``: everything of this package, for one server and one set of names."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from mirror.hot import agents, context, family
from mirror.hot.connection import Address, address
from mirror.hot.family import Message
from mirror.hot.following import AsyncChanges, Changes
from mirror.hot.listening import AsyncDashboard, Dashboard
from mirror.hot.locks import AsyncLocks, Locks
from mirror.hot.methods import AsyncMethods, Methods, acall, call
from mirror.hot.names import Names
from mirror.hot.online import AsyncPresence, Presence
from mirror.hot.reading import Reading
from mirror.hot.runners import AsyncRunner, Runner

#: Seconds without a sign after which a reader counts as dead, and deliveries after which a message is given up.
CLAIM_AFTER, TRIES = 60.0, 5


class Agents(Methods):
    """What agents do now."""

    set = call(agents.set_state)
    get = call(agents.get_state)
    delete = call(agents.forget_state)


class AsyncAgents(AsyncMethods):
    """What agents do now."""

    set = acall(agents.set_state)
    get = acall(agents.get_state)
    delete = acall(agents.forget_state)


class Context(Methods):
    """What agents said on their channels."""

    append = call(context.append)
    read = call(context.read)
    shared = call(context.shared)


class AsyncContext(AsyncMethods):
    """What agents said on their channels."""

    append = acall(context.append)
    read = acall(context.read)
    shared = acall(context.shared)


class Reader:
    """One reader of an agent's messages (:mod:`.reading`). One thread at a time; made anew in a forked child."""

    def __init__(self, runner: Runner, reading: Reading) -> None:
        self._runner = runner
        self._reading = reading

    @property
    def consumer(self) -> str:
        """Its name in the agent's group."""
        return self._reading.consumer

    def read(self, count: int = 10, wait: float = 0.0) -> list[Message]:
        """See :meth:`Reading.read`."""
        return self._runner.run(self._reading.read(count, wait))

    def acknowledge(self, *messages: Message | str) -> None:
        """See :meth:`Reading.acknowledge`."""
        self._runner.run(self._reading.acknowledge(*messages))

    def fail(self, message: Message | str, reason: str) -> str:
        """See :meth:`Reading.fail`."""
        return self._runner.run(self._reading.fail(message, reason))

    def keep(self, *messages: Message | str) -> list[str]:
        """See :meth:`Reading.keep`."""
        return self._runner.run(self._reading.keep(*messages))


class AsyncReader:
    """:class:`Reader` for an event loop. One task at a time."""

    def __init__(self, runner: AsyncRunner, reading: Reading) -> None:
        self._runner = runner
        self._reading = reading

    @property
    def consumer(self) -> str:
        """Its name in the agent's group."""
        return self._reading.consumer

    async def read(self, count: int = 10, wait: float = 0.0) -> list[Message]:
        """See :meth:`Reading.read`."""
        return await self._runner.run(self._reading.read(count, wait))

    async def acknowledge(self, *messages: Message | str) -> None:
        """See :meth:`Reading.acknowledge`."""
        await self._runner.run(self._reading.acknowledge(*messages))

    async def fail(self, message: Message | str, reason: str) -> str:
        """See :meth:`Reading.fail`."""
        return await self._runner.run(self._reading.fail(message, reason))

    async def keep(self, *messages: Message | str) -> list[str]:
        """See :meth:`Reading.keep`."""
        return await self._runner.run(self._reading.keep(*messages))


class Family(Methods):
    """Messages between agents."""

    send = call(family.send)
    status = call(family.status)
    forget = call(family.forget)
    trim = call(family.trim)
    drop_older_than = call(family.drop_older_than)
    dead_letters = call(family.dead_letters)
    revive = call(family.revive)
    bury = call(family.bury)

    def reader(self, agent: str, *, claim_after: float = CLAIM_AFTER, tries: int = TRIES) -> Reader:
        """A reader of an agent's messages. ``claim_after``: seconds, the same for all readers of the agent."""
        return Reader(self._runner, Reading(self._runner.names, agent, claim_after, tries))


class AsyncFamily(AsyncMethods):
    """Messages between agents."""

    send = acall(family.send)
    status = acall(family.status)
    forget = acall(family.forget)
    trim = acall(family.trim)
    drop_older_than = acall(family.drop_older_than)
    dead_letters = acall(family.dead_letters)
    revive = acall(family.revive)
    bury = acall(family.bury)

    def reader(self, agent: str, *, claim_after: float = CLAIM_AFTER, tries: int = TRIES) -> AsyncReader:
        """A reader of an agent's messages. ``claim_after``: seconds, the same for all readers of the agent."""
        return AsyncReader(self._runner, Reading(self._runner.names, agent, claim_after, tries))


class HotState:
    """All of it. Threads may share one; readers and listeners are for one thread at a time."""

    def __init__(self, at: Address, names: Names) -> None:
        """Use :func:`get_hot_state`."""
        self._runner = Runner(at, names)
        self.names = names
        self.agents = Agents(self._runner)
        self.presence = Presence(self._runner)
        self.dashboard = Dashboard(self._runner)
        self.context = Context(self._runner)
        self.family = Family(self._runner)
        self.locks = Locks(self._runner)
        self.changes = Changes(self._runner)

    def close(self) -> None:
        """Close all connections but those of locks that are held."""
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncHotState:
    """:class:`HotState` for the event loop in which it is used."""

    def __init__(self, at: Address, names: Names) -> None:
        """Use :func:`get_async_hot_state`."""
        self._runner = AsyncRunner(at, names)
        self.names = names
        self.agents = AsyncAgents(self._runner)
        self.presence = AsyncPresence(self._runner)
        self.dashboard = AsyncDashboard(self._runner)
        self.context = AsyncContext(self._runner)
        self.family = AsyncFamily(self._runner)
        self.locks = AsyncLocks(self._runner)
        self.changes = AsyncChanges(self._runner)

    async def close(self) -> None:
        """Close all connections but those of locks that are held."""
        await self._runner.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def get_hot_state(config: str | Path | Address | None = None, names: Names | None = None) -> HotState:
    """Hot state on the configured server; nothing is connected before it is used.

    ``config``: the path of mirror.json, None: in the usual places; or an address. ``names``: of the keys, None: the
    original's. Raises ``ConfigError``.
    """
    return HotState(config if isinstance(config, Address) else address(config), names or Names())


def get_async_hot_state(config: str | Path | Address | None = None, names: Names | None = None) -> AsyncHotState:
    """:func:`get_hot_state` for an event loop."""
    return AsyncHotState(config if isinstance(config, Address) else address(config), names or Names())
