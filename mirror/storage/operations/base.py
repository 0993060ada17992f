"""What operations have in common: their declaration, and the context in which they run."""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Any, Concatenate, Generic, Literal, NoReturn, ParamSpec, TypeVar

from mirror.core.errors import ConfigError, ConstraintError
from mirror.storage.arguments import checked_operation, is_finite
from mirror.storage.arguments import embedding_of as embedding_of
from mirror.storage.statements import Op
from mirror.storage.tables import Row, is_text

#: SQLite takes no expression of more than 1,000 in a row.
MOST_SOUGHT = 500
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

    def seconds(self) -> str:
        """The time now, as the program's schema writes it: ``2026-11-23 00:05:04``."""
        return self.clock().astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")

    def millis(self) -> int:
        """The time now in milliseconds since 1970."""
        return int(self.clock().timestamp() * 1000)

    def require_agent(self, agent_id: str | None) -> None:
        """Raise ``ConfigError`` for an agent other than the one whose rows are seen."""
        if agent_id is not None and agent_id != self.agent:
            raise ConfigError(
                "act for an agent",
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


def moment(text: str | None) -> datetime | None:
    """A time that the program wrote, in either form; None for what is no time."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def days_between(earlier: str | None, later: datetime) -> float:
    """Days from a time that the program wrote; 0 if it is no time, or not earlier."""
    begun = moment(earlier)
    return max(0.0, (later - begun).total_seconds() / 86400) if begun else 0.0


def half_life(days: float, half: float) -> float:
    """What is left of 1 after some days, of which each ``half`` days take one half."""
    return float(0.5 ** (days / half))


def content_hash(text: str) -> str:
    """By which equal facts are found: SHA-256 (hex) of the text in lower case, without space at its ends.

    Raises ``ConfigError`` for what is no text.
    """
    if not is_text(text):
        refuse("hash a text", f"{text!r:.60}", "it is no text")
    return hashlib.sha256(text.strip().lower().encode()).hexdigest()


def without(row: Row, *names: str) -> dict[str, Any]:
    """A row's values by column, without some: those that the original leaves to the defaults of the table."""
    return {field.name: getattr(row, field.name) for field in fields(row) if field.name not in names}  # type: ignore[arg-type]


def refuse(operation: str, what: str, why: str) -> NoReturn:
    """Raise ``ConfigError`` for an argument."""
    raise ConfigError(operation, what, why, next_step="correct the argument")


def no_such(kind: str, row_id: str) -> ConstraintError:
    """The error for a link to a row that is not there."""
    return ConstraintError("write a link", f"{kind} {row_id}", "there is none with this id", next_step="correct the id")


def named(operation: str, name: str) -> str:
    """A name. Raises ``ConfigError`` for an empty one, or what is no text."""
    if not is_text(name) or not name.strip():
        refuse(operation, f"{name!r:.60}", "it needs a name")
    return name


def is_blank(query: str | None) -> bool:
    """Whether a query has nothing to search for. Raises ``ConfigError`` for what is no text."""
    if query is not None and not is_text(query):
        refuse("search", f"{query!r:.60}", "it is no text")
    return not (query or "").strip()


def one_of(operation: str, value: str, among: Iterable[str]) -> str:
    """A text that is one of some. Raises ``ConfigError``."""
    if value not in (known := tuple(among)):
        refuse(operation, f"{value!r:.60}", f"it is none of {', '.join(known)}")
    return value


def at_least(operation: str, value: float, least: float, most: float = math.inf) -> float:
    """A number within bounds. Raises ``ConfigError``."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and is_finite(value)
    if not number or not least <= value <= most:
        refuse(
            operation,
            f"{value!r:.60}",
            f"it needs a number from {least:g}{'' if most == math.inf else f' to {most:g}'}",
        )
    return value


def whole(operation: str, number: int) -> int:
    """A whole number, 0 or more. Raises ``ConfigError`` for what is none."""
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        refuse(operation, f"{number!r:.60}", "it needs a whole number, 0 or more")
    return number


def texts(operation: str, values: Iterable[str] | None) -> tuple[str, ...]:
    """A list of texts; none for None. Raises ``ConfigError`` for a single text, or what is no list of texts."""
    if values is None:
        return ()
    found = None if isinstance(values, str) or not isinstance(values, Iterable) else tuple(values)
    if found is None or not all(map(is_text, found)):
        refuse(operation, f"{values!r:.60}", "it needs a list of texts")
    return found


def some(operation: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """Texts of which each is looked for by itself, each once. Raises ``ConfigError`` for more than 500."""
    found = tuple(dict.fromkeys(values))
    if len(found) > MOST_SOUGHT:
        refuse(operation, f"{len(found)} texts", f"{MOST_SOUGHT} at most")
    return found


def settable(operation: str, fields: Mapping[str, Any], allowed: Iterable[str]) -> dict[str, Any]:
    """Values of columns, by name. Raises ``ConfigError`` for columns that are not to be set."""
    if unknown := set(fields) - set(allowed):
        refuse(operation, ", ".join(sorted(map(str, unknown))), "not to be set, or unknown")
    return dict(fields)


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
    shared: bool = False
    """It reads other agents' rows: of Postgres alone, and nothing proves how new they are."""

    @property
    def name(self) -> str:
        """As in ``memory.create_item``; a function for a name that Python has, too, ends in an underscore."""
        return self.make.__name__.removesuffix("_")


_Make = Callable[Concatenate[Context, Parameters], Op[Result]]


def reads(
    source: Source, *, many: bool = False, shared: bool = False
) -> Callable[[_Make[Parameters, Result]], Operation[Parameters, Result]]:
    """Declare an operation that changes nothing."""
    return lambda make: Operation(checked_operation(make), source, reads=True, many=many, shared=shared)


def writes(
    source: Source, *, many: bool = False, alone: bool = False
) -> Callable[[_Make[Parameters, Result]], Operation[Parameters, Result]]:
    """Declare an operation that changes rows: all of it in one transaction."""
    return lambda make: Operation(checked_operation(make), source, reads=False, many=many, alone=alone)
