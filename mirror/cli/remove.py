"""``mirror remove``: mirror a source no more, and, if that is asked for, take all that the mirror made of it away."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Collection, Sequence
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
from mirror.core.errors import MirrorError, NotRunningError, SealedError, SinkError, StateError
from mirror.core.files import write_atomically
from mirror.core.folders import LOCK, MOVED, SOURCE, forget, known_sources, source_folder
from mirror.core.locks import SourceLock
from mirror.core.published import POSITION_FILE
from mirror.core.quote import quoted
from mirror.core.words import amount, counted
from mirror.postgres.failures import translated
from mirror.postgres.leaving import Standing, forget_finalized, standing
from mirror.postgres.migrate import migrate, require_known_schema
from mirror.postgres.removal import Left, Removal, left, plan, schemas_of
from mirror.postgres.removal import remove as take_out
from mirror.postgres.sessions import connect
from mirror.postgres.target import Conn
from mirror.reverse import capture

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
    standing: list[Standing] = field(default_factory=list)
    """How it stands in Postgres, by schema; empty: Postgres does not know it, or was not asked."""
    unknown: str = ""
    """Why Postgres was not asked that."""
    invalid: list[str] = field(default_factory=list)
    """Foreign keys of an application's own tables that are NOT VALID, once it is removed."""

    @property
    def over(self) -> bool:
        """Whether its move to Postgres is over for good."""
        if not self.standing:  # a command that was killed has deleted the records
            return (self.folder / MOVED).exists()
        return all(stands.finalized for stands in self.standing)

    @property
    def set_aside(self) -> tuple[int, int]:
        """How many foreign keys and triggers of its application's tables do not act."""
        return sum(each.foreign_keys for each in self.standing), sum(each.triggers for each in self.standing)

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
    up` ends when it has no source any more. Foreign keys and triggers of an application's own tables that were set
    aside for the mirror stay so, and are counted, until --drop-tables gives these tables back.

    Once `mirror cutover finalize` has ended its move, what the mirror has recorded of it in Postgres goes, and its
    copy; its tables are those of its programs, and stay.

    With --drop-tables, which asks first, all of that goes, too: tables that the mirror made, the rows of the source's
    agent in tables that several agents share, tables that are kept after SQLite had dropped them. Nothing of others
    does: where a view or a foreign key depends on a table, everything stays, and they are listed.
    """
    require_sources(settings)
    found = [_look(settings, source, drop_tables) for source in settings.sources]
    if not drop_tables:
        _leave(settings, found, dry_run=dry_run, as_json=as_json)
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
        _say_rest(rest, settings, stays=adopted)


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


def _leave(settings: Settings, found: Sequence[_Source], *, dry_run: bool, as_json: bool) -> None:
    """Mirror sources no more; their tables stay."""
    for each in found:
        _find_standing(settings, each)
    outcome = [_forget(settings, each, dry_run=dry_run) for each in found]
    schemas = [stands.schema for each in found if each.over for stands in each.standing]
    print_done(outcome, as_json)
    if schemas and not dry_run and not as_json:
        with postgres_of(settings) as dsn, translated(_OPERATION), connect(dsn, raw=True) as conn:
            _say_rest(left(conn, schemas), settings, stays=True, moved=True)


def _find_standing(settings: Settings, source: _Source) -> None:
    """How it stands in Postgres, as far as that can be known: it is mirrored no more even where Postgres is away."""
    if settings.dsn is None and not (settings.state_dir / "postgres").exists():
        return  # no embedded server is made for that
    try:
        with postgres_of(settings) as dsn, translated(_OPERATION), connect(dsn, raw=True) as conn:
            source.standing = standing(conn, str(source.path))
    except MirrorError as error:
        source.unknown = error.detail or str(error)


def _forget(settings: Settings, source: _Source, *, dry_run: bool) -> Outcome:
    """Mirror it no more; all else stays, but for what is left of a move that is over."""
    over = source.over
    if over and not dry_run:
        _take_away(settings, source)
    elif not dry_run:
        source.running = ask_mirror(settings, source.path, ControlClient.remove)
        source.listed = unlist(settings, source.path)
        if not source.running and source.folder.exists():
            _forget_folder(source)
    said = _words_of_the_end(source, dry_run) if over else _words(settings, source, dry_run)
    outcome = "would be removed" if dry_run else "removed"
    done = done_with(source.path, outcome, said, running=source.running, listed=source.listed)
    keys, triggers = source.set_aside
    return {**done, "finalized": over, "set_aside": {"foreign_keys": keys, "triggers": triggers}}


def _words(settings: Settings, source: _Source, dry_run: bool) -> str:
    """Of a source that is not at the end of a move."""
    name = f"{shlex.quote(str(source.path))}{settings.options}"
    again = f"`mirror add {name}`" if source.running else f"`mirror up {name}`"
    said = f"{'would not be' if dry_run else 'is not'} mirrored any more; "
    if (at := max((stands.phase for stands in source.standing), default=1)) > 1:
        lacks = "the file does not get what they write there" if at == 3 else "Postgres does not get what they write"
        said += f"programs use Postgres (phase {at} of its move), and {lacks}: {again} goes on, `mirror cutover"
        said += f" rollback {name}` goes back to the file"
        return said + (f", and `mirror cutover finalize {name}` ends the way back" if at == 3 else "")
    copy = f"and its copy in {source.folder}"
    drop = f"`mirror remove {name} --drop-tables"
    if any(stands.adopted for stands in source.standing):
        what = f"the tables of its application stay, with their rows, {copy}: {again} goes on"
        keys, triggers = source.set_aside
        parts = [counted(keys, "foreign key")] * bool(keys) + [counted(triggers, "trigger")] * bool(triggers)
        aside = f"{' and '.join(parts)} of them {'does' if keys + triggers == 1 else 'do'} not act until then"
        gives = f"{drop}` gives the tables back to the application, drops none"
        return f"{said}{what}; {gives}, and takes away all else" + (f". {aside[0].upper()}{aside[1:]}" if parts else "")
    what = f"its tables in Postgres stay as they are, {copy}: {again} goes on"
    unknown = f" (Postgres was not asked whether anything of them is set aside: {source.unknown})"
    return f"{said}{what}; to be rid of both: {drop} --dry-run` says what would go{unknown * bool(source.unknown)}"


def _words_of_the_end(source: _Source, dry_run: bool) -> str:
    """Of a source whose move is over."""
    if any(stands.shares for stands in source.standing):
        parts = [
            "its records in the schema mirror stay, because they keep the file, an old copy,"
            " from being mirrored over the rows of its programs",
            f"its saved copy {'would be' if dry_run else 'is'} gone from {source.folder}",
        ]
    else:
        parts = [f"its records in the schema mirror and its saved copy {'would be' if dry_run else 'are'} gone"]
    parts.append("its tables stay as its programs have them, and so does the file, an old copy")
    sentences = [f"was moved to Postgres for good: {'; '.join(parts)}"]
    if source.folder.exists():
        sentences.append(
            f"{source.folder} stays, with two small files: by them programs that read through the mirror's adapters"
            " or routers know that Postgres is the original, and the file is not mirrored again by mistake;"
            " delete it once there are no such programs"
        )
    return ". ".join(sentences)


def _take_away(settings: Settings, source: _Source) -> None:
    """What is left of a move that is over, in an order that survives being killed: run again, it does what is left.

    Its tables are not touched. Two small files of its folder stay.
    """
    ask_mirror(settings, source.path, ControlClient.remove)
    lock = SourceLock(source.folder, source.path, named=False) if source.folder.exists() else None
    try:
        if lock is not None:
            write_atomically(source.folder / MOVED, b"", durable=True)
            _empty(source.folder, but=(MOVED, POSITION_FILE, SOURCE, LOCK))
        with postgres_of(settings) as dsn, translated(_OPERATION), connect(dsn, raw=True) as conn:
            for stands in source.standing:
                if capture.triggers(conn, stands.source_id):
                    step = f"`mirror cutover finalize {shlex.quote(str(source.path))}` completes it"
                    raise SealedError(
                        _OPERATION, str(source.path), "the end of its move is not completed", next_step=step
                    )
                forget_finalized(conn, stands)
        source.listed = unlist(settings, source.path)
        if lock is not None:
            forget(source.folder)
            _empty(source.folder, but=(MOVED, POSITION_FILE))
    except OSError as error:
        raise _unusable(source, error) from error
    finally:
        if lock is not None:
            lock.release()


def _empty(folder: Path, but: Collection[str]) -> None:
    """Delete all that is in a folder, but for files of these names. Raises ``OSError``."""
    for each in folder.iterdir():
        if each.name in but:
            continue
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


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


def _say_rest(rest: Left, settings: Settings, *, stays: bool, moved: bool = False) -> None:
    """What of the mirror is left where the last source has gone, and the commands that remove it.

    ``stays``: tables of applications are in that Postgres. ``moved``: programs were moved there, which may use the
    role, and go by what is in the state directory.
    """
    console = Console()
    psql = f"mirror psql{settings.options} -- -c"
    steps = [f"{psql} {shlex.quote(f'DROP SCHEMA {quoted(name)}')}" for name in rest.schemas]
    if steps and rest.sources:
        print_line(console, "nothing is in its schema any more; this removes it:")
    if rest.sources == 0:
        print_line(console, "it was the last source; this removes what is left of the mirror:")
        if settings.dsn is None and stays:
            steps.append(f"{psql} 'DROP SCHEMA mirror CASCADE'  # its Postgres stays: it has your application's tables")
        elif settings.dsn is None:
            steps = [f"rm -rf {shlex.quote(str(settings.state_dir))}  # with the embedded Postgres, and all in it"]
        else:
            steps.append(f"{psql} 'DROP SCHEMA mirror CASCADE'")
            if rest.role and not moved:
                steps.append(f"{psql} 'DROP OWNED BY argent_app' -c 'DROP ROLE argent_app'")
            if not moved:
                steps.append(f"rm -rf {shlex.quote(str(settings.state_dir))}")
    for step in steps:
        print_line(console, f"  {step}")
    if rest.sources == 0 and rest.profiles and settings.dsn is not None:
        names = ", ".join(rest.profiles)
        print_line(
            console, NOTE, f" the empty tables of the memory store in the schema {names} stay: drop them by hand"
        )
