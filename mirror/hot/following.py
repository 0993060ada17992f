"""Followers of a change feed, for threads and for event loops: see :mod:`mirror.hot.changes`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from mirror.core.changes import Change, Mark
from mirror.core.errors import ConfigError
from mirror.core.positions import Lsn
from mirror.hot.changes import LONGEST_BLOCK, Following
from mirror.hot.given import shown
from mirror.hot.methods import AsyncMethods, Methods
from mirror.hot.names import Names
from mirror.hot.runners import AsyncRunner, Runner

#: Neither half of a position is higher in Postgres; an entry's id has a bit more room.
_HIGHEST = 2**63 - 1


def _following(names: Names, source: Path | str, from_lsn: Mark | Lsn | str | None) -> Following:
    """A follower's state. Raises ``ConfigError`` for a source or a position that is none."""
    doing, step = "follow the changes", "give the mark of a change, or its lsn, as in 12:345"
    if not isinstance(source, str | Path):
        raise ConfigError(doing, shown(source), "the source is no path", next_step="give the path of its SQLite file")
    if not isinstance(from_lsn, Mark | Lsn | str | None):
        raise ConfigError(doing, str(source), f"not a position: {shown(from_lsn)}", next_step=step)
    following = Following(names, source, from_lsn)
    if following.lsn is not None and max(following.lsn.generation, following.lsn.frame) > _HIGHEST:
        raise ConfigError(doing, str(source), f"no feed comes so far: {following.lsn}", next_step=step)
    return following


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
        return Follower(self._runner, _following(self._runner.names, source, from_lsn))


class AsyncChanges(AsyncMethods):
    """What mirrors have applied to Postgres."""

    def follow(self, source: Path | str, from_lsn: Mark | Lsn | str | None = None) -> AsyncFollower:
        """:meth:`Changes.follow`."""
        return AsyncFollower(self._runner, _following(self._runner.names, source, from_lsn))
