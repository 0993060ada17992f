"""The type of a column whose values do not fit its declared type: SQL and Python choose alike, and nothing is lost."""

from __future__ import annotations

import itertools
import math
import random

import apsw
import pytest

from mirror.core.tables import ANY_VALUE, ColumnType
from mirror.core.values import BadText, Value
from mirror.parity import kinds as read
from mirror.parity.originals import moment_shown
from mirror.parity.values import same
from mirror.postgres import kinds, times
from mirror.postgres.codecs import Misfit, Reject
from mirror.postgres.originals import ENCODERS as KEEPING
from mirror.postgres.typed import encoder

DECLARED = ["jsonb", "bigint", "double precision", "text", "bytea", "boolean", "numeric"]
VALUES: list[Value] = [
    None, 0, 1, -1, 7, 2**53, 2**53 + 1, -(2**53), -(2**53) - 1, 2**63 - 1, -(2**63),
    0.0, -0.0, 1.0, 0.5, -1e300, 2.0**53, 2.0**53 + 2, -(2.0**53), 9.3e18, math.inf, -math.inf, 5e-324,
    "", "t", "f", "T", "F", "true", "false", "True", "False", "TRUE", "FALSE", "t\0", "1", "x", b"", b"t", b"\0",
]  # fmt: skip


def by_sqlite(db: apsw.Connection, offered: tuple[kinds.Choice, ...], values: list[Value]) -> ColumnType:
    db.execute("DELETE FROM t")
    db.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])
    tests = ", ".join(f"total({kinds.misfit_test(choice).format('v')})" for choice in offered)
    misfits = next(iter(db.execute(f"SELECT {tests} FROM t")))
    return kinds.chosen(choice for choice, count in zip(offered, misfits, strict=True) if not count)


def by_values(offered: tuple[kinds.Choice, ...], values: list[Value]) -> ColumnType:
    seen = kinds.Kinds(offered)
    for value in values:
        seen.see(value)
    return seen.becomes


@pytest.mark.parametrize("of_key", [False, True])
@pytest.mark.parametrize("declared", DECLARED)
def test_both_choose_alike(declared: str, of_key: bool) -> None:
    """For any two or three values, and with the encoder: what a type is chosen for, it holds."""
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE t(v COLLATE NOCASE)")
    offered = kinds.choices(ColumnType(declared), of_key=of_key, shared=False)
    chance = random.Random(7)
    cases = [*map(list, itertools.combinations(VALUES, 2)), *(chance.sample(VALUES, 3) for _ in range(300))]
    for values in cases:
        becomes = by_sqlite(db, offered, values)
        assert becomes == by_values(offered, values), values
        if becomes == ANY_VALUE:
            continue
        encode = encoder(*becomes)
        for value in values:
            try:
                encode(value)
            except Misfit:
                pytest.fail(f"{becomes} does not hold {value!r}")
            except Reject:
                assert value == "t\0"


@pytest.mark.parametrize(
    ("declared", "values", "becomes"),
    [
        ("text", [1, 2**63 - 1, None], ("bigint", "found")),
        ("text", [1, 0.5], ("double precision", "number")),
        ("text", [2**53 + 1, 0.5], ANY_VALUE),
        ("text", [0.5, 1.0], ("double precision", "found")),
        ("text", [1, 1.0], ANY_VALUE),
        ("text", [b"a"], ("bytea", "found")),
        ("bigint", ["a", BadText(b"\xff")], ("text", "found")),
        ("boolean", ["t", "f", None], ("boolean", "t/f")),
        ("boolean", ["TRUE"], ("boolean", "TRUE/FALSE")),
        ("boolean", ["t", "false"], ("text", "found")),
        ("boolean", ["t", 0], ANY_VALUE),
        ("boolean", [0, 1, 2], ("bigint", "found")),
        ("bigint", ["t"], ("text", "found")),
        ("jsonb", [1], ("bigint", "found")),
        ("jsonb", ["a", 1], ANY_VALUE),
    ],
)
def test_the_types(declared: str, values: list[Value], becomes: ColumnType) -> None:
    assert by_values(kinds.choices(ColumnType(declared), of_key=False, shared=False), values) == becomes
    assert by_values(kinds.choices(ColumnType(declared), of_key=False, shared=True), values) == ANY_VALUE


@pytest.mark.parametrize("value", [v for v in VALUES if isinstance(v, int | float)])
def test_a_number_comes_back(value: float) -> None:
    """What is held as a double is the same integer or real again; what is not, is told by both sides."""
    try:
        encoded = encoder("double precision", "number")(value)
    except Misfit:
        assert read.number_image(value) is None
        return
    assert encoded is not None
    assert same(read.number(float(encoded)), value) and read.number_image(value) is not None


def times_of_all_kinds() -> list[Value]:
    chance = random.Random(11)
    days = [
        "0001-01-01",
        "1969-12-31",
        "1970-01-01",
        "2024-02-29",
        "2023-02-29",
        "9999-12-31",
        "2024-13-01",
        "0000-01-01",
    ]
    clocks = [
        "",
        " 00:00",
        "T23:59:59",
        " 24:00:00",
        "T12:60",
        " 01:02:03.5",
        "T01:02:03.123456789",
        " 05:06.25",
    ]
    zones = ["", "Z", "+00:00", "-0530", "+23:59", "+24:00", "+05:75", "-12:00"]
    texts: list[Value] = [f"{day}{clock}{zone}" for day in days for clock in clocks for zone in zones]
    numbers: list[Value] = [0, -1, 10**11, 10**11 - 1, -(10**11), 253402300799, 253402300799999, 2**63 - 1, -(2**63)]
    numbers += [chance.randrange(-(10**15), 10**15) for _ in range(200)]
    numbers += [chance.uniform(-3e9, 3e9) for _ in range(200)] + [1.7e12 + 0.25, 0.1, -0.1, 1e300, math.inf, -math.inf]
    return [*texts, *numbers, None, "now", "", "2024-01-01\0", b"2024-01-01", BadText(b"\xff")]


def test_both_read_times_alike() -> None:
    """The time that a rule shows, and the one that parity calls for: two implementations."""
    encode = KEEPING["moment"]
    for value in times_of_all_kinds():
        encoded = encode(value)
        shown = None if encoded is None else times.canonical(encoded)
        assert shown == moment_shown(value), value
