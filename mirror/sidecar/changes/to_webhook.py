"""Tells changes to a webhook: a POST (:mod:`~mirror.sidecar.posts`) for each entry, in order, until each is taken.

===================  ===============================================================================================
``Idempotency-Key``  source and mark (position and lineage). An entry may come twice, with the same key
``Mirror-Source``    the path, percent-encoded
``Mirror-Lsn``       the position
===================  ===============================================================================================

The body is the document of :mod:`mirror.core.changes`. What is not taken comes again, ever more slowly, and none after
it comes before: order is kept. How far it has come is in ``mirror.change_readers``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from urllib.parse import quote

from mirror.core.changes import Entry, filtered
from mirror.core.positions import Lsn
from mirror.core.web_address import WebAddress
from mirror.sidecar.changes.log import ChangeLog
from mirror.sidecar.changes.teller import Teller, Told
from mirror.sidecar.posts import Posts

#: Entries that are read together; seconds between two times that it is saved how far it is.
_TOGETHER, _SAVE_SECONDS = 20, 1.0
_READER = "webhook"


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to, and what of it."""

    address: WebAddress = field(repr=False)
    secret: str = field(repr=False)
    tables: frozenset[str] = frozenset()
    """Only these; empty: all."""


class WebhookTeller(Teller):
    """The thread that posts."""

    where = "the webhook"

    def __init__(self, to: Webhook, log: ChangeLog) -> None:
        super().__init__()
        self._posts, self._tables = Posts(to.address, to.secret), to.tables
        self._log = log
        self._saved: dict[str, float] = {}

    def _tell(self, told: Told) -> bool:
        taken = told.feed.taken
        if taken is None or told.feed.position is None:
            return False
        if told.number != taken.number:
            known = self._log.read_up_to(taken.source_id, _READER)
            if known is None:
                # The first time: what was before is not news. But a copy is: Postgres, and with it what was saved here,
                # may have been lost.
                known = Lsn(0, 0) if told.feed.begins_with_copy else told.feed.position
                self._log.has_read(taken.source_id, _READER, known)
            if known != told.position:
                told.lineage = None
            told.position, told.number = known, taken.number
        entries = told.feed.read(told.mark, _TOGETHER)
        before = told.position
        try:
            for entry in entries:
                if (document := filtered(entry, self._tables)) is not None:
                    self._post(told.feed.source, entry, document.encode())
                    told.count += 1
                told.gaps += entry.kind == "gap"
                told.position, told.lineage = entry.lsn, entry.lineage
                if self._is_over():
                    break
        finally:
            due = time.monotonic() - self._saved.get(told.feed.source, 0.0) > _SAVE_SECONDS
            if told.position is not None and told.position != before and (due or len(entries) < _TOGETHER):
                self._log.has_read(taken.source_id, _READER, told.position)
                self._saved[told.feed.source] = time.monotonic()
        return bool(entries)

    def _post(self, source: str, entry: Entry, body: bytes) -> None:
        """Raises a retryable ``MirrorError``."""
        name = quote(source)
        more = {"Mirror-Source": name, "Mirror-Lsn": str(entry.lsn)}
        self._posts.send(body, f"{name}@{entry.mark}", more)
