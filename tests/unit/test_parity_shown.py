"""Values of a report: as JSON, each exactly and none as another; and in words."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.values import BadText
from mirror.parity.shown import SHOWN, key_of_cells, key_of_text, said, value_of, values_apart
from mirror.parity.values import Cell, Foreign, key_text, same

cells = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
    st.binary().map(BadText),
    st.text("[]{}1a").map(Foreign),
)


@pytest.mark.parametrize(
    ("cell", "value", "words"),
    [
        (None, None, "null"),
        (3, 3, "3"),
        (2**53 - 1, 2**53 - 1, "9007199254740991"),
        (2**53, {"integer": "9007199254740992"}, "9007199254740992"),
        (-(2**63), {"integer": "-9223372036854775808"}, "-9223372036854775808"),
        (0.1, 0.1, "0.1"),
        (1.0, {"real": "1.0"}, "1.0"),
        (-0.0, {"real": "-0.0"}, "-0.0"),
        (1e300, {"real": "1e+300"}, "1e+300"),
        (math.inf, {"real": "Infinity"}, "Infinity"),
        (math.nan, {"real": "NaN"}, "NaN"),
        ("é\n", "é\n", '"é\\n"'),
        ("a\0b", {"utf8": "YQBi"}, '"a\\u0000b"'),
        (b"\0\xff", {"blob": "AP8="}, "x'00ff'"),
        (BadText(b"\xff"), {"text": "/w=="}, "x'ff' as text"),
        (Foreign("[1, 2]"), {"postgres": "[1, 2]"}, "[1, 2] (no value of SQLite)"),
        ("x" * 5000, {"part": "x" * SHOWN, "from": 0, "length": 5000}, f'"{"x" * SHOWN}"… (5,000 characters)'),
        (b"\0" * 5000, {"blob": "AAAA" * 40, "from": 0, "length": 5000}, f"x'{'00' * SHOWN}'… (5,000 bytes)"),
    ],
)
def test_forms(cell: Cell, value: Any, words: str) -> None:
    assert value_of(cell) == value and type(value_of(cell)) is type(value)
    assert said(value) == words


@given(cells, cells)
def test_no_value_is_shown_as_another(one: Cell, other: Cell) -> None:
    """Unless both are cut; and what is shown can be in jsonb, and be read as doubles."""
    mine, theirs = (json.dumps(value_of(each)) for each in (one, other))
    assert "\\u0000" not in mine and "NaN" not in mine.replace('"NaN"', "")
    if mine == theirs and '"from"' not in mine:
        assert same(one, other) or (isinstance(one, float) and math.isnan(one))
    read = json.loads(mine, parse_int=float)
    assert read == json.loads(mine)


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.text(), st.binary()), min_size=1))
def test_a_key_is_shown_as_by_its_text(key: list[Any]) -> None:
    """As the rejects have it."""
    assert key_of_text(key_text(tuple(key))) == key_of_cells(key)


def test_keys() -> None:
    assert said(key_of_cells((None, 1, "a", 1.0))) == '[null, 1, "a", 1.0]'
    assert key_of_text('{"rowid":5}') == {"rowid": 5} and said({"rowid": 5}) == "rowid 5"
    assert key_of_text('[{"real":"-0.0"},{"text":"/w=="},1e+20]') == [
        {"real": "-0.0"},
        {"text": "/w=="},
        {"real": "1e+20"},
    ]


def test_of_long_values_the_part_that_differs() -> None:
    """On both sides from the same place; of short ones all."""
    mine, theirs = values_apart("a" * 3000 + "b" + "c" * 10, "a" * 3000 + "d")
    assert (mine["from"], mine["length"], theirs["length"]) == (3000 - SHOWN // 4, 3011, 3001)
    assert mine["part"][SHOWN // 4] == "b" and theirs["part"][SHOWN // 4] == "d"
    assert said(theirs).startswith('…"aaa') and said(theirs).endswith('d" (3,001 characters)')
    assert values_apart("a" * 3000, "a" * 3000 + "d")[1]["part"].endswith("ad")
    assert values_apart("a", "b") == ("a", "b") and values_apart(1, "1") == (1, "1")
    assert values_apart(b"\0" * 500, b"\0" * 499 + b"\1")[0]["from"] == 499 - SHOWN // 4
    # One that ends where the other goes on, and a value of another kind.
    assert values_apart("", "x" * 500)[0] == "" and values_apart(None, "x" * 500)[1]["from"] == 0
