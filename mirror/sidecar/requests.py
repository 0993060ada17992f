"""The requests that other threads may make of one source's loop.

Everything else of a :class:`~mirror.sidecar.pipeline.Pipeline`, but its status, belongs to its own thread.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from mirror.core.agreement import Agreement
from mirror.core.errors import ControlError, PausedError, SealedError, SourceError
from mirror.core.messages import Add
from mirror.core.positions import Lsn, Position, Salts
from mirror.sidecar.agreements import Agreements
from mirror.sidecar.capture_feed import CaptureFeed
from mirror.sidecar.mailbox import Mailbox
from mirror.sidecar.publishing import Publishing
from mirror.sidecar.status import SourceStatus
from mirror.sidecar.table_repair import TableRepairs


class Fleet(Protocol):
    """The sources of a running mirror. Thread: any, for each method, which may raise ``MirrorError``."""

    def pause(self, source: Path) -> None:
        """Mirror it no more until it is resumed."""

    def resume(self, source: Path) -> None:
        """Go on with it."""

    def remove(self, source: Path) -> None:
        """End its mirror."""

    def add(self, request: Add) -> None:
        """Mirror another one."""

    def end(self) -> None:
        """End the process."""


class Requests:
    """Requests to the loop of one source.

    Thread: any, for each method.
    """

    def __init__(
        self,
        status: SourceStatus,
        mailbox: Mailbox,
        feed: CaptureFeed,
        repairs: TableRepairs,
        publishing: Publishing,
    ) -> None:
        self._status = status
        self._publishing = publishing
        self._mailbox = mailbox
        self._feed = feed
        self._repairs = repairs
        self._applied = threading.Condition()
        self.agreements = Agreements()
        """Comparisons that were asked for, of a source that was moved to Postgres."""
        self.sealed: SealedError | None = None
        """Why nothing is mirrored into Postgres: Postgres is the original."""
        self.paused: PausedError | None = None
        """Why nothing is mirrored: somebody wants it so."""
        self._fleet: Fleet | None = None

    def mark(self) -> Future[Lsn]:
        """The position of everything committed by now, once it is spooled. Raises ``SealedError``."""
        self._require_unsealed()
        return self._mailbox.request(self._feed.mark)

    def wait_applied(self, lsn: Lsn, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until Postgres has everything up to a position.

        Returns False if it takes longer, or the mirror ends before; or while there is a doubt whether what it follows
        is what programs write; or if the source turns out to have been moved to Postgres (:attr:`sealed`): a mirror
        that starts takes requests before it knows.
        """

        def done() -> bool:
            return self._has(lsn) or self._mailbox.closed or self.sealed is not None

        with self._applied:
            self._applied.wait_for(done, timeout)
            return self._has(lsn)

    def seal(self, sealed: SealedError | None) -> None:
        """Postgres is the original of the source from now on; None: the file is it again."""
        with self._applied:
            self.sealed = sealed
            self._applied.notify_all()

    @property
    def ended(self) -> bool:
        """Whether the mirror of the source has ended."""
        return self._mailbox.closed

    def hold(self, own: str | None = None) -> Future[str]:
        """Apply nothing until :meth:`release`, or for ten seconds; the result is the hold's token.

        ``own``: the token of a hold that this one replaces. ``ControlError`` (retryable) if another client has one.
        Raises ``SealedError``.
        """
        self._require_unsealed()
        return self._mailbox.ask_to_hold(own)

    def reach(self, hold: str, salts: Salts, frame: int) -> Future[Position]:
        """During a hold: apply up to exactly this commit; the result is the position that Postgres then has.

        ``hold``: the token. ``SourceError`` (retryable) if that hold has ended, or Postgres already has more. Raises
        ``SourceError`` while capture cannot follow: what the source shows then may not be what programs have written.
        """
        if (why := self._feed.error) is not None:
            raise SourceError("follow the source", self._status.source, why)
        return self._mailbox.ask_to_reach(hold, lambda place: self._feed.locate(place, salts, frame))

    def release(self, hold: str) -> None:
        """End a hold, if it has not ended yet."""
        self._mailbox.ask_to_release(hold)

    def retry(self, repair: Collection[str] = (), *, replace: bool = False) -> Future[dict[str, str]]:
        """Retry what Postgres refused and rejected, or repair the tables ``repair``; done when it has been tried.

        The result says, by table, what the repair did. ``RepairError`` if a table cannot be repaired,
        ``OthersWroteError`` if others have written rows of it and ``replace`` does not say that they may be replaced.
        Raises ``SealedError``.
        """
        self._require_unsealed()
        return self._mailbox.request(lambda future: self._repairs.ask(future, repair, replace=replace))

    def begin_move(self) -> Future[None]:
        """Have programs write nothing to the file until :meth:`end_move`. Raises ``SealedError``.

        The error is a ``SourceError`` (retryable) while the mirror does not follow the source.
        """
        self._require_unsealed()

        def begin(future: Future[None]) -> None:
            if self._publishing.begin_move():
                future.set_result(None)
            else:
                why = "the mirror does not follow it at present"
                future.set_exception(SourceError("move a source", self._status.source, why, retryable=True))

        return self._mailbox.request(begin)

    def end_move(self) -> None:
        """The move has ended: go the other way, if the source is sealed now."""
        self._mailbox.post(self._publishing.end_move)

    def agree(self, since: str, touched: bool, after: str) -> Future[Agreement]:
        """Compare all rows of the file with what it should have, while what is written in Postgres is carried back.

        See :meth:`mirror.core.control.ControlClient.agree`. The error is a ``ControlError`` (retryable) while nothing
        is carried back.
        """
        return self._mailbox.request(lambda future: self.agreements.ask(future, since, touched, after))

    def await_pause(self, seconds: float) -> bool:
        """Wait up to so many seconds until it is paused, or has ended; whether it is."""
        with self._applied:
            self._applied.wait_for(lambda: self.paused is not None or self._mailbox.closed, seconds)
        return self.paused is not None

    def _require_unsealed(self) -> None:
        if (why := self.paused or self.sealed) is not None:
            raise why

    @property
    def fleet(self) -> Fleet:
        """The running mirror that the source is one of. Raises ``ControlError``."""
        if self._fleet is None:
            step = "ask `mirror up`, if that runs"
            raise ControlError("change what is mirrored", detail="this mirror is of one command", next_step=step)
        return self._fleet

    @fleet.setter
    def fleet(self, fleet: Fleet | None) -> None:
        self._fleet = fleet

    def refresh(self) -> None:
        """Somebody reads the status: count what only programs write to Postgres, if that was not done just now."""
        if self._status.reads_are_due:
            self._mailbox.wake()

    def look_soon(self) -> None:
        """A program is about to commit: make capture poll the source now."""
        self._mailbox.post(self._feed.poll_soon)

    def _has(self, lsn: Lsn) -> bool:
        applied = self._status.applied
        return applied is not None and Lsn.parse(applied) >= lsn and not self._feed.doubt

    def has_changed(self) -> None:
        """The position has changed, or the loop has ended: wake :meth:`wait_applied`."""
        with self._applied:
            self._applied.notify_all()
