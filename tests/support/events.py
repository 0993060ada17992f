"""A client of server-sent events, in tests."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import msgspec

from mirror.core.changes import Change
from tests.support.waiting import LIMIT


class Event(NamedTuple):
    """One event; without data it only moves the client's position."""

    kind: str
    id: str
    change: Change | None


class EventClient:
    """Reads events until it is closed."""

    def __init__(self, url: str, query: str = "", last: str | None = None) -> None:
        at = urlsplit(url)
        self._connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=LIMIT)
        headers = {} if last is None else {"Last-Event-ID": last}
        self._connection.request("GET", f"/changes{query}", headers=headers)
        self._answer = self._connection.getresponse()
        self.code = self._answer.status
        self.type = self._answer.headers["Content-Type"]
        self.last = last or ""

    @property
    def text(self) -> str:
        """The answer of a request that gets no events."""
        return self._answer.read().decode()

    def all(self) -> Iterator[Event]:
        """All that come, those without data too."""
        fields: dict[str, str] = {}
        for line in self._answer:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
                continue
            self.last = fields.get("id", self.last)
            data = fields.get("data")
            change = None if data is None else msgspec.json.decode(data, type=Change)
            yield Event(fields.get("event", ""), self.last, change)
            fields = {}

    def take(self, count: int) -> list[Event]:
        """The next ones with data."""
        found: list[Event] = []
        for event in self.all():
            found += [event] if event.change is not None else []
            if len(found) == count:
                break
        return found

    def close(self) -> None:
        self._answer.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
