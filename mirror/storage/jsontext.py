"""JSON in the form in which the original program writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def to_json(value: Any) -> str:
    """JSON as ``JSON.stringify`` writes it: no spaces, no escapes that are not needed, 1 for 1.0.

    Raises ``ValueError`` for what JSON cannot carry.
    """
    return _encode(_plain(value))


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def as_read(value: Any) -> Any:
    """A value that JSON can carry, as it is read again: lists for tuples, dictionaries for other mappings."""
    if isinstance(value, Mapping):
        return {name: as_read(item) for name, item in value.items()}
    return [as_read(item) for item in value] if isinstance(value, list | tuple) else value
