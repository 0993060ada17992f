"""The interface that a program uses, and its implementations on SQLite, on Postgres, and on both.

All are one adapter over other settings: :func:`mirror.storage.factory.get_storage_adapter` gives one that follows the
configuration, and the classes here one whose backend is fixed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from msgspec import structs

from mirror.core.config.argent_json import state_folder
from mirror.core.config.settings import StorageSettings
from mirror.core.errors import BusyError, ControlError, SinkError, StorageError
from mirror.core.place import is_away
from mirror.storage.agent_sessions import AgentSessions, AsyncAgentSessions
from mirror.storage.backing import Backing, Files, Pools
from mirror.storage.dashboard import AsyncTasks, AsyncTeams, Tasks, Teams
from mirror.storage.forks import Lock
from mirror.storage.jobs import AsyncJobs, Jobs
from mirror.storage.keys import AsyncKeys, Keys
from mirror.storage.knowledge import AsyncKnowledge, Knowledge
from mirror.storage.memory import AsyncMemory, Memory
from mirror.storage.on_postgres.attempts import CONNECT_SECONDS
from mirror.storage.on_postgres.store import PostgresStore
from mirror.storage.on_postgres.store_async import AsyncPostgresStore
from mirror.storage.operations.base import Context
from mirror.storage.routing import Routes, SourceReads, TokenRoutes, postgres_only
from mirror.storage.runners import AsyncRoutedRunner, RoutedRunner
from mirror.storage.secrets import Keyring, load_keyring
from mirror.storage.sessions import TOKEN_SECONDS, Session, Token

Settings = Callable[[], StorageSettings]

#: Seconds that :meth:`init` waits for Postgres where SQLite can answer: enough for a server that is there.
FIRST_PATIENCE = 0.25
#: Seconds between two questions to a mirror that did not give a token.
_TOKEN_PAUSE = 0.01


class Reader:
    """Reads at a token."""

    def __init__(self, memory: RoutedRunner, dashboard: RoutedRunner) -> None:
        self.memory = Memory(memory)
        self.tasks, self.teams = Tasks(dashboard), Teams(dashboard)


class AsyncReader:
    """Reads at a token."""

    def __init__(self, memory: AsyncRoutedRunner, dashboard: AsyncRoutedRunner) -> None:
        self.memory = AsyncMemory(memory)
        self.tasks, self.teams = AsyncTasks(dashboard), AsyncTeams(dashboard)


class StorageAdapter(Protocol):
    """A program's data. A context manager, which closes it."""

    @property
    def memory(self) -> Memory:
        """Memories, their topics, entities, lessons."""

    @property
    def tasks(self) -> Tasks:
        """Tasks, and projects of them."""

    @property
    def teams(self) -> Teams:
        """Teams of sessions."""

    @property
    def jobs(self) -> Jobs:
        """Recurring work, in Postgres alone."""

    @property
    def knowledge(self) -> Knowledge:
        """Collections of documents, in Postgres alone."""

    @property
    def sessions(self) -> AgentSessions:
        """Sessions, and what was observed in them, in Postgres alone."""

    @property
    def keys(self) -> Keys:
        """Service keys and credentials, encrypted, in Postgres alone."""

    def init(self) -> None:
        """Connect to the stores that the settings name; raises a ``MirrorError``."""

    def close(self) -> None:
        """Close what this has open. Any later call raises ``StorageError``, but for another of this."""

    def is_ready(self) -> bool:
        """Whether :meth:`init` was done and :meth:`close` was not."""

    def for_agent(self, agent_id: str) -> StorageAdapter:
        """The same for another agent; closed with this one. Raises ``ConfigError`` if there is no such agent."""

    def token(self) -> str:
        """A token for all that this adapter has seen and written: a read at it, on any host, is not older.

        It is of the sources (memory, dashboard) that the adapter has used so far; of all before that. Takes a second at
        most. Raises ``ControlError`` (retryable) if the mirror does not say.
        """

    def read(self, at: str) -> Reader:
        """Reads of Postgres that are not older than a token, on any host. Raises ``TokenError`` for what is none.

        So does reading a source that the token is not of.
        """


class AsyncStorageAdapter(Protocol):
    """:class:`StorageAdapter`, as coroutines."""

    @property
    def memory(self) -> AsyncMemory:
        """Memories, their topics, entities, lessons."""

    @property
    def tasks(self) -> AsyncTasks:
        """Tasks, and projects of them."""

    @property
    def teams(self) -> AsyncTeams:
        """Teams of sessions."""

    @property
    def jobs(self) -> AsyncJobs:
        """Recurring work, in Postgres alone."""

    @property
    def knowledge(self) -> AsyncKnowledge:
        """Collections of documents, in Postgres alone."""

    @property
    def sessions(self) -> AsyncAgentSessions:
        """Sessions, and what was observed in them, in Postgres alone."""

    @property
    def keys(self) -> AsyncKeys:
        """Service keys and credentials, encrypted, in Postgres alone."""

    async def token(self) -> str:
        """As :meth:`StorageAdapter.token`."""

    def read(self, at: str) -> AsyncReader:
        """As :meth:`StorageAdapter.read`."""

    async def init(self) -> None:
        """Connect to the stores that the settings name; raises a ``MirrorError``."""

    async def close(self) -> None:
        """Close what this has open. Any later call raises ``StorageError``, but for another of this."""

    def is_ready(self) -> bool:
        """Whether :meth:`init` was done and :meth:`close` was not."""

    def for_agent(self, agent_id: str) -> AsyncStorageAdapter:
        """The same for another agent; closed with this one. Raises ``ConfigError`` if there is no such agent."""


if TYPE_CHECKING:

    def _conform(one: Adapter, other: AsyncAdapter) -> tuple[StorageAdapter, AsyncStorageAdapter]:
        """What the type checker proves. At run time nothing could: both kinds have methods of the same names."""
        return one, other


def _keyring() -> Keyring:
    """The keys of encryption, of the environment or a file."""
    return load_keyring(os.environ, state_folder(os.environ))


class _Shared:
    """What both kinds of adapters have."""

    def __init__(self, backing: Backing, files: Files, settings: Settings) -> None:
        self._backing = backing
        self._files = files
        self._given = settings
        self._context = Context(files.agent)
        self._sources = {
            source: SourceReads(known, Session(known, source), Lock()) for source, known in files.freshness.items()
        }
        self._routes = Routes(self._settings, dict(self._sources), backing.health)
        self._shadow = partial(backing.shadow.offer, files)
        self._ready = self._is_closed = False

    def _settings(self) -> StorageSettings:
        """The settings of now, for which everything asks that this does. Raises ``StorageError`` after closing."""
        if self._is_closed:
            raise StorageError("use the adapter", detail="it is closed", next_step="make another one")
        return self._given()

    def is_ready(self) -> bool:
        """Whether :meth:`init` was done and :meth:`close` was not."""
        return self._ready

    def _token(self) -> str:
        self._settings()
        if not self._sources:
            step = "ask on the host that has the program's files"
            raise StorageError("give a token", detail="there is no such SQLite file here", next_step=step)
        used = [reads for reads in self._sources.values() if reads.session.used] or [*self._sources.values()]
        deadline = time.monotonic() + TOKEN_SECONDS
        return "+".join(str(_patient_token(reads, deadline)) for reads in used)

    def _token_routes(self, at: str) -> dict[str, TokenRoutes]:
        """The rules for reading each source at a token."""
        self._settings()
        tokens = Token.parse_all(at)
        return {kind: TokenRoutes(self._settings, tokens.get(kind), kind, at) for kind in ("memory", "dashboard")}

    def _open_files(self) -> None:
        if not postgres_only(self._settings()):
            for store in self._files.stores.values():
                if not is_away(store.database):  # else that source was moved to Postgres, and the other one was not
                    store.open()

    def _needs_postgres(self) -> bool:
        settings = self._settings()
        return postgres_only(settings) or settings.read_from == "postgres"

    def _patience(self) -> float | None:
        """Seconds to wait for Postgres to begin with; None: as long as for any connection."""
        settings = self._settings()
        if postgres_only(settings):
            return None
        return min(max(settings.reads.max_wait_ms / 1000, FIRST_PATIENCE), CONNECT_SECONDS)

    def _go_on_without_postgres(self, error: SinkError) -> None:
        """Raise the error, unless SQLite can answer while Postgres is away."""
        if postgres_only(self._settings()):
            raise error
        if not isinstance(error, BusyError):  # a connection is being made
            self._backing.health.has_failed(error)


def _patient_token(reads: SourceReads, deadline: float) -> Token:
    """A token, also of a mirror that has only begun, or is comparing the source just now.

    ``deadline``: of ``time.monotonic``. Raises ``ControlError`` (retryable) if the mirror says nothing until then.
    """
    while True:
        try:
            return reads.session.token(max(deadline - time.monotonic(), _TOKEN_PAUSE), reads.guard)
        except ControlError as error:
            if not error.retryable or time.monotonic() + _TOKEN_PAUSE > deadline:
                raise
        time.sleep(_TOKEN_PAUSE)


class Adapter(_Shared):
    """A :class:`StorageAdapter` whose settings are given by a function, and asked for at each call."""

    def __init__(
        self,
        backing: Backing,
        files: Files,
        settings: Settings,
        pools: Pools[PostgresStore],
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        """``closed``: called once, when this adapter is closed."""
        super().__init__(backing, files, settings)
        self._pools = pools
        self._closed: Callable[[], None] | None = closed
        self._others: dict[str, Adapter] = {}
        runner = RoutedRunner(self._context, self._routes, files.stores, lambda: pools.get(files.schema), self._shadow)
        self.memory = Memory(runner)
        self.tasks, self.teams, self.jobs = Tasks(runner), Teams(runner), Jobs(runner)
        self.knowledge, self.sessions, self.keys = Knowledge(runner), AgentSessions(runner), Keys(runner, _keyring)

    def init(self) -> None:
        """Connect to the stores that the settings name; raises a ``MirrorError``."""
        self._open_files()
        if self._needs_postgres():
            try:
                self._pools.get(self._files.schema).open(self._patience())
            except SinkError as error:
                self._go_on_without_postgres(error)
        self._ready = True

    def close(self) -> None:
        """Close what this has open. Any later call raises ``StorageError``, but for another of this."""
        closed, self._closed = self._closed, None
        self._is_closed, self._ready = True, False
        for other in self._others.values():
            other.close()
        if closed is not None:
            closed()

    def token(self) -> str:
        """As :meth:`StorageAdapter.token`."""
        return self._token()

    def read(self, at: str) -> Reader:
        """As :meth:`StorageAdapter.read`."""
        memory, dashboard = (
            RoutedRunner(self._context, routes, {}, lambda: self._pools.get(self._files.schema))
            for routes in self._token_routes(at).values()
        )
        return Reader(memory, dashboard)

    def for_agent(self, agent_id: str) -> Adapter:
        """The same for another agent; closed with this one. Raises ``ConfigError`` if there is no such agent."""
        self._settings()
        if agent_id not in self._others:
            made = Adapter(self._backing, self._backing.files_of(agent_id), self._given, self._pools)
            made.init()
            self._others[agent_id] = made
        return self._others[agent_id]

    def __enter__(self) -> Self:
        self._settings()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class AsyncAdapter(_Shared):
    """An :class:`AsyncStorageAdapter` whose settings are given by a function, and asked for at each call."""

    def __init__(
        self, backing: Backing, files: Files, settings: Settings, closed: Callable[[], None] = lambda: None
    ) -> None:
        """``closed``: called once, when this adapter is closed. Its pool is its own: it belongs to one event loop."""
        super().__init__(backing, files, settings)
        self._pools: Pools[AsyncPostgresStore] = Pools(backing, AsyncPostgresStore)
        self._closed: Callable[[], None] | None = closed
        self._others: dict[str, AsyncAdapter] = {}
        runner = AsyncRoutedRunner(
            self._context, self._routes, files.stores, lambda: self._pools.get(files.schema), self._shadow
        )
        self.memory = AsyncMemory(runner)
        self.tasks, self.teams, self.jobs = AsyncTasks(runner), AsyncTeams(runner), AsyncJobs(runner)
        self.knowledge, self.sessions = AsyncKnowledge(runner), AsyncAgentSessions(runner)
        self.keys = AsyncKeys(runner, _keyring)

    async def init(self) -> None:
        """Connect to the stores that the settings name; raises a ``MirrorError``."""
        self._open_files()
        if self._needs_postgres():
            try:
                await self._pools.get(self._files.schema).open(self._patience())
            except SinkError as error:
                self._go_on_without_postgres(error)
        self._ready = True

    async def close(self) -> None:
        """Close what this has open. Any later call raises ``StorageError``, but for another of this."""
        closed, self._closed = self._closed, None
        self._is_closed, self._ready = True, False
        for other in self._others.values():
            await other.close()
        for store in self._pools.all():
            await store.close()
        if closed is not None:
            closed()

    async def token(self) -> str:
        """As :meth:`StorageAdapter.token`."""
        return await asyncio.to_thread(self._token)

    def read(self, at: str) -> AsyncReader:
        """As :meth:`StorageAdapter.read`."""
        memory, dashboard = (
            AsyncRoutedRunner(self._context, routes, {}, lambda: self._pools.get(self._files.schema))
            for routes in self._token_routes(at).values()
        )
        return AsyncReader(memory, dashboard)

    def for_agent(self, agent_id: str) -> AsyncAdapter:
        """The same for another agent; closed with this one. Raises ``ConfigError`` if there is no such agent."""
        self._settings()
        if agent_id not in self._others:
            made = AsyncAdapter(self._backing, self._backing.files_of(agent_id), self._given)
            made._ready = True
            self._others[agent_id] = made
        return self._others[agent_id]

    async def __aenter__(self) -> Self:
        if not self._ready:
            await self.init()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


def _fixed(backing: Backing, backend: str, read_from: str) -> Settings:
    """The settings as they are, but with another backend."""
    write_to = ("sqlite", "postgres") if backend == "dual" else (backend,)
    made: tuple[StorageSettings, StorageSettings] | None = None

    def settings() -> StorageSettings:
        nonlocal made
        now = backing.settings()
        if made is None or made[0] is not now:
            made = now, structs.replace(now, backend=backend, read_from=read_from, write_to=write_to)
        return made[1]

    return settings


class _Fixed(Adapter):
    backend, read_from = "", ""

    def __init__(self, config: str | Path | None = None, agent: str | None = None) -> None:
        """``config``: the configuration file; None: in the usual places. ``agent``: None: the only one there is.

        Raises ``ConfigError`` and ``SourceError``. :meth:`init` connects.
        """
        backing = Backing(config)
        pools: Pools[PostgresStore] = Pools(backing, PostgresStore)

        def closed() -> None:
            for store in pools.all():
                store.close()
            backing.close()

        try:
            files = backing.files_of(agent)
        except BaseException:
            backing.close()
            raise
        super().__init__(backing, files, _fixed(backing, self.backend, self.read_from), pools, closed)


class SQLiteAdapter(_Fixed):
    """On the program's SQLite files alone, whatever the configuration's backend."""

    backend, read_from = "sqlite", "sqlite"


class PostgresAdapter(_Fixed):
    """On Postgres alone. Not while a mirror writes there: what this writes is not in SQLite."""

    backend, read_from = "postgres", "postgres"


class DualAdapter(_Fixed):
    """Writes to SQLite, which the mirror carries to Postgres; reads from Postgres what is proved fresh."""

    backend, read_from = "dual", "postgres"
