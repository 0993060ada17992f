"""Locks that a forked child can use, whichever thread of its parent had them, and work that no fork interrupts.

A child has only the thread that forked. A lock that another thread had at that moment would stay locked there for ever,
so each is replaced in the child. What such a lock guards may then be half-changed: it has to be of a kind that stays
usable (a list, a count), or be made again in the child, too.

SQLite has locks of its own, which cannot be replaced. So a fork waits until no thread is at work in it.
"""

from __future__ import annotations

import os
import threading
from weakref import WeakSet


class Lock:
    """A ``threading.Lock`` for ``with`` that is free in a forked child."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_locks: WeakSet[Lock] = WeakSet()


def _forked() -> None:
    for lock in list(_locks):
        lock._lock = threading.Lock()


#: Seconds that a fork waits at most.
LONGEST_WAIT = 2.0


class _Whole:
    """For ``with``: work that is whole in the child, as no process is forked meanwhile, unless it takes long."""

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Also in a forked child."""
        self._changed = threading.Condition(threading.Lock())
        self._inside = self._forking = 0

    def __enter__(self) -> None:
        with self._changed:
            while self._forking:
                self._changed.wait()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            if self._forking:
                self._changed.notify_all()

    def before(self) -> None:
        """A fork begins: from now on nobody comes in."""
        self._changed.acquire()
        self._forking += 1
        self._changed.wait_for(lambda: self._inside <= 0, LONGEST_WAIT)

    def after(self) -> None:
        """A fork has ended, in the parent."""
        self._forking -= 1
        self._changed.notify_all()
        self._changed.release()


#: Of this process.
whole = _Whole()
os.register_at_fork(after_in_child=_forked)
os.register_at_fork(before=whole.before, after_in_parent=whole.after, after_in_child=whole.start_over)
