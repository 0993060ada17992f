"""How long a source's loop waits after a turn, so that commits of a stream share a transaction."""

from __future__ import annotations

import math

from mirror.sidecar.repose import SHORT_SECONDS, STREAM_SHARE, WAITS, wait_after


def test_a_turn_by_itself_is_not_waited_after() -> None:
    """The program has rested before it: the next commit is taken at once."""
    assert wait_after(0.001, 1.0) == wait_after(0.001, 0.001 / STREAM_SHARE + 1e-6) == 0.0


def test_a_stream_leaves_time_to_others() -> None:
    """Each turn follows the wait after the one before it, and is followed by a wait, too."""
    took, since_last = 0.0009, 0.0009
    for _ in range(10):
        pause = wait_after(took, since_last)
        assert pause == took * WAITS > 0
        since_last = pause + took
    assert math.isclose(took / since_last, 1 / (1 + WAITS))


def test_a_long_turn_is_not_waited_after() -> None:
    """It has taken many commits already, or one that is large; more may be there."""
    assert wait_after(SHORT_SECONDS, SHORT_SECONDS) == 0.0 < wait_after(SHORT_SECONDS * 0.99, SHORT_SECONDS)
