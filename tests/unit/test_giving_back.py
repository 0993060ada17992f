"""What SQLite gets for a value of an application's own column becomes that value again."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mirror.core.adopted import Form
from mirror.core.values import Value
from mirror.parity.adopted import canonical
from mirror.parity.adopted_terms import Unfit
from mirror.postgres.adopted.codecs import common_form, form_of
from mirror.postgres.adopted.giving_back import offers
from mirror.postgres.adopted.writing import has_form
from tests.support.adopted import FORMS, hostile_values

#: Kinds of which the canonical value is not what is offered for: of documents and arrays Postgres' text.
TEXTS = ("jsonb", "array")


def given_back(form: Form, value: Value) -> Value:
    """What SQLite gets for what a value becomes, as the way back decides it."""
    cell = canonical(form.codec, value)
    for each in offers(form)(value if form.kind in TEXTS else cell):
        if canonical(form.codec, each) == cell:
            return each
    raise AssertionError(f"{form} has no form for {cell!r}")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.sampled_from([form for form in FORMS if form.kind != "array"]), hostile_values())
def test_it_becomes_the_same_again(form: Form, value: Value) -> None:
    """In the form of the value itself, and in any other that may be the column's."""
    assume(value is not None and not (form.kind == "jsonb" and not isinstance(value, str)))
    cell = canonical(form.codec, value)
    assume(cell is not None and not isinstance(cell, Unfit))
    assert canonical(form.codec, given_back(form, value)) == cell
    if name := form_of(form.kind, value):
        again = given_back(replace(form, written=name), value)
        assert canonical(form.codec, again) == cell


MOMENT = "2026-07-02 03:04:05.678901"
WRITTEN: list[tuple[Form, str | int | float | bytes]] = [
    *(
        (Form("timestamptz", zone="Europe/Berlin"), text)
        for text in (
            MOMENT,
            "2026-07-02T03:04:05Z",
            "2026-07-02T03:04:05.678Z",
            "2026-07-02 03:04:05+02:00",
            "2026-07-02T03:04+0200",
            "0031-07-02 03:04:05",
        )
    ),
    *(
        (Form("timestamptz", unit=unit), number)
        for unit, number in (("s", 1767225600), ("ms", -3000), ("us", 17672256))
    ),
    (Form("timestamptz", unit="s"), 1767225600.25),
    (Form("timestamp"), MOMENT),
    (Form("timestamp", zone="Europe/Berlin", unit="ms"), 1782961445678),
    (Form("date"), "2026-07-02"),
    (Form("date"), "2026-07-02T00:00:00"),
    (Form("date", zone="Europe/Berlin", unit="ms"), 1782943200000),
    (Form("time"), "03:04"),
    (Form("time"), "03:04:05.678"),
    (Form("interval", unit="us"), -5_000_000),
    (Form("interval", unit="datetime"), "1970-01-02 00:00:01.500000"),
    (Form("interval", unit="clock"), "-1 day, 23:59:59"),
    (Form("uuid"), "0123456789abcdef0123456789abcdef"),
    (Form("uuid"), "01234567-89AB-cdef-0123-456789abcdef".upper()),
    (Form("uuid"), "urn:uuid:01234567-89ab-cdef-0123-456789abcdef"),
    (Form("uuid"), bytes(range(16))),
    *((Form("boolean"), value) for value in (1, 0, 1.0, "t", "false")),
    (Form("jsonb"), '{"a":[1,"b c \\" d",2.5]}'),
    (Form("json"), '{ "a" : 1}'),
    (Form("numeric", precision=8, scale=2), 12),
    (Form("numeric", precision=8, scale=2), 1.5),
    (Form("numeric", precision=8, scale=2), "12.50"),
    (Form("bytea"), b"\x00\xff"),
    (Form("bytea"), "text"),
]


@pytest.mark.parametrize(("form", "value"), WRITTEN, ids=lambda each: str(getattr(each, "kind", each)))
def test_in_the_form_in_which_it_was(form: Form, value: Value) -> None:
    """To the bit; also where only that form is taken, because it is a key."""
    name = form_of(form.kind, value)
    assert name or form.kind == "json"
    found = given_back(replace(form, written=name), value)
    assert (found, type(found)) == (value, type(value))
    if name and form.kind not in ("json", "jsonb"):
        assert [*offers(replace(form, only=name))(canonical(form.codec, value))] == [value]


def test_a_fraction_that_is_left_out_where_it_is_zero() -> None:
    """As Python writes times."""
    name = common_form((form_of("timestamptz", MOMENT), form_of("timestamptz", MOMENT[:19])))
    form = Form("timestamptz", written=name)
    for text in (MOMENT, MOMENT[:19]):
        assert given_back(form, text) == text and has_form("timestamptz", text, name)


@pytest.mark.parametrize("text", ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"])
def test_a_clock_that_occurs_twice(text: str) -> None:
    """Its second time is written with an offset, because the clock alone is the first."""
    form = Form("timestamptz", zone="Europe/Berlin", written="YYYY-MM-DD HH:MM:SS")
    found = given_back(form, text)
    assert found == ("2026-10-25 02:30:00" if text[12] == "0" else "2026-10-25 01:30:00+00:00")
