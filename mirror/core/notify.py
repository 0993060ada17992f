"""What a process tells the manager that started it as a service: sd_notify(3), in one datagram a message.

``NOTIFY_SOCKET`` names a Unix datagram socket: a path, or, after ``@``, an abstract name (a NUL in place of the ``@``).
A message is lines of ``NAME=value``. Names that are used here:

=======================  =======================================================================================
name                     meaning
=======================  =======================================================================================
``READY=1``              it has started, or has read its configuration again
``RELOADING=1``          it reads its configuration again; with ``MONOTONIC_USEC``, the moment on CLOCK_MONOTONIC
``STOPPING=1``           it ends
``STATUS``               one line for people
``WATCHDOG=1``           it works: due each ``WATCHDOG_USEC`` microseconds, if that is set for this process
``EXTEND_TIMEOUT_USEC``  while it starts: so many microseconds more until that counts as failed
=======================  =======================================================================================
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

#: What a manager sets for the process that it has started, and for no other.
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
#: Seconds for which a manager may leave a message unread.
_SEND_SECONDS = 5.0


class Notifier:
    """Sends messages to the manager; to nobody, if none has started this process.

    Takes the variables out of the environment: programs that this process starts are not the service.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        name, period, whose = (environment.pop(variable, "") for variable in VARIABLES)
        self._address = ("\0" + name[1:]) if name.startswith("@") else name
        self.is_heard = name.startswith(("/", "@"))
        """Whether there is a manager."""
        ours = whose in ("", str(os.getpid()))
        self.watchdog_seconds = int(period) / 1e6 if self.is_heard and ours and period.isdecimal() else None
        """Seconds within which the manager wants to hear ``WATCHDOG=1``; None: it does not."""

    def send(self, **values: object) -> bool:
        """Send one message; returns whether the manager has it. A value is one line."""
        if not self.is_heard:
            return False
        lines = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in values.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(_SEND_SECONDS)
            sender.sendto(lines.encode(errors="replace"), self._address)
            return True
        return False  # the caller says it again: a manager that is busy, or being replaced, comes back

    def reloading(self) -> bool:
        """Send that the configuration is read again; ``READY=1`` ends that."""
        return self.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
