"""``mirror add``, ``pause`` and ``resume``: sources that come and go while ``mirror up`` runs."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
import json5

from mirror.cli.options import agent_and_profile, common, help_end, json_option, require_sources
from mirror.core.config.json_edit import rewrite, with_values
from mirror.core.config.settings import DEFAULT_SCHEMA, Settings, require_file
from mirror.core.control import ControlClient
from mirror.core.errors import ConfigError, ControlError, NotRunningError, StateError
from mirror.core.folders import known_sources, resolve, source_folder
from mirror.core.source_settings import remember_paused
from mirror.core.status import Phase, StatusReport
from mirror.core.words import names_apart

Outcome = dict[str, Any]

#: Seconds for which the beginning of a source that was added is waited for, and between two looks.
_BEGIN_SECONDS, _LOOK_SECONDS = 5.0, 0.05
_BEGINNING = frozenset((Phase.STARTING, Phase.SNAPSHOT, Phase.CATCHING_UP))


@click.command(
    short_help="Mirror one more file, while mirror up runs.",
    epilog=help_end(
        "mirror add shop.db",
        "mirror add shop.db --schema shop",
        codes={0: "it is mirrored", 1: "Postgres refuses all of its tables"},
    ),
)
@common
@json_option
@agent_and_profile
def add(settings: Settings, debug: bool, as_json: bool, agent: str | None, profile: str | None) -> None:
    """Have the `mirror up` that runs with this state directory mirror SOURCE, too.

    If mirror.json lists sources, it is added there, so that it is mirrored also after a restart. If no mirror runs,
    that is all.
    """
    require_sources(settings)
    done, none = [], False
    for source in settings.sources:
        require_file(source, "mirror another source")
        entry = {"agent": agent, "schema": settings.schema, "profile": profile}
        request = partial(ControlClient.add, path=source, agent=agent, schema=settings.schema, profile=profile)
        with_it = _ask_any(settings, request)
        listed = _list(settings, source, entry)
        if not with_it and not listed:
            raise NotRunningError(
                "mirror another source",
                str(settings.state_dir),
                "no mirror runs with this state directory",
                next_step=f"mirror up {shlex.quote(str(source))}{settings.options}",
                retryable=True,
            )
        text, but, refused = _begun(settings, source) if with_it else ("is mirrored by the next `mirror up`", "", False)
        none |= refused
        lasts = "" if listed else ", until that mirror ends: list it in mirror.json, or name it to the next `mirror up`"
        text = f"{text}{lasts}{but and f'. {but}'}"
        done.append(done_with(source, "added", text, running=with_it, listed=listed))
    print_done(done, as_json, known_sources(settings.state_dir))
    sys.exit(1 if none else 0)


@click.command(
    short_help="Leave a file and its tables alone.",
    epilog=help_end("mirror pause shop.db", codes={0: "it is paused"}),
)
@common
@json_option
def pause(settings: Settings, debug: bool, as_json: bool) -> None:
    """Mirror SOURCE no more until `mirror resume`: its file and its tables are left alone.

    A pause outlives the mirror: it is kept in the source's folder in the state directory, and a mirror that is started
    begins with the source paused. Meanwhile no other mirror can take the source.
    """
    _set_paused(settings, as_json, paused=True)


@click.command(
    short_help="Go on with a file that is paused.",
    epilog=help_end("mirror resume shop.db", codes={0: "it is mirrored again"}),
)
@common
@json_option
def resume(settings: Settings, debug: bool, as_json: bool) -> None:
    """Go on with SOURCE after `mirror pause`, as after a restart of the mirror: nothing is lost, nothing is twice."""
    _set_paused(settings, as_json, paused=False)


def _set_paused(settings: Settings, as_json: bool, *, paused: bool) -> None:
    require_sources(settings)
    done = []
    for source in settings.sources:
        folder = source_folder(settings.state_dir, source)
        phase: list[Phase] = []

        def ask(client: ControlClient, phase: list[Phase] = phase) -> None:
            client.pause() if paused else client.resume()
            phase.append(client.status().phase)

        running = ask_mirror(settings, source, ask)
        if not running:
            if source not in known_sources(settings.state_dir):
                raise unknown(settings, source)
            try:
                remember_paused(folder, paused=paused)
            except OSError as error:
                raise StateError("pause a source", str(folder), error.strerror or str(error)) from error
        again = f"`mirror resume {shlex.quote(str(source))}{settings.options}` goes on"
        if paused:
            late = running and phase != [Phase.PAUSED]
            text = f"pauses as soon as Postgres has answered; {again}" if late else f"is paused; {again}"
        else:
            text = "goes on" if running else "is not paused any more; the next `mirror up` goes on with it"
        done.append(done_with(source, "paused" if paused else "resumed", text, running=running))
    print_done(done, as_json, known_sources(settings.state_dir))


# -- the mirror that runs --------------------------------------------------------------------------------


def ask_mirror(settings: Settings, source: Path, question: Callable[[ControlClient], object]) -> bool:
    """Ask the mirror of a source; False if none runs. Raises ``MirrorError``."""
    try:
        client = ControlClient(source_folder(settings.state_dir, source))
    except NotRunningError:
        return False
    with client:
        question(client)
    return True


def _begun(settings: Settings, source: Path) -> tuple[str, str, bool]:
    """What has become of a source that was added, as far as it is known soon; what is wrong with it, as a sentence of
    its own, or empty; and whether no table can be mirrored.
    """
    report: StatusReport | None = None

    def look(client: ControlClient) -> None:
        nonlocal report
        deadline = time.monotonic() + _BEGIN_SECONDS
        while (report := client.status()).phase in _BEGINNING and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)

    with suppress(ControlError):  # it may be too busy to answer: `mirror status` knows later
        ask_mirror(settings, source, look)
    into = "" if report is None or report.schema == DEFAULT_SCHEMA else f" into the schema {report.schema}"
    if report is None or not report.refusals:
        return f"is mirrored{into} from now on", "", False
    why = f"`mirror status {shlex.quote(str(source))}{settings.options}` says why"
    if len(report.refusals) >= report.tables:
        tables = "its table" if report.tables == 1 else f"all of its {report.tables:,} tables"
        return f"is followed{into} from now on", f"But Postgres refuses {tables}: {why}", True
    tables = f"{len(report.refusals):,} of its {report.tables:,} tables"
    return f"is mirrored{into} from now on", f"But Postgres refuses {tables}: {why}", False


def _ask_any(settings: Settings, question: Callable[[ControlClient], object]) -> bool:
    """Ask any mirror that runs with the state directory; False if there is none. Raises ``MirrorError``."""
    for source in known_sources(settings.state_dir):
        try:
            if ask_mirror(settings, source, question):
                return True
        except ControlError as error:
            if not error.retryable:
                continue  # one of a single command
            raise
    return False


def unknown(settings: Settings, source: Path) -> ConfigError:
    """The error for a source that was named and is none."""
    place, step = str(settings.state_dir), "`mirror status` lists the sources"
    detail = f"{source} is not mirrored with this state directory"
    return ConfigError("find the sources", place, detail, next_step=step)


# -- mirror.json -----------------------------------------------------------------------------------------


def listing(settings: Settings) -> Path | None:
    """The file that lists sources; None: none does."""
    for file in settings.files:
        if file.name == "mirror.json" and file.exists:
            try:
                text = file.path.read_text(encoding="utf-8")
            except OSError as error:
                raise ConfigError("read the configuration", str(file.path), error.strerror or str(error)) from error
            return file.path if "sources" in json5.loads(text) else None
    return None


def _list(settings: Settings, source: Path, entry: dict[str, str | None]) -> bool:
    """Add a source to mirror.json, if that lists sources; returns whether it lists it now."""
    if (path := listing(settings)) is None:
        return False
    said = {name: value for name, value in entry.items() if value is not None}

    def with_it(listed: list[Any]) -> list[Any]:
        if source in (path_of(each, path) for each in listed):
            return listed
        return [*listed, {"path": str(source), **said} if said else str(source)]

    change_list(path, with_it)
    return True


def is_listed(settings: Settings, source: Path) -> bool:
    """Whether mirror.json lists a source."""
    path = listing(settings)
    if path is None:
        return False
    listed = json5.loads(path.read_text(encoding="utf-8"))["sources"] or []
    return any(path_of(each, path) == source for each in listed)


def unlist(settings: Settings, source: Path) -> bool:
    """Take a source out of mirror.json; returns whether it was there."""
    path = listing(settings)
    return path is not None and change_list(path, lambda listed: [e for e in listed if path_of(e, path) != source])


def path_of(entry: Any, file: Path) -> Path:
    """The source of an entry of the list in a file."""
    return resolve(file.parent / Path(entry if isinstance(entry, str) else entry["path"]).expanduser())


def change_list(path: Path, change: Callable[[list[Any]], list[Any]]) -> bool:
    """Change the list of sources; returns whether it is another one now. Raises ``ConfigError``."""

    def changed(text: str) -> str:
        before = json5.loads(text).get("sources") or []
        after = change(before)
        return text if after == before else with_values(text, {("sources",): after})

    try:
        return rewrite(path, changed)
    except (OSError, ValueError) as error:
        detail = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise ConfigError("change the configuration", str(path), detail) from error


# -- output ----------------------------------------------------------------------------------------------


def done_with(source: Path, outcome: str, text: str, **more: bool) -> Outcome:
    """What was done with a source, for :func:`print_done`."""
    return {"source": str(source), "outcome": outcome, **more, "text": text}


def print_done(done: list[Outcome], as_json: bool, known: Iterable[Path] = ()) -> None:
    """Print what was done with each source. ``known``: those from which its name is to tell it."""
    if as_json:
        click.echo(json.dumps({"version": 1, "sources": done}, indent=2))
        return
    names = names_apart([*map(str, known), *(each["source"] for each in done)])
    for each in done:
        click.echo(f"{names[each['source']]} {each['text']}")
