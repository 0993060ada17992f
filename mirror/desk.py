"""Where other threads hand their requests to a pipeline, and what holds it still."""

from __future__ import annotations

import queue
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from mirror.errors import SourceError
from mirror.model import Lsn, Position

#: A held pipeline goes on by itself after this long, whatever became of whoever holds it.
LONGEST_HOLD = 10.0


@dataclass
class _Hold:
    until: float
    target: Lsn | None = None
    reached: Future[Position] | None = None


class Desk:
    """Requests of other threads, carried out by the pipeline's own; ``bell`` is readable when there are some."""

    def __init__(self) -> None:
        self.bell, self._ring = socket.socketpair()
        self.bell.setblocking(False)
        self._ring.setblocking(False)
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._hold: _Hold | None = None
        self._closed = False

    # -- any thread --------------------------------------------------------------------------------

    def request(self, action: Callable[[], None]) -> None:
        """Have the pipeline's thread do something soon; raises ``SourceError`` when it has ended."""
        if self._closed:
            raise SourceError("ask the mirror", detail="the mirror of this source has ended")
        self._requests.put(action)
        self.wake()

    def ask_to_hold(self) -> Future[None]:
        """Have nothing more applied; done when that is so."""
        future: Future[None] = Future()

        def begin() -> None:
            self.hold()
            future.set_result(None)

        self.request(begin)
        return future

    def reach_when(self, place: Future[Lsn]) -> Future[Position]:
        """Apply up to exactly a position, once it is known (by the pipeline's thread); then that is the result."""
        reached: Future[Position] = Future()

        def located(done: Future[Lsn]) -> None:
            if done.cancelled():
                reached.cancel()
            elif (error := done.exception()) is not None:
                reached.set_exception(error)
            else:
                self.reach(done.result(), reached)

        place.add_done_callback(located)
        return reached

    def wake(self) -> None:
        """Let the pipeline's thread look up."""
        try:
            self._ring.send(b"!")
        except OSError:
            pass  # the bell is ringing already, or the pipeline has ended

    # -- the pipeline's thread ---------------------------------------------------------------------

    def serve(self) -> None:
        """Carry out what was requested."""
        self.bell.recv(4096)
        while not self._requests.empty():
            self._requests.get()()

    def hold(self) -> None:
        """Nothing more is to be applied."""
        self.let_go()
        self._hold = _Hold(time.monotonic() + LONGEST_HOLD)

    def reach(self, target: Lsn, reached: Future[Position]) -> None:
        """Apply up to exactly ``target``, then say so."""
        if self._hold is None:
            reached.set_exception(SourceError("apply up to a position", str(target), "the hold has ended"))
            return
        self._hold.target, self._hold.reached = target, reached

    def let_go(self) -> None:
        """End a hold."""
        hold, self._hold = self._hold, None
        if hold is not None and hold.reached is not None:
            hold.reached.cancel()

    def limit(self, position: Position) -> Lsn | None:
        """How far the pipeline may go from where it is: None for as far as it can."""
        hold = self._hold
        if hold is None:
            return None
        if time.monotonic() > hold.until:
            self.let_go()
            return None
        if hold.target is None:
            return position.lsn
        if position.lsn < hold.target:
            return hold.target
        if hold.reached is not None:
            if position.lsn == hold.target:
                hold.reached.set_result(position)
            else:
                hold.reached.set_exception(
                    SourceError("apply up to a position", str(hold.target), f"already at {position.lsn}")
                )
            hold.reached = None
        return position.lsn

    @property
    def held(self) -> bool:
        """Whether somebody holds the pipeline."""
        return self._hold is not None

    def close(self) -> None:
        """Nobody is served any more."""
        self._closed = True
        self.let_go()
        self.bell.close()
        self._ring.close()
