"""The type of a column with values that are all of one kind, where they do not fit its declared type or there is none.

======= ================ ==========================================================================================
codec   Postgres         what it holds
======= ================ ==========================================================================================
found   bigint, double   values of that kind alone, as a column that is declared so
        precision, text,
        bytea
number  double precision integers up to 2**53, and reals that are no such integer: SQLite makes whole reals integers in
                         columns that are declared as numbers
``t/f`` boolean          the texts ``t`` and ``f``; likewise the other spellings of :data:`WORDS`
======= ================ ==========================================================================================

The codec tells such a column from one that is declared so. A value of another kind makes it jsonb. The first of
:func:`choices` that every value fits is the type; if there is none, the column holds any value (jsonb). A first copy
asks SQLite (:func:`misfit_test`), everything else sees the values one by one (:class:`Kinds`); both answer alike.
A column of which the declared type says nothing about its values (:data:`~mirror.core.tables.ANY_VALUE`) stays jsonb
while it has none. Tables that agents share have no such columns, because other agents write them too; nor have tables
with the data of virtual tables, which views of the mirror read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, NamedTuple

from mirror.core.tables import ANY_TEXT, ANY_VALUE, ColumnType
from mirror.core.values import BadText, Uncomputed, Value
from mirror.postgres.codecs import Encoder, misfit

FOUND = "found"
NUMBER = "number"

#: By codec: the texts for true and false.
WORDS = {
    name: (name.partition("/")[0], name.partition("/")[2])
    for name in ("t/f", "T/F", "true/false", "TRUE/FALSE", "True/False")
}

#: The codecs of this module.
CODECS = frozenset({FOUND, NUMBER, *WORDS})

#: Up to it, either sign, every integer is a double.
EXACT = 2**53

#: By class in Python: what SQLite calls it.
_CLASSES = {int: "integer", float: "real", str: "text", BadText: "text", bytes: "blob"}


#: Classes in Python of what says nothing about a column.
_NO_VALUES = frozenset({NoneType, Uncomputed})


class Choice(NamedTuple):
    """A type that a column may get, and what it holds."""

    type: ColumnType
    classes: frozenset[Any]
    """Of its values."""
    test: Callable[[Any], bool] | None = None
    """Whether it holds a value of these classes; None: each."""
    tests: tuple[tuple[str, str], ...] = ()
    """By SQLite's class: SQL that is true of a value ``{0}`` that it does not hold."""


def _is_number(value: float) -> bool:
    if isinstance(value, int):
        return -EXACT <= value <= EXACT
    return not (value.is_integer() and -EXACT <= value <= EXACT)


def _word_choice(codec: str) -> Choice:
    words = WORDS[codec]
    # Not by the column's own collation.
    test = f"(+{{0}} COLLATE BINARY) NOT IN ('{words[0]}', '{words[1]}')"
    return Choice(ColumnType("boolean", codec), frozenset({str}), words.__contains__, (("text", test),))


_BIGINT = Choice(ColumnType("bigint", FOUND), frozenset({int}))
# A unary plus: without the column's affinity.
_NUMBER = Choice(
    ColumnType("double precision", NUMBER),
    frozenset({int, float}),
    _is_number,
    (
        ("integer", f"+{{0}} NOT BETWEEN -{EXACT} AND {EXACT}"),
        ("real", f"+{{0}} BETWEEN -{EXACT} AND {EXACT} AND +{{0}} = CAST({{0}} AS INTEGER)"),
    ),
)
_DOUBLE = Choice(ColumnType("double precision", FOUND), frozenset({float}))
_TEXT = Choice(ColumnType("text", FOUND), frozenset({str, BadText}))
#: A key with NUL is jsonb.
_KEY_TEXT = Choice(_TEXT.type, frozenset({str}), lambda text: "\0" not in text, (("text", "instr({0}, char(0)) > 0"),))
_BYTEA = Choice(ColumnType("bytea", FOUND), frozenset({bytes}))
_WORD_CHOICES = tuple(map(_word_choice, WORDS))


def choices(declared: ColumnType, *, of_key: bool, shared: bool) -> tuple[Choice, ...]:
    """The types that a column may get instead of the declared one (or that of a rule), in the order of preference.

    ``of_key``: it is of the key, by which Postgres and SQLite must order alike. ``shared``: agents share the
    table, or a view reads it.
    """
    if shared or declared.codec not in ("", NUMBER):
        return ()
    words = _WORD_CHOICES if declared.pg_type == "boolean" else ()
    every = (_BIGINT, _DOUBLE, _KEY_TEXT, _BYTEA) if of_key else (*words, _BIGINT, _NUMBER, _DOUBLE, _TEXT, _BYTEA)
    same = (declared, ColumnType(declared.pg_type, FOUND) if not declared.codec else declared)
    return tuple(choice for choice in every if choice.type not in same)


def chosen(fitting: Iterable[Choice]) -> ColumnType:
    """Of the choices that every value fits, the type that the column gets."""
    return next((choice.type for choice in fitting), ANY_VALUE)


def misfit_test(choice: Choice) -> str:
    """SQL for SQLite that is true of a value ``{0}`` that does not fit."""
    tests = dict(choice.tests)
    names = sorted({_CLASSES[kind] for kind in choice.classes})
    cases = " ".join(f"WHEN '{name}' THEN {tests.get(name, '0')}" for name in names)
    return f"CASE typeof({{0}}) WHEN 'null' THEN 0 {cases} ELSE 1 END"


#: By codec, except :data:`FOUND`: :func:`misfit_test` of it.
TESTS = {choice.type.codec: misfit_test(choice) for choice in (_NUMBER, *_WORD_CHOICES)}


def fast_sql(codec: str) -> str:
    """SQL for SQLite that makes a value ``{0}``, which fits, what psycopg sends for it."""
    if codec == NUMBER:
        return "CAST({0} AS REAL)"
    return f"+{{0}} COLLATE BINARY = '{WORDS[codec][0]}'" if codec in WORDS else "{0}"


class Kinds:
    """Finds the type of a column from its values, one by one."""

    def __init__(self, offered: tuple[Choice, ...]) -> None:
        self._left = list(offered)
        self._seen: set[type] = set(_NO_VALUES)
        self._tested = [choice for choice in offered if choice.test is not None]

    def see(self, value: Value) -> None:
        """Take a value into account."""
        kind = type(value)
        if kind not in self._seen:
            self._seen.add(kind)
            self._keep([choice for choice in self._left if kind in choice.classes])
        if self._tested and value is not None and kind is not Uncomputed:
            fitting = [choice for choice in self._left if choice.test is None or choice.test(value)]
            if len(fitting) < len(self._left):
                self._keep(fitting)

    def _keep(self, choices: list[Choice]) -> None:
        self._left = choices
        self._tested = [choice for choice in choices if choice.test is not None]

    def of_values(self, declared: ColumnType, *, fits: bool) -> ColumnType:
        """The type that the column gets by its values; ``fits``: every one fits the declared type."""
        if declared == ANY_VALUE:
            return self.becomes if self.any_seen else declared
        return declared if fits else self.becomes

    @property
    def any_seen(self) -> bool:
        """Whether there was a value but NULL."""
        return len(self._seen) > len(_NO_VALUES)

    def stays(self, held: ColumnType, declared: ColumnType, *, fits: bool) -> bool:
        """Whether a column that has a type already keeps it; ``fits``: every value fits the declared one."""
        own = ColumnType("text") if held == ANY_TEXT else held
        if own.pg_type == "jsonb" or own.codec not in ("", *CODECS):
            return True
        if own.pg_type == declared.pg_type and own.codec not in WORDS:
            return fits
        return any(choice.type == (own.pg_type, own.codec or FOUND) for choice in self._left)

    @property
    def becomes(self) -> ColumnType:
        """The type that the column gets if the values do not fit the declared one."""
        return chosen(self._left)


def is_odd_key(value: Value, *, of_key: bool, shared: bool) -> bool:
    """Whether a value makes a text column jsonb although it is a text: one with NUL in a key."""
    return of_key and not shared and isinstance(value, str) and "\0" in value


def _number(value: Value) -> str | None:
    if value is None:
        return None
    if type(value) in (int, float) and _is_number(value):  # type: ignore[arg-type]
        return repr(float(value))  # type: ignore[arg-type]
    raise misfit(value, "double precision")


def _word_encoder(codec: str) -> Encoder:
    shown = dict(zip(WORDS[codec], ("t", "f"), strict=True))

    def encode(value: Value) -> str | None:
        if value is None:
            return None
        if isinstance(value, str) and value in shown:
            return shown[value]
        raise misfit(value, f"boolean ({codec})")

    return encode


#: By codec, except :data:`FOUND`, which encodes as the type alone.
ENCODERS: dict[str, Encoder] = {NUMBER: _number} | {codec: _word_encoder(codec) for codec in WORDS}
