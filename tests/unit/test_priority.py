"""Priorities: of the loop, lower than the program's and than what the mirror was started with; and of capture."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from mirror.sidecar.priority import NICENESS, lower_priority
from tests.support.waiting import LIMIT


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


@pytest.mark.linux
def test_capture_has_that_of_the_mirror() -> None:
    """Also of one that was started with a lower priority, from a thread with another one."""
    program = (
        "import os, socket, subprocess, sys, threading\n"
        "os.nice(3)\n"
        "ours, theirs = socket.socketpair()\n"
        "def start():\n"
        "    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)\n"
        "    global capture\n"
        "    command = [sys.executable, '-P', '-m', 'mirror.capture.process', str(theirs.fileno())]\n"
        "    capture = subprocess.Popen(command, pass_fds=[theirs.fileno()])\n"
        "thread = threading.Thread(target=start); thread.start(); thread.join()\n"
        "nice = lambda: os.getpriority(os.PRIO_PROCESS, capture.pid) - os.getpriority(os.PRIO_PROCESS, 0)\n"
        "wanted = 0 if os.geteuid() == 0 else 19 - os.getpriority(os.PRIO_PROCESS, 0)\n"
        "while nice() != wanted and capture.poll() is None: os.sched_yield()\n"
        "print(capture.poll() is None)\n"
        "theirs.close(); ours.close(); capture.wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT, check=True)
    assert done.stdout == "True\n", done
