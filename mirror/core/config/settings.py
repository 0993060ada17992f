"""Settings: which values count, and where each comes from. Only this package compares the places.

For every value: flag > environment > mirror.json > argent.json > default. A variable that is blank counts as unset.

=====================================  ======================================================================
key of mirror.json                     the places that can set it; the first one counts
=====================================  ======================================================================
``sources``                            arguments > mirror.json > argent.json's ``storage.mirror`` (older) > those
                                       that the state directory knows. A path, or an object with:
``sources[].path``                     the SQLite file
``sources[].agent``                    ``--agent`` > the source's entry > none (for a MemuStore: argent)
``sources[].schema``                   ``--schema`` > the source's entry > the schema
                                       that the source has already > public
``sources[].profile``                  ``--profile``, unless auto > the source's entry > auto
``stateDir``                           ``--state-dir`` > ``MIRROR_STATE_DIR`` > mirror.json > ``storage.mirror`` >
                                       the folder mirror beside the file that was named > in the folder of ArgentOS
``postgres.connectionString``          ``--postgres`` > ``ARGENT_PG_URL`` > ``PG_URL`` > mirror.json > mirror.json's
                                       ``storage.postgres`` > argent.json's ``storage.postgres`` > the one that the
                                       state directory remembers from the last `mirror up` > an embedded server
``sidecar``                            enable_mirror(sidecar=…) > mirror.json > ``storage.mirror`` > outlives
``storage.backend``                    mirror.json > argent.json > sqlite
``storage.readFrom``                   mirror.json > argent.json > what backend means
``storage.writeTo``                    mirror.json > argent.json > what backend means
``storage.postgres.connectionString``  ``ARGENT_PG_URL`` > ``PG_URL`` > mirror.json > argent.json
``storage.redis.host``                 mirror.json > argent.json > 127.0.0.1, if redis is mentioned at all
``storage.postgres.maxConnections``    mirror.json > 10
``storage.redis.port``                 mirror.json > argent.json > 6380, if redis is mentioned at all
``storage.redis.db``                   mirror.json > 0
``storage.reads.maxWaitMs``            mirror.json > 20
``storage.reads.neverWait``            mirror.json > false
``storage.reads.alwaysSqlite``         mirror.json > false
``storage.reads.shadowPercent``        mirror.json > 0
``columns``                            mirror.json > no rules
``tables``                             mirror.json > no rules
``cutover.sequences``                  mirror.json > none
``http``                               ``--http`` of `mirror up` > mirror.json > none: nothing is served
``log.format``                         ``--log-format`` of `mirror up` > mirror.json > text
``log.level``                          ``--log-level`` of `mirror up` > mirror.json > info
``alerts.webhook``                     ``MIRROR_ALERTS_WEBHOOK`` > mirror.json > none: nothing is told
``alerts.holdSeconds``                 mirror.json > 60
``alerts.lagSeconds``                  mirror.json > 60
``alerts.rejects``                     mirror.json > 0
``alerts.parityHours``                 mirror.json > 48
``alerts.freeBytes``                   mirror.json > 1,000,000,000
``changes.keep``                       mirror.json > 10,000; without ``changes``, there is no change feed
``changes.log``                        mirror.json > 0: there is no log
``changes.webhook.url``                mirror.json > none
``changes.webhook.tables``             mirror.json > all tables
``$schema``                            ignored; editors use it
=====================================  ======================================================================

mirror.json is ours: ``--config`` > ``MIRROR_CONFIG`` > beside argent.json, whether that is there or not
(:mod:`mirror.core.config.lookup`). It may have comments (JSON5). Its paths are relative to its folder; ``~`` is the
home directory. :mod:`mirror.core.config.mirror_json` has the types and descriptions of the keys. argent.json belongs
to ArgentOS: :mod:`mirror.core.config.argent_json` says how it is found and read. The folder of ArgentOS is
``ARGENT_STATE_DIR`` > ``CLAWDBOT_STATE_DIR`` > ``~/.argentos``, or one of its older names that is there.

``backend``, ``readFrom``, ``writeTo`` and ``alwaysSqlite`` may contradict each other: that is an error where they are
used (:meth:`Settings.agreed_storage`), and a note for the commands, because mirroring does not need them.

An entry of ``sources`` applies to its file also when the file is named as an argument. There is no variable for the
schema: a schema belongs to one source, and a variable would apply to all.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mirror.core.beginnings import beginning
from mirror.core.config.alert_settings import AlertSettings, alert_settings
from mirror.core.config.argent_json import state_folder
from mirror.core.config.change_options import ChangeOptions, change_options
from mirror.core.config.log_settings import LogSettings, log_settings
from mirror.core.config.lookup import READ, ConfigFile, Found, absolute, find_files
from mirror.core.config.notes import Note, notes
from mirror.core.config.values import first, of_environment, text_in, value_in
from mirror.core.config.which_postgres import PG_VARIABLES, program_dsns, which_postgres
from mirror.core.dsn import without_password
from mirror.core.errors import ConfigError
from mirror.core.folders import known_sources, resolve
from mirror.core.place import where
from mirror.core.redaction import remember_dsn
from mirror.core.remembered_server import RememberedServer
from mirror.core.rules import Rules

#: The sidecar that a program starts goes on after the program's end, or ends with it; or no sidecar is started.
SIDECARS = ("outlives", "follows", "none")
#: The Postgres schema of a source for which no place sets one.
DEFAULT_SCHEMA = "public"
#: The agent that owns a MemuStore or a dashboard for which no place names one.
DEFAULT_AGENT = "argent"

#: The stores that each backend has.
_STORES = {"sqlite": ("sqlite",), "postgres": ("postgres",), "dual": ("sqlite", "postgres")}


class SourceSettings(msgspec.Struct, frozen=True):
    """The configuration of one source; None: not set."""

    path: Path
    """Absolute, links followed."""
    agent: str | None = None
    schema: str | None = None
    profile: str | None = None
    """None: recognised by the tables."""
    origin: str = ""
    """Where it is listed."""
    named: Path | None = None
    """Absolute, links not followed."""


class ReadSettings(msgspec.Struct, frozen=True):
    """How reads of the storage adapters keep up with writes."""

    max_wait_ms: int = 20
    """For the newest commit to reach Postgres; then SQLite answers."""
    never_wait: bool = False
    """SQLite answers at once where Postgres is behind."""
    always_sqlite: bool = False
    """SQLite answers, whatever ``readFrom`` says."""
    shadow_percent: float = 0
    """Of the reads, from 0 to 100: run on both stores, to compare the answers."""


class StorageSettings(msgspec.Struct, frozen=True):
    """How the program itself stores its data: the section ``storage``, as ArgentOS understands it, and our own keys."""

    backend: str = "sqlite"
    """sqlite, dual or postgres."""
    read_from: str = "sqlite"
    write_to: tuple[str, ...] = ("sqlite",)
    dsn: str | None = None
    redis: tuple[str, int] | None = None
    """Host and port; None: no Redis."""
    redis_db: int = 0
    max_connections: int = 10
    """To Postgres, of one process, at the same time."""
    reads: ReadSettings = ReadSettings()

    def contradictions(self) -> Iterator[Note]:
        """The keys that do not agree with others, and how to put that right."""
        stores = _STORES[self.backend]
        has = f"backend {self.backend} has its data only in {stores[0]}"
        if self.read_from not in stores:
            step = f"set storage.backend to dual, or storage.readFrom to {stores[0]}"
            yield Note("storage.readFrom", f"it is {self.read_from}, but {has}", step)
        if other := [store for store in self.write_to if store not in stores]:
            step = f'set storage.backend to dual, or storage.writeTo to ["{stores[0]}"]'
            yield Note("storage.writeTo", f"it has {other[0]}, but {has}", step)
        if not self.write_to:
            yield Note("storage.writeTo", "it is empty", "name sqlite, postgres or both, or leave it out")
        elif self.read_from in stores and self.read_from not in self.write_to:
            detail = (
                f"it is {self.read_from}, but writeTo has only {', '.join(self.write_to)}: reads would see the past"
            )
            yield Note("storage.readFrom", detail, f"set it to {self.write_to[0]}, or add it to storage.writeTo")
        if self.reads.always_sqlite and not ("sqlite" in stores and "sqlite" in self.write_to):
            detail = "it is true, but nothing is written to SQLite: reads would see the past"
            yield Note("storage.reads.alwaysSqlite", detail, "remove it, or let backend and writeTo include sqlite")


class Settings(msgspec.Struct, frozen=True):
    """The settings of one command."""

    sources: tuple[Path, ...]
    """Absolute paths; empty when none is named anywhere."""
    dsn: str | None
    """None: the embedded server in the state directory."""
    state_dir: Path
    schema: str | None
    """As it was named for this command; None: each source's own."""
    configured: tuple[SourceSettings, ...] = ()
    """The entries of the files, also of sources that were not named now."""
    storage: StorageSettings = msgspec.field(default_factory=StorageSettings)
    columns: Mapping[str, str] = msgspec.field(default_factory=dict)
    """By ``table.column`` of the sources, how a column is held: as `columns` in mirror.json says."""
    tables: Mapping[str, str] = msgspec.field(default_factory=dict)
    """By the name of a virtual table of the sources: rows, if its data are mirrored."""
    sequences: Mapping[str, Sequence[str]] = msgspec.field(default_factory=dict)
    """By the name of a sequence in Postgres that no column has: the columns of the sources, each ``table.column``,
    above whose values a move sets it."""
    http: str | None = None
    """The address of the status page of `mirror up`: a port, or HOST:PORT; None: there is none."""
    log: LogSettings = msgspec.field(default_factory=LogSettings)
    alerts: AlertSettings = msgspec.field(default_factory=AlertSettings)
    changes: ChangeOptions | None = None
    """The change feed; None: there is none."""
    sidecar: str = SIDECARS[0]
    """What happens, when a program ends, to the sidecar that it has started: one of :data:`SIDECARS`."""
    arguments: tuple[str, ...] = ()
    """The options with which another command means the same mirror; never a password."""
    config: Path | None = None
    """The file that ``--config`` or ``MIRROR_CONFIG`` names."""
    origins: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Where each value comes from, by the key that it has in mirror.json."""
    files: tuple[ConfigFile, ...] = ()
    """The files that were looked for."""
    notes: tuple[Note, ...] = ()
    links: Mapping[Path, Path] = msgspec.field(default_factory=dict)
    """The absolute names by which sources were named that are known by another path, as links lead there."""
    remembered: RememberedServer | None = None
    """The server that the state directory remembers, where :attr:`dsn` is that one."""
    problem: str | None = None
    """Why the files cannot be used as they are, where the command goes on with what can be used of them."""

    @property
    def rules(self) -> Rules:
        """What is said of single columns and tables."""
        return Rules(self.columns, self.tables)

    @property
    def options(self) -> str:
        """:attr:`arguments` as text for a shell, with a space before each."""
        return "".join(f" {shlex.quote(argument)}" for argument in self.arguments)

    @property
    def without_schema(self) -> str:
        """As :attr:`options`, without ``--schema``: for commands that go by what is remembered, or name another one."""
        pairs = zip(self.arguments[::2], self.arguments[1::2], strict=True)
        return "".join(f" {name} {shlex.quote(value)}" for name, value in pairs if name != "--schema")

    @property
    def agents(self) -> Mapping[Path, str]:
        """The agents that are configured for sources."""
        return {entry.path: entry.agent for entry in self.configured if entry.agent is not None}

    @property
    def schemas(self) -> Mapping[Path, str]:
        """The Postgres schemas that are configured for sources; ``--schema`` comes before them."""
        return {entry.path: entry.schema for entry in self.configured if entry.schema is not None}

    @property
    def profiles(self) -> Mapping[Path, str]:
        """The profiles that are configured for sources."""
        return {entry.path: entry.profile for entry in self.configured if entry.profile is not None}

    def agreed_storage(self) -> StorageSettings:
        """:attr:`storage`, whose keys do not contradict each other; raises ``ConfigError`` if they do."""
        if found := list(self.storage.contradictions()):
            places = dict.fromkeys(self.origins.get(note.path, note.path) for note in found)
            details = "; ".join(f"{note.path}: {note.detail}" for note in found)
            raise ConfigError(READ, ", ".join(places), details, next_step="; ".join(note.next_step for note in found))
        return self.storage

    def known(self) -> tuple[Path, ...]:
        """The sources named, or else those that the state directory knows.

        Raises ``ConfigError`` if there is none, or if one is named that does not exist and was never mirrored.
        """
        known = tuple(dict.fromkeys((*known_sources(self.state_dir), *beginning(self.state_dir))))
        for source in self.sources:
            if source not in known:
                require_file(source, "find the sources")
        found = self.sources or known
        if not found:
            origin = self.origins.get("stateDir", "default")
            told = "the default" if origin == "default" else origin.replace("environment", "from the variable")
            raise ConfigError(
                "find the sources",
                f"{self.state_dir}, {told}",
                "no source is named, and nothing was mirrored yet with this state directory",
                next_step=f"begin with `mirror up FILE.db{self.options}`, or name the --state-dir of the mirror",
            )
        return found


def require_file(source: Path, operation: str) -> None:
    """Raise ``ConfigError`` if there is no file of this name; it may have another one after a move."""
    if not where(source).is_file():
        detail = "it is a directory" if source.is_dir() else "no such file"
        raise ConfigError(operation, str(source), detail, next_step="check the path")


def load_settings(
    sources: Sequence[str],
    postgres: str | None,
    state_dir: str | None,
    schema: str | None,
    config: str | None,
    environment: Mapping[str, str] = os.environ,
    *,
    lenient: bool = False,
) -> Settings:
    """Gather the settings of one command. An argument that is None, or an empty text, was not given as a flag.

    Raises ``ConfigError`` for a file that cannot be used, a source that is named twice, and a variable that is needed
    and not set; ``StateError`` if the server that is remembered is needed and cannot be read. ``lenient``: of a file
    that cannot be used, what can be used is taken (:func:`find_files`).
    """
    read = find_files(config, environment, lenient=lenient)
    origins: dict[str, str] = {}
    entries, origins["sources"] = _entries(read, environment)
    if sources:
        origins["sources"] = "arguments"
    named = [_resolved(source, environment) for source in sources] or [entry.path for entry in entries]
    links = {entry.path: entry.named for entry in entries if entry.named is not None}
    links |= {_resolved(source, environment): absolute(source, environment) for source in sources}
    if len(set(named)) < len(named):
        raise ConfigError("find the sources", detail="a source is named twice", next_step="name each once")
    folder, origins["stateDir"] = _state_dir(read, state_dir, environment)
    dsn, origins["postgres.connectionString"], remembered = which_postgres(
        read, postgres, environment, folder, lenient=lenient
    )
    columns = value_in(read.ours, "columns") or {}
    origins["columns"] = f"{read.mirror_path}: columns" if columns else "default"
    tables = value_in(read.ours, "tables") or {}
    origins["tables"] = f"{read.mirror_path}: tables" if tables else "default"
    sequences = value_in(read.ours, "cutover", "sequences") or {}
    origins["cutover.sequences"] = f"{read.mirror_path}: cutover.sequences" if sequences else "default"
    http = text_in(read.ours, "http")
    origins["http"] = f"{read.mirror_path}: http" if http else "default"
    place = str(read.mirror_path)
    log, of_log = log_settings(read.ours, place)
    alerts, of_alerts = alert_settings(read.ours, place, environment)
    changes, of_changes = change_options(read.ours, place)
    origins["schema"] = "--schema" if schema else "default"
    sidecar, origins["sidecar"] = first(
        (text_in(read.ours, "sidecar"), f"{read.mirror_path}: sidecar"),
        (text_in(read.older, "sidecar"), f"{read.argent_path}: storage.mirror.sidecar"),
        default=(SIDECARS[0], "default"),
    )
    storage, of_storage = _storage(read, environment)
    for each in (dsn, storage.dsn):
        remember_dsn(each)
    arguments: list[str] = []
    if origins["stateDir"] in ("--state-dir", "environment MIRROR_STATE_DIR"):
        arguments += ["--state-dir", str(folder)]
    if read.named is not None:
        arguments += ["--config", str(read.named)]
    if schema:
        arguments += ["--schema", schema]
    if postgres and (shown := without_password(postgres)):
        arguments += ["--postgres", shown]
    return Settings(
        tuple(named),
        dsn,
        folder,
        schema or None,
        entries,
        storage,
        columns,
        tables,
        sequences,
        http,
        log,
        alerts,
        changes,
        str(sidecar),
        tuple(arguments),
        read.named,
        origins | of_log | of_alerts | of_changes | of_storage,
        read.files,
        (*notes(read, environment), *storage.contradictions()),
        {path: link for path, link in links.items() if link != path},
        remembered=remembered,
    )


# -- single values -------------------------------------------------------------------------------------


def _entries(read: Found, environment: Mapping[str, str]) -> tuple[tuple[SourceSettings, ...], str]:
    """The sources that files list, and which list that is. Older entries are relative to the working directory."""
    for section, path, key, base in (
        (read.ours, read.mirror_path, "sources", read.mirror_path.parent),
        (read.older, read.argent_path, "storage.mirror.sources", None),
    ):
        listed = value_in(section, "sources")
        if listed is None:
            continue
        made: dict[Path, SourceSettings] = {}
        for index, entry in enumerate(listed):
            name = entry if isinstance(entry, str) else entry.path
            profile = text_in(entry, "profile")
            one = SourceSettings(
                _resolved(name, environment, base),
                text_in(entry, "agent"),
                text_in(entry, "schema"),
                None if profile == "auto" else profile,
                f"{path}: {key}[{index}]",
                absolute(name, environment, base),
            )
            if one.path in made:
                first = made[one.path].origin.removeprefix(f"{path}: ")
                detail = f"{key}[{index}]: the same file as {first}"
                raise ConfigError(READ, str(path), detail, next_step="list each file once")
            made[one.path] = one
        return tuple(made.values()), f"{path}: {key}"
    return (), "default: those that the state directory knows"


def _state_dir(read: Found, flag: str | None, environment: Mapping[str, str]) -> tuple[Path, str]:
    folder = state_folder(environment) if read.named is None else read.named.parent
    ours = text_in(read.ours, "state_dir")
    name, origin = first(
        (flag, "--state-dir"),
        *of_environment(environment, "MIRROR_STATE_DIR"),
        (ours and str(absolute(ours, environment, read.mirror_path.parent)), f"{read.mirror_path}: stateDir"),
        (text_in(read.older, "state_dir"), f"{read.argent_path}: storage.mirror.stateDir"),
        default=(str(folder / "mirror"), "default"),
    )
    return _resolved(str(name), environment), origin


def _storage(read: Found, environment: Mapping[str, str]) -> tuple[StorageSettings, dict[str, str]]:
    """``storage``, key by key, and where each comes from."""
    origins: dict[str, str] = {}

    def value(key: str, *names: str, default: Any) -> Any:
        origins[f"storage.{key}"] = "default"
        for section, path in ((value_in(read.ours, "storage"), read.mirror_path), (read.theirs, read.argent_path)):
            found = value_in(section, *names)
            if found is not None:
                origins[f"storage.{key}"] = f"{path}: storage.{key}"
                return found
        return default

    backend = value("backend", "backend", default="sqlite")
    read_from = value("readFrom", "read_from", default="postgres" if backend == "postgres" else "sqlite")
    both = ("sqlite", "postgres")
    write_to = value("writeTo", "write_to", default=both if backend == "dual" else (backend,))
    key = "postgres.connectionString"
    dsn, origins[f"storage.{key}"] = first(
        *of_environment(environment, *PG_VARIABLES), *program_dsns(read), default=(None, "default")
    )
    host, port = value("redis.host", "redis", "host", default=None), value("redis.port", "redis", "port", default=None)
    mentioned = value_in(read.ours, "storage", "redis") is not None or value_in(read.theirs, "redis") is not None
    redis = (host or "127.0.0.1", port or 6380) if mentioned else None
    connections = value("postgres.maxConnections", "postgres", "max_connections", default=10)
    db = value("redis.db", "redis", "db", default=0)
    usual = ReadSettings()
    reads = ReadSettings(
        value("reads.maxWaitMs", "reads", "max_wait_ms", default=usual.max_wait_ms),
        value("reads.neverWait", "reads", "never_wait", default=usual.never_wait),
        value("reads.alwaysSqlite", "reads", "always_sqlite", default=usual.always_sqlite),
        value("reads.shadowPercent", "reads", "shadow_percent", default=usual.shadow_percent),
    )
    return StorageSettings(backend, read_from, tuple(write_to), dsn, redis, db, connections, reads), origins


def _resolved(name: str, environment: Mapping[str, str], base: Path | None = None) -> Path:
    """A path as an absolute one, links followed."""
    try:
        return resolve(absolute(name, environment, base))
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a NUL
        raise ConfigError("find a file", name, str(error), next_step="check the path") from error
