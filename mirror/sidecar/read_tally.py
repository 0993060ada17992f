"""What programs on storage adapters say of their reads of one source (:mod:`mirror.storage.reporting`), added up.

Each program reports what is new since its last report, so the sums only grow, and stay when a program ends. A report
whose answer was lost comes again under its number: it is counted once.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict

from mirror.core.errors import RequestError
from mirror.core.messages import Reads
from mirror.core.status import ReadCount, ShadowCount

#: Programs whose last report is remembered: those that reported last. Of one that is forgotten, a report that comes
#: again would be counted again.
MOST_PROCESSES = 1000
#: Different words that are counted, of each kind; programs know about twenty.
MOST_WORDS = 200


class ReadTally:
    """The sums of one source since its mirror started. Thread: any."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._last: OrderedDict[str, int] = OrderedDict()
        self._answers: Counter[tuple[str, str]] = Counter()
        self._shadows: Counter[tuple[str, str]] = Counter()

    def add(self, report: Reads) -> None:
        """Count a report, unless it was counted. Raises ``RequestError`` if it has too many words that are new."""
        with self._guard:
            if self._last.get(report.process, 0) >= report.number:
                return
            new = [
                (sums, {(word, why): count for word, why, count in counts})
                for sums, counts in ((self._answers, report.answers), (self._shadows, report.shadows))
            ]
            if any(len(sums.keys() | counts.keys()) > MOST_WORDS for sums, counts in new):
                raise RequestError("count reads", detail=f"more than {MOST_WORDS} reasons")
            for sums, counts in new:
                sums.update(counts)
            self._last[report.process] = report.number
            self._last.move_to_end(report.process)
            if len(self._last) > MOST_PROCESSES:
                self._last.popitem(last=False)

    def answers(self) -> list[ReadCount]:
        """Reads, by the store that answered and why."""
        with self._guard:
            return [ReadCount(store=store, reason=why, count=n) for (store, why), n in sorted(self._answers.items())]

    def shadows(self) -> list[ShadowCount]:
        """Shadow reads, by what became of them and why."""
        with self._guard:
            return [ShadowCount(result=what, reason=why, count=n) for (what, why), n in sorted(self._shadows.items())]
