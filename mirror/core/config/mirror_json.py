"""What configuration files may contain: the keys of mirror.json, their types, and the errors for wrong ones.

The classes are the only description: values are checked against them, and ``mirror config schema`` prints them as a
JSON schema. All errors of a file are reported at once, each with its path, what was found, and what was expected; for
an unknown key, the key that was probably meant. Loading this module loads msgspec, so it is imported only where a
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
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, inspect

from mirror.core.config.argent_json import read_json5
from mirror.core.errors import ConfigError

Text = Annotated[str, Meta(min_length=1)]
Database = Literal["sqlite", "postgres"]


class _Section(Struct, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """An object; keys that are left out are UNSET."""


class SourceEntry(_Section):
    """A SQLite file, and its own settings."""

    path: Annotated[str, Meta(min_length=1, description="The file, relative to mirror.json.")]
    agent: Annotated[Text, Meta(description="The agent that its rows belong to.")] | UnsetType = UNSET
    schema: Annotated[Text, Meta(description="The Postgres schema of its tables; public.")] | UnsetType = UNSET
    profile: (
        Annotated[
            Literal["auto", "generic", "memustore"],
            Meta(description="How its tables are stored: auto (the default) recognises a MemuStore and its dashboard."),
        ]
        | UnsetType
    ) = UNSET


class PostgresSection(_Section):
    """The Postgres that is mirrored into."""

    connection_string: (
        Annotated[
            Text, Meta(description="A URI or keywords, as psql takes them. Better without a password: ~/.pgpass.")
        ]
        | UnsetType
    ) = UNSET


class StoragePostgres(_Section):
    """Where the program itself reaches Postgres."""

    connection_string: str | UnsetType = UNSET


class StorageRedis(_Section):
    """Where the program reaches Redis."""

    host: Annotated[Text, Meta(description="127.0.0.1 if only the port is given.")] | UnsetType = UNSET
    port: Annotated[int, Meta(ge=1, le=65535, description="6380 if it is left out.")] | UnsetType = UNSET


class ArgentStorage(_Section):
    """The keys that ArgentOS has in ``storage``: with any other it drops its whole configuration."""

    backend: (
        Annotated[Literal["sqlite", "dual", "postgres"], Meta(description="Where the program's data is; sqlite.")]
        | UnsetType
    ) = UNSET
    read_from: Annotated[Database, Meta(description="Follows from backend.")] | UnsetType = UNSET
    write_to: Annotated[list[Database], Meta(description="Follows from backend.")] | UnsetType = UNSET
    postgres: StoragePostgres | UnsetType = UNSET
    redis: StorageRedis | UnsetType = UNSET


class OurPostgres(StoragePostgres):
    """Where the program itself reaches Postgres."""

    max_connections: (
        Annotated[int, Meta(ge=1, le=10_000, description="Of one process, at the same time; 10.")] | UnsetType
    ) = UNSET


class OurRedis(StorageRedis):
    """Where the program reaches Redis."""

    db: Annotated[int, Meta(ge=0, le=65535, description="Number of the database; 0.")] | UnsetType = UNSET


class ReadsSection(_Section):
    """How reads of the storage adapters keep up with writes. A change takes effect within a second."""

    max_wait_ms: (
        Annotated[
            int, Meta(ge=0, le=60_000, description="For the newest commit to reach Postgres; then SQLite answers; 20.")
        ]
        | UnsetType
    ) = UNSET
    never_wait: (
        Annotated[bool, Meta(description="For emergencies: SQLite answers at once where Postgres is behind; false.")]
        | UnsetType
    ) = UNSET
    always_sqlite: (
        Annotated[bool, Meta(description="For emergencies: SQLite answers, whatever readFrom says; false.")] | UnsetType
    ) = UNSET
    shadow_percent: (
        Annotated[float, Meta(ge=0, le=100, description="Of the reads, run on both stores to compare the answers; 0.")]
        | UnsetType
    ) = UNSET


class StorageSection(ArgentStorage):
    """Values that replace argent.json's, for a program that uses storage adapters; and keys that only we have."""

    postgres: OurPostgres | UnsetType = UNSET
    redis: OurRedis | UnsetType = UNSET
    reads: ReadsSection | UnsetType = UNSET


class CutoverSection(_Section):
    """What a move to Postgres needs to be told."""

    sequences: (
        Annotated[
            dict[str, list[Text]],
            Meta(
                description="By the name of a sequence in Postgres that no column has: the columns (table.column) "
                "above whose values it is set."
            ),
        ]
        | UnsetType
    ) = UNSET


class WebhookSection(_Section):
    """Who is told by HTTP. The secret with which that is signed is in ``MIRROR_WEBHOOK_SECRET``, and in no file."""

    url: Annotated[str, Meta(min_length=1, description="http or https: each transaction is posted there, in order.")]
    tables: Annotated[list[Text], Meta(description="Only what happens to these tables.")] | UnsetType = UNSET


class ChangesSection(_Section):
    """What is told of each transaction that was applied: in Redis, if storage.redis is there, on the port of http,
    and to a webhook.
    """

    keep: (
        Annotated[int, Meta(ge=100, le=10_000_000, description="Transactions that the stream in Redis keeps; 10000.")]
        | UnsetType
    ) = UNSET
    log: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=10_000_000,
                description="Transactions of a source that Postgres keeps, for readers that were away; 0, none.",
            ),
        ]
        | UnsetType
    ) = UNSET
    webhook: WebhookSection | UnsetType = UNSET


class OlderSection(_Section):
    """``storage.mirror`` in argent.json: where our settings were before mirror.json."""

    sources: list[Text | SourceEntry] | UnsetType = UNSET
    state_dir: Text | UnsetType = UNSET
    sidecar: Literal["outlives", "follows", "none"] | UnsetType = UNSET


class MirrorFile(_Section):
    """mirror.json. Paths are relative to the folder of the file; ~ is the home directory."""

    sources: (
        Annotated[list[Text | SourceEntry], Meta(description="The SQLite files: paths, or objects with more settings.")]
        | UnsetType
    ) = UNSET
    state_dir: (
        Annotated[Text, Meta(description="Where the mirror keeps its own files; the folder mirror beside this file.")]
        | UnsetType
    ) = UNSET
    postgres: PostgresSection | UnsetType = UNSET
    sidecar: (
        Annotated[
            Literal["outlives", "follows", "none"],
            Meta(
                description="A sidecar that a program starts outlives it (the default), follows it to its end, "
                "or is none: nothing is started."
            ),
        ]
        | UnsetType
    ) = UNSET
    columns: (
        Annotated[
            dict[
                str,
                Literal["text", "bytea", "jsonb", "timestamptz", "bigint", "double precision", "boolean", "omit"],
            ],
            Meta(
                description="By table.column, how a column is held: text (what Postgres has no letter for beside it), "
                "bytea (the bytes of its text), jsonb (documents), timestamptz (ISO 8601 or Unix times), bigint, "
                "double precision or boolean; or omit (not mirrored). Not columns of a primary key."
            ),
        ]
        | UnsetType
    ) = UNSET
    tables: (
        Annotated[
            dict[str, Literal["rows"]],
            Meta(
                description="By the name of a virtual table of FTS5 or vec0: rows, to mirror the data that it holds, "
                "which are left out otherwise."
            ),
        ]
        | UnsetType
    ) = UNSET
    cutover: CutoverSection | UnsetType = UNSET
    http: (
        Annotated[
            Text,
            Meta(
                description="Where `mirror up` serves its status page, metrics and health: a port of this machine "
                "alone, or HOST:PORT. There is no login. Nothing is served without it."
            ),
        ]
        | UnsetType
    ) = UNSET
    changes: (
        Annotated[ChangesSection, Meta(description="Switches the change feed on, also if it is empty.")] | UnsetType
    ) = UNSET
    storage: StorageSection | UnsetType = UNSET
    dialect: Annotated[str, Meta(description="For editors: the schema of this file.")] | UnsetType = msgspec.field(
        name="$schema", default=UNSET
    )


#: A variable, as argent.json has them.
_STATE_DIR = re.compile(r'"stateDir"\s*:\s*("(?:[^"\\\n]|\\.)*")')
_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
#: Keys that people write by mistake, and the right ones.
_MEANT = {"file": "path", "database": "path", "db": "path", "dsn": "connectionString", "url": "connectionString"}

_Shape = TypeVar("_Shape", bound=_Section)


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


def problems(values: Any, shape: type[_Section], section: str = "") -> list[Problem]:
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
        return isinstance(value, str) and len(value) >= (kind.min_length or 0)
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
