"""All values of a source against the columns that they go to: what does not fit, and why, before anything is copied.

Each table is read once; a second time only those columns of which the form was decided by what the first time has shown
(units of numbers that are times), and those in which a constraint of Postgres seems to be broken.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from mirror.adoption.columns import PLAIN, ColumnScan, Finding, KeyAt, form_of_declaration, image_of
from mirror.adoption.source import Part, Source, shown_key
from mirror.core.adopted import Form, Unit, form_of_codec
from mirror.core.tables import Table, TableMapping
from mirror.postgres.adopted.found import FoundTable, UniqueKey, plain
from mirror.postgres.adopted.giving_back import SEVERAL

_Hashes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Plan:
    """A table that is to be adopted."""

    mapping: TableMapping
    found: FoundTable
    uniques: tuple[tuple[str, ...], ...] = ()
    """The columns of the source's unique keys."""

    @property
    def table(self) -> Table:
        """The source's."""
        return self.mapping.table

    @property
    def sources(self) -> dict[str, str]:
        """By column in Postgres, the one of the source."""
        pairs = zip(self.table.columns, self.mapping.columns, strict=True)
        return {target.name: column.name for column, target in pairs}

    @property
    def forms(self) -> dict[str, Form]:
        """By the source's column."""
        pairs = zip(self.table.columns, self.mapping.columns, strict=True)
        return {column.name: form_of_codec(target.codec) for column, target in pairs}


@dataclass(slots=True)
class Scan:
    """What was found in one table."""

    rows: int = 0
    findings: list[Finding] = field(default_factory=list)
    units: dict[str, Unit] = field(default_factory=dict)
    """By column of times and intervals, the unit that its values say."""
    undecided: dict[str, str] = field(default_factory=dict)
    """By column, what the values are that do not say it."""
    only: dict[str, str] = field(default_factory=dict)
    """By column of the key, the form of its values."""
    written: dict[str, str] = field(default_factory=dict)
    """By column, the form that most values have."""
    unchecked: list[str] = field(default_factory=list)
    """Constraints of Postgres that were not tried, each with why."""
    error: str = ""
    """Why it could not be read."""


@dataclass(slots=True)
class _Watched:
    """Columns of which the values are compared among rows."""

    columns: tuple[str, ...]
    images: list[Callable[[Any], Any] | None]
    hashes: list[_Hashes] = field(default_factory=list)

    def see(self, part: Mapping[str, Sequence[Any]]) -> None:
        """Take the next rows."""
        self.hashes.append(self.of(part)[0])

    def of(self, part: Mapping[str, Sequence[Any]]) -> tuple[_Hashes, list[int], list[Any]]:
        """The hash of each row that has no NULL, its number and its image."""
        values = [
            part[name] if image is None else list(map(image, part[name]))
            for name, image in zip(self.columns, self.images, strict=True)
        ]
        if len(values) == 1:
            rows: Sequence[Any] = values[0]
            at = [number for number, value in enumerate(rows) if value is not None] if None in rows else None
        else:
            rows = list(zip(*values, strict=True))
            at = [number for number, row in enumerate(rows) if None not in row]
        if at is None:
            at, images = list(range(len(rows))), list(rows)
        else:
            images = [rows[number] for number in at]
        return np.fromiter(map(hash, images), np.int64, len(images)), at, images

    def all(self) -> _Hashes:
        """Those of all rows that were seen."""
        return np.concatenate(self.hashes) if self.hashes else np.empty(0, np.int64)


def scan(source: Source, plans: Sequence[Plan], progress: Callable[[str], object] = str) -> dict[str, Scan]:
    """Read the tables; return what was found, by name. Raises ``SourceError`` if nothing can be read.

    ``progress`` is told the name of each table before it is read.
    """
    scans = {plan.table.name: Scan() for plan in plans}
    watched = _watched(plans, scans)
    for plan in plans:
        progress(plan.table.name)
        found = scans[plan.table.name]
        try:
            _scan_table(source, plan, found, [each for (name, _), each in watched.items() if name == plan.table.name])
        except (apsw.Error, UnicodeDecodeError) as error:
            found.error = f"{type(error).__name__}: {error}"
    readable = [plan for plan in plans if not scans[plan.table.name].error]
    for plan in readable:
        for key in plan.found.uniques:
            _find_duplicates(source, plan, key, watched, scans[plan.table.name])
        _find_orphans(source, plan, {each.mapping.name: each for each in readable}, watched, scans[plan.table.name])
    return scans


def _scan_table(source: Source, plan: Plan, found: Scan, watched: Collection[_Watched]) -> None:
    table, key = plan.table, set(plan.mapping.key or ())
    names = [column.name for column in table.columns]
    columns = [
        ColumnScan(name, form_of_codec(target.codec), not_null=target.not_null, of_key=target.name in key)
        for name, target in zip(names, plan.mapping.columns, strict=True)
    ]
    for part in source.parts(table, names):
        found.rows += len(part.rows)
        seen = part.columns()
        key_at = keys_of(plan, part, names)
        for column, values in zip(columns, seen, strict=True):
            column.see(values, key_at)
        by_name = dict(zip(names, seen, strict=True))
        for each in watched:
            each.see(by_name)
    again: list[ColumnScan] = []
    for at, column in enumerate(columns):
        unit = column.decide_unit()
        if unit is None:
            found.undecided[column.column] = _undecided(column)
        elif unit:
            found.units[column.column] = unit
            target = plan.mapping.columns[at]
            form = replace(column.form, unit=unit)
            again.append(ColumnScan(column.column, form, not_null=target.not_null, of_key=target.name in key))
    decided = {column.column: column for column in again}
    if again:
        read = [*decided, *(plan.sources[name] for name in plan.mapping.key or () if plan.sources[name] not in decided)]
        for part in source.parts(table, read):
            key_at = keys_of(plan, part, read)
            for column, values in zip(again, part.columns(), strict=False):
                column.see(values, key_at)
    for at, column in enumerate(columns):
        last = decided.get(column.column, column)
        form_name = last.decide_form()
        if not last.forms and plan.mapping.columns[at].name in key:
            form_name = form_of_declaration(column.form, table.columns[at])
        if form_name:
            found.only[column.column] = form_name
        if column.form.kind in SEVERAL and (
            name := last.decide_written() or form_of_declaration(column.form, table.columns[at])
        ):
            found.written[column.column] = name
        found.findings += last.findings.values()


def _undecided(column: ColumnScan) -> str:
    if column.form.kind != "interval":
        return f"{column.numbers:,} numbers, at most {column.largest:,.0f}, which may be seconds, or of another unit"
    if column.numbers:
        return f"{column.numbers:,} numbers without a unit"
    return "texts that are not all written in one way that is known"


def keys_of(plan: Plan, part: Part, columns: Sequence[str]) -> KeyAt:
    """Gives the key of each row of a part, as people are told it; ``columns``: those of the part."""
    if plan.mapping.key is None:
        return lambda at: shown_key(part.names[at])
    places = [columns.index(plan.sources[name]) for name in plan.mapping.key]
    return lambda at: shown_key(tuple(part.rows[at][place] for place in places))


# -- constraints -----------------------------------------------------------------------------------------


def _watched(plans: Sequence[Plan], scans: Mapping[str, Scan]) -> dict[tuple[str, tuple[str, ...]], _Watched]:
    """What has to be compared among rows, by table and columns of the source; what cannot be goes into ``scans``."""
    watched: dict[tuple[str, tuple[str, ...]], _Watched] = {}
    by_target = {plan.mapping.name: plan for plan in plans}

    def watch(plan: Plan, names: Sequence[str]) -> None:
        columns = tuple(plan.sources[name] for name in names)
        forms = plan.forms
        place = plan.table.name, columns
        watched.setdefault(place, _Watched(columns, [image_of(forms[column]) for column in columns]))

    for plan in plans:
        unchecked = scans[plan.table.name].unchecked
        for key in plan.found.uniques:
            if why := _not_tried(plan, key):
                unchecked.append(f"unique {key.name}: {why}")
            elif not _is_proved(plan, key):
                watch(plan, plain(key) or ())
        for reference in plan.found.foreign_keys:
            parent = by_target.get(reference.referred) if reference.schema == plan.mapping.schema else None
            if not set(reference.columns) <= set(plan.sources):
                continue  # a column that the source does not have has the same value in all rows
            if parent is None or not set(reference.referred_columns) <= set(parent.sources):
                unchecked.append(f"foreign key {reference.name}: {reference.referred} is not mirrored")
                continue
            watch(plan, reference.columns)
            watch(parent, reference.referred_columns)
        if plan.found.excludes:
            unchecked.append("EXCLUDE: a row that breaks it goes to mirror.rejects")
        for column in plan.found.columns:
            if column.type.checks and column.name in plan.sources:
                unchecked.append(f"domain of {column.name}: {', '.join(column.type.checks)}")
    return watched


def _not_tried(plan: Plan, key: UniqueKey) -> str:
    """Why a unique key is not tried; empty: it is."""
    if plain(key) is None:
        return "it is of an expression"
    if key.condition:
        return f"it is of the rows with {key.condition}"
    if key.nulls_equal and any(not plan.found.column(name).not_null for name in plain(key) or ()):
        return "two NULLs are equal in it"
    return "" if set(plain(key) or ()) <= set(plan.sources) else "it has a column that the source lacks"


def _is_proved(plan: Plan, key: UniqueKey) -> bool:
    """Whether no two rows can be equal in it, because the source has the same columns unique."""
    names = plain(key) or ()
    if plan.mapping.key is not None and set(plan.mapping.key) <= set(names):
        return True  # rows are found by it, so each of its values has one form only
    forms = plan.forms
    columns = {plan.sources[name] for name in names}
    alike = all(forms[column].kind in PLAIN for column in columns)
    return alike and any(set(unique) <= columns for unique in plan.uniques if unique)


def _find_duplicates(
    source: Source,
    plan: Plan,
    key: UniqueKey,
    watched: Mapping[tuple[str, tuple[str, ...]], _Watched],
    found: Scan,
) -> None:
    if _not_tried(plan, key) or _is_proved(plan, key):
        return
    columns = tuple(plan.sources[name] for name in plain(key) or ())
    seen = watched[plan.table.name, columns]
    hashes, counts = np.unique(seen.all(), return_counts=True)
    twice = hashes[counts > 1]
    if not len(twice):
        return
    finding = Finding("duplicate", ", ".join(columns), f"equal to another row in the unique key {key.name}")
    first: set[Any] = set()
    for key_at, at, image in _again(source, plan, seen, twice):
        if image in first:
            finding.add(key_at(at))
        first.add(image)
    if finding.rows:
        found.findings.append(finding)


def _find_orphans(
    source: Source,
    plan: Plan,
    by_target: Mapping[str, Plan],
    watched: Mapping[tuple[str, tuple[str, ...]], _Watched],
    found: Scan,
) -> None:
    for reference in plan.found.foreign_keys:
        parent = by_target.get(reference.referred) if reference.schema == plan.mapping.schema else None
        if parent is None or not set(reference.columns) <= set(plan.sources):
            continue
        if not set(reference.referred_columns) <= set(parent.sources):
            continue
        ours = watched[plan.table.name, tuple(plan.sources[name] for name in reference.columns)]
        theirs = watched[parent.table.name, tuple(parent.sources[name] for name in reference.referred_columns)]
        lacking = np.setdiff1d(ours.all(), theirs.all())
        if not len(lacking):
            continue
        # The two tables were read one after the other: what a row refers to may have come in between.
        there = {image for _, _, image in _again(source, parent, theirs, lacking)}
        finding = Finding("orphan", ", ".join(ours.columns), f"no such row in {parent.table.name} ({reference.name})")
        for key_at, at, image in _again(source, plan, ours, lacking):
            if image not in there:
                finding.add(key_at(at))
        if finding.rows:
            found.findings.append(finding)


def _again(source: Source, plan: Plan, seen: _Watched, wanted: _Hashes) -> Iterator[tuple[KeyAt, int, Any]]:
    """The rows of a table that have one of these hashes: what gives their keys, each one's number there, its image."""
    names = [column.name for column in plan.table.columns]
    for part in source.parts(plan.table, names):
        hashes, numbers, images = seen.of(dict(zip(names, part.columns(), strict=True)))
        key_at = keys_of(plan, part, names)
        for index in np.flatnonzero(np.isin(hashes, wanted)):
            yield key_at, numbers[index], images[index]
