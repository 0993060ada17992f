"""What other threads may ask of the loop of one source: the one object of it that they use.

Everything else of a :class:`~mirror.sidecar.pipeline.Pipeline` belongs to its own thread.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from concurrent.futures import Future

from mirror.core.positions import Lsn, Position, Salts
from mirror.sidecar.capture_feed import CaptureFeed
from mirror.sidecar.mailbox import Mailbox
from mirror.sidecar.status import SourceStatus
from mirror.sidecar.table_repair import TableRepairs


class Requests:
    """Requests to the loop of one source. Each method may be called from any thread."""

    def __init__(self, status: SourceStatus, desk: Mailbox, tail: CaptureFeed, mender: TableRepairs) -> None:
        self._status = status
        self._mailbox = desk
        self._feed = tail
        self._repairs = mender
        self._applied = threading.Condition()

    def mark(self) -> Future[Lsn]:
        """The position of all that the source has committed now."""
        return self._mailbox.request(self._feed.mark)

    def wait_applied(self, lsn: Lsn, timeout: float) -> bool:
        """Wait until Postgres has everything up to a position; False if it takes longer, or the mirror ends before."""
        with self._applied:
            self._applied.wait_for(lambda: self._has(lsn) or self._mailbox.closed, timeout)
            return self._has(lsn)

    @property
    def ended(self) -> bool:
        """Whether the mirror of the source has ended."""
        return self._mailbox.closed

    def hold(self, own: str | None = None) -> Future[str]:
        """Apply nothing more until :meth:`release` (or for ten seconds); the result is the hold's token.

        ``own``: that of a hold which this one takes the place of. ``ControlError`` (retryable) if there is another.
        """
        return self._mailbox.ask_to_hold(own)

    def reach(self, hold: str, salts: Salts, frame: int) -> Future[Position]:
        """While held: apply up to exactly this commit; the result is the position Postgres then has.

        ``hold``: the token. ``SourceError`` (retryable) if that hold has ended, or Postgres has more already.
        """
        return self._mailbox.ask_to_reach(hold, lambda place: self._feed.locate(place, salts, frame))

    def release(self, hold: str) -> None:
        """End a hold, if it has not ended yet."""
        self._mailbox.ask_to_release(hold)

    def retry(self, repair: Collection[str] = ()) -> Future[dict[str, str]]:
        """Try again what Postgres refused and rejected, or repair tables; done when it has been tried.

        The result says what was done with each table that was to be repaired.
        """
        return self._mailbox.request(lambda future: self._repairs.ask(future, repair))

    def look_soon(self) -> None:
        """Somebody is about to commit: have capture look at once."""
        self._mailbox.post(self._feed.look)

    def _has(self, lsn: Lsn) -> bool:
        applied = self._status.applied
        return applied is not None and Lsn.parse(applied) >= lsn

    def has_changed(self) -> None:
        """The position has changed, or the loop has ended: wake who waits."""
        with self._applied:
            self._applied.notify_all()
