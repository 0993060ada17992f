"""Locks that are renewed by a thread, or by a task: see :mod:`.leases` for what they promise."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar

from mirror.core.errors import HotStateError, LockTakenError
from mirror.hot import leases
from mirror.hot.given import patience
from mirror.hot.leases import Lease, clock
from mirror.hot.runners import AsyncRunner, Runner

_log = logging.getLogger(__name__)
#: Seconds between two attempts to take a lock that another has.
_POLL = 0.2
#: A forked child has no thread that renews, and must not release what its parent holds.
_FORKED = "this process was forked from the one that holds it"

Held = TypeVar("Held", "Lock", "AsyncLock")


def _lost(lease: Lease, lock: Held, call: Callable[[Held], object] | None) -> None:
    _log.warning("lock %s was lost: %s", lease.name, lease.lost)
    if call is not None:
        try:
            call(lock)
        except Exception:
            _log.exception("on_lost of lock %s failed", lease.name)


def _died(lease: Lease, error: BaseException) -> None:
    """Count a lock as lost whose renewing has ended by an error that it is not made for."""
    lease.lost = lease.lost or f"renewing it failed: {type(error).__name__}: {error}"
    _log.error("lock %s is not renewed any more", lease.name, exc_info=error)


class _Held:
    """What both kinds say of themselves, without a connection."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._pid = os.getpid()

    @property
    def name(self) -> str:
        """Its name."""
        return self._lease.name

    @property
    def held(self) -> bool:
        """Whether it is held for certain."""
        return os.getpid() == self._pid and not self._lease.over()

    @property
    def fence(self) -> int:
        """Its number: higher than that of any holder before. Raises ``LockLostError`` once it is lost or released."""
        self.check()
        return self._lease.fence

    def check(self) -> None:
        """Raise ``LockLostError`` if it is not held for certain."""
        if os.getpid() != self._pid:
            raise replace(self._lease, lost=_FORKED).error()
        if self._lease.over():
            raise self._lease.error()


class Lock(_Held):
    """A lock that this process holds; a context manager that releases it. Leaving it raises if it was lost within.

    A thread renews it over a connection of its own, so that nothing that the program asks can hold that up.
    """

    def __init__(self, runner: Runner, lease: Lease, on_lost: Callable[[Lock], object] | None) -> None:
        """Use :meth:`Locks.take`."""
        super().__init__(lease)
        at = replace(runner.at, answer_seconds=min(runner.at.answer_seconds, lease.answer_seconds))
        self._runner = Runner(at, runner.names, patience=0.0)
        self._on_lost = on_lost
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lock {lease.name}", daemon=True)
        self._thread.start()

    def release(self) -> bool:
        """Give it back; whether it was held until now. May be called twice. Raises ``HotStateError``.

        Where the server cannot be reached, it becomes free by itself when its time is over.
        """
        if os.getpid() != self._pid:
            return False
        self._end.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        over = self._lease.over()
        self._lease.lost = self._lease.lost or "it was released"
        try:
            return self._runner.run(leases.release(self._runner.names, self._lease)) and not over
        finally:
            self._runner.close()

    def _renew(self) -> None:
        lease = self._lease
        try:
            self._keep_renewing()
        except BaseException as error:  # nobody renews it any more, whatever it was
            _died(lease, error)
        if lease.over():  # also where it is just being released: who releases waits for this thread
            _lost(lease, self, self._on_lost)

    def _keep_renewing(self) -> None:
        lease = self._lease
        pause = lease.every
        failing = False
        while not self._end.wait(min(pause, max(0.0, lease.deadline - clock()))):
            if lease.over():
                break
            try:
                if not self._runner.run(leases.renew(self._runner.names, lease)):
                    break
                pause, failing = lease.every, False
            except HotStateError as error:
                if not failing:
                    _log.warning("lock %s could not be renewed, and is tried again: %s", lease.name, error)
                pause, failing = lease.every / 4, True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = self._lease.error() if self._lease.over() else None
        try:
            self.release()
        except HotStateError as failure:
            _log.warning("lock %s will be free when its time is over: %s", self.name, failure)
        if lost is not None and error is None:
            raise lost


class AsyncLock(_Held):
    """:class:`Lock` for an event loop. A task renews it; while the loop is held up, nothing does."""

    def __init__(self, runner: AsyncRunner, lease: Lease, on_lost: Callable[[AsyncLock], object] | None) -> None:
        """Use :meth:`AsyncLocks.take`."""
        super().__init__(lease)
        at = replace(runner.at, answer_seconds=min(runner.at.answer_seconds, lease.answer_seconds))
        self._runner = AsyncRunner(at, runner.names, patience=0.0)
        self._on_lost = on_lost
        self._task = asyncio.create_task(self._renew(), name=f"lock {lease.name}")

    async def release(self) -> bool:
        """Give it back; whether it was held until now. May be called twice. Raises ``HotStateError``."""
        if os.getpid() != self._pid:
            return False
        if asyncio.current_task() is not self._task:
            self._task.cancel()
            await asyncio.wait((self._task,))
        over = self._lease.over()
        self._lease.lost = self._lease.lost or "it was released"
        try:
            return await self._runner.run(leases.release(self._runner.names, self._lease)) and not over
        finally:
            await self._runner.close()

    async def _renew(self) -> None:
        try:
            await self._keep_renewing()
        except Exception as error:
            _died(self._lease, error)
        _lost(self._lease, self, self._on_lost)

    async def _keep_renewing(self) -> None:
        lease = self._lease
        pause = lease.every
        failing = False
        while True:
            await asyncio.sleep(min(pause, max(0.0, lease.deadline - clock())))
            if lease.over():
                break
            try:
                if not await self._runner.run(leases.renew(self._runner.names, lease)):
                    break
                pause, failing = lease.every, False
            except HotStateError as error:
                if not failing:
                    _log.warning("lock %s could not be renewed, and is tried again: %s", lease.name, error)
                pause, failing = lease.every / 4, True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = self._lease.error() if self._lease.over() else None
        try:
            await self.release()
        except HotStateError as failure:
            _log.warning("lock %s will be free when its time is over: %s", self.name, failure)
        if lost is not None and error is None:
            raise lost


class Locks:
    """Takes locks."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def take(
        self, name: str, ttl: float = 30.0, *, wait: float = 0.0, on_lost: Callable[[Lock], object] | None = None
    ) -> Lock:
        """Take a lock, such as ``heartbeat:ada``. Once lost, it stays lost.

        ``ttl``: seconds, up to a day, after which it is free where its holder dies; it is renewed three times as often.
        ``wait``: seconds to wait for another holder. ``on_lost``: called once, by the thread that renews it, before the
        lock can be another's. Raises ``ConfigError``, ``LockTakenError``, ``LockLostError`` (the answer took too long),
        ``HotStateError``.
        """
        end = clock() + patience("take a lock", str(name), wait)
        while True:
            try:
                lease = self._runner.run(leases.take(self._runner.names, name, ttl))
                break
            except LockTakenError:
                if clock() >= end:
                    raise
            threading.Event().wait(min(random.uniform(0.5, 1.0) * _POLL, max(0.0, end - clock())))  # noqa: S311
        if lease.over():
            self._runner.run(leases.release(self._runner.names, lease))
            raise lease.error()
        return Lock(self._runner, lease, on_lost)


class AsyncLocks:
    """Takes locks."""

    def __init__(self, runner: AsyncRunner) -> None:
        self._runner = runner

    async def take(
        self, name: str, ttl: float = 30.0, *, wait: float = 0.0, on_lost: Callable[[AsyncLock], object] | None = None
    ) -> AsyncLock:
        """:meth:`Locks.take`; ``on_lost`` is called in the event loop."""
        end = clock() + patience("take a lock", str(name), wait)
        while True:
            try:
                lease = await self._runner.run(leases.take(self._runner.names, name, ttl))
                break
            except LockTakenError:
                if clock() >= end:
                    raise
            await asyncio.sleep(min(random.uniform(0.5, 1.0) * _POLL, max(0.0, end - clock())))  # noqa: S311
        if lease.over():
            await self._runner.run(leases.release(self._runner.names, lease))
            raise lease.error()
        return AsyncLock(self._runner, lease, on_lost)
