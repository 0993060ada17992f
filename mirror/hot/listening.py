"""Listens to the dashboard's channel, over a connection of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self

import redis.exceptions

from mirror.core.errors import HotAwayError
from mirror.hot import dashboard
from mirror.hot.connection import ANSWER_SECONDS
from mirror.hot.dashboard import Event, event_of
from mirror.hot.failures import hot_error
from mirror.hot.given import patience
from mirror.hot.methods import AsyncMethods, Methods, acall, call
from mirror.hot.runners import AsyncRunner, Runner, cancellable

_LISTEN = "listen to the dashboard"
#: Seconds of one wait.
_TURN = 5.0


def _event(message: Any) -> Event | None:
    return event_of(message["data"]) if message is not None and message["type"] == "message" else None


def _silent(place: str) -> HotAwayError:
    return HotAwayError(_LISTEN, place, "no answer", next_step="check that the server runs there")


class Listener:
    """Hears events from when it was made until :meth:`close`. One thread at a time."""

    def __init__(self, runner: Runner) -> None:
        """Returns when the server has confirmed that it will send them; raises ``HotStateError``."""
        self._place = runner.place
        self._pubsub = runner.waiting.pubsub()
        self._open = True
        try:
            self._pubsub.subscribe(runner.names.dashboard)
            if self._pubsub.get_message(timeout=ANSWER_SECONDS) is None:
                raise _silent(self._place)
        except redis.exceptions.RedisError as error:
            self._pubsub.close()
            raise hot_error(error, _LISTEN, self._place) from error
        except BaseException:
            self._pubsub.close()
            raise

    def get(self, wait: float) -> Event | None:
        """The next event; None after ``wait`` seconds without one.

        Raises ``HotStateError`` where the connection breaks: what was published meanwhile is lost. Then make another;
        so, too, where something else ended the wait, such as Ctrl-C: part of an event may have been read.
        """
        end = time.monotonic() + patience(_LISTEN, self._place, wait)
        while True:
            if not self._open:
                raise HotAwayError(_LISTEN, self._place, "this listener is closed", next_step="make another")
            try:
                message = self._pubsub.get_message(timeout=max(0.0, min(end - time.monotonic(), _TURN)))
            except redis.exceptions.RedisError as error:
                self.close()
                raise hot_error(error, _LISTEN, self._place) from error
            except BaseException:
                self.close()
                raise
            found = _event(message)
            if found is not None or time.monotonic() >= end:
                return found

    def __iter__(self) -> Iterator[Event]:
        while True:
            if (event := self.get(_TURN)) is not None:
                yield event

    def close(self) -> None:
        """Stop listening."""
        self._open = False
        self._pubsub.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncListener:
    """:class:`Listener` for an event loop; it begins with ``async with``."""

    def __init__(self, runner: AsyncRunner) -> None:
        self._place = runner.place
        self._channel = runner.names.dashboard
        self._pubsub = runner.waiting.pubsub()

    async def __aenter__(self) -> Self:
        try:
            await self._pubsub.subscribe(self._channel)
            if await self._pubsub.get_message(timeout=ANSWER_SECONDS) is None:
                raise _silent(self._place)
        except redis.exceptions.RedisError as error:
            await self.close()
            raise hot_error(error, _LISTEN, self._place) from error
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def get(self, wait: float) -> Event | None:
        """:meth:`Listener.get`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience(_LISTEN, self._place, wait)
        while True:
            try:
                turn = max(0.0, min(end - loop.time(), _TURN))
                message = await cancellable(self._pubsub.get_message(timeout=turn))
            except redis.exceptions.RedisError as error:
                await self.close()
                raise hot_error(error, _LISTEN, self._place) from error
            found = _event(message)
            if found is not None or loop.time() >= end:
                return found

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            if (event := await self.get(_TURN)) is not None:
                yield event

    async def close(self) -> None:
        """Stop listening."""
        await self._pubsub.aclose()


class Dashboard(Methods):
    """Events for the dashboard."""

    publish = call(dashboard.publish)

    def listen(self) -> Listener:
        """Hear what is published from now on."""
        return Listener(self._runner)


class AsyncDashboard(AsyncMethods):
    """Events for the dashboard."""

    publish = acall(dashboard.publish)

    def listen(self) -> AsyncListener:
        """Hear what is published from the begin of the ``async with``."""
        return AsyncListener(self._runner)
