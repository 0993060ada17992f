"""The change feed as server-sent events: ``GET /changes``.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html. The query has ``source``, a path (not needed if
there is one source), and ``table``, as often as wished. A client begins with what comes from then on, or after the
mark in its header ``Last-Event-ID`` (or ``from`` in the query: some clients cannot set headers). A mere position does,
too; if the source was copied anew since then, one that happens to be there again cannot be told from the old one.

=============  ===================================================================================================
event          data
=============  ===================================================================================================
``rows``       the document of a transaction (:mod:`mirror.core.changes`); ``id`` is the mark after it
``copy``       the same, of a whole copy: everything may have changed
``gap``        the same: what was committed up to ``id`` is not known any more; read it from Postgres
=============  ===================================================================================================

Where there is nothing to tell, a comment comes every few seconds, with the mark that was reached, so that a client
with a filter comes back to where it was. Without a log in Postgres only what is in memory can be told again; then, and
for what the log has not any more, the first event is a gap.

A client that reads too slowly is cut off: it comes back with its position. Nothing is kept for a client.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import parse_qs

from mirror.core.changes import Entry, Mark, filtered
from mirror.core.errors import MirrorError
from mirror.sidecar.changes.feed import SourceFeed

#: Clients at one time. Each has a thread.
MOST_CLIENTS = 32
#: Seconds between two signs of life.
HEARTBEAT_SECONDS = 5.0
#: Milliseconds after which a client that was cut off comes back.
_RETRY_MS = 2_000
CONTENT_TYPE = "text/event-stream; charset=utf-8"


class Refusal(NamedTuple):
    """Why a request gets no events."""

    code: int
    why: str


class Wish(NamedTuple):
    """What a client wants to hear."""

    feed: SourceFeed
    begin: Mark | None
    """None: what comes from now on."""
    tables: frozenset[str]


class Events:
    """The clients that are being told. Thread: any."""

    def __init__(self, feeds: Callable[[], Sequence[SourceFeed]]) -> None:
        self._feeds = feeds
        self._room = threading.BoundedSemaphore(MOST_CLIENTS)
        self._ended = threading.Event()

    def wish(self, query: str, last: str | None) -> Wish | Refusal:
        """Understand a request. ``last``: the header ``Last-Event-ID``."""
        asked = parse_qs(query)
        feeds = {feed.source: feed for feed in self._feeds()}
        name = (asked.get("source") or [next(iter(feeds)) if len(feeds) == 1 else ""])[0]
        if name not in feeds:
            known = "".join(f"\n{source}" for source in feeds)
            return Refusal(404, f"name one of these with ?source=PATH:{known}" if feeds else "there is no change feed")
        begin = last or "".join(asked.get("from", ())[:1])
        try:
            at = Mark.parse(begin) if begin else None
        except ValueError as error:
            return Refusal(400, str(error))
        return Wish(feeds[name], at, frozenset(asked.get("table", ())))

    def stream(self, wish: Wish) -> Iterator[bytes]:
        """What a client is sent, piece by piece, until :meth:`end`."""
        feed, tables = wish.feed, wish.tables
        mark = feed.mark if wish.begin is None else wish.begin
        yield b"retry: %d\n\n" % _RETRY_MS
        while not self._ended.is_set():
            if not feed.wait(mark, HEARTBEAT_SECONDS):
                # Without data it is no event, and yet moves the client's mark.
                yield b":\n\n" if mark is None else b": here\nid: %b\n\n" % str(mark).encode()
                continue
            try:
                entries = feed.read(mark)
            except MirrorError as error:  # the log cannot be read now; the client hears why
                yield b": %b\n\n" % " ".join(str(error).split()).encode()
                self._ended.wait(_RETRY_MS / 1000)
                continue
            for entry in entries:
                if (document := filtered(entry, tables)) is not None:
                    yield _event(entry, document)
                mark = entry.mark

    def enter(self) -> bool:
        """Whether there is room for one more client; then :meth:`leave` must follow."""
        return self._room.acquire(blocking=False)

    def leave(self) -> None:
        """A client has gone."""
        self._room.release()

    def end(self) -> None:
        """Tell no more."""
        self._ended.set()


def _event(entry: Entry, document: str | None = None) -> bytes:
    return f"event: {entry.kind}\nid: {entry.mark}\ndata: {document or entry.text}\n\n".encode()
