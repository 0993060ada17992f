"""Whether the file has what Postgres has, before programs go back to it: nearly all of that is asked while they write.

The running mirror compares all rows with the snapshot of Postgres that the file should show. While programs wait, it is
asked whether another connection has written to the file since, and what they have written in Postgres since is compared
row by row. Where no mirror runs, all rows are compared then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from mirror.core.agreement import Agreement
from mirror.core.control import wait_for_mirror
from mirror.core.errors import ControlError, MirrorError, NotRunningError
from mirror.core.words import counted
from mirror.cutover.move import GONE_SECONDS
from mirror.cutover.narrowing import FEW_ROWS, ROUNDS
from mirror.postgres.failures import translated
from mirror.reverse import ending

if TYPE_CHECKING:
    from mirror.cutover.move import Move

#: Seconds to wait for a mirror that is about to carry writes back.
WAIT_SECONDS = 60.0
#: The same, while programs wait.
SHORT_WAIT_SECONDS = 10.0
#: Seconds between two counts of what the mirror has still to carry.
TELL_SECONDS = 1.0


def compare(move: Move) -> str:
    """Compare all rows, and then again what was written meanwhile. Raises ``SinkError`` if the file differs."""
    try:
        _await_mirror(move)
        found = _asked(move)
        said = _judged(move, found)
        for _ in range(ROUNDS):
            _catch_up(move)
            found = _asked(move, after=found.snapshot)
            _judged(move, found)
            if found.rows <= FEW_ROWS:
                break
    except NotRunningError:
        return "no mirror runs: all rows are compared while programs wait"
    move.since = found.snapshot
    return said


def _await_mirror(move: Move) -> None:
    """Give one that has just ended the time to be started again: programs do not wait yet, and else do long."""
    with suppress(ControlError), wait_for_mirror(move.folder, GONE_SECONDS):
        pass


def _catch_up(move: Move) -> None:
    """Wait until the file has what is visible in Postgres now."""
    deadline = time.monotonic() + WAIT_SECONDS
    with translated(ending.DRAIN, str(move.source)):
        seen, told = ending.snapshot(move.conn), time.monotonic()
        while not ending.has(move.conn, move.source_id, seen) and (now := time.monotonic()) < deadline:
            if now > told + TELL_SECONDS:
                move.doing, told = still_to_carry(move, seen), now
            move.require_way_back()
            time.sleep(0.01)


def still_to_carry(move: Move, seen: str) -> str:
    """How far the mirror is with what was visible in a snapshot of Postgres, in words. Raises psycopg's errors."""
    return f"{counted(ending.left(move.conn, move.source_id, seen), 'row')} still to be carried into the file"


def compare_again(move: Move) -> str:
    """The rest, while programs wait. Raises ``SinkError`` if the file differs."""
    if not move.since:
        return move.verify_back(move.conn)
    _judged(move, _asked(move, touched=True))
    return move.verify_again(move.conn, move.since)


def _asked(move: Move, *, touched: bool = False, after: str = "") -> Agreement:
    with translated(ending.COMPARE, str(move.source)):
        now = ending.state(move.conn, move.source_id).now

    def ask() -> Agreement:
        move.require_way_back()
        with move.control() as client:
            return client.agree(now, touched=touched, after=after)

    # Of a file that was not touched there is nothing to compare: programs, which wait for this, need not wait long.
    return patiently(ask, SHORT_WAIT_SECONDS if touched else WAIT_SECONDS)


def patiently(ask: Callable[[], Agreement], seconds: float = WAIT_SECONDS) -> Agreement:
    """Ask a mirror for a comparison, again while it cannot just now: a program may have a table locked.

    Raises ``NotRunningError``, and what ``ask`` raises that a retry does not help.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except MirrorError as error:
            if not error.retryable or isinstance(error, NotRunningError) or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _judged(move: Move, found: Agreement) -> str:
    move.require_way_back()  # what is known may not be left in the file either
    return ending.judged(found, str(move.source))
