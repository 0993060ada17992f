"""The change feeds of all sources of a mirror, and who reads them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from mirror.core.config.change_options import KEEP
from mirror.core.errors import MirrorError
from mirror.core.status import ChangesReport
from mirror.sidecar.changes.feed import SourceFeed
from mirror.sidecar.changes.log import ChangeLog
from mirror.sidecar.changes.teller import Teller
from mirror.sidecar.changes.to_webhook import Webhook, WebhookTeller

if TYPE_CHECKING:
    from mirror.hot.connection import Address

#: Seconds between two trims of the log, and seconds that a stop may take.
_TRIM_SECONDS, _STOP_SECONDS = 5.0, 0.5


@dataclass(frozen=True, slots=True)
class ChangesSettings:
    """What is told, and to whom."""

    redis: Address | None = None
    """None: there is no Redis."""
    keep: int = KEEP
    """About how many entries the stream of a source keeps."""
    log: int = 0
    """How many transactions of a source are kept in Postgres; 0: there is no log."""
    webhook: Webhook | None = None


class _Feed(SourceFeed):
    """A feed that knows who reads it."""

    tellers: dict[str, Teller]

    def report(self) -> ChangesReport:
        """See :class:`~mirror.sidecar.source_folder.FeedOfSource`."""
        redis, webhook = (self.tellers.get(name) for name in ("redis", "webhook"))
        return ChangesReport(
            logged=self.logged,
            redis=None if redis is None else redis.report(self),
            webhook=None if webhook is None else webhook.report(self),
        )


class Changes:
    """All feeds. :meth:`start` after the sources' folders are locked, :meth:`stop` when the sources have ended."""

    def __init__(self, settings: ChangesSettings, dsn: str) -> None:
        self._logged = settings.log > 0
        self.log = ChangeLog(dsn, settings.log)
        self._feeds: dict[Path, _Feed] = {}
        self._trimmed: dict[Path, object] = {}
        self._tellers: dict[str, Teller] = {}
        if settings.redis is not None:
            from mirror.sidecar.changes.to_redis import RedisTeller  # takes long to load, and many have none

            self._tellers["redis"] = RedisTeller(settings.redis, self.log, settings.keep)
        if settings.webhook is not None:
            self._tellers["webhook"] = WebhookTeller(settings.webhook, self.log)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._trim, name="changes", daemon=True)

    def feed(self, source: Path) -> _Feed:
        """The feed of a source."""
        if (found := self._feeds.get(source)) is None:
            found = self._feeds[source] = _Feed(str(source), self.log, logged=self._logged, ring=self._ring)
            found.tellers = self._tellers
        return found

    @property
    def feeds(self) -> list[SourceFeed]:
        """Those that there are."""
        return list(self._feeds.values())

    def _ring(self, feed: SourceFeed) -> None:
        for teller in self._tellers.values():
            teller.ring(feed)

    def start(self) -> None:
        """Begin to tell."""
        for teller in self._tellers.values():
            teller.start()
        if self._logged:
            self._thread.start()

    def _trim(self) -> None:
        """Keep the log within its bounds, whether anybody can be told or not."""
        failed = ""
        while not self._stopping.wait(_TRIM_SECONDS):
            for source, feed in list(self._feeds.items()):
                if feed.taken is None or self._trimmed.get(source) == feed.position:
                    continue
                position = feed.position
                try:
                    self.log.trim(feed.taken.source_id)
                except MirrorError as error:
                    if str(error) != failed:
                        logger.warning("the log of changes cannot be trimmed now: {error}", error=error)
                    failed = str(error)
                    break
                self._trimmed[source], failed = position, ""

    def stop(self) -> None:
        """Tell no more. What was not told is told by the next mirror, from the log, or as a gap."""
        self._stopping.set()
        for teller in self._tellers.values():
            teller.stop(_STOP_SECONDS)
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)
        self.log.close()
