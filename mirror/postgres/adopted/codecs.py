"""SQLite's values as values of the types that an application chose; :mod:`mirror.core.adopted` has what they may be.

A conversion is total: it gives a text that Postgres takes and stores as exactly that value, under all settings of a
session, or raises :class:`~mirror.postgres.codecs.Reject`. Postgres' own input functions decide nothing: they take
``now`` for a time, ``0x1F`` for an integer, and leave out an offset without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

from mirror.core.adopted import Form, Kind
from mirror.core.values import Value
from mirror.postgres.adopted import addresses, arrays, intervals, json_values, numbers, texts, times, vectors
from mirror.postgres.adopted.conversion import Conversion, Note, unheard
from mirror.postgres.adopted.writing import common_form, form_of, has_form
from mirror.postgres.codecs import Encoder, Reject

__all__ = ["Converted", "common_form", "converter", "encoder", "form_of"]

ANOTHER_FORM = "the key has another form than the others"
ROUNDED = "rounded to the digits that its program shows, in a key"
EMPTY_IS_NULL = "an empty text is NULL"


class Converted(NamedTuple):
    """What a value becomes."""

    text: str | None
    """Postgres' text form of the type; None: NULL."""
    loss: str
    """What is lost, in a few words without the value; empty: nothing."""


#: Of a tuple; the class itself takes three times as long, which shows in a scan of millions of values.
_converted: Callable[[tuple[str | None, str]], Converted] = partial(tuple.__new__, Converted)


@lru_cache(maxsize=4096)
def encoder(form: Form) -> Encoder:
    """The conversion of values of a column, for who does not ask what is lost.

    It raises :class:`~mirror.postgres.codecs.Reject` with a few words that do not have the value. Raises ``KeyError``
    or ``ValueError`` for a zone that is not known.
    """
    return _conversion(form)


@lru_cache(maxsize=4096)
def converter(form: Form) -> Callable[[Value], Converted]:
    """The same, with what is lost."""
    convert = _conversion(form)

    def convert_and_tell(value: Value) -> Converted:
        losses: list[str] = []
        text = convert(value, losses.append)
        return _converted((text, "; ".join(dict.fromkeys(losses)) if losses else ""))

    return convert_and_tell


def _conversion(form: Form) -> Conversion:
    convert = _of_kind(form)
    if form.empty_is_null:
        convert = _with_empty(convert)
    return _of_one_form(form, convert) if form.only else convert


def _of_kind(form: Form) -> Conversion:
    if form.kind == "array":
        return arrays.array(form, _conversion)
    return _CONVERSIONS[form.kind](form)


def _with_empty(convert: Conversion) -> Conversion:
    def convert_or_null(value: Value, note: Note = unheard, /) -> str | None:
        if value == "":
            note(EMPTY_IS_NULL)
            return None
        return convert(value, note)

    return convert_or_null


def _of_one_form(form: Form, convert: Conversion) -> Conversion:
    """Of a key: no two values become one."""
    kind, only = form.kind, form.only
    of_trusted_digits = kind == "numeric" and form.real_digits < 17

    def convert_key(value: Value, note: Note = unheard, /) -> str | None:
        if value is None:
            return None
        if not has_form(kind, value, only):
            raise Reject(ANOTHER_FORM)
        text = convert(value, _refuse_loss)
        if of_trusted_digits and type(value) is float and text is not None and float(text) != value:
            raise Reject(ROUNDED)
        return text

    return convert_key


def _refuse_loss(loss: str) -> None:
    raise Reject(f"{loss}, in a key")


_CONVERSIONS: dict[Kind, Callable[[Form], Conversion]] = {
    "timestamptz": times.timestamptz,
    "timestamp": times.timestamp,
    "date": times.date,
    "time": times.time,
    "interval": intervals.interval,
    "uuid": texts.uuid,
    "boolean": numbers.boolean,
    "jsonb": json_values.jsonb,
    "json": json_values.json,
    "numeric": numbers.numeric,
    "int2": numbers.integer,
    "int4": numbers.integer,
    "int8": numbers.integer,
    "float4": numbers.float4,
    "float8": numbers.float8,
    "text": texts.text,
    "varchar": texts.text,
    "char": texts.text,
    "citext": texts.text,
    "enum": texts.enum,
    "bytea": texts.bytea,
    "inet": addresses.address,
    "cidr": addresses.address,
    "vector": vectors.vector,
    "halfvec": vectors.vector,
}
