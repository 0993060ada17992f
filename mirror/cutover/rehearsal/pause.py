"""How long a writer had to wait around a switch, of the moments at which its commits succeeded."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

#: Seconds before and after the pause that p50 and p99 are of, too: what a writer sees that comes at any moment of them.
AROUND = 0.5
#: Halvings until a quantile is exact to less than a microsecond.
_HALVINGS = 40


class Pause(NamedTuple):
    """Seconds until a commit succeeds that is begun at any moment around a switch."""

    p50: float
    p99: float
    worst: float
    """The longest time without a successful commit."""


def measure(times: Sequence[float], begun: float, ended: float) -> Pause | None:
    """The pause between two moments, of the ascending times (seconds) of successful commits; None: there are too few.

    A time without commits counts as a whole also where only a part of it lies between the two.
    """
    first = max(bisect_left(times, begun), 1)
    gaps = []
    for at in range(first, len(times)):
        if times[at - 1] >= ended:
            break
        gaps.append((times[at - 1], times[at]))
    if not gaps:
        return None
    start, end = max(gaps, key=lambda gap: gap[1] - gap[0])
    low, high = start - AROUND, end + AROUND
    spans = []
    for at in range(max(bisect_left(times, low), 1), len(times)):
        since, until = max(times[at - 1], low), min(times[at], high)
        if since >= high:
            break
        # Who comes between the two waits for the commit, the less the later.
        spans.append((times[at] - until, times[at] - since))
    return Pause(_quantile(spans, 0.5), _quantile(spans, 0.99), end - start)


def _quantile(spans: Sequence[tuple[float, float]], share: float) -> float:
    """The wait that this share of all moments does not exceed; ``spans``: shortest and longest wait between commits."""
    wanted = share * sum(most - least for least, most in spans)
    low, high = 0.0, max(most for _, most in spans)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if sum(min(max(middle - least, 0.0), most - least) for least, most in spans) < wanted:
            low = middle
        else:
            high = middle
    return high
