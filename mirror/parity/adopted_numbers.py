"""Numbers of SQLite in an application's own tables: the vocabulary of :mod:`mirror.core.adopted`.

Canonical values: of integers integers; of ``float4`` and ``float8`` doubles; of ``numeric`` the text without exponent
and without zeros at its end. A double becomes a float4 as IEEE 754 says: half to even.
"""

from __future__ import annotations

import math
import re
import struct
from decimal import ROUND_HALF_EVEN, Context, Decimal

from mirror.core.adopted import Form
from mirror.parity.adopted_terms import Decode, Lossy, Misfit, lossy, places
from mirror.parity.values import Cell

_RANGES = {"int2": 2**15, "int4": 2**31, "int8": 2**63}
_INTEGER = re.compile(r"-?0*([0-9]{1,19})")
_DECIMAL = re.compile(r"-?([0-9]+)(?:[.]([0-9]+))?(?:[eE]([+-]?[0-9]{1,9}))?")
#: What numeric holds: digits before the point and after it.
MOST_DIGITS, MOST_PLACES = 131_072, 16_383
_EXACT = Context(prec=MOST_DIGITS + MOST_PLACES)
_FLOAT4 = struct.Struct(">f")


def decoder(form: Form) -> Decode:
    """What makes canonical values of a kind that is a number."""
    match form.kind:
        case "numeric":
            return _numeric(form)
        case "float4":
            return _float4
        case "float8":
            return _float8
        case _:
            return _integer(form)


def _integer(form: Form) -> Decode:
    limit, whole = _RANGES[form.kind], form.scale is None

    def decode(value: Cell) -> Cell | Lossy:
        lost = ""
        if isinstance(value, float):
            found = None if not math.isfinite(value) else int(Decimal(value).to_integral_value(ROUND_HALF_EVEN))
            lost = "" if found == value else places(0)
            value = None if lost and whole else found
        elif isinstance(value, str):
            match = _INTEGER.fullmatch(value)
            value = (-int(match[1]) if value[0] == "-" else int(match[1])) if match else None
        if not isinstance(value, int):
            raise Misfit("no integer")
        if not -limit <= value < limit:
            raise Misfit("an integer out of range")
        return lossy(value, lost)

    return decode


def _float8(value: Cell) -> Cell:
    if isinstance(value, float):
        return value
    if isinstance(value, int):
        return _double(value)
    raise Misfit("no real number")


def _double(value: int) -> float:
    try:
        real = float(value)
    except OverflowError as error:
        raise Misfit("not exact as a double") from error
    if int(real) != value:
        raise Misfit("not exact as a double")
    return real


def _float4(value: Cell) -> Cell | Lossy:
    real = _float8(value)
    assert isinstance(real, float)
    try:
        found = float(_FLOAT4.unpack(_FLOAT4.pack(real))[0])
    except OverflowError as error:
        raise Misfit("out of the range of a float4") from error
    return lossy(found, "" if found == real else "rounded to a float4")


def _numeric(form: Form) -> Decode:
    scale = form.scale if form.precision is None or form.scale is not None else 0
    least = None if scale is None else Decimal(1).scaleb(-scale)
    most = None if form.precision is None else Decimal(1).scaleb(form.precision - (scale or 0))
    word = "" if scale is None else places(scale)
    short = None
    if scale is not None and form.real_digits >= 17 and form.precision is not None and 0 < scale < form.precision <= 17:
        short = re.compile(rf"-?[0-9]{{1,{form.precision - scale}}}[.][0-9]{{1,{scale}}}")

    def decode(value: Cell) -> Cell | Lossy:
        if short is not None and isinstance(value, float) and (match := short.fullmatch(repr(value))):
            # Most reals need no arithmetic: digits that all have their place.
            text = match[0].removesuffix(".0")
            return "0" if text == "-0" else text
        number = _decimal(value, form.real_digits)
        found = number
        if least is not None and number.as_tuple().exponent < -scale:  # type: ignore[operator]
            found = number.quantize(least, ROUND_HALF_EVEN, _EXACT)
        if most is not None and abs(found) >= most:
            raise Misfit("a number out of range")
        return lossy(decimal_text(found), "" if found == number else word)

    return decode


def _decimal(value: Cell, digits: int) -> Decimal:
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, float) and math.isfinite(value):
        return Decimal(repr(value) if digits >= 17 else format(value, f".{digits}g"))
    if not isinstance(value, str):
        raise Misfit("no decimal number")
    return in_numeric(value)


def in_numeric(text: str) -> Decimal:
    """The number that a decimal text is; raises :class:`Misfit` where numeric does not hold it."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise Misfit("no decimal number")
    whole, fraction, exponent = match.groups(default="")
    moved = int(exponent or 0)
    if len(whole) + moved > MOST_DIGITS or len(fraction) - moved > MOST_PLACES:
        raise Misfit("a number out of range")
    return Decimal(text)


def decimal_text(number: Decimal) -> str:
    """A number without exponent, and without zeros at its end."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").removesuffix(".")
    return text if number else "0"
