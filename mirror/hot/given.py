"""Checks of what callers give: numbers and times that the server, and threads, can deal with."""

from __future__ import annotations

import math
import sys
from typing import Any

from mirror.core.errors import ConfigError

#: Seconds of the longest time that can be given: about ten years. Beyond, clocks and the server's numbers overflow.
LONGEST = 10 * 366 * 86_400.0
#: Whole numbers up to here are exact in scripts of the server.
MOST = 2**53


def shown(value: object) -> str:
    """A value for an error: short, also where Python would not write it (an integer of over 4,300 digits)."""
    try:
        return f"{value!r:.80}"
    except ValueError:
        return "a number with very many digits"


def is_number(value: object) -> bool:
    """Whether it is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max


def seconds(doing: str, place: str, name: str, value: Any, least: float, most: float = LONGEST) -> float:
    """A time in seconds. Raises ``ConfigError`` for what is no number from ``least`` to ``most``."""
    if not is_number(value) or not least <= value <= most:
        step = f"use {least:g} to {most:g} seconds"
        raise ConfigError(doing, place, f"{name} is {shown(value)}", next_step=step)
    return float(value)


def patience(doing: str, place: str, value: Any) -> float:
    """For how many seconds to wait; infinity: for ever. Raises ``ConfigError`` for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ConfigError(doing, place, f"wait is {shown(value)}", next_step="use a number of seconds")
    return float(value) if is_number(value) else math.copysign(math.inf, 1 if value > 0 else -1)


def whole(doing: str, place: str, name: str, value: Any, most: int = MOST) -> int:
    """A whole number. Raises ``ConfigError`` for what is none from 1 to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ConfigError(doing, place, f"{name} is {shown(value)}", next_step=f"use 1 to {most}")
    return value
