"""JSON texts: whether jsonb gives one back, and the compact form, as ``JSON.stringify`` writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

#: A number of which jsonb keeps the digits as they are.
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,99})(?:\.\d{1,99})?")


class Number(str):
    """A JSON number as it is written."""

    __slots__ = ()


def is_canonical_json(text: str) -> bool:
    """Whether jsonb gives this text back, once it is made compact. False also where that is not certain."""
    try:
        found = json.loads(text, parse_int=_plain, parse_float=_plain, object_pairs_hook=_members)
        return compact(found) == text
    except (ValueError, RecursionError):  # jsonb may write it differently
        return False


def _plain(number: str) -> Number:
    if not _PLAIN_NUMBER.fullmatch(number) or (number[0] == "-" and not number.strip("-0.")):
        raise ValueError(number)
    return Number(number)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's members as jsonb orders them: by length, then by bytes."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("two members of one name")
    return {name: members[name] for name in sorted(members, key=lambda name: (len(name.encode()), name.encode()))}


def compact(value: Any) -> str:
    """JSON as ``JSON.stringify`` writes it; numbers are :class:`Number`, and written as they were."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_quoted(name)}:{compact(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(compact, value)) + "]"
    return _quoted(value)


_quoted: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False).encode
