"""``get_storage_adapter()``: the adapter that the configuration describes, and goes on describing.

The stores of one configuration are opened once in a process, and closed with the last adapter of it. Each adapter is a
session of its own: no answer of it is older than an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from mirror.core.config.settings import load_settings
from mirror.storage.adapters import Adapter, AsyncAdapter
from mirror.storage.backing import Backing, Pools, sources_in
from mirror.storage.forks import Lock
from mirror.storage.on_postgres.store import PostgresStore


@dataclass
class _Shared:
    """The stores of one configuration, and how many adapters use them."""

    backing: Backing
    pools: Pools[PostgresStore]
    users: int = 0


_guard = Lock()
_shared: dict[tuple[str, ...], _Shared] = {}


def get_storage_adapter(config: str | Path | None = None, agent: str | None = None) -> Adapter:
    """The adapter for a configuration, connected.

    ``config``: the path of mirror.json (or argent.json); None: in the usual places. ``agent``: whose data; None: of the
    only agent that there is. A changed configuration takes effect within a second. Raises ``ConfigError``,
    ``StateError``, ``SourceError`` or ``SinkError`` for what cannot be used now; where SQLite can answer, Postgres may
    be away.
    """
    shared, release = _take(config)
    try:
        backing = shared.backing
        made = Adapter(backing, backing.files_of(agent), backing.settings, shared.pools, release)
        made.init()
    except BaseException:
        release()
        raise
    return made


class Opening:
    """An adapter that is opened when this is awaited, or by ``async with``, which closes it, too."""

    def __init__(self, config: str | Path | None, agent: str | None) -> None:
        self._config, self._agent = config, agent
        self._opened: list[AsyncAdapter] = []

    def __await__(self) -> Generator[Any, None, AsyncAdapter]:
        return _open(self._config, self._agent).__await__()

    async def __aenter__(self) -> AsyncAdapter:
        adapter = await self
        self._opened.append(adapter)
        return adapter

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._opened.pop().close()


def get_async_storage_adapter(config: str | Path | None = None, agent: str | None = None) -> Opening:
    """:func:`get_storage_adapter`, for the event loop in which it is awaited, or used with ``async with``."""
    return Opening(config, agent)


async def _open(config: str | Path | None, agent: str | None) -> AsyncAdapter:
    shared, release = _take(config)
    try:
        backing = shared.backing
        made = AsyncAdapter(backing, backing.files_of(agent), backing.settings, release)
        await made.init()
    except BaseException:
        release()
        raise
    return made


def _take(config: str | Path | None) -> tuple[_Shared, Callable[[], None]]:
    """The stores of a configuration, and what ends this use of them."""
    key = _key(config)
    with _guard:
        found = _shared.get(key)
        if found is None:
            backing = Backing(config)
            found = _shared[key] = _Shared(backing, Pools(backing, PostgresStore))
        found.users += 1
    done = False

    def release() -> None:
        nonlocal done
        with _guard:
            if done:
                return
            done = True
            found.users -= 1
            if found.users or _shared.get(key) is not found:
                return
            del _shared[key]
        for store in found.pools.all():
            store.close()
        found.backing.close()

    return found, release


def _key(config: str | Path | None) -> tuple[str, ...]:
    """What tells configurations apart: the files that they are read from, and the sources that these name."""
    settings = load_settings((), None, None, None, None if config is None else str(config))
    return *(str(file.path) for file in settings.files), *sources_in(settings)
