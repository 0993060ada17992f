"""Numbers and truth: ``numeric``, ``int2`` to ``int8``, ``float4``, ``float8``, ``boolean``.

A decimal text is ``-?D[.D][(e|E)[±]D]``, D any ASCII digits. A real that becomes a numeric is its shortest decimal, or
rounded to as many digits as its program trusts; nothing goes through a double that was none.
"""

from __future__ import annotations

import math
import re
import struct
from decimal import ROUND_HALF_EVEN, Context, Decimal

from mirror.core.adopted import Form
from mirror.core.values import Value
from mirror.postgres.adopted.conversion import Conversion, Note, clean_text, refuse, unheard
from mirror.postgres.adopted.instants import NOT_FINITE
from mirror.postgres.codecs import Reject

NOT_A_NUMBER = "a text that is not a decimal number"
NOT_AN_INTEGER = "a number with a fraction in a column of integers"
OUT_OF_RANGE = "a number out of range"
NOT_A_DOUBLE = "an integer that is not exact as a double"
NOT_TRUE_OR_FALSE = "neither true nor false"
SINGLE = "rounded to single precision"

#: Digits of numeric before and after the point (https://www.postgresql.org/docs/current/datatype-numeric.html).
MAX_WHOLE, MAX_FRACTION = 131_072, 16_383

#: Groups: the digits before the point, those after it, the exponent.
DECIMAL = re.compile(r"-?(\d+)(?:\.(\d+))?(?:[eE]([-+]?\d{1,9}))?", re.ASCII)
#: Groups: the sign, the digits without zeros in front.
_INTEGER = re.compile(r"(-?)0*(\d{1,19})", re.ASCII)
#: Rounds nothing that is in range.
_EXACT = Context(prec=2 * (MAX_WHOLE + MAX_FRACTION), rounding=ROUND_HALF_EVEN)

_SINGLE = struct.Struct("<f")
_WORDS = {"t": "t", "f": "f", "true": "t", "false": "f"}
_BITS = {"int2": 16, "int4": 32, "int8": 64}


def fits_numeric(whole: str, fraction: str | None, exponent: str | None) -> bool:
    """Whether numeric without limits takes a decimal as it is written."""
    moved = int(exponent or 0)
    return len(whole) + moved <= MAX_WHOLE and len(fraction or "") - moved <= MAX_FRACTION


def numeric(form: Form) -> Conversion:
    """Decimals, rounded half to even to the form's scale."""
    scale, precision, trusted = form.scale, form.precision, form.real_digits
    if precision is not None and scale is None:
        scale = 0
    most = None if precision is None or scale is None else precision - scale
    """The number is less than 10 to this."""

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if type(value) is int:
            text = str(value)
            if scale == 0 and most is not None and len(text) <= most:
                return text
        elif type(value) is float:
            text = of_real(value)
        elif value is None:
            return None
        else:
            text = clean_text(value, "numbers")
            match = DECIMAL.fullmatch(text)
            if match is None:
                raise Reject(NOT_A_NUMBER)
            if (match[3] is not None or len(text) > MAX_FRACTION) and not fits_numeric(*match.groups()):
                raise Reject(OUT_OF_RANGE)
        return text if scale is None else limited(text, scale, note)

    def of_real(value: float) -> str:
        if not math.isfinite(value):
            raise Reject(NOT_FINITE)
        text = repr(value)
        if trusted >= 17 or len(text) <= trusted:
            return text
        shown = f"{value:.{trusted}g}"
        return text if float(shown) == value else shown

    def limited(text: str, places: int, note: Note) -> str:
        whole, _, fraction = text.partition(".")
        if most is not None and len(whole) <= most and len(fraction) <= places and "e" not in text and "E" not in text:
            return text
        return rounded(Decimal(text), places, note)

    def rounded(number: Decimal, places: int, note: Note) -> str:
        if most is not None and number and number.adjusted() > most:
            raise Reject(OUT_OF_RANGE)
        _, _, exponent = number.as_tuple()
        assert isinstance(exponent, int)
        kept = number.quantize(Decimal((0, (1,), -places)), context=_EXACT) if exponent < -places else number
        if kept != number:
            note(f"rounded to {places} places")
        if most is not None and kept and kept.adjusted() >= most:
            raise Reject(OUT_OF_RANGE)
        return f"{kept:f}"

    return convert


def integer(form: Form) -> Conversion:
    """Integers of the kind's size, and reals rounded to them where the form says so."""
    limit = 2 ** (_BITS[form.kind] - 1)
    rounds = form.scale == 0

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if type(value) is int:
            number = value
        elif type(value) is float:
            if not math.isfinite(value):
                raise Reject(NOT_FINITE)
            if not value.is_integer():
                if not rounds:
                    raise Reject(NOT_AN_INTEGER)
                note("rounded to 0 places")
            number = round(value)
        elif value is None:
            return None
        else:
            text = clean_text(value, "integers")
            match = _INTEGER.fullmatch(text)
            if match is None:
                raise Reject(_why_no_integer(text))
            number = int(match[1] + match[2])
        if -limit <= number < limit:
            return str(number)
        raise Reject(OUT_OF_RANGE)

    return convert


def _why_no_integer(text: str) -> str:
    match = DECIMAL.fullmatch(text)
    if match is None:
        return NOT_A_NUMBER
    return OUT_OF_RANGE if match[2] is None and match[3] is None else NOT_AN_INTEGER


def float8(form: Form) -> Conversion:
    """Doubles, infinite ones too; the text is the shortest one that is this double."""

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        return None if value is None else repr(_double(value))

    return convert


def float4(form: Form) -> Conversion:
    """Doubles, rounded to single precision; those that would become infinite by that are rejects."""

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if value is None:
            return None
        number = _double(value)
        try:
            (single,) = _SINGLE.unpack(_SINGLE.pack(number))
        except OverflowError as error:
            raise Reject(OUT_OF_RANGE) from error
        if single != number:
            note(SINGLE)
        return repr(single)

    return convert


def _double(value: Value) -> float:
    if type(value) is float:
        if math.isnan(value):  # SQLite has none
            raise Reject(NOT_FINITE)
        return value
    if type(value) is not int:
        refuse(value, "reals")
    try:
        number = float(value)
    except OverflowError as error:
        raise Reject(OUT_OF_RANGE) from error
    if number != value:
        raise Reject(NOT_A_DOUBLE)
    return number


def boolean(form: Form) -> Conversion:
    """Truth: 0 and 1, and words."""

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if type(value) is int or type(value) is float:
            if value == 0 or value == 1:
                return "t" if value else "f"
        elif value is None:
            return None
        elif (word := _WORDS.get(clean_text(value, "truth"))) is not None:
            return word
        raise Reject(NOT_TRUE_OR_FALSE)

    return convert
