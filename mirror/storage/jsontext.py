"""JSON in the form in which the original program writes it."""

from __future__ import annotations

import json
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
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
