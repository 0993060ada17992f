"""Spans of time as options give them: ``90s``, ``30m``, ``12h``, ``7d``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import click

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FORM = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
#: Postgres' intervals and timestamps hold it.
LONGEST = timedelta(days=36500)


class Duration(click.ParamType[timedelta]):
    """A number and a unit; the value is a ``timedelta`` above zero."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Fails for what is no such span."""
        if isinstance(value, timedelta):
            return value
        found = _FORM.fullmatch(str(value))
        span = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta()
        if not timedelta() < span <= LONGEST:
            self.fail(f"{value!r} is no span of time: write 90s, 30m, 12h or 7d", param, ctx)
        return span
