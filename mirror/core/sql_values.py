"""Reading values through SQL with each text as its bytes, because texts may not be valid.

SQLite returns 2,000 results a row at most, so the classes of the values are not results of their own: after the values
come texts with one letter for each of up to :data:`_TOLD_TOGETHER` of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mirror.core.values import BadText

#: Not more than SQLite takes levels of an expression.
_TOLD_TOGETHER = 100


def with_classes(names: Sequence[str]) -> str:
    """What to select, of columns that are quoted, so that :func:`decoded` makes the values of it."""
    values = [f"CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END" for name in names]
    texts = [f"CASE typeof({name}) WHEN 'text' THEN 't' ELSE '-' END" for name in names]
    groups = [texts[at : at + _TOLD_TOGETHER] for at in range(0, len(texts), _TOLD_TOGETHER)]
    return ", ".join([*values, *(" || ".join(group) for group in groups)])


def width(names: int) -> int:
    """How many results :func:`with_classes` gives for so many columns."""
    return names + -(-names // _TOLD_TOGETHER)


def decoded(raw: Sequence[Any], encoding: str) -> tuple[Any, ...]:
    """The values of a row; a text that is not valid in the encoding is :class:`~mirror.core.values.BadText`."""
    groups = -(-len(raw) // (_TOLD_TOGETHER + 1))
    values = list(raw[: len(raw) - groups])
    letters = "".join(raw[len(values) :])
    at = letters.find("t")
    while at >= 0:
        try:
            # Python's strict codec; SQLite's own conversion from UTF-16 repairs broken text.
            values[at] = values[at].decode(encoding)
        except UnicodeDecodeError:
            values[at] = BadText(values[at])
        at = letters.find("t", at + 1)
    return tuple(values)
