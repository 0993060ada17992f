"""What is kept of answers that differ: bounded in size, without embeddings, without what looks like a secret. Pure."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from mirror.storage.operations.base import Operation
from mirror.storage.tables import Embedding

#: Characters of a text, members of a list and of an object, levels, and characters of all of it as JSON.
MOST_TEXT, MOST_MEMBERS, MOST_FIELDS, MOST_LEVELS, MOST_JSON = 200, 20, 40, 6, 3500
#: Hexadecimal digits of the digest of arguments, and characters of both together.
DIGEST_DIGITS, MOST_ARGUMENTS = 32, 200
_BEFORE = 40
_LEFT_OUT = "(left out: a secret)"

_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)|secret|token$|api.?key|credential|private.?key|authorization|cookie",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"enc:v\d+:\S+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*-----|$)"
    r"|\b(sk|pk|rk|ghp|gho|ghs|github_pat|glpat|xox[abprs]|AKIA|AIza)[-_A-Za-z0-9]{12,}"
    r"|\beyJ[-_A-Za-z0-9]{10,}\.[-_A-Za-z0-9]+\.[-_A-Za-z0-9]+"
    r"|\bBearer\s+\S+"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
    r"|(pass(word|wd|phrase)?|secret|token|api.?key)[\"']?\s*[:=]\s*\S+",
    re.IGNORECASE | re.DOTALL,
)


def without_secrets(text: str) -> str:
    """A text without what looks like a key, a token or a password."""
    return _SECRET_TEXT.sub(_LEFT_OUT, text)


def clean(value: Any, level: int = 0) -> Any:
    """A value as JSON values: bounded, without embeddings and secrets."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        text = without_secrets(value)
        return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}… ({len(value)} characters)"
    if isinstance(value, Embedding):
        return f"({len(value)} numbers, {_digest(value.to_bytes())[:12]})"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"({len(value)} bytes)"
    if level >= MOST_LEVELS:
        return "…"
    if is_dataclass(value) and not isinstance(value, type):
        value = {one.name: getattr(value, one.name) for one in fields(value)}
    if isinstance(value, Mapping):
        made = {
            without_secrets(str(name))[:MOST_TEXT]: _LEFT_OUT
            if _SECRET_NAME.search(str(name))
            else clean(member, level + 1)
            for name, member in list(value.items())[:MOST_FIELDS]
        }
        return made if len(value) <= MOST_FIELDS else made | {"…": f"{len(value)} in all"}
    if isinstance(value, list | tuple | set | frozenset):
        members = list(value)
        if len(members) > MOST_MEMBERS and all(isinstance(one, int | float) for one in members):
            return f"({len(members)} numbers)"
        shown = [clean(member, level + 1) for member in members[:MOST_MEMBERS]]
        return shown if len(members) <= MOST_MEMBERS else [*shown, f"… {len(members)} in all"]
    return clean(str(value), level)


def texts_apart(one: str, other: str) -> tuple[str, str]:
    """Two texts that differ: from a little before the first character that does, without secrets."""
    one, other = without_secrets(one), without_secrets(other)
    at = next((at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), None)
    begin = max(0, (min(len(one), len(other)) if at is None else at) - _BEFORE)
    mark = "…" if begin else ""
    return mark + one[begin:], mark + other[begin:]


def as_text(value: Any, most: int = MOST_JSON) -> str:
    """JSON values as text that Postgres can hold, of so many characters at most."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= most else text[: most - 1] + "…"


def arguments_of(operation: Operation[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The arguments of a call: a digest (of SHA-256) by which equal ones are known, a space, and a short text."""
    try:
        named = dict(inspect.signature(operation.make).bind(None, *args, **kwargs).arguments)
        named.pop(next(iter(named)))
    except TypeError:  # they do not fit, which is what both stores say, too
        named = {"args": args, **kwargs}
    exact = json.dumps(_exact(named), sort_keys=True)
    return f"{_digest(exact.encode())[:DIGEST_DIGITS]} {as_text(clean(named), MOST_ARGUMENTS - DIGEST_DIGITS - 1)}"


def _exact(value: Any) -> Any:
    if isinstance(value, Embedding):
        return _digest(value.to_bytes())
    if isinstance(value, Mapping):
        return {str(name): _exact(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(member) for member in value]
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
