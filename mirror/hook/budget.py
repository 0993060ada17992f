"""What the hooks may cost the program: a small part of its time, whatever it does.

Sending a commit takes some microseconds, which is little beside a commit that waits for its disk, and half of one that
does not. So there is a budget of time that fills up as time passes; a connection that has used it up has no hooks for
a while. In that time its commits are captured from the WAL alone, as all commits are; between such pauses, bursts of
commits are sent and checked.
"""

from __future__ import annotations

import time

#: The part of the time that may be used, and what may be saved up, in seconds.
SHARE, BURST = 0.02, 0.01
#: The whole cost of a commit as a multiple of what is measured, which is naming it and putting it into the outbox. The
#: rest is the hooks of its statements and rows, and sending. (Found by commits with and without hooks, on one core.)
WHOLE = 2.5
#: Seconds. What is measured beyond this is the time of another thread.
_MOST = 20e-6


class Budget:
    """The budget of one process. Thread: any; used by several at once it is a little inexact, which does no harm."""

    def __init__(self) -> None:
        self._left = BURST
        self._at = time.perf_counter()

    def spend(self, begun: float, more: float = 0.0) -> float:
        """Spend the time since ``begun`` (of ``perf_counter``) on a commit, and ``more`` seconds on something else.

        Returns for how many seconds the connection must have no hooks; 0 if the next commit may be sent.
        """
        now = time.perf_counter()
        left = min(BURST, self._left + SHARE * (now - self._at)) - WHOLE * min(now - begun, _MOST) - more
        self._left, self._at = left, now
        return (BURST - left) / SHARE if left < 0 else 0.0
