"""What the values of one column are found to be: which do not fit and why, and what they say of the column's form.

A form is whole only when all values have been seen: which unit numbers have that are times, how intervals are written,
and which of several forms the values of a key have. Until then such values are counted apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from msgspec.structs import replace

from mirror.adoption.quick import fits_of
from mirror.core.adopted import INTEGERS, MANY_FORMS, Form, Unit
from mirror.core.tables import Column
from mirror.core.values import Value
from mirror.postgres.adopted.codecs import converter, encoder, form_of
from mirror.postgres.adopted.giving_back import SEVERAL
from mirror.postgres.adopted.mapping import TIMES
from mirror.postgres.adopted.writing import chosen_form
from mirror.postgres.codecs import Reject

#: Keys that are told of each finding.
SHOWN_KEYS = 3
#: Different reasons that are told apart in one column.
_MOST_REASONS = 20
#: How an interval may be written, besides as a number, of which nobody knows the unit.
_WRITTEN: tuple[Unit, ...] = ("datetime", "clock", "iso")
#: From so much on a number since 1970 is one of microseconds, of milliseconds, or plausibly of seconds.
_MICROSECONDS, _MILLISECONDS, _SECONDS = 1e14, 1e11, 1e8
#: Kinds of which the values are their own images: equal in SQLite, equal in Postgres, and only then.
PLAIN = frozenset(("text", "varchar", "bytea", "enum"))
#: Of each part of a column, so many values are looked at for the form that most have.
_SAMPLES = 16

What = Literal["reject", "loss", "null", "check", "duplicate", "orphan"]
#: Gives the key of a row, as people are told it, by its number in the part that is read.
KeyAt = Callable[[int], str]


@dataclass(slots=True)
class Finding:
    """Rows that do not fit, for one reason."""

    what: What
    column: str
    """Of the source; of a constraint, its columns."""
    reason: str
    rows: int = 0
    keys: list[str] = field(default_factory=list)
    """Of the first of them, as ``mirror.rejects`` has keys."""

    def add(self, key: str | Callable[[], str]) -> None:
        """Count a row."""
        self.rows += 1
        if len(self.keys) < SHOWN_KEYS:
            self.keys.append(key if isinstance(key, str) else key())


class ColumnScan:
    """Sees all values of a column, part by part."""

    def __init__(self, column: str, form: Form, *, not_null: bool, of_key: bool) -> None:
        """``column``: its name in the source. ``of_key``: whether rows are found by it."""
        self.column = column
        self.form = form
        self.findings: dict[tuple[What, str], Finding] = {}
        self.numbers = 0
        """Of times without a unit, or of intervals: those that are numbers, which are not counted as rejects yet."""
        self.largest = 0.0
        self._not_null = not_null
        self._fits = fits_of(form)
        self._convert = converter(form)
        self.undecided = (form.kind in TIMES or form.kind == "interval") and not form.unit
        self._written = (
            {unit: converter(replace(form, unit=unit)) for unit in _WRITTEN} if self._awaits_interval else {}
        )
        self._texts = 0
        self.forms: Counter[str] = Counter()
        """Of a key: how often its values have which form."""
        self.samples: Counter[str] = Counter()
        """How often some of its values have which form."""
        self._forms = of_key and form.kind in MANY_FORMS and not form.only
        self._form_keys: dict[str, list[str]] = {}
        alike = ("hex", "dashed") if form.kind == "uuid" else ("integer",) if form.kind in INTEGERS else ()
        self._alike = [fits_of(replace(form, only=each)) for each in alike]

    @property
    def _awaits_interval(self) -> bool:
        return self.undecided and self.form.kind == "interval"

    def see(self, values: Sequence[Any], key_at: KeyAt) -> None:
        """Take the next values; ``key_at`` gives the key of each."""
        there: Sequence[Any] = values
        if None in values:
            if self._not_null:
                for at, value in enumerate(values):
                    if value is None:
                        self._add("null", "NULL in a column that is NOT NULL", at, key_at)
            there = [value for value in values if value is not None]
        if not there:
            return
        if self._forms:
            self._see_forms(values, there, key_at)
        if (kind := self.form.kind) in SEVERAL:
            self.samples.update(form_of(kind, value) for value in there[:: max(1, len(there) // _SAMPLES)])
        if not self._awaits_interval and self._fits(there):
            return
        for at, value in enumerate(values):
            if value is not None:
                self._see(value, at, key_at)

    def _see(self, value: Value, at: int, key_at: KeyAt) -> None:
        if self.undecided and isinstance(value, int | float):
            self.numbers += 1
            self.largest = max(self.largest, abs(value))
            return
        if self._awaits_interval:
            self._texts += 1
            for unit, convert in list(self._written.items()):
                try:
                    convert(value)
                except Reject:
                    del self._written[unit]
            return
        try:
            text, loss = self._convert(value)
        except Reject as reject:
            self._add("reject", reject.reason, at, key_at)
        else:
            if text is None and self._not_null:
                self._add("null", f"NULL in a column that is NOT NULL: {loss}", at, key_at)
            elif loss:
                self._add("loss", loss, at, key_at)

    def _see_forms(self, values: Sequence[Any], there: Sequence[Any], key_at: KeyAt) -> None:
        kind = self.form.kind
        if any(fits(there) for fits in self._alike):  # all have one form
            self._count_form(form_of(kind, there[0]), len(there), values.index(there[0]), key_at)
            return
        for at, value in enumerate(values):
            if value is not None:
                self._count_form(form_of(kind, value), 1, at, key_at)

    def _count_form(self, form: str, count: int, at: int, key_at: KeyAt) -> None:
        self.forms[form] += count
        keys = self._form_keys.setdefault(form, [])
        if len(keys) < SHOWN_KEYS:
            keys.append(key_at(at))

    def _add(self, what: What, reason: str, at: int, key_at: KeyAt) -> None:
        place = what, reason
        if place not in self.findings and len(self.findings) >= _MOST_REASONS:
            place = what, "other reasons"
        found = self.findings.setdefault(place, Finding(what, self.column, place[1]))
        found.add(lambda: key_at(at))

    def decide_unit(self) -> Unit | None:
        """What the values that were seen say of the unit; empty: there is nothing to decide; None: they do not say."""
        if not self.undecided:
            return ""
        if self._awaits_interval:
            if self.numbers:
                return None
            return next(iter(self._written), None) if self._texts else ""
        if not self.numbers:
            return ""
        if self.largest >= _MICROSECONDS:
            return "us"
        if self.largest >= _MILLISECONDS:
            return "ms"
        return "s" if self.largest >= _SECONDS else None

    def decide_form(self) -> str:
        """Of a key's column, the form that most of its values have; the others are found not to fit. Empty: any."""
        chosen, taken = chosen_form(self.forms)
        for form, count in self.forms.items() if chosen else ():
            if form not in taken:
                reason = f"in a key, {form or 'another form'} where most values are {chosen}: two could become one row"
                self.findings["reject", reason] = Finding(
                    "reject", self.column, reason, count, self._form_keys.get(form, [])
                )
        return chosen

    def decide_written(self) -> str:
        """The form that most of its values have; empty: it is not known."""
        chosen, taken = chosen_form(self.samples)
        others = self.samples[""]
        if self.form.kind in ("jsonb", "json"):  # ``{}`` and ``5`` are compact, too
            return "" if others else chosen
        return chosen if others < sum(self.samples[each] for each in taken) else ""


def form_of_declaration(form: Form, column: Column) -> str:
    """Of a column without a value, the form that its declared type calls for; empty: it says nothing."""
    declared = column.declared_type.upper()
    if form.kind in INTEGERS:
        return "integer" if column.affinity == "INTEGER" else ""
    if form.kind == "uuid" and column.affinity == "TEXT":
        return "hex" if "(32)" in declared else "dashed" if "(36)" in declared else ""
    return "blob" if form.kind in ("uuid", "bytea") and column.affinity == "BLOB" and declared else ""


def image_of(form: Form) -> Callable[[Any], Any] | None:
    """What two values are compared by that Postgres finds equal; None: themselves. NULL where it takes none."""
    if form.kind in PLAIN:
        return None
    encode = encoder(form)
    whole = form.kind in INTEGERS

    def image(value: Any) -> Any:
        if whole and type(value) is int:
            return value
        try:
            text = encode(value)
        except Reject:
            return None
        if text is None:
            return None
        return _IMAGES[form.kind](text) if form.kind in _IMAGES else text

    return image


def _number(text: str) -> Decimal:
    return Decimal(text).normalize()


#: By kind, what makes the texts of equal values equal.
_IMAGES: dict[str, Callable[[str], Any]] = {
    "int2": int,
    "int4": int,
    "int8": int,
    "float4": float,
    "float8": float,
    "numeric": _number,
    "citext": str.lower,
    "char": lambda text: text.rstrip(" "),
}
