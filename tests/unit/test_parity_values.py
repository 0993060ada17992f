"""Parity's canonical values: what equals what, to the bit, and how keys are written."""

from __future__ import annotations

import itertools
import json
import math
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirror.core.values import BadText
from mirror.parity.typed import _from_vector
from mirror.parity.values import (
    Foreign,
    differing,
    from_jsonb,
    from_numeric,
    image,
    key_text,
    literal,
    same,
)

SUBNORMAL = 5e-324
NEXT_TO_ONE = math.nextafter(1.0, 2.0)

#: Values that Python's ``==`` or a sloppy codec confuses; all are different from each other.
DISTINCT = [
    None,
    0,
    1,
    2**63 - 1,
    -(2**63),
    0.0,
    -0.0,
    1.0,
    NEXT_TO_ONE,
    float(2**63),
    SUBNORMAL,
    math.inf,
    -math.inf,
    "",
    "1",
    "é",
    "e\u0301",
    b"",
    b"1",
    "é".encode(),
    BadText(b"\xff"),
    BadText(b"1"),
    Foreign("1"),
]

values = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8")),
    st.binary(),
)


def identical(left: list[Any], right: list[Any]) -> bool:
    """What the fast comparison says."""
    mine = image(left)
    return mine is not None and mine == image(right)


@pytest.mark.parametrize(("left", "right"), list(itertools.combinations(DISTINCT, 2)))
def test_distinct_values_are_told_apart(left: object, right: object) -> None:
    """Neither the fast comparison nor the careful one calls two different values equal."""
    assert not same(left, right)  # type: ignore[arg-type]
    assert not identical([(left,)], [(right,)])  # type: ignore[list-item]


@given(st.lists(st.tuples(values, values)))
def test_equal_rows_are_identical(rows: list[tuple[object, ...]]) -> None:
    """Rows rebuilt from their parts, so that no object is shared, are identical."""
    copies = [tuple(_rebuilt(value) for value in row) for row in rows]
    assert identical(rows, copies)  # type: ignore[arg-type]
    assert not any(differing(a, b) for a, b in zip(rows, copies, strict=True))  # type: ignore[arg-type]


def _rebuilt(value: object) -> object:
    match value:
        case float():
            return struct.unpack("<d", struct.pack("<d", value))[0]
        case str():
            return value.encode().decode()
        case bytes():
            return bytes(bytearray(value))
        case int():
            return int(str(value))
        case _:
            return value


def test_order_and_length_matter() -> None:
    """Swapped rows and a missing row are not identical."""
    assert not identical([(1,), (2,)], [(2,), (1,)])
    assert not identical([(1,), (2,)], [(1,)])
    assert not identical([(1, 2)], [(1,), (2,)])


def test_what_has_no_image_is_never_identical() -> None:
    """Rows with a text that is not valid go the careful way."""
    assert image([(BadText(b"\xff"),)]) is None
    assert not identical([(BadText(b"\xff"),)], [(BadText(b"\xff"),)])
    assert differing((1, BadText(b"\xff")), (1, BadText(b"\xff"))) == []


@given(values)
@example(-0.0)
@example(math.inf)
@example(1e19)
@example(float(2**63))
@example(1e300)
def test_literal_comes_back_from_jsonb(value: object) -> None:
    """The key encoding and the jsonb decoding are inverse, bit by bit."""
    assert same(from_jsonb(literal(value)) if value is not None else None, value)  # type: ignore[arg-type]
    json.loads(literal(value))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.0", 1.0),
        ("100000000000000000000", 1e20),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", 2.0**63),
        ("0.0000001", 1e-7),
        ('"a"', "a"),
        ('{"blob": "AP8="}', b"\x00\xff"),
        ('{"real": "-0.0"}', -0.0),
        ('{"text": "/w=="}', BadText(b"\xff")),
    ],
)
def test_jsonb(text: str, value: object) -> None:
    """What Postgres prints for a jsonb value stands for this value."""
    assert same(from_jsonb(text), value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "true",
        "[]",
        "{}",
        '{"blob": 1}',
        '{"blob": "AP8"}',
        '{"blob": "A?=="}',
        '{"blob": "", "real": "Infinity"}',
        '{"real": "NaN"}',
        '{"real": "1.5"}',
        '{"other": "AA=="}',
        "9223372036854775809",
        "1.10000000000000000000000001",
        "1" + "0" * 400,
    ],
)
def test_jsonb_that_no_sqlite_value_equals(text: str) -> None:
    """Anything outside the encoding is foreign, not rounded or guessed."""
    assert from_jsonb(text) == Foreign(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3.00", 3),
        ("1.50", 1.5),
        ("1e300", 1e300),
        ("Infinity", math.inf),
        ("-Infinity", -math.inf),
    ],
)
def test_numeric(text: str, value: object) -> None:
    """A whole numeric is an integer, another one a double."""
    assert same(from_numeric(text), value)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["NaN", "0.1000000000000000055511151231257827021181583404541015626", "1e400"])
def test_numeric_that_is_no_double(text: str) -> None:
    """A numeric that a double cannot be is foreign."""
    assert from_numeric(text) == Foreign(text)


def test_null() -> None:
    """NULL is NULL in every type."""
    assert from_numeric(None) is None
    assert from_jsonb(None) is None


def test_key_text() -> None:
    """Keys are written as the rejects write them."""
    key = (None, 1, 1.0, 1e16, 1e20, -0.0, 'a"\0é', b"\0", BadText(b"\xff"))
    assert key_text(key) == (
        '[null,1,1.0,10000000000000000.0,1e+20,{"real":"-0.0"},"a\\"\\u0000\\u00e9",{"blob":"AA=="},{"text":"/w=="}]'
    )


def test_a_vector_beyond_what_its_type_holds_is_no_value_of_sqlites() -> None:
    assert isinstance(_from_vector("[1e39]"), Foreign)
    assert _from_vector("[-0,1.5]") == struct.pack("<2f", -0.0, 1.5)
