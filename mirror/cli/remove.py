"""``mirror remove``: mirror a source no more, and, if that is asked for, take all that the mirror made of it away."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from mirror.cli.agreed import agrees, has_to_ask, yes_option
from mirror.cli.fleet import Outcome, ask_mirror, done_with, is_listed, print_done, unknown, unlist
from mirror.cli.options import common, help_end, json_option, postgres_of, require_sources, schema_of
from mirror.cli.output import BAD, NOTE, print_line, print_table, text
from mirror.core.config.settings import Settings
from mirror.core.control import ControlClient
from mirror.core.errors import NotRunningError, SinkError, StateError
from mirror.core.folders import forget, known_sources, source_folder
from mirror.core.locks import SourceLock
from mirror.core.quote import quoted
from mirror.core.words import amount, counted
from mirror.postgres.failures import translated
from mirror.postgres.migrate import migrate, require_known_schema
from mirror.postgres.removal import Left, Removal, left, plan, schemas_of
from mirror.postgres.removal import remove as take_out
from mirror.postgres.sessions import connect
from mirror.postgres.target import Conn

_OPERATION = "remove a source"


@dataclass
class _Source:
    """A source that is to go, and what is known of it."""

    path: Path
    folder: Path
    running: bool
    listed: bool
    planned: Removal | None = None
    others: list[str] = field(default_factory=list)
    """Other schemas into which it is, or was, mirrored."""
    invalid: list[str] = field(default_factory=list)
    """Foreign keys of an application's own tables that are NOT VALID, once it is removed."""

    @property
    def bytes(self) -> int:
        """Of its folder in the state directory."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file() and not file.is_symlink())


@click.command(
    short_help="Mirror a file no more, or drop its tables.",
    epilog=help_end(
        "mirror remove shop.db",
        "mirror remove shop.db --drop-tables --dry-run",
        "mirror remove shop.db --drop-tables --yes",
        codes={0: "it is not mirrored any more", 1: "you have answered no, and nothing was changed"},
    ),
)
@common
@json_option
@click.option(
    "--drop-tables",
    is_flag=True,
    help="Also drop the tables in Postgres that the mirror made of it, what it has recorded there, and its folder in"
    " the state directory. The file stays as it is.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@yes_option
def remove(settings: Settings, debug: bool, as_json: bool, drop_tables: bool, dry_run: bool, yes: bool) -> None:
    """Mirror SOURCE no more: a mirror that runs ends with it, and goes on with the others.

    Its tables in Postgres stay as they are, with what the mirror records of them, and so does its folder in the state
    directory: `mirror add` or `mirror up` goes on from there. It is taken out of mirror.json, if that lists it. `mirror
    up` ends when it has no source any more.

    With --drop-tables, which asks first, all of that goes, too: tables that the mirror made, the rows of the source's
    agent in tables that several agents share, tables that are kept after SQLite had dropped them. Nothing of others
    does: where a view or a foreign key depends on a table, everything stays, and they are listed.
    """
    require_sources(settings)
    found = [_look(settings, source, drop_tables) for source in settings.sources]
    if not drop_tables:
        print_done([_forget(settings, each, dry_run=dry_run) for each in found], as_json)
        return
    asks = not dry_run and has_to_ask(_OPERATION, yes=yes, as_json=as_json)
    with postgres_of(settings) as dsn, translated(_OPERATION), connect(dsn, raw=True) as conn:
        require_known_schema(conn)
        if not dry_run and any(schemas_of(conn, str(each.path)) for each in found):
            migrate(conn)  # what an earlier mirror has made lacks columns
        for each in found:
            schema = schema_of(settings, each.path)
            each.planned = plan(conn, str(each.path), schema)
            each.others = [name for name in schemas_of(conn, str(each.path)) if name != schema]
            if each.planned is None and not (each.running or each.listed or each.folder.exists()):
                raise unknown(settings, each.path)
        if not as_json:
            _show(found, settings, dry_run=dry_run)
        for each in found:
            _require_alone(each, "nothing was changed")
        if asks and not agrees(f"Drop all that Postgres has of {', '.join(each.path.name for each in found)}?"):
            click.echo("nothing was changed")
            sys.exit(1)
        outcome = []
        for each in found:
            if not dry_run:
                _drop(conn, settings, each)
            outcome.append(_dropped(each, dry_run=dry_run))
        schemas = [each.planned.schema for each in found if each.planned is not None]
        rest = None if dry_run or not schemas else left(conn, schemas)
    print_done(outcome, as_json)
    if not as_json and rest is not None:
        adopted = any(each.planned is not None and each.planned.adopted for each in found)
        _say_rest(rest, settings, adopted=adopted)


def _look(settings: Settings, source: Path, drop_tables: bool) -> _Source:
    """What is known of a source here. Raises ``ConfigError`` if nothing is."""
    folder = source_folder(settings.state_dir, source)
    try:
        ControlClient(folder).close()
        running = True
    except NotRunningError:
        running = False
    found = _Source(source, folder, running, is_listed(settings, source))
    if not drop_tables and not running and not found.listed and source not in known_sources(settings.state_dir):
        raise unknown(settings, source)
    return found


def _forget(settings: Settings, source: _Source, *, dry_run: bool) -> Outcome:
    """Mirror it no more; all else stays."""
    if not dry_run:
        source.running = ask_mirror(settings, source.path, ControlClient.remove)
        source.listed = unlist(settings, source.path)
        if not source.running and source.folder.exists():
            _forget_folder(source)
    name = f"{shlex.quote(str(source.path))}{settings.options}"
    again = f"`mirror add {name}`" if source.running else f"`mirror up {name}`"
    is_not = "would not be" if dry_run else "is not"
    said = (
        f"{is_not} mirrored any more; its tables in Postgres stay as they are, and its copy in {source.folder}:"
        f" {again} goes on; to be rid of both: `mirror remove {name} --drop-tables --dry-run` says what would go"
    )
    outcome = "would be removed" if dry_run else "removed"
    return done_with(source.path, outcome, said, running=source.running, listed=source.listed)


def _forget_folder(source: _Source) -> None:
    """Its folder counts as that of no known source. Raises ``StateError``, also while a mirror has it."""
    lock = SourceLock(source.folder, source.path, named=False)
    try:
        forget(source.folder)
    except OSError as error:
        raise _unusable(source, error) from error
    finally:
        lock.release()


def _unusable(source: _Source, error: OSError) -> StateError:
    step = "run it as the user that runs the mirror"
    return StateError(_OPERATION, str(source.folder), error.strerror or str(error), next_step=step)


# -- with its tables -------------------------------------------------------------------------------------


def _require_alone(source: _Source, state: str) -> None:
    """Raise ``SinkError`` if something of others depends on a table. ``state``: what has become of the source."""
    if source.planned is None or not source.planned.dependents:
        return
    views = dict.fromkeys(thing for _, thing in source.planned.dependents)
    raise SinkError(
        _OPERATION,
        str(source.path),
        f"{', '.join(views)} {'depends' if len(views) == 1 else 'depend'} on its tables; {state}",
        next_step="drop what is not needed any more, or make it anew without them; then run this again",
    )


def _drop(conn: Conn, settings: Settings, source: _Source) -> None:
    """In an order that survives being killed: run again, it does what is left.

    Nobody mirrors it before its tables go, and its folder goes last.
    """
    ask_mirror(settings, source.path, ControlClient.remove)
    unlist(settings, source.path)
    had_folder = source.folder.exists()
    lock = SourceLock(source.folder, source.path, named=False) if had_folder else None
    try:
        if lock is not None:
            forget(source.folder)
        if source.planned is not None:
            # Anew: the mirror went on until now, and others may have made something of its tables.
            source.planned = plan(conn, str(source.path), source.planned.schema)
            _require_alone(source, "it is mirrored no more, and its tables stay")
        if source.planned is not None:
            source.invalid = take_out(conn, source.planned)
        if lock is not None:
            shutil.rmtree(source.folder)
    except OSError as error:
        raise _unusable(source, error) from error
    finally:
        if lock is not None:
            lock.release()


def _show(found: Sequence[_Source], settings: Settings, *, dry_run: bool) -> None:
    console = Console()
    for each in found:
        name, planned = each.path.name, each.planned
        if planned is not None and planned.tables:
            table = Table(
                "table", Column("rows", justify="right"), Column("size", justify="right"), "", box=SIMPLE_HEAD
            )
            for doomed in planned.tables:
                rows = "-" if doomed.rows is None else f"{doomed.rows:,}"
                what = "goes" if doomed.whole else f"the rows of {planned.agent} go, the table stays for others"
                table.add_row(text(doomed.name), rows, amount(doomed.bytes), text(what))
            print_table(console, table)
        where = "Postgres knows nothing of it" if planned is None else f"schema {planned.schema}"
        recorded = "" if planned is None else f", its records in schema mirror ({counted(planned.rejects, 'reject')})"
        folder = f", {each.folder} ({amount(each.bytes)})" if each.folder.exists() else ""
        print_line(console, f"{name}: {where}{recorded}{folder}")
        if planned is not None and planned.adopted:
            count = counted(len(planned.adopted), "table")
            print_line(console, NOTE, f" {count} of its application stay, with foreign keys and triggers as they were")
        if planned is not None and planned.tables and planned.others_wrote:
            rows = counted(planned.others_wrote, "row")
            print_line(console, NOTE, f" {rows} that others wrote in these tables, and no file has, would go with them")
        for other in each.others:
            named = f"{shlex.quote(str(each.path))}{settings.options}"
            step = f"mirror remove {named} --drop-tables --dry-run --schema {other}"
            print_line(console, NOTE, f" it is also in the schema {other}, which stays: `{step}`")
        for table_name in () if planned is None else planned.strange:
            print_line(console, NOTE, f" {table_name} stays: it is not known to be the mirror's own")
        for doomed_table, thing in () if planned is None else planned.dependents:
            print_line(console, BAD, f" {thing} depends on {doomed_table}")
    if dry_run:
        print_line(console, "nothing was changed (--dry-run)")


def _dropped(source: _Source, *, dry_run: bool) -> Outcome:
    planned = source.planned
    tables = [] if planned is None else [asdict(each) for each in planned.tables]
    place = "Postgres" if not source.others or planned is None else f"the schema {planned.schema}"
    said = "would be gone" if dry_run else "is gone"
    said += f" from {place} and from {source.folder.parent}; the file stays as it is"
    outcome = "would be removed" if dry_run else "removed"
    done = done_with(source.path, outcome, said, running=source.running, listed=source.listed)
    if source.invalid:
        done["text"] = f"{said}. Rows refer to none, so that foreign keys are NOT VALID: {', '.join(source.invalid)}"
    return {**done, "tables": tables, "folder": str(source.folder), "not_valid": source.invalid}


def _say_rest(rest: Left, settings: Settings, *, adopted: bool) -> None:
    """What of the mirror is left where the last source has gone, and the commands that remove it.

    ``adopted``: tables of applications are in that Postgres.
    """
    console = Console()
    psql = f"mirror psql{settings.options} -- -c"
    steps = [f"{psql} {shlex.quote(f'DROP SCHEMA {quoted(name)}')}" for name in rest.schemas]
    if steps and rest.sources:
        print_line(console, "nothing is in its schema any more; this removes it:")
    if rest.sources == 0:
        print_line(console, "it was the last source; this removes what is left of the mirror:")
        if settings.dsn is None and adopted:
            steps.append(f"{psql} 'DROP SCHEMA mirror CASCADE'  # its Postgres stays: it has your application's tables")
        elif settings.dsn is None:
            steps = [f"rm -rf {shlex.quote(str(settings.state_dir))}  # with the embedded Postgres, and all in it"]
        else:
            steps.append(f"{psql} 'DROP SCHEMA mirror CASCADE'")
            steps += [f"{psql} 'DROP OWNED BY argent_app' -c 'DROP ROLE argent_app'"] if rest.role else []
            steps.append(f"rm -rf {shlex.quote(str(settings.state_dir))}")
    for step in steps:
        print_line(console, f"  {step}")
    if rest.sources == 0 and rest.profiles and settings.dsn is not None:
        names = ", ".join(rest.profiles)
        print_line(
            console, NOTE, f" the empty tables of the memory store in the schema {names} stay: drop them by hand"
        )
