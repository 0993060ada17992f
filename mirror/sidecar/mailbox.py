"""The queue of other threads' requests to a pipeline, and holds, during which nothing is applied.

Every request is answered: by the pipeline, or with an error when the pipeline ends first. A hold belongs to the client
that took it: it has a token, and without the token it can be neither used nor ended.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any, TypeVar

from mirror.core.errors import ControlError, MirrorError, SourceError
from mirror.core.positions import Lsn, Position

#: Seconds after which a hold ends by itself, whatever became of the client that took it. The time in which the mirror
#: applies up to the client's position is not counted: it stands still only after that.
LONGEST_HOLD = 10.0

T = TypeVar("T")


class Paused(Exception):  # noqa: N818 - not an error
    """The loop was asked to leave the source alone."""


class Stopped(Exception):  # noqa: N818 - not an error
    """The loop was asked to end."""


@dataclass
class _Hold:
    token: str
    until: float
    target: Lsn | None = None
    reached: Future[Position] | None = None


class Mailbox:
    """Requests of other threads, carried out by the pipeline's thread; ``bell`` is readable when there are some."""

    def __init__(self) -> None:
        self.bell, self._ring = socket.socketpair()
        self.bell.setblocking(False)
        self._ring.setblocking(False)
        self._guard = threading.Lock()
        """Locked to read ``_closed`` and to change the next two."""
        self._requests: deque[tuple[Future[Any] | None, Callable[[], None]]] = deque()
        self._unanswered: set[Future[Any]] = set()
        self._closed = False
        self._hold: _Hold | None = None

    # -- any thread --------------------------------------------------------------------------------

    def request(self, action: Callable[[Future[T]], None]) -> Future[T]:
        """Have the pipeline's thread run ``action`` soon, which answers through the future that it is given.

        Raises ``SourceError`` (retryable) when the pipeline has ended; if it ends later, the future gets that error.
        """
        future: Future[T] = Future()
        self._put(future, lambda: action(future))
        return future

    def post(self, action: Callable[[], None]) -> None:
        """Have the pipeline's thread run ``action`` soon, without an answer; nothing happens if it has ended."""
        try:
            self._put(None, action)
        except SourceError:
            pass  # too late

    def _put(self, future: Future[Any] | None, action: Callable[[], None]) -> None:
        with self._guard:
            if self._closed:
                raise ended()
            self._requests.append((future, action))
            if future is not None:
                self._unanswered.add(future)
        if future is not None:
            future.add_done_callback(self._forget)
        self.wake()

    def _forget(self, future: Future[Any]) -> None:
        with self._guard:
            self._unanswered.discard(future)

    def ask_to_hold(self, own: str | None) -> Future[str]:
        """Stop applying; the result is the token of the hold, once nothing is being applied.

        ``own``: the token of a hold that this one replaces. ``ControlError`` (retryable) if another client has one.
        """
        return self.request(lambda future: future.set_result(self._begin(own)))

    def ask_to_reach(self, token: str, locate: Callable[[Future[Lsn]], None]) -> Future[Position]:
        """Apply up to exactly the position that ``locate`` finds; the result is that position.

        ``locate``: called in the pipeline's thread, sets the future that it is given. ``SourceError`` (retryable) if
        the hold has ended, or Postgres already has more.
        """

        def begin(reached: Future[Position]) -> None:
            self._require(token)
            place: Future[Lsn] = Future()
            place.add_done_callback(lambda done: self._located(token, done, reached))
            with self._guard:
                self._unanswered.add(place)
            place.add_done_callback(self._forget)
            locate(place)

        return self.request(begin)

    def ask_to_release(self, token: str) -> None:
        """End a hold; does nothing if the hold or the pipeline has ended."""
        self.post(lambda: self._end_hold(token))

    def wake(self) -> None:
        """Wake the pipeline's thread."""
        with self._guard:
            if self._closed:
                return
            try:
                self._ring.send(b"!")
            except BlockingIOError:
                pass  # the bell is ringing already

    @property
    def closed(self) -> bool:
        """Whether the pipeline has ended."""
        return self._closed

    # -- the pipeline's thread ---------------------------------------------------------------------

    def serve(self) -> None:
        """Run all that was requested; then raise the first error of an action, if there was one.

        The error is also the answer, unless it is retryable: then the connection to capture is down, and the feed
        keeps the query and sends it again when the connection is back.
        """
        try:
            self.bell.recv(4096)
        except BlockingIOError:
            pass
        problem: Exception | None = None
        while True:
            with self._guard:
                if not self._requests:
                    break
                future, action = self._requests.popleft()
            if future is not None and not future.set_running_or_notify_cancel():
                continue  # cancelled: nobody waits for it any more
            try:
                action()
            except _RefusalError as refusal:
                assert future is not None
                _fail(future, refusal.error)
            except Exception as error:
                problem = problem or error
                lasting = not isinstance(error, MirrorError) or not error.retryable
                if future is not None and lasting:
                    _fail(future, error)
        if problem is not None:
            raise problem

    def _begin(self, own: str | None) -> str:
        """Begin a hold; returns its token."""
        self._expire()
        if self._hold is not None and self._hold.token != own:
            raise _RefusalError(
                ControlError(
                    "hold the mirror",
                    detail="another client holds it",
                    next_step="retry when the other comparison has its rows",
                    retryable=True,
                )
            )
        self._drop_hold()
        self._hold = _Hold(secrets.token_hex(8), time.monotonic() + LONGEST_HOLD)
        return self._hold.token

    def _require(self, token: str) -> _Hold:
        self._expire()
        if self._hold is None or self._hold.token != token:
            raise _RefusalError(_hold_has_ended())
        return self._hold

    def _located(self, token: str, place: Future[Lsn], reached: Future[Position]) -> None:
        """The position to apply up to has been found, or cannot be."""
        if place.cancelled():
            error: BaseException | None = SourceError(
                "apply up to a position", detail="it was not found in time", retryable=True
            )
        else:
            error = place.exception()
        if error is not None:
            _fail(reached, error)
            return
        try:
            hold = self._require(token)
        except _RefusalError as refusal:
            _fail(reached, refusal.error)
            return
        if hold.reached is not None:
            _fail(hold.reached, _hold_has_ended())
        hold.target, hold.reached = place.result(), reached

    def _end_hold(self, token: str) -> None:
        if self._hold is not None and self._hold.token == token:
            self._drop_hold()

    def _expire(self) -> None:
        hold = self._hold
        if hold is not None and hold.reached is None and time.monotonic() > hold.until:
            self._drop_hold()

    def _drop_hold(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None and hold.reached is not None:
            _fail(hold.reached, _hold_has_ended())

    def limit(self, position: Position) -> Lsn | None:
        """The position up to which the pipeline may apply; ``position``: where it is. None: no limit."""
        self._expire()
        hold = self._hold
        if hold is None:
            return None
        if hold.target is None:
            return position.lsn
        if position.lsn < hold.target:
            return hold.target
        if hold.reached is not None:
            if position.lsn == hold.target:
                hold.reached.set_result(position)
            else:
                detail = f"already at {position.lsn}"
                _fail(hold.reached, SourceError("apply up to a position", str(hold.target), detail, retryable=True))
            hold.reached, hold.until = None, time.monotonic() + LONGEST_HOLD
        return position.lsn

    @property
    def held(self) -> bool:
        """Whether a hold is on."""
        return self._hold is not None

    def close(self) -> None:
        """End the service; every unanswered request gets the error that the pipeline has ended."""
        with self._guard:
            self._closed = True
            unanswered = list(self._unanswered)
            self._requests.clear()
            self.bell.close()
            self._ring.close()
        for future in unanswered:
            _fail(future, ended())
        self._hold = None


class _RefusalError(Exception):
    """The request cannot be carried out: its error is the answer, and the pipeline goes on."""

    def __init__(self, error: MirrorError) -> None:
        super().__init__(error)
        self.error = error


def ended() -> SourceError:
    """The error of a request to a pipeline that has ended, or that ends before it answers."""
    return SourceError(
        "ask the mirror",
        detail="the mirror of this source has ended",
        next_step="`mirror status` says why; start `mirror up` again",
        retryable=True,
    )


def _hold_has_ended() -> SourceError:
    return SourceError("apply up to a position", detail="the hold has ended", retryable=True)


def _fail(future: Future[Any], error: BaseException) -> None:
    """Answer with an error, unless there is an answer already or the request was cancelled."""
    try:
        future.set_exception(error)
    except InvalidStateError:
        pass  # answered or cancelled already
