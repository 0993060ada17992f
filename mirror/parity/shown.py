"""The values of a report: as JSON, exactly, and in words.

A key is an array of such values; of a row whose key holds NULL, ``{"rowid": 5}``, the row's number in SQLite. No value
of a database is a JSON object, so that an object always stands for a value that JSON has no form of its own for:

=================================  =====================================================================================
``null``, ``"text"``, ``3``,       themselves: integers of at most 2^53 - 1 (what a reader that knows doubles only can
``0.1``                            hold), and reals that are no whole number
``{"integer": "9007199254740993"}``  a larger integer
``{"real": "1.0"}``                a real that is a whole number (``1.0`` is not ``1``), ``-0.0``, ``Infinity``,
                                   ``-Infinity``, ``NaN``
``{"blob": base64}``               bytes
``{"utf8": base64}``               text with NUL
``{"text": base64}``               text that is not valid in the database's encoding: its bytes
``{"postgres": "[1, 2]"}``         what Postgres has and no value of SQLite's is stored as: its text
``{"part": "…", "from": 90,``      a part of a long text, from a little before where the two differ; ``from`` and
``"length": 5000}``                ``length`` count its characters; the other objects have both as well where they are
                                   cut (bytes of a blob)
=================================  =====================================================================================
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from typing import Any

from mirror.core.values import BadText
from mirror.parity.values import Cell, Foreign

#: Longest piece of a value, in characters, or bytes of a blob.
SHOWN = 120

#: The largest integer that every reader of JSON holds exactly.
_EXACT = 2**53 - 1


def value_of(cell: Cell) -> Any:
    """A value as JSON, cut where it is long."""
    return _value(cell, 0)


def key_of_cells(key: Sequence[Cell]) -> list[Any]:
    """A key as JSON."""
    return [value_of(cell) for cell in key]


def key_of_text(text: str) -> Any:
    """A key as JSON, of its text in ``mirror.rejects`` (:func:`mirror.parity.values.key_text`)."""
    found = json.loads(text)
    return [value_of(_cell(value)) for value in found] if isinstance(found, list) else found


def values_apart(mine: Cell, theirs: Cell) -> tuple[Any, Any]:
    """Two different values as JSON: of long ones, the parts from a little before where they differ."""
    one, other = _sliced(mine), _sliced(theirs)
    if one is None or other is None or type(one) is not type(other):
        return value_of(mine), value_of(theirs)
    at = _first_difference(one, other)
    start = 0 if at < SHOWN // 2 else at - SHOWN // 4
    return _value(mine, start), _value(theirs, start)


def said(value: Any) -> str:
    """A value or a key, given as JSON, in words: ``[3]``, ``"text"``, ``1.0``, ``x'00ff'``."""
    if isinstance(value, list):
        return f"[{', '.join(map(said, value))}]"
    if not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    [(tag, content), *rest] = value.items()
    if tag == "rowid":
        return f"rowid {content}"
    if tag in ("blob", "text"):
        content = f"x'{base64.b64decode(content).hex()}'" + (" as text" if tag == "text" else "")
    elif tag in ("utf8", "part"):
        content = json.dumps(base64.b64decode(content).decode() if tag == "utf8" else content, ensure_ascii=False)
    elif tag == "postgres":
        content = f"{content} (no value of SQLite)"
    if not rest:
        return str(content)
    start, length = value["from"], value["length"]
    unit = "characters" if tag in ("utf8", "part", "postgres") else "bytes"
    return f"{'…' * (start > 0)}{content}{'…' * (start + SHOWN < length)} ({length:,} {unit})"


def _sliced(cell: Cell) -> str | bytes | None:
    """What can be cut of a value."""
    if isinstance(cell, BadText):
        return cell.raw
    if isinstance(cell, Foreign):
        return cell.text
    return cell if isinstance(cell, str | bytes) else None


def _value(cell: Cell, start: int) -> Any:
    whole = _sliced(cell)
    if whole is None:
        assert cell is None or isinstance(cell, int | float)
        return _number(cell)
    part = whole[start : start + SHOWN]
    cut: dict[str, Any] = {} if len(part) == len(whole) else {"from": start, "length": len(whole)}
    if isinstance(part, bytes):
        return {"text" if isinstance(cell, BadText) else "blob": _base64(part)} | cut
    if isinstance(cell, Foreign):
        return {"postgres": part} | cut
    if "\0" in part:  # jsonb has no string with NUL
        return {"utf8": _base64(part.encode())} | cut
    return {"part": part} | cut if cut else part


def _number(cell: float | None) -> Any:
    if isinstance(cell, float):
        if math.isnan(cell) or math.isinf(cell):
            return {"real": "NaN" if math.isnan(cell) else "Infinity" if cell > 0 else "-Infinity"}
        return {"real": repr(cell)} if cell.is_integer() else cell
    return cell if cell is None or abs(cell) <= _EXACT else {"integer": str(cell)}


def _cell(value: Any) -> Cell:
    """The value of a key's text."""
    if not isinstance(value, dict):
        return value  # type: ignore[no-any-return]
    [(tag, content)] = value.items()
    if tag == "real":
        return float(content)
    raw = base64.b64decode(content)
    return BadText(raw) if tag == "text" else raw


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _first_difference(one: str | bytes, other: str | bytes) -> int:
    """Where two texts or two blobs begin to differ; the length of the shorter one if that is where."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # equal up to low, and perhaps up to high
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
