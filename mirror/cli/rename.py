"""``mirror rename``: the file of a source was moved or renamed, and its mirror goes on with it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from msgspec.structs import replace

from mirror.cli.fleet import change_list, listing, path_of
from mirror.cli.options import common_as, help_end, json_option, postgres_of
from mirror.core.config.settings import DEFAULT_SCHEMA, Settings, load_settings, require_file
from mirror.core.control import ControlClient
from mirror.core.errors import ConfigError, ControlError, NotRunningError, SourceError, StateError
from mirror.core.files import sync_folder
from mirror.core.folders import resolve, source_folder, write_name
from mirror.core.locks import SourceLock
from mirror.core.saved_status import save_report, saved_report
from mirror.core.sockets import forget_control_path
from mirror.core.state_errors import state_error
from mirror.core.status import Phase, named
from mirror.postgres.failures import translated
from mirror.postgres.migrate import migrate
from mirror.postgres.removal import plan, remove, schemas_of
from mirror.postgres.removal import rename as rename_in_postgres
from mirror.postgres.sessions import connect
from mirror.postgres.target import Conn
from mirror.replica.likeness import require_like

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
@json_option
def rename(settings: _Given, debug: bool, as_json: bool) -> None:
    """Go on with a file that was moved or renamed: from OLD, which is gone, to NEW.

    What the mirror knows of OLD is about NEW from then on: its tables and records in Postgres, its copy in the state
    directory, its entry in mirror.json. `mirror up NEW` goes on where OLD has stopped, without a new copy. No mirror of
    either may run meanwhile. Move -wal along with the file, while no program has it open.

    Killed in the middle, it is completed by giving it again.
    """
    known, names = settings
    if len(names) != 2:
        step = f"mirror rename OLD.db NEW.db{known.options}"
        raise ConfigError(_OPERATION, detail="it needs the old name and the new one", next_step=step)
    new = resolve(names[1])
    old = _old_name(known, names[0], new)
    require_file(new, _OPERATION)
    for path in (old, new):
        _require_stopped(known, path)
    _require_gone(known, old, new)
    here, there = (source_folder(known.state_dir, path) for path in (old, new))
    with ExitStack() as stack:
        stack.enter_context(translated(_OPERATION))
        # No mirror begins with one that has a folder.
        both = here.exists() and there.exists()
        for folder, path in ((here, old), (there, new)):
            if folder.exists():
                stack.callback(SourceLock(folder, path, named=False).release)
        if here.exists():
            require_like(here, new)
        dsn = stack.enter_context(postgres_of(known))
        conn = stack.enter_context(connect(dsn, raw=True))
        if not schemas_of(conn, str(old)) and not schemas_of(conn, str(new)) and not (here.exists() or there.exists()):
            raise ConfigError(
                _OPERATION,
                str(known.state_dir),
                f"{old} was never mirrored with it",
                next_step=f"mirror up {shlex.quote(str(new))}{known.options}",
            )
        if schemas_of(conn, str(old)):
            migrate(conn)
            _forget_attempt(known, conn, old, new)
        if both:
            _require_nothing(known, conn, old, new)
            shutil.rmtree(there)
        # Postgres first: with its folder alone under the new name, a mirror would find its own tables taken.
        moved = rename_in_postgres(conn, str(old), str(new)) > 0
        moved = _move_folder(here, there, old, new) or moved
    moved = _relist(known, old, new) or moved
    _say(known, old, new, moved=moved, as_json=as_json)


def _old_name(settings: Settings, name: str, new: Path) -> Path:
    """The path by which the source is known. What lies there now, a link to the new place say, is not followed."""
    path = Path(os.path.abspath(Path(name).expanduser()))
    unfollowed = resolve(path.parent) / path.name
    if unfollowed == new:
        raise ConfigError(_OPERATION, str(new), "it is the same file", next_step="name the old path and the new one")
    followed = resolve(path)
    known = source_folder(settings.state_dir, unfollowed).exists() or followed == new
    return unfollowed if known else followed


def _require_stopped(settings: Settings, source: Path) -> None:
    try:
        ControlClient(source_folder(settings.state_dir, source)).close()
    except NotRunningError:
        return
    name = f"{shlex.quote(str(source))}{settings.options}"
    raise ControlError(
        _OPERATION,
        str(source),
        "a mirror of it runs",
        next_step=f"`mirror down {name}` ends it; or, where that mirrors others as well, `mirror remove {name}`,"
        " and `mirror add` the new name afterwards",
        retryable=True,
    )


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
        next_step=f"move it away, if it is no longer in use; or mirror both: mirror up {shlex.quote(str(new))}"
        f"{settings.options}",
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
                next_step=f"keep one: `mirror remove {shlex.quote(str(new))}{settings.options} --drop-tables`, then"
                f" this again; or `mirror remove {shlex.quote(str(old))}{settings.options} --drop-tables`",
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


def _say(settings: Settings, old: Path, new: Path, *, moved: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"version": 1, "old": str(old), "new": str(new), "changed": moved}, indent=2))
        return
    name = f"{shlex.quote(str(new))}{settings.options}"
    click.echo(f"{new} is mirrored in place of {old}" if moved else f"nothing is left to do: {new} is mirrored already")
    for entry in settings.configured:
        if entry.path == old and listing(settings) is None:
            click.echo(f"argent.json still names {old}: change it there, too")
    click.echo(f"next: `mirror up {name}` goes on where it stopped; beside a mirror that runs: `mirror add {name}`")
