"""From the program's threads to the sidecar: a bounded queue, and one thread that sends what is in it.

Putting a message in never waits: what does not fit is dropped, and counted; the WAL has everything. The thread sleeps
until it is woken, then sends all that is queued, and looks again every two milliseconds as long as more comes: so a
busy program pays for an append per commit, not for a wake-up.

The format is in :mod:`mirror.hook.wire`. It is sent only to a process of our user, or of root.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirror.core.errors import ControlError
from mirror.core.messages import Done, Hook, answer_in, line_of
from mirror.core.peer import connect
from mirror.hook.wire import FULL_BLOCK_BYTES, LIMIT_BYTES, MOST_MESSAGES, encode_block

if TYPE_CHECKING:
    from mirror.hook.watch import ConnectionHooks

#: Handled by the program's own logging configuration.
logger = logging.getLogger("mirror")

#: Seconds: between two looks while messages come; without a message until the thread sleeps; between two connects.
_LOOK, _AWAKE, _RETRY = 0.002, 0.02, 1.0
#: Seconds between two tries to set the hooks of a connection that is in use, as a busy program's nearly always is.
_RESUME = 0.05
_SEND_SECONDS = 10.0
#: Bytes of the answer to our first line.
_MOST_ANSWER_BYTES = 1 << 16


class Outbox:
    """The queue of messages about one source, and the thread that sends them."""

    def __init__(self, folder: Path) -> None:
        """``folder``: the source's folder in the state directory."""
        self._folder = folder
        self._queue: deque[tuple[tuple[Any, ...], int]] = deque()
        self._waiting = 0
        """Bytes in the queue, roughly: two threads may add at once."""
        self.lost = 0
        self.sent = 0
        self.error: str | None = None
        """The last error in sending, other than that no sidecar is there."""
        self.connected = True
        """Whether a sidecar listens, as far as is known: messages before the first answer are queued for it."""
        self._socket: socket.socket | None = None
        self._reported = 0
        """How many of the lost messages were reported to the sidecar."""
        self._resting: deque[tuple[float, ConnectionHooks]] = deque()
        self._asleep = True
        self._closed = False
        self._ring = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror hook", daemon=True)
        self._thread.start()

    def put(self, message: tuple[Any, ...], size: int) -> None:
        """Queue a message, or drop it if there is no room; never waits. ``size``: its bytes, roughly."""
        if self._waiting + size > LIMIT_BYTES or not self.connected:
            self.lost += 1
            return
        self._waiting += size
        self._queue.append((message, size))
        if self._asleep:
            self._ring.set()

    def resume(self, watch: ConnectionHooks, seconds: float) -> None:
        """Set the hooks of a connection that rests again after so many seconds, as soon as it is not in use."""
        self._resting.append((time.monotonic() + seconds, watch))
        self._ring.set()

    def abandon(self) -> None:
        """In a forked child: the thread does not exist here, and the socket belongs to the parent."""
        self._closed = True
        self.connected = False
        if self._socket is not None:
            self._socket.close()

    def close(self, timeout: float = 0.0) -> None:
        """Send what is queued if that takes no longer than ``timeout`` seconds, and end."""
        self._closed = True
        self._ring.set()
        if timeout:
            self._thread.join(timeout)
            if self._thread.is_alive() and (connection := self._socket) is not None:
                with suppress(OSError):  # the sidecar is stopped, and the thread waits for it
                    connection.shutdown(socket.SHUT_RDWR)
                self._thread.join(timeout)

    def _run(self) -> None:
        while not self._closed:
            try:
                with self._connect() as connection:
                    self.connected = True
                    self._resting = deque((0.0, watch) for _, watch in self._resting)
                    self._send_all(connection)
            except OSError:
                pass  # the sidecar has ended: the WAL has what it missed
            except ControlError as error:
                if not error.retryable:  # otherwise there is no sidecar, or it is busy
                    self._has_failed(str(error))
            except Exception as error:  # a bug: the program must not see it, and its connections must not rest for ever
                self._has_failed(f"{type(error).__name__}: {error}")
            finally:
                self.connected = False
                self.lost += len(self._queue)
                self._queue.clear()
                self._waiting = 0
            self._ring.clear()
            if not self._closed:
                self._ring.wait(self._resume_some())

    def _has_failed(self, error: str) -> None:
        if self.error is None:
            logger.warning("rows could not be sent to the sidecar: %s", error)
        self.error = error

    def _connect(self) -> socket.socket:
        connection = self._socket = connect(self._folder, _SEND_SECONDS)
        try:
            program = os.path.basename(str(sys.argv[0])) if sys.argv else ""
            connection.sendall(line_of(Hook(os.getpid(), program or "python")))
            with connection.makefile("rb", 0) as file:
                line = file.readline(_MOST_ANSWER_BYTES)
            if not isinstance(answer_in(line), Done):
                raise ConnectionRefusedError(line.decode(errors="replace"))
        except ValueError as error:
            connection.close()
            raise ConnectionRefusedError(str(error)) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _send_all(self, connection: socket.socket) -> None:
        last = time.monotonic()
        while True:
            block = self._take()
            if block:
                connection.sendall(encode_block(block))
                self.sent += len(block)
                last = time.monotonic()
            elif self._closed:
                return
            elif time.monotonic() - last < _AWAKE:
                time.sleep(_LOOK)
            else:
                self._sleep(connection)
                last = time.monotonic()

    def _resume_some(self) -> float:
        """Set the hooks of connections again that have rested long enough; returns the seconds until the next one."""
        now, wait = time.monotonic(), _RETRY
        for _ in range(len(self._resting)):
            until, watch = self._resting.popleft()
            if now < until or not watch.resume():
                self._resting.append((until, watch))
                wait = min(wait, max(until - now, _RESUME))
        return wait

    def _take(self) -> list[tuple[Any, ...]]:
        block: list[tuple[Any, ...]] = []
        room = FULL_BLOCK_BYTES
        while self._queue and len(block) < MOST_MESSAGES and room > 0:
            message, size = self._queue.popleft()
            self._waiting -= size
            room -= size
            block.append(message)
        if not self._queue:
            self._waiting = 0
        if self.lost > self._reported:
            block.append(("lost", self.lost - self._reported))
            self._reported = self.lost
        return block

    def _sleep(self, connection: socket.socket) -> None:
        """Sleep until a message is queued, or the sidecar has ended."""
        self._ring.clear()
        self._asleep = True
        try:
            while not (self._queue or self._closed or self._ring.wait(self._resume_some())):
                connection.setblocking(False)
                try:
                    if not connection.recv(1):
                        raise ConnectionResetError
                except BlockingIOError:
                    pass
                finally:
                    connection.settimeout(_SEND_SECONDS)
        finally:
            self._asleep = False
