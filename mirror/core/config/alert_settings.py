"""The section ``alerts`` of mirror.json: a webhook, and from when on it is told what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from mirror.core.config.argent_json import variable
from mirror.core.web_address import WebAddress, web_address

#: The thresholds, and the key of each in ``alerts``.
THRESHOLDS = {
    "hold_seconds": "holdSeconds",
    "lag_seconds": "lagSeconds",
    "rejects": "rejects",
    "parity_hours": "parityHours",
    "free_bytes": "freeBytes",
}


class AlertSettings(msgspec.Struct, frozen=True):
    """What is told to a webhook, and from when on."""

    webhook: WebAddress | None = None
    """None: nothing is told."""
    hold_seconds: float = 60.0
    """For which something must last, or be over."""
    lag_seconds: float = 60.0
    rejects: int = 0
    """More are told."""
    parity_hours: float = 48.0
    free_bytes: int = 1_000_000_000


def alert_settings(file: Any, place: str, environment: Mapping[str, str]) -> tuple[AlertSettings, dict[str, str]]:
    """What the environment and a file say of alerts, and where each setting comes from.

    ``file``: None: there is none. ``place``: its path. Raises ``ConfigError`` for an address of another kind.
    """
    section = getattr(file, "alerts", None)
    # What is left out is UNSET, which is of no such type.
    given = {name: getattr(section, name, None) for name in THRESHOLDS}
    said: dict[str, Any] = {name: value for name, value in given.items() if isinstance(value, int | float)}
    origins = {
        f"alerts.{key}": f"{place}: alerts.{key}" if name in said else "default" for name, key in THRESHOLDS.items()
    }
    text, origins["alerts.webhook"] = getattr(section, "webhook", None), f"{place}: alerts.webhook"
    if (found := variable(environment, "MIRROR_ALERTS_WEBHOOK")) is not None:
        text, origins["alerts.webhook"] = found[1], f"environment {found[0]}"
    if not isinstance(text, str) or not text.strip():
        return AlertSettings(None, **said), {**origins, "alerts.webhook": "default"}
    return AlertSettings(web_address(text.strip(), "alerts.webhook"), **said), origins
