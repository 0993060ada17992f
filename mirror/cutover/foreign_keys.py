"""Foreign keys: which rows refer to none, by SQLite's comparison, and what makes the key in Postgres.

SQLite compares with the affinity and the collation of the column that is referred to, Postgres with one equality of one
type. Where these differ a foreign key of Postgres would refuse rows that SQLite takes: then there is no statement, but
the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from psycopg.sql import SQL, Composable, Identifier

from mirror.core.words import counted
from mirror.cutover.breaches import rows_without
from mirror.cutover.held import Held, Place, Rail, folded, names
from mirror.cutover.unique_keys import PlainKey
from mirror.postgres import kinds
from mirror.replica.declared import Reference

#: pg_constraint's letter of an action.
_LETTERS = {"NO ACTION": "a", "RESTRICT": "r", "CASCADE": "c", "SET NULL": "n", "SET DEFAULT": "d"}
_ACTIONS = {
    "RESTRICT": SQL("RESTRICT"),
    "CASCADE": SQL("CASCADE"),
    "SET NULL": SQL("SET NULL"),
    "SET DEFAULT": SQL("SET DEFAULT"),
}
_EVENTS = {"DELETE": SQL("DELETE"), "UPDATE": SQL("UPDATE")}
_SETTING = ("SET NULL", "SET DEFAULT")
#: Codecs that only say why a column has its type.
_PLAIN = {kinds.FOUND: "", kinds.NUMBER: ""}
_NUMBERS = ("bigint", "double precision", "numeric")
#: A text, as ``{0}``, as the number that SQLite's affinity makes of it; NULL if it makes none.
_AS_NUMBER = SQL(
    "CASE WHEN {0} ~ '^[ \\t\\n\\v\\f\\r]*[+-]?([0-9]{{1,40}}[.]?[0-9]{{0,40}}|[.][0-9]{{1,40}})"
    "([eE][+-]?[0-9]{{1,2}})?[ \\t\\n\\v\\f\\r]*$' THEN btrim({0}, E' \\t\\n\\v\\f\\r')::numeric END"
)


class ForeignKeys:
    """Judges the foreign keys of tables."""

    def __init__(self, place: Place, tables: Mapping[str, Held], unique: Collection[PlainKey]) -> None:
        """``tables``: by name in the source, lower case. ``unique``: what a key of Postgres can refer to."""
        self._place = place
        self._tables = tables
        self._unique = unique
        self.rail = Rail()

    def judge(self, tables: Iterable[Held]) -> Rail:
        """What is there and what is missing. Raises psycopg's errors."""
        for held in tables:
            for reference in held.declared.references:
                self.rail.total += 1
                self._judge(held, reference)
        return self.rail

    def _judge(self, held: Held, reference: Reference) -> None:
        rail, label = self.rail, f"{held.name}({', '.join(reference.columns)}) to {reference.referred}"
        other = self._tables.get(reference.referred.lower())
        if other is None:
            rail.cannot(label, "there is no such table in Postgres")
            return
        wanted = reference.referred_columns or other.declared.primary_key
        try:
            pairs = list(zip(reference.columns, wanted, strict=True))
            ours = [held.column(name) for name in reference.columns]
            theirs = [other.column(name) for name in wanted]
        except (KeyError, ValueError):
            rail.cannot(label, "it does not have these columns")
            return
        joined: list[Composable] = [SQL("r.{0} = t.{0}").format(Identifier(name)) for name in self._place.led]
        for child, parent in pairs:
            test = compared(held, child, other, parent)
            if test is None:
                what = f"{held.type_of(held.column(child))} with {other.type_of(other.column(parent))}"
                rail.cannot(
                    label,
                    f"Postgres does not compare {what} as SQLite does, so rows that refer to none were not looked for "
                    "(PRAGMA foreign_key_check in SQLite finds them)",
                )
                return
            joined.append(test)
        keys = [SQL("t.{}").format(Identifier(name)) for name in ours]
        place = self._place
        orphans = rows_without(place.connection, place.table(held), keys, place.owned, place.table(other), joined)
        if orphans:
            rail.broken.append(f"{label}: {counted(orphans.count, 'orphan')}: {orphans.named}")
        self._make(held, other, reference, label, pairs, ours, theirs, orphaned=bool(orphans))

    def _make(
        self,
        held: Held,
        other: Held,
        reference: Reference,
        label: str,
        pairs: list[tuple[str, str]],
        ours: list[str],
        theirs: list[str],
        *,
        orphaned: bool,
    ) -> None:
        led, rail = self._place.led, self.rail
        reason = _unlike(held, other, pairs) or self._no_actions(held, reference)
        if not reason and not _is_key(other, [parent for _, parent in pairs]):
            reason = "SQLite finds no key of these columns in it, and refuses to write (foreign key mismatch)"
        wanted = None if reason else _as_stored(reference, led, ours, other, theirs)
        if wanted is not None and any(_shape(each) == wanted for each in held.refs):
            return
        if not reason and (other.target, frozenset([*led, *theirs])) not in self._unique:
            reason = (
                f"it needs a unique index on {other.target} ({', '.join([*led, *theirs])}), which cannot be made yet"
            )
        if not reason and orphaned:
            reason = "rows that refer to none come first"
        if reason:
            rail.cannot(label, reason)
            return
        added = SQL("ADD FOREIGN KEY ({}) REFERENCES {} ({})").format(
            names([*led, *ours]), self._place.table(other), names([*led, *theirs])
        )
        for event, action in (("DELETE", reference.on_delete), ("UPDATE", reference.on_update)):
            if action != "NO ACTION":
                added += SQL(" ON {} {}").format(_EVENTS[event], _ACTIONS[action])
                if led and action in _SETTING:
                    added += SQL(" ({})").format(names(ours))
        if reference.deferred:
            added += SQL(" DEFERRABLE INITIALLY DEFERRED")
        # One on the same columns that does something else must not stay beside it.
        alone = [each.columns for each in held.declared.references].count(reference.columns) == 1
        steps = [
            SQL("DROP CONSTRAINT {}").format(Identifier(each["name"]))
            for each in held.refs
            if alone and wanted is not None and _shape(each)[:2] == wanted[:2]
        ]
        made = SQL("ALTER TABLE {} {}").format(self._place.table(held), SQL(", ").join([*steps, added]))
        rail.make(label, self._place.sql(made))

    def _no_actions(self, held: Held, reference: Reference) -> str:
        """Why Postgres cannot do what SQLite does to the rows that refer to one that goes; empty if it can."""
        if reference.deferred is None:
            return "whether it is DEFERRABLE could not be read"
        if "SET DEFAULT" in (reference.on_delete, reference.on_update):
            defaults = [name for name in reference.columns if held.compared(name).default not in (None, "NULL", "null")]
            if defaults:
                return f"SET DEFAULT needs the DEFAULT of {', '.join(defaults)}, which Postgres does not have"
        if self._place.led and reference.on_update in _SETTING:
            return f"ON UPDATE {reference.on_update} would take the row from its agent"
        return ""


def compared(held: Held, child: str, other: Held, parent: str) -> Composable | None:
    """When a row ``r`` of ``other`` is the one that a row ``t`` refers to, by SQLite's rules; None: not known."""
    ours, theirs = held.column(child), other.column(parent)
    codecs = [_PLAIN.get(codec, codec) for codec in (held.codecs.get(ours, ""), other.codecs.get(theirs, ""))]
    if held.is_lossy(ours) or other.is_lossy(theirs) or codecs[0] != codecs[1]:
        return None
    left: Composable = SQL("t.{}").format(Identifier(ours))
    right: Composable = SQL("r.{}").format(Identifier(theirs))
    by = other.compared(parent)
    types = held.type_of(ours), other.type_of(theirs)
    match types:
        case ("text", "text"):
            if by.collation not in ("BINARY", "NOCASE", "RTRIM"):
                return None
            left, right = folded(left, by.collation), folded(right, by.collation)
        case ("jsonb", "jsonb"):
            if by.collation != "BINARY" or by.affinity not in ("BLOB", held.compared(child).affinity):
                return None
        case ("bigint", "text") if by.affinity == "TEXT":
            left = SQL("{}::text").format(left)
        case ("text", "bigint") if by.affinity != "BLOB":
            left = _AS_NUMBER.format(left)
        case ("jsonb", "bigint") if by.affinity != "BLOB":
            number, text = SQL("to_jsonb({})").format(right), SQL("({} #>> '{{}}')").format(left)
            return SQL(
                "CASE jsonb_typeof({}) WHEN 'number' THEN {} = {} WHEN 'string' THEN {} = {} ELSE false END"
            ).format(left, left, number, _AS_NUMBER.format(text), right)
        case ("jsonb", "text") if by.affinity == "TEXT" and by.collation == "BINARY":
            return SQL("jsonb_typeof({0}) IN ('number', 'string') AND ({0} #>> '{{}}') = {1}").format(left, right)
        case ("bigint", "jsonb") if by.affinity != "TEXT":
            left = SQL("to_jsonb({})").format(left)
        case ("text", "jsonb") if by.affinity in ("TEXT", "BLOB") and by.collation == "BINARY":
            left = SQL("to_jsonb({})").format(left)
        case _ if types[0] != types[1] and not (types[0] in _NUMBERS and types[1] in _NUMBERS):
            return None
    return SQL("{} = {}").format(right, left)


def _unlike(held: Held, other: Held, pairs: list[tuple[str, str]]) -> str:
    """Why a foreign key of Postgres would not compare as SQLite does; empty if it would."""
    for child, parent in pairs:
        ours, theirs = held.column(child), other.column(parent)
        types, collation = (held.type_of(ours), other.type_of(theirs)), other.compared(parent).collation
        if types[0] != types[1]:
            return f"Postgres does not compare {types[0]} with {types[1]} in a foreign key as SQLite does"
        if types[0] in ("text", "jsonb") and collation != "BINARY":
            return (
                f"{parent} is compared by {collation}, which no foreign key of Postgres does: it would refuse rows "
                "that SQLite takes; a trigger can hold it, or programs write the very text that is referred to"
            )
    return ""


def _is_key(other: Held, columns: list[str]) -> bool:
    """Whether columns are what SQLite lets a foreign key refer to: a key, with the columns' own collations."""
    wanted = {name.lower() for name in columns}
    if wanted == {name.lower() for name in other.declared.primary_key} and other.declared.given_id is not None:
        return True
    return any(
        index.unique
        and not index.partial
        and {(part.column or "").lower() for part in index.parts} == wanted
        and all(part.column and part.collation == other.compared(part.column).collation for part in index.parts)
        for index in other.declared.indexes
    )


#: Pairs of columns, the table, ON DELETE, ON UPDATE, the columns that are set, whether it is deferred.
_Shape = tuple[frozenset[tuple[str, str]], str, str, str, frozenset[str], bool]


def _shape(ref: Mapping[str, Any]) -> _Shape:
    """A foreign key of Postgres."""
    pairs = frozenset(zip(ref["columns"], ref["referred_columns"], strict=True))
    return pairs, ref["referred"], ref["on_delete"], ref["on_update"], frozenset(ref["set"]), ref["deferred"]


def _as_stored(reference: Reference, led: list[str], ours: list[str], other: Held, theirs: list[str]) -> _Shape:
    """What Postgres has once the statement has run."""
    pairs = frozenset(zip([*led, *ours], [*led, *theirs], strict=True))
    some = frozenset(ours) if led and reference.on_delete in _SETTING else frozenset[str]()
    actions = _LETTERS[reference.on_delete], _LETTERS[reference.on_update]
    return pairs, other.target, *actions, some, bool(reference.deferred)
