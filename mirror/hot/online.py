"""Keeps an agent online: a thread, or a task, that gives a sign of life every ten seconds (:mod:`.presence`)."""

from __future__ import annotations

import asyncio
import logging
import threading
from types import TracebackType
from typing import Self

from mirror.core.errors import HotStateError
from mirror.hot import presence
from mirror.hot.methods import AsyncMethods, Methods, acall, call
from mirror.hot.runners import AsyncRunner, Runner

_log = logging.getLogger(__name__)
#: Seconds after which a sign that failed is tried again.
_RETRY = 1.0


class _Said:
    """Says once that signs of life fail, and once that they work again."""

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._failing = False

    def failed(self, error: HotStateError) -> float:
        """Seconds until the next try."""
        if not self._failing:
            _log.warning("%s counts as offline soon, it is tried again: %s", self._agent, error)
        self._failing = True
        return _RETRY

    def worked(self) -> float:
        """Seconds until the next sign."""
        if self._failing:
            _log.info("%s is online again", self._agent)
        self._failing = False
        return presence.EVERY


class KeptOnline:
    """An agent that is kept online until :meth:`stop`, or the end of the ``with``."""

    def __init__(self, runner: Runner, agent: str) -> None:
        """Gives the first sign; raises ``HotStateError`` if it fails."""
        self._runner = runner
        self._agent = agent
        self._end = threading.Event()
        runner.run(presence.beat(runner.names, agent))
        self._thread = threading.Thread(target=self._keep, name=f"presence {agent}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Say that the agent is offline. Raises ``HotStateError``; the agent then counts as offline 30 s later."""
        self._end.set()
        self._thread.join()
        self._runner.run(presence.leave(self._runner.names, self._agent))

    def _keep(self) -> None:
        said = _Said(self._agent)
        pause = presence.EVERY
        while not self._end.wait(pause):
            try:
                self._runner.run(presence.beat(self._runner.names, self._agent))
                pause = said.worked()
            except HotStateError as error:
                pause = said.failed(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except HotStateError as failure:
            _log.warning("%s counts as offline in %.0f s: %s", self._agent, presence.TTL, failure)


class AsyncKeptOnline:
    """:class:`KeptOnline` for an event loop, by ``async with``."""

    def __init__(self, runner: AsyncRunner, agent: str) -> None:
        self._runner = runner
        self._agent = agent
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Give the first sign, and go on; raises ``HotStateError`` if it fails."""
        await self._runner.run(presence.beat(self._runner.names, self._agent))
        self._task = asyncio.create_task(self._keep(), name=f"presence {self._agent}")

    async def stop(self) -> None:
        """Say that the agent is offline. Raises ``HotStateError``."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        await self._runner.run(presence.leave(self._runner.names, self._agent))

    async def _keep(self) -> None:
        said = _Said(self._agent)
        pause = presence.EVERY
        while True:
            await asyncio.sleep(pause)
            try:
                await self._runner.run(presence.beat(self._runner.names, self._agent))
                pause = said.worked()
            except HotStateError as error:
                pause = said.failed(error)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.stop()
        except HotStateError as failure:
            _log.warning("%s counts as offline in %.0f s: %s", self._agent, presence.TTL, failure)


class Presence(Methods):
    """Who is online."""

    beat = call(presence.beat)
    leave = call(presence.leave)
    is_online = call(presence.is_online)
    online = call(presence.online)

    def keep(self, agent: str) -> KeptOnline:
        """Keep an agent online, by a thread, until the end of the ``with``."""
        return KeptOnline(self._runner, agent)


class AsyncPresence(AsyncMethods):
    """Who is online."""

    beat = acall(presence.beat)
    leave = acall(presence.leave)
    is_online = acall(presence.is_online)
    online = acall(presence.online)

    def keep(self, agent: str) -> AsyncKeptOnline:
        """Keep an agent online, by a task, until the end of the ``async with``."""
        return AsyncKeptOnline(self._runner, agent)
