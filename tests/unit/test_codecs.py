"""Every codec, both ways, at the edges of its type."""

from __future__ import annotations

import json
import math
import re
import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.values import BadText, Value
from mirror.postgres import codecs
from mirror.postgres.codecs import (
    MAX_KEY_BYTES,
    OVERSIZED,
    OVERSIZED_JSON,
    Misfit,
    Reject,
    check_key,
    decode,
    encode,
    json_array,
    json_object,
    json_text,
    key_encoder,
    size_of,
)

INF = math.inf


@pytest.mark.parametrize(
    ("pg_type", "value", "encoded"),
    [
        ("bigint", 0, "0"),
        ("bigint", -(2**63), "-9223372036854775808"),
        ("bigint", 2**63 - 1, "9223372036854775807"),
        ("double precision", 1.0, "1.0"),
        ("double precision", -0.0, "-0.0"),
        ("double precision", 5e-324, "5e-324"),
        ("double precision", INF, "inf"),
        ("text", "", ""),
        ("text", "é\U0001f600\n\t\\", "é\U0001f600\n\t\\"),
        ("bytea", b"", "\\x"),
        ("bytea", b"\x00\xff", "\\x00ff"),
        ("boolean", 0, "f"),
        ("boolean", 1, "t"),
        ("numeric", 12, "12"),
        ("numeric", 0.1, "0.1"),
        ("numeric", 1e17, "100000000000000000.0"),
        ("numeric", 1e300, "1e+300"),
        ("numeric", -INF, "-Infinity"),
        ("jsonb", 1, "1"),
        ("jsonb", 1.0, "1.0"),
        ("jsonb", 1e16, "10000000000000000.0"),
        ("jsonb", 9.5e18, "9500000000000000000.0"),
        ("jsonb", 1e19, "1e+19"),
        ("jsonb", -0.0, '{"real":"-0.0"}'),
        ("jsonb", INF, '{"real":"Infinity"}'),
        ("jsonb", -INF, '{"real":"-Infinity"}'),
        ("jsonb", "é", '"\\u00e9"'),
        ("jsonb", b"\x00", '{"blob":"AA=="}'),
    ],
)
def test_encode(pg_type: str, value: Value, encoded: str) -> None:
    """Each type has one text form for a value."""
    assert encode(pg_type, value) == encoded


@pytest.mark.parametrize("pg_type", ["bigint", "double precision", "text", "bytea", "boolean", "numeric", "jsonb"])
def test_null_stays_null(pg_type: str) -> None:
    """NULL is NULL in every type, in jsonb too."""
    assert encode(pg_type, None) is None
    assert decode(pg_type, None) is None


@pytest.mark.parametrize(
    ("pg_type", "value"),
    [
        ("bigint", 1.0), ("bigint", "1"), ("bigint", b"1"), ("bigint", BadText(b"\xff")),
        ("double precision", 1), ("double precision", "1"),
        ("text", 1), ("text", b"x"), ("text", 1.5),
        ("bytea", "x"), ("bytea", 1),
        ("boolean", 2), ("boolean", -1), ("boolean", 1.0), ("boolean", "t"),
        ("numeric", "1"), ("numeric", b"1"), ("numeric", -0.0),
    ],
)  # fmt: skip
def test_misfit(pg_type: str, value: Value) -> None:
    """A value of another kind asks for jsonb."""
    with pytest.raises(Misfit):
        encode(pg_type, value)


@pytest.mark.parametrize(
    ("pg_type", "value"),
    [("text", "a\0b"), ("text", "\0"), ("text", BadText(b"\xff")), ("jsonb", BadText(b"\xff"))],
)
def test_reject(pg_type: str, value: Value) -> None:
    """Text that Postgres has no form for is rejected; where it is not valid, also in a key that is jsonb."""
    with pytest.raises(Reject):
        key_encoder(pg_type)(value)


@pytest.mark.parametrize("value", ["a\0b", "\0", BadText(b"\xff"), BadText(b"a\0b")])
def test_any_text_in_jsonb(value: Value) -> None:
    """In a jsonb column that is not of the key, such text is kept in base64."""
    encoded = encode("jsonb", value)
    assert encoded is not None and decode("jsonb", json.loads(encoded)) == value


@pytest.mark.parametrize(
    ("types", "values", "fits"),
    [
        (["text"], ["a" * MAX_KEY_BYTES], True),
        (["text"], ["a" * (MAX_KEY_BYTES + 1)], False),
        (["text"], ["é" * (MAX_KEY_BYTES // 2 + 1)], False),
        (["bytea"], ["\\x" + "00" * MAX_KEY_BYTES], True),
        (["bytea"], ["\\x" + "00" * (MAX_KEY_BYTES + 1)], False),
        (["text", "text"], ["a" * 1400, "a" * 1400], False),
        (["bigint", "text"], ["1", "a" * 2500], True),
    ],
)
def test_key_length(types: list[str], values: list[str], fits: bool) -> None:
    """Keys that no index entry can hold are rejected."""
    if fits:
        check_key(types, values)
    else:
        with pytest.raises(Reject, match="key too long"):
            check_key(types, values)


@pytest.mark.parametrize(
    ("pg_type", "held", "value"),
    [
        ("boolean", True, 1),
        ("numeric", Decimal(1), 1),
        ("numeric", Decimal("1.0"), 1.0),
        ("numeric", Decimal(9223372036854775808), 2.0**63),
        ("numeric", Decimal("Infinity"), INF),
        ("jsonb", 2**63, 2.0**63),
        ("bytea", memoryview(b"ab"), b"ab"),
    ],
)
def test_decode(pg_type: str, held: object, value: Value) -> None:
    """What psycopg reads becomes the SQLite value it stands for, of the same kind."""
    decoded = decode(pg_type, held)
    assert (type(decoded), decoded) == (type(value), value)


@pytest.mark.parametrize("document", [True, [], {}, {"blob": "AA==", "x": 1}, {"blob": "?"}, {"real": "1"}])
def test_decode_foreign_json(document: object) -> None:
    """JSON that no SQLite value encodes to is an error, not a guess."""
    with pytest.raises(ValueError, match=r"base64|stands for no"):
        decode("jsonb", document)


values = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.binary(),
)


@given(values)
def test_json_round_trip(value: float | str | bytes) -> None:
    """The lossless encoding gives back the value, bit for bit, and its kind."""
    back = decode("jsonb", json.loads(json_text(value)))
    assert type(back) is type(value)
    if isinstance(value, float) and isinstance(back, float):
        assert struct.pack("d", back) == struct.pack("d", value)
    else:
        assert back == value


@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)))
def test_numeric_round_trip(value: float) -> None:
    """numeric keeps integers and reals apart, wherever it takes them."""
    if value == 0 and math.copysign(1, value) < 0:
        return
    text = encode("numeric", value)
    assert text is not None
    plain = format(Decimal(text), "f") if not math.isinf(value) else text  # what the server gives back
    back = decode("numeric", Decimal(plain))
    assert (type(back), back) == (type(value), value)


def test_json_of_rows() -> None:
    """Keys and rows of rejects: compact, ASCII, also for what jsonb refuses."""
    assert json_array([None, 1, 1.0, "a\0", BadText(b"\xff")]) == '[null,1,1.0,"a\\u0000",{"text":"/w=="}]'
    assert json_object(["é", "b"], [1, b""]) == '{"\\u00e9":1,"b":{"blob":""}}'


def test_of_what_is_too_large_to_be_kept_there_is_the_size() -> None:
    """Values are kept in their order as long as there is room; small ones after a large one, too."""
    values: list[Value] = [1, "é" * 20, b"x" * 30, BadText(b"y" * 5), None]
    assert json_object("abcde", values, 100).startswith('{"a":1,"b":"\\u00e9')
    assert json_object("abcde", values, 60) == (
        '{"a":1,"b":"' + "\\u00e9" * 20 + '","c":{"left_out":30},"d":{"text":"eXl5eXk="},"e":{"left_out":8}}'
    )


@pytest.mark.parametrize("text", ["", "a" * 9, "é\U0001f600\0", "a" * 3_000_000 + "é" * 3])
def test_the_size_of_a_text_is_that_in_utf8(text: str) -> None:
    assert size_of(text) == size_of(text.encode()) == len(text.encode())


@pytest.mark.parametrize(
    ("value", "pg_type", "reason"),
    [
        ("é" * 60, "text", OVERSIZED),
        (b"x" * 101, "bytea", OVERSIZED),
        ("é" * 31, "jsonb", OVERSIZED_JSON),
        (b"x" * 46, "jsonb", OVERSIZED_JSON),
        ("\0" + "x" * 45, "jsonb", OVERSIZED_JSON),
        (BadText(b"x" * 46), "jsonb", OVERSIZED_JSON),
    ],
)
def test_what_postgres_cannot_hold_is_named(
    monkeypatch: pytest.MonkeyPatch, value: Value, pg_type: str, reason: str
) -> None:
    """With limits of 100 bytes, and in jsonb 60, or 45 in base64."""
    monkeypatch.setattr(codecs, "MAX_ROW_BYTES", 100)
    monkeypatch.setattr(codecs, "MAX_JSON_BYTES", 60)
    monkeypatch.setattr(codecs, "_MAX_BASE64_BYTES", 45)
    with pytest.raises(Reject, match=re.escape(reason)):
        encode(pg_type, value)
    assert isinstance(value, str | bytes | BadText)
    encode(pg_type, value.raw[1:].decode() if isinstance(value, BadText) else value[len(value) // 2 :])
