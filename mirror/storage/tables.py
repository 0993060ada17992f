"""Tables as their rows' dataclasses declare them: names, keys, and the kind of each column.

=========  ====================================  =========================  ==============================
kind       in Python                             in SQLite                  in Postgres
=========  ====================================  =========================  ==============================
text       ``str``                               text                       text
integer    ``int``                               integer                    bigint
real       ``float``                             real                       double precision
flag       ``bool``                              integer 0 or 1             boolean
time       ``str``: ISO 8601, UTC                text                       timestamptz (and ``_original``)
millis     ``int``: milliseconds since 1970      integer                    timestamptz
json       lists, dictionaries, scalars          text                       jsonb
vector     :class:`Embedding`                    blob, little-endian        vector (pgvector)
                                                 float32
=========  ====================================  =========================  ==============================
"""

from __future__ import annotations

import array
import dataclasses
import json
import math
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, overload

from mirror.core.errors import ConfigError
from mirror.storage.times import FIRST_MILLI, LAST_MILLI, NEEDED, utc

Kind = Literal["text", "integer", "real", "flag", "time", "millis", "json", "vector"]

#: Of a field of a row: how its column is stored, where the Python type alone does not say it.
Time = Annotated[str, "time"]
Millis = Annotated[int, "millis"]
Json = Annotated[dict[str, Any], "json"]
Texts = Annotated[tuple[str, ...], "json"]

_KIND_OF_TYPE: dict[Any, Kind] = {str: "text", int: "integer", float: "real", bool: "flag"}


class NoObject(dict[str, Any]):
    """An empty object in place of a JSON value that is none: a list, a text, no JSON. It stays until it is set."""


class Embedding(Sequence[float]):
    """A vector of float32 values, as both stores have it. Immutable; equal to another with the same values."""

    __slots__ = ("_numbers",)

    def __init__(self, numbers: Iterable[float]) -> None:
        """``numbers``: rounded to float32. Raises ``OverflowError`` for one that does not fit."""
        self._numbers: array.array[float]
        if isinstance(numbers, array.array) and numbers.typecode == "f":
            self._numbers = numbers
        else:
            self._numbers = array.array("f", numbers)

    @classmethod
    def from_bytes(cls, data: bytes, *, big_endian: bool = False) -> Embedding:
        """From float32 values, little-endian as SQLite has them unless ``big_endian``."""
        numbers = array.array("f")
        numbers.frombytes(data)
        if big_endian != (sys.byteorder == "big"):
            numbers.byteswap()
        return cls(numbers)

    def to_bytes(self, *, big_endian: bool = False) -> bytes:
        """Little-endian float32 values, or big-endian ones."""
        if big_endian == (sys.byteorder == "big"):
            return self._numbers.tobytes()
        swapped = self._numbers[:]
        swapped.byteswap()
        return swapped.tobytes()

    def is_finite(self) -> bool:
        """Whether it has only finite numbers. (No sum of float32 values is too large for a double.)"""
        return math.isfinite(sum(self._numbers))

    def direction(self) -> Embedding:
        """The vector of length 1 in its direction; float32 can square its numbers. One of zeros has none, and stays."""
        length = math.hypot(*self._numbers)
        return Embedding([number / length for number in self._numbers]) if length else self

    def to_text(self) -> str:
        """In pgvector's text form."""
        return f"[{','.join(map(repr, self._numbers))}]"

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> Embedding: ...
    def __getitem__(self, index: int | slice) -> float | Embedding:
        """A number, or a part of the vector."""
        return Embedding(self._numbers[index]) if isinstance(index, slice) else self._numbers[index]

    def __len__(self) -> int:
        """The number of dimensions."""
        return len(self._numbers)

    def __eq__(self, other: object) -> bool:
        """Whether the other is an embedding with the same values."""
        return isinstance(other, Embedding) and self._numbers == other._numbers

    def __hash__(self) -> int:
        """By the values."""
        return hash(self._numbers.tobytes())

    def __repr__(self) -> str:
        """The first values."""
        shown = ", ".join(f"{number:g}" for number in self._numbers[:3])
        return f"Embedding([{shown}{', ...' if len(self) > 3 else ''}], {len(self)} dimensions)"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    kind: Kind
    sequence: bool = False
    """Of kind json: a list of texts, a tuple in Python."""
    stored: str = ""
    """Its name in Postgres, where that is another."""
    optional: bool = False
    """None where the row has no value; otherwise JSON that is not there is empty."""
    default: float = 0
    """Of a number: what counts where another program has left no number there."""

    @property
    def in_postgres(self) -> str:
        """Its name in Postgres."""
        return self.stored or self.name


@dataclass(frozen=True)
class Table:
    """A table, and the class of its rows."""

    name: str
    row: type[Any]
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    source: str
    """The store that it belongs to: memory, dashboard, or postgres (there only)."""
    words: str = ""
    """SQLite's full-text table of it; empty: none."""
    vectors: str = ""
    """SQLite's vec0 table of its embeddings; empty: none."""

    @cached_property
    def by_name(self) -> dict[str, Column]:
        """Columns by name."""
        return {column.name: column for column in self.columns}

    def check(self, name: str, value: Any) -> None:
        """Raise ``ConfigError`` for a value that a column cannot have: neither store is asked then."""
        column = self.by_name.get(name)
        wrong = "there is no such column" if column is None else _misfit(column, value)
        if wrong:
            raise ConfigError(f"write to {self.name}", name, wrong, next_step="give a value that fits")


_TYPES: dict[Kind, tuple[type, ...]] = {
    "text": (str,), "time": (str,), "integer": (int,), "millis": (int,), "real": (int, float), "flag": (bool,),
    "vector": (Embedding,),
}  # fmt: skip


def surely_fits(column: Column, value: Any) -> bool:
    """Whether a value fits by a look at its type, as most do; of the others :meth:`Table.check` says it."""
    kind = type(value)
    if value is None:
        return column.optional
    if kind is str:
        if column.kind == "time":
            return utc(value) is not None
        return column.kind == "text" and value.isascii() and "\0" not in value
    if kind is float:
        return column.kind == "real" and math.isfinite(value)
    if kind is int:
        return column.kind in ("integer", "real") and -(2**63) <= value < 2**63
    return kind is dict and not value and column.kind == "json" and not column.sequence


def _misfit(column: Column, value: Any) -> str:
    """What is wrong with a value of a column; empty: nothing."""
    if value is None:
        return "" if column.optional else "it needs a value"
    if column.kind == "json":
        return _not_json(column, value)
    fits = isinstance(value, _TYPES[column.kind]) and (column.kind == "flag" or not isinstance(value, bool))
    if not fits:
        return f"a value of type {type(value).__name__} in a column of kind {column.kind}"
    if column.kind == "real" and not math.isfinite(value):
        return f"{value} is no number"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "more than 64 bits"
    if column.kind == "millis" and not FIRST_MILLI <= value <= LAST_MILLI:
        return "it needs milliseconds since 1970, in the years 1 to 9999"
    if isinstance(value, str) and (wrong := misfit_of_text(value)):
        return wrong
    return f"{value!r:.60}, but it needs {NEEDED}" if column.kind == "time" and utc(value) is None else ""


def misfit_of_text(value: Any) -> str:
    """Why a value is no text that every store can hold; empty: it is one."""
    if not isinstance(value, str):
        return f"it needs a text, not {'None' if value is None else f'a value of type {type(value).__name__}'}"
    if "\0" in value:
        return "Postgres cannot hold a text with a NUL"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "half of a pair of UTF-16 code units is no text"
    return ""


def is_text(value: Any) -> bool:
    """Whether a value is a text that every store can hold."""
    return not misfit_of_text(value)


def texts_in(value: Any) -> tuple[str, ...]:
    """The texts of a JSON value that should be a list of texts."""
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


#: How deep lists and objects may be in each other.
MOST_DEPTH = 100


def misfit_of_json(value: Any, depth: int = 0) -> str:
    """Why no store can hold a value in JSON: its texts, its numbers, its depth; empty: nothing of these.

    Values that JSON does not have at all are not looked at.
    """
    if isinstance(value, str):
        return misfit_of_text(value)
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value} is no number of JSON"
    if not isinstance(value, Mapping | list | tuple):
        return ""
    if {*map(type, value)} == {float} and all(map(math.isfinite, value)):
        return ""  # most likely an embedding
    if depth == MOST_DEPTH:
        return f"lists and objects in each other, more than {MOST_DEPTH} deep"
    if isinstance(value, Mapping):
        for name in value:
            if wrong := misfit_of_text(name):
                return f"a name in an object: {wrong}"
    for each in value.values() if isinstance(value, Mapping) else value:
        if wrong := misfit_of_json(each, depth + 1):
            return wrong
    return ""


def _not_json(column: Column, value: Any) -> str:
    if column.sequence:
        listed = isinstance(value, list | tuple) and all(map(is_text, value))
        return "" if listed else "it needs a list of texts"
    if not isinstance(value, Mapping):
        return "it needs an object"
    if wrong := misfit_of_json(value):
        return wrong
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"not JSON: {error}"
    return ""


class Row:
    """The base of all rows: a frozen dataclass, its fields named and ordered as the table's columns.

    ``class X(Row, table=..., source=...)`` declares a table; :attr:`TABLE` is made at first use.
    """

    __slots__ = ()
    _declared: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(
        cls,
        table: str = "",
        source: str = "memory",
        key: tuple[str, ...] = ("id",),
        words: str = "",
        vectors: str = "",
        stored: dict[str, str] | None = None,
        defaults: dict[str, float] | None = None,
    ) -> None:
        """``stored``: names of columns in Postgres that differ. ``defaults``: of columns of numbers, where not 0."""
        if table:
            cls._declared = {
                "name": table, "source": source, "key": key, "words": words, "vectors": vectors,
                "stored": stored or {}, "defaults": defaults or {},
            }  # fmt: skip


def table_of(row: type[Row]) -> Table:
    """The table that a class of rows declares. Its rows are hashed by their key: an object in one has no hash."""
    row.__hash__ = _hash_by_key  # type: ignore[method-assign,assignment]
    declared = dict(row._declared)
    stored, defaults = declared.pop("stored"), declared.pop("defaults")
    hints = typing.get_type_hints(row, include_extras=True)
    columns = tuple(
        replace(_column(field.name, hints[field.name], stored.get(field.name, "")), default=defaults.get(field.name, 0))
        for field in dataclasses.fields(row)  # type: ignore[arg-type]  # each subclass is one
    )
    return Table(row=row, columns=columns, **declared)


def _hash_by_key(row: Row) -> int:
    return hash((type(row), *[getattr(row, name) for name in row._declared["key"]]))


def _column(name: str, hint: Any, stored: str) -> Column:
    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    (kind,) = [option for option in options if option is not type(None)]
    optional = len(options) > 1
    if typing.get_origin(kind) is Annotated:
        return Column(name, kind.__metadata__[0], typing.get_origin(kind.__origin__) is tuple, stored, optional)
    if kind is Embedding:
        return Column(name, "vector", stored=stored, optional=optional)
    return Column(name, _KIND_OF_TYPE[kind], stored=stored, optional=optional)
