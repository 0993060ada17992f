"""``advance --wait``: a move that is ready, and switches when it is told to; meanwhile all rows are compared.

The row of the phase says since when a move waits and why it does not go on yet; ``mirror cutover go`` writes there.
That the command is still there is told by an advisory lock of its session, which ends with it however it ends. Nothing
else is in Postgres meanwhile: what the switch makes there is made when it is known which tables there are by then.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from mirror.core.errors import FencedError, MirrorError, SinkError
from mirror.core.signals import Signals
from mirror.core.words import counted
from mirror.cutover.mirrored import targets_of
from mirror.postgres import moving, phase
from mirror.postgres.failures import translated

if TYPE_CHECKING:
    from mirror.cutover.move import Move

#: Seconds from the end of one comparison to the beginning of the next: it reads every row on both sides.
COMPARE_SECONDS = 300.0
#: Seconds between two looks at the guard rails, some of which look at many rows, too.
RAILS_SECONDS = 15.0
#: Seconds between two looks at whether it is to go on.
LOOK_SECONDS = 0.1


class Compared(NamedTuple):
    """The outcome of a comparison of all rows."""

    verdict: Literal["equal", "different", "not checked"]
    said: str


class Operator(Protocol):
    """Who waits at the terminal, and what a command can do for them."""

    def begin(self) -> None:
        """Say that the move waits."""

    def says_go(self) -> bool:
        """Whether Enter was pressed since then."""

    def tell(self, text: str) -> None:
        """Say what has changed."""

    def compare(self, look: Callable[[], None]) -> Compared:
        """Compare all rows; record it. ``look`` is called often, and what it raises ends the comparison."""


class Waiting(NamedTuple):
    """A move that waits."""

    since: str
    reason: str
    """Why it cannot go on yet; empty: it can."""


class _Go(Exception):  # noqa: N818 - not an error, but what ends the wait
    """It is to go on now."""


def defer(move: Move) -> str:
    """Wait until a move is told to go on; returns what to say of it.

    Raises ``SinkError`` if a comparison finds a difference or Postgres fails, ``FencedError`` if another command moves
    the source, ``MirrorError`` if the process is asked to end.
    """
    operator = move.operator
    assert operator is not None
    move.change("waiting_since = now(), waiting_for = '', go_at = NULL")
    operator.begin()
    with translated("wait", str(move.source)):
        wait = _Wait(move, operator, phase.read(move.conn, move.source_id).moving_to or move.phase.number)
    with ExitStack() as stack:
        numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
        wait.signals = stack.enter_context(Signals(*numbers))
        said = wait.run()
    with translated("wait", str(move.source)):
        move.targets = targets_of(move.conn, move.source, move.schema)
    return said


def forget(move: Move) -> None:
    """A move does not wait any more, and was not told to go on."""
    move.change("waiting_since = NULL, waiting_for = '', go_at = NULL")


class _Wait:
    """The loop of :func:`defer`."""

    signals: Signals

    def __init__(self, move: Move, operator: Operator, number: int) -> None:
        self._move, self._operator, self._number = move, operator, number
        self._proof = ""
        """The last comparison, once one has found all equal."""
        self._unproven = ""
        """Why the last one is no proof."""
        self._rails = ""
        """Guard rails that do not hold."""
        self._written = ""
        self._compared = 0
        self._looked_at = 0.0
        self._told = False
        """Whether Enter was pressed."""

    def run(self) -> str:
        """Until it is to go on."""
        compare_at = rails_at = 0.0
        try:
            while True:
                if time.monotonic() >= compare_at:
                    self._compare()
                    compare_at = time.monotonic() + (COMPARE_SECONDS if self._proof else RAILS_SECONDS)
                if time.monotonic() >= rails_at:
                    begun, held = time.monotonic(), not self._rails
                    self._judge()
                    # They may take long where there are many rows.
                    rails_at = time.monotonic() + max(RAILS_SECONDS, 10 * (time.monotonic() - begun))
                    if held and self._rails:
                        compare_at = 0.0  # which may be what is missing
                self._write()
                self._look()
                self.signals.wait(LOOK_SECONDS)
        except _Go:
            return f"{counted(self._compared, 'comparison')} of all rows, the last one: {self._proof}"

    def _compare(self) -> None:
        found = self._operator.compare(self._look)
        self._compared += 1
        if found.verdict == "different":
            step = "`mirror parity` shows the rows; nothing was switched"
            raise SinkError("compare with Postgres", str(self._move.source), found.said, next_step=step)
        self._proof, self._unproven = (found.said, "") if found.verdict == "equal" else ("", found.said)

    def _judge(self) -> None:
        try:
            self._move.judge(self._number)
            self._rails = ""
        except MirrorError as error:
            self._rails = error.detail or str(error)

    def _write(self) -> None:
        """Have the row say why it cannot go on."""
        reason = self._rails or self._unproven
        if reason == self._written:
            return
        move = self._move
        self._told = False
        self._operator.tell(reason or "the guard rails hold again, and all rows are equal")
        with translated("wait", str(move.source)):
            move.conn.execute(
                "UPDATE mirror.phase SET waiting_for = $3::text WHERE source_id = $1::bigint AND epoch = $2::bigint",
                (str(move.source_id), str(move.phase.epoch), reason),
            )
        self._written = reason

    def _look(self) -> None:
        """Raise ``_Go`` if it is to go on and can; an error if it is not to go on at all."""
        if self.signals.came:
            step = "what it had made is undone; the same command begins again"
            raise MirrorError("wait", str(self._move.source), "the process was asked to end", next_step=step)
        if time.monotonic() < self._looked_at + LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        reason, move = self._rails or self._unproven, self._move
        if self._operator.says_go():
            self._told = not reason
            if said := reason or ("" if self._proof else "it goes on when the first comparison is over"):
                self._operator.tell(said)
        ready = bool(self._proof) and not reason
        with translated("wait", str(move.source)):
            if phase.read(move.conn, move.source_id).epoch != move.phase.epoch:
                raise FencedError("wait", str(move.source), "another command has begun to move it")
            if self._told and ready:
                move.change("waiting_since = NULL, go_at = now()")
                raise _Go
            if (
                ready
                and move.conn.execute(
                    "UPDATE mirror.phase SET waiting_since = NULL WHERE source_id = $1::bigint AND epoch = $2::bigint"
                    " AND go_at IS NOT NULL RETURNING epoch",
                    (str(move.source_id), str(move.phase.epoch)),
                ).fetchone()
            ):
                raise _Go


def state(move: Move) -> Waiting | None:
    """Whether a move of the source waits, in any process. Raises ``SinkError``."""
    with translated("look for a move that waits", str(move.source)):
        row = move.conn.execute(
            "SELECT to_char(waiting_since AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), waiting_for"
            " FROM mirror.phase WHERE source_id = $1::bigint AND waiting_since IS NOT NULL",
            (str(move.source_id),),
        ).fetchone()
        return None if row is None or not moving.is_moved(move.conn, move.source_id) else Waiting(*row)


def go(move: Move) -> int:
    """Have a move that waits go on, and wait until it is over: a comparison that runs may come first.

    Returns the phase that the source is in then. Raises ``MirrorError`` if none waits, it does not go on, or it fails.
    """
    source = str(move.source)
    begun = False
    if move.phase.finalized_at is not None:
        raise MirrorError("go on", source, "its move was finalized", next_step="nothing is left to do")
    while True:
        now = state(move)
        if now is not None and now.reason:
            _withdraw(move)
            step = "when that is settled, `mirror cutover go` again; Ctrl-C ends the command that waits"
            raise MirrorError("go on", source, f"it cannot yet: {now.reason}", next_step=step)
        with translated("go on", source):
            if now is not None and not begun:
                move.conn.execute(
                    "UPDATE mirror.phase SET go_at = now() WHERE source_id = $1::bigint AND waiting_since IS NOT NULL",
                    (str(move.source_id),),
                )
                begun = True
            (told,) = move.conn.execute(
                "SELECT EXISTS (SELECT FROM mirror.phase WHERE source_id = $1::bigint"
                " AND go_at IS NOT NULL AND waiting_since IS NULL)",
                (str(move.source_id),),
            ).fetchone() or (False,)
        if now is None:
            if begun and told:
                return _over(move)
            detail = "it has ended without switching" if begun else "no `mirror cutover advance --wait` waits for it"
            step = f"`mirror cutover {'status' if begun else 'plan'}`"
            raise MirrorError("go on", source, detail, next_step=step)
        time.sleep(LOOK_SECONDS)


def _over(move: Move) -> int:
    """Wait until the command that has gone on has ended; returns the phase. Raises ``MirrorError`` if it has failed."""
    source = str(move.source)
    while True:
        with translated("go on", source):
            ended = not moving.is_moved(move.conn, move.source_id)
            now = phase.read(move.conn, move.source_id)
            if now.moving_to is None and now.number > move.phase.number:
                return now.number
            if ended:
                row = move.conn.execute(
                    "SELECT step, detail FROM mirror.cutover_log WHERE source_id = $1::bigint AND event = 'failed'"
                    " AND epoch = $2::bigint ORDER BY log_id DESC LIMIT 1",
                    (str(move.source_id), str(now.epoch)),
                ).fetchone()
        if ended:
            detail = "the command that waited went on, and has ended" + ("" if row is None else f": {row[0]}: {row[1]}")
            raise MirrorError("go on", source, detail, next_step="`mirror cutover status` shows where it is")
        time.sleep(LOOK_SECONDS)


def _withdraw(move: Move) -> None:
    with translated("go on", str(move.source)):
        move.conn.execute(
            "UPDATE mirror.phase SET go_at = NULL WHERE source_id = $1::bigint AND waiting_since IS NOT NULL",
            (str(move.source_id),),
        )
