"""What parity says that values of SQLite are in an application's own columns, by a table for each kind.

Written from the vocabulary of ``mirror/core/adopted.py`` alone, as the decoder is.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from mirror.core.adopted import Form
from mirror.core.values import BadText
from mirror.parity.adopted import Losses, canonical_key, decoded, out_of_order, unknown_forms
from mirror.parity.adopted_selected import converter, expression, shown
from mirror.parity.adopted_terms import Unfit
from mirror.parity.plan import MappedColumn, Mapping, Shape, SourceKey, computed, make_plan, obstacle, unreadable
from mirror.parity.shown import said
from mirror.parity.values import Cell, Foreign, same


class No:
    """What a form does not take."""


NO = No()


class Lost:
    """A canonical value with a loss."""

    def __init__(self, value: Cell, how: str) -> None:
        self.value = value
        self.how = how


def column(form: Form, name: str = "a") -> MappedColumn:
    return MappedColumn(name, name, "some type", form.codec)


def micros(year: int, month: int, day: int, *clock: int, extra: int = 0) -> int:
    """Microseconds since 1970 of a time in UTC."""
    hour, minute, second = (*clock, 0, 0, 0)[:3]
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * 10**6 + extra


DAY = 86_400 * 10**6
NEW_YEAR = micros(2026, 1, 1)
NOON = micros(2026, 1, 1, 12)
BERLIN = "Europe/Berlin"
UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
HEX = UUID.replace("-", "")
OFFSET, TWICE, SECOND = (
    "without their offset",
    "at a clock that occurs twice",
    "at the second of two moments with that clock",
)
EMPTY, ZERO = "as NULL, where SQLite has an empty text", "as NULL, where SQLite has a zero date"

WRITTEN_OUT = "with an integer, where SQLite has a number with an exponent"
CASES: list[tuple[Form, dict[Any, Any]]] = [
    (
        Form("timestamptz"),
        {
            "2026-01-01": NEW_YEAR,
            "2026-01-01 12:00": NOON,
            "2026-01-01T12:00:00": NOON,
            "2026-01-01 12:00:00.5": NOON + 500_000,
            "2026-01-01T12:00:00.123456Z": NOON + 123_456,
            "2026-01-01T12:00:00.123456500": Lost(NOON + 123_456, "rounded to 6 places"),
            "2026-01-01T12:00:00.123457500": Lost(NOON + 123_458, "rounded to 6 places"),
            "2026-01-01T12:00:00.1234565001": NO,
            "2026-01-01T12:00:00.123456501": Lost(NOON + 123_457, "rounded to 6 places"),
            "2026-01-01 17:30:00+05:30": NOON,
            "2026-01-01 17:30+0530": NOON,
            "2026-01-01 06:30:00-05:30": NOON,
            "0001-01-01": micros(1, 1, 1),
            "9999-12-31T23:59:59.999999": micros(9999, 12, 31, 23, 59, 59, extra=999_999),
            "9999-12-31T23:59:59.9999999": NO,
            "9999-12-31T23:00-05:00": NO,
            "0001-01-01T00:00+05:00": NO,
            "0000-01-01": NO,
            "0000-00-00": NO,
            "": NO,
            "now": NO,
            "today": NO,
            "infinity": NO,
            "01/02/2026": NO,
            "20260101": NO,
            "2026-02-29": NO,
            "2026-01-01 24:00": NO,
            "2026-01-01 12:60": NO,
            "2026-01-01 12:00:60": NO,
            "2026-01-01 12": NO,
            "2026-01-01 12:00:00+05": NO,
            "2026-01-01 12:00:00+24:00": NO,
            "2026-01-01 12:00:00z": NO,
            "2026-01-01 12:00:00 Z": NO,
            "2026-01-01Z": NO,
            " 2026-01-01": NO,
            "2026-01-01\n": NO,
            "٢٠٢٦-01-01": NO,
            5: NO,
            1.5: NO,
            b"2026-01-01": NO,
            BadText(b"\xff"): NO,
            None: None,
        },
    ),
    (
        Form("timestamptz", zone=BERLIN, digits=3, empty_is_null=True),
        {
            "2026-01-01 13:00": NOON,
            "2026-07-01 14:00": micros(2026, 7, 1, 12),
            "2026-10-25 02:30": Lost(micros(2026, 10, 25, 0, 30), TWICE),
            "2026-10-25 02:30:00.0005": Lost(micros(2026, 10, 25, 0, 30), f"{TWICE} and rounded to 3 places"),
            "2026-10-25 02:30+01:00": micros(2026, 10, 25, 1, 30),
            "2026-03-29 02:30": NO,
            "2026-01-01 12:00:00Z": NOON,
            "": Lost(None, EMPTY),
            "0000-00-00 00:00:00": Lost(None, ZERO),
            "0000-00-00T00:00Z": Lost(None, ZERO),
            "0000-00-00 24:00": NO,
            "0000-00-00x": NO,
        },
    ),
    (
        Form("timestamptz", unit="ms", digits=3),
        {-3000: -3_000_000, 1_767_268_800_000: NOON, 0.5: Lost(0, "rounded to 3 places"), 2**62: NO, math.inf: NO},
    ),
    (Form("timestamptz", unit="us", digits=3), {at: Lost(2000, "rounded to 3 places") for at in (1500, 2500)}),
    (
        Form("timestamptz", unit="s"),
        {
            0: 0,
            -1: -1_000_000,
            1767225600.1: NEW_YEAR + 100_000,
            0.0000005: Lost(0, "rounded to 6 places"),
            0.0000025: Lost(3, "rounded to 6 places"),  # the double is a little more
            1e300: NO,
            "5": NO,
        },
    ),
    (
        Form("timestamp", zone=BERLIN, unit="s"),
        {
            "2026-01-01 12:00": NOON,
            "2026-01-01 11:00Z": Lost(NOON, OFFSET),
            "2026-01-01 12:00+01:00": NOON,
            "2026-10-25 02:59:59.9999999+02:00": Lost(
                micros(2026, 10, 25, 2), f"{OFFSET} and {SECOND} and rounded to 6 places"
            ),
            "2026-10-25 01:30Z": Lost(micros(2026, 10, 25, 2, 30), f"{OFFSET} and {SECOND}"),
            "2026-03-29 02:30": micros(2026, 3, 29, 2, 30),
            NOON // 10**6 - 3600: NOON,
            "now": NO,
            "9999-12-31T23:30Z": NO,
        },
    ),
    (
        Form("date", zone=BERLIN, unit="s"),
        {
            "2026-01-01": 20_454,
            "2026-01-01 00:00:00.000": 20_454,
            "2025-12-31T23:00:00Z": Lost(20_454, OFFSET),
            "2026-01-01T00:00+01:00": 20_454,
            "2026-01-01T00:00:00.000000001": NO,
            "2026-01-01T00:00Z": NO,
            NEW_YEAR // 10**6 - 3600: 20_454,
            float(NEW_YEAR // 10**6 - 3600): 20_454,
            NEW_YEAR // 10**6: NO,
            -3600.5: NO,
            "1969-12-31": -1,
        },
    ),
    (
        Form("time"),
        {
            "00:00": 0,
            "12:34:56": 45_296 * 10**6,
            "23:59:59.999999": DAY - 1,
            "23:59:59.9999999": NO,
            "00:00:00.1234567": Lost(123_457, "rounded to 6 places"),
            "24:00": NO,
            "1:00": NO,
            "12:00+02": NO,
            "12:00Z": NO,
            "": NO,
            0: NO,
        },
    ),
    (Form("interval"), {5: NO, "P1D": NO}),
    (
        Form("interval", unit="us"),
        {5: 5, -(2**63): -(2**63), 6.0: 6, 2.5: Lost(2, "rounded to 6 places"), "5": NO, 1e20: NO, math.inf: NO},
    ),
    (
        Form("interval", unit="datetime"),
        {
            "1970-01-02 00:00:01.000000": DAY + 10**6,
            "1969-12-31 23:00:00": -3600 * 10**6,
            "1970-01-01": 0,
            "1970-01-01 00:00Z": NO,
        },
    ),
    (
        Form("interval", unit="clock"),
        {
            "1 day, 2:03:04.5": DAY + 7_384_500_000,
            "2 days, 0:00:00": 2 * DAY,
            "-1 day, 23:59:59": -1_000_000,
            "-0:00:01": -1_000_000,
            "23:00:00": 82_800 * 10**6,
            "24:00:00": NO,
            "999999999 days, 23:59:59.999999": 10**9 * DAY - 1,
            "999999999 days, 23:59:59.9999996": NO,
            "-999999999 days, 0:00:00": -999_999_999 * DAY,
            "0:60:00": NO,
            "1 day": NO,
        },
    ),
    (
        Form("interval", unit="iso", digits=0),
        {
            "P1DT2H": DAY + 7200 * 10**6,
            "PT0.5S": Lost(0, "rounded to 0 places"),
            "-PT1M": -60_000_000,
            "P1M": NO,
            "P1Y": NO,
            "P1W": NO,
            "P": NO,
            "PT": NO,
            "P1DT": NO,
        },
    ),
    (
        Form("uuid"),
        {UUID: UUID, UUID.upper(): UUID, HEX: UUID, f"urn:uuid:{UUID}": UUID, bytes.fromhex(HEX): UUID}
        | {HEX[1:]: NO, f"{{{UUID}}}": NO, 5: NO, b"short": NO, HEX[:8] + "-" + HEX[8:]: NO},
    ),
    (Form("uuid", only="hex"), {HEX: UUID, HEX.upper(): NO, UUID: NO, bytes.fromhex(HEX): NO}),
    (Form("uuid", only="dashed"), {UUID: UUID, HEX: NO, f"urn:uuid:{UUID}": NO}),
    (Form("uuid", only="blob"), {bytes.fromhex(HEX): UUID, UUID: NO}),
    (
        Form("boolean"),
        {0: 0, 1: 1, 2: NO, "t": 1, "f": 0, "true": 1, "false": 0, "T": NO, "1": NO, "yes": NO, 0.5: NO, "": NO},
    ),
    (Form("boolean"), {1.0: 1, -0.0: 0}),
    (
        Form("jsonb"),
        {
            '{"b": 1.0, "a": [1e2, -0, -0.0]}': Lost('{"a":[100,0,0.0],"b":1.0}', WRITTEN_OUT),
            '{"a": 1, "a": 2}': Lost('{"a":2}', "with the last of members of one name"),
            "[" + "1" * 5000 + "]": "[" + "1" * 5000 + "]",
            "[" * 500 + '"[[["' + "]" * 500: "[" * 500 + '"[[["' + "]" * 500,
            "[" * 501 + "]" * 501: NO,
            r'{"a": "\ud800", "a": 1}': NO,
            r'{"a": "\u0000", "a": 1}': NO,
            r'{"a": "\ud800", "a": ' + "1" * 5000 + "}": NO,
            b'"x"': '"x"',
            "null": "null",
            5: "5",
            0.5: "0.5",
            1e22: Lost("10000000000000000000000", WRITTEN_OUT),
            r'"\\u0000"': r'"\\u0000"',
            r'"\u00e9\ud83d\ude00"': '"é😀"',
            r'"\u0000"': NO,
            r'{"\u0000": 1}': NO,
            r'"\ud800"': NO,
            '"\0"': NO,
            "NaN": NO,
            "[Infinity]": NO,
            "1e200000": NO,
            "1e99999999999999999999": NO,
            "{'a': 1}": NO,
            "": NO,
            "text": NO,
            "\ufeff1": NO,
            b"\xff": NO,
            math.inf: NO,
            "[" * 100_000: NO,
        },
    ),
    (Form("json"), {'{"b": 1,  "a": 2}': '{"b": 1,  "a": 2}', b"[1]": "[1]", 5: "5", 1.5: "1.5", "x": NO, "NaN": NO}),
    (Form("json"), {"[1e400]": "[1e400]", "1" * 5000: "1" * 5000, r'"\ud800"': NO, "[" * 501 + "]" * 501: NO}),
    (
        Form("numeric", precision=5, scale=2),
        {
            1: "1",
            -0.0: "0",
            12.345: Lost("12.34", "rounded to 2 places"),
            12.355: Lost("12.36", "rounded to 2 places"),
            0.335: Lost("0.34", "rounded to 2 places"),
            "-12.50": "-12.5",
            "1e2": "100",
            "999.994": Lost("999.99", "rounded to 2 places"),
            "999.995": NO,
            1000: NO,
            "1e400": NO,
            "": NO,
            "1_0": NO,
            " 1": NO,
            "0x10": NO,
            "NaN": NO,
            math.inf: NO,
            b"1": NO,
        },
    ),
    (Form("numeric"), {0.1: "0.1", 1e300: "1" + "0" * 300, "0.10": "0.1"}),
    (Form("numeric"), {"1e-16384": NO, "1e131072": NO, "1e99999999999999999999": NO, "0.1e131072": NO, "0e131072": NO}),
    (Form("numeric"), {"+1": NO, "1.": NO, ".5": NO, "1e131071": "1" + "0" * 131_071, "10e-16384": NO}),
    (Form("numeric", precision=3, scale=-2), {12_345: Lost("12300", "rounded to -2 places"), 99_950: NO}),
    (Form("numeric", precision=3, scale=0), {999: "999", 0.5: Lost("0", "rounded to 0 places")}),
    (Form("numeric", real_digits=15), {0.1 + 0.2: "0.3", 1.005: "1.005", 3: "3"}),
    (
        Form("int2"),
        {32767: 32767, 32768: NO, -32768: -32768, 5.0: 5, 5.5: NO, "12": 12, "0x1F": NO, "1_000": NO, "5.0": NO}
        | {"1e2": NO, " 5": NO, b"5": NO, math.nan: NO, math.inf: NO},
    ),
    (Form("int4"), {2**31 - 1: 2**31 - 1, 2**31: NO}),
    (Form("int8"), {-(2**63): -(2**63), 2.0**63: NO, "9223372036854775808": NO}),
    (Form("float8"), {0.1: 0.1, -0.0: -0.0, math.inf: math.inf, 2**53 + 1: NO, 2**60: 2.0**60, "1.5": NO}),
    (
        Form("float4"),
        {0.5: 0.5, 0.1: Lost(0.10000000149011612, "rounded to a float4"), 1e300: NO, math.inf: math.inf}
        | {1e-60: Lost(0.0, "rounded to a float4")}
        | {2**24 + 1: Lost(2.0**24, "rounded to a float4")},
    ),
    (Form("text"), {"a": "a", "": "", "a\0": NO, 5: NO, b"a": NO, BadText(b"\xff"): NO}),
    (Form("text", empty_is_null=True), {"": Lost(None, EMPTY), " ": " "}),
    (Form("varchar", length=3), {"äöü": "äöü", "😀😀😀": "😀😀😀", "abcd": NO, "abc ": NO}),
    (Form("char", length=3), {"a": "a", "a ": Lost("a", "without the blanks at their end"), "abcd": NO}),
    (Form("citext"), {"Ab": "Ab", 1: NO}),
    (Form("bytea"), {b"\0\xff": b"\0\xff", "ä\0": "ä\0".encode(), r"\x00": rb"\x00", 5: NO}),
    (Form("enum", labels=("red", "blue")), {"red": "red", "Red": NO, "": NO, 1: NO}),
    (
        Form("inet"),
        {"10.0.0.1": "10.0.0.1", "10.0.0.1/32": "10.0.0.1", "10.0.0.1/8": "10.0.0.1/8", "::1": "::1"}
        | {"0:0:0:0:0:0:0:1/64": "::1/64", "::FFFF:1.2.3.4": "::ffff:102:304"}
        | {"10.1": NO, "10.0.0.1/33": NO, "10.0.0.1/255.0.0.0": NO, "fe80::1%eth0": NO, "": NO, 1: NO},
    ),
    (Form("cidr"), {"10.0.0.0/8": "10.0.0.0/8", "10.0.0.1": "10.0.0.1/32", "10.0.0.1/8": NO, "::/0": "::/0"}),
    (Form("cidr"), {"10.0.0.0/08": NO}),
    (
        Form("array", element=Form("int4")),
        {
            "[1, null, 3.0]": "[1:3]{1, null, 3}",
            "[[1, 2], [3, 4], [5, 6]]": "[1:3][1:2]{1, 2, 3, 4, 5, 6}",
            "[[[1]]]": "[1:1][1:1][1:1]{1}",
            "[]": "{}",
            "[[]]": NO,
            "[[1], [2, 3]]": NO,
            "[[1], 2]": NO,
            "[true]": NO,
            "[2147483648]": NO,
            "{1,2}": NO,
            "null": Lost(None, "as NULL, where SQLite has a JSON null"),
            "nul": NO,
            "1": NO,
            '[{"a": 1}]': NO,
            b"[1]": NO,
        },
    ),
    (Form("array", element=Form("text")), {'["a", "b\\n"]': '[1:2]{"a", "b\\n"}', "[1]": NO, r'["\u0000"]': NO}),
    (Form("array", element=Form("boolean")), {"[true, 0]": "[1:2]{1, 0}", "[[[[[[[1]]]]]]]": NO}),
    (Form("array", element=Form("bytea")), {r'["\ud800"]': NO}),
    (Form("array", element=Form("float8")), {"[1e400]": NO, "[1" + "0" * 400 + "]": NO}),
    (Form("array", element=Form("numeric")), {"[1e20, 0.10]": '[1:2]{"100000000000000000000", "0.1"}'}),
    (
        Form("array", element=Form("numeric", scale=1)),
        {"[0.25, 1]": Lost('[1:2]{"0.2", "1"}', "rounded to 1 place")},
    ),
    (
        Form("array", element=Form("jsonb")),
        {"[1]": NO, "[]": "{}", "[null]": "[1:1]{null}", " null ": Lost(None, "as NULL, where SQLite has a JSON null")},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("form", "values"), CASES, ids=[f"{form.kind} {at}" for at, (form, _) in enumerate(CASES)])
def test_values(form: Form, values: dict[Any, Any]) -> None:
    """Each value by itself, and all of them together, where the careful way is taken."""
    together = decoded([column(form)], [(value,) for value in values]).rows
    for (value, wanted), [among] in zip(values.items(), together, strict=True):
        found = decoded([column(form)], [(value,)])
        [[cell]] = found.rows
        if wanted is NO:
            assert isinstance(cell, Unfit) and isinstance(among, Unfit), (form, value, cell)
            assert not found.losses
            continue
        lost = {(0, wanted.how): 1} if isinstance(wanted, Lost) else {}
        expected = wanted.value if isinstance(wanted, Lost) else wanted
        assert same(cell, expected) and same(among, expected), (form, value, cell)
        assert found.losses == lost, (form, value)


def test_losses_of_rows_that_fit() -> None:
    """A row that does not fit is not there, and loses nothing."""
    columns = [column(Form("numeric", scale=1)), column(Form("int4")), MappedColumn("b", "b", "bigint")]
    found = decoded(columns, [(0.25, 1, 5), (0.75, "x", 6), (0.35, 2, 7), (0.5, None, 8)])
    assert found.losses == Losses({(0, "rounded to 1 place"): 2})
    assert [row[2] for row in found.rows] == [5, 6, 7, 8]
    assert decoded(columns, []).rows == []


def test_what_does_not_fit_equals_nothing() -> None:
    assert not same(Unfit("x"), Foreign("x")) and not same(Unfit("x"), "x")


def test_forms_that_are_not_known() -> None:
    """They are named before a row is read."""
    for codec, why in (
        (Form("timestamptz", zone="Mars/Base").codec, "unknown time zone Mars/Base"),
        (Form("date", zone="../etc").codec, "unknown time zone"),
        ('adopted {"kind":"range"}', "Invalid enum value 'range'"),
        ('adopted {"kind":"int4","later":1}', "unknown field `later`"),
        ("adopted {}", "missing required field `kind`"),
        ("adopted x", "malformed"),
        (Form("array").codec, "without the form of its elements"),
    ):
        found = unknown_forms([MappedColumn("a", "a", "bigint"), MappedColumn("b", "b", "x", codec)])
        assert found.startswith("unknown form of b: ") and why in found, found
    assert unknown_forms([column(form) for form, _ in CASES]) == ""


# --------------------------------------------------------------------------------------- keys and order


def mapping(*columns: MappedColumn, key: tuple[str, ...] | None) -> Mapping:
    return Mapping("t", "app", "t", columns, key)


def index(*names: str, collation: str = "BINARY") -> tuple[SourceKey, ...]:
    return tuple(SourceKey(name, collation, descending=False, own_collation=True) for name in names)


@pytest.mark.parametrize(
    ("form", "collation", "ordered"),
    [
        (Form("int4"), "BINARY", True),
        (Form("text"), "NOCASE", True),
        (Form("varchar", length=40), "BINARY", True),
        (Form("uuid", only="hex"), "BINARY", True),
        (Form("uuid", only="hex"), "OWN", False),
        (Form("uuid"), "BINARY", False),
        (Form("citext"), "BINARY", False),
        (Form("char", length=3), "BINARY", False),
        (Form("timestamptz"), "BINARY", False),
        (Form("enum", labels=("b", "a")), "BINARY", False),
    ],
)
def test_an_order_of_keys(form: Form, collation: str, *, ordered: bool) -> None:
    shape = Shape(("a",), "rowid", index("a", collation=collation), None)
    plan = make_plan(mapping(column(form), key=("a",)), shape, bytewise_text=True)
    assert bool(plan.order) is ordered is not bool(plan.unordered)
    assert plan.adopted


def test_an_integer_key_that_is_something_else_in_postgres() -> None:
    shape = Shape(("a",), "rowid", (), "a")
    assert make_plan(mapping(column(Form("int8")), key=("a",)), shape, bytewise_text=True).order
    plan = make_plan(mapping(column(Form("numeric")), key=("a",)), shape, bytewise_text=True)
    assert plan.unordered == "a has another order in Postgres"


def test_a_unique_index_gives_an_order() -> None:
    """Where SQLite has no primary key, or another one."""
    columns = (column(Form("text"), "a"), column(Form("int4"), "b"))
    for unique, ordered in (((index("a", "b"),), True), ((index("b", "a"),), False), ((), False)):
        shape = Shape(("a", "b"), "rowid", (), None, unique=unique)
        plan = make_plan(mapping(*columns, key=("a", "b")), shape, bytewise_text=True)
        assert bool(plan.order) is ordered
    rowid = make_plan(mapping(*columns, key=None), shape, bytewise_text=True)
    assert [part.name for part in rowid.order] == ["rowid"]


def test_a_text_among_integer_keys() -> None:
    """``"7"`` is taken, and comes after all integers in SQLite alone."""
    shape = Shape(("a", "b"), "rowid", index("a"), None)
    plan = make_plan(
        mapping(column(Form("int4"), "a"), column(Form("text"), "b"), key=("a",)), shape, bytewise_text=True
    )
    for keys, beyond in (((1, 2.0, None), False), ((1, "7"), True), ((1, "x"), False)):
        rows: list[tuple[Cell, ...]] = [(key, "t") for key in keys]
        assert out_of_order(plan, rows, decoded(plan.row_columns, rows).rows) is beyond
    assert canonical_key(plan, ("7",)) == (7,)
    assert not plan.fits(canonical_key(plan, ("x",))) and not plan.fits(canonical_key(plan, (None,)))


def test_columns_that_postgres_computes() -> None:
    """Generated columns that are not mapped are no obstacle in an adopted table, and one elsewhere."""
    shape = Shape(("a", "v"), "rowid", (), "a", generated=("v",))
    adopted = mapping(column(Form("int8")), key=("a",))
    assert obstacle(adopted, shape) == "" and computed(adopted, shape) == ("v",)
    generic = mapping(MappedColumn("a", "a", "bigint"), key=("a",))
    assert obstacle(generic, shape) == "columns differ (not mirrored: v)" and not computed(generic, shape)
    assert unreadable(adopted, shape) == ""


# --------------------------------------------------------------------------------------- Postgres' side


def test_what_is_foreign() -> None:
    """Values that no value of SQLite stands for."""
    far = (2**63 - 1).to_bytes(8, "big")
    for kind, sent, text in (
        ("timestamptz", far, "infinity"),
        ("timestamp", (-(2**63)).to_bytes(8, "big", signed=True), "-infinity"),
        ("date", (2**31 - 1).to_bytes(4, "big"), "infinity"),
        ("interval", bytes(12) + (1).to_bytes(4, "big"), "1 months 0 days 0 microseconds"),
        ("numeric", "NaN", "NaN"),
        ("jsonb", "[" * 100_000, "[" * 100_000),
    ):
        form = Form(kind)  # type: ignore[arg-type]
        convert = converter(form.codec)
        assert convert is not None
        assert convert(sent) == Foreign(text)
        assert convert(None) is None
    assert converter(Form("text").codec) is None
    assert "array_dims" in expression(Form("array", element=Form("inet")).codec)


def test_canonical_values_as_people_see_them() -> None:
    for kind, cell, text in (
        ("timestamptz", NOON, '"2026-01-01 12:00:00+00:00"'),
        ("timestamp", NOON + 1, '"2026-01-01 12:00:00.000001"'),
        ("timestamp", 2**62, '{"integer": "4611686018427387904"}'),
        ("date", 20_454, '"2026-01-01"'),
        ("time", 1, '"00:00:00.000001"'),
        ("interval", -DAY, '"-24:00:00"'),
        ("boolean", 1, "true"),
        ("jsonb", '{"a":1.0}', '"{\\"a\\":1.0}"'),
        ("int4", 5, "5"),
        ("numeric", Foreign("NaN"), "NaN (no value of SQLite)"),
        ("text", None, "null"),
    ):
        found = shown(Form(kind).codec, cell)  # type: ignore[arg-type]
        assert said(found) == text or (isinstance(found, dict) and str(found["integer"]) in text), (kind, found)
