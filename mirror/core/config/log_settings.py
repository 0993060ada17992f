"""The section ``log`` of mirror.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How `mirror up` logs."""

    format: str = "text"
    """text, or json: one object a line."""
    level: str = "info"
    """debug, info, warning or error: the least that is logged."""


def log_settings(file: Any, place: str) -> tuple[LogSettings, dict[str, str]]:
    """What a file says of the log, and where each setting comes from.

    ``file``: None: there is none. ``place``: its path.
    """
    section = getattr(file, "log", None)
    said = {name: text for name in asdict(LogSettings()) if isinstance(text := getattr(section, name, None), str)}
    origins = {f"log.{name}": f"{place}: log.{name}" if name in said else "default" for name in asdict(LogSettings())}
    return LogSettings(**said), origins
