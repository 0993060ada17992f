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
            :attr:`Form.zone`; offsets below 24 hours; integers and reals since 1970 in :attr:`Form.unit`, a real being
            exactly its double. Years 1 to 9999, as they are written, after rounding and, of what is converted, in UTC
timestamp   the same; what has an offset or is a number is converted to :attr:`Form.zone` and shown as the clock there;
            what has none is the clock as it is written, also one that the zone never shows
date        ``YYYY-MM-DD``; what a timestamp takes, only where that is midnight exactly, without rounding
time        ``HH:MM[:SS[.f{1,9}]]``, up to 23:59:59.999999, also after rounding
interval    by :attr:`Form.unit`: ``s``, ``ms``, ``us``: integers and reals of these; ``datetime``: text of a time
            without an offset, less 1970-01-01; ``clock``: ``[-][D day[s], ]H:MM:SS[.f{1,9}]``, D up to 9 digits, H 1
            or 2 and to 23, with days the sign is that of the days alone, as Python writes a timedelta; ``iso``:
            ``[-]P[nD][T[nH][nM][n[.f{1,9}]S]]``, n up to 16 digits, one of them at least, and after T as well. After
            rounding from -999999999 days to a microsecond less than 1000000000 days
uuid        32 hex digits, 36 with dashes, before either ``urn:uuid:``, all in any case; blobs of 16 bytes
boolean     0 and 1, also as reals; the texts t, f, true, false, in lower case
jsonb, json text and blobs in UTF-8 that are JSON (RFC 8259), nested at most 500 deep, without lone surrogates; integers
            by their digits, reals that are finite by their shortest decimal. jsonb: no ``\\u0000``, and numbers as
            numeric holds them; both also in members whose name comes again
numeric     integers; finite reals by their shortest decimal; decimal texts ``-?D[.D][(e|E)[±]D]`` (``-12.50``,
            ``1e3``), the exponent up to 9 digits: at most 131072 digits before the point and 16383 after it, as they
            are written, zeros at either end too, and moved by the exponent: ``0.1e131072`` has 131073
int2 …      integers in range; reals without a fraction, or, where :attr:`Form.scale` is 0, rounded half to even; texts
            ``-?D`` in range, with any zeros in front
float4, 8   reals, infinite ones too, and integers that are exact as a double; float4: what it has not is rounded, also
            to zero, which is a loss; what is infinite only by that is a reject
text        text; numbers never
varchar     text of at most :attr:`Form.length` characters, as Postgres counts them, spaces too; char, citext likewise
bytea       blobs; text, as its bytes in UTF-8, also with NUL
enum        text that is exactly one of :attr:`Form.labels`
inet, cidr  text of an address or a network (``/n``), IPv4 in four decimal numbers or IPv6 without a scope; decimal
            numbers without zeros in front; of a cidr no bits right of the mask
array       text of a JSON array, of what :attr:`Form.element` takes, or of the JSON null, which is NULL; true and false
            only where elements are boolean; numbers of elements of numeric by their text, in others as integers or
            finite doubles; nested at most 6 deep, only if rectangular and without empty ones; where elements are JSON,
            only null
vector      blobs of float32, little-endian, of :attr:`Form.length` numbers that are all finite; halfvec: rounded half
            to even to half precision, which is a loss, and a reject where that is not finite
=========== ====================================================================================================

Digits are ASCII; nothing has spaces around it but JSON. What is larger than Postgres takes in one value is a reject in
every kind.

Times are rounded as they are written, and numbers as they are, before an offset or a zone moves them; whether a zone
shows a clock, or twice, is asked of the clock as it is written, what it shows at a moment of the moment as it is
rounded.

A loss is a value that is taken and not given back: what is rounded half to even to :attr:`Form.digits` places of a
second (5.5 to 6, 4.5 to 4; of a real that is a time only where the double nearest to the result is another) or to
:attr:`Form.scale` places; an offset that is not the zone's at that time (timestamp, date); a wall clock that occurs
twice in the zone (of timestamptz: the first is taken; of timestamp and date: a number or a text with an offset that is
the second) — one that never occurs is a reject of timestamptz —; a number that a float4 rounds; spaces at the end of
char; a number in jsonb that is written without its exponent, and has no fraction so; members of an object in jsonb that
another of their name follows, however either is written; a text that is NULL: an empty one, a zero date, or the JSON
null of an array.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import msgspec

Kind = Literal[
    "timestamptz", "timestamp", "date", "time", "interval", "uuid", "boolean", "jsonb", "json", "numeric",
    "int2", "int4", "int8", "float4", "float8", "text", "varchar", "char", "citext", "bytea", "enum", "inet", "cidr",
    "array", "vector", "halfvec",
]  # fmt: skip
#: Of numbers that are times: seconds, milliseconds, microseconds; of intervals also the forms of text.
Unit = Literal["", "s", "ms", "us", "datetime", "clock", "iso"]

#: Kinds in which one value of Postgres has several of SQLite's: in a key only one form of them is taken.
MANY_FORMS: frozenset[Kind] = frozenset(
    ("timestamptz", "timestamp", "date", "time", "interval", "uuid", "boolean", "jsonb", "json", "numeric",
     "int2", "int4", "int8", "float4", "float8", "inet", "cidr", "bytea", "array", "char", "citext")
)  # fmt: skip
INTEGERS: frozenset[Kind] = frozenset(("int2", "int4", "int8"))
#: What the codec of an adopted column begins with.
PREFIX = "adopted "


class Form(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
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
    """Of numeric: digits after the point, negative ones too; None: any. Of integers 0: reals with a fraction are
    rounded, because the program that runs in Postgres has them rounded there; None: those are rejects."""
    length: int | None = None
    """Of varchar and char: characters. Of vectors: numbers."""
    labels: tuple[str, ...] = ()
    """Of an enum."""
    element: Form | None = None
    """Of an array."""
    empty_is_null: bool = False
    """Whether the text ``''`` is NULL, and of timestamptz, timestamp and date texts that are such a time but for the
    date, which is 0000-00-00; otherwise they are rejects where the kind does not take them."""
    real_digits: int = 17
    """To so many significant digits a real is rounded before it becomes numeric, the double itself and not its shortest
    decimal, as ``%.15g`` does: 15 is what programs show that do not trust more; rounding that changes it is no loss
    then, because the program shows that number."""
    unique: bool = False
    """Whether the column is of a unique key beside the table's key: a row in which it changes is deleted before others
    are written, so that two rows can exchange their values."""
    only: str = ""
    """Of a key: values of this form alone are taken, and none with a loss or rounded by :attr:`real_digits`, so that
    two of SQLite's keys never become one row. By kind: uuid ``hex``, ``dashed`` (both in lower case) or ``blob``;
    times and intervals, numbers, JSON the form that :func:`mirror.postgres.adopted.codecs.form_of` calls it. Empty:
    any. The comparison follows it for uuid alone, and elsewhere takes values of any form: such a row, which Postgres
    does not have, counts as rejected if ``mirror.rejects`` has its key, as it does then, and else as missing."""
    written: str = ""
    """The form in which its program writes most values, by the same names: in it the way back writes them. Empty: not
    known."""

    @property
    def codec(self) -> str:
        """The form as the codec of a column (:class:`mirror.core.tables.ColumnType`)."""
        return PREFIX + msgspec.json.encode(self).decode()


def is_adopted(codec: str) -> bool:
    """Whether a codec is that of an adopted column."""
    return codec.startswith(PREFIX)


@lru_cache(maxsize=4096)
def form_of_codec(codec: str) -> Form:
    """The form that a codec is; raises ``ValueError`` for another codec, and a form that is not known."""
    if not is_adopted(codec):
        raise ValueError(f"not the codec of an adopted column: {codec}")
    try:
        return msgspec.json.decode(codec.removeprefix(PREFIX), type=Form)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not the form of an adopted column: {error}") from error
