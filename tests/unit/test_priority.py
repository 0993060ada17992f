"""The loop's priority: lower than the program's, and never higher than what the mirror was started with."""

from __future__ import annotations

import os
import threading

import pytest

from mirror.sidecar.priority import NICENESS, lower_priority


@pytest.mark.linux
@pytest.mark.parametrize("before", [0, NICENESS + 7])
def test_a_loop_has_the_lower_of_both(before: int) -> None:
    found: list[int] = []

    def loop() -> None:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + before)
        started = os.getpriority(os.PRIO_PROCESS, thread)
        lower_priority()
        found.extend([started, os.getpriority(os.PRIO_PROCESS, thread)])

    thread = threading.Thread(target=loop)
    thread.start()
    thread.join()
    started, now = found
    assert now == max(started, NICENESS)
