"""The tools of ``mirror mcp``: which command each of them is, what it takes, and what its answer looks like.

A tool is a command of this package with ``--json``: its arguments become words of a command line, and the document that
the command prints is the answer. So there is one implementation of each, with one meaning.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

import msgspec
from msgspec import Meta

from mirror.core.config.settings import Settings, load_settings
from mirror.core.errors import ConfigError, UnknownSourceError
from mirror.parity.report import Status, code_of

#: What the client is told of all tools together.
INSTRUCTIONS = (
    "Read-only tools on mirrors that keep Postgres equal to live SQLite files. Begin with `status`: its next_steps, and"
    " those of the other answers, are commands for a person's shell. No tool changes or repairs anything, and no answer"
    " holds the contents of rows or a password."
)


class Given(NamedTuple):
    """The options of ``mirror mcp`` as they were given: each call reads the settings anew, with these."""

    sources: tuple[str, ...]
    postgres: str | None
    state_dir: str | None
    schema: str | None
    config: str | None

    def settings(self) -> Settings:
        """The settings of now. Raises ``ConfigError``."""
        return load_settings(*self)

    @property
    def words(self) -> list[str]:
        """The options, without the sources, for the command line of another command."""
        named = {"postgres": self.postgres, "state-dir": self.state_dir, "schema": self.schema, "config": self.config}
        return [f"--{name}={value}" for name, value in named.items() if value is not None]


class Sources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which sources."""

    sources: Annotated[
        tuple[str, ...], Meta(description="SQLite files, by the paths that `status` shows; leave it out for all.")
    ] = ()

    @property
    def words(self) -> list[str]:
        """All but the sources, as options of the command."""
        return []


class Tables(Sources, frozen=True):
    """Which sources, and which of their tables."""

    tables: Annotated[tuple[str, ...], Meta(description="Only these tables; leave it out for all.")] = ()

    @property
    def words(self) -> list[str]:
        """All but the sources, as options of the command."""
        return [f"--table={table}" for table in self.tables]


class Compared(Tables, frozen=True):
    """What is compared."""

    sample: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,
        Meta(description="Compare only about so many rows of each table: quick, but no proof."),
    ] = None

    @property
    def words(self) -> list[str]:
        """All but the sources, as options of the command."""
        sample = [] if self.sample is None else [f"--sample={self.sample}"]
        return [*super().words, *sample]


class Tool(NamedTuple):
    """One tool."""

    title: str
    description: str
    command: tuple[str, ...]
    arguments: type[Sources]
    answer: Mapping[str, Any]
    """The JSON schema of what the command prints, as far as a reader may rely on it."""
    asks_postgres: bool = True

    @property
    def takes(self) -> dict[str, Any]:
        """The JSON schema of its arguments."""
        _, components = msgspec.json.schema_components([self.arguments])
        return dict(components[self.arguments.__name__])


def _document(**properties: Any) -> dict[str, Any]:
    return _object(version={"type": "integer"}, **properties)


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _status_schema() -> dict[str, Any]:
    """That of the package, with an object at its root instead of a reference: older clients take nothing else."""
    found = json.loads(files("mirror.core").joinpath("status.schema.json").read_text())
    return {**found["$defs"][found["$ref"].rpartition("/")[2]], "$defs": found["$defs"]}


_TEXT, _NUMBER, _YES = {"type": "string"}, {"type": "number"}, {"type": "boolean"}
_VERDICT = {"enum": [code_of(verdict) for verdict in get_args(Status)]}
_REJECT = _object(source=_TEXT, table=_TEXT, reason=_TEXT, first_seen=_TEXT)

#: By name.
TOOLS: Mapping[str, Tool] = {
    "status": Tool(
        "Status of the mirrors",
        "What the mirror of each source does, what is wrong with it, its last comparison, and what to do next. Answers"
        " also while no mirror runs: it then shows what was saved last.",
        ("status",),
        Sources,
        _status_schema(),
        asks_postgres=False,
    ),
    "cutover_plan": Tool(
        "Cutover plan",
        "Whether programs may read from Postgres instead of SQLite: a verdict and a figure for each guard rail, and a"
        " next step for each that does not hold.",
        ("cutover", "plan"),
        Sources,
        _document(
            ready=_YES,
            sources=_list(_object(source=_TEXT, ready=_YES, rails=_list({"type": "object"}), next_steps=_list(_TEXT))),
        ),
    ),
    "parity": Tool(
        "Compare SQLite with Postgres",
        "Compares every value of every row at one position, while programs go on writing, and records the outcome."
        " Repairs nothing. equal_except_rejects: equal, but for rows that Postgres cannot hold, which `rejects` lists."
        " Needs a running mirror, and may take minutes; cancelling it ends the comparison. `status`"
        " has the outcome of the last one.",
        ("parity", "--running"),
        Compared,
        _document(
            reports=_list(
                _object(source=_TEXT, verdict=_VERDICT, reason=_TEXT, rows=_NUMBER, tables=_list({"type": "object"}))
            )
        ),
    ),
    "rejects": Tool(
        "Rejected rows",
        "The rows that Postgres cannot hold, each with its table, key and reason; and, of sources that were moved to"
        " Postgres, the rows that the file does not take (way_back).",
        ("rejects", "list"),
        Tables,
        _document(rejects=_list(_REJECT), way_back=_list(_REJECT)),
    ),
}
#: What is left out of the answers, by the tool and the path to it: contents of rows.
_CONTENTS = {
    "status": (("sources", "widenings"), ("value",)),
    "parity": (("reports", "tables", "examples"), ("source_value", "target_value")),
    "rejects": (("rejects",), ("row", "statement")),
}


def command_line(name: str, arguments: Mapping[str, Any], given: Given) -> list[str]:
    """The words of the command that answers a call. Reads the configuration, and what the state directory knows.

    Raises ``ConfigError`` for arguments that the tool does not take, ``UnknownSourceError`` where there is no Postgres
    yet that could be asked.
    """
    tool = TOOLS[name]
    try:
        asked = msgspec.convert(arguments, tool.arguments)
    except msgspec.ValidationError as error:
        step = "give what the tool's input schema says"
        raise ConfigError(f"call the tool {name}", detail=str(error), next_step=step) from error
    sources: Sequence[str | Path] = given.sources
    if asked.sources:
        sources = chosen(asked.sources, given.settings().known())
    if tool.asks_postgres:
        _require_postgres(given.settings())
    return [*tool.command, *given.words, *asked.words, "--json", "--", *map(str, sources)]


def chosen(named: Iterable[str], known: Sequence[Path]) -> list[Path]:
    """The sources that are named. Only those that are known: not every file that somebody can name.

    Raises ``ConfigError``.
    """
    paths = {printed(source): source for source in known}
    for name in named:
        if name not in paths:
            step = "name one that the tool `status` shows, or none for all"
            raise ConfigError("find the sources", name, "no source of this mirror", next_step=step)
    return [paths[name] for name in dict.fromkeys(named)]


def printed(path: Path) -> str:
    """A path as JSON has it: bytes that are not text come as ``\\xff``."""
    return str(path).encode(errors="surrogateescape").decode(errors="backslashreplace")


def _require_postgres(settings: Settings) -> None:
    """Raise ``UnknownSourceError`` where a command would make the embedded server first."""
    if settings.dsn is None and not (settings.state_dir / "postgres").exists():
        raise UnknownSourceError(
            "look at Postgres",
            str(settings.state_dir),
            "nothing was mirrored yet: no Postgres is named, and the embedded one was never started",
            next_step="start `mirror up`",
        )


def without_contents(name: str, document: Any) -> Any:
    """The document of a tool without the contents of rows: what an assistant reads may be kept by others."""
    if name in _CONTENTS:
        path, left_out = _CONTENTS[name]
        _strip(document, path, left_out)
    return document


def _strip(value: Any, path: Sequence[str], left_out: Sequence[str]) -> None:
    if isinstance(value, list):
        for each in value:
            _strip(each, path, left_out)
    elif path:
        _strip(value.get(path[0], []), path[1:], left_out)
    else:
        for field in left_out:
            value.pop(field, None)
