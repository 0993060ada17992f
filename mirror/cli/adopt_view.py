"""What ``mirror adopt`` tells people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from mirror.adoption.columns import Finding
from mirror.adoption.report import Report, TableReport
from mirror.adoption.search import SearchTable
from mirror.cli.output import BAD, GOOD, NOTE, print_line, print_table, text
from mirror.core.commands import command, completed
from mirror.core.words import counted
from mirror.postgres.adopted.mapping import Problem

_QUESTION = Text("?", "yellow")
_MARKS = {"blocker": BAD, "question": _QUESTION, "note": NOTE}
#: What becomes of the rows of a finding.
_WHAT = {
    "reject": "would go to mirror.rejects",
    "loss": "would not be kept as {} in the source",
    "null": "would go to mirror.rejects",
    "check": "would go to mirror.rejects",
    "duplicate": "would go to mirror.rejects",
    "orphan": "would keep the foreign key from being valid in the end",
}
#: Names that are shown of a longer list.
_NAMES = 12


def show(report: Report, console: Console, *, options: str, adopted: bool, restart: Sequence[str] = ()) -> None:
    """Print the report; ``options``: those by which the mirror is reached, ``adopted``: whether it was remembered.

    ``restart``: the commands that end a mirror of the source that runs, and start it again.
    """
    print_line(console, report.source, style="bold")
    if report.presets:
        print_line(console, GOOD, f" preset: {', '.join(report.presets)}")
    for hint in report.hints:
        print_line(console, NOTE, f" {hint}")
    if report.tables:
        _show_tables(report, console)
    for table in report.tables:
        _show_findings(table, console)
    _show_rest(report, console)
    for level in ("note", "question", "blocker"):
        for problem in (each for each in report.problems if each.level == level):
            _show_problem(problem, console, completed(problem.next_step, report.source, options))
    _show_next(report, console, options, adopted=adopted, restart=restart)


def _show_tables(report: Report, console: Console) -> None:
    columns = [Column(name, overflow="fold") for name in ("table", "in Postgres", "key")]
    columns += [Column("rows", justify="right"), Column("there already")]
    shown = Table(*columns, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for table in sorted(report.tables, key=lambda each: each.mapping.table.name):
        mapping = table.mapping
        key = "_rowid, until the end" if mapping.key is None else ", ".join(mapping.key)
        place = text(f"{mapping.schema}.{mapping.name}")
        shown.add_row(text(mapping.table.name), place, text(key), f"{table.rows:,}", text(_present(table)))
    print_table(console, shown)


def _present(table: TableReport) -> str:
    present = table.present
    if present is None or not present.rows:
        return ""
    if present.too_many:
        return "too many to compare"
    words = [f"{counted(present.replaced, 'row')} replaced"] if present.replaced else []
    words += [f"{counted(present.only_there, 'row')} that the source lacks"] if present.only_there else []
    return ", ".join(words)


def _show_findings(table: TableReport, console: Console) -> None:
    name = table.mapping.table.name
    for _, findings in groupby(table.findings, lambda finding: finding.column):
        for finding in findings:
            _show_finding(name, finding, console)
    if table.only_in_postgres:
        print_line(console, NOTE, f" {name}: left to Postgres: {', '.join(table.only_in_postgres)}")
    if table.computed:
        print_line(console, NOTE, f" {name}: computed by Postgres: {', '.join(table.computed)}")
    if table.triggers:
        print_line(console, NOTE, f" {name}: triggers that do not fire for mirrored rows: {', '.join(table.triggers)}")
    for constraint in table.unchecked:
        print_line(console, NOTE, f" {name}: not checked: {constraint}")


def _show_finding(table: str, finding: Finding, console: Console) -> None:
    mark = NOTE if finding.what == "loss" else BAD
    keys = f"; keys: {', '.join(finding.keys)}" if finding.keys else ""
    more = " …" if finding.rows > len(finding.keys) else ""
    place = f"{table}.{finding.column}" if "," not in finding.column else f"{table} ({finding.column})"
    what = _WHAT[finding.what].format("it is" if finding.rows == 1 else "they are")
    said = f" {place}: {counted(finding.rows, 'row')} {what}: {finding.reason}{keys}{more}"
    print_line(console, mark, said)


def _show_rest(report: Report, console: Console) -> None:
    for names, words in (
        (report.kept, "kept, with each side's own rows"),
        (report.excluded, "excluded"),
        (report.only_in_postgres, "only in Postgres, and left alone"),
    ):
        if names:
            rest = f" and {counted(len(names) - _NAMES, 'other')}" if len(names) > _NAMES else ""
            print_line(console, NOTE, f" {words}: {', '.join(names[:_NAMES])}{rest}")
    searched = {f"{table.table} ({table.module})" for table in report.search}
    for name in report.virtual:
        if name not in searched:
            said = f" virtual table {name}: not mirrored; build what takes its place out of the tables in Postgres"
            print_line(console, NOTE, said)
    for table in report.search:
        _show_search(table, console, report.decisions.after_copy_file)
    if report.decisions.after_copy:
        said = f" {report.decisions.after_copy_file} is run in Postgres after the first copy, and again by the switch"
        print_line(console, NOTE, f"{said}: it must be such that it can run twice")


def _show_search(table: SearchTable, console: Console, script: str) -> None:
    """A table of full-text search, and what to do in its place; ``script``: what was given for it."""
    of = f" of {', '.join(table.columns)}" if table.columns else ""
    of += f" in {table.texts_in}" if table.texts_in else ", whose texts it holds itself" if table.holds_texts else ""
    own = f", nor are its tables {', '.join(table.tables)}" if table.tables else ""
    print_line(console, NOTE, f" {table.table} ({table.module}): full-text search{of}: it is not mirrored{own}")
    if table.computed:
        print_line(console, NOTE, f" {table.table}: Postgres computes {', '.join(table.computed)} itself")
    if table.in_postgres:
        names = ", ".join(table.in_postgres)
        step = f"{script} is to fill {names}" if script else f"--after-copy FILE.sql, with SQL that fills {names}"
        example = f", as {table.example}" if table.example and not script else ""
        example += f", out of {table.made_of}" if table.made_of else ""
        print_line(console, f"  next: {step}{example}", style="yellow")
    elif not table.computed:
        step = "look how the application searches there; what must be filled for it, --after-copy FILE.sql fills"
        step = f"{script} is to make what is needed" if script else step
        said = f"Postgres has no table {table.table} and no column of tsvector: {step}"
        print_line(console, f"  next: {said}", style="yellow")


def _show_problem(problem: Problem, console: Console, step: str) -> None:
    place = ".".join(part for part in (problem.table, problem.column) if part)
    print_line(console, _MARKS[problem.level], f" {place}: {problem.detail}" if place else f" {problem.detail}")
    if step:
        print_line(console, f"  next: {step}", style="yellow")


def _show_next(report: Report, console: Console, options: str, *, adopted: bool, restart: Sequence[str]) -> None:
    if not report.can_be_adopted:
        left = sum(problem.level != "note" for problem in report.problems)
        print_line(console, f"Not adopted: {counted(left, 'thing')} to see to first; nothing was changed.")
    elif adopted and restart:
        steps = ", then ".join(f"`{step}`" for step in restart)
        said = "Adopted. The mirror that runs goes by it from its next start on. Next:"
        print_line(console, f"{said} {steps}, with the options with which it was started.")
    elif adopted:
        up = command("up", report.source, options)
        print_line(console, f"Adopted. Next: `{up}` copies it into these tables, and follows every commit.")
    else:
        adopt = command("adopt", report.source, options)
        print_line(
            console, f"It can be adopted; nothing was changed (--dry-run). Next: `{adopt}`, with the same options."
        )
