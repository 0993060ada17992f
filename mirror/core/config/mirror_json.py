"""Reads mirror.json, and says what is wrong in it.

Values are checked against the classes of :mod:`~mirror.core.config.sections`, and ``mirror config schema`` prints those
as a JSON schema. All errors of a file are reported at once, each with its path, what was found, and what was expected;
for an unknown key, the key that was probably meant. Loading this module loads msgspec, so it is imported only where a
file is there.
"""

from __future__ import annotations

import difflib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from mirror.core.config.argent_json import read_json5
from mirror.core.config.sections import HOST, MirrorFile, Section
from mirror.core.errors import ConfigError

_STATE_DIR = re.compile(r'"stateDir"\s*:\s*("(?:[^"\\\n]|\\.)*")')
#: A variable, as argent.json has them.
_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
#: Keys that people write by mistake, and the right ones.
_MEANT = {"file": "path", "database": "path", "db": "path", "dsn": "connectionString", "url": "connectionString"}
_HOST_AND_PORT = "give host and port, and the password in MIRROR_REDIS_PASSWORD"
#: The same beside ``host`` and ``port``.
_MEANT_BESIDE_HOST = {
    **dict.fromkeys(("url", "uri", "dsn", "connectionstring", "address"), _HOST_AND_PORT),
    **dict.fromkeys(("password", "pass", "passwd", "auth"), "set MIRROR_REDIS_PASSWORD"),
    **dict.fromkeys(("username", "user"), "set MIRROR_REDIS_USERNAME"),
    "database": "did you mean db?",
}

_Shape = TypeVar("_Shape", bound=Section)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error in a configuration file."""

    path: str
    """Of the value, as in ``sources[1].agent``; empty: the whole file."""
    text: str
    unknown: bool = False
    """Whether it is a key that is not known, rather than a value of a wrong type."""
    guess: str = ""
    """Of an unknown key: what was probably meant."""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.path, self.text, self.guess) if part)


def read_mirror_file(path: Path, *values: Any) -> MirrorFile:
    """Read a mirror.json, or take the value in it, if it has been read; raises ``ConfigError``."""
    (value,) = values or (read_json5(path, unique=True),)
    made = checked(value, MirrorFile, path)
    if found := [f"{place}: it has {name}" for place, name in _references(value)]:
        raise ConfigError(
            "read the configuration",
            str(path),
            "; ".join(found) + ": variables are not put into mirror.json, unlike argent.json",
            next_step="write the value itself, or set ARGENT_PG_URL, MIRROR_STATE_DIR, or an argument instead",
        )
    return made


def usable_part(path: Path, *values: Any) -> MirrorFile:
    """The keys of a mirror.json that can be used, each by itself, where the file as a whole cannot."""
    try:
        (value,) = values or (read_json5(path, unique=True),)
    except ConfigError:
        value = _legible(path)
    whole = value if isinstance(value, dict) else {}
    parts = {key: item for key, item in whole.items() if not any(_references(item))}
    return msgspec.convert(
        {key: item for key, item in parts.items() if not problems({key: item}, MirrorFile)}, MirrorFile
    )


def _legible(path: Path) -> dict[str, str]:
    """The state directory that a file names which is no JSON as a whole: without it, nothing is found."""
    try:
        found = _STATE_DIR.search(path.read_text("utf-8-sig", errors="replace")) if path.is_file() else None
        return {} if found is None else {"stateDir": json.loads(found.group(1))}
    except (OSError, ValueError):
        return {}


def _references(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """The texts that were written as if variables were put in: the path of each, and the variable."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _references(item, _below(place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _references(item, f"{place}[{index}]")
    elif isinstance(value, str) and (found := _REFERENCE.search(value)):
        yield place, found.group()


#: Several threads of a program may be the first to read the configuration; msgspec then builds what it knows of a class
#: in each of them, which ended the process.
_one_at_a_time = threading.Lock()


def checked(values: Any, shape: type[_Shape], path: Path, section: str = "") -> _Shape:
    """A section of a file as a value; raises ``ConfigError`` with all errors in it."""
    with _one_at_a_time:
        found, made = problems(values, shape, section), None
        if not found:
            made = msgspec.convert(values, shape)
    if made is None:
        raise ConfigError(
            "read the configuration",
            str(path),
            "; ".join(map(str, found)),
            next_step="correct the file" + (", as `mirror config schema` describes it" if shape is MirrorFile else ""),
        )
    return made


def problems(values: Any, shape: type[Section], section: str = "") -> list[Problem]:
    """All errors in a section, in the order of the file."""
    kind = inspect.type_info(shape)
    return list(_problems(values, kind, section, [*_paths(kind, section)]))


def without(values: Any, unknown: list[Problem], section: str) -> Any:
    """A copy of a section's objects without the keys that are not known."""
    if not isinstance(values, dict):
        return values
    paths = {problem.path for problem in unknown}
    return {
        key: without(item, unknown, _below(section, key))
        for key, item in values.items()
        if _below(section, key) not in paths
    }


def is_ours(path: str) -> bool:
    """Whether mirror.json has a key of this path, as in ``storage.redis.db``."""
    return path in _paths(inspect.type_info(MirrorFile), "")


def json_schema() -> dict[str, Any]:
    """The JSON schema of mirror.json."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(MirrorFile)}


def _problems(value: Any, kind: inspect.Type, path: str, paths: list[str]) -> Iterator[Problem]:
    """``paths``: of all keys, for a guess at what was meant."""
    kind = _bare(kind)
    if isinstance(kind, inspect.UnionType) and isinstance(value, dict):
        objects = (inspect.StructType, inspect.DictType)
        kind = next((_bare(part) for part in kind.types if isinstance(_bare(part), objects)), kind)
    if isinstance(kind, inspect.StructType) and isinstance(value, dict):
        fields = {field.encode_name: field for field in kind.fields}
        for key, item in value.items():
            below = _below(path, key)
            if key in fields:
                yield from _problems(item, fields[key].type, below, paths)
            else:
                yield Problem(below, "unknown key", unknown=True, guess=_guess(key, [*fields], paths))
        for name, field in fields.items():
            if field.required and name not in value:
                yield Problem(_below(path, name), "missing")
    elif isinstance(kind, inspect.DictType) and isinstance(value, dict):
        for key, item in value.items():
            yield from _problems(item, kind.value_type, _below(path, key), paths)
    elif isinstance(kind, inspect.ListType) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _problems(item, kind.item_type, f"{path}[{index}]", paths)
    elif isinstance(kind, inspect.StrType) and kind.pattern == HOST and value and isinstance(value, str):
        if not _fits(value, kind):
            what = "is a URL" if "://" in value else "has characters that no name of a host has"
            yield Problem(path, f"host {what}: {_HOST_AND_PORT}")
    elif not _fits(value, kind):
        yield Problem(path, f"expected {_expected(kind)}, found {_found(value, kind)}")


def _below(path: str, key: str) -> str:
    """The path of a key in an object; a key that is no plain word is quoted."""
    name = key if re.fullmatch(r"[\w$-]+", key) else json.dumps(key, ensure_ascii=False)
    return f"{path}.{name}" if path else name


def _bare(kind: inspect.Type) -> inspect.Type:
    """Without the description."""
    return _bare(kind.type) if isinstance(kind, inspect.Metadata) else kind


def _fits(value: Any, kind: inspect.Type) -> bool:
    kind = _bare(kind)
    if isinstance(kind, inspect.UnionType):
        return any(_fits(value, part) for part in kind.types)
    if isinstance(kind, inspect.LiteralType):
        return isinstance(value, str) and value in kind.values
    if isinstance(kind, inspect.StrType):
        fits = isinstance(value, str) and len(value) >= (kind.min_length or 0)
        return fits and (kind.pattern is None or re.search(kind.pattern, value) is not None)
    if isinstance(kind, inspect.BoolType):
        return isinstance(value, bool)
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        numbers = int if isinstance(kind, inspect.IntType) else int | float
        within = isinstance(value, numbers) and not isinstance(value, bool)
        return within and (kind.ge is None or value >= kind.ge) and (kind.le is None or value <= kind.le)
    return False  # an object or a list, and the value is neither


def _expected(kind: inspect.Type) -> str:
    kind = _bare(kind)
    if isinstance(kind, inspect.UnionType):
        return " or ".join(_expected(part) for part in kind.types)
    if isinstance(kind, inspect.LiteralType):
        return f"one of {', '.join(map(str, kind.values))}"
    if isinstance(kind, inspect.StrType):
        return "a text"
    if isinstance(kind, inspect.IntType):
        return f"a whole number from {kind.ge} to {kind.le}"
    if isinstance(kind, inspect.FloatType):
        return f"a number from {kind.ge} to {kind.le}"
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    return "a list" if isinstance(kind, inspect.ListType) else "an object"


def _found(value: Any, kind: inspect.Type) -> str:
    """What a value is. A text is shown only where it cannot contain a password."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(kind, inspect.LiteralType):
        near = difflib.get_close_matches(value, [str(name) for name in kind.values], 1)
        return repr(value) + (f": did you mean {near[0]}?" if near else "")
    return "a text" if value else "an empty text"


def _guess(key: str, names: list[str], paths: list[str]) -> str:
    """What was probably meant: a key of this object, or else the same key elsewhere in the file."""
    if {"host", "port"} <= {*names} and (step := _MEANT_BESIDE_HOST.get(key.lower().replace("_", ""))):
        return step
    meant = _MEANT.get(key.lower())
    if meant in names:
        return f"did you mean {meant}?"
    lower = {name.lower(): name for name in names}
    if near := difflib.get_close_matches(key.lower().replace("_", ""), lower, 1):
        return f"did you mean {lower[near[0]]}?"
    ends: dict[str, str] = {}
    for path in paths:
        ends.setdefault(path.rpartition(".")[2].lower(), path)
    if meant is not None and meant.lower() in ends:
        return f"did you mean {ends[meant.lower()]}?"
    if near := difflib.get_close_matches(key.lower().replace("_", ""), ends, 1):
        return f"did you mean {ends[near[0]]}?"
    return f"the keys are {', '.join(name for name in names if not name.startswith('$'))}"


def _paths(kind: inspect.Type, path: str) -> Iterator[str]:
    """The paths of all keys that may be there."""
    kind = _bare(kind)
    if isinstance(kind, inspect.StructType):
        for field in kind.fields:
            below = _below(path, field.encode_name)
            yield below
            yield from _paths(field.type, below)
    elif isinstance(kind, inspect.ListType):
        yield from _paths(kind.item_type, f"{path}[]")
    elif isinstance(kind, inspect.UnionType):
        for part in kind.types:
            yield from _paths(part, path)
