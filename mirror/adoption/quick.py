"""Values that surely fit a column, without a loss, told faster than their codec tells it.

``fits`` of a whole column of values is true only if every one of them fits; ``fit`` of one value likewise. Where they
are false nothing is known, and the codec (:mod:`mirror.postgres.adopted.codecs`) decides. A test holds that what is
said to fit here is taken there, and without a loss.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import compress
from typing import Any

import msgspec
import numpy as np

from mirror.core.adopted import Form
from mirror.core.values import Value

#: Whether all of these values, NULLs left out, surely fit.
Fits = Callable[[Sequence[Any]], bool]

_INTEGERS = {"int2": 1 << 15, "int4": 1 << 31, "int8": 1 << 63}
#: With a place for the fraction.
_MOMENT = "[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[ T][0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}{}(Z|[+]00:00)?"
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_HEX, _DASHED = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Since 1970, in seconds: years that all kinds have, without their last day.
_FIRST_SECOND, _LAST_SECOND = -62_135_500_000, 253_402_200_000
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
_UNIT_DIGITS = {"s": 0, "ms": 3, "us": 6}
#: Of documents: the longest, and the most that may be opened in one.
_LONGEST_JSON, _DEEPEST_JSON = 16_000, 60
#: It takes JSON as RFC 8259 has it, and nothing else.
_DOCUMENTS = msgspec.json.Decoder()
_EXPONENT = re.compile("[0-9][eE]")
#: Up to here a real has one decimal of 15 digits, and no other that is as short.
_EXACT_REAL = 10**15


def fits_of(form: Form) -> Fits:
    """How to tell whether values surely fit a form."""
    fits = _fits_of(form)
    return (lambda values: "" not in values and fits(values)) if form.empty_is_null else fits


def _fits_of(form: Form) -> Fits:
    if form.only:
        # Each form of a key is tried by its own pattern; others are left to the codec.
        pattern = {"hex": _HEX, "dashed": _DASHED}.get(form.only) if form.kind == "uuid" else None
        if pattern is not None:
            return _each(str, _matching(pattern))
        if form.only != "integer" or form.kind not in _INTEGERS:
            return _none
    if (bound := _INTEGERS.get(form.kind)) is not None:
        return lambda values: _only(values, int) and -bound <= min(values) and max(values) < bound
    match form.kind:
        case "text" | "citext":
            return _is_text
        case "varchar":
            return _short_text(form.length)
        case "bytea":
            return lambda values: _only(values, bytes)
        case "boolean":
            return lambda values: _only(values, int) and set(values) <= {0, 1}
        case "float8":
            return lambda values: _only(values, float) and math.isfinite(math.fsum(map(abs, values)))
        case "enum":
            labels = frozenset(form.labels)
            return lambda values: _only(values, str) and labels.issuperset(values)
        case "uuid":
            return _each(str, lambda value: _HEX.fullmatch(value) or _DASHED.fullmatch(value))
        case "timestamptz" | "timestamp":
            return _moments(form)
        case "date":
            return _each(str, _is_day)
        case "json":
            return _are_documents
        case "jsonb":
            return lambda values: _are_documents(values, _keeps_its_members)
        case "numeric":
            return _decimals(form)
        case "vector" if form.length is not None:
            return _vectors(form.length)
    return _none


def _none(values: Sequence[Any]) -> bool:
    return not values


def _only(values: Iterable[Any], kind: type) -> bool:
    return set(map(type, values)) == {kind}


def _each(kind: type, fits: Callable[[Any], object]) -> Fits:
    return lambda values: _only(values, kind) and all(map(fits, values))


def _matching(pattern: re.Pattern[str]) -> Callable[[str], object]:
    return pattern.fullmatch


def _is_text(values: Sequence[Any]) -> bool:
    return _only(values, str) and "\0" not in "".join(values)


def _short_text(length: int | None) -> Fits:
    if length is None:
        return _is_text
    return lambda values: _is_text(values) and max(map(len, values)) <= length


def _moments(form: Form) -> Fits:
    most = 6 if form.digits is None else form.digits
    in_utc = form.zone == "UTC"
    texts = re.compile(_MOMENT.format(f"(?:\\.[0-9]{{1,{most}}})?" if most else ""))

    def is_moment(value: str) -> bool:
        found = texts.fullmatch(value)
        # Without an offset a timestamp is the clock as it is written; with one, the zone has to be asked.
        if found is None or (found[1] if form.kind == "timestamp" else not (found[1] or in_utc)):
            return False
        try:
            # A year more or less is left to the codec: with an offset it may end beyond the calendar.
            return 1 < datetime.fromisoformat(value[:19]).year < 9999
        except ValueError:
            return False

    def fits(values: Sequence[Any]) -> bool:
        kinds = set(map(type, values))
        if kinds == {str}:
            return all(map(is_moment, values))
        if kinds == {int} and in_utc and form.unit in _PER_SECOND and _UNIT_DIGITS[form.unit] <= most:
            per = _PER_SECOND[form.unit]
            return bool(_FIRST_SECOND * per <= min(values) and max(values) <= _LAST_SECOND * per)
        return False

    return fits


def _is_day(value: str) -> bool:
    try:
        return _DAY.fullmatch(value) is not None and datetime.fromisoformat(value).year > 0
    except ValueError:
        return False


def _is_document(value: str) -> bool:
    """Without what Postgres' documents have limits of: escapes, exponents, depth, size."""
    if len(value) > _LONGEST_JSON or "\\" in value or value.count("[") + value.count("{") > _DEEPEST_JSON:
        return False
    if _EXPONENT.search(value) is not None:
        return False
    try:
        _DOCUMENTS.decode(value)
    except msgspec.DecodeError:
        return False
    return True


def _keeps_its_members(value: str) -> bool:
    """Of a document without escapes: with a member that another of its name takes the place of, strings would go."""
    return msgspec.json.encode(_DOCUMENTS.decode(value)).count(b'"') == value.count('"')


def _are_documents(values: Sequence[Any], more: Callable[[str], bool] = bool) -> bool:
    try:
        texts = [value.decode() if type(value) is bytes else value for value in values]
    except UnicodeDecodeError:
        return False
    return _only(texts, str) and all(map(_is_document, texts)) and all(map(more, texts))


def _vectors(length: int) -> Fits:
    size = 4 * length
    return lambda values: (
        _only(values, bytes)
        and all(len(value) == size for value in values)
        and bool(np.isfinite(np.frombuffer(b"".join(values), dtype="<f4")).all())
    )


def _decimals(form: Form) -> Fits:
    if form.precision is None:
        return lambda values: _only(values, int)
    scale = form.scale or 0
    if scale < 0 or scale > 14 or form.precision < scale:
        return _none
    bound = 10 ** (form.precision - scale)
    exact = min(bound, _EXACT_REAL // 10**scale)

    def fits(values: Sequence[Any]) -> bool:
        kinds = set(map(type, values))
        if not kinds <= {int, float}:
            return False
        if not -bound < min(values) or not max(values) < bound:
            return False
        if float not in kinds:
            return True
        reals = list(compress(values, [type(value) is float for value in values]))
        if not -exact < min(reals) or not max(reals) < exact:
            return False
        return all(round(value, scale) == value for value in reals) and not any(map(_is_minus_zero, reals))

    return fits


def _is_minus_zero(value: Value) -> bool:
    return value == 0 and isinstance(value, float) and math.copysign(1, value) < 0
