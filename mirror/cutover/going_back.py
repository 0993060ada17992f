"""Whether the file has what Postgres has, before programs go back to it: nearly all of that is asked while they write.

The running mirror compares all rows with the snapshot of Postgres that the file should show. While programs wait, it is
asked whether another connection has written to the file since, and what they have written in Postgres since is compared
row by row. Where no mirror runs, all rows are compared then.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mirror.core.agreement import Agreement
from mirror.core.errors import ControlError, NotRunningError, SinkError
from mirror.postgres.failures import translated
from mirror.reverse import ending

if TYPE_CHECKING:
    from mirror.cutover.move import Move

#: Seconds to wait for a mirror that is about to carry writes back.
WAIT_SECONDS = 60.0


def compare(move: Move) -> str:
    """Compare all rows, while programs write. Raises ``SinkError`` if the file differs."""
    with translated(ending.COMPARE, str(move.source)):
        row = move.conn.execute(
            "SELECT snapshot::text FROM mirror.reverse WHERE source_id = $1::bigint", (str(move.source_id),)
        ).fetchone()
    if row is None:
        raise SinkError(ending.COMPARE, str(move.source), "the way back was never begun")
    try:
        said = _judged(move, _asked(move, touched=False))
    except NotRunningError:
        return "no mirror runs: all rows are compared while programs wait"
    (move.since,) = row
    return said


def compare_again(move: Move) -> str:
    """The rest, while programs wait. Raises ``SinkError`` if the file differs."""
    if not move.since:
        return move.verify_back(move.conn)
    _judged(move, _asked(move, touched=True))
    return move.verify_again(move.conn, move.since)


def _asked(move: Move, *, touched: bool) -> Agreement:
    deadline = time.monotonic() + WAIT_SECONDS
    with translated(ending.COMPARE, str(move.source)):
        now = ending.state(move.conn, move.source_id).now
    while True:
        try:
            with move.control() as client:
                return client.agree(now, touched=touched)
        except ControlError as error:
            if not error.retryable or isinstance(error, NotRunningError) or time.monotonic() > deadline:
                raise
        move.require_way_back()
        time.sleep(0.05)


def _judged(move: Move, found: Agreement) -> str:
    said = ending.judged(found, str(move.source))
    move.require_way_back()  # what is known may not be left in the file either
    return said
