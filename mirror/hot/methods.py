"""Methods made of operations: ``get = call(agents.get)`` in a class of methods, ``acall`` in its twin.

Signatures and result types are the operations' own, so a type checker and an editor see them as if written out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from mirror.hot.names import Names
from mirror.hot.requests import Steps
from mirror.hot.runners import AsyncRunner, Runner

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Methods:
    """Base of the classes of methods."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner


class AsyncMethods:
    """Base of their asynchronous twins."""

    def __init__(self, runner: AsyncRunner) -> None:
        self._runner = runner


def call(
    operation: Callable[Concatenate[Names, Parameters], Steps[Result]],
) -> Callable[Concatenate[Any, Parameters], Result]:
    """A method that runs the operation."""

    def method(self: Methods, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return self._runner.run(operation(self._runner.names, *args, **kwargs))

    made: Callable[Concatenate[Any, Parameters], Result] = _like(method, operation)
    return made


def acall(
    operation: Callable[Concatenate[Names, Parameters], Steps[Result]],
) -> Callable[Concatenate[Any, Parameters], Awaitable[Result]]:
    """A coroutine method that runs the operation."""

    async def method(self: AsyncMethods, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return await self._runner.run(operation(self._runner.names, *args, **kwargs))

    made: Callable[Concatenate[Any, Parameters], Awaitable[Result]] = _like(method, operation)
    return made


def _like(method: Any, operation: Callable[..., Any]) -> Any:
    """The method, with the operation's name, text and signature; the first parameter is ``self``."""
    method.__name__ = operation.__name__
    method.__qualname__ = operation.__name__
    method.__doc__ = operation.__doc__
    method.__wrapped__ = operation
    return method
