"""The options that commands share."""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from mirror.core.beginnings import beginning
from mirror.core.commands import complete
from mirror.core.config.settings import DEFAULT_SCHEMA, Settings, load_settings
from mirror.core.errors import ConfigError, MirrorError, NotRunningError, OthersWroteError, StateError
from mirror.core.folders import Ending, ending, holder, known_sources, source_folder, source_of
from mirror.core.peer import start_step
from mirror.core.place import is_missing
from mirror.core.published import POSITION_FILE, mirrored_sources
from mirror.core.source_settings import proposed_schema, remembered_schema
from mirror.core.state_errors import file_error
from mirror.core.status import Phase
from mirror.sidecar.next_steps import if_moved

if TYPE_CHECKING:
    from mirror.postgres.embedded import EmbeddedPostgres
    from mirror.sidecar.pipeline import Pipeline

#: The variable in which the command has what ``--postgres`` was given, where that has a password.
GIVEN_POSTGRES = "_MIRROR_POSTGRES"
#: Seconds for which a command that ends by itself tries again before it gives up.
PATIENCE_SECONDS = 5.0
#: How the help shows the arguments of commands on sources.
SOURCES = "[SOURCE]..."
#: Seconds between two checks that the embedded Postgres still runs.
LOOK_SECONDS = 0.5

_OPTIONS = (
    click.option(
        "--postgres",
        metavar="DSN",
        help="Postgres to mirror into, as a URI or as keywords. For a moment other users can read it in the list of "
        "processes, so put a password into the variable or into ~/.pgpass.  [env var: ARGENT_PG_URL, PG_URL; default: "
        "the one that the state directory remembers from the last `mirror up`, or an embedded server]",
    ),
    click.option(
        "--state-dir",
        metavar="DIR",
        help="Directory where the mirror keeps its own files.  [env var: MIRROR_STATE_DIR; default: "
        "~/.argentos/mirror, or mirror beside the file that --config names]",
    ),
    click.option(
        "--schema",
        metavar="NAME",
        help="Postgres schema of the source's tables.  [default: what mirror.json says, or the schema that the source "
        "has already, or public]",
    ),
    click.option(
        "--config",
        metavar="FILE",
        help="mirror.json to read. `mirror config show` prints the settings that apply.  [env var: MIRROR_CONFIG; "
        "default: mirror.json in ARGENT_STATE_DIR or ~/.argentos]",
    ),
    click.option("--debug", is_flag=True, help="Show the Python traceback of an error."),
)

#: The option of commands that can print for a script.
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object, for scripts, instead of text for people."
)

#: The option of commands that write to Postgres what may undo what others have written there.
replace_rows = click.option(
    "--replace-rows",
    is_flag=True,
    help="Replace rows that others than the mirror have written in Postgres, too; they are kept (see `mirror"
    " overwritten`).",
)


def advise_replacing(error: OthersWroteError, command: str) -> None:
    """Have the error name the command that replaces the rows; it was given without ``--replace-rows``."""
    error.next_step = f"`{command}`: what it replaces is then kept in mirror.overwritten"


def advise_starting(error: NotRunningError, settings: Settings) -> None:
    """Have the error name the command that starts the mirror, with the options that this command was given."""
    if error.folder is not None:
        known = (*settings.sources, *beginning(settings.state_dir))
        named = (source for source in known if source_folder(settings.state_dir, source) == error.folder)
        if (source := next(named, source_of(error.folder))) is not None:
            error.place = str(source)
        error.next_step = start_step(source, settings.options)
        if source is not None and (error.folder / POSITION_FILE).exists() and is_missing(source):
            error.detail = f"{error.detail}, and its file is not there"
            error.next_step = if_moved(source, settings.options)


def help_end(*examples: str, codes: Mapping[int, str] | None = None) -> str:
    """The end of a command's help: its examples, one command line each, and what its exit codes mean.

    ``codes``: besides 2, which is the same for every command; None for a group, where each command has its own.
    """
    parts = ["\b\nExample:\n" + "\n".join(f"  {example}" for example in examples)]
    if codes is not None:
        shown = codes if 2 in codes else {**codes, 2: "it could not be done: one line on stderr says why"}
        parts.append("\b\nExit codes:\n" + "\n".join(f"  {code}  {meaning}" for code, meaning in sorted(shown.items())))
    return "\n\n".join(parts)


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every command on sources takes; the command gets them as ``settings``, and ``debug``."""
    return _with_settings(command, load_settings)


def common_even_if_broken(command: Callable[..., Any]) -> Callable[..., Any]:
    """As :func:`common`, for a command that must answer though configuration files cannot be used.

    The settings then have a ``problem``. If it cannot be known which state directory is meant, it is raised.
    """
    return _with_settings(command, _usable_settings)


def common_as(load: Callable[..., Any], arguments: str = SOURCES) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As :func:`common`, for a command that hands the options on: it gets as ``settings`` what ``load`` makes of them:
    the settings, or a tuple that begins with them.

    ``load`` is called with the arguments (sources, as a rule), Postgres, state directory, schema and configuration
    file, as they were given. ``arguments``: how the help shows the first.
    """
    return lambda command: _with_settings(command, load, arguments)


def _usable_settings(*arguments: Any) -> Settings:
    try:
        settings = load_settings(*arguments)
    except (ConfigError, StateError) as error:
        try:
            settings = load_settings(*arguments, lenient=True)
            if known_sources(settings.state_dir):
                return structs.replace(settings, problem=str(error))
        except MirrorError:
            raise error from None
        raise
    try:
        settings.agreed_storage()
    except ConfigError as error:
        return structs.replace(settings, problem=str(error))
    return settings


def _with_settings(
    command: Callable[..., Any], load: Callable[..., Any], arguments: str = SOURCES
) -> Callable[..., Any]:
    @wraps(command)
    def with_settings(
        sources: tuple[str, ...],
        postgres: str | None,
        state_dir: str | None,
        schema: str | None,
        config: str | None,
        debug: bool,
        **own: Any,
    ) -> None:
        if schema == "":
            raise ConfigError("name the schema", "--schema", "it is empty", next_step="name one, or leave it out")
        given = os.environ.pop(GIVEN_POSTGRES, postgres)
        settings = load(sources, given, state_dir, schema, config)
        known = settings[0] if isinstance(settings, tuple) else settings
        try:
            command(settings=settings, debug=debug, **own)
        except NotRunningError as error:
            if isinstance(known, Settings):
                advise_starting(error, known)
            raise
        except MirrorError as error:
            if isinstance(known, Settings):
                complete(error, _source_at(error.place, known), known.options)
            raise
        except OSError as error:
            found = file_error(error, getattr(known, "state_dir", None))
            if found is None:
                raise
            raise found from error

    made: Callable[..., Any] = with_settings
    for option in reversed(_OPTIONS):
        made = option(made)
    return click.argument("sources", nargs=-1, metavar=arguments, type=click.Path())(made)


def _source_at(place: str, settings: Settings) -> str:
    """The source that an error at this place is about, or the only one of the command; empty: all are meant."""
    sources = [str(source) for source in settings.sources or known_sources(settings.state_dir)]
    return place if place in sources else sources[0] if len(sources) == 1 else ""


def schema_of(settings: Settings, source: Path) -> str:
    """The Postgres schema of a source's tables: ``--schema`` > its entry in the configuration > remembered > public.

    Raises ``StateError`` if what is remembered is damaged.
    """
    return named_schema(settings, source) or DEFAULT_SCHEMA


def named_schema(settings: Settings, source: Path) -> str | None:
    """As :func:`schema_of`, and None where that is the default."""
    named = settings.schema or settings.schemas.get(source)
    return named or remembered_schema(source_folder(settings.state_dir, source))


def own_schema_command(settings: Settings, source: Path, schema: str) -> str:
    """The command that gives a source a schema of its own, in place of this one; of a source that a mirror has, a line
    of two, as no other mirror can begin with it.
    """
    named = f"{shlex.quote(str(source))}{settings.without_schema}"
    own = f"--schema {proposed_schema(source, schema)}"
    folder = source_folder(settings.state_dir, source)
    if ending(folder)[0] is not Ending.NOT:
        return f"mirror up {named} {own}"
    holders = [holder(source_folder(settings.state_dir, each)) for each in known_sources(settings.state_dir)]
    begin = "add" if holders.count(holder(folder)) > 1 else "up"  # it ends with its only source
    return f"mirror remove {named} && mirror {begin} {named} {own}"


def agent_and_profile(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--agent`` and ``--profile``; the command gets ``agent`` and ``profile``, None for one that is not given."""
    from mirror.postgres.profiles import CHOICES  # most commands need none

    @wraps(command)
    def with_both(agent: str | None, profile: str, **own: Any) -> None:
        if agent == "":
            raise ConfigError("name the agent", "--agent", "it is empty", next_step="name one, or leave it out")
        command(agent=agent, profile=None if profile == "auto" else profile, **own)

    made: Callable[..., Any] = click.option(
        "--profile",
        type=click.Choice(["auto", *CHOICES]),
        default="auto",
        show_default=True,
        help="How to store the tables: memustore (the memory store of ArgentOS and its dashboard: typed columns, "
        "vectors, search) or generic (those of any program). auto: what mirror.json says, or else by the tables found.",
    )(with_both)
    agent_help = (
        "Agent that owns the rows, where several agents share one Postgres.  [default: what mirror.json says, or else "
        "argent for the memory store of ArgentOS, none for other files]"
    )
    return click.option("--agent", metavar="ID", help=agent_help)(made)


def require_sources(settings: Settings, example: str = "FILE.db") -> None:
    """Raise ``ConfigError`` if no source was named as an argument."""
    if settings.origins.get("sources") != "arguments":
        command = click.get_current_context().command_path.split(" ", 1)[-1]
        step = f"mirror {command} {example}{settings.options}"
        raise ConfigError("find the sources", detail="no source is named", next_step=step)


@contextmanager
def postgres_of(settings: Settings, making: Callable[[Path], None] | None = None) -> Iterator[str]:
    """The DSN to use; an embedded server is started, and stopped afterwards unless others use it.

    ``making``: as for :func:`~mirror.postgres.embedded.start_embedded`. Raises ``ConfigError`` where none is known,
    though what was mirrored with this state directory is in another server, and where the one that is remembered
    wants a password that is not given now.
    """
    if settings.dsn is not None:
        if settings.remembered is not None and settings.remembered.needs_password:
            from mirror.cli.remembering import require_password

            require_password(settings.remembered, str(settings.state_dir))
        yield settings.dsn
        return
    _require_embedded(settings)
    # They take longer to load than some commands to run.
    from loguru import logger

    from mirror.postgres.embedded import start_embedded

    server = start_embedded(settings.state_dir, making)
    if server.is_new and server.runs_as:
        words = "the embedded Postgres runs as the user {} of the system, because Postgres does not run as root"
        logger.info(words, server.runs_as)
    done = threading.Event()
    keeper = threading.Thread(target=_keep_running, args=(server, done), name="mirror postgres", daemon=True)
    keeper.start()
    try:
        yield server.dsn
    finally:
        done.set()
        keeper.join()
        server.stop()


def _require_embedded(settings: Settings) -> None:
    """Another server would be empty: what is asked of it would be answered as if all was lost, or copied again."""
    if os.path.exists(settings.state_dir / "postgres"):
        return
    try:
        mirrored = mirrored_sources(settings.state_dir)
    except MirrorError:  # what is wrong with it is said where the server is started
        return
    if mirrored:
        raise ConfigError(
            "choose Postgres",
            str(settings.state_dir),
            f"what is mirrored with this state directory ({mirrored[0].name}) is in a server that is not named now",
            next_step="name it as it was: --postgres, or ARGENT_PG_URL; to begin anew with an embedded server,"
            " choose another --state-dir",
        )


def _keep_running(server: EmbeddedPostgres, done: threading.Event) -> None:
    """Start the embedded server again, at the same address, when it was killed, until ``done`` is set.

    What keeps it from starting is logged once, however often that is tried.
    """
    from loguru import logger

    logged = ""
    while not done.wait(LOOK_SECONDS):
        try:
            if server.runs():
                logged = ""
                continue
            if not logged:
                logger.warning("the embedded Postgres has ended: starting it again")
            server.start_again()
            logger.info("the embedded Postgres runs again")
            logged = ""
        except Exception as error:
            known = isinstance(error, MirrorError | OSError)
            if str(error) == logged:
                continue
            logged = str(error) or type(error).__name__
            log = logger.opt(exception=None if known else error)
            log.warning("the embedded Postgres does not run: {error}", error=error)


class Patience:
    """For commands that end by themselves: notices pipelines that make no progress."""

    def __init__(self) -> None:
        self._waiting: dict[Pipeline, tuple[str | None, float]] = {}

    def check(self, pipeline: Pipeline) -> None:
        """Raise ``MirrorError`` if it has been waiting for :data:`PATIENCE_SECONDS` without applying anything."""
        status = pipeline.status
        if status.phase is not Phase.WAITING:
            return
        applied, since = self._waiting.get(pipeline, (None, 0.0))
        now = time.monotonic()
        if not since or applied != status.applied:
            self._waiting[pipeline] = status.applied, now
        elif now - since > PATIENCE_SECONDS:
            raise MirrorError("mirror a source", status.source, f"gave up: {status.last_error}")
