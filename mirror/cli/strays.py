"""``mirror cutover strays``: what programs wrote to the file after the switch."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from mirror.cli.moved import look_for_strays
from mirror.cli.options import common, help_end, json_option, postgres_of, schema_of
from mirror.cli.output import BAD, GOOD, NOTE, print_line
from mirror.cli.plain import short
from mirror.core.commands import command
from mirror.core.config.settings import Settings
from mirror.core.errors import ConfigError, SourceError
from mirror.core.words import counted
from mirror.cutover.stray_numbers import Kept
from mirror.cutover.strays import Adopted, Strays

#: Characters of a row that people are shown.
_SHOWN = 200
#: Rows of a source that people are shown.
_MOST = 20
#: Seconds to wait for the mirror, which writes Postgres' rows to the file.
_WAIT_SECONDS = 30.0


@click.command(
    "strays",
    short_help="Rows written to the file after the switch.",
    epilog=help_end(
        "mirror cutover strays memory.db",
        "mirror cutover strays memory.db --adopt",
        "mirror cutover strays memory.db --adopt --new-ids",
        "mirror cutover strays memory.db --discard",
        codes={0: "they were listed, adopted or thrown away", 1: "some could not be adopted"},
    ),
)
@common
@json_option
@click.option("--adopt", is_flag=True, help="Write the rows to Postgres; what Postgres has written since stays there.")
@click.option(
    "--new-ids",
    is_flag=True,
    help="With --adopt: rows that a program has inserted under a number that Postgres has given, too, get a new one.",
)
@click.option("--discard", is_flag=True, help="Have the mirror write Postgres' rows to the file, and forget these.")
def strays(settings: Settings, debug: bool, as_json: bool, adopt: bool, new_ids: bool, discard: bool) -> None:
    """List rows that programs have written to the file after the switch to phase 3, and so not to Postgres.

    Each is kept in the table mirror.strays, as it was and as the program left it, with the processes that had the file
    open then. `mirror cutover rollback` is refused while there are any: adopt them, or throw them away. "overwritten":
    Postgres wrote the row, too, and the file has that.

    SQLite and a sequence in Postgres give the same numbers. With --new-ids a row that a program has inserted is adopted
    under the sequence's next number, and other such rows that refer to it by a declared foreign key follow.
    """
    if adopt and discard:
        raise ConfigError("adopt strays", detail="--adopt and --discard exclude each other")
    if new_ids and not adopt:
        raise ConfigError("adopt strays", detail="--new-ids says how to --adopt")
    console = Console()
    documents: list[dict[str, Any]] = []
    left = 0
    with postgres_of(settings) as dsn:
        for source in settings.known():
            with Strays.open(dsn, str(source), schema_of(settings, source)) as found:
                document: dict[str, Any] = {"source": str(source)}
                lines: list[tuple[Any, str]] = []
                if not discard and not _looks(source, dsn, settings):
                    document["note"] = "no mirror runs: what was written since it ended is not known"
                if adopt:
                    adopted = found.adopt(new_ids=new_ids)
                    left += len(adopted.left)
                    document |= _adopted(adopted)
                    lines = _told(adopted, source)
                    if adopted.left:
                        first = 2 if new_ids else 1
                        document["next_steps"] = _next_steps(str(source), settings.options)[first:]
                        lines += [("", f"Next: {step}") for step in document["next_steps"]]
                elif discard:
                    document["discarded"] = _discard(found, source)
                    lines = [(GOOD, f" {source.name}: {counted(document['discarded'], 'row')} thrown away")]
                else:
                    kept = found.all()
                    document["strays"] = [_as_json(one) for one in kept]
                    lines = [("", line) for one in kept[:_MOST] for line in _described(one, source)]
                    lines += _rest(len(kept))
                    lines = lines or [("", f"{source.name}: no strays")]
                    if kept:
                        document["next_steps"] = _next_steps(str(source), settings.options)
                        lines += [("", f"Next: {step}") for step in document["next_steps"]]
            documents.append(document)
            if not as_json:
                if note := document.get("note"):
                    print_line(Console(stderr=True), NOTE, f" {source.name}: {note}")
                for mark, line in lines:
                    print_line(console, mark, line)
    if as_json:
        click.echo(json.dumps({"version": 1, "sources": documents}, indent=2))
    sys.exit(1 if left else 0)


def _next_steps(source: str, options: str) -> list[str]:
    """What can be done with strays."""

    def line(more: str, does: str) -> str:
        return f"{command('cutover strays', source, options, more)}  # {does}"

    return [
        line(" --adopt", "write them to Postgres; what Postgres has written since stays there"),
        line(" --adopt --new-ids", "and give a new number to those whose number Postgres has given, too"),
        line(" --discard", "have Postgres' rows in the file, and forget these"),
    ]


def _looks(source: Path, dsn: str, settings: Settings) -> bool:
    """Have the mirror look for what was written just now: it looks by itself only now and then. False: none runs."""
    return look_for_strays(source, dsn, schema_of(settings, source), settings.state_dir)


def _adopted(done: Adopted) -> dict[str, Any]:
    return {
        "adopted": done.count,
        "new_ids": [{"table": one.table, "key": json.loads(one.key), "new_key": [new]} for one, new in done.new_ids],
        "left": [{**_as_json(one), "reason": why} for one, why in done.left],
    }


def _told(done: Adopted, source: Path) -> list[tuple[Any, str]]:
    lines: list[tuple[Any, str]] = [(GOOD, f" {source.name}: {counted(done.count, 'row')} adopted")]
    lines += [(GOOD, f" {one.table} {one.key} is [{new}] in Postgres") for one, new in done.new_ids[:_MOST]]
    lines += _rest(len(done.new_ids))
    lines += [(BAD, f" {one.table} {one.key}: {why}") for one, why in done.left[:_MOST]]
    return lines + _rest(len(done.left))


def _rest(count: int) -> list[tuple[Any, str]]:
    return [("", f"and {count - _MOST:,} more (--json has all)")] if count > _MOST else []


def _discard(found: Strays, source: Path) -> int:
    count = found.discard()
    deadline = time.monotonic() + _WAIT_SECONDS
    while any(one.state == "discarded" for one in found.all()):
        if time.monotonic() > deadline:
            raise SourceError(
                "throw strays away",
                str(source),
                "the mirror has not written Postgres' rows to the file yet; it will",
                next_step="`mirror status` says whether one runs",
                retryable=True,
            )
        time.sleep(0.05)
    return count


def _described(one: Kept, source: Path) -> list[str]:
    who = ", ".join(one.processes) or "no process was seen at it"
    state = "" if one.state == "in file" else f" ({one.state})"
    return [
        f"{source.name}: {one.table} {one.key}{state}: {one.seen_at}: {who}",
        f"  before: {'no row' if one.before is None else short(one.before, _SHOWN)}",
        f"  after:  {'no row' if one.after is None else short(one.after, _SHOWN)}",
    ]


def _as_json(one: Kept) -> dict[str, Any]:
    return {
        "table": one.table,
        "key": json.loads(one.key),
        "before": None if one.before is None else json.loads(one.before),
        "after": None if one.after is None else json.loads(one.after),
        "state": one.state,
        "processes": one.processes,
        "seen_at": one.seen_at,
    }
