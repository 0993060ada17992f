"""Runs operations where the rules (:mod:`.routing`) say: on threads, and on an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mirror.core.errors import MirrorError, SinkError, UnsupportedError
from mirror.storage.on_postgres.store import PostgresStore
from mirror.storage.on_postgres.store_async import AsyncPostgresStore
from mirror.storage.on_sqlite.store import SQLiteStore
from mirror.storage.operations.base import Context, Operation
from mirror.storage.routing import OnPostgres, OnSqlite, Pause, Routes, Step, TokenRoutes, Wait

Result = TypeVar("Result")


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
    ) -> None:
        """``postgres``: the store by the settings of now."""
        self.context = context
        self._routes = routes
        self._files = files
        self._postgres = postgres

    def run(self, operation: Operation[..., Result], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result:
        """Run it to its result; raises a ``MirrorError``."""
        steps = self._routes.steps(operation)
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
            except SinkError as error:
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
            case Wait(freshness, start, deadline):
                return freshness.wait(start, deadline)
            case Pause(seconds):
                return time.sleep(seconds)


class AsyncRoutedRunner:
    """The runner of an asynchronous adapter: SQLite in threads, Postgres on the event loop."""

    def __init__(
        self,
        context: Context,
        routes: Routes | TokenRoutes,
        files: Mapping[str, SQLiteStore],
        postgres: Callable[[], AsyncPostgresStore],
    ) -> None:
        """``postgres``: the store by the settings of now."""
        self.context = context
        self._routes = routes
        self._files = files
        self._postgres = postgres

    async def run(self, operation: Operation[..., Result], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result:
        """Run it to its result; raises a ``MirrorError``."""
        steps = self._routes.steps(operation)
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
            except SinkError as error:
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
            case Wait(freshness, start, deadline):
                return await freshness.wait_async(start, deadline)
            case Pause(seconds):
                return await asyncio.sleep(seconds)
