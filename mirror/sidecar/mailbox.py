"""Where other threads hand their requests to a pipeline, and what holds it still.

Every request is answered: by the pipeline, or, when that ends, with an error that says so. A hold belongs to whoever
took it: it has a token, without which it can be neither used nor ended.
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

#: A held pipeline goes on by itself after this long, whatever became of whoever holds it.
LONGEST_HOLD = 10.0

T = TypeVar("T")


@dataclass
class _Hold:
    token: str
    until: float
    target: Lsn | None = None
    reached: Future[Position] | None = None


class Mailbox:
    """Requests of other threads, carried out by the pipeline's own; ``bell`` is readable when there are some."""

    def __init__(self) -> None:
        self.bell, self._ring = socket.socketpair()
        self.bell.setblocking(False)
        self._ring.setblocking(False)
        self._guard = threading.Lock()
        """Held to look at ``_closed`` and to change these two."""
        self._requests: deque[tuple[Future[Any] | None, Callable[[], None]]] = deque()
        self._unanswered: set[Future[Any]] = set()
        self._closed = False
        self._hold: _Hold | None = None

    # -- any thread --------------------------------------------------------------------------------

    def request(self, action: Callable[[Future[T]], None]) -> Future[T]:
        """Have the pipeline's thread do something soon, and answer by the future that it is given.

        Raises ``SourceError`` (retryable) when the pipeline has ended; if it ends later, that is the answer.
        """
        future: Future[T] = Future()
        self._put(future, lambda: action(future))
        return future

    def post(self, action: Callable[[], None]) -> None:
        """Have the pipeline's thread do something soon that has no answer; nothing happens when it has ended."""
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
        """Have nothing more applied; the token of the hold, once that is so.

        ``own``: that of a hold which this one takes the place of. ``ControlError`` (retryable) if there is another.
        """
        return self.request(lambda future: future.set_result(self._begin(own)))

    def ask_to_reach(self, token: str, locate: Callable[[Future[Lsn]], None]) -> Future[Position]:
        """Apply up to exactly the position that ``locate`` finds out, in the pipeline's thread; that is the result.

        ``SourceError`` (retryable) if the hold has ended, or Postgres has more already.
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
        """Have a hold ended; nothing happens if it has ended, or the pipeline has."""
        self.post(lambda: self._end_hold(token))

    def wake(self) -> None:
        """Let the pipeline's thread look up."""
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
        """Carry out all that was requested; then raise the first error, if something went wrong with an action.

        That is also the answer, unless it is retryable: then the link to capture is down, which keeps the question and
        asks it again when it is up.
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
                continue  # whoever asked does not wait any more
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
        """Nothing more is to be applied."""
        self._expire()
        if self._hold is not None and self._hold.token != own:
            raise _RefusalError(
                ControlError(
                    "hold the mirror",
                    detail="somebody else holds it",
                    next_step=f"try again; a hold lasts {LONGEST_HOLD:g} seconds at most",
                    retryable=True,
                )
            )
        self._let_go()
        self._hold = _Hold(secrets.token_hex(8), time.monotonic() + LONGEST_HOLD)
        return self._hold.token

    def _require(self, token: str) -> _Hold:
        self._expire()
        if self._hold is None or self._hold.token != token:
            raise _RefusalError(_hold_hasended())
        return self._hold

    def _located(self, token: str, place: Future[Lsn], reached: Future[Position]) -> None:
        """It is known where to go, or never will be."""
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
            _fail(hold.reached, _hold_hasended())
        hold.target, hold.reached = place.result(), reached

    def _end_hold(self, token: str) -> None:
        if self._hold is not None and self._hold.token == token:
            self._let_go()

    def _expire(self) -> None:
        if self._hold is not None and time.monotonic() > self._hold.until:
            self._let_go()

    def _let_go(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None and hold.reached is not None:
            _fail(hold.reached, _hold_hasended())

    def limit(self, position: Position) -> Lsn | None:
        """How far the pipeline may go from where it is: None for as far as it can."""
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
            hold.reached = None
        return position.lsn

    @property
    def held(self) -> bool:
        """Whether somebody holds the pipeline."""
        return self._hold is not None

    def close(self) -> None:
        """Nobody is served any more; whoever waits for an answer gets the error that the pipeline has ended."""
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
    """What was asked for cannot be done; that is the answer."""

    def __init__(self, error: MirrorError) -> None:
        super().__init__(error)
        self.error = error


def ended() -> SourceError:
    """The error for whoever asks a pipeline that has ended, or ends before the answer."""
    return SourceError(
        "ask the mirror",
        detail="the mirror of this source has ended",
        next_step="`mirror status` says why; start `mirror up` again",
        retryable=True,
    )


def _hold_hasended() -> SourceError:
    return SourceError("apply up to a position", detail="the hold has ended", retryable=True)


def _fail(future: Future[Any], error: BaseException) -> None:
    """Answer with an error, unless there is an answer already."""
    try:
        future.set_exception(error)
    except InvalidStateError:
        pass  # answered, or nobody waits any more
