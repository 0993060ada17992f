"""What operations have in common: their declaration, and the context in which they run."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar

from mirror.core.errors import ConfigError
from mirror.storage.statements import Op
from mirror.storage.tables import Row

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Source = Literal["memory", "dashboard", "postgres"]


class Unset(Enum):
    """The type of :data:`UNSET`."""

    UNSET = "unset"

    def __repr__(self) -> str:
        """As it is written."""
        return "UNSET"


#: An argument that is not given, where None would mean "no value".
UNSET = Unset.UNSET


def given(**values: Any) -> dict[str, Any]:
    """Those of the values that are given."""
    return {name: value for name, value in values.items() if value is not UNSET}


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class Context:
    """For whom, when, and where an operation runs."""

    agent: str
    """The agent whose rows are seen and written."""
    clock: Callable[[], datetime] = field(default=_utc_now)
    new_id: Callable[[], str] = field(default=_new_id)

    def stamp(self) -> str:
        """The time now, as the program writes it: ``2026-11-23T00:05:04.442Z``."""
        return iso(self.clock())

    def millis(self) -> int:
        """The time now in milliseconds since 1970."""
        return int(self.clock().timestamp() * 1000)

    def require_agent(self, agent_id: str | None) -> None:
        """Raise ``ConfigError`` for an agent other than the one whose rows are seen."""
        if agent_id is not None and agent_id != self.agent:
            raise ConfigError(
                "write for an agent",
                agent_id,
                f"this adapter is {self.agent}'s",
                next_step=f"call it on for_agent({agent_id!r})",
            )


def iso(moment: datetime) -> str:
    """A time to the millisecond, in UTC: ``2026-11-23T00:05:04.442Z``."""
    seconds, micros = divmod(round(moment.timestamp() * 1_000_000), 1_000_000)
    return f"{_second(seconds)}.{micros // 1000:03d}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    """The whole second; each read asks for one, and most for the same as the last."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def content_hash(text: str) -> str:
    """By which equal facts are found: SHA-256 (hex) of the text in lower case, without space at its ends."""
    return hashlib.sha256(text.strip().lower().encode()).hexdigest()


def without(row: Row, *names: str) -> dict[str, Any]:
    """A row's values by column, without some: those that the original leaves to the defaults of the table."""
    return {field.name: getattr(row, field.name) for field in fields(row) if field.name not in names}  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Operation(Generic[Parameters, Result]):
    """A method of the interface, apart from any store."""

    make: Callable[Concatenate[Context, Parameters], Op[Result]]
    source: Source
    """The store that it is about: which file, and so which position proves that a read is fresh."""
    reads: bool
    many: bool
    """It has more than one statement, so it needs a transaction around them."""
    alone: bool = False
    """It writes rows in Postgres that a mirror carries there: not while there is one."""

    @property
    def name(self) -> str:
        """As in ``memory.create_item``; a function for a name that Python has, too, ends in an underscore."""
        return self.make.__name__.removesuffix("_")


_Make = Callable[Concatenate[Context, Parameters], Op[Result]]


def reads(
    source: Source, *, many: bool = False
) -> Callable[[_Make[Parameters, Result]], Operation[Parameters, Result]]:
    """Declare an operation that changes nothing."""
    return lambda make: Operation(make, source, reads=True, many=many)


def writes(
    source: Source, *, many: bool = False, alone: bool = False
) -> Callable[[_Make[Parameters, Result]], Operation[Parameters, Result]]:
    """Declare an operation that changes rows: all of it in one transaction."""
    return lambda make: Operation(make, source, reads=False, many=many, alone=alone)
