"""What an operator should know of the rules in mirror.json: those that mean nothing, what is left out without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mirror.core.inherited import Known, withheld
from mirror.core.rules import OMIT, Rules, folded
from mirror.core.status import RuleReport
from mirror.core.tables import Table

if TYPE_CHECKING:
    from mirror.sqlite.decode.schema import Schema


def rule_notes(rules: Rules, schema: Schema, profile: str | None, agent: str | None) -> list[RuleReport]:
    """The notes on ``rules``, those of mirror.json. ``schema``: the source's, read by what is followed of them."""
    if not rules:
        return []
    if not rules.of(profile, agent):
        detail, step = "the tables of an agent follow no rules of mirror.json", "leave the agent out, or the rules"
        return [RuleReport(rule="all", detail=detail, next_step=step)]
    inherited = [(f"{table.name}.{name}", rule) for table in schema.tables.values() for name, rule in table.inherited]
    return [
        *_inherited(inherited),
        *_without_column(rules, schema, {rule for _, rule in inherited}),
        *_virtual(rules, schema),
    ]


def _inherited(inherited: list[tuple[str, str]]) -> Iterator[RuleReport]:
    for name, rule in sorted(inherited):
        detail = f"left out as {rule} was: it has its values, or may have them"
        step = f'write into mirror.json what {name} is: "omit", or a type if it is to be mirrored'
        yield RuleReport(rule=name, detail=detail, next_step=step)


def _without_column(rules: Rules, schema: Schema, followed: set[str]) -> Iterator[RuleReport]:
    """Rules for columns that are none of the source, or of a primary key."""
    keys, names = set[str](), set[str]()
    for table in schema.tables.values():
        keys |= {folded(f"{table.name}.{name}") for name in table.primary_key}
        names |= {folded(f"{table.name}.{column.name}") for column in table.declared.columns}
    computed = {folded(f"{t.name}.{name}") for t in schema.tables.values() for name in t.declared.left_out}
    passed = {folded(name) for name in followed}
    for name in sorted(rules.columns):
        if folded(name) in keys:
            detail = f"no column {name} outside of a primary key: those of a key are mirrored as they are"
            step = "take the rule out of mirror.json; a key that may not be in Postgres has to be another one in SQLite"
        elif folded(name) in names | passed or (folded(name) in computed and rules.columns[name] == OMIT):
            continue
        else:
            detail = f"no column {name} in the source, so the rule means nothing"
            step = "write it as SQLite has it, TABLE.COLUMN, or take it out of mirror.json"
        yield RuleReport(rule=name, detail=detail, next_step=step)


def _virtual(rules: Rules, schema: Schema) -> Iterator[RuleReport]:
    there = {folded(virtual.name): virtual for virtual in schema.virtual}
    for name in sorted(rules.tables):
        virtual = there.get(folded(name))
        if virtual is None:
            detail = f"no virtual table {name} in the source, so the rule means nothing"
            step = "write it as SQLite has it, or take it out of mirror.json; ordinary tables need no rule"
        elif virtual.obstacle:
            detail, step = f"{virtual}: {virtual.obstacle}", "take the rule out of mirror.json"
        else:
            continue
        yield RuleReport(rule=name, detail=detail, next_step=step)


def begun(before: Schema, after: Schema) -> list[RuleReport]:
    """The columns that were mirrored and that a rule leaves out, because they have another name now."""
    omitting = [table for table in after.tables.values() if table.omitted]
    found = []
    for table in before.tables.values() if omitting else ():
        known = Known.of(table, before.rules)
        found += [_begun(table, each, sorted(out)) for each in omitting if (out := withheld(known, each))]
    return found


def _begun(table: Table, now: Table, names: list[str]) -> RuleReport:
    were = ", ".join(f"{table.name}.{name}" for name in names)
    detail = f"its values were in Postgres as {were} until it got this name; no copy of them is kept there"
    step = "tell whoever may have read them; a program that fills the new table in the same transaction avoids it"
    return RuleReport(rule=", ".join(f"{now.name}.{name}" for name in now.omitted), detail=detail, next_step=step)
