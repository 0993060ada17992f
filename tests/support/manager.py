"""The manager of services in tests: a real datagram socket, as systemd has it."""

from __future__ import annotations

import select
import socket
from pathlib import Path
from typing import Self

from tests.support.waiting import LIMIT


class Manager:
    """Receives what a service says. ``name``: a path, or an abstract name after ``@``."""

    def __init__(self, name: Path | str) -> None:
        self.name = str(name)
        self.messages: list[dict[str, str]] = []
        """All that was received, the earliest first."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.name[1:] if self.name.startswith("@") else self.name)
        self._socket.settimeout(LIMIT)

    def receive(self) -> dict[str, str]:
        """The next message; fails if none comes."""
        lines = self._socket.recv(65536).decode().split("\n")
        self.messages.append(dict(line.split("=", 1) for line in lines))
        return self.messages[-1]

    @property
    def is_silent(self) -> bool:
        """Whether no message waits to be received."""
        return not select.select([self._socket], [], [], 0)[0]

    def hears(self, name: str, text: str = "") -> dict[str, str]:
        """Receive until a message has a value of this name that contains ``text``."""
        while True:
            message = self.receive()
            if name in message and text in message[name]:
                return message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
