"""The pipeline's connection to capture: where the spool ends, and queries for the source's position."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from loguru import logger

from mirror.capture.link import Attached, Behind, Captured, CaptureLink, Failed, Marked, Message, Unknown
from mirror.capture.spool import SpoolPlace
from mirror.core.errors import PrivateIndexError, ReplacedError, SourceError
from mirror.core.positions import Lsn, Salts
from mirror.replica.batches import Head

Query = Callable[[CaptureLink], int]


class CaptureFeed:
    """What capture has reported about one source.

    Thread: the pipeline's alone.
    """

    def __init__(self, database: Path, link: Callable[[], CaptureLink], name: str = "") -> None:
        """``link``: opens a connection to the capture process, which may have been restarted. ``name``: for the log."""
        self._name = name or database.name
        self.until: SpoolPlace | None = None
        """Up to here the spool is complete."""
        self.captured: Lsn | None = None
        self.attached = False
        self.doubt = ""
        """Why what capture follows may not be what programs write; the pipeline sets it."""
        self.behind: tuple[str, float] | None = None
        """Why capture has not seen commits for a while, and since when (Unix time); None: it has."""
        self._failure: str | None = None
        self._database = database
        self._new_link = link
        self._link: CaptureLink | None = None
        self._begin: Head | None = None
        self._attaching = False
        self._restarted: Lsn | None = None
        self._marks: dict[int, Future[Lsn]] = {}
        self._queries: dict[Future[Lsn], Query] = {}
        self._selector = selectors.DefaultSelector()
        self._bell: socket.socket | None = None

    @property
    def error(self) -> str | None:
        """Why the mirror cannot know what programs write now; None: it can."""
        return self._failure or self.doubt or None

    @property
    def readable(self) -> tuple[CaptureLink, ...]:
        """The connection to capture, while there is one: when it is readable, :meth:`wait` has something to do."""
        return () if self._link is None else (self._link,)

    @property
    def awaits(self) -> bool:
        """Whether capture has yet to answer a query."""
        return bool(self._queries)

    def connect(self) -> None:
        """Connect to capture, unless connected; queries left unanswered by a capture that died are sent again."""
        if self._link is not None:
            return
        self._link = self._new_link()
        self._selector.register(self._link, selectors.EVENT_READ)
        self.attached = False
        for future, ask in self._queries.items():
            self._marks[ask(self._link)] = future

    def attach(self, floor: int, forced: str, pump: Callable[[], None]) -> Head:
        """Make capture follow the files; returns where it continues (after the gap, if one is forced).

        ``floor``: the lowest number that a new generation may get. ``forced``: the reason for a gap; "" for none.
        ``pump``: called until the answer has come. Raises ``SourceError``.
        """
        assert self._link is not None
        self.attached, self._attaching = False, True
        self._link.attach(floor, forced)
        while not self.attached:
            pump()
        assert self._begin is not None
        return self._begin

    def began_with(self, gap: Head) -> bool:
        """Whether a gap is the one at which capture began to follow, not a later one."""
        return self._restarted == gap.lsn

    def poll_soon(self) -> None:
        """Make capture poll the source now, and often for a while."""
        if self._link is not None:
            self._link.look()

    def mark(self, future: Future[Lsn]) -> None:
        """Set ``future`` to the position of everything committed by now, once that is spooled."""
        self._ask(future, lambda link: link.mark())

    def await_mark(self, pump: Callable[[], None]) -> Lsn:
        """The position of everything committed by now, once that is spooled, even if the spool is full.

        A full spool must not block it: the caller frees room in the spool only after this returns. ``pump``: as for
        :meth:`attach`.
        """
        future: Future[Lsn] = Future()
        self._ask(future, lambda link: link.mark(now=True))
        while not future.done():
            pump()
        return future.result()

    def locate(self, future: Future[Lsn], salts: Salts, frame: int) -> None:
        """Set ``future`` to the position of a WAL frame, once it is spooled.

        The future gets ``SourceError`` (retryable) if the salts are unknown.
        """
        self._ask(future, lambda link: link.locate(salts, frame))

    def _ask(self, future: Future[Lsn], ask: Query) -> None:
        self._queries[future] = ask
        if self._link is not None:
            self._marks[ask(self._link)] = future

    def wait(self, bell: socket.socket, timeout: float) -> bool:
        """Handle capture's messages; waits up to ``timeout`` seconds for one, or for the bell. True if the bell rang.

        Raises ``SourceError`` when capture has died or cannot follow, ``ReplacedError`` when other files are at the
        source's path.
        """
        if self._bell is None:
            self._bell = bell
            self._selector.register(bell, selectors.EVENT_READ)
        if self._link is not None:
            self._link.flush()
        ready = {key.fileobj for key, _ in self._selector.select(timeout)}
        if self._link is not None and (self._link in ready or self._link.fileno() < 0):
            for message in self._read(self._link):
                self._take(message)
        return bell in ready

    def _read(self, link: CaptureLink) -> list[Message]:
        try:
            return link.read()
        except SourceError:
            self._disconnect()
            self.attached = False
            self._marks.clear()
            raise

    def disconnect(self) -> None:
        """Have capture leave the files alone; :meth:`connect` may follow."""
        self._disconnect()
        self.attached, self._failure, self.behind = False, None, None

    def _disconnect(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(KeyError, ValueError):  # already closed
                self._selector.unregister(link)
            link.close()

    def _take(self, message: Message) -> None:
        match message:
            case Captured(lsn, place) | Marked(_, lsn, place):
                self._failure = None
                self.until = place
                if self.captured is None or lsn > self.captured:
                    self.captured = lsn
                if isinstance(message, Marked) and (future := self._answered(message.mark)) is not None:
                    future.set_result(lsn)
            case Unknown(mark, text):
                if (future := self._answered(mark)) is not None:
                    future.set_exception(SourceError("find a commit", str(self._database), text, retryable=True))
            case Behind(text, since):
                self.behind = None if text is None else (text, since)
            case Attached(gap, place, lsn, salts):
                self._failure = self.behind = None
                self.attached, self._attaching = True, False
                self.until, self.captured = place, lsn
                self._begin = Head(lsn, salts, time.time(), place)
                self._restarted = None if gap is None else lsn
            case Failed(text, retryable, replaced, private):
                if not retryable:
                    self._disconnect()
                    self.attached = False
                    raise SourceError("follow the source", str(self._database), text)
                if replaced:
                    self.attached = False
                    kind = PrivateIndexError if private else ReplacedError
                    raise kind("follow the source", str(self._database), text)
                if text != self._failure:
                    logger.warning("{}: {}", self._name, text)
                self._failure = text
                if self._attaching:
                    self._attaching = False
                    raise SourceError("follow the WAL", str(self._database), text, retryable=True)

    def _answered(self, mark: int) -> Future[Lsn] | None:
        """The future that still waits for this answer; None if there is none."""
        future = self._marks.pop(mark, None)
        if future is None:
            return None
        del self._queries[future]
        return None if future.done() else future

    def close(self) -> None:
        """Disconnect; unanswered queries are cancelled."""
        for future in self._queries:
            future.cancel()
        self._queries.clear()
        self._disconnect()
        self._selector.close()
