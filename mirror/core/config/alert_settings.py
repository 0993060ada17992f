"""The section ``alerts`` of mirror.json: a webhook, and from when on it is told what."""

from __future__ import annotations

from dataclasses import dataclass, field

#: The thresholds, and the key of each in ``alerts``.
THRESHOLDS = {
    "hold_seconds": "holdSeconds",
    "lag_seconds": "lagSeconds",
    "rejects": "rejects",
    "parity_hours": "parityHours",
    "free_bytes": "freeBytes",
}


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """What is told to a webhook, and from when on."""

    webhook: str | None = field(default=None, repr=False)
    """Its address, which may be a secret; None: nothing is told."""
    hold_seconds: float = 60.0
    """For which something must last, or be over."""
    lag_seconds: float = 60.0
    rejects: int = 0
    """More are told."""
    parity_hours: float = 48.0
    free_bytes: int = 1_000_000_000
