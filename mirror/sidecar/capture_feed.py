"""The pipeline's side of capture: where the spool ends, and questions about the source's position."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from loguru import logger

from mirror.capture.link import Attached, Captured, CaptureLink, Failed, Marked, Message, Unknown
from mirror.capture.spool import SpoolPlace
from mirror.core.errors import ReplacedError, SourceError
from mirror.core.positions import Lsn, Salts
from mirror.replica.batches import Head

Ask = Callable[[CaptureLink], int]


class CaptureFeed:
    """What capture has told about one source. Used by the pipeline's thread alone."""

    def __init__(self, database: Path, link: Callable[[], CaptureLink]) -> None:
        """``link``: gives the conversation with the (possibly restarted) capture process."""
        self.until: SpoolPlace | None = None
        """Up to here the spool is whole."""
        self.captured: Lsn | None = None
        self.attached = False
        self.error: str | None = None
        """What keeps capture from following at the moment."""
        self._database = database
        self._new_link = link
        self._link: CaptureLink | None = None
        self._begin: Head | None = None
        self._attaching = False
        self._restarted: Lsn | None = None
        self._marks: dict[int, Future[Lsn]] = {}
        self._questions: dict[Future[Lsn], Ask] = {}
        self._selector = selectors.DefaultSelector()
        self._bell: socket.socket | None = None

    def connect(self) -> None:
        """Have a conversation; questions that the death of capture left unanswered are asked again."""
        if self._link is not None:
            return
        self._link = self._new_link()
        self._selector.register(self._link, selectors.EVENT_READ)
        self.attached = False
        for future, ask in self._questions.items():
            self._marks[ask(self._link)] = future

    def attach(self, floor: int, forced: str, pump: Callable[[], None]) -> Head:
        """Have capture follow the files; returns where it goes on (behind the gap, if forced).

        ``pump`` is called until the answer is there. Raises ``SourceError``.
        """
        assert self._link is not None
        self.attached, self._attaching = False, True
        self._link.attach(floor, forced)
        while not self.attached:
            pump()
        assert self._begin is not None
        return self._begin

    def began_with(self, gap: Head) -> bool:
        """Whether a gap is the one with which capture began to follow, not one that it came to later."""
        return self._restarted == gap.lsn

    def look(self) -> None:
        """Have capture look at once, and often for a while."""
        if self._link is not None:
            self._link.look()

    def mark(self, future: Future[Lsn]) -> None:
        """Ask for the position of all that is committed now, once it is spooled."""
        self._ask(future, lambda link: link.mark())

    def await_mark(self, pump: Callable[[], None]) -> Lsn:
        """The position of all that is committed now, once it is spooled, even if the spool is full: whoever waits here
        makes room in it only afterwards. ``pump`` as for :meth:`attach`.
        """
        future: Future[Lsn] = Future()
        self._ask(future, lambda link: link.mark(now=True))
        while not future.done():
            pump()
        return future.result()

    def locate(self, future: Future[Lsn], salts: Salts, frame: int) -> None:
        """Ask for the position of a WAL frame, once it is spooled; an error if nobody knows its salts."""
        self._ask(future, lambda link: link.locate(salts, frame))

    def _ask(self, future: Future[Lsn], ask: Ask) -> None:
        self._questions[future] = ask
        if self._link is not None:
            self._marks[ask(self._link)] = future

    def wait(self, bell: socket.socket, timeout: float) -> bool:
        """Take capture's messages, waiting for one or for the bell; True if the bell rang.

        Raises ``SourceError`` when capture has died or cannot follow, ``ReplacedError`` when other
        files stand at the source's path.
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
            self._hang_up()
            self.attached = False
            self._marks.clear()
            raise

    def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(KeyError, ValueError):  # it was closed already
                self._selector.unregister(link)
            link.close()

    def _take(self, message: Message) -> None:
        match message:
            case Captured(lsn, place) | Marked(_, lsn, place):
                self.error = None
                self.until = place
                if self.captured is None or lsn > self.captured:
                    self.captured = lsn
                if isinstance(message, Marked) and (future := self._answered(message.mark)) is not None:
                    future.set_result(lsn)
            case Unknown(mark, text):
                if (future := self._answered(mark)) is not None:
                    future.set_exception(SourceError("find a commit", str(self._database), text, retryable=True))
            case Attached(gap, place, lsn, salts):
                self.error = None
                self.attached, self._attaching = True, False
                self.until, self.captured = place, lsn
                self._begin = Head(lsn, salts, time.time(), place)
                self._restarted = None if gap is None else lsn
            case Failed(text, retryable, replaced):
                if not retryable:
                    self._hang_up()
                    self.attached = False
                    raise SourceError("follow the source", str(self._database), text)
                if replaced:
                    self.attached = False
                    raise ReplacedError("follow the source", str(self._database), text)
                if text != self.error:
                    logger.warning("{}: {}", self._database.name, text)
                self.error = text
                if self._attaching:
                    self._attaching = False
                    raise SourceError("follow the WAL", str(self._database), text, retryable=True)

    def _answered(self, mark: int) -> Future[Lsn] | None:
        """Who asked this and still waits for the answer."""
        future = self._marks.pop(mark, None)
        if future is None:
            return None
        del self._questions[future]
        return None if future.done() else future

    def close(self) -> None:
        """Hang up; questions are not answered any more."""
        for future in self._questions:
            future.cancel()
        self._questions.clear()
        self._hang_up()
        self._selector.close()
