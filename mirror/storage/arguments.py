"""Arguments of operations, checked by the types that their signatures declare, before any store is asked.

What does not fit is a ``ConfigError`` that names the method and the argument, the same whichever store would have run
it: a value of another type, None where nothing says that it may be, one text where a list belongs, a text with half of
a pair of UTF-16 code units or with a NUL (which Postgres cannot hold), a number that is none, and a call that does not
fit the signature. ``Name``, ``Time`` and ``Millis`` say more of a parameter than its type does.
"""

from __future__ import annotations

import functools
import inspect
import math
import types
import typing
from collections import abc
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn, TypeVar, cast

from mirror.core.errors import ConfigError
from mirror.storage.tables import Embedding, misfit_of_json, misfit_of_text
from mirror.storage.times import FIRST_MILLI, LAST_MILLI, NEEDED, utc

#: A text that is not empty, nor only space.
Name = Annotated[str, "name"]

#: pgvector has no vectors of more dimensions.
MOST_DIMENSIONS = 16_000
#: What comes of arguments of a wrong shape that no type says, as of the members of an object.
_OF_ARGUMENTS = (TypeError, AttributeError, ValueError, ArithmeticError, RecursionError, LookupError)

Check = Callable[[Any], Any]
F = TypeVar("F", bound=Callable[..., Any])


class _MisfitError(Exception):
    """What is wrong with an argument; becomes a ``ConfigError``."""


def embedding_of(values: Iterable[float]) -> Embedding:
    """An embedding. Raises ``ConfigError`` for what has no numbers, too many, or other than finite numbers."""
    try:
        return _embedding(values)
    except _MisfitError as error:
        raise ConfigError("take an embedding", "embedding", str(error), next_step="correct the argument") from error


def _embedding(values: Any) -> Embedding:
    if isinstance(values, str | bytes | bytearray | Mapping):
        raise _MisfitError(f"it needs a list of numbers, not {_kind(values)}")
    try:
        made = values if isinstance(values, Embedding) else Embedding(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise _MisfitError(f"it needs a list of numbers: {error}") from error
    if not 0 < len(made) <= MOST_DIMENSIONS:
        raise _MisfitError(f"{len(made)} dimensions; it needs 1 to {MOST_DIMENSIONS}")
    if not made.is_finite():
        raise _MisfitError("it needs finite numbers of 32 bits")
    return made


# -- checks by type ------------------------------------------------------------------------------------


def _kind(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _text(value: Any) -> Any:
    if type(value) is str and value.isascii() and "\0" not in value:
        return value  # most texts
    if wrong := misfit_of_text(value):
        raise _MisfitError(wrong)
    return value


def _name(value: Any) -> Any:
    if not _text(value).strip():
        raise _MisfitError("it needs a text that is not empty")
    return value


def _time(value: Any) -> Any:
    if utc(_text(value)) is None:
        raise _MisfitError(f"{value!r:.60}, but it needs {NEEDED}")
    return value


def _whole(value: Any) -> Any:
    if not -(2**63) <= _any_whole(value) < 2**63:
        raise _MisfitError("it needs a whole number of 64 bits at most")
    return value


def _any_whole(value: Any) -> Any:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _MisfitError(f"it needs a whole number, not {_kind(value)}")
    return value


def _millis(value: Any) -> Any:
    if not FIRST_MILLI <= _whole(value) <= LAST_MILLI:
        raise _MisfitError("it needs milliseconds since 1970, in the years 1 to 9999")
    return value


def _number(value: Any) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _MisfitError(f"it needs a number, not {_kind(value)}")
    if not is_finite(value):
        raise _MisfitError("it needs a finite number of 64 bits")
    return value


def is_finite(value: float) -> bool:
    """Whether a number is one that a float can be."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _flag(value: Any) -> Any:
    if not isinstance(value, bool):
        raise _MisfitError(f"it needs True or False, not {_kind(value)}")
    return value


_PLAIN: dict[Any, Check] = {str: _text, int: _whole, float: _number, bool: _flag}
_ANNOTATED: dict[str, Check] = {"name": _name, "time": _time, "millis": _millis}
#: Numbers of rows, of which a huge one is all of them.
_OF_ROWS = ("limit", "offset")


def _one_of(*among: str) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, str) or value not in among:
            raise _MisfitError(f"{value!r:.60} is none of {', '.join(among)}")
        return value

    return check


def _instance(of: type) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, of):
            raise _MisfitError(f"it needs {of.__name__}, not {_kind(value)}")
        return value

    return check


def _list_of(element: Check, distinct: bool) -> Check:
    def check(value: Any) -> Any:
        if isinstance(value, str | bytes | bytearray | Mapping):
            raise _MisfitError(f"it needs a list, not {_kind(value)}")
        try:
            values = iter(value)
        except TypeError:
            raise _MisfitError(f"it needs a list, not {_kind(value)}") from None
        made = tuple(map(element, values))
        return tuple(dict.fromkeys(made)) if distinct else made

    return check


def _object_of(key: Check | None, element: Check) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _MisfitError(f"it needs an object, not {_kind(value)}")
        if key is not None:
            return {key(name): element(each) for name, each in value.items()}
        if wrong := misfit_of_json(value):
            raise _MisfitError(wrong)
        return value

    return check


def _any_of(checks: list[Check], none: bool) -> Check:
    if len(checks) == 1:
        [only] = checks
        return lambda value: None if none and value is None else only(value)

    def check(value: Any) -> Any:
        if none and value is None:
            return None
        wrong = []
        for each in checks:
            try:
                return each(value)
            except _MisfitError as error:
                wrong.append(error)
        raise wrong[0 if isinstance(value, str) else -1]

    return check


def _unset_or(unset: type, check: Check) -> Check:
    return lambda value: value if isinstance(value, unset) else check(value)


def _check_of(hint: Any, name: str = "") -> Check:
    """The check of a parameter's type."""
    if hint is int and name in _OF_ROWS:
        return _any_whole
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _ANNOTATED[hint.__metadata__[0]]
    if origin is Literal:
        return _one_of(*arguments)
    if origin in (types.UnionType, typing.Union):
        options = [each for each in arguments if each is not type(None)]
        unset = [each for each in options if getattr(each, "__name__", "") == "Unset"]
        made = _any_of([_check_of(each, name) for each in options if each not in unset], len(options) < len(arguments))
        return _unset_or(unset[0], made) if unset else made
    if origin in (abc.Iterable, abc.Sequence):
        if arguments == (float,):
            return _embedding
        return _list_of(_check_of(arguments[0]), typing.get_origin(arguments[0]) is Literal)
    if origin is abc.Mapping:
        if arguments[1] is Any:
            return _object_of(None, _text)
        return _object_of(_check_of(arguments[0]), _check_of(arguments[1]))
    if isinstance(hint, type):
        return _instance(hint)
    raise AssertionError(f"no check of {hint!r}")


# -- calls ---------------------------------------------------------------------------------------------


def _refuse(name: str, argument: str, why: str, cause: BaseException | None = None) -> NoReturn:
    step = "correct the argument" if argument else "correct the call's arguments"
    raise ConfigError(f"call {name.removesuffix('_')}", argument, why, next_step=step) from cause


class _Signature:
    """The parameters of a function after its first, each with its check."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = function.__name__
        self._signature = inspect.signature(function)
        hints = typing.get_type_hints(function, include_extras=True)
        kinds = [each for each in self._signature.parameters.values() if each.kind is not each.VAR_KEYWORD][1:]
        self._in_order = [(each.name, _check_of(hints[each.name], each.name)) for each in kinds]
        self._by_name = dict(self._in_order)

    def checked(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments as the function gets them; raises ``ConfigError``."""
        if len(args) > len(self._in_order) or any(name not in self._by_name for name in kwargs):
            self.bind(args, kwargs)
        at, made, named = "", [], {}
        try:
            for (name, check), value in zip(self._in_order, args, strict=False):
                at = name
                made.append(check(value))
            for at, value in kwargs.items():
                named[at] = self._by_name[at](value) if at in self._by_name else value
        except _MisfitError as error:
            _refuse(self._name, at, str(error), error.__cause__)
        return made, named

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raises ``ConfigError`` for arguments that do not fit the signature."""
        try:
            self._signature.bind(None, *args, **kwargs)
        except TypeError as error:
            _refuse(self._name, "", str(error), error)


@functools.cache
def _signature_of(function: Callable[..., Any]) -> _Signature:
    return _Signature(function)


def arguments_of(make: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an operation's function that were given as an object, checked; raises ``ConfigError``."""
    return _signature_of(inspect.unwrap(make)).checked((), given)[1]


def checked(function: F) -> F:
    """A function (or a method) whose arguments after the first are checked; raises ``ConfigError``."""

    @functools.wraps(function)
    def made(first: Any, /, *args: Any, **kwargs: Any) -> Any:
        signature = _signature_of(function)
        args_, kwargs_ = signature.checked(args, kwargs)
        signature.bind(args_, kwargs_)
        return function(first, *args_, **kwargs_)

    return cast("F", made)


def checked_operation(make: F) -> F:
    """An operation's generator function, with arguments that are checked when it is called.

    What its first step raises because of arguments that no type describes, is a ``ConfigError`` with that as its cause:
    nothing has been asked of a store by then.
    """

    @functools.wraps(make)
    def made(ctx: Any, /, *args: Any, **kwargs: Any) -> Any:
        args_, kwargs_ = _signature_of(make).checked(args, kwargs)
        try:
            op = make(ctx, *args_, **kwargs_)
        except TypeError as error:  # it is a generator function: nothing of it has run yet
            _refuse(make.__name__, "", str(error), error)
        return _guarded(make.__name__, op)

    return cast("F", made)


def _guarded(name: str, op: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    try:
        statement = op.send(None)
    except StopIteration as stop:
        return stop.value
    except _OF_ARGUMENTS as error:
        _refuse(name, "", f"{type(error).__name__}: {error}", error)
    while True:
        answer = yield statement
        try:
            statement = op.send(answer)
        except StopIteration as stop:
            return stop.value
