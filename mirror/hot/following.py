"""Followers of a change feed, for threads and for event loops: see :mod:`mirror.hot.changes`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from mirror.core.changes import Change, Mark
from mirror.core.positions import Lsn
from mirror.hot.changes import LONGEST_BLOCK, Following
from mirror.hot.methods import AsyncMethods, Methods
from mirror.hot.runners import AsyncRunner, Runner


class Follower:
    """Reads the changes of one source, each once and in order. One thread at a time."""

    def __init__(self, runner: Runner, following: Following) -> None:
        self._runner = runner
        self._following = following

    @property
    def mark(self) -> str | None:
        """See :attr:`Following.mark <mirror.hot.changes.Following.mark>`."""
        return self._following.mark

    def read(self, wait: float = 0.0) -> list[Change]:
        """See :meth:`Following.read <mirror.hot.changes.Following.read>`."""
        return self._runner.run(self._following.read(wait))

    def __iter__(self) -> Iterator[Change]:
        """All that comes, for ever. Raises as :meth:`read` does."""
        while True:
            yield from self.read(LONGEST_BLOCK)


class AsyncFollower:
    """:class:`Follower` for an event loop. One task at a time."""

    def __init__(self, runner: AsyncRunner, following: Following) -> None:
        self._runner = runner
        self._following = following

    @property
    def mark(self) -> str | None:
        """See :attr:`Following.mark <mirror.hot.changes.Following.mark>`."""
        return self._following.mark

    async def read(self, wait: float = 0.0) -> list[Change]:
        """See :meth:`Following.read <mirror.hot.changes.Following.read>`."""
        return await self._runner.run(self._following.read(wait))

    async def __aiter__(self) -> AsyncIterator[Change]:
        """All that comes, for ever."""
        while True:
            for change in await self.read(LONGEST_BLOCK):
                yield change


class Changes(Methods):
    """What mirrors have applied to Postgres."""

    def follow(self, source: Path | str, from_lsn: Mark | Lsn | str | None = None) -> Follower:
        """The changes of a source (its SQLite file) after a mark, or a position; None: from now on.

        Keep the ``mark`` of what was dealt with, and give it here after a restart. ``0:0``: from the begin. Raises
        ``ConfigError``.
        """
        return Follower(self._runner, Following(self._runner.names, source, from_lsn))


class AsyncChanges(AsyncMethods):
    """What mirrors have applied to Postgres."""

    def follow(self, source: Path | str, from_lsn: Mark | Lsn | str | None = None) -> AsyncFollower:
        """:meth:`Changes.follow`."""
        return AsyncFollower(self._runner, Following(self._runner.names, source, from_lsn))
