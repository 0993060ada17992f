"""Sends the requests of operations (:mod:`.requests`): on threads, and on an event loop.

What may be sent twice is sent again, for some seconds, where the connection broke or the server restarts; what may not
is sent once, on a connection that was seen to work.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import redis
import redis.asyncio
import redis.exceptions

from mirror.core.backoff import Backoff
from mirror.core.errors import ConfigError
from mirror.hot.connection import Address, get_async_redis_client, get_redis_client
from mirror.hot.failures import BROKEN, NOT_LET_IN, hot_error
from mirror.hot.names import Names
from mirror.hot.requests import Command, Request, Script, Steps, Transaction

Result = TypeVar("Result")

#: Seconds after which nothing is sent again. Longer than a server with its files in order takes to restart.
PATIENCE = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


def _pauses(patience: float) -> Iterator[float]:
    """Seconds before each retry; it ends when there is none. Uneven, so that many clients do not come at once."""
    end = time.monotonic() + patience
    backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
    while (left := end - time.monotonic()) > 0:
        yield min(left, backoff.next() * random.uniform(0.5, 1.0))  # noqa: S311


def _worth_it(error: BaseException) -> bool:
    return isinstance(error, BROKEN) and not isinstance(error, NOT_LET_IN)


def _refused(request: Request, error: Exception) -> Exception:
    """For what redis-py would not send: a text with half a surrogate pair."""
    if isinstance(error, UnicodeEncodeError):
        step = "send text that UTF-8 can hold"
        return ConfigError(request.doing, "", "a text has a character that UTF-8 cannot hold", next_step=step)
    return error


class Runner:
    """Runs operations; safe to use from several threads, and after a fork."""

    def __init__(self, at: Address, names: Names, patience: float = PATIENCE) -> None:
        """``patience``: seconds after which nothing is sent again."""
        self.at = at
        self.names = names
        self.place = at.place
        self._patience = patience
        self.asking = get_redis_client(at)
        self.waiting = get_redis_client(at, waiting=True)

    def close(self) -> None:
        """Close all connections."""
        self.asking.close()
        self.waiting.close()

    def run(self, steps: Steps[Result]) -> Result:
        """Run an operation to its result; raises a ``MirrorError``."""
        answer: Any = None
        failure: BaseException | None = None
        while True:
            try:
                request = steps.send(answer) if failure is None else steps.throw(failure)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            answer, failure = None, None
            try:
                answer = self.ask(request)
            except BaseException as error:
                failure = error

    def ask(self, request: Request) -> Any:
        """Send a request; raises a ``HotStateError``."""
        pauses = _pauses(0.0 if isinstance(request, Command) and request.waits else self._patience)
        while True:
            sent = False
            try:
                if not request.again:
                    self._see_connection(request)
                    sent = True
                return self._send(request)
            except redis.exceptions.RedisError as error:
                pause = next(pauses, None) if _worth_it(error) and (request.again or not sent) else None
                if pause is None:
                    raise hot_error(error, request.doing, self.place, unsure=sent and not request.again) from error
            except UnicodeEncodeError as error:
                raise _refused(request, error) from error
            time.sleep(pause)

    def _see_connection(self, request: Request) -> None:
        pool = self._client(request).connection_pool
        pool.release(pool.get_connection())

    def _send(self, request: Request) -> Any:
        if isinstance(request, Transaction):
            with self.asking.pipeline(transaction=True) as pipeline:
                for args in request.commands:
                    pipeline.execute_command(*args)
                return pipeline.execute()
        if isinstance(request, Script):
            tail = (len(request.keys), *request.keys, *request.args)
            try:
                return self.asking.execute_command("EVALSHA", request.sha, *tail)
            except redis.exceptions.NoScriptError:  # the server has restarted, or never had it; nothing was done
                return self.asking.execute_command("EVAL", request.text, *tail)
        return self._client(request).execute_command(*request.args)

    def _client(self, request: Request) -> redis.Redis:
        return self.waiting if isinstance(request, Command) and request.waits else self.asking


async def cancellable(asking: Coroutine[Any, Any, Any]) -> Any:
    """What is awaited, but that a cancellation ends it: redis-py 8.1 swallows one that comes while it reads.

    A task that is cancelled, or whose time is over (``asyncio.timeout``), would otherwise go on for ever.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        return await asking
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError


class AsyncRunner:
    """Runs operations in the event loop in which it is first used."""

    def __init__(self, at: Address, names: Names, patience: float = PATIENCE) -> None:
        """``patience``: seconds after which nothing is sent again."""
        self.at = at
        self.names = names
        self.place = at.place
        self._patience = patience
        self.asking = get_async_redis_client(at)
        self.waiting = get_async_redis_client(at, waiting=True)

    async def close(self) -> None:
        """Close all connections."""
        await self.asking.aclose()
        await self.waiting.aclose()

    async def run(self, steps: Steps[Result]) -> Result:
        """Run an operation to its result; raises a ``MirrorError``."""
        answer: Any = None
        failure: BaseException | None = None
        while True:
            try:
                request = steps.send(answer) if failure is None else steps.throw(failure)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            answer, failure = None, None
            try:
                answer = await cancellable(self.ask(request))
            except BaseException as error:
                failure = error

    async def ask(self, request: Request) -> Any:
        """Send a request; raises a ``HotStateError``."""
        pauses = _pauses(0.0 if isinstance(request, Command) and request.waits else self._patience)
        while True:
            sent = False
            try:
                if not request.again:
                    await self._see_connection(request)
                    sent = True
                return await self._send(request)
            except redis.exceptions.RedisError as error:
                pause = next(pauses, None) if _worth_it(error) and (request.again or not sent) else None
                if pause is None:
                    raise hot_error(error, request.doing, self.place, unsure=sent and not request.again) from error
            except UnicodeEncodeError as error:
                raise _refused(request, error) from error
            await asyncio.sleep(pause)

    async def _see_connection(self, request: Request) -> None:
        pool = self._client(request).connection_pool
        await pool.release(await pool.get_connection())

    async def _send(self, request: Request) -> Any:
        if isinstance(request, Transaction):
            async with self.asking.pipeline(transaction=True) as pipeline:
                for args in request.commands:
                    pipeline.execute_command(*args)
                return await pipeline.execute()
        if isinstance(request, Script):
            tail = (len(request.keys), *request.keys, *request.args)
            try:
                return await self.asking.execute_command("EVALSHA", request.sha, *tail)
            except redis.exceptions.NoScriptError:
                return await self.asking.execute_command("EVAL", request.text, *tail)
        return await self._client(request).execute_command(*request.args)

    def _client(self, request: Request) -> redis.asyncio.Redis:
        return self.waiting if isinstance(request, Command) and request.waits else self.asking
