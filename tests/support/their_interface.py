"""The original's storage methods (their_interface.txt), and the table of what they are called here.

``python -m tests.support.their_interface`` writes the table, mirror/storage/THEIRS.md.
"""

from __future__ import annotations

import importlib
import inspect
import re
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mirror.storage

_FACTS = Path(__file__).with_name("their_interface.txt")
TABLE = Path(mirror.storage.__file__).with_name("THEIRS.md")

#: The classes of each part of the adapter: the synchronous and the asynchronous one.
CLASSES = {
    "adapter": ("adapters", "StorageAdapter", "AsyncStorageAdapter"),
    "memory": ("memory", "Memory", "AsyncMemory"),
    "tasks": ("dashboard", "Tasks", "AsyncTasks"),
    "teams": ("dashboard", "Teams", "AsyncTeams"),
    "jobs": ("jobs", "Jobs", "AsyncJobs"),
}


@dataclass(frozen=True)
class Theirs:
    """One of their methods."""

    name: str
    ours: str
    arguments: tuple[str, ...]
    section: str


def snake(name: str) -> str:
    """``createItem`` as ``create_item``."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def methods() -> list[Theirs]:
    """All of their methods."""
    found, section = [], ""
    for line in _FACTS.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            names, _, arguments = line.partition(":")
            name, _, ours = names.partition(" -> ")
            part, _, method = name.partition(".")
            found.append(Theirs(name, ours or f"{part}.{snake(method)}", tuple(arguments.split()), section))
    return found


def classes(part: str) -> list[type[Any]]:
    """Our classes of a part of the adapter."""
    module, *names = CLASSES[part]
    loaded = importlib.import_module(f"mirror.storage.{module}")
    return [getattr(loaded, name) for name in names]


def missing(method: Theirs) -> list[str]:
    """What is missing of one of their methods: on which class, and which argument."""
    part, _, name = method.ours.partition(".")
    found = []
    for kind in classes(part):
        ours = inspect.getattr_static(kind, name, None)
        if ours is None:
            if name not in typing.get_type_hints(kind):
                found.append(f"{kind.__name__}.{name}")
        elif method.arguments:
            parameters = list(inspect.signature(getattr(kind, name)).parameters)
            found += [f"{kind.__name__}.{name}({each})" for each in method.arguments if not _has(parameters, each)]
    return found


def _has(parameters: list[str], argument: str) -> bool:
    theirs, _, ours = argument.partition("=")
    if theirs.endswith("-"):
        return True
    if theirs.endswith("*") and "fields" in parameters:
        return True
    if theirs == "id":
        return "id" in parameters or any(name.endswith("_id") for name in parameters[1:2])
    if theirs == "ids":
        return any(name.endswith("ids") for name in parameters)
    return (ours or snake(theirs.rstrip("*"))) in parameters


def table() -> str:
    """The table of their names and ours, in Markdown."""
    lines = [
        "# The original's storage methods, and ours",
        "",
        "Written by `python -m tests.support.their_interface`, checked by tests/unit/test_their_interface.py.",
        "Arguments have the original's names in snake_case. *module*: a method outside of the original's interface.",
        "",
        "| theirs | ours | |",
        "|---|---|---|",
    ]
    for each in methods():
        note = "module" if each.section == "module" else ""
        lines.append(f"| `{each.name}` | `{each.ours}` | {note} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write_text(table())
