"""Runs operations where the rules (:mod:`.routing`) say: on threads, and on an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mirror.core.errors import ConfigError, MirrorError, MovedBackError, SinkError, SourceError, UnsupportedError
from mirror.storage.on_postgres.store import PostgresStore
from mirror.storage.on_postgres.store_async import AsyncPostgresStore
from mirror.storage.on_sqlite.store import SQLiteStore
from mirror.storage.operations.base import Context, Operation
from mirror.storage.routing import Offer, OnPostgres, OnSqlite, Owed, Pause, Position, Routes, Step, TokenRoutes, Wait

Result = TypeVar("Result")
#: Takes a part, in percent, of the reads that it is offered: operation, context, arguments.
Shadow = Callable[[float, Operation[..., Any], Context, tuple[Any, ...], dict[str, Any]], None]


def _no_shadow(*_: Any) -> None:
    """Takes none."""


def _again(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments that can be read more than once: a read may be run on one store after the other."""
    if any(hasattr(value, "__next__") for value in (*args, *kwargs.values())):
        args = tuple(list(value) if hasattr(value, "__next__") else value for value in args)
        kwargs = {name: list(value) if hasattr(value, "__next__") else value for name, value in kwargs.items()}
    return args, kwargs


def _file(files: Mapping[str, SQLiteStore], operation: Operation[..., Any]) -> SQLiteStore:
    found = files.get(operation.source)
    if found is None:
        missing = "MemuStore" if operation.source == "memory" else "dashboard"
        raise UnsupportedError(
            operation.name,
            detail=f"none of this agent's SQLite files is a {missing}",
            next_step="list the file in `sources` of mirror.json",
        )
    return found


class RoutedRunner:
    """The runner of a synchronous adapter."""

    def __init__(
        self,
        context: Context,
        routes: Routes | TokenRoutes,
        files: Mapping[str, SQLiteStore],
        postgres: Callable[[], PostgresStore],
        shadow: Shadow = _no_shadow,
    ) -> None:
        """``postgres``: the store by the settings of now."""
        self._shadow = shadow
        self.context = context
        self._routes = routes
        self._files = files
        self._postgres = postgres

    def run(self, operation: Operation[..., Result], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result:
        """Run it to its result; raises a ``MirrorError``."""
        steps = self._routes.steps(operation)
        args, kwargs = _again(args, kwargs)
        answer: Any = None
        failure: MirrorError | None = None
        while True:
            try:
                step = steps.send(answer) if failure is None else steps.throw(failure)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            failure = None
            try:
                answer = self._do(step, operation, args, kwargs)
            except (SinkError, ConfigError, SourceError, MovedBackError) as error:
                failure = error

    def _do(self, step: Step, operation: Operation[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        match step:
            case OnSqlite():
                return _file(self._files, operation).run(self.context, operation, args, kwargs)
            case OnPostgres(source, patience):
                postgres = self._postgres()
                if operation.reads:
                    return postgres.read(self.context, operation, args, kwargs, source, patience)
                return postgres.run(self.context, operation, args, kwargs), None
            case Owed(reads):
                return reads.owed()
            case Position(source):
                return self._postgres().position(self.context, source)
            case Wait(freshness, start, deadline):
                return freshness.wait(start, deadline)
            case Pause(seconds):
                return time.sleep(seconds)
            case Offer(percent):
                return self._shadow(percent, operation, self.context, args, kwargs)


class AsyncRoutedRunner:
    """The runner of an asynchronous adapter: SQLite in threads, Postgres on the event loop."""

    def __init__(
        self,
        context: Context,
        routes: Routes | TokenRoutes,
        files: Mapping[str, SQLiteStore],
        postgres: Callable[[], AsyncPostgresStore],
        shadow: Shadow = _no_shadow,
    ) -> None:
        """``postgres``: the store by the settings of now."""
        self._shadow = shadow
        self.context = context
        self._routes = routes
        self._files = files
        self._postgres = postgres

    async def run(self, operation: Operation[..., Result], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result:
        """Run it to its result; raises a ``MirrorError``."""
        steps = self._routes.steps(operation)
        args, kwargs = _again(args, kwargs)
        answer: Any = None
        failure: MirrorError | None = None
        while True:
            try:
                step = steps.send(answer) if failure is None else steps.throw(failure)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            failure = None
            try:
                answer = await self._do(step, operation, args, kwargs)
            except (SinkError, ConfigError, SourceError, MovedBackError) as error:
                failure = error

    async def _do(
        self, step: Step, operation: Operation[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        match step:
            case OnSqlite():
                store = _file(self._files, operation)
                return await asyncio.to_thread(store.run, self.context, operation, args, kwargs)
            case OnPostgres(source, patience):
                postgres = self._postgres()
                if operation.reads:
                    return await postgres.read(self.context, operation, args, kwargs, source, patience)
                return await postgres.run(self.context, operation, args, kwargs), None
            case Owed(reads):
                return await asyncio.to_thread(reads.owed)
            case Position(source):
                return await self._postgres().position(self.context, source)
            case Wait(freshness, start, deadline):
                return await freshness.wait_async(start, deadline)
            case Pause(seconds):
                return await asyncio.sleep(seconds)
            case Offer(percent):
                return self._shadow(percent, operation, self.context, args, kwargs)
