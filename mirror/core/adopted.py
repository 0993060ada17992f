"""What a column of an application's own table takes, and how the source's values become that.

The mirror's own tables have the types that the mirror chooses. A table that was *adopted* has those that the
application's migrations chose, and each column of it a :class:`Form`: the kind of type, its limits, and what the values
of SQLite mean there (the zone of times without one, the unit of numbers that are times). A form is decided once, when
the table is adopted, and kept with the column as its codec. Two implementations follow it, on purpose:
``postgres/adopted/codecs.py`` writes, ``parity/adopted.py`` compares.

Kinds, and what SQLite's values may be (all others are rejects; NULL is NULL):

=========== ====================================================================================================
kind        values
=========== ====================================================================================================
timestamptz text ``YYYY-MM-DD[ T]HH:MM[:SS[.f{1,9}]][Z|±HH[:]MM]`` or ``YYYY-MM-DD``, without an offset in
            :attr:`Form.zone`; integers and reals since 1970 in :attr:`Form.unit`. Years 1 to 9999
timestamp   the same; with an offset it is converted to :attr:`Form.zone` and shown as the clock there
date        ``YYYY-MM-DD``; what a timestamp takes, only at midnight in :attr:`Form.zone`
time        ``HH:MM[:SS[.f{1,9}]]``, up to 23:59:59.999999
interval    by :attr:`Form.unit`: integers of microseconds; ``datetime``: text of a time, less 1970-01-01; ``clock``:
            ``[-][D day[s], ]H:MM:SS[.f]``; ``iso``: ISO 8601 durations of days and time
uuid        32 hex digits, 36 with dashes, any case, ``urn:uuid:`` before it; blobs of 16 bytes
boolean     0 and 1, also as reals; the texts t, f, true, false
jsonb, json text and blobs in UTF-8 that are JSON (RFC 8259); numbers that are finite
numeric     integers; reals by their shortest decimal; decimal texts (``-12.50``, ``1e3``)
int2 …      integers in range; reals without a fraction; decimal texts of integers without spaces
float4, 8   reals and integers that are exact as a double; float4: reals that are not are rounded, which is a loss
text        text; numbers never
varchar     text of at most :attr:`Form.length` characters, as Postgres counts them; char, citext likewise
bytea       blobs; text, as its bytes in UTF-8
enum        text that is exactly one of :attr:`Form.labels`
inet, cidr  text of an address or a network, IPv4 or IPv6; of a cidr no bits right of the mask
array       text of a JSON array, of what :attr:`Form.element` takes; nested only if rectangular, nothing for elements
            of JSON
=========== ====================================================================================================

A loss is a value that is taken and not given back: a fraction rounded half to even to :attr:`Form.digits` or
:attr:`Form.scale` places, an offset that is not kept (timestamp), a wall clock that occurs twice in the zone (the first
is taken) — one that never occurs is a reject —, a double that a float4 rounds, spaces at the end of char.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Literal

Kind = Literal[
    "timestamptz", "timestamp", "date", "time", "interval", "uuid", "boolean", "jsonb", "json", "numeric",
    "int2", "int4", "int8", "float4", "float8", "text", "varchar", "char", "citext", "bytea", "enum", "inet", "cidr",
    "array",
]  # fmt: skip
#: Of numbers that are times: seconds, milliseconds, microseconds; of intervals also the forms of text.
Unit = Literal["", "s", "ms", "us", "datetime", "clock", "iso"]

#: What the codec of an adopted column begins with.
PREFIX = "adopted "


@dataclass(frozen=True, slots=True)
class Form:
    """How values of SQLite become values of one column: see the module."""

    kind: Kind
    zone: str = "UTC"
    """Of times without an offset, an IANA name."""
    unit: Unit = ""
    """Empty: numbers are rejects."""
    digits: int | None = None
    """Of a second's fraction that the column keeps, 0 to 6; None: 6."""
    precision: int | None = None
    """Of numeric: digits in all; None: any."""
    scale: int | None = None
    """Of numeric: digits after the point, negative ones too; None: any."""
    length: int | None = None
    """Of varchar and char: characters."""
    labels: tuple[str, ...] = ()
    """Of an enum."""
    element: Form | None = None
    """Of an array."""
    empty_is_null: bool = False
    """Whether the texts ``''`` and, in times, ``0000-00-00…`` are NULL; otherwise they are rejects where the kind
    does not take them."""
    real_digits: int = 17
    """To so many significant digits a real is rounded before it becomes numeric: 15 is what programs show that do not
    trust more; rounding that changes it is no loss then, because the program shows that number."""
    unique: bool = False
    """Whether the column is of a unique key beside the table's key: a row in which it changes is deleted before others
    are written, so that two rows can exchange their values."""
    only: str = ""
    """Of a key: values of this form alone are taken, so that two of SQLite's keys never become one row. By kind:
    uuid ``hex``, ``dashed`` (both in lower case) or ``blob``; times and intervals, numbers, JSON the form that
    :func:`mirror.postgres.adopted.codecs.form_of` calls it. Empty: any."""

    @property
    def codec(self) -> str:
        """The form as the codec of a column (:class:`mirror.core.tables.ColumnType`)."""
        return PREFIX + json.dumps(_plain(self), ensure_ascii=False, separators=(",", ":"))


def _plain(form: Form) -> dict[str, object]:
    plain: dict[str, object] = {}
    for field in fields(form):
        value = getattr(form, field.name)
        if field.name == "kind" or value != field.default:
            plain[field.name] = _plain(value) if isinstance(value, Form) else value
    return plain


def is_adopted(codec: str) -> bool:
    """Whether a codec is that of an adopted column."""
    return codec.startswith(PREFIX)


@lru_cache(maxsize=4096)
def form_of_codec(codec: str) -> Form:
    """The form that a codec is; raises ``ValueError`` for another codec."""
    if not is_adopted(codec):
        raise ValueError(f"not the codec of an adopted column: {codec}")
    return _form(json.loads(codec.removeprefix(PREFIX)))


def _form(plain: dict[str, object]) -> Form:
    element = plain.pop("element", None)
    labels = plain.pop("labels", ())
    inner = _form(element) if isinstance(element, dict) else None
    return Form(**plain, element=inner, labels=tuple(labels))  # type: ignore[arg-type]
