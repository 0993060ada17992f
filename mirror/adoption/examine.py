"""How one source goes into an application's tables, and what keeps it from that. Nothing is changed anywhere."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from psycopg.sql import SQL, Identifier

from mirror.adoption.checks import try_checks
from mirror.adoption.present import MOST_ROWS, Present, look
from mirror.adoption.presets import CHECKPOINTS, COPIED, Bookkeeping, Preset, are_checkpoints, find_presets, named
from mirror.adoption.report import Report, TableReport
from mirror.adoption.scan import Plan, Scan, scan
from mirror.adoption.search import find_search
from mirror.adoption.source import Source, open_source
from mirror.core.adopted import Unit
from mirror.core.rules import folded
from mirror.core.words import counted
from mirror.postgres.adopted.catalog import read_tables
from mirror.postgres.adopted.decisions import VERSION, Decisions, of_name
from mirror.postgres.adopted.found import FoundTable
from mirror.postgres.adopted.mapping import TIMES, Mapped, Pairs, Problem, kind_of, map_table, pair_tables
from mirror.postgres.failures import translated
from mirror.postgres.row_security import Secured
from mirror.postgres.target import Conn

_OPERATION = "look at the application's tables"
#: Migrations that are named where the two sides differ.
_NAMED = 5
_NO_TABLE = "{} names a table that the source does not have"


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What was said on the command line."""

    schema: str = "public"
    preset: str | None = None
    """Its name; empty: none; None: those that are found."""
    tables: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    excluded: tuple[str, ...] = ()
    dropped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    units: Mapping[str, Mapping[str, Unit]] = field(default_factory=dict)
    zone: str | None = None
    real_digits: int | None = None
    empty_is_null: bool = False
    replace_rows: bool = False
    after_copy: str = ""
    """SQL to be run once the first copy is in Postgres, and again by the switch."""
    after_copy_file: str = ""


def examine(path: Path, conn: Conn, wishes: Wishes, progress: Callable[[str], object] = str) -> Report:
    """Compare a source with the tables of a schema: what goes where, which values do not fit, which rows are there.

    ``conn``: raw, with the mirror's settings. ``progress`` is told what is being done. Raises ``SourceError`` and
    ``SinkError``.
    """
    with translated(_OPERATION, wishes.schema):
        found = read_tables(conn, wishes.schema)
        ours = _filled(conn, str(path), wishes.schema)
    with open_source(path) as source:
        whole = source.schema()
        presets = _presets(wishes, whole.tables, found)
        report = Report(str(path), _begin(wishes, presets))
        report.presets = tuple(preset.name for preset in presets)
        report.hints = tuple(preset.hint for preset in presets if preset.hint and wishes.zone is None)
        report.virtual = tuple(str(table) for table in whole.virtual)
        if are_checkpoints({name: table.columns for name, table in source.declarations.tables.items()}):
            alone = set(whole.tables) <= CHECKPOINTS.keys()
            _leave_checkpoints(report, alone=alone)
            if alone:
                return report
        pairs = pair_tables(whole.tables, found, report.decisions)
        _take_pairs(report, pairs, whole.tables)
        statements = source.statements
        made_of = {name: text for preset in presets for name, text in preset.made_of.items()}
        report.search = find_search(whole.virtual, statements, statements, pairs.tables, found, made_of)
        if not found:
            detail = f"there is no table of an application in the schema {wishes.schema}"
            step = "run the application's own migrations on this database first, or name its schema with --schema"
            report.problems.insert(0, Problem("blocker", "", "", detail, step))
            return report
        with translated(_OPERATION, wishes.schema):
            _compare_migrations(report, conn, source, presets, found)
        _find_unfinished(report, source, presets)
        _check_units(report, source, found, pairs)
        mapped = _map_all(report, source, pairs, found, presets)
        plans = _plans(report, source, mapped, pairs, found)
        scans = scan(source, plans, progress)
        for plan in plans:
            with translated(_OPERATION, f"{plan.mapping.schema}.{plan.mapping.name}"):
                try_checks(conn, source, plan, scans[plan.table.name])
        _decide(report, plans, scans)
        mapped = _mapped(source, pairs, found, report.decisions)
        for plan in _plans(report, source, mapped, pairs, found):
            name = plan.table.name
            progress(f"{plan.mapping.name} in Postgres")
            present = None
            if plan.found.rows != 0 and not scans[name].error and plan.mapping.name not in ours:
                with translated(_OPERATION, f"{plan.mapping.schema}.{plan.mapping.name}"):
                    present = look(conn, source, plan)
            _take_present(report, name, present)
            computed = report.decisions.computed.get(name, ())
            report.tables.append(_table_report(plan, mapped[name], scans[name], present, computed))
    return report


def _leave_checkpoints(report: Report, *, alone: bool) -> None:
    """LangGraph's checkpointers are not mirrored; ``alone``: there is nothing else in the file."""
    names = tuple(CHECKPOINTS)
    excluded = report.decisions.excluded
    report.decisions = replace(
        report.decisions, excluded=(*excluded, *(each for each in names if each not in excluded))
    )
    detail = (
        "these are LangGraph's checkpointers, which have other tables in Postgres: they cannot be mirrored live, only"
        " copied once, while no program writes"
    )
    step = f"end its programs; then `mirror adopt {shlex.quote(report.source)} --preset {COPIED}` copies them"
    report.problems.append(Problem("blocker" if alone else "note", " and ".join(names), "", detail, step))


def _filled(conn: Conn, path: str, schema: str) -> frozenset[str]:
    """The tables that the mirror of this source fills already: what is there is the source's."""
    if conn.execute("SELECT to_regclass('mirror.tables') IS NULL").fetchone() == (True,):
        return frozenset()
    rows = conn.execute(
        "SELECT t.target_table FROM mirror.tables t JOIN mirror.sources s USING (source_id)"
        " WHERE s.path = $1::text AND t.target_schema = $2::text",
        (path, schema),
    )
    return frozenset(str(name) for (name,) in rows.fetchall())


def _presets(wishes: Wishes, source: Mapping[str, object], found: Mapping[str, FoundTable]) -> list[Preset]:
    if wishes.preset is None:
        return find_presets(source, found)
    preset = named(wishes.preset)
    return [] if preset is None else [preset]


def _begin(wishes: Wishes, presets: Sequence[Preset]) -> Decisions:
    """What is decided before any value was seen: what was said, and else what the first preset says."""
    first = presets[0] if presets else None
    digits = first.real_digits if wishes.real_digits is None and first is not None else wishes.real_digits
    excluded = (*wishes.excluded, *(name for preset in presets for name in preset.excluded))
    return Decisions(
        schema=wishes.schema,
        preset="" if first is None else first.name,
        excluded=tuple(dict.fromkeys(excluded)),
        kept=tuple(dict.fromkeys(name for preset in presets for name in preset.kept)),
        tables=wishes.tables,
        columns=wishes.columns,
        dropped=wishes.dropped,
        zone=wishes.zone or ("UTC" if first is None else first.zone),
        units=wishes.units,
        sequences={name: numbers for preset in presets for name, numbers in preset.sequences.items()},
        rounded=_rounded(presets),
        empty_is_null=wishes.empty_is_null,
        real_digits=digits or 17,
        replace_rows=wishes.replace_rows,
        version=VERSION if wishes.after_copy else 1,
        after_copy=wishes.after_copy,
        after_copy_file=wishes.after_copy_file,
    )


def _rounded(presets: Iterable[Preset]) -> dict[str, tuple[str, ...]]:
    """By table, the columns of which a preset says that its program has them rounded."""
    found: dict[str, tuple[str, ...]] = {}
    for table, column in (each for preset in presets for each in preset.rounded):
        found[table] = (*found.get(table, ()), column)
    return found


def _take_pairs(report: Report, pairs: Pairs, tables: Mapping[str, object]) -> None:
    report.kept = tuple(sorted(name for name, reason in pairs.left_out.items() if reason == "kept"))
    report.excluded = tuple(sorted(name for name, reason in pairs.left_out.items() if reason == "excluded"))
    report.only_in_source, report.only_in_postgres = pairs.only_in_source, pairs.only_in_postgres
    report.problems += pairs.problems
    for name in report.decisions.tables:
        if of_name(tables, name) is None:
            report.problems.append(Problem("blocker", name, "", _NO_TABLE.format("--map"), "correct --map"))
    for name in report.decisions.dropped:
        if of_name(tables, name) is None:
            report.problems.append(Problem("blocker", name, "", _NO_TABLE.format("--drop-column"), "correct it"))


def _compare_migrations(
    report: Report, conn: Conn, source: Source, presets: Sequence[Preset], found: Mapping[str, FoundTable]
) -> None:
    """Both sides must have had the same migrations, where that can be told."""
    for preset in presets:
        book = preset.compared
        if book is None or report.decisions.left_out(book.table) == "excluded":
            continue
        ours = source.texts(book.table, book.columns)
        if (policies := _secured(found, book)) is not None:
            report.problems.append(Problem("blocker", book.table, "", policies.detail, policies.next_step))
            continue
        theirs = _texts(conn, found, book)
        if ours is None or theirs is None:
            where = "the source" if ours is None else f"the schema {report.decisions.schema}"
            detail = f"{where} has no such table: whether both sides have had the same migrations is not known"
            report.problems.append(Problem("note", book.table, "", detail, "make sure that they have"))
        elif ours != theirs:
            sides = (("only the source has", ours - theirs), ("only Postgres has", theirs - ours))
            detail = "; ".join(f"{words} {_listed(rows)}" for words, rows in sides if rows)
            step = f"bring both to the same migrations; or, where their names differ by design, --exclude {book.table}"
            report.problems.append(Problem("blocker", book.table, "", f"other migrations: {detail}", step))


def _find_unfinished(report: Report, source: Source, presets: Iterable[Preset]) -> None:
    """What a program does to its rows after a migration must be done before they are mirrored."""
    for preset in presets:
        book = preset.unfinished
        if book is None or report.decisions.left_out(book.table) == "excluded":
            continue
        if left := source.texts(book.table, book.columns):
            detail = (
                f"work that {preset.name} has not finished in the source, and would not do in Postgres: {_listed(left)}"
            )
            step = f"let it run on the source until the table is empty; or --exclude {book.table}, if that is no matter"
            report.problems.append(Problem("blocker", book.table, "", detail, step))


def _of_book(found: Mapping[str, FoundTable], book: Bookkeeping) -> FoundTable | None:
    return next((each for name, each in found.items() if folded(name) == folded(book.table)), None)


def _secured(found: Mapping[str, FoundTable], book: Bookkeeping) -> Secured | None:
    """Policies that keep the table from the mirror, if there are any."""
    table = _of_book(found, book)
    return None if table is None else table.secured


def _texts(conn: Conn, found: Mapping[str, FoundTable], book: Bookkeeping) -> frozenset[tuple[str, ...]] | None:
    table = _of_book(found, book)
    if table is None or not set(book.columns) <= {column.name for column in table.columns}:
        return None
    listed = SQL(", ").join(SQL("{}::text").format(Identifier(name)) for name in book.columns)
    query = SQL("SELECT {} FROM {}").format(listed, Identifier(table.schema, table.name))
    return frozenset(conn.execute(query).fetchall())


def _listed(rows: frozenset[tuple[str, ...]]) -> str:
    named = [".".join(map(str, row)) for row in sorted(rows, key=lambda row: tuple(map(str, row)))]
    rest = f" and {counted(len(named) - _NAMED, 'other')}" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + rest


def _map_all(
    report: Report, source: Source, pairs: Pairs, found: Mapping[str, FoundTable], presets: Sequence[Preset]
) -> dict[str, Mapped]:
    """Map each table, once it is known which of its columns Postgres computes, and what a preset says of units."""
    report.decisions = _with_units(report.decisions, source, pairs, found, presets)
    first = _mapped(source, pairs, found, report.decisions)
    computed = {name: each.computed for name, each in first.items() if each.computed}
    report.decisions = replace(report.decisions, computed=computed)
    return _mapped(source, pairs, found, report.decisions)


def _mapped(source: Source, pairs: Pairs, found: Mapping[str, FoundTable], decisions: Decisions) -> dict[str, Mapped]:
    tables = source.schema(decisions.rules).tables
    return {
        name: map_table(tables[name], found[target], decisions, source.uniques(name))
        for name, target in pairs.tables.items()
    }


def _with_units(
    decisions: Decisions, source: Source, pairs: Pairs, found: Mapping[str, FoundTable], presets: Sequence[Preset]
) -> Decisions:
    """The units that presets say, of columns of which nobody has said one."""
    epoch: Unit = next((preset.epoch for preset in presets if preset.epoch), "")
    interval: Unit = next((preset.interval for preset in presets if preset.interval), "")
    units: dict[str, dict[str, Unit]] = {name: dict(columns) for name, columns in decisions.units.items()}
    tables = source.schema().tables
    for name, target in pairs.tables.items():
        types = {folded(column.name): column.type for column in found[target].columns}
        for column in tables[name].columns:
            there = folded(decisions.target_column(name, column.name) or column.name)
            kind = kind_of(types[there]) if there in types else None
            unit: Unit = epoch if kind in TIMES else interval if kind == "interval" else ""
            if unit and not decisions.unit_of(name, column.name):
                units.setdefault(name, {})[column.name] = unit
    return replace(decisions, units=units)


def _check_units(report: Report, source: Source, found: Mapping[str, FoundTable], pairs: Pairs) -> None:
    """A unit that was given must be for a column that has one."""
    tables = source.schema().tables
    good: dict[str, dict[str, Unit]] = {}
    for name, columns in report.decisions.units.items():
        table = of_name(tables, name)
        target = None if table is None else pairs.tables.get(table.name)
        for column, unit in columns.items():
            there = report.decisions.target_column(name, column) or column
            types = {} if target is None else {folded(each.name): each.type for each in found[target].columns}
            known = table is not None and any(folded(each.name) == folded(column) for each in table.columns)
            kind = kind_of(types[folded(there)]) if known and folded(there) in types else None
            if kind == "interval" or (kind in TIMES and unit in ("s", "ms", "us")):
                good.setdefault(name, {})[column] = unit
                continue
            wrong = "it is no column of times or intervals that is mirrored"
            wrong = f"{unit} is no unit of times" if kind in TIMES else wrong
            report.problems.append(Problem("blocker", name, column, wrong, "correct --unit"))
    report.decisions = replace(report.decisions, units=good)


def _plans(
    report: Report, source: Source, mapped: Mapping[str, Mapped], pairs: Pairs, found: Mapping[str, FoundTable]
) -> list[Plan]:
    """Those that can be mirrored; the problems of all go into the report."""
    plans = []
    for name, each in mapped.items():
        report.problems += [problem for problem in each.problems if problem not in report.problems]
        if each.mapping is not None:
            plans.append(Plan(each.mapping, found[pairs.tables[name]], tuple(source.uniques(name))))
    return plans


def _decide(report: Report, plans: Sequence[Plan], scans: Mapping[str, Scan]) -> None:
    """What all values together say; where they do not say enough, it is asked for."""
    decisions = report.decisions
    units: dict[str, dict[str, Unit]] = {name: dict(columns) for name, columns in decisions.units.items()}
    only = {name: dict(columns) for name, columns in decisions.only.items()}
    written = {name: dict(columns) for name, columns in decisions.written.items()}
    keys = dict(decisions.keys)
    for plan in plans:
        name, found = plan.table.name, scans[plan.table.name]
        if found.error:
            step = "`mirror doctor` says more of the file; or --exclude it"
            report.problems.append(Problem("blocker", name, "", f"it cannot be read: {found.error}", step))
        for column, what in found.undecided.items():
            kinds = "s, ms, us, datetime, clock, iso" if plan.forms[column].kind == "interval" else "s, ms or us"
            step = f"--unit {name}.{column}=UNIT, with {kinds}"
            report.problems.append(Problem("question", name, column, f"what unit does it have: {what}", step))
        if found.units:
            units[name] = {**(of_name(units, name) or {}), **found.units}
        if found.only:
            only[name] = found.only
        if found.written:
            written[name] = found.written
        keys[name] = None if plan.mapping.key is None else tuple(plan.sources[column] for column in plan.mapping.key)
    report.decisions = replace(decisions, units=units, only=only, written=written, keys=keys)


def _take_present(report: Report, table: str, present: Present | None) -> None:
    if present is None or report.decisions.replace_rows:
        return
    if present.too_many:
        detail = f"there are more than {MOST_ROWS:,} rows in Postgres: whether the source has them was not looked at"
        step = f"--replace-rows, if the source has them, or nobody needs them; or --exclude {table}"
        report.problems.append(Problem("blocker", table, "", detail, step))
    if not present.only_there:
        return
    keys = f": {', '.join(present.keys)}" if present.keys else ""
    detail = f"{counted(present.only_there, 'row')} in Postgres that the source does not have would be deleted{keys}"
    step = f"--replace-rows, if nobody needs them; or --exclude {table}"
    report.problems.append(Problem("blocker", table, "", detail, step))


def _table_report(
    plan: Plan, mapped: Mapped, found: Scan, present: Present | None, computed: Sequence[str]
) -> TableReport:
    return TableReport(
        plan.mapping,
        found.rows,
        present,
        found.findings,
        mapped.only_in_postgres,
        tuple(computed),
        tuple(found.unchecked),
        plan.found.triggers,
    )
