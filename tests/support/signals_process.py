"""Waits for SIGTERM again and again and reports each one; ends after ``TIMES`` of them.

``python signals_process.py TIMES [event]``: with ``event``, the handler sets an event, as an earlier one did.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading

from mirror.core.signals import Signals

#: Short waits: most signals come where one ends and the next begins.
PAUSES = (0.0,) * 50 + (0.00001,) * 20 + (0.05,)


class EventSignals:
    """A handler that takes a lock, and so loses signals."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def __enter__(self) -> EventSignals:
        signal.signal(signal.SIGTERM, lambda number, frame: self._event.set())
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self, timeout: float) -> bool:
        return self._event.wait(timeout)

    def forget(self) -> None:
        self._event.clear()


class CountedSignals(Signals):
    def forget(self) -> None:
        self.came = False


def main(times: int, kind: str) -> None:
    pauses = random.Random(1)
    with EventSignals() if kind == "event" else CountedSignals(signal.SIGTERM) as signals:
        os.write(1, b"r")
        for _ in range(times):
            while not signals.wait(pauses.choice(PAUSES)):
                pass
            signals.forget()
            os.write(1, b".")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
