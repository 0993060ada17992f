"""What the adapters of one configuration share: its settings, SQLite files, knowledge of their mirror, and pools.

One in a process for each configuration, for as long as an adapter of it is open.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from mirror.core.config.settings import DEFAULT_AGENT, DEFAULT_SCHEMA, Settings, StorageSettings
from mirror.core.errors import ConfigError
from mirror.postgres.embedded import EmbeddedPostgres, start_embedded
from mirror.storage import reporting
from mirror.storage.flags import LiveSettings
from mirror.storage.forks import Lock
from mirror.storage.freshness import Freshness
from mirror.storage.on_postgres.store import PostgresStore
from mirror.storage.on_sqlite.recognise import recognised
from mirror.storage.on_sqlite.store import SQLiteStore
from mirror.storage.operations.base import Context
from mirror.storage.routing import Health
from mirror.storage.shadow_reads import ShadowReads

#: Handled by the program's own logging configuration.
logger = logging.getLogger("mirror")


class Files:
    """One agent's SQLite files, by what they are (memory, dashboard)."""

    def __init__(self, agent: str, schema: str) -> None:
        self.agent = agent
        self.schema = schema
        """Of the agent's tables in Postgres."""
        self.stores: dict[str, SQLiteStore] = {}
        self.freshness: dict[str, Freshness] = {}


def sources_in(settings: Settings) -> tuple[str, ...]:
    """What a backing opens, and keeps open whatever the files say later: in texts that are equal where that is."""
    entries = (
        f"{entry.path}|{entry.agent or DEFAULT_AGENT}|{entry.schema or DEFAULT_SCHEMA}" for entry in settings.configured
    )
    return str(settings.state_dir), *entries


class Backing:
    """Of one configuration. Thread: any."""

    def __init__(self, config: str | Path | None) -> None:
        """Read the configuration and open its files. Raises ``ConfigError``, ``SourceError``."""
        self.live = LiveSettings(config)
        self.health = Health()
        self._guard = Lock()
        self._embedded: EmbeddedPostgres | None = None
        # One connection of its own, so that it takes none that a caller waits for.
        self._shadow_pools: Pools[PostgresStore] = Pools(self, lambda dsn, schema, _: PostgresStore(dsn, schema, 1))
        self.shadow = ShadowReads(self._shadow_pools.get)
        self.agents: dict[str, Files] = {}
        self._opened = self._seen = sources_in(self.live.current)
        self.live.listen(self._changed)
        try:
            self._open(self.live.current)
        except BaseException:
            self.close()
            raise

    def settings(self) -> StorageSettings:
        """The settings now."""
        return self.live.current.storage

    def _changed(self, settings: Settings) -> None:
        seen, self._seen = self._seen, sources_in(settings)
        if self._seen not in (seen, self._opened):
            logger.warning(
                "`sources` or `stateDir` were changed: adapters that are open keep to the files of before; restart the"
                " program, or close them and make others"
            )

    def _open(self, settings: Settings) -> None:
        agents = self.agents
        for entry in settings.configured:
            agent = entry.agent or DEFAULT_AGENT
            if settings.storage.backend == "postgres" and not entry.path.exists():
                agents.setdefault(agent, Files(agent, entry.schema or DEFAULT_SCHEMA))
                continue
            store = SQLiteStore(entry.path)
            kind = recognised(store)
            if kind is None:
                store.close()
                continue
            files = agents.setdefault(agent, Files(agent, entry.schema or DEFAULT_SCHEMA))
            if kind in files.stores:
                store.close()
                detail = f"{agent} has two files of one kind: {files.stores[kind].database} and {entry.path}"
                step = "name another `agent` for one of them in mirror.json"
                raise ConfigError("open the store", str(entry.path), detail, next_step=step)
            files.stores[kind] = store
            freshness = files.freshness[kind] = Freshness(entry.path, settings.state_dir, store.open)
            freshness.ask_sealed = partial(self._is_sealed, files)
            reporting.add(freshness)
            store.require_writable = partial(freshness.require_writable, locked=True)
        if not agents and settings.storage.backend != "postgres":
            places = ", ".join(str(file.path) for file in settings.files if file.name == "mirror.json")
            raise ConfigError(
                "open the store",
                places,
                "none of its sources is a MemuStore or its dashboard",
                next_step="list memory.db (and dashboard.db) in `sources`",
            )

    def _is_sealed(self, files: Files, source_id: int) -> bool:
        return self._shadow_pools.get(files.schema).is_sealed(Context(files.agent), source_id)

    def files_of(self, agent: str | None) -> Files:
        """The files of an agent; None: of the only one there is. Raises ``ConfigError``."""
        if agent is None:
            if len(self.agents) > 1:
                known = ", ".join(sorted(self.agents))
                step = "name one: get_storage_adapter(agent=...)"
                raise ConfigError("open the store", detail=f"there are several agents: {known}", next_step=step)
            return next(iter(self.agents.values()), Files(DEFAULT_AGENT, DEFAULT_SCHEMA))
        found = self.agents.get(agent)
        if found is not None:
            return found
        if self.settings().backend == "postgres":
            schemas = {files.schema for files in self.agents.values()} or {DEFAULT_SCHEMA}
            return Files(agent, next(iter(schemas)))
        raise ConfigError(
            "open the store",
            agent,
            "no file in `sources` of mirror.json is this agent's",
            next_step=f"known agents: {', '.join(sorted(self.agents))}",
        )

    def dsn(self) -> str:
        """The Postgres of the settings now; without one, the embedded server, which is started if need be."""
        settings = self.live.current
        if found := settings.storage.dsn or settings.dsn:
            return found
        with self._guard:
            if self._embedded is None:
                self._embedded = start_embedded(settings.state_dir)
            return self._embedded.dsn

    def close(self) -> None:
        """Close everything; adapters cannot be used any more."""
        with ExitStack() as stack:
            stack.callback(self.live.close)
            if self._embedded is not None:
                stack.callback(self._embedded.stop)
            for files in self.agents.values():
                for store in files.stores.values():
                    stack.callback(store.close)
                for freshness in files.freshness.values():
                    stack.callback(freshness.close)
                    stack.callback(reporting.remove, freshness)
            for pool in self._shadow_pools.all():
                stack.callback(pool.close)
            stack.callback(self.shadow.close)


class Closable(Protocol):
    """A store that is closed."""

    def close(self) -> object:
        """Close it."""


Store = TypeVar("Store", bound=Closable)


class Pools(Generic[Store]):
    """The store in Postgres for each schema, replaced when the settings name another server. Thread: any."""

    def __init__(self, backing: Backing, make: Callable[[str, str, int], Store]) -> None:
        """``make``: of a DSN, a schema and the most connections. It is not opened here."""
        self._backing = backing
        self._make = make
        self._guard = Lock()
        self._stores: dict[str, tuple[tuple[str, int], Store]] = {}
        self._old: list[Store] = []

    def get(self, schema: str) -> Store:
        """The store for a schema by the settings of now."""
        wanted = self._backing.dsn(), self._backing.settings().max_connections
        known = self._stores.get(schema)
        if known is not None and known[0] == wanted:
            return known[1]
        with self._guard:
            known = self._stores.get(schema)
            if known is not None and known[0] == wanted:
                return known[1]
            if known is not None:
                self._old.append(known[1])  # operations may be under way on it
            made = self._make(wanted[0], schema, wanted[1])
            self._stores[schema] = wanted, made
            return made

    def all(self) -> list[Store]:
        """Every store that was made, the replaced ones, too."""
        with self._guard:
            return [*self._old, *(store for _, store in self._stores.values())]
