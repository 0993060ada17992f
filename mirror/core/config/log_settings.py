"""The section ``log`` of mirror.json."""

from __future__ import annotations

from typing import Any

import msgspec


class LogSettings(msgspec.Struct, frozen=True):
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
    said = {
        name: text for name in LogSettings.__struct_fields__ if isinstance(text := getattr(section, name, None), str)
    }
    origins = {
        f"log.{name}": f"{place}: log.{name}" if name in said else "default" for name in LogSettings.__struct_fields__
    }
    return LogSettings(**said), origins
