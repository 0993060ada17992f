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
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, overload

from mirror.core.errors import ConfigError

Kind = Literal["text", "integer", "real", "flag", "time", "millis", "json", "vector"]

#: Of a field of a row: how its column is stored, where the Python type alone does not say it.
Time = Annotated[str, "time"]
Millis = Annotated[int, "millis"]
Json = Annotated[dict[str, Any], "json"]
Texts = Annotated[tuple[str, ...], "json"]

_KIND_OF_TYPE: dict[Any, Kind] = {str: "text", int: "integer", float: "real", bool: "flag"}


class Embedding(Sequence[float]):
    """A vector of float32 values, as both stores have it. Immutable; equal to another with the same values."""

    __slots__ = ("_numbers",)

    def __init__(self, numbers: Iterable[float]) -> None:
        """``numbers``: rounded to float32. Raises ``OverflowError`` for one that does not fit."""
        self._numbers = numbers if isinstance(numbers, array.array) else array.array("f", numbers)

    @classmethod
    def from_bytes(cls, data: bytes, *, big_endian: bool = False) -> Embedding:
        """From float32 values, little-endian as SQLite has them unless ``big_endian``."""
        numbers = array.array("f")
        numbers.frombytes(data)
        if big_endian != (sys.byteorder == "big"):
            numbers.byteswap()
        return cls(numbers)

    def to_bytes(self) -> bytes:
        """Little-endian float32 values."""
        if sys.byteorder == "little":
            return self._numbers.tobytes()
        swapped = self._numbers[:]
        swapped.byteswap()
        return swapped.tobytes()

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
    if isinstance(value, str) and not is_text(value):
        return "half of a pair of UTF-16 code units is no text"
    return ""


def is_text(value: Any) -> bool:
    """Whether a value is a text that UTF-8 can write."""
    if not isinstance(value, str):
        return False
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def _not_json(column: Column, value: Any) -> str:
    if column.sequence:
        listed = isinstance(value, list | tuple) and all(map(is_text, value))
        return "" if listed else "it needs a list of texts"
    if not isinstance(value, Mapping):
        return "it needs an object"
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
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
    ) -> None:
        """``stored``: names of columns in Postgres that differ."""
        if table:
            cls._declared = {
                "name": table, "source": source, "key": key, "words": words, "vectors": vectors, "stored": stored or {}
            }  # fmt: skip


def table_of(row: type[Row]) -> Table:
    """The table that a class of rows declares."""
    declared = dict(row._declared)
    stored = declared.pop("stored")
    hints = typing.get_type_hints(row, include_extras=True)
    columns = tuple(
        _column(field.name, hints[field.name], stored.get(field.name, ""))
        for field in dataclasses.fields(row)  # type: ignore[arg-type]  # each subclass is one
    )
    return Table(row=row, columns=columns, **declared)


def _column(name: str, hint: Any, stored: str) -> Column:
    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    (kind,) = [option for option in options if option is not type(None)]
    optional = len(options) > 1
    if typing.get_origin(kind) is Annotated:
        return Column(name, kind.__metadata__[0], typing.get_origin(kind.__origin__) is tuple, stored, optional)
    if kind is Embedding:
        return Column(name, "vector", stored=stored, optional=optional)
    return Column(name, _KIND_OF_TYPE[kind], stored=stored, optional=optional)
