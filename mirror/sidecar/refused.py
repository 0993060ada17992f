"""Refused tables for people: those with one cause are one line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from mirror.core.errors import RECOVER
from mirror.core.words import RENAME, counted

#: Tables that are named, of many.
_NAMED = 5


class Refused(Protocol):
    """A table that Postgres does not take as it is, and why: a saved refusal, or one of a status report."""

    @property
    def table(self) -> str: ...  # noqa: D102

    @property
    def reason(self) -> str: ...  # noqa: D102

    @property
    def next_step(self) -> str: ...  # noqa: D102

    @property
    def own_schema(self) -> bool: ...  # noqa: D102


class Cause(msgspec.Struct, frozen=True):
    """Why some tables are refused."""

    tables: tuple[str, ...]
    reason: str
    """Of several tables, with *each* in place of the table's own name."""
    next_step: str
    own_schema: bool

    @property
    def is_damage(self) -> bool:
        """Whether it is the file: it is no fault of Postgres."""
        return self.next_step.startswith(RECOVER)

    @property
    def said(self) -> str:
        """Which tables it is about, and what is wrong with them."""
        return f"{'' if self.is_damage else 'Postgres refuses '}{self.named}: {self.reason}"

    def advice(self, options: str, own_schema: str) -> str:
        """What a person can do; empty: nothing is known.

        ``options``: what a command needs besides the source's name, with a space in front. ``own_schema``: the command
        that gives the source a schema of its own.
        """
        if not self.own_schema:
            return self.next_step
        if self.next_step.startswith(RENAME):
            return f"if the file was moved: `{self.next_step}{options}`; if it is another one: `{own_schema}`"
        return f"`{own_schema}`"

    @property
    def named(self) -> str:
        """The tables; their number first, and only some by name, where they are many."""
        if len(self.tables) == 1:
            return self.tables[0]
        more = f" and {len(self.tables) - _NAMED:,} more" if len(self.tables) > _NAMED else ""
        return f"{counted(len(self.tables), 'table')}: {', '.join(self.tables[:_NAMED])}{more}"


def causes(refusals: Iterable[Refused], schema: str) -> list[Cause]:
    """The refusals of a source, put together by their cause, in the order of the first of each.

    ``schema``: of the source's tables.
    """
    groups: dict[tuple[str, str, bool], list[Refused]] = {}
    for refusal in refusals:
        own = f"{schema}.{refusal.table}"
        cause = refusal.reason.replace(own, "each"), refusal.next_step.replace(own, "each"), refusal.own_schema
        if refusal.next_step.startswith(RENAME):  # the same source has them all
            cause = next((known for known in groups if known[1] == refusal.next_step), cause)
        groups.setdefault(cause, []).append(refusal)
    return [
        Cause((group[0].table,), group[0].reason, group[0].next_step, own_schema)
        if len(group) == 1
        else Cause(tuple(each.table for each in group), reason, step, own_schema)
        for (reason, step, own_schema), group in groups.items()
    ]


def renamings(refusals: Iterable[Refused], options: str) -> list[str]:
    """The commands that have a source take over what it had under another path, where that file is not there any more.

    ``options``: as for :meth:`Cause.advice`.
    """
    steps = dict.fromkeys(each.next_step for each in refusals if each.next_step.startswith(RENAME))
    return [f"{step}{options}  # if the file was moved" for step in steps]
