"""What the hooks may cost the program: a small part of its time, whatever it does.

Telling of a commit takes some microseconds, which is little beside a commit that waits for its disk, and half of one
that does not. So there is a budget of time that fills up as time passes; a connection that has used it up has no hooks
for a while. Then the WAL alone tells of its commits, as it does of all; in between, bursts are told of and checked.
"""

from __future__ import annotations

import time

#: The part of the time that may be used, and what may be saved up, in seconds.
SHARE, BURST = 0.02, 0.01
#: All that a commit costs, as a multiple of what is measured: naming it and putting it into the outbox. (The hooks of
#: its statements and rows, and sending; measured by commits with and without, on one core.)
WHOLE = 2.5
#: What is measured beyond this is another thread's turn.
_MOST = 20e-6


class Budget:
    """The budget of one process. Threads may use it at once; that it is then a little wrong does no harm."""

    def __init__(self) -> None:
        self._left = BURST
        self._at = time.perf_counter()

    def spend(self, begun: float, more: float = 0.0) -> float:
        """A commit was told of since ``begun`` (of ``perf_counter``), or something else that took ``more`` seconds.

        Returns for how many seconds none may be; 0 if the next one may.
        """
        now = time.perf_counter()
        left = min(BURST, self._left + SHARE * (now - self._at)) - WHOLE * min(now - begun, _MOST) - more
        self._left, self._at = left, now
        return (BURST - left) / SHARE if left < 0 else 0.0
