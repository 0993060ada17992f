"""The client of the control socket: requests to the running mirror of one source.

The requests are in :mod:`mirror.core.messages`. Programs that have their files mirrored import this, so it loads next
to nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from mirror.core.agreement import Agreement
from mirror.core.errors import ControlError, MirrorError
from mirror.core.messages import (
    MOST_ANSWER_BYTES,
    MOST_SECONDS,
    Add,
    Agree,
    Agreed,
    Answer,
    Applied,
    Around,
    AroundAnswer,
    BeginMove,
    Done,
    End,
    EndMove,
    Held,
    History,
    HistoryAnswer,
    Hold,
    Load,
    LoadAnswer,
    Mark,
    Marked,
    Pause,
    Reach,
    Reached,
    Reads,
    Refused,
    Release,
    Remove,
    Repair,
    Repaired,
    Request,
    Resume,
    Retry,
    Status,
    StatusAnswer,
    WasApplied,
    answer_in,
    line_of,
)
from mirror.core.peer import connect, not_running, peer_process, silent
from mirror.core.positions import Lsn, Salts
from mirror.core.recorded_load import RecordedLoad
from mirror.core.sockets import control_path
from mirror.core.status import AroundReport, StatusReport

#: Seconds that a running mirror may take to answer what it can answer at once.
ANSWER_SECONDS = 5.0
#: The same for what it answers between two batches; a large batch takes longer.
BATCH_SECONDS = 30.0
#: Seconds that an answer may take beyond the timeout that its request names.
_SLACK_SECONDS = 5.0

A = TypeVar("A", bound=Answer)


class ControlClient:
    """A connection to the running mirror of one source. Also a parity gate.

    Every method raises ``ControlError`` if the mirror does not answer in time or has ended (both retryable, with a new
    connection: this one is closed), and any error that the mirror itself answers with. Thread: one at a time.
    """

    def __init__(self, folder: Path, timeout: float = ANSWER_SECONDS) -> None:
        """Connect; raises ``NotRunningError`` (retryable) if no mirror of the source is running, ``ControlError``.

        ``timeout``: seconds that connecting, and each answer that is given at once, may take.
        """
        self._folder, self._path = folder, control_path(folder)
        self._timeout = timeout
        self._socket = connect(folder, timeout)
        self._input = bytearray()
        self._over = False

    def _ask(self, request: Request, kind: type[A], seconds: float | None = None) -> A:
        """Send a request; return the answer, which must come within so many seconds and be of this kind."""
        seconds = self._timeout if seconds is None else seconds
        if self._over:
            step = "look at `mirror status`, and try again"
            raise ControlError(
                "ask the mirror", str(self._path), "the connection was closed", next_step=step, retryable=True
            )
        try:
            line = self._exchange(line_of(request), seconds)
            answer = answer_in(line)
        except TimeoutError as error:
            self._hang_up()  # otherwise its late answer would be read as that of the next request
            raise silent("ask the mirror", self._folder, seconds) from error
        except OSError as error:
            self._hang_up()
            raise not_running("ask the mirror", self._folder, "it has ended") from error
        except ValueError as error:
            self._hang_up()
            raise ControlError("understand the mirror", str(self._path), str(error)) from error
        except BaseException:  # Ctrl-C, while the answer was awaited: the next request would get it
            self._hang_up()
            raise
        if isinstance(answer, Refused):
            raise self._refusal(answer)
        if not isinstance(answer, kind):
            self._hang_up()
            raise ControlError("understand the mirror", str(self._path), f"unexpected answer: {type(answer).__name__}")
        return answer

    def _exchange(self, line: bytes, seconds: float) -> bytes:
        """Send a line and read the next; raises ``OSError``, ``ValueError`` if it is too long."""
        deadline = time.monotonic() + seconds
        self._socket.settimeout(max(seconds, 0.001))
        self._socket.sendall(line)
        searched = 0
        while (end := self._input.find(b"\n", searched)) < 0:
            searched = len(self._input)
            if searched > MOST_ANSWER_BYTES:
                raise ValueError(f"an answer of more than {MOST_ANSWER_BYTES} bytes")
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionResetError
            self._input += data
        answer = bytes(self._input[:end])
        del self._input[: end + 1]
        return answer

    def _refusal(self, answer: Refused) -> MirrorError:
        try:
            return MirrorError.from_dict(answer.error)
        except ValueError as error:
            return ControlError("understand the mirror", str(self._path), str(error))

    def status(self) -> StatusReport:
        """The status of the mirror."""
        return self._ask(Status(), StatusAnswer).status

    def history(self) -> list[tuple[int, float, int]]:
        """For each second of the last minutes in which something was applied: the second (since the epoch), the worst
        lag in it (seconds), and the number of transactions.
        """
        return self._ask(History(), HistoryAnswer).seconds

    def load(self) -> RecordedLoad:
        """What programs have written to the source in the last minutes."""
        return self._ask(Load(), LoadAnswer).load

    def around(self) -> AroundReport:
        """What is around the mirrors of its process. Raises ``RequestError`` if it is of an older version."""
        return self._ask(Around(), AroundAnswer).around

    def report_reads(self, reads: Reads) -> None:
        """Have the mirror count what this program has read. Raises ``RequestError`` if it is of an older version."""
        self._ask(reads, Done)

    def wait(self, timeout: float, slack: float = _SLACK_SECONDS) -> bool:
        """Wait until all that was committed at the call is applied; False after ``timeout`` seconds.

        Raises ``ControlError`` if the mirror does not answer at all within ``slack`` seconds more, ``SourceError``
        (retryable) as soon as the mirror of the source has ended.
        """
        timeout = _limited(timeout)
        deadline = time.monotonic() + timeout
        # Answered between two batches, and a large one takes long.
        lsn = self._ask(Mark(timeout), Marked, timeout + slack).lsn
        if lsn is None:
            return False
        left = max(0.0, deadline - time.monotonic())
        return self._ask(Applied(lsn, left), WasApplied, left + slack).applied

    def mark(self, timeout: float, slack: float = _SLACK_SECONDS) -> Lsn | None:
        """The position of everything that is committed now; None if it is not known after ``timeout`` seconds.

        Raises ``ControlError`` if the mirror does not answer at all within ``slack`` seconds more.
        """
        timeout = _limited(timeout)
        lsn = self._ask(Mark(timeout), Marked, timeout + slack).lsn
        return None if lsn is None else Lsn.parse(lsn)

    def settle(self) -> Lsn:
        """Wait until all that is committed now is applied; returns its position.

        Raises ``ControlError`` (retryable) if that takes longer than half a minute.
        """
        seconds = BATCH_SECONDS + _SLACK_SECONDS
        lsn = self._ask(Mark(BATCH_SECONDS), Marked, seconds).lsn
        if lsn is None or not self._ask(Applied(lsn, BATCH_SECONDS), WasApplied, seconds).applied:
            why = self.status().last_error or "the source is not settled"
            raise ControlError("ask the mirror", str(self._path), why, retryable=True)
        return Lsn.parse(lsn)

    def hold(self) -> str:
        """Have the mirror apply nothing until the hold is released; returns the token of the hold.

        Raises ``ControlError`` (retryable) if another connection has a hold.
        """
        return self._ask(Hold(), Held, BATCH_SECONDS + _SLACK_SECONDS).hold

    def reach(self, hold: str, salts: Salts, frame: int) -> Lsn:
        """Have the mirror apply up to exactly this commit; returns the position that Postgres then has.

        Raises ``SourceError`` (retryable) if the hold has ended or Postgres has more already.
        """
        request = Reach(hold, (salts.salt1, salts.salt2), frame)
        return Lsn.parse(self._ask(request, Reached, BATCH_SECONDS + _SLACK_SECONDS).lsn)

    def release(self, hold: str) -> None:
        """Release a hold; harmless if it has ended already, with the connection for example."""
        if not self._over:
            self._ask(Release(hold), Done)

    def retry(self, timeout: float, *, replace: bool = False) -> None:
        """Have the mirror send refused tables and rejected rows again; ``timeout``: seconds that it may take.

        ``replace``: also where that replaces rows that others have written in Postgres. Raises ``OthersWroteError``.
        """
        timeout = _limited(timeout)
        self._ask(Retry(timeout, replace), Done, timeout + _SLACK_SECONDS)

    def repair(self, tables: Collection[str], timeout: float, *, replace: bool = False) -> dict[str, str]:
        """Have the mirror make tables equal to the source again; returns what was done with each.

        ``timeout``: seconds that it may take. ``replace``: as for :meth:`retry`. Raises ``RepairError`` if something in
        Postgres undoes it, ``OthersWroteError``.
        """
        timeout = _limited(timeout)
        return self._ask(Repair(sorted(tables), timeout, replace), Repaired, timeout + _SLACK_SECONDS).outcome

    def begin_move(self) -> None:
        """Have programs on this host write nothing to the file while they are moved.

        It ends with :meth:`end_move` or this connection; then the mirror sees in Postgres which store is the original.
        """
        self._ask(BeginMove(), Done)

    def end_move(self) -> None:
        """The move has ended, or was undone."""
        self._ask(EndMove(), Done)

    def pause(self) -> None:
        """Have the mirror leave source and Postgres alone until it is resumed, also after a restart.

        It has done so by the answer, unless it is in a statement in Postgres that takes long. Raises ``StateError``.
        """
        self._ask(Pause(), Done, BATCH_SECONDS)

    def resume(self) -> None:
        """Have it go on. Raises ``StateError``."""
        self._ask(Resume(), Done, BATCH_SECONDS)

    def remove(self) -> None:
        """Have the process mirror the source no more; what is under way, if that takes long, ends after the answer."""
        self._ask(Remove(), Done, BATCH_SECONDS)

    def end(self) -> None:
        """Have the process end in order, with all its sources; it has not ended by the answer."""
        self._ask(End(), Done)

    @property
    def process(self) -> int | None:
        """Id of the process of the mirror; None: it is in another namespace of process ids."""
        return peer_process(self._socket)

    def add(self, path: Path, agent: str | None = None, schema: str | None = None, profile: str | None = None) -> None:
        """Have the process mirror another source, too; it may be mirrored by it already. Raises ``MirrorError``."""
        self._ask(Add(str(path), agent, schema, profile), Done, BATCH_SECONDS)

    def agree(self, since: str, *, touched: bool = False, after: str = "") -> Agreement:
        """Have the mirror of a source that was moved to Postgres compare all rows of the file; that may take long.

        ``since``: strays that were first seen after this time of Postgres are not known. ``touched``: compare only if
        another connection has written to the file since the last comparison. ``after``: a snapshot of Postgres: if none
        has, only what was written there since. Raises ``ControlError`` (retryable) if it does not carry writes back
        just now.
        """
        return self._ask(Agree(since, MOST_SECONDS, touched, after), Agreed, MOST_SECONDS + _SLACK_SECONDS).agreement

    def _hang_up(self) -> None:
        self._over = True
        self._socket.close()

    def close(self) -> None:
        """Close the connection, which also ends its hold."""
        self._hang_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _limited(timeout: float) -> float:
    return min(max(timeout, 0.0), MOST_SECONDS)


def wait_for_mirror(folder: Path, timeout: float, alive: Callable[[], bool] = lambda: True) -> ControlClient:
    """Connect to a mirror that may still be starting; raises ``ControlError`` after ``timeout`` seconds.

    ``alive``: whether it is still worth waiting. An error that is not retryable is raised at once.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return ControlClient(folder)
        except ControlError as error:
            if not error.retryable or time.monotonic() > deadline or not alive():
                raise
            time.sleep(0.02)
