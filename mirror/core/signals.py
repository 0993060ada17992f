"""Signals that ask the process for something, most often to end: noticed, and never lost.

Python runs a signal's handler in the main thread, between any two of its instructions: also while that thread holds
the lock of the very :class:`threading.Event` that the handler wants to set, which would be a deadlock. So
the handler here only sets an attribute. What ends the wait is a byte that the interpreter itself writes to
a socket as soon as the signal arrives (:func:`signal.set_wakeup_fd`), in whichever thread that is.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
from types import FrameType, TracebackType
from typing import Any, Self


class Signals:
    """Notices some signals inside a ``with`` block; at its end the earlier handlers are restored.

    ``reload``: one that asks to read the configuration again, instead of to end; None: there is none.

    Thread: the main thread only, and one block at a time, because a process has one wake-up descriptor.
    """

    def __init__(self, *numbers: signal.Signals, reload: signal.Signals | None = None) -> None:
        self.came = False
        """Whether one that asks to end has come."""
        self._numbers = numbers if reload is None else (*numbers, reload)
        self._reload = reload
        self._reloads = 0
        """How often ``reload`` has come, and how often that was answered."""
        self._reloaded = 0
        self._before: list[tuple[signal.Signals, Any]] = []
        self._wakeup_before = -1
        self._selector = selectors.DefaultSelector()
        self._bell, self._ring = socket.socketpair()
        for end in (self._bell, self._ring):
            end.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self._reload:
            self._reloads += 1
        else:
            self.came = True

    def takes_reload(self) -> bool:
        """Whether ``reload`` has come since the last call; several times count as one."""
        come = self._reloads
        before, self._reloaded = self._reloaded, come
        return come != before

    def wait(self, timeout: float) -> bool:
        """Wait until one has come, at most ``timeout`` seconds; returns whether one that asks to end has, ever."""
        if not self.came and self._selector.select(timeout):
            with contextlib.suppress(BlockingIOError):
                self._bell.recv(4096)
        return self.came

    def __enter__(self) -> Self:
        # A full buffer loses nothing: the socket is readable already.
        self._wakeup_before = signal.set_wakeup_fd(self._ring.fileno(), warn_on_full_buffer=False)
        self._before = [(number, signal.signal(number, self._note)) for number in self._numbers]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self._selector.close()
        self._bell.close()
        self._ring.close()
