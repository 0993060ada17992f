"""What works in a configuration but should be changed: shown by ``mirror doctor`` and ``mirror config show``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

from mirror.core.config import argent_json as argent
from mirror.core.config.lookup import Found, absolute
from mirror.core.dsn import has_password, hide_password

if TYPE_CHECKING:
    from mirror.core.config.sections import OlderSection
    from mirror.core.config.settings import Settings


class Note(msgspec.Struct, frozen=True):
    """Something in the configuration that works and should be changed."""

    path: str
    """Of the key, or the name of the file."""
    detail: str
    next_step: str
    content: str = ""
    """JSON that the next step says to write."""


def configuration_checks(settings: Settings) -> Iterator[tuple[Literal["ok", "note", "problem"], str, str, str]]:
    """What ``mirror doctor`` says of the configuration: level, name, detail and next step of each check."""
    if found := [str(file.path) for file in settings.files if file.exists]:
        yield "ok", "configuration", f"read {' and '.join(found)}", ""
    if settings.remembered is not None:
        place = f"{hide_password(settings.remembered.dsn)}, {settings.origins['postgres.connectionString']}"
        yield "ok", "which Postgres", place, ""
    for note in settings.notes:
        content = f": {json.dumps(json.loads(note.content), ensure_ascii=False)}" if note.content else ""
        yield "note", note.path, note.detail, note.next_step + content


def notes(found: Found, environment: Mapping[str, str]) -> Iterator[Note]:
    """What should be changed in the files that were found."""
    if found.older is not None:
        yield _must_move(found, found.older, environment)
    elif found.named == found.argent_path:
        detail = f"{found.named} is named as the mirror's configuration, but belongs to ArgentOS"
        yield Note("--config", detail, f"name {found.mirror_path}, or leave it out")
    if _shows_password(found):
        detail = f"{found.mirror_path} contains a password, and other users of this machine can read it"
        yield Note("mirror.json", detail, f"chmod 600 {shlex.quote(str(found.mirror_path))}")
    for problem in found.unknown:
        from mirror.core.config.mirror_json import is_ours  # loaded already: there is a file

        detail = f"{found.argent_path} has this key, and ArgentOS does not know it: it drops its whole configuration"
        step = f"write it in {found.mirror_path} instead" if is_ours(problem.path) else f"remove it ({problem.guess})"
        yield Note(problem.path, detail, step)
    for path, name in found.argent.borrowed.items():
        detail = f"{name} is set only in env of {found.argent_path}, which ArgentOS ignores: for it, {name} is not set"
        yield Note(path, detail, f"set {name} in the environment, or there {argent.ENV_VARIABLES[0]}=1")
    for path, name in found.argent.missing.items():
        detail = f"the variable {name} is not set, so this value of {found.argent_path} is not used"
        yield Note(path, detail, f"set {name}: without it ArgentOS drops its whole configuration")


def _shows_password(found: Found) -> bool:
    try:
        if not found.ours or not found.mirror_path.stat().st_mode & 0o077:
            return False
    except OSError:  # gone since it was read
        return False
    sections = (found.ours.postgres, found.ours.storage and found.ours.storage.postgres)
    return any(
        section and section.connection_string and has_password(section.connection_string) for section in sections
    )


def _must_move(found: Found, older: OlderSection, environment: Mapping[str, str]) -> Note:
    """Why ``storage.mirror`` must go, and what to write instead. Its paths are relative to the working directory."""
    from msgspec import to_builtins

    def whole(name: str) -> str:
        return name if name.startswith("~") else str(absolute(name, environment))

    said = to_builtins(older)
    if "stateDir" in said:
        said["stateDir"] = whole(said["stateDir"])
    if "sources" in said:
        entries = (whole(entry) if isinstance(entry, str) else entry for entry in said["sources"])
        said["sources"] = [
            entry if isinstance(entry, str) else entry | {"path": whole(entry["path"])} for entry in entries
        ]
    left = {key: value for key, value in said.items() if found.ours is None or key not in to_builtins(found.ours)}
    detail = (
        f"{found.argent_path} has this key, and ArgentOS does not know it: it drops its whole configuration, "
        "its gateway does not start, and `argent doctor --fix` deletes the key"
    )
    if not left:
        return Note("storage.mirror", detail, f"remove it: {found.mirror_path} says all of it")
    there = found.ours is not None
    step = f"{'add this to' if there else 'write this to'} {found.mirror_path}, then remove storage.mirror"
    return Note("storage.mirror", detail, step, json.dumps(left, indent=2, ensure_ascii=False))
