"""The two implementations of what adopted columns take: what is written must be what parity expects."""

from __future__ import annotations

import pytest
from hypothesis import example, given

from mirror.core.adopted import Form
from mirror.core.values import Value
from mirror.parity.adopted import decoded
from mirror.parity.adopted_terms import Unfit
from mirror.parity.plan import MappedColumn
from mirror.postgres.adopted.codecs import converter
from mirror.postgres.codecs import Reject
from tests.support.adopted import FORMS, TRAPS, hostile_values

MORE = [
    Form("array", element=Form("jsonb")),
    Form("array", element=Form("timestamptz", unit="s")),
    Form("date", zone="Europe/Berlin", unit="s"),
    Form("date"),
    Form("interval", unit="ms", digits=2),
    Form("interval", unit="datetime"),
    Form("text", empty_is_null=True),
]
BESIDE: list[Value] = ["null", " null\n", "1e5", "[1e5]", 1e300, 1e16, 0.378, 1e-300, "999999999 days, 23:59:59.999999"]


def outcome_of_parity(form: Form, value: Value) -> str:
    column = MappedColumn("c", "c", "text", form.codec)
    found = decoded([column], [(value,)])
    ((cell,),) = found.rows
    if isinstance(cell, Unfit):
        return "refused"
    return f"{'NULL' if cell is None else 'value'}{', with a loss' if found.losses else ''}"


@pytest.mark.parametrize("form", [*FORMS, *MORE], ids=lambda form: form.codec)
@given(hostile_values())
@example("2026-07-02T22:00:00Z")
@example("2026-07-01T00:00:00+02:00")
@example("2026-10-25T02:30:00+01:00")
def test_what_is_written_is_what_parity_expects(form: Form, value: Value) -> None:
    """Also whether something is lost. What is refused is among the rejects, so that parity does not ask for it."""
    convert = converter(form)
    for each in (value, *(TRAPS if value is None else ()), *(BESIDE if value is None else ())):
        try:
            text, loss = convert(each)
        except Reject:
            continue
        written = f"{'NULL' if text is None else 'value'}{', with a loss' if loss else ''}"
        assert outcome_of_parity(form, each) == written, each
