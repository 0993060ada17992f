"""Methods made of operations: ``get_item = call(items.get_item)`` in a class of methods.

Signatures and result types are the operations' own, so a type checker and an editor see them as if written out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from mirror.storage.operations.base import Operation

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Runner(Protocol):
    """Runs operations on a store, for one agent."""

    def run(self, operation: Operation[..., Result], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result:
        """Run it to its result; raises a ``MirrorError``."""


class AsyncRunner(Protocol):
    """Runs operations on a store without blocking the event loop, for one agent."""

    async def run(self, operation: Operation[..., Result], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result:
        """Run it to its result; raises a ``MirrorError``."""


class Methods:
    """Base of the classes of methods."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner


class AsyncMethods:
    """Base of their asynchronous twins."""

    def __init__(self, runner: AsyncRunner) -> None:
        self._runner = runner


def call(operation: Operation[Parameters, Result]) -> Callable[Concatenate[Any, Parameters], Result]:
    """A method that runs the operation."""

    def method(self: Methods, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return self._runner.run(operation, args, kwargs)

    made: Callable[Concatenate[Any, Parameters], Result] = _like(method, operation)
    return made


def acall(operation: Operation[Parameters, Result]) -> Callable[Concatenate[Any, Parameters], Awaitable[Result]]:
    """A coroutine method that runs the operation."""

    async def method(self: AsyncMethods, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return await self._runner.run(operation, args, kwargs)

    made: Callable[Concatenate[Any, Parameters], Awaitable[Result]] = _like(method, operation)
    return made


def _like(method: Any, operation: Operation[..., Any]) -> Any:
    """The method, with the operation's name, text and signature; the first parameter is ``self``."""
    method.__name__ = operation.name
    method.__qualname__ = operation.name
    method.__doc__ = operation.make.__doc__
    method.__wrapped__ = operation.make
    return method
