"""What is news of a source: from what Postgres held of it before and after, the lines of the log, and what they count.

Pure. A line says one kind of event, of however many rows, columns or tables. The log shows nothing of rows but the
kind of a value, a key of numbers, and of a row that is rejected the key, or its beginning.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from mirror.core.literals import shortened
from mirror.core.rows import SchemaChange
from mirror.core.status import EventsReport, GapReport, WideningReport, named
from mirror.core.tables import ANY_TEXT, ANY_VALUE
from mirror.core.words import amount, counted, duration
from mirror.postgres.codecs import from_json

if TYPE_CHECKING:
    from mirror.postgres.kept import KeptNames
    from mirror.postgres.ledger import Gap
    from mirror.postgres.refusals import Moved, Refusal
    from mirror.postgres.sink import Sink
    from mirror.postgres.target import Target, TargetColumn, Widening


#: Characters or bytes of each value of a key.
_KEY_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Held:
    """What Postgres holds of a source after a transaction."""

    targets: Mapping[str, Target] = field(default_factory=dict)
    """By source table: where it is stored."""
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    rejects: Mapping[str, int] = field(default_factory=dict)
    not_json: frozenset[tuple[str, str]] = frozenset()
    """Table and column of those declared JSON that have values which are none."""

    @classmethod
    def of(cls, sink: Sink) -> Held:
        """What a session in Postgres knows of it."""
        return cls(sink.mappings, sink.refusals, sink.rejects, sink.not_json)

    @property
    def tables(self) -> set[str]:
        """The source's tables."""
        return {*self.targets, *self.refusals}


class News(NamedTuple):
    """A line of the log."""

    level: Literal["INFO", "WARNING"]
    text: str
    """Without the source's name; empty: it is only counted here."""
    counts: Mapping[str, int] = {}
    """By field of :class:`~mirror.core.status.EventsReport`: how much it adds."""


class Steps(NamedTuple):
    """Commands for the source, to be pasted."""

    list_rejects: str
    retry: str
    status: str


class Renames:
    """Which tables and columns of a source have another name since a transaction, or were made again."""

    def __init__(self, changes: Iterable[SchemaChange]) -> None:
        self.tables: dict[str, str] = {}
        """Old names to new ones."""
        self.rebuilt: list[str] = []
        self._columns: dict[str, dict[str, str]] = {}
        for change in changes:
            if change.after is None or change.before is None:
                continue
            name = change.after.name
            if change.kind == "rebuild":
                self.rebuilt.append(name)
            elif change.before.name != name:
                self.tables[change.before.name] = name
            carried = zip(change.after.columns, change.carried, strict=False) if change.kind == "columns" else ()
            pairs = ((change.before.columns[at].name, column.name) for column, at in carried if at is not None)
            self._columns[name] = {old: new for old, new in pairs if old != new}

    def table(self, name: str) -> str:
        """The name now of a table that was called so."""
        return self.tables.get(name, name)

    def columns(self, table: str) -> Mapping[str, str]:
        """Of a table, by its name now: old names of columns to new ones."""
        return self._columns.get(table, {})


def news(
    before: Held,
    after: Held,
    changes: Sequence[SchemaChange] = (),
    moved: Sequence[Moved] = (),
    *,
    steps: Steps,
    definitions: bool = True,
    kept: KeptNames | None = None,
) -> list[News]:
    """What a transaction has made of ``before``, in the order in which it is to be said.

    ``changes``: of definitions, as far as they are known: without them, what was renamed counts as dropped and added.
    ``moved``: what it has done to rejects, where that is known.
    ``definitions``: whether changed tables and columns are news. ``kept``: what of those that were dropped is kept, and
    under which name; None: not known.
    """
    renames = Renames(changes)
    said: list[News | None] = []
    if definitions and (before.tables != after.tables or before.targets != after.targets or changes):
        said += _of_tables(before, after, renames, kept)
        said += _of_columns(before, after, renames, kept)
    if before.targets != after.targets:
        said += _of_types(before, after, renames, steps, definitions=definitions)
    if before.not_json != after.not_json:
        said += _of_json(before, after, renames)
    said += _of_refusals(before, after, renames)
    said += _of_rejects(before, after, renames, moved, steps)
    return [each for each in said if each is not None]


def stands(held: Held, steps: Steps, *, rejects: int | None, widened: Collection[str]) -> list[News]:
    """What a mirror finds in Postgres when it starts: in one line, as no news, what its predecessor has told of.

    ``rejects``, ``widened``: what that one had told; None: nothing is known of it, so all of this counts as told.
    """
    there = sum(held.rejects.values())
    as_before, said = [], []
    if there and (rejects is None or there <= rejects):
        as_before.append(f"{counted(there, 'row')} that Postgres cannot hold ({named(sorted(held.rejects))})")
    elif there:
        said.append(_rejected(there - (rejects or 0), 0, sorted(held.rejects), None, steps))
    columns = widened_columns(held.targets)
    if old := [name for name in columns if rejects is None or name in widened]:
        since = [f"{name} since {_at(columns[name].since)}" for name in old]
        as_before.append(f"{counted(len(old), 'column')} widened to jsonb ({named(since)})")
    if new := {name: columns[name] for name in columns if name not in old}:
        said.append(_widened(new, steps))
    if as_before:
        said.insert(0, News("INFO", f"as before: {', '.join(as_before)}; `{steps.status}` shows more"))
    return said


def widenings(names: Iterable[str], targets: Mapping[str, Target]) -> list[WideningReport]:
    """What is known of columns (table.column) that are jsonb for values that do not fit."""
    known = widened_columns(targets)
    return [
        WideningReport(column=name)
        if (how := known.get(name)) is None
        else WideningReport(column=name, since=how.since, was=how.was, kind=how.kind, value=how.value, key=how.key)
        for name in names
    ]


def gap_report(gap: Gap) -> GapReport:
    """A recorded gap for the status."""
    at, healed = gap.detected_at.isoformat(timespec="seconds"), gap.healed_at is not None
    return GapReport(
        generation=gap.generation, reason=gap.reason, at=at, healed=healed, rows=gap.rows, seconds=gap.seconds
    )


def widened_columns(targets: Mapping[str, Target]) -> dict[str, Widening]:
    """By table.column: how columns came to be jsonb, of those that were not at first."""
    return {
        f"{table}.{column.source}": column.widened
        for table in sorted(targets)
        for column in targets[table].columns
        if column.widened is not None
    }


# -- tables and columns --------------------------------------------------------------------------------


def _of_tables(before: Held, after: Held, renames: Renames, kept: KeptNames | None) -> Iterable[News | None]:
    were = {renames.table(name) for name in before.tables}
    renamed = [f"{old} is {new} now" for old, new in sorted(renames.tables.items()) if new in after.tables]
    yield _line("table", "renamed", renamed, "tables_renamed")
    rebuilt = sorted(name for name in renames.rebuilt if name in after.targets)
    yield _line("table", "made again with another definition", rebuilt, "tables_rebuilt")
    yield _line("new table", "", sorted(after.tables - were), "tables_added")
    dropped = sorted(were - after.tables)
    yield from _dropped("table", {name: (kept or {}).get((name, None), "") for name in dropped}, "tables_dropped")
    for old, new in _pairs(before, after, renames):
        if old.key is not None and new.key is None:
            yield News("INFO", f"{new.source} has NULL in its primary key: its key in Postgres is _rowid now")


def _of_columns(before: Held, after: Held, renames: Renames, kept: KeptNames | None) -> Iterable[News | None]:
    added: list[str] = []
    renamed: list[str] = []
    dropped: dict[str, str] = {}
    gone: list[str] = []
    for old, new in _pairs(before, after, renames):
        if old.columns == new.columns:
            continue
        table = new.source
        names = renames.columns(table)
        were = {names.get(column.source, column.source) for column in old.columns}
        there = {column.source for column in new.columns}
        added += [f"{table}.{column.source}" for column in new.columns if column.source not in were]
        for name in sorted(were - there - {*new.omitted}):
            place = (kept or {}).get((table, name), "")
            if not place and (whole := (kept or {}).get((table, None))):  # the whole table was made anew
                place = f"{whole}.{name}"
            if place or kept is None:
                dropped[f"{table}.{name}"] = place
            else:
                gone.append(f"{table}.{name}")
        renamed += [f"{table}.{was} is {now} now" for was, now in names.items() if now in there]
    yield _line("column", "renamed", renamed, "columns_renamed")
    yield _line("new column", "", added, "columns_added")
    yield from _dropped("column", dropped, "columns_dropped")
    yield _line("column", "dropped in SQLite, of which there was no value to keep", gone, "columns_dropped")


def _dropped(what: str, found: Mapping[str, str], counter: str) -> Iterable[News | None]:
    """``found``: the names, and those under which they are kept; empty: not known."""
    kept = [f"{name} as {place}" for name, place in found.items() if place]
    yield _line(what, "dropped in SQLite, and kept in Postgres", kept, counter)
    yield _line(what, "dropped in SQLite", [name for name, place in found.items() if not place], counter)


def _line(what: str, how: str, names: list[str], counter: str) -> News | None:
    if not names:
        return None
    number = "" if len(names) == 1 else f"{len(names):,} "
    words = what if len(names) == 1 else f"{what}s"
    return News("INFO", f"{number}{words}{how and ' ' + how}: {named(names)}", {counter: len(names)})


def _pairs(before: Held, after: Held, renames: Renames) -> Iterable[tuple[Target, Target]]:
    """The tables that were and are stored."""
    for name in sorted(before.targets):
        if (new := after.targets.get(renames.table(name))) is not None and new is not before.targets[name]:
            yield before.targets[name], new


# -- types ---------------------------------------------------------------------------------------------


def _of_types(before: Held, after: Held, renames: Renames, steps: Steps, *, definitions: bool) -> Iterable[News | None]:
    widened: dict[str, Widening] = {}
    narrowed, escaped, changed = [], [], []
    were = {renames.table(name): target for name, target in before.targets.items()}
    for table in sorted(after.targets):
        new, held = after.targets[table], were.get(table)
        if held is new:
            continue
        known = _by_name_now(held, renames.columns(table))
        for column in new.columns:
            name, was = f"{table}.{column.source}", known.get(column.source)
            if column.widened is not None and (was is None or was.type != ANY_VALUE):
                widened[name] = column.widened
            if column.type == ANY_TEXT and (was is None or was.type != ANY_TEXT):
                escaped.append(name)
            if was is None or was.pg_type == column.pg_type:
                continue
            if was.widened is not None:
                narrowed.append(f"{name} is {column.pg_type}")
            elif column.widened is None and definitions:
                changed.append(f"{name} is {column.pg_type} now, and was {was.pg_type}")
    if widened:
        yield _widened(widened, steps)
    if narrowed:
        text = f"{counted(len(narrowed), 'column')} narrow again, as all values fit: {named(narrowed)}"
        yield News("INFO", text, {"columns_narrowed": len(narrowed)})
    if escaped:
        text = (
            "text that Postgres cannot hold as it is (with NUL, or not valid) is shown without that, and kept whole in"
            f" _original: {named(escaped)}"
        )
        yield News("INFO", text, {"columns_escaped": len(escaped)})
    if changed:
        yield News("INFO", f"{counted(len(changed), 'column')} of another type: {named(changed)}")


def _of_json(before: Held, after: Held, renames: Renames) -> Iterable[News]:
    tables = ((renames.table(table), column) for table, column in before.not_json)
    were = {(table, renames.columns(table).get(column, column)) for table, column in tables}
    if found := [f"{table}.{column}" for table, column in sorted(after.not_json - were)]:
        text = (
            f"{counted(len(found), 'column')} declared JSON with values that are no JSON: {named(found)}; in Postgres a"
            " text of them is a JSON string, of which `->` and `->>` give NULL, and `#>> '{}'` the text"
        )
        yield News("WARNING", text, {"columns_not_json": len(found)})


def _by_name_now(target: Target | None, names: Mapping[str, str]) -> dict[str, TargetColumn]:
    return {} if target is None else {names.get(each.source, each.source): each for each in target.columns}


def _widened(columns: Mapping[str, Widening], steps: Steps) -> News:
    found = [f"{name}{_how(how)}" for name, how in columns.items()]
    it, its = ("it", "its") if len(found) == 1 else ("them", "their")
    text = (
        f"{counted(len(found), 'column')} widened to jsonb: {named(found)}; queries that compute with {it} or compare"
        f" {it} need a cast from now on; `{steps.retry}` makes {it} narrow once all {its} values fit again"
    )
    return News("WARNING", text, {"columns_widened": len(found)})


def _how(how: Widening) -> str:
    parts = [f"was {how.was}" if how.was else "", how.kind and f"{how.kind} does not fit", _key(how.key)]
    told = ", ".join(filter(None, parts))
    return f" ({told})" if told else ""


def _key(key: str) -> str:
    """A key of numbers, in words; others are part of a row."""
    values = json.loads(key) if key.startswith("[") else []
    return f"key {', '.join(map(str, values))}" if values and all(type(value) is int for value in values) else ""


# -- what Postgres cannot hold -------------------------------------------------------------------------


def _of_refusals(before: Held, after: Held, renames: Renames) -> Iterable[News]:
    if before.refusals == after.refusals:
        return
    were = {renames.table(name) for name in before.refusals}
    new = [after.refusals[name] for name in sorted(after.refusals) if name not in were]
    if new:  # `mirror up` tells them, with what can be done
        yield News("WARNING", "", {"tables_refused": len(new)})
    if accepted := sorted(name for name in were - after.refusals.keys() if name in after.targets):
        yield News("INFO", f"Postgres accepts {named(accepted)} again", {"tables_accepted": len(accepted)})


def _of_rejects(before: Held, after: Held, renames: Renames, moved: Sequence[Moved], steps: Steps) -> Iterable[News]:
    if before.rejects == after.rejects and not moved:
        return
    were = {renames.table(name): number for name, number in before.rejects.items()}
    known = {each.table: each for each in moved}
    rejected: dict[str, int] = {}
    back: dict[str, int] = {}
    for table in sorted(after.tables & {*were, *after.rejects, *known}):
        more = after.rejects.get(table, 0) - were.get(table, 0)
        found = known.get(table)
        exact = found is not None and found.rejected - found.back == more
        rejected[table] = found.rejected if found is not None and exact else max(0, more)
        back[table] = found.back if found is not None and exact else max(0, -more)
    if some := [table for table, number in rejected.items() if number]:
        first = known.get(some[0])
        lost = sum(known[table].lost for table in some if table in known)
        yield _rejected(sum(rejected.values()), lost, some, first, steps)
    if some := [table for table, number in back.items() if number]:
        number = sum(back.values())
        text = f"{counted(number, 'row')} rejected no more: {named(some)}: in Postgres now, or deleted in SQLite"
        yield News("INFO", text, {"rows_back": number})


def _rejected(number: int, lost: int, tables: list[str], first: Moved | None, steps: Steps) -> News:
    where = named(tables)
    if first is not None and first.reason:
        table = [] if number > 1 and len(tables) == 1 else tables[:1]
        row = ", ".join([*table, *([f"key {_of_row(first.key)}"] if first.key else [])])
        where = ": ".join(filter(None, ([where, "the first one"] if number > 1 else []) + [row, _short(first.reason)]))
    if number == 1:
        gone = "; it was in Postgres until now, and is there no more" if lost else ""
    else:
        gone = f"; {lost:,} of them were in Postgres until now, and are there no more" if lost else ""
    them = "it" if number == 1 else "them"
    text = f"{counted(number, 'row')} rejected, as Postgres cannot hold {them}: {where}{gone}; `{steps.list_rejects}`"
    return News("WARNING", text, {"rows_rejected": number, "rows_lost": lost})


def _of_row(key: str) -> str:
    """The key of a row, for people."""
    values = json.loads(key)
    if isinstance(values, dict):
        return ", ".join(f"{name} {value}" for name, value in values.items())
    try:
        return ", ".join(shortened(from_json(value), _KEY_SHOWN) for value in values)
    except ValueError:  # one that SQLite cannot compute
        return _short(key)


def _short(reason: str, most: int = 160) -> str:
    return reason if len(reason) <= most else f"{reason[:most]}..."


# -- what happens to the mirror ------------------------------------------------------------------------


def added(events: EventsReport, said: Iterable[News]) -> EventsReport:
    """The events and these."""
    counts: dict[str, int] = {}
    for each in said:
        for name, number in each.counts.items():
            counts[name] = counts.get(name, getattr(events, name)) + number
    return EventsReport(**{name: counts.get(name, getattr(events, name)) for name in EventsReport.__struct_fields__})


def compared(size: int, seconds: float, rows: int, *, away: float | None, reason: str, changed: bool) -> str:
    """The line for a comparison of a file of ``size`` bytes that has healed a gap.

    ``away``: seconds for which no mirror ran before; None: one did. ``reason``: why it was compared. ``changed``:
    whether the file was another than its copy.
    """
    cost = f"compared the file ({amount(size)}, {duration(seconds)})"
    found = f"{counted(rows, 'row')} sent. Nothing was lost" if changed else "and nothing had changed"
    if away is not None:
        return f"caught up after {duration(away)} away: {cost}, {found}"
    return f"caught up: {cost}, as {reason}; {found}"


def _at(since: float) -> str:
    return f"{datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M} UTC"
