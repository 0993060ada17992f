"""In which form a value is written: so that a column of a key takes one form, in which no two values mean the same.

SQLite tells ``'2026-01-02 03:04:05'`` from ``'2026-01-02T03:04:05'``, a timestamptz does not. Values of one form that
is named here are different values in Postgres too, as long as nothing is lost of them. By storage class and kind:

=================== ====================================================================================
integers, reals     ``integer``, ``real``
blobs               ``blob``; of JSON ``compact blob``
texts, char, enum … ``text``; of citext ``lower``, in ASCII
uuid                ``hex``, ``dashed``; with capitals ``hex upper``, ``dashed upper``; after ``urn `` with it
boolean             ``letter``, ``word``
times               what is there: ``YYYY-MM-DD HH:MM:SS.6+02:00`` has 6 digits, and this offset
interval            as times; ``clock`` as Python writes it; of ISO 8601 none
numbers             ``decimal 2`` with so many digits after the point, and without zeros in front
JSON                ``compact``: as jsonb gives it back, without spaces; no zeros end a fraction
inet, cidr          ``shortest``
=================== ====================================================================================

A form with ``[.6]`` takes fractions of 6 digits that are not zero, and none: so Python writes times.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Set
from datetime import timedelta
from itertools import product

from mirror.core.adopted import Form, Kind
from mirror.core.values import Value
from mirror.postgres.adopted.addresses import address
from mirror.postgres.adopted.intervals import CLOCK
from mirror.postgres.adopted.times import TEXT, TIME
from mirror.postgres.codecs import Reject
from mirror.postgres.json_forms import is_canonical_json

_UUID = re.compile(r"(urn:uuid:)?(?:[0-9a-f]{32}|([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}))", re.ASCII)
_DECIMAL = re.compile(r"(?!-[0.]*\Z)-?(?:0|[1-9]\d*)(?:\.(\d+))?", re.ASCII)
_FRACTION = re.compile(r"\.(\d)")
_ZERO_FRACTION = re.compile(r"\.0+(?!\d)", re.ASCII)
_UPPER = " upper"
_URN = "urn:uuid:"
_LOWER = re.compile("[a-z]")


def form_of(kind: Kind, value: Value) -> str:
    """The form of a value in a column of ``kind``, empty where it has none; NULL has none."""
    if type(value) is int:
        return "integer"
    if type(value) is float:
        return "real"
    if type(value) is bytes:
        return "blob" if kind not in ("jsonb", "json") else _json(value.decode(errors="replace"), " blob")
    return _form_of_text(kind, value) if type(value) is str else ""


def common_form(forms: Iterable[str]) -> str:
    """The form for :attr:`Form.only` that takes values of all these, empty where there is none."""
    found = sorted(set(forms), key=len)
    if len(found) == 1:
        return found[0]
    if len(found) != 2:
        return ""
    short, long = found
    # A uuid without letters is in upper case as well; a time of Python has no fraction where that is zero.
    if long == short + _UPPER or (short != long and _FRACTION.sub("", long) == short):
        return _FRACTION.sub(r"[.\1]", long)
    return ""


def chosen_form(counts: Mapping[str, int]) -> tuple[str, Set[str]]:
    """The form for :attr:`Form.only` that takes most of the values, of which ``counts`` says how many have which form;
    and those forms of which it takes values. Empty where none is known.
    """
    known = [form for form in counts if form]
    offered = {common_form(pair): {*pair} for pair in product(known, known)}
    offered.pop("", None)
    if not offered:
        return "", frozenset()
    chosen = max(offered, key=lambda form: sum(counts[each] for each in offered[form]))
    return chosen, offered[chosen]


def has_form(kind: Kind, value: Value, only: str) -> bool:
    """Whether a column of ``kind`` that takes one form takes the value."""
    found = form_of(kind, value)
    if found == only:
        return bool(found)
    if only.endswith(_UPPER):
        return found + _UPPER == only and isinstance(value, str) and not _LOWER.search(value.removeprefix(_URN))
    if "[." in only and isinstance(value, str):
        without = re.sub(r"\[\.\d\]", "", only)
        return found == without or (
            found == only.replace("[", "").replace("]", "") and _ZERO_FRACTION.search(value) is None
        )
    return False


def _form_of_text(kind: Kind, text: str) -> str:
    match kind:
        case "text" | "varchar" | "char" | "enum" | "bytea":
            return "text"
        case "citext":
            return "lower" if text.isascii() and text == text.lower() else ""
        case "uuid":
            return _uuid(text)
        case "boolean":
            return {"t": "letter", "f": "letter", "true": "word", "false": "word"}.get(text, "")
        case "timestamptz" | "timestamp" | "date":
            return _time(text)
        case "time":
            return _time_of_day(text)
        case "interval":
            return _time(text) or _clock(text)
        case "jsonb" | "json":
            return _json(text, "")
        case "inet" | "cidr":
            return _address(kind, text)
        case "array":
            return ""
        case _:
            match = _DECIMAL.fullmatch(text)
            return "" if match is None else f"decimal {len(match[1] or '')}"


def _uuid(text: str) -> str:
    match, suffix = _UUID.fullmatch(text), ""
    if match is None:
        digits = text.removeprefix(_URN)
        prefix = text.removesuffix(digits)
        match, suffix = None if _LOWER.search(digits) else _UUID.fullmatch(prefix + digits.lower()), _UPPER
    if match is None:
        return ""
    return f"{'urn ' if match[1] else ''}{'dashed' if match[2] else 'hex'}{suffix}"


def _time(text: str) -> str:
    match = TEXT.fullmatch(text)
    if match is None:
        return ""
    _, clock, seconds, fraction, offset = match.groups()
    return "YYYY-MM-DD" + (f"{clock[0]}HH:MM" if clock else "") + _seconds(seconds, fraction) + (offset or "")


def _time_of_day(text: str) -> str:
    match = TIME.fullmatch(text)
    return "" if match is None else "HH:MM" + _seconds(match[2], match[3])


def _seconds(seconds: str | None, fraction: str | None) -> str:
    return (":SS" if seconds else "") + (f".{len(fraction)}" if fraction else "")


def _clock(text: str) -> str:
    match = CLOCK.fullmatch(text)
    if match is None:
        return ""
    sign, days, hours, minutes, seconds, fraction = match.groups()
    size = timedelta(days=int(f"{sign or ''}{days or 0}"), hours=int(hours), minutes=int(minutes), seconds=int(seconds))
    return "clock" if text == str(size + timedelta(microseconds=int((fraction or "0").ljust(6, "0")[:6]))) else ""


def _json(text: str, suffix: str) -> str:
    if not is_canonical_json(text):
        return ""
    try:
        json.loads(text, parse_float=_unpadded)
    except ValueError:
        return ""
    return "compact" + suffix


def _unpadded(number: str) -> float:
    """jsonb compares numbers: 1.0 and 1 are one key."""
    if number.endswith("0"):
        raise ValueError(number)
    return 0.0


def _address(kind: Kind, text: str) -> str:
    try:
        return "shortest" if address(Form(kind))(text) == text else ""
    except Reject:
        return ""
