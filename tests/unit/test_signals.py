"""A signal is never lost, wherever in the waiting loop it comes."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import mirror
from tests.support import signals_process

TIMES = 10_000
#: Until a signal must have been noticed; only a lost one takes longer.
LIMIT = 30.0


def noticed(stream: int) -> bool:
    ready, _, _ = select.select([stream], [], [], LIMIT)
    return bool(ready) and os.read(stream, 1) != b""


def test_ten_thousand_signals_at_random_moments() -> None:
    """With a handler that sets an event, as there was one, this hangs after some hundred of them."""
    process = subprocess.Popen(
        [sys.executable, signals_process.__file__, str(TIMES)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(mirror.__file__).parents[1])},
    )
    assert process.stdout is not None
    moments = random.Random(2)
    try:
        assert noticed(process.stdout.fileno()), "it never began"
        for number in range(TIMES):
            until = time.perf_counter() + moments.random() * 0.0005
            while time.perf_counter() < until:
                pass
            process.send_signal(signal.SIGTERM)
            assert noticed(process.stdout.fileno()), f"signal {number} was lost"
        assert process.wait(LIMIT) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
