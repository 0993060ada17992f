"""How records with one header are read: the rows of a table share few headers, and a header says where each value is.

So what follows from the header alone is worked out once: one call then takes all values from the body, and only those
that ``struct`` cannot give (texts, integers of 3 and 6 bytes) are made one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mirror.core.values import Value
from mirror.sqlite.format.varint import read_varint

#: By serial type below 12: how ``struct`` reads it. Nothing is stored of NULL, 0 and 1.
_FORMATS = ("0s", "b", "h", "3s", "i", "6s", "q", "d", "0s", "0s")
_FIXED = {0: None, 8: 0, 9: 1}


class Plan(NamedTuple):
    """How to read the records with one header; places are indexes of values."""

    unpack: Callable[[bytes, int], tuple[Any, ...]]
    """Takes the values from a payload; raises ``struct.error`` if it is too short."""
    body: int
    """Where the body begins in the payload."""
    texts: tuple[int, ...]
    integers: tuple[int, ...]
    """Those that come as bytes."""
    reals: tuple[int, ...]
    """Reals that are stored as integers."""
    fixed: tuple[tuple[int, Value], ...]
    """Values that are not in the body."""
    missing: tuple[Value, ...]
    """Values of the columns after the last that the record has."""

    def values(self, payload: bytes, encoding: str) -> list[Value]:
        """The values of a record; raises ``struct.error``, ``UnicodeDecodeError``."""
        unpack, body, texts, integers, reals, fixed, missing = self
        values = list(unpack(payload, body))
        for at in texts:
            values[at] = values[at].decode(encoding)
        for at in integers:
            values[at] = int.from_bytes(values[at], "big", signed=True)
        for at in reals:
            values[at] = float(values[at])
        for at, value in fixed:
            values[at] = value
        if missing:
            values += missing
        return values


def plan_of(head: bytes, defaults: Sequence[Value], reals: Sequence[int]) -> Plan | None:
    """The plan for records that begin with a header; None if it is not one that SQLite writes.

    ``defaults``: of all columns, for records that have fewer values. ``reals``: columns in which integers are reals.
    """
    kinds: list[int] = []
    _, at = read_varint(head, 0)
    while at < len(head):
        kind, at = read_varint(head, at)
        kinds.append(kind)
    if at != len(head) or len(kinds) > len(defaults) or any(kind < 0 or kind in (10, 11) for kind in kinds):
        return None
    try:
        unpack = struct.Struct(
            ">" + "".join(_FORMATS[kind] if kind < 12 else f"{(kind - 12) >> 1}s" for kind in kinds)
        ).unpack_from
    except (struct.error, OverflowError):
        return None  # longer than anything in memory
    fixed = tuple((at, _FIXED[kind]) for at, kind in enumerate(kinds) if kind in _FIXED)
    missing = tuple(defaults[len(kinds) :])
    return Plan(
        unpack,
        len(head),
        tuple(at for at, kind in enumerate(kinds) if kind >= 13 and kind & 1),
        tuple(at for at, kind in enumerate(kinds) if kind in (3, 5)),
        tuple(at for at in reals if at < len(kinds) and 1 <= kinds[at] <= 6),
        tuple((at, _real(value) if at in reals else value) for at, value in fixed),
        tuple(_real(value) if at in reals else value for at, value in enumerate(missing, len(kinds))),
    )


def _real(value: Value) -> Value:
    return float(value) if type(value) is int else value
