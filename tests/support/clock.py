"""A clock for operations of the storage adapters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """A clock that tests move; each look at it is a millisecond later, so that no two rows are of one time."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 28, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)
