"""Changing single values in the text of a JSON or JSON5 file: comments, order, quotes and spaces stay as they are.

JSON5 (https://spec.json5.org) is JSON with comments, trailing commas, names without quotes, and texts in single quotes.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import json5

from mirror.core.files import write_atomically

_SPACE = re.compile(r"(?:\s|﻿|//[^\n\r\u2028\u2029]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", re.DOTALL)
_WORD = re.compile(r"[^\s,:{}\[\]\"'/]+")


def rewrite(path: Path, change: Callable[[str], str]) -> bool:
    """Replace the text of a file by what ``change`` makes of it; returns whether it differs. Its rights stay.

    One at a time, also of several processes: each changes what the one before has left (the lock "Configuration" of
    :mod:`mirror.core.locks`). Raises ``OSError``, ``ValueError``, and what ``change`` raises; nothing is changed then.
    """
    path = path.resolve(strict=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        before = path.read_text(encoding="utf-8")
        if (after := change(before)) == before:
            return False
        mode = path.stat().st_mode
        write_atomically(path, after.encode(), durable=True)
        path.chmod(mode & 0o777)
        return True
    finally:
        os.close(folder)


@dataclass(slots=True)
class _Member:
    name: str
    start: int
    end: int
    """Of its value."""


def with_values(text: str, values: Mapping[tuple[str, ...], Any]) -> str:
    """The text with other values: by path, a value of JSON. A path that is not there is added at the end of its object.

    A value that is there already stays as it is written; comments inside of one that changes go with it.

    Raises ``ValueError`` if the text is not an object, or a path leads through what is none.
    """
    for path, value in values.items():
        text = _with_value(text, path, value)
    return text


def _with_value(text: str, path: tuple[str, ...], value: Any) -> str:
    at = _space(text, 0)
    for depth, name in enumerate(path):
        if text[at : at + 1] != "{":
            raise ValueError(f"{'.'.join(path[:depth]) or 'the file'} is no object")
        members, end = _members(text, at)
        found = next((member for member in reversed(members) if member.name == name), None)
        if found is None:
            for inner in reversed(path[depth + 1 :]):
                value = {inner: value}
            return _with_member(text, at, end, members, name, value)
        if depth == len(path) - 1:
            there = json5.loads(text[found.start : found.end])
            if there == value and type(there) is type(value):
                return text
            return text[: found.start] + _written(value, _indent(text, found.start)) + text[found.end :]
        at = found.start
    return text


def _with_member(text: str, start: int, end: int, members: list[_Member], name: str, value: Any) -> str:
    """The text with a member more in the object from ``start`` to ``end`` (its closing brace)."""
    outer = _indent(text, start)
    if members:
        last = members[-1].end
        first = text.rfind("\n", start, members[0].start)
        own = _indent(text, members[0].start) if first >= 0 else ""
        comma = _space(text, last)
        has_comma = text[comma] == ","
        after = comma + 1 if has_comma else last
        apart = f"\n{own}" if first >= 0 else " "
        member = f"{json.dumps(name, ensure_ascii=False)}: {_written(value, own)}"
        # A comment behind the last value stays there.
        tail = re.compile(r"[ \t]*(?://[^\n\r]*)?").match(text, after)
        assert tail is not None
        place = tail.end() if first >= 0 else after
        comma_text = "" if has_comma else ","
        return (
            text[:after] + comma_text + text[after:place] + apart + member + ("," if has_comma else "") + text[place:]
        )
    own = outer + "  "
    member = f"{json.dumps(name, ensure_ascii=False)}: {_written(value, own)}"
    return f"{text[: start + 1]}\n{own}{member}\n{outer}{text[end:]}"


def _written(value: Any, indent: str) -> str:
    short = isinstance(value, list) and not any(isinstance(each, dict | list) for each in value)
    lines = json.dumps(value, ensure_ascii=False, indent=None if short else 2).split("\n")
    return f"\n{indent}".join(lines)


def _indent(text: str, at: int) -> str:
    """The spaces at the beginning of a line."""
    begin = text.rfind("\n", 0, at) + 1
    match = re.compile(r"[ \t]*").match(text, begin)
    assert match is not None
    return match.group()


def _space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _members(text: str, start: int) -> tuple[list[_Member], int]:
    """The members of the object that begins at a brace, and where its other brace is."""
    members: list[_Member] = []
    at = _space(text, start + 1)
    while text[at : at + 1] != "}":
        end = _value(text, at)
        token = text[at:end]
        name = str(json5.loads(token)) if token[:1] in "\"'" else token
        at = _space(text, end)
        _expect(text, at, ":")
        at = _space(text, at + 1)
        end = _value(text, at)
        members.append(_Member(name, at, end))
        at = _space(text, end)
        if text[at : at + 1] == ",":
            at = _space(text, at + 1)
        else:
            _expect(text, at, "}")
    return members, at


def _value(text: str, at: int) -> int:
    """Where the value that begins here ends."""
    first = text[at : at + 1]
    if first == "{":
        return _members(text, at)[1] + 1
    if first == "[":
        at = _space(text, at + 1)
        while text[at : at + 1] != "]":
            at = _space(text, _value(text, at))
            if text[at : at + 1] == ",":
                at = _space(text, at + 1)
            else:
                _expect(text, at, "]")
        return at + 1
    match = (_STRING if first in ("'", '"') and first else _WORD).match(text, at)
    if match is None:
        raise ValueError(f"no JSON at character {at}")
    return match.end()


def _expect(text: str, at: int, what: str) -> None:
    if text[at : at + 1] != what:
        raise ValueError(f"no {what} at character {at}")
