"""Columns of an application's own tables: what SQLite's values are there, and what of them is lost.

An adopted column has a form (:mod:`mirror.core.adopted`). Each value of SQLite is decoded by it to one canonical value,
and what is selected in Postgres (:mod:`mirror.parity.adopted_selected`) becomes one as well; these are compared, so
that two spellings of one moment are equal. A value that the form does not take becomes
:class:`~mirror.parity.adopted_terms.Unfit`, which equals nothing: such a row is among the rejects, or it is a
difference. This is written apart from the apply side's codecs on purpose, as all of parity is: two implementations of
one vocabulary; ``tests/differential/test_adopted_columns.py`` holds them against each other. The kinds are in
:mod:`~mirror.parity.adopted_times`, :mod:`~mirror.parity.adopted_numbers`, :mod:`~mirror.parity.adopted_json`,
:mod:`~mirror.parity.adopted_vectors` and :mod:`~mirror.parity.adopted_values`.

:attr:`~mirror.core.adopted.Form.only` is followed for ``uuid`` alone. Of other kinds values of all forms are taken: a
row with another one is not in Postgres, and its key is among the rejects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from mirror.core.adopted import Form, form_of_codec, is_adopted
from mirror.parity import adopted_json, adopted_numbers, adopted_times, adopted_values, adopted_vectors
from mirror.parity.adopted_moments import is_zero_date
from mirror.parity.adopted_terms import Decode, Lossy, Misfit, Unfit
from mirror.parity.plan import MappedColumn, Plan
from mirror.parity.values import Cell, Cells

#: What is lost: by column (its place in a row) and in which way, the number of values.
Losses = Counter[tuple[int, str]]

_TIMES = frozenset(("timestamptz", "timestamp", "date", "time", "interval"))
_NUMBERS = frozenset(("numeric", "int2", "int4", "int8", "float4", "float8"))
#: Types of keys (:class:`~mirror.parity.plan.KeyColumn`) that SQLite may have texts for.
_NO_TEXT = ("bigint", "bytea")
_DATED = frozenset(("timestamptz", "timestamp", "date"))


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows of SQLite as Postgres should have them."""

    rows: list[Cells]
    losses: Losses
    """Of the rows that fit."""


def decoded(columns: Sequence[MappedColumn], rows: Sequence[Cells]) -> Decoded:
    """The canonical rows of what SQLite has."""
    by_column: list[Sequence[Cell]] = []
    unfit: set[int] = set()
    lost: list[tuple[int, dict[int, str]]] = []
    for place, values in enumerate(zip(*rows, strict=True)):
        codec = columns[place].codec
        if not is_adopted(codec):
            by_column.append(values)
            continue
        cells, losses, outside = _column(_decoder(codec), values)
        by_column.append(cells)
        unfit.update(outside)
        if losses:
            lost.append((place, losses))
    counted = Losses((place, how) for place, losses in lost for at, how in losses.items() if at not in unfit)
    return Decoded(list(zip(*by_column, strict=True)), counted)


def canonical(codec: str, value: Cell) -> Cell:
    """What a value of SQLite should be in a column of this codec."""
    found = _one(_decoder(codec), value)
    return found.cell if isinstance(found, Lossy) else found


def canonical_key(plan: Plan, key: Cells) -> Cells:
    """A key of SQLite as Postgres should have it."""
    columns = [plan.row_columns[position] for position in plan.key_positions]
    return decoded(columns, [key]).rows[0]


def out_of_order(plan: Plan, read: Sequence[Cells], rows: Sequence[Cells]) -> bool:
    """Whether a key is a text in SQLite that is none in Postgres: it comes after all others in SQLite alone.

    ``read``: the rows as SQLite has them; ``rows``: the canonical ones.
    """
    places = [at for at, column in zip(plan.key_positions, plan.order, strict=True) if column.pg_type in _NO_TEXT]
    return any(
        isinstance(before[at], str) and not isinstance(after[at], Unfit)
        for at in places
        for before, after in zip(read, rows, strict=True)
    )


def unknown_forms(columns: Sequence[MappedColumn]) -> str:
    """Why rows of these columns cannot be compared; empty: they can."""
    for column in columns:
        try:
            if is_adopted(column.codec):
                _decoder(column.codec)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return f"unknown form of {column.name}: {error}"
    return ""


def _column(decode: Decode, values: Sequence[Cell]) -> tuple[list[Cell], dict[int, str], list[int]]:
    """The cells of a column; what is lost, by row; and the rows that do not fit."""
    found: list[Cell | Lossy]
    outside: list[int] = []
    try:
        found = [None if value is None else decode(value) for value in values]
    except Misfit:
        found = [_one(decode, value) for value in values]
        outside = [at for at, cell in enumerate(found) if isinstance(cell, Unfit)]
    losses = {at: cell.lost for at, cell in enumerate(found) if type(cell) is Lossy}
    if not losses:
        return cast("list[Cell]", found), losses, outside
    return [cell.cell if isinstance(cell, Lossy) else cell for cell in found], losses, outside


def _one(decode: Decode, value: Cell) -> Cell | Lossy:
    try:
        return None if value is None else decode(value)
    except Misfit as misfit:
        return Unfit(str(misfit))


@lru_cache(maxsize=4096)
def _decoder(codec: str) -> Decode:
    return _of_form(form_of_codec(codec))


def _of_form(form: Form) -> Decode:
    if form.kind == "array":
        if form.element is None:
            raise ValueError("an array without the form of its elements")
        decode = adopted_json.array(form, _of_form(form.element))
    elif form.kind in _TIMES:
        decode = adopted_times.decoder(form)
    elif form.kind in _NUMBERS:
        decode = adopted_numbers.decoder(form)
    elif form.kind in ("json", "jsonb"):
        decode = adopted_json.decoder(form)
    elif form.kind in ("vector", "halfvec"):
        decode = adopted_vectors.decoder(form)
    else:
        decode = adopted_values.decoder(form)
    return _or_null(decode, dated=form.kind in _DATED) if form.empty_is_null else decode


def _or_null(decode: Decode, *, dated: bool) -> Decode:
    def of_text(value: Cell) -> Cell | Lossy:
        if value == "":
            return Lossy(None, "as NULL, where SQLite has an empty text")
        if dated and isinstance(value, str) and is_zero_date(value):
            return Lossy(None, "as NULL, where SQLite has a zero date")
        return decode(value)

    return of_text
