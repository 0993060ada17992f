"""Locks that a forked child can use, whichever thread of its parent had them.

A child has only the thread that forked. A lock that another thread had at that moment would stay locked there for ever,
so each is replaced in the child. What such a lock guards may then be half-changed: it has to be of a kind that stays
usable (a list, a count), or be made again in the child, too.
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


os.register_at_fork(after_in_child=_forked)
