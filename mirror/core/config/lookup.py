"""Finds and reads the configuration files. Where two set the same value, :mod:`.settings` decides.

mirror.json: ``--config`` > ``MIRROR_CONFIG`` > in the folder of ArgentOS > beside the argent.json that ArgentOS reads
(only there, if ``ARGENT_CONFIG_PATH`` names one). A file that is named must exist. If the named file is an
argent.json (by its name, or because it has ``storage.mirror``), it replaces the one that ArgentOS reads, and
mirror.json is looked for beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from mirror.core.config import argent_json as argent
from mirror.core.config.argent_json import Argent, home, read_argent, read_json5, variable
from mirror.core.config.looked_at import is_there, look_at
from mirror.core.errors import ConfigError

if TYPE_CHECKING:
    from mirror.core.config.mirror_json import Problem
    from mirror.core.config.sections import ArgentStorage, MirrorFile, OlderSection

READ = "read the configuration"
_NAME = "mirror.json"


class ConfigFile(msgspec.Struct, frozen=True):
    """A file that was looked for."""

    name: str
    """mirror.json or argent.json."""
    path: Path
    exists: bool


class Found(msgspec.Struct, frozen=True):
    """The files that were found, and their content."""

    named: Path | None
    """What ``--config`` or ``MIRROR_CONFIG`` names."""
    mirror_path: Path
    argent_path: Path
    files: tuple[ConfigFile, ...]
    ours: MirrorFile | None = None
    argent: Argent = msgspec.field(default_factory=Argent)
    theirs: ArgentStorage | None = None
    """``storage`` in argent.json."""
    older: OlderSection | None = None
    """``storage.mirror`` in argent.json."""
    unknown: tuple[Problem, ...] = ()
    """Keys in ``storage`` that ArgentOS does not have."""


def find_files(config: str | None, environment: Mapping[str, str], *, lenient: bool = False) -> Found:
    """Find and read them. ``config``: the file that ``--config`` names, None or an empty text for none.

    Raises ``ConfigError`` for a file that cannot be used; ``lenient``: only for one that is named and not there, what
    can be used of mirror.json is taken, and argent.json is not read.
    """
    named, values = _named(config, environment, lenient)
    argent_path = argent.config_path(environment)
    if named is None:
        folders = [argent_path.parent]
        if variable(environment, *argent.PATH_VARIABLES) is None:
            folders.insert(0, argent.state_folder(environment))
        places = [folder / _NAME for folder in folders]
        mirror_path = next((place for place in places if is_there(place)), places[0])
    elif _is_argent(named, *(values or (None,))):
        argent_path, mirror_path, values = named, named.parent / _NAME, ()
    else:
        mirror_path = named
    ours = ConfigFile(_NAME, mirror_path, is_there(mirror_path))
    theirs = ConfigFile(argent.NAMES[0], argent_path, is_there(argent_path))
    found = Found(named, mirror_path, argent_path, (ours, theirs))
    if ours.exists:
        # It loads msgspec, so only if there is a file.
        from mirror.core.config.mirror_json import read_mirror_file, usable_part

        read = usable_part if lenient else read_mirror_file
        found = replace(found, ours=read(mirror_path, *values))
    return _with_argent(found, environment) if theirs.exists and not lenient else found


def _named(
    config: str | None, environment: Mapping[str, str], lenient: bool
) -> tuple[Path | None, tuple[()] | tuple[Any]]:
    """The file that was named, and the value in it; none, if it is not JSON and that is no error."""
    name, origin = config, "--config"
    if not name and (found := variable(environment, "MIRROR_CONFIG")):
        origin, name = found
    if not name:
        return None, ()
    path = absolute(name, environment)
    look_at(path)
    try:
        path.stat()
    except OSError as error:
        detail = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise ConfigError(READ, str(path), detail, next_step=f"check {origin}") from error
    try:
        return path, (read_json5(path, unique=path.name not in argent.NAMES),)
    except ConfigError:
        if lenient:
            return path, ()
        raise


def _is_argent(path: Path, values: Any) -> bool:
    """Whether a file that was named is not a mirror.json, but an argent.json."""
    storage = values.get("storage") if isinstance(values, dict) else None
    return path.name in argent.NAMES or (isinstance(storage, dict) and "mirror" in storage)


def _with_argent(found: Found, environment: Mapping[str, str]) -> Found:
    """Read argent.json, too. Unknown keys are errors only in our own section."""
    read = read_argent(found.argent_path, environment)
    found = replace(found, argent=read)
    if not read.storage:
        return found
    from mirror.core.config.mirror_json import checked, problems, without
    from mirror.core.config.sections import ArgentStorage, OlderSection

    theirs, older = read.storage, None
    if isinstance(theirs, dict) and "mirror" in theirs:
        older = checked(theirs["mirror"], OlderSection, found.argent_path, "storage.mirror")
        theirs = {key: value for key, value in theirs.items() if key != "mirror"}
    unknown = [problem for problem in problems(theirs, ArgentStorage, "storage") if problem.unknown]
    section = checked(without(theirs, unknown, "storage"), ArgentStorage, found.argent_path, "storage")
    return replace(found, theirs=section, older=older, unknown=tuple(unknown))


def absolute(name: str, environment: Mapping[str, str], base: Path | None = None) -> Path:
    """A path with ``~`` expanded, relative to ``base`` (None: the working directory); links are not followed."""
    try:
        if name == "~" or name.startswith("~/"):
            return home(environment) / name[2:]
        return ((base or Path()) / Path(name).expanduser()).absolute()
    except RuntimeError as error:  # ~nobody
        raise ConfigError("find a file", name, str(error), next_step="write the whole path") from error
