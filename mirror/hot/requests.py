"""What is asked of the server, as data; and :data:`Steps`, the generators that ask.

An operation is a generator that yields requests and is sent their answers, or is thrown the ``MirrorError`` of one.
Its first parameter is the :class:`~mirror.hot.names.Names` in use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

Value = str | int | float


@dataclass(frozen=True, slots=True)
class Command:
    """One command. Its answer is what redis-py makes of it with RESP2."""

    doing: str
    """For errors: a verb phrase."""
    args: tuple[Value, ...]
    again: bool = True
    """Sent again where the answer was lost: twice is as good as once."""
    waits: bool = False
    """It blocks on the server; sent once, on a connection of its own that has no time limit for reading."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script of the folder ``scripts``. Its answer is the server's."""

    doing: str
    name: str
    keys: tuple[str, ...]
    args: tuple[Value, ...] = ()
    again: bool = True

    @property
    def text(self) -> str:
        """Lua."""
        return _script(self.name)[0]

    @property
    def sha(self) -> str:
        """By which the server knows it."""
        return _script(self.name)[1]


@dataclass(frozen=True, slots=True)
class Transaction:
    """Commands in one MULTI. Its answer is the list of theirs."""

    doing: str
    commands: tuple[tuple[Value, ...], ...]
    again: bool = True


Request = Command | Script | Transaction
Result = TypeVar("Result")
Steps = Generator[Request, Any, Result]


@cache
def _script(name: str) -> tuple[str, str]:
    """Text and digest of a script."""
    text = (files("mirror.hot") / "scripts" / f"{name}.lua").read_text(encoding="utf-8")
    return text, hashlib.sha1(text.encode()).hexdigest()  # noqa: S324
