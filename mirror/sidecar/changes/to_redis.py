"""Tells changes to Redis: the stream of each source (:mod:`mirror.hot.changes`).

Where the stream ends is all that has to be known: what comes after that is read from the feed, and appended if the
stream still ends there. So it does not matter why something is missing: this process was killed before it could append;
Redis was away, is full, has restarted with less than it had or with nothing; an answer was lost.

Two mirrors. Each entry is appended by the mirror that Postgres gave the source last, as far as Redis knows: the epoch
is compared in the same step. A mirror that was stopped, and goes on after another has taken the source over, has
entries of transactions that it did commit, and they are refused all the same.
"""

from __future__ import annotations

from loguru import logger

from mirror.core.changes import Entry
from mirror.core.errors import HotStateError
from mirror.core.positions import Lsn
from mirror.hot import changes
from mirror.hot.changes import Added
from mirror.hot.connection import Address
from mirror.hot.names import Names
from mirror.hot.runners import Runner
from mirror.sidecar.changes.feed import Taken
from mirror.sidecar.changes.log import ChangeLog
from mirror.sidecar.changes.teller import Teller, Told

#: Entries that are appended together.
_TOGETHER = 50
_NOTHING = Lsn(0, 0)


class RedisTeller(Teller):
    """The thread that appends to streams."""

    where = "Redis"

    def __init__(self, at: Address, log: ChangeLog, keep: int) -> None:
        """``keep``: about how many entries a stream keeps."""
        super().__init__()
        self._names = Names()
        self._runner = Runner(at, self._names, patience=0.0)
        self._log = log
        self._keep = keep

    def _tell(self, told: Told) -> bool:
        taken = told.feed.taken
        if taken is None:
            return False
        if told.number != taken.number:
            self._take(told, taken)
            told.number = taken.number
            return True
        end = told.feed.position
        if end is None:
            return False
        if told.position is not None and told.position > end:
            # Its entries are not of what Postgres has: Postgres was put back, or is another one.
            return self._add_anew(told, taken, f"its stream is at {told.position}, and Postgres at {end}")
        entries = told.feed.read(told.mark, _TOGETHER)
        if entries and told.position is not None and entries[0].lsn <= told.position:
            return self._add_anew(told, taken, f"its stream is at {told.position}, of which Postgres knows nothing")
        added = self._add(told, taken, entries, "on")
        if added.fenced:
            raise self._fenced(told)
        if added.done:
            self._has_told(told, entries)
        elif (other := self._other(told, entries, added.ends)) is not None:
            return self._add_anew(told, taken, other)
        told.position = _or_none(added.ends)
        return bool(entries) or not added.done

    def _take(self, told: Told, taken: Taken) -> None:
        """Become the one who publishes the source. Raises ``HotStateError`` if a later mirror has it."""
        added = self._add(told, taken, [], "take")
        if added.fenced:
            # Redis knows a later mirror than we are; unless Postgres, which decides, was put back.
            if self._log.epoch(taken.source_id) != taken.epoch:
                raise self._fenced(told)
            added = self._add(told, taken, [], "over")
        told.position = _or_none(added.ends)
        if added.others and told.position is not None:
            self._add_anew(told, taken, "its entries are of another Postgres")

    def _add(self, told: Told, taken: Taken, entries: list[Entry], how: str) -> Added:
        ends = None if how == "anew" else told.position
        steps = changes.add(self._names, told.feed.source, taken.database, taken.epoch, ends, entries, self._keep, how)
        return self._runner.run(steps)

    def _add_anew(self, told: Told, taken: Taken, why: str) -> bool:
        """Empty the stream, and begin with what the feed has. Raises ``MirrorError``."""
        if self._log.epoch(taken.source_id) != taken.epoch:
            raise self._fenced(told)
        logger.warning("{}: the changes in Redis begin again: {}", told.feed.source, why)
        entries = told.feed.read(None, _TOGETHER)
        added = self._add(told, taken, entries, "anew")
        if added.fenced:
            raise self._fenced(told)
        told.position = _or_none(added.ends)
        self._has_told(told, entries)
        return True

    def _other(self, told: Told, entries: list[Entry], ends: Lsn) -> str | None:
        """The stream ends elsewhere than was thought: why that is not by what we have appended; None: it may be."""
        mine = next((entry for entry in entries if entry.lsn == ends), None)
        if mine is None:
            return None  # before them: it has lost something; after them: the next turn compares it with Postgres
        found = self._runner.run(changes.document_at(self._names, told.feed.source, ends))
        if found is None or found == mine.text:
            self._has_told(told, entries[: entries.index(mine) + 1])  # they were appended, and the answer was lost
            return None
        return f"its entry at {ends} is not what Postgres has"

    def _has_told(self, told: Told, entries: list[Entry]) -> None:
        told.count += len(entries)
        told.gaps += sum(entry.kind == "gap" and entry.after is not None for entry in entries)

    def _fenced(self, told: Told) -> HotStateError:
        return HotStateError(
            "publish changes",
            told.feed.source,
            "another mirror publishes the changes of this source to this Redis",
            next_step="stop one of them, or give each a database of its own (storage.redis.db)",
        )

    def stop(self, seconds: float) -> None:
        """See :meth:`Teller.stop`."""
        super().stop(seconds)
        self._runner.close()


def _or_none(ends: Lsn) -> Lsn | None:
    return None if ends == _NOTHING else ends
