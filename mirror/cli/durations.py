"""Spans of time as options give them: ``90s``, ``30m``, ``12h``, ``7d``."""

from __future__ import annotations

import re
from datetime import timedelta

import click

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FORM = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
#: Postgres' intervals and timestamps hold it.
LONGEST = timedelta(days=36500)


def duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> timedelta | None:
    """The value of an option, as its callback; above zero. Raises ``click.BadParameter`` for what is no such span."""
    if value is None:
        return None
    found = _FORM.fullmatch(value)
    span = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta()
    if not timedelta() < span <= LONGEST:
        raise click.BadParameter(f"{value!r} is no span of time: write 90s, 30m, 12h or 7d")
    return span
