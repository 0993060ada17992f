"""Sequences of Postgres: each is to give numbers that no row has had, once programs write there.

A mirror writes the numbers that SQLite gave, so no sequence has moved meanwhile. A sequence is set above the highest
value of its columns: those that own it (identity, serial) or have it in their default, and those that are known of one
that no column has (:mod:`mirror.core.free_sequences`); above what SQLite has in them, because rows may be rejects; and
above ``sqlite_sequence``, where the highest row is deleted. One that counts down is set below the lowest value.

No sequence is ever set back: while it is looked at and set, it is locked, so that nobody takes a number from it. One
that is set has given the number before its next one (``is_called``): programs that ask a sequence which number was the
last (``last_value``) are told one that no row will have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import RawCursor
from psycopg.sql import SQL, Composable, Identifier, Literal

from mirror.core.checks import Check, Code
from mirror.core.errors import SinkError
from mirror.core.free_sequences import FreeSequences, Numbers
from mirror.core.rules import folded
from mirror.cutover.readiness import Readiness
from mirror.postgres.adopted.decisions import load
from mirror.postgres.migrate import statement
from mirror.postgres.profiles.generic import AGENT
from mirror.postgres.sessions import placeholders
from mirror.postgres.target import Target
from mirror.replica.declared import read_declarations

#: What `--acknowledge` calls those that do not go on above the highest value yet.
NAME = "sequences"
#: Numbers that are left out between the highest one and the next. A program that still writes to the file after the
#: switch (where it is only watched) takes the numbers that follow there: so its rows are new ones in Postgres, too, if
#: they are adopted. A thousand rows are more than such a program writes until it is found, and little of any type.
HEADROOM = 1000
#: The headroom that a move makes before it fences the file: so many rows more may come until then, and nothing is left
#: to be set while programs wait.
AHEAD = 10 * HEADROOM
#: Seconds to wait for transactions that have taken a number from a sequence. The file may be fenced meanwhile.
LOCK_SECONDS = 5

_LIMIT = "SELECT set_config('lock_timeout', $1::text, true)"
#: The numbers that a column can hold, by type.
_LIMITS = {
    "int2": (-(2**15), 2**15 - 1),
    "int4": (-(2**31), 2**31 - 1),
    "int8": (-(2**63), 2**63 - 1),
    "numeric": (-(2**63), 2**63 - 1),
}
#: The numbers that are read in a text, of up to 18 digits.
_IN_TEXT = "^[0-9]{1,18}$"


@dataclass(frozen=True, slots=True)
class Used:
    """A column that has numbers of a sequence."""

    target: Target
    column: str
    """In Postgres."""
    given: int | None
    """The highest number that the source has, or has ever given."""
    type: str
    numbers: Numbers | None = None
    """How its values have them, and in which rows, where that is not simply so."""
    where: tuple[str, str] | None = None
    """A column in Postgres, and the text that it has in those rows."""

    @property
    def label(self) -> str:
        """Its name."""
        return f"{self.target.name}.{self.column}"

    @property
    def limits(self) -> tuple[int, int] | None:
        """The lowest and the highest number that the column can hold; None: none, by its type."""
        if self.numbers is not None and self.numbers.pattern:
            return 0, 10**18 - 1
        found = _LIMITS.get(self.type)
        if found is not None and self.numbers is not None and self.numbers.negated:
            return 1, -found[0]
        return found


@dataclass(frozen=True, slots=True)
class Found:
    """A sequence, as Postgres declares it, and what of the source depends on it."""

    schema: str
    name: str
    increment: int
    low: int
    high: int
    cycles: bool
    ours: bool
    """Whether it may be altered."""
    owner: str
    used: tuple[Used, ...]
    """By columns of the source."""
    unknown: tuple[str, ...] = ()
    """Columns that are named for it, and that the source does not have, or that have no whole numbers."""
    free: bool = False
    """Whether no column of Postgres has it, and nobody has said that it gives numbers to none of the source."""

    @property
    def sql(self) -> Identifier:
        """Its qualified name."""
        return Identifier(self.schema, self.name)

    @property
    def label(self) -> str:
        """What it is for, or its name."""
        return ", ".join(used.label for used in self.used) or self.name


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a sequence stands, beside the values of its columns. All numbers as if it counted up."""

    next: int | None
    """What it gives next; None: there is nothing left."""
    highest: int | None
    """The highest value; None: there never was one."""
    wanted: int | None
    """What it is to give next, so that there is headroom; None: there is no number left."""
    least: int | None
    """What it may give next at the least."""
    sign: int
    """-1 if it counts down."""
    last: int
    """The number that it has."""

    @property
    def right(self) -> bool:
        """Whether it goes on above the highest value."""
        return self.next is not None and (self.highest is None or self.next > self.highest)

    @property
    def ahead(self) -> bool:
        """Whether it does so with headroom: nothing is to be set."""
        return self.right and (self.highest is None or self.wanted == self.next)

    @property
    def spent(self) -> bool:
        """Whether its numbers are used up."""
        return self.wanted is None


def known(connection: psycopg.Connection[Any], source_id: int, own: Mapping[str, Sequence[str]]) -> FreeSequences:
    """What is known of sequences that no column has: by the adoption of a source, and before it by mirror.json.

    ``own``: ``cutover.sequences`` there. Raises as :func:`mirror.postgres.adopted.decisions.load` does.
    """
    with placeholders(connection, RawCursor):
        decisions = load(connection, source_id)
    found = {} if decisions is None else {folded(name): each for name, each in decisions.sequences.items()}
    return found | {folded(name): tuple(map(Numbers, columns)) for name, columns in own.items()}


def find(
    connection: psycopg.Connection[Any], source: Path, targets: Sequence[Target], free: FreeSequences
) -> list[Found]:
    """The sequences that columns of a source's tables have, and those of its schemas that no column has.

    ``free``: what is known of these. Raises psycopg's errors, and ``SourceError``.
    """
    schemas = sorted({target.schema for target in targets})
    rows = RawCursor(connection).execute(statement("sequences"), (schemas,)).fetchall()
    by_name = {(target.schema, target.name): target for target in targets}
    wanted = {folded(name): numbers for name, numbers in free.items()}
    given = _given(source, targets) if rows else {}
    types = _types(connection, targets) if wanted else {}
    found = []
    for schema, name, increment, low, high, cycles, ours, owner, columns in rows:
        used = [
            Used(by_name[schema_, table], column, given.get((schema_, table, column)), type_)
            for schema_, table, column, type_ in columns
            if (schema_, table) in by_name
        ]
        if columns and not used:
            continue  # of a table that is not the source's
        unknown = []
        named = wanted.get(folded(name)) if schema in schemas else None
        for each in named or ():
            if (column_ := _used(each, types, given)) is None:
                unknown.append(each.column)
            elif not any(_owns(other, column_) for other in used):
                used.append(column_)
        whole = tuple(each for each in used if each.limits is not None)
        unknown += [each.label for each in used if each.limits is None]
        free_ = not columns and (named is None or bool(named))
        found.append(Found(schema, name, increment, low, high, cycles, ours, owner, whole, tuple(unknown), free_))
    return found


def _owns(used: Used, named: Used) -> bool:
    """Whether a column that is named for a sequence has it already."""
    return used.numbers is None and (used.target, used.column) == (named.target, named.column)


#: By ``table.column`` of the source, folded: where it is in Postgres, and its type there.
_Places = Mapping[str, tuple[Target, str, str]]


def _used(numbers: Numbers, types: _Places, given: Mapping[tuple[str, str, str], int]) -> Used | None:
    """A column that is named for a sequence; None: the source does not have it."""
    place = types.get(folded(numbers.column))
    if place is None:
        return None
    target, column, type_ = place
    where = None
    if numbers.where is not None:
        if (other := types.get(folded(f"{numbers.table}.{numbers.where[0]}"))) is None:
            return None
        where = other[1], numbers.where[1]
    plain = numbers == Numbers(numbers.column)  # else its other values say nothing
    highest = given.get((target.schema, target.name, column)) if plain else None
    return Used(target, column, highest, type_, numbers, where)


def _types(connection: psycopg.Connection[Any], targets: Iterable[Target]) -> _Places:
    found = {}
    for target in targets:
        rows = RawCursor(connection).execute(
            "SELECT a.attname, t.typname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
            " WHERE a.attrelid = to_regclass(format('%I.%I', $1::text, $2::text)) AND a.attnum > 0",
            (target.schema, target.name),
        )
        types = dict(rows.fetchall())
        for column in target.columns:
            if column.name in types:
                found[folded(f"{target.source}.{column.source}")] = target, column.name, types[column.name]
    return found


def _given(source: Path, targets: Iterable[Target]) -> dict[tuple[str, str, str], int]:
    """The highest number that SQLite has, or has ever given, by schema, table and column of Postgres."""
    declared, found = read_declarations(source), {}
    for target in targets:
        table = declared.table(target.source)
        if table is None or table.given_id is None:
            continue
        wanted = folded(table.given_id)
        name = next((column.name for column in target.columns if folded(column.source) == wanted), None)
        numbers = [number for number in (table.last_id or None, table.highest_id) if number is not None]
        if name is not None and numbers:
            found[target.schema, target.name, name] = max(numbers)
    return found


def stand(connection: psycopg.Connection[Any], found: Sequence[Found], room: int = HEADROOM) -> list[Standing]:
    """Where sequences stand, in one query. ``room``: the headroom that is wanted. Raises psycopg's errors."""
    parts = [
        SQL("SELECT {}, last_value, is_called, ARRAY[{}]::numeric[] FROM {}").format(
            Literal(at), SQL(", ").join(_extreme(used, _sign(each)) for used in each.used), each.sql
        )
        for at, each in enumerate(found)
    ]
    if not parts:
        return []
    rows = RawCursor(connection).execute(SQL(" UNION ALL ").join(parts)).fetchall()
    return [_standing(found[at], last, called, values, room) for at, last, called, values in sorted(rows)]


def _sign(found: Found) -> int:
    return 1 if found.increment > 0 else -1


def _standing(found: Found, last: int, called: bool, values: Iterable[Any], room: int) -> Standing:
    sign = _sign(found)
    numbers = [sign * int(value) for value in values if value is not None]
    if sign > 0:  # what SQLite gave counts up: it says nothing of one that counts down
        numbers += [used.given for used in found.used if used.given is not None]
    highest = max(numbers, default=None)
    step, (low, high) = abs(found.increment), _bounds(found, sign)
    left: int = sign * last + step * called  # the number after those that it has given, also where that is too high
    following: int | None = left
    if left > sign * (found.high if sign > 0 else found.low):
        following = sign * (found.low if sign > 0 else found.high) if found.cycles else None
    if following is not None and not low <= following <= high:
        following = None
    if highest is None or (following is not None and following > highest + room * step):
        return Standing(following, highest, following, following, sign, last)
    least = _first(left, highest, step, high)
    if least is None and following is not None and following > highest:
        least = following
    # Where a type has little left, half of that.
    wanted = _first(left, highest + min(room * step, (high - highest) // 2), step, high)
    return Standing(following, highest, least if wanted is None else wanted, least, sign, last)


def _extreme(used: Used, sign: int) -> Composable:
    """The highest number of a column, or the lowest, as a whole number that is not below it, or above.

    Of the column as it is, and its type is changed after that: so an index has it.
    """
    value: Composable = Identifier(used.column)
    conditions: list[Composable] = []
    pattern, negated = ("", False) if used.numbers is None else (used.numbers.pattern, used.numbers.negated)
    if pattern:
        part = SQL("substring({} FROM {})").format(value, Literal(pattern))
        value = SQL("substring({} FROM {})::numeric").format(part, Literal(_IN_TEXT))
    elif used.type == "numeric":
        conditions.append(SQL("{} > '-Infinity' AND {} < 'Infinity'").format(value, value))
    if negated:
        conditions.append(SQL("{} < 0").format(value))
    if used.where is not None:
        conditions.append(SQL("{}::text = {}").format(Identifier(used.where[0]), Literal(used.where[1])))
    if used.target.agent is not None:  # it leads the key: the rows of others have numbers of their own
        conditions.append(SQL("{} = {}").format(Identifier(AGENT), Literal(used.target.agent)))
    whole = SQL("ceil(max({})::numeric)" if (sign > 0) is not negated else "floor(min({})::numeric)").format(value)
    return SQL("(SELECT {} FROM {}{})").format(
        SQL("-{}").format(whole) if negated else whole,
        Identifier(used.target.schema, used.target.name),
        SQL(" WHERE {}").format(SQL(" AND ").join(conditions)) if conditions else SQL(""),
    )


def _bounds(found: Found, sign: int) -> tuple[int, int]:
    """The lowest and the highest number, as if it counted up, that it may give and its columns can hold."""
    limits = [(found.low, found.high), *(used.limits for used in found.used if used.limits is not None)]
    low, high = max(low for low, _ in limits), min(high for _, high in limits)
    return (low, high) if sign > 0 else (-high, -low)


def _first(left: int, above: int, step: int, high: int) -> int | None:
    """The first number above one that a sequence would come to by itself: one that gives each tenth number, because
    others give those between, goes on to do so. None before ``left``; None if there is none up to ``high``.
    """
    wanted = max(left, left - (left - above - 1) // step * step)
    return wanted if wanted <= high else None


def set_all(
    connection: psycopg.Connection[Any],
    source: Path,
    targets: Sequence[Target],
    free: FreeSequences,
    room: int = HEADROOM,
) -> str:
    """Set each sequence that a source's columns have, or of which they are known; returns what to say of it.

    ``free``: what is known of sequences that no column has (:func:`known`). ``room``: the headroom. Raises
    ``SinkError`` if the numbers of one are used up or it may not be altered, psycopg's errors, ``SourceError``.
    """
    found = find(connection, source, targets, free)
    used = [each for each in found if each.used]
    count = 0
    with connection.transaction():
        cursor = RawCursor(connection)
        before = cursor.execute("SELECT current_setting('lock_timeout')").fetchone()
        assert before is not None
        cursor.execute(_LIMIT, (f"{LOCK_SECONDS}s",))
        for each, first in zip(used, stand(connection, used, room), strict=True):
            if _require_numbers(each, first).ahead:
                continue
            _require_ours(each)
            # Changes nothing; from here on nobody takes a number from it.
            cursor.execute(SQL("ALTER SEQUENCE {} INCREMENT BY {}").format(each.sql, Literal(each.increment)))
            there = _require_numbers(each, stand(connection, [each], room)[0])
            if not there.ahead:
                assert there.wanted is not None
                count += 1
                _restart(cursor, each, there.sign * there.wanted)
        cursor.execute(_LIMIT, before)
    said = f"{count:,} of {len(used):,} set"
    if not used:
        said = "no column in Postgres has one"
    elif count < len(used):
        said = f"{said}, the {'other was' if len(used) - count == 1 else 'others were'} above already"
    unset = _unset(found)
    return f"{said}; not set: {', '.join(unset)}" if unset else said


def _restart(cursor: RawCursor[Any], found: Found, number: int) -> None:
    """Have a sequence give this number next, as the one after its last, in the transaction."""
    cursor.execute(SQL("ALTER SEQUENCE {} RESTART WITH {}").format(found.sql, Literal(number)))
    last = number - found.increment
    if found.low <= last <= found.high:  # what was restarted in this transaction is set in it, too
        name = Literal(found.sql.as_string(cursor))
        cursor.execute(SQL("SELECT setval({}, {}, true)").format(name, Literal(last)))


def _unset(found: Iterable[Found]) -> list[str]:
    """What is not set, with the reason where something is said of it."""
    return [each.name for each in found if each.free and not each.used and not each.unknown] + [
        f"{each.name} (no whole numbers of this source in {', '.join(each.unknown)})" for each in found if each.unknown
    ]


def _require_numbers(found: Found, there: Standing) -> Standing:
    if there.spent:
        detail, step = _spent(found, there)
        raise SinkError("set sequences", f"{found.schema}.{found.name}", detail, next_step=step)
    return there


def _spent(found: Found, there: Standing) -> tuple[str, str]:
    """What to say of one whose numbers are used up, and what makes more."""
    _, high = _bounds(found, there.sign)
    highest = there.highest if there.highest is not None else there.sign * there.last
    detail = (
        f"the numbers of {found.label} are used up: the last one that there may be is {there.sign * high}, "
        f"and {there.sign * highest} was given"
    )
    narrow = [used for used in found.used if used.type in ("int2", "int4")]
    steps = [
        f'ALTER TABLE "{used.target.schema}"."{used.target.name}" ALTER COLUMN "{used.column}" TYPE bigint'
        for used in narrow
    ]
    bound = "NO MAXVALUE" if there.sign > 0 else "NO MINVALUE"
    if (found.high if there.sign > 0 else -found.low) < 2**63 - 1:
        steps.append(f'ALTER SEQUENCE "{found.schema}"."{found.name}" AS bigint {bound}')
    return detail, "; ".join(steps) or "give its rows lower numbers in the source"


def _require_ours(found: Found) -> None:
    if not found.ours:
        raise SinkError(
            "set sequences",
            f"{found.schema}.{found.name}",
            f"it belongs to the role {found.owner}, and only that may set it",
            next_step=_grant(found),
        )


def _grant(found: Found) -> str:
    return f'as an administrator: GRANT "{found.owner}" TO the user that the mirror connects as'


def judge(
    found: Readiness,
    connection: psycopg.Connection[Any],
    source: Path,
    targets: Sequence[Target],
    free: FreeSequences,
    acknowledged: Collection[str],
) -> None:
    """Add a guard rail for each sequence of a source, and a note with those that are not set.

    ``free``: what is known of those that no column has (:func:`known`).

    One that does not hold and can be set is a note if ``sequences`` is acknowledged. Raises psycopg's errors,
    ``SourceError``.
    """
    listed = find(connection, source, targets, free)
    used = [each for each in listed if each.used]
    for each, there in zip(used, stand(connection, used), strict=True):
        _judge(found, connection, each, there, known=NAME in acknowledged)
    if unset := _unset(listed):
        figure = "no column has them, so a move does not set them: "
        step = 'name their columns in mirror.json: "cutover": {"sequences": {"NAME": ["table.column"]}}'
        found.add_note(Code.SEQUENCE, "free sequences", (figure, unset, ", "), step=step)


def _judge(found: Readiness, connection: psycopg.Connection[Any], each: Found, there: Standing, *, known: bool) -> None:
    name = f"sequence of {each.label}" if not each.free else f"sequence {each.name} of {each.label}"
    if there.spent:
        found.add(Code.SEQUENCE, name, False, *_spent(each, there))
        return
    if not each.ours and not there.ahead:
        figure = f"it belongs to the role {each.owner}, and only that may set it"
        found.add(Code.SEQUENCE, name, there.right, figure, _grant(each))
        return
    following = "nothing" if there.next is None else str(there.sign * there.next)
    highest = "none" if there.highest is None else str(there.sign * there.highest)
    figure = f"gives {following} next, the {'highest' if there.sign > 0 else 'lowest'} value is {highest}"
    if known and not there.right:
        assert there.wanted is not None
        figure += f": it is set to {there.sign * there.wanted} at the switch, or above"
        found.rails.append(Check(Code.SEQUENCE, name, "note", figure))
        return
    step = ""
    if not there.right:
        assert there.least is not None
        step = (
            SQL("SELECT setval({}, {}, false)")
            .format(Literal(each.sql.as_string(connection)), Literal(there.sign * there.least))
            .as_string(connection)
        )
    found.add(Code.SEQUENCE, name, there.right, figure, step)
