"""Which store answers a read of an application's own tables: asked before the read, as a router has to.

An answer of Postgres may not be older than the newest commit of the file when the read began. What shows that is the
position row of the source (:mod:`mirror.storage.freshness`). An object mapper chooses a connection before it asks, so
the row cannot come with the answer, as it does for the storage adapters. It is read first, *on the connection that is
then asked*: by a statement whose snapshot is not later than that of the read, because a server never shows less than it
has shown before. That holds on a primary and on a standby, and through a pooler, as long as that connects to one
server. Where the read is in a transaction of one snapshot (REPEATABLE READ), the row is of that same snapshot.

What it does *not* show: that Postgres has no reject of a commit that came after the row was read. Such an answer is not
of the past, but lacks the rejected row. The next read goes to SQLite.

Reads go to SQLite, too, where Postgres does not have a table that the query may touch, or the connection's
``search_path`` finds another table by its name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mirror.core.errors import SinkError, SourceError
from mirror.core.folders import resolve
from mirror.core.published import Published
from mirror.storage import reporting
from mirror.storage.flags import LiveSettings
from mirror.storage.freshness import PAUSE, Freshness
from mirror.storage.proofs import PositionRow, Start
from mirror.storage.reads import READS, Reason
from mirror.storage.routers.held import Held
from mirror.storage.routing import Health

#: Runs a statement without parameters on the connection that the read would use; returns its rows.
Ask = Callable[[str], Sequence[Sequence[Any]]]

#: Seconds between two questions where Postgres, a standby, was not as far as the mirror said.
_PAUSE = 0.002
#: Seconds after which a table that Postgres did not have is looked for again.
_AGAIN_SECONDS = 1.0
_POSITION = """
    SELECT s.generation, s.frame, s.salt1, s.salt2, s.lineage::text,
           NOT EXISTS (SELECT FROM mirror.rejects r WHERE r.source_id = s.source_id)
           AND NOT EXISTS (SELECT FROM mirror.refusals f WHERE f.source_id = s.source_id),
           EXISTS (SELECT FROM mirror.phase p WHERE p.source_id = s.source_id AND p.sealed_at IS NOT NULL)
      FROM mirror.sources s WHERE s.source_id = {}"""
_TABLES = """
    SELECT lower(t.target_table) FROM mirror.tables t
     WHERE t.source_id = {} AND pg_catalog.to_regclass(pg_catalog.quote_ident(t.target_table)) =
           pg_catalog.to_regclass(pg_catalog.quote_ident(t.target_schema) || '.'
                                  || pg_catalog.quote_ident(t.target_table))"""


class Choice:
    """Where the reads and writes of one source go, in one process. Thread: any."""

    def __init__(
        self,
        source: str | Path,
        state_dir: str | Path,
        config: str | Path | None = None,
        errors: tuple[type[Exception], ...] = (),
    ) -> None:
        """``source``: the SQLite file. ``state_dir``: that of its mirror. ``config``: the mirror.json that has the
        settings, which are followed; None: in the usual places. ``errors``: what an :data:`Ask` raises where Postgres
        does not answer. Raises ``ConfigError`` or ``StateError``.
        """
        database = resolve(source)
        self._live = LiveSettings(config)
        self._errors = errors
        self._health = Health()
        self._tables: tuple[object, frozenset[str], float] = None, frozenset(), 0.0
        """Of which mirror, the tables that Postgres has of it, and when to look for another one."""
        self._held = Held(database)
        self.freshness = Freshness(database, Path(state_dir).absolute(), self._held.open)
        reporting.add(self.freshness)

    def write(self, ask: Ask) -> bool:
        """Whether a write goes to Postgres: only once the source was moved there. Raises ``SourceError``, retryable,
        while it is being moved.
        """
        if self._moved(ask):
            return True
        self.freshness.require_writable()
        return False

    def read(self, tables: Iterable[str], ask: Ask, sleep: Callable[[float], object] = time.sleep) -> bool:
        """Whether Postgres is to answer a read, which it then has to be asked at once, on the connection of ``ask``.

        ``tables``: those that it may touch, in small letters. ``sleep``: waits for some seconds. Waits for Postgres as
        long as ``storage.reads.maxWaitMs`` allows. Each is counted as a read.
        """
        moved = self._moved(ask)
        reason = None if moved else self._why_not(frozenset(tables), ask, sleep)
        store = "postgres" if reason is None else "sqlite"
        READS.count(store, reason or (Reason.SETTING if moved else Reason.FRESH), self.freshness.path)
        return reason is None

    def close(self) -> None:
        """Follow the settings no more, and tell the mirror what was read for the last time."""
        self._live.close()
        self.freshness.close()
        reporting.remove(self.freshness)
        self._held.close()

    def _moved(self, ask: Ask) -> bool:
        """Whether the source was moved to Postgres, whatever the settings say.

        Raises ``SourceError``, retryable, where only Postgres knows that and does not say it.
        """
        key = self.freshness.in_doubt()
        if key is None:
            return bool(self.freshness.is_moved())
        try:
            rows = ask(_POSITION.format(int(key)))
        except self._errors as error:
            detail = f"programs were being moved when the mirror ended, and Postgres does not say how: {error}"
            step = "try again; `mirror cutover status` shows how far it is"
            raise SourceError("choose a store", self.freshness.path, detail, next_step=step, retryable=True) from error
        return bool(rows and rows[0][6])

    def _why_not(self, tables: frozenset[str], ask: Ask, sleep: Callable[[float], object]) -> Reason | None:
        """Why Postgres cannot answer; None: it can."""
        settings = self._live.current.storage
        if settings.backend == "sqlite" or settings.read_from == "sqlite" or settings.reads.always_sqlite:
            return Reason.SETTING
        if self._health.failed:
            return Reason.FAILED
        start = self.freshness.begin()
        if start.reason is not None or start.published is None:
            return start.reason or Reason.NOT_FOLLOWED
        deadline = time.monotonic() + (0.0 if settings.reads.never_wait else settings.reads.max_wait_ms / 1000)
        try:
            return self._unproved(start, start.published, deadline, tables, ask, sleep)
        except self._errors as error:
            step = "check that Postgres is up, and what this user may read (mirror/storage/README.md)"
            detail = str(error).strip()
            self._health.has_failed(SinkError("ask Postgres how far it is", detail=detail, next_step=step))
            return Reason.FAILED

    def _unproved(
        self,
        start: Start,
        published: Published,
        deadline: float,
        tables: frozenset[str],
        ask: Ask,
        sleep: Callable[[float], object],
    ) -> Reason | None:
        """Why it is not shown until ``deadline`` that Postgres can answer; None: it is."""
        reason = self.freshness.at_once(start)
        while reason is Reason.BEHIND and time.monotonic() < deadline:
            sleep(PAUSE)
            reason = self.freshness.applied(start)
        if reason is not None:
            return reason
        if not self._has(tables, published, ask):
            return Reason.INCOMPLETE
        while True:
            rows = ask(_POSITION.format(int(published.source_id)))
            self._health.has_answered()
            if not rows or rows[0][0] is None:
                return Reason.UNPROVED
            row = PositionRow(*rows[0])
            if not row.complete:
                return Reason.INCOMPLETE
            if self.freshness.proves(start, row):
                return None
            if time.monotonic() + _PAUSE > deadline:
                return Reason.OLDER
            sleep(_PAUSE)

    def _has(self, tables: frozenset[str], published: Published, ask: Ask) -> bool:
        """Whether Postgres has all of these tables, by what was found since the mirror is another one."""
        of, names, again = self._tables
        if of != published.mirror or (not tables <= names and time.monotonic() > again):
            names = frozenset(name for (name,) in ask(_TABLES.format(int(published.source_id))))
            self._tables = published.mirror, names, time.monotonic() + _AGAIN_SECONDS
        return bool(tables) and tables <= names
