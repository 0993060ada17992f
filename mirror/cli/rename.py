"""``mirror rename``: the file of a source was moved or renamed, and its mirror goes on with it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import click
from msgspec.structs import replace

from mirror.cli.fleet import change_list, listing, path_of
from mirror.cli.hand_over import Ended, end_alone
from mirror.cli.options import common_as, help_end, json_option, postgres_of
from mirror.core.config.settings import DEFAULT_SCHEMA, Settings, load_settings, require_file
from mirror.core.control import ControlClient
from mirror.core.errors import ConfigError, ControlError, MirrorError, NotRunningError, SourceError, StateError
from mirror.core.files import sync_folder
from mirror.core.folders import resolve, source_folder, write_name
from mirror.core.locks import SourceLock
from mirror.core.saved_status import save_report, saved_report
from mirror.core.sockets import forget_control_path
from mirror.core.source_settings import remembered_schema
from mirror.core.state_errors import state_error
from mirror.core.status import Phase, named
from mirror.postgres.failures import translated
from mirror.postgres.migrate import migrate
from mirror.postgres.removal import has_rows, plan, remove, schemas_of
from mirror.postgres.removal import rename as rename_in_postgres
from mirror.postgres.sessions import connect
from mirror.postgres.target import Conn
from mirror.replica.likeness import is_like

_OPERATION = "rename a source"
_Given = tuple[Settings, tuple[str, ...]]


def _load(names: tuple[str, ...], *options: str | None) -> _Given:
    postgres, state_dir, schema, config = options
    return load_settings((), postgres, state_dir, schema, config), names


@click.command(
    short_help="Go on with a file that was moved.",
    epilog=help_end("mirror rename old.db new.db", "mirror rename /old/shop.db shop.db", codes={0: "it is done"}),
)
@common_as(_load, "OLD NEW")
@click.option(
    "--anyway",
    is_flag=True,
    help="Also where NEW lacks much of what was mirrored: Postgres then loses those rows when NEW is mirrored.",
)
@json_option
def rename(settings: _Given, debug: bool, anyway: bool, as_json: bool) -> None:
    """Go on with a file that was moved or renamed: from OLD, which is gone, to NEW.

    What the mirror knows of OLD is about NEW from then on: its tables and records in Postgres, its copy in the state
    directory, its entry in mirror.json. `mirror up NEW` goes on where OLD has stopped, without a new copy. A mirror
    that runs and has other sources as well goes on with NEW by itself; one that has only this is ended first. Move -wal
    along with the file, while no program has it open.

    NEW must have what was mirrored: rows are looked for in it.

    Killed in the middle, it is completed by giving it again.
    """
    known, names = settings
    if len(names) != 2:
        given = shlex.quote(str(resolve(names[0]))) if len(names) == 1 else "OLD.db"
        step = f"`mirror rename {given} NEW.db{known.options}`"
        raise ConfigError(_OPERATION, detail="it needs the old name and the new one", next_step=step)
    new = resolve(names[1])
    old = _old_name(known, names[0], new)
    require_file(new, _OPERATION)
    _require_gone(known, old, new)
    _require_stopped(known, new)
    ended = end_alone(known, old, _OPERATION)
    change = _Change(known, old, new, anyway=anyway)
    try:
        moved = change.make()
    except BaseException:
        if ended is not None and not change.begun:
            _go_on(known, ended, old)
        raise
    moved = _relist(known, old, new) or moved
    running, problem = False, None
    try:
        if ended is not None:
            ended.begin(new)
            running = True
    except NotRunningError:
        pass  # it has ended meanwhile
    except MirrorError as error:
        error.next_step = f"`mirror add {shlex.quote(str(new))}{known.options}`"
        problem = error
    _say(known, old, new, moved=moved, running=running, as_json=as_json)
    if problem is not None:
        raise problem


class _Change:
    """Postgres and the state directory are to know a source by its new name."""

    def __init__(self, settings: Settings, old: Path, new: Path, *, anyway: bool) -> None:
        self._settings, self._old, self._new, self._anyway = settings, old, new, anyway
        self.begun = False
        """Whether something was changed: then it has to be completed."""

    def make(self) -> bool:
        """Do it; whether there was anything to do. Raises ``MirrorError``; then nothing was changed unless
        :attr:`begun`.
        """
        known, old, new = self._settings, self._old, self._new
        here, there = (source_folder(known.state_dir, path) for path in (old, new))
        with ExitStack() as stack:
            stack.enter_context(translated(_OPERATION))
            # No mirror begins with one that has a folder.
            both = here.exists() and there.exists()
            for folder, path in ((here, old), (there, new)):
                if folder.exists():
                    stack.callback(SourceLock(folder, path, named=False).release)
            compared = here.exists() and not self._anyway and self._is_like(here)
            dsn = stack.enter_context(postgres_of(known))
            conn = stack.enter_context(connect(dsn, raw=True))
            at_old = schemas_of(conn, str(old))
            if not at_old and not schemas_of(conn, str(new)) and not (here.exists() or there.exists()):
                raise ConfigError(
                    _OPERATION,
                    str(known.state_dir),
                    f"{old} was never mirrored with it",
                    next_step=f"mirror up {shlex.quote(str(new))}{known.options}",
                )
            if at_old:
                if not compared and not self._anyway and has_rows(conn, str(old)):
                    detail = f"there is no copy of {old} in the state directory, to compare it with"
                    raise SourceError(_OPERATION, str(new), detail, next_step=self._otherwise)
                migrate(conn)
                _forget_attempt(known, conn, old, new)
            if both:
                _require_nothing(known, conn, old, new)
                shutil.rmtree(there)
            # Postgres first: with its folder alone under the new name, a mirror would find its own tables taken.
            self.begun = True
            try:
                moved = rename_in_postgres(conn, str(old), str(new)) > 0
            except MirrorError:  # it does not do it
                self.begun = False
                raise
            return _move_folder(here, there, old, new) or moved

    def _is_like(self, folder: Path) -> bool:
        try:
            return is_like(folder, self._new)
        except SourceError as error:
            error.next_step = error.next_step or self._otherwise
            raise

    @property
    def _otherwise(self) -> str:
        names = f"{shlex.quote(str(self._old))} {shlex.quote(str(self._new))}{self._settings.options}"
        return (
            f"check the path; if it is that file, and Postgres may lose what it lacks: `mirror rename {names} --anyway`"
        )


def _go_on(settings: Settings, ended: Ended, source: Path) -> None:
    """Nothing was changed: the mirror takes the source back."""
    try:
        ended.begin(source)
    except MirrorError as error:
        name = f"{shlex.quote(str(source))}{settings.options}"
        click.echo(f"{source} is mirrored no more: {error}; `mirror add {name}` goes on with it", err=True)


def _old_name(settings: Settings, name: str, new: Path) -> Path:
    """The path by which the source is known. What lies there now, a link to the new place say, is not followed."""
    path = Path(os.path.abspath(Path(name).expanduser()))
    unfollowed = resolve(path.parent) / path.name
    if unfollowed == new:
        raise ConfigError(_OPERATION, str(new), "it is the same file", next_step="name the old path and the new one")
    followed = resolve(path)
    known = source_folder(settings.state_dir, unfollowed).exists() or followed == new
    return unfollowed if known else followed


def _require_stopped(settings: Settings, new: Path) -> None:
    """Raise ``ControlError`` if the new name is mirrored already: somebody has begun with it."""
    try:
        ControlClient(source_folder(settings.state_dir, new)).close()
    except NotRunningError:
        return
    step = f"`mirror remove {shlex.quote(str(new))}{settings.options}` ends it; then this again"
    raise ControlError(_OPERATION, str(new), "a mirror of it runs", next_step=step, retryable=True)


def _require_gone(settings: Settings, old: Path, new: Path) -> None:
    """Raise ``SourceError`` if the old file is still there, and is another one."""
    try:
        if os.path.samefile(old, new):
            return
    except FileNotFoundError:
        return
    except OSError as error:
        raise SourceError(_OPERATION, str(old), error.strerror or str(error), next_step="check the path") from error
    raise SourceError(
        _OPERATION,
        str(old),
        "it is still there, and is another file than the new one",
        next_step=f"move it away, if it is no longer in use; or mirror both: `mirror up {shlex.quote(str(new))}"
        f"{settings.options}`",
    )


def _require_nothing(settings: Settings, conn: Conn, old: Path, new: Path) -> None:
    """Raise ``StateError`` if Postgres knows the source by its new name alone: the folder of that is the right one."""
    if schemas_of(conn, str(new)):
        raise StateError(
            _OPERATION,
            str(new),
            "it is mirrored in place of the old one already",
            next_step=f"`mirror remove {shlex.quote(str(old))}{settings.options}` forgets the old name",
        )


def _forget_attempt(settings: Settings, conn: Conn, old: Path, new: Path) -> None:
    """Take what a mirror of the new name has left in Postgres out of it: nothing, where the old one has all tables.

    Raises ``StateError`` if it has tables of its own.
    """
    left = [plan(conn, str(new), schema) for schema in schemas_of(conn, str(new))]
    for each in filter(None, left):
        if each.tables:
            raise StateError(
                _OPERATION,
                str(new),
                f"it is mirrored already, with {named([table.name for table in each.tables])}",
                next_step=f"keep one: `mirror remove {shlex.quote(str(new))}{settings.options} --drop-tables --dry-run`"
                " says what goes with the new name; without --dry-run it goes, and then this again. Or likewise the"
                f" old one: `mirror remove {shlex.quote(str(old))}{settings.options} --drop-tables --dry-run`",
            )
    for each in filter(None, left):
        remove(conn, each)


def _move_folder(here: Path, there: Path, old: Path, new: Path) -> bool:
    """The state folder gets the new name, and then what is in it; whether there was anything to do.

    Killed in between, the folder counts as none of a known source, until this is run again.
    """
    moved = here.exists()
    try:
        if moved:
            os.rename(here, there)
            sync_folder(there.parent)
        elif not there.exists():
            return False
        forget_control_path(there)
        saved = saved_report(new, DEFAULT_SCHEMA, there)
        if saved.phase is not Phase.STARTING:  # else there is none, or it cannot be used
            save_report(replace(saved, source=str(new)), there)
        return write_name(there, new) or moved  # last: from now on it is a known source
    except OSError as error:
        raise state_error(error, there, _OPERATION) from error


def _relist(settings: Settings, old: Path, new: Path) -> bool:
    """Change the entry in mirror.json, if that lists the old path; whether it did."""
    path = listing(settings)
    if path is None:
        return False

    def renamed(listed: list[Any]) -> list[Any]:
        if any(path_of(each, path) == new for each in listed):
            return [each for each in listed if path_of(each, path) != old]
        return [_entry(each, new) if path_of(each, path) == old else each for each in listed]

    return change_list(path, renamed)


def _entry(entry: Any, new: Path) -> Any:
    return str(new) if isinstance(entry, str) else {**entry, "path": str(new)}


def _say(settings: Settings, old: Path, new: Path, *, moved: bool, running: bool, as_json: bool) -> None:
    if as_json:
        done = {"version": 1, "old": str(old), "new": str(new), "changed": moved, "running": running}
        click.echo(json.dumps(done, indent=2))
        return
    name = f"{shlex.quote(str(new))}{settings.options}"
    click.echo(f"{new} is mirrored in place of {old}" if moved else f"nothing is left to do: {new} is mirrored already")
    for entry in settings.configured:
        if entry.path == old and listing(settings) is None:
            click.echo(f"argent.json still names {old}: change it there, too")
    if running:
        click.echo("the mirror that runs goes on with it")
        return
    # A mirror that runs may have been given a schema for all that is added.
    schema = None
    with suppress(StateError):  # it is said where it matters
        schema = remembered_schema(source_folder(settings.state_dir, new)) if settings.schema is None else None
    add = f"mirror add {name}" + ("" if schema is None else f" --schema {shlex.quote(schema)}")
    click.echo(f"next: `mirror up {name}` goes on where it stopped; beside a mirror that runs: `{add}`")
