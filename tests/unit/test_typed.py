"""Codecs of fixed types: what they wrote can be turned back into what SQLite had, or they said that it cannot."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.values import BadText, Value
from mirror.postgres.codecs import Reject
from mirror.postgres.typed import decode, encoder, original


def jsonb(text: str) -> str:
    """What Postgres makes of a JSON text without unusual numbers: members in its order, the last of one name."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        return {name: found[name] for name in sorted(found, key=lambda name: (len(name.encode()), name.encode()))}

    return json.dumps(json.loads(text, object_pairs_hook=members), ensure_ascii=False)


def back(codec: str, value: Value) -> Value:
    """There and back, by way of what psycopg would give."""
    encoded = encoder("", codec)(value)
    if encoded is None:
        return None
    kept = original(codec, value, encoded)
    if kept is not None:
        return kept
    given_back: Any = encoded
    if codec in ("time", "millis"):
        given_back = datetime.fromisoformat(encoded)
    elif codec == "json":
        given_back = jsonb(encoded)
    return decode(codec, given_back)


@pytest.mark.parametrize(
    ("text", "moment", "canonical"),
    [
        ("2026-11-23T00:05:04.442Z", "2026-11-23T00:05:04.442000+00:00", True),
        ("2026-11-23 00:05:04", "2026-11-23T00:05:04+00:00", True),
        ("2026-11-23T00:05:04.000Z", "2026-11-23T00:05:04+00:00", False),
        ("2026-11-23T00:05:04Z", "2026-11-23T00:05:04+00:00", False),
        ("2026-11-23 00:05:04.442", "2026-11-23T00:05:04.442000+00:00", False),
        ("2026-11-23T02:05:04.123456+02:00", "2026-11-23T00:05:04.123456+00:00", False),
        ("2026-11-23T00:05:04.123456Z", "2026-11-23T00:05:04.123456+00:00", True),
        ("2026-11-23T00:05:04.1234567Z", "2026-11-23T00:05:04.123456+00:00", False),
        ("2026-11-23", "2026-11-23T00:00:00+00:00", False),
        ("2026-11-23T00:05Z", "2026-11-23T00:05:00+00:00", False),
        ("0001-01-01 00:00:00", "0001-01-01T00:00:00+00:00", True),
    ],
)
def test_times(text: str, moment: str, canonical: bool) -> None:
    """Both are UTC where they do not say otherwise. What the canonical form does not give back is kept."""
    encoded = encoder("", "time")(text)
    assert encoded == moment
    assert original("time", text, encoded) == (None if canonical else text)
    assert back("time", text) == text


@pytest.mark.parametrize(
    ("codec", "value"),
    [
        ("time", "last week"),
        ("time", "2026-13-01"),
        ("time", "2026-02-30 00:00:00"),
        ("time", "2026-11-23T25:00:00Z"),
        ("time", "0001-01-01T00:00:00+02:00"),
        ("time", "2026-11-23\0"),
        ("time", "٢٠٢٦-11-23"),
        ("time", 1732320304),
        ("time", BadText(b"\xff")),
        ("millis", 10**18),
        ("millis", -(10**18)),
        ("millis", 1.5),
        ("millis", "1732320304442"),
        ("json", "{"),
        ("json", ""),
        ("json", "NaN"),
        ("json", '"\\u0000"'),
        ("json", '{"\\u0000":1}'),
        ("json", "[" * 100_000),
        ("json", b"{}"),
        ("vector", b""),
        ("vector", b"12345"),
        ("vector", struct.pack("<2f", 1, float("nan"))),
        ("vector", struct.pack("<f", float("inf"))),
        ("vector", bytes(4 * 16_001)),
        ("vector", "[1]"),
        ("strict", "x"),
    ],
)
def test_what_does_not_fit(codec: str, value: Value) -> None:
    """Told by its kind; never by what it is, because that may be private."""
    with pytest.raises(Reject) as caught:
        encoder("bigint", codec)(value)
    assert caught.value.reason
    assert not isinstance(value, str) or len(value) < 5 or value not in caught.value.reason


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("{}", True),
        ('["a","b"]', True),
        ('{"a":1,"bb":[true,null,-2.50]}', True),
        ('{"bb":1,"a":2}', False),
        ('{"a": 1}', False),
        ('{"a":1,"a":2}', False),
        ("[1e5]", False),
        ("[-0]", False),
        ("[-0.0]", False),
        ('["ü"]', True),
        ('["\\u00fc"]', False),
        ('["\\n\\u001f"]', True),
        ("[" * 900 + "]" * 900, None),
    ],
)
def test_json(text: str, canonical: bool | None) -> None:
    encoded = encoder("", "json")(text)
    kept = original("json", text, encoded)
    assert kept in (None, text)
    if canonical is not None:
        assert kept == (None if canonical else text)


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), st.integers(0, 6), st.sampled_from(["T", " "]))
def test_any_time(moment: datetime, digits: int, between: str) -> None:
    text = moment.isoformat(between, "microseconds")
    text = text[: 19 + digits + (digits > 0)]
    assert back("time", text) == text and back("time", text + "Z") == text + "Z"


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_any_millisecond(value: int) -> None:
    assert back("millis", value) == value
    encoded = encoder("", "millis")(value)
    assert encoded and datetime.fromisoformat(encoded) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        milliseconds=value
    )


plain = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_characters="\0", codec="utf-8"))
documents = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(documents, st.booleans(), st.sampled_from([None, 1]), st.booleans())
def test_any_document(document: Any, ascii_only: bool, indent: int | None, compact: bool) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent, separators=(",", ":") if compact else None)
    if "\\u0000" in text:
        return  # see above
    assert back("json", text) == text


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_any_vector(numbers: list[float]) -> None:
    """To the bit: also -0.0 and what is too small to be normal."""
    blob = struct.pack(f"<{len(numbers)}f", *numbers)
    assert back("vector", blob) == blob
    assert decode("vector", encoder("", "vector")(blob)) == blob
