"""The end of the way back, as a command does it: check, drain, compare, end.

Programs that write in Postgres go on. The running mirror carries and compares, because it keeps the snapshot that the
file should be equal to; where none runs any more, the command does it itself. Nothing is left to be undone or completed
by a later command if this one is killed before its end, and after it only triggers that are switched off.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from mirror.core.agreement import Agreement
from mirror.core.errors import ControlError, MirrorError, NotRunningError, SinkError, SourceError
from mirror.core.place import where
from mirror.core.status import Phase as MirrorPhase
from mirror.postgres.failures import translated
from mirror.postgres.table_locks import TableLocks
from mirror.reverse import ending
from mirror.reverse.follower import ReverseFollower

if TYPE_CHECKING:
    from mirror.cutover.move import Move

T = TypeVar("T")

#: Seconds for which a step waits for a mirror that makes no progress, or for transactions in Postgres, at most.
WAIT_SECONDS = 60.0
_LOOK = (
    "look at `mirror status`; where the file is gone, or need not have what Postgres has: mirror cutover finalize"
    f" --acknowledge '{ending.ACKNOWLEDGED}'"
)
#: Seconds between two looks at it.
LOOK_SECONDS = 0.05
_LEFT_OUT = f"left out: '{ending.ACKNOWLEDGED}' was acknowledged"


@dataclass
class Finalize:
    """The end of one way back."""

    acknowledged: bool = False
    """Whether the operator has said that the file need not have what Postgres has."""
    _lost: bool = field(init=False, default=False)
    _since: str = field(init=False, default="")
    _own: ReverseFollower | None = field(init=False, default=None)
    """Where no mirror runs."""
    _deadline: float = field(init=False, default=0.0)
    _locks: TableLocks = field(init=False, default_factory=TableLocks)

    def check(self, move: Move) -> str:
        """Say how the way back stands."""
        with translated(ending.CHECK, str(move.source)):
            way = ending.state(move.conn, move.source_id)
        self._lost, self._since = way.lost is not None, way.now
        return way.said()

    def drain(self, move: Move) -> str:
        """Wait until the file has all that is visible in Postgres now."""
        if why := self._left_out():
            return why
        begun = time.monotonic()
        with translated(ending.DRAIN, str(move.source)):
            seen = ending.snapshot(move.conn)

        def turn() -> bool | None:
            with translated(ending.DRAIN, str(move.source)):
                if ending.has(move.conn, move.source_id, seen):
                    return True
            self._turn(move)
            return None

        self._patiently(turn)
        return f"in {1000 * (time.monotonic() - begun):,.0f} ms" + self._by()

    def compare(self, move: Move) -> str:
        """Compare all rows. Raises ``SinkError`` if the file differs in what nobody knew."""
        if why := self._left_out():
            return why
        found = self._patiently(lambda: self._compared(move))
        return ending.judged(found, str(move.source)) + self._by()

    def end(self, move: Move) -> str:
        """There is no way back any more."""
        self.close()

        def end() -> ending.WayBack:
            with translated(ending.END, str(move.source)), move.conn.transaction():
                ending.end(move.conn, move.source_id, move.phase.epoch, self._locks)
                return ending.state(move.conn, move.source_id)

        said, name = self._patiently(end).said(), where(move.source)
        return "; ".join(filter(None, (said, f"the file stays {name.name}" if name != move.source else "")))

    def tidy(self, move: Move) -> str:
        """Remove the triggers, which are switched off."""

        def tidy() -> bool:
            with translated(ending.TIDY, str(move.source)), move.conn.transaction():
                ending.tidy(move.conn, move.source_id, move.targets, self._locks)
                return True

        self._patiently(tidy)
        return ""

    def close(self) -> None:
        """Release what it has."""
        if self._own is not None:
            own, self._own = self._own, None
            own.close()

    # -- the mirror, or what is done in its place ---------------------------------------------------

    def _left_out(self) -> str:
        if self._lost:
            return "left out: the way back is lost"
        return _LEFT_OUT if self.acknowledged else ""

    def _by(self) -> str:
        return "" if self._own is None else "; no mirror runs: done by this command"

    def _patiently(self, do: Callable[[], T | None]) -> T:
        """Do it until there is a result; errors that may pass end it when there was no progress for a while."""
        self._progresses()
        while True:
            try:
                if (found := do()) is not None:
                    return found
            except MirrorError as error:
                if self._own is not None and not self._own.can_wait:
                    self.close()
                if not error.retryable or time.monotonic() > self._deadline:
                    raise
                time.sleep(LOOK_SECONDS)

    def _progresses(self) -> None:
        self._deadline = time.monotonic() + WAIT_SECONDS

    def _turn(self, move: Move) -> None:
        """Wait a moment for the mirror; or carry a batch, where none runs."""
        if not self._mirror_runs(move):
            self._carry(move).step()
        else:
            with translated(ending.DRAIN, str(move.source)):
                if (lost := ending.state(move.conn, move.source_id).lost) is not None:
                    raise _lost(move, lost)
            time.sleep(LOOK_SECONDS)
        self._progresses()

    def _mirror_runs(self, move: Move) -> bool:
        """Whether one carries writes back. Raises ``ControlError`` (retryable) if one runs and does not just now."""
        if self._own is not None:
            return False
        try:
            with move.control() as client:
                status = client.status()
        except NotRunningError:
            return False
        if status.phase is not MirrorPhase.REVERSE:
            why = f"the mirror does not carry writes back: {status.last_error or status.phase}"
            raise ControlError(ending.DRAIN, str(move.source), why, next_step=_LOOK, retryable=True)
        return True

    def _carry(self, move: Move) -> ReverseFollower:
        if self._own is None:
            if not move.source.exists():
                raise SourceError(ending.COMPARE, str(move.source), "there is no such file", next_step=_LOOK)
            self._own = ReverseFollower.open(move.dsn, move.source, move.schema)
        return self._own

    def _compared(self, move: Move) -> Agreement | None:
        if self._mirror_runs(move):
            try:
                with move.control() as client:
                    return client.agree(self._since)
            except NotRunningError:
                return None  # it has ended: this is done here then
        own = self._carry(move)
        own.step()
        return own.agree(self._since)


def _lost(move: Move, why: str) -> SinkError:
    step = "`mirror cutover finalize` ends it then, without a comparison"
    return SinkError(ending.DRAIN, str(move.source), f"the way back is lost: {why}", next_step=step)
