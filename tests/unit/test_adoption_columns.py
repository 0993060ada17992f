"""What values say of a column: those that fit are told fast, and what fits by that is taken without a loss."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirror.adoption.columns import ColumnScan, form_of_declaration, image_of
from mirror.adoption.quick import fits_of
from mirror.core.adopted import Form, Kind
from mirror.core.tables import Affinity, Column
from mirror.postgres.adopted.codecs import converter

FORMS = [
    *(Form(kind) for kind in ("int2", "int4", "int8", "float4", "float8", "text", "citext", "bytea", "boolean")),
    *(Form(kind) for kind in ("timestamptz", "timestamp", "date", "time", "interval", "uuid", "json", "jsonb", "inet")),
    *(Form("timestamptz", digits=digits, unit=unit) for digits in (0, 3, None) for unit in ("s", "ms", "us")),  # type: ignore[arg-type]
    Form("timestamp", zone="Europe/Berlin", unit="s"),
    Form("timestamptz", zone="Europe/Berlin", unit="ms"),
    Form("timestamp", digits=2),
    Form("varchar", length=3),
    Form("varchar"),
    Form("char", length=3),
    Form("numeric"),
    Form("numeric", precision=5, scale=2),
    Form("numeric", precision=12, scale=2, real_digits=15),
    Form("numeric", precision=20, scale=0),
    Form("numeric", precision=3, scale=5),
    Form("numeric", precision=5, scale=-2),
    Form("enum", labels=("red", "0")),
    Form("array", element=Form("int4")),
    Form("text", empty_is_null=True),
    Form("enum", labels=("", "red"), empty_is_null=True),
    Form("uuid", only="hex"),
    Form("uuid", only="dashed"),
    Form("int8", only="integer"),
    Form("int4", only="decimal 0"),
    Form("timestamptz", only="YYYY-MM-DD HH:MM:SS"),
]
PARTS = st.sampled_from(
    ["2026-01-02", "0001-01-01", "9999-12-31", "0000-00-00", "2026-02-30", " ", "T", "10:11:12", "24:00:00", "23:59:60",
     ".5", ".123456", ".1234567", "Z", "+00:00", "+02:00", "-00:30", "now", "{", "}", "[", "]", '"a"', ":", ",", "1",
     "-", "0", ".", "e", "E5", "null", "true", "NaN", "\\u0000", "\\ud800", "\t", "\n", "\0", "00010203",
     "0001020304050607", "0405-0607-0809", "0a0b0c0d0e0f", "ABCDEF", "red", "é", "\U0001f600"]
)  # fmt: skip
VALUES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-40000, 40000),
    st.sampled_from([253402300799, 253402300800, -62135596800, -62135596801, 253402300799999999, 99999, 100000]),
    st.floats(allow_nan=False),
    st.decimals(-1000, 1000, places=2).map(float),
    st.sampled_from([0.335, 2.675, 999.995, -0.0, 1e15, 0.005, 1e-300]),
    st.lists(PARTS, max_size=5).map("".join),
    st.datetimes().map(str),
    st.uuids().map(str),
    st.uuids().map(lambda value: value.hex),
    st.just(""),
    st.text(max_size=5),
    st.binary(max_size=4),
)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.codec)
@given(st.lists(VALUES, min_size=1, max_size=3))
@example(["2026-01-02 10:11:12.123456", "2026-01-02T10:11:12Z"])
@example([1.25, 3, 999.99])
@example(['{"a": [1, 2.50]}', "[1E5]"])
@example(['[{"a": 1, "b": ":", "a": 2}]', '{"a": {"b": 1}, "a": 2}'])
@example(["0001-01-01 00:00:00+00:00"])
def test_what_fits_fast_is_taken_without_a_loss(form: Form, values: list[Any]) -> None:
    fits, convert = fits_of(form), converter(form)
    for some in (values, *([value] for value in values)):
        if fits(some):
            assert [convert(value).loss for value in some] == [""] * len(some)


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (Form("timestamptz"), "2026-01-02 10:11:12.123456"),
        (Form("timestamp", zone="Europe/Berlin"), "2026-01-02T10:11:12"),
        (Form("timestamptz", zone="Europe/Berlin"), "2026-01-02 10:11:12+00:00"),
        (Form("timestamptz", unit="ms"), 1767225600000),
        (Form("date"), "2026-01-02"),
        (Form("uuid"), "000102030405060708090a0b0c0d0e0f"),
        (Form("jsonb"), '{"a": [1, 2.5, null]}'),
        (Form("jsonb"), '[{"a": "b:", "c": 1}, {"a": 1}]'),
        (Form("json"), '{"a": 1, "a": 2}'),
        (Form("numeric", precision=12, scale=2), 1.25),
        (Form("boolean"), 1),
        (Form("varchar", length=3), "abc"),
    ],
)
def test_ordinary_values_are_told_fast(form: Form, value: Any) -> None:
    assert fits_of(form)([value])


def scanned(form: Form, *values: Any, of_key: bool = False, not_null: bool = False) -> ColumnScan:
    column = ColumnScan("c", form, not_null=not_null, of_key=of_key)
    column.see(values, lambda at: f"[{at}]")
    return column


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([1767225600], "s"),
        ([-3000, 1767225600000], "ms"),
        ([5, 1767225600000000], "us"),
        ([1767225600.5], "s"),
        ([5, -7], None),
        (["2026-01-01", None], ""),
        ([], ""),
    ],
)
def test_the_unit_is_that_of_all_values(values: list[Any], unit: str | None) -> None:
    assert scanned(Form("timestamptz"), *values).decide_unit() == unit
    assert scanned(Form("timestamptz", unit="s"), *values).decide_unit() == ""


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        (["1970-01-02 00:00:00", None], "datetime"),
        (["1 day, 0:00:05"], "clock"),
        (["P1DT2S", "-PT5M"], "iso"),
        ([5], None),
        (["P1D", 5], None),
        (["P1D", "1 day, 0:00:05"], None),
        ([None], ""),
    ],
)
def test_how_intervals_are_written(values: list[Any], unit: str | None) -> None:
    assert scanned(Form("interval"), *values).decide_unit() == unit


@pytest.mark.parametrize(
    ("form", "value"),
    [(Form("array", element=Form("text")), "null"), (Form("text", empty_is_null=True), "")],
)
def test_what_becomes_null_is_found_where_null_is_not_taken(form: Form, value: str) -> None:
    assert {found.what for found in scanned(form, value, not_null=True).findings.values()} == {"null"}
    assert {found.what for found in scanned(form, value).findings.values()} == {"loss"}


def test_the_form_of_a_key() -> None:
    lower, dashed = "000102030405060708090a0b0c0d0e0f", "00010203-0405-0607-0809-0a0b0c0d0e0f"
    column = scanned(Form("uuid"), lower, dashed, lower, "nothing", of_key=True)
    assert column.decide_form() == "hex"
    assert sorted((found.what, found.rows, found.keys) for found in column.findings.values()) == [
        ("reject", 1, ["[1]"]),
        ("reject", 1, ["[3]"]),
        ("reject", 1, ["[3]"]),
    ]
    python = scanned(Form("timestamptz"), "2026-01-02 10:11:12", "2026-01-02 10:11:12.123456", of_key=True)
    assert python.decide_form() == "YYYY-MM-DD HH:MM:SS[.6]" and not python.findings
    assert scanned(Form("int4"), 1, 2, of_key=True).decide_form() == "integer"
    assert scanned(Form("int4"), 1, 2).decide_form() == "", "not of a key"
    assert scanned(Form("varchar"), "a", of_key=True).decide_form() == "", "a text has no other form"


@pytest.mark.parametrize(
    ("kind", "declared", "affinity", "form"),
    [
        ("uuid", "char(32)", "TEXT", "hex"),
        ("uuid", "VARCHAR(36)", "TEXT", "dashed"),
        ("uuid", "BLOB", "BLOB", "blob"),
        ("uuid", "TEXT", "TEXT", ""),
        ("int8", "INTEGER", "INTEGER", "integer"),
        ("timestamptz", "datetime", "NUMERIC", ""),
    ],
)
def test_a_key_without_values_has_the_form_of_its_declaration(
    kind: Kind, declared: str, affinity: Affinity, form: str
) -> None:
    assert form_of_declaration(Form(kind), Column("c", declared, affinity)) == form


def test_findings_have_three_keys_and_end() -> None:
    column = scanned(Form("varchar", length=1), *["ab"] * 9, None, not_null=True)
    assert [(found.what, found.rows, len(found.keys)) for found in column.findings.values()] == [
        ("null", 1, 1),
        ("reject", 9, 3),
    ]


@pytest.mark.parametrize(
    ("form", "one", "two"),
    [
        (Form("uuid"), "000102030405060708090A0B0C0D0E0F", "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        (Form("int4"), 5, "5"),
        (Form("int8"), 5, 5.0),
        (Form("numeric"), "1.50", 1.5),
        (Form("citext"), "ABC", "abc"),
        (Form("timestamptz"), "2026-01-02 10:00:00", "2026-01-02T12:00:00+02:00"),
        (Form("char", length=3), "a ", "a"),
    ],
)
def test_images_of_equal_values_are_equal(form: Form, one: Any, two: Any) -> None:
    image = image_of(form)
    assert image is not None and image(one) == image(two) and hash(image(one)) == hash(image(two))
    assert image("nothing of it \0") is None
