"""A rule that leaves a column out is a promise: it goes with the values when the column or its table gets another name.

SQLite's file does not say what was renamed. A table that keeps its root page and its columns, one by one, was; then the
column at the place of one that was left out has its values. In every other case a column that is new, where one that
was left out is gone, *may* have them, and is left out until a rule says what it is. The other way round, what a rule
begins to leave out may be in Postgres under the name that it had before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mirror.core.rules import Rules, folded
from mirror.core.tables import Table, begin_alike


@dataclass(frozen=True, slots=True)
class Known:
    """A table as it was: in the schema before a commit, or in Postgres."""

    name: str
    shown: tuple[str, ...]
    """Its columns that are mirrored."""
    omitted: Mapping[str, str]
    """Its columns that are left out, with the name of the rule for each."""
    declared: Table | None = None
    """The whole table; None: not known any more."""

    @classmethod
    def of(cls, table: Table, rules: Rules) -> Known:
        """A table that was read by these rules."""
        omitted = {name: rules.omission(table.name, name) for name in table.omitted}
        return cls(table.name, tuple(column.name for column in table.columns), omitted, table.declared)


def inherited(before: Iterable[Known], after: Mapping[str, Table], rules: Rules) -> dict[str, str]:
    """As :attr:`~mirror.core.rules.Rules.inherited`, for the tables ``after`` that come from those ``before``.

    ``rules``: those by which both were read. A column of a primary key cannot be left out, and is never among them.
    """
    before = list(before)
    found: dict[str, str] = {}
    names = {known.name for known in before}
    for known in before:
        if not known.omitted:
            continue
        for table in after.values():
            new = table.name not in names and (known.name not in after or _has_all(known, table))
            if table.name == known.name or _kept_its_root(known, table) or (new and _is_like(known, table)):
                for column, rule in _heirs(known, table):
                    if not rules.of_column(table.name, column) and column not in table.primary_key:
                        found.setdefault(f"{table.name}.{column}", rule)
    return found


def withheld(known: Known, table: Table) -> set[str]:
    """The columns shown of a table that the new state of it, or the table that took its rows, leaves out."""
    omitted = {folded(name) for name in table.omitted}
    if not omitted:
        return set()
    names, own = {folded(name) for name in _names(table)}, {folded(name) for name in (*known.shown, *known.omitted)}
    by_place = _by_place(known, table)
    if not (known.name == table.name or by_place is not None or names == own):
        return set()
    found = {name for name in known.shown if folded(name) in omitted}
    if by_place is not None:
        found |= {old for old, new in by_place if old in known.shown and folded(new) in omitted}
    elif known.name == table.name and omitted - own:
        found |= {name for name in known.shown if folded(name) not in names}
    return found


def _names(table: Table) -> list[str]:
    whole = table.declared
    return [*(column.name for column in whole.columns), *whole.left_out]


def _by_place(known: Known, table: Table) -> list[tuple[str, str]] | None:
    """The old and the new name of each column of a table of which names alone differ; None for another one."""
    if known.declared is None or known.declared.root != table.root:
        return None
    olds, news = known.declared.columns, table.declared.columns
    if len(olds) != len(news) or not begin_alike(olds, news):
        return None
    return [(old.name, new.name) for old, new in zip(olds, news, strict=True)]


def _kept_its_root(known: Known, table: Table) -> bool:
    """Whether a table was renamed. Another one may have taken the root page of one that is gone."""
    return (
        known.declared is not None
        and known.declared.root == table.root
        and (_by_place(known, table) is not None or _is_like(known, table))
    )


def _is_like(known: Known, table: Table) -> bool:
    """Whether a table under another name may have a table's rows: it has its columns, or one that was left out."""
    names = {folded(name) for name in _names(table)}
    return names >= {folded(name) for name in known.shown} or not names.isdisjoint(map(folded, known.omitted))


def _has_all(known: Known, table: Table) -> bool:
    """Whether a new table may be what a table was of which only Postgres knows: it has all columns of it."""
    names = {folded(name) for name in _names(table)}
    return known.declared is None and names >= {folded(name) for name in (*known.shown, *known.omitted)}


def _heirs(known: Known, table: Table) -> Iterator[tuple[str, str]]:
    """The columns that have, or may have, the values of one that was left out, with the rule for that one."""
    names = _names(table)
    rules = {folded(name): rule for name, rule in known.omitted.items()}
    by_place = _by_place(known, table) or []
    for old, new in by_place:
        if folded(old) in rules:
            yield new, rules[folded(old)]
    for name in names:
        if folded(name) in rules:
            yield name, rules[folded(name)]
    there = {folded(name) for name in names}
    gone = [rule for name, rule in rules.items() if name not in there]
    own = {folded(name) for name in (*known.shown, *known.omitted)}
    # Where each column is at its place, or has another name there, nothing was dropped and nothing added.
    exact = bool(by_place) and all(
        folded(old) == folded(new) or (folded(new) not in own and folded(old) not in there) for old, new in by_place
    )
    if gone and not exact:
        for name in names:
            if folded(name) not in own:
                yield name, gone[0]
