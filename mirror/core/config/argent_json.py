"""argent.json, the configuration of ArgentOS: found and read as ArgentOS does, and never written.

Which file, first that applies: ``ARGENT_CONFIG_PATH``; ``CLAWDBOT_CONFIG_PATH``; else the first that exists in the
folder that ``ARGENT_STATE_DIR`` (or ``CLAWDBOT_STATE_DIR``) names, in ``~/.argentos``, and in the folders of its older
names, under each of its names (:data:`NAMES`). A variable that is blank counts as unset.

What it may contain: JSON5 (comments, trailing commas, unquoted keys); ``$include`` with one file or a list in any
object, relative to the file that has it, merged in order, then the keys beside it (objects are merged, lists are
concatenated, anything else is replaced); ``${VAR}`` in texts, names in capitals only, ``$${VAR}`` for a literal
``${VAR}``. A variable is looked up in the environment, then in the file's own ``env`` (and ``env.vars``).

Only ``storage`` is used, and ``env`` for its variables. Nothing else in the file is checked or needed: includes in
other sections are not read and variables there are not looked up, because the mirror often runs in another environment
than the program. An include that may contain one of the two and cannot be read is an error, as for ArgentOS.
"""

from __future__ import annotations

import json
import os.path
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from mirror.core.config.looked_at import is_there, look_at
from mirror.core.errors import ConfigError

#: Names of the file, and folders in the home directory: today's first, then the older ones.
NAMES = ("argent.json", "clawdbot.json", "moltbot.json", "moldbot.json")
FOLDERS = (".argentos", ".clawdbot", ".moltbot", ".moldbot")
#: Variables that name the file, and the folder; the first one that is set counts.
PATH_VARIABLES = ("ARGENT_CONFIG_PATH", "CLAWDBOT_CONFIG_PATH")
FOLDER_VARIABLES = ("ARGENT_STATE_DIR", "CLAWDBOT_STATE_DIR")
#: One of these set to 1, true, yes or on: ArgentOS itself uses ``env``. Without, recent versions ignore it.
ENV_VARIABLES = ("ARGENT_ALLOW_CONFIG_ENV_VARS", "ARGENT_LEGACY_CONFIG_ENV_IMPORT")
#: How deep includes may be nested.
MOST_INCLUDES = 10

_READ = "read the configuration"
_SECTIONS = ("storage", "env")
_REFERENCE = re.compile(r"\$(\$?)\{([A-Z_][A-Z0-9_]*)\}")


class Argent(msgspec.Struct, frozen=True):
    """What was read."""

    storage: dict[str, Any] = msgspec.field(default_factory=dict)
    """The section ``storage``, variables put in; what is null counts as not there."""
    missing: dict[str, str] = msgspec.field(default_factory=dict)
    """Texts that name a variable that is not set, by their path (``storage.…``). They are not in ``storage``."""
    borrowed: dict[str, str] = msgspec.field(default_factory=dict)
    """Texts with a variable that only the file's own ``env`` has, which ArgentOS ignores: path to variable."""
    exported: dict[str, str] = msgspec.field(default_factory=dict)
    """What the file's ``env`` adds to the environment of ArgentOS."""


def variable(environment: Mapping[str, str], *names: str) -> tuple[str, str] | None:
    """The first of some variables that is set and not blank: its name and value."""
    for name in names:
        if value := environment.get(name, "").strip():
            return name, value
    return None


def state_folder(environment: Mapping[str, str]) -> Path:
    """The folder where ArgentOS keeps its files: the named one, or the first of :data:`FOLDERS` that exists."""
    if named := variable(environment, *FOLDER_VARIABLES):
        return _user_path(named[1], environment)
    folders = [home(environment) / name for name in FOLDERS]
    return next((folder for folder in folders if is_there(folder)), folders[0])


def config_path(environment: Mapping[str, str]) -> Path:
    """The file that ArgentOS reads; where it would be, if there is none."""
    if named := variable(environment, *PATH_VARIABLES):
        return _user_path(named[1], environment)
    folders = [home(environment) / name for name in FOLDERS]
    if named := variable(environment, *FOLDER_VARIABLES):
        folders.insert(0, _user_path(named[1], environment))
    candidates = [folder / name for folder in folders for name in NAMES]
    # A link that leads nowhere is there: to go on without it would drop in silence what it says.
    return next((path for path in candidates if is_there(path)), state_folder(environment) / NAMES[0])


def home(environment: Mapping[str, str]) -> Path:
    """The user's home directory."""
    return Path(environment.get("HOME") or Path.home())


def read_json5(path: Path, *, unique: bool = False) -> Any:
    """The value in a file of JSON or JSON5. ``unique``: an object with one key twice is an error.

    Raises ``ConfigError`` for a file that cannot be read, and for what is not a regular file: a pipe could keep the
    reader waiting for ever.
    """
    look_at(path)
    pairs: Callable[[Iterable[tuple[str, Any]]], dict[str, Any]] = _unique if unique else dict
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            detail = "it is a directory" if path.is_dir() else "not a regular file"
            raise ConfigError(_READ, str(path), detail, next_step="put a regular file there, or remove it")
        text = path.read_text("utf-8-sig", errors="strict" if unique else "replace")
        try:
            return json.loads(text, object_pairs_hook=pairs)
        except json.JSONDecodeError:
            import json5  # loads in 20 ms and reads 140 kB/s: only for a file that is not plain JSON

            return json5.loads(text, object_pairs_hook=pairs)
    except FileNotFoundError as error:
        if path.is_symlink():
            detail, step = "a symbolic link to a file that does not exist", "correct the link, or remove it"
            raise ConfigError(_READ, str(path), detail, next_step=step) from error
        raise ConfigError(_READ, str(path), "no such file", next_step="check the path") from error
    except RecursionError as error:
        raise ConfigError(_READ, str(path), "nested too deeply", next_step="correct the file") from error
    except (OSError, ValueError) as error:  # ValueError: neither JSON nor JSON5, or not UTF-8
        raise ConfigError(_READ, str(path), _sentence(error), next_step="correct the file") from error


def read_argent(path: Path, environment: Mapping[str, str]) -> Argent:
    """Read an argent.json that is there; raises ``ConfigError``."""
    values = _included(read_json5(path), path, (path,), _SECTIONS)
    if not isinstance(values, dict):
        raise ConfigError(_READ, str(path), "not a JSON object", next_step="correct the file")
    exported = {
        name: value
        for name, value in _own_variables(values.get("env"))
        if not environment.get(name, "").strip()
    }  # fmt: skip
    allowed = any(environment.get(name, "").strip().lower() in ("1", "true", "yes", "on") for name in ENV_VARIABLES)
    missing: dict[str, str] = {}
    borrowed: dict[str, str] = {}

    def put_in(value: Any, place: str) -> Any:
        """The value with its variables put in; None if one is not set."""
        if isinstance(value, dict):
            made = {key: put_in(item, f"{place}.{key}") for key, item in value.items()}
            return {key: item for key, item in made.items() if item is not None}
        if isinstance(value, list):
            return [put_in(item, f"{place}[{index}]") for index, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        for escaped, name in _REFERENCE.findall(value):
            if escaped:
                continue
            if name in exported:
                if not allowed:
                    borrowed[place] = name
            elif not environment.get(name):
                missing[place] = name
                return None
        known = {**environment, **exported}
        return _REFERENCE.sub(lambda found: f"${{{found[2]}}}" if found[1] else known[found[2]], value)

    storage = put_in(values.get("storage"), "storage")
    return Argent({} if storage is None else storage, missing, borrowed, exported if allowed else {})


def _own_variables(section: Any) -> Iterator[tuple[str, str]]:
    """What ``env`` says, by variable; a later one counts."""
    if not isinstance(section, dict):
        return
    variables = section.get("vars")
    for name, value in variables.items() if isinstance(variables, dict) else ():
        if isinstance(value, str) and value:
            yield name, value
    for name, value in section.items():
        if isinstance(value, str) and value.strip():
            yield name, value


def _included(value: Any, path: Path, chain: tuple[Path, ...], only: tuple[str, ...] | None = None) -> Any:
    """A value of a file with its includes put in.

    ``chain``: the files that led here, this one last. ``only``: the keys that are needed of an object, None for all.
    """
    if isinstance(value, list):
        return [_included(item, path, chain) for item in value]
    if not isinstance(value, dict):
        return value
    needed = [key for key in value if key != "$include" and (only is None or key in only)]
    beside = {key: _included(value[key], path, chain) for key in needed}
    if "$include" not in value:
        return beside
    named = value["$include"]
    if isinstance(named, str):
        merged = _file(named, path, chain, only)
    elif isinstance(named, list) and all(isinstance(item, str) for item in named):
        merged = {}
        for item in named:
            merged = _merged(merged, _file(item, path, chain, only))
    else:
        detail = "$include is neither a path nor a list of paths"
        raise ConfigError(_READ, str(path), detail, next_step="correct the file")
    if len(value) == 1:
        return merged
    if not isinstance(merged, dict):
        detail = f"$include of {named!r}: it is not an object, and there are keys beside it"
        raise ConfigError(_READ, str(path), detail, next_step="correct the file")
    return _merged(merged, beside)


def _file(named: str, path: Path, chain: tuple[Path, ...], only: tuple[str, ...] | None) -> Any:
    """A file that another includes. ``~`` in its name is not expanded, as in ArgentOS."""
    included = Path(os.path.normpath(path.parent / named))
    if included in chain:
        circle = " includes ".join(str(file) for file in (*chain, included))
        raise ConfigError(_READ, str(path), f"$include in a circle: {circle}", next_step="remove one of them")
    if len(chain) > MOST_INCLUDES:
        detail = f"$include of {named!r}: more than {MOST_INCLUDES} files deep"
        raise ConfigError(_READ, str(path), detail, next_step="include fewer files in each other")
    try:
        value = read_json5(included)
    except ConfigError as error:
        detail = f"{error.detail} (it is included by {path})"
        raise ConfigError(_READ, error.place, detail, next_step=error.next_step) from error
    return _included(value, included, (*chain, included), only)


def _user_path(name: str, environment: Mapping[str, str]) -> Path:
    """A path that a variable names, absolute; links are not followed."""
    if name == "~" or name.startswith("~/"):
        return Path(os.path.normpath(home(environment) / name[2:]))
    return Path(os.path.abspath(name))


def _merged(first: Any, second: Any) -> Any:
    if isinstance(first, list) and isinstance(second, list):
        return [*first, *second]
    if isinstance(first, dict) and isinstance(second, dict):
        made = dict(first)
        for key, value in second.items():
            made[key] = _merged(first[key], value) if key in first else value
        return made
    return second


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {key!r} is twice in one object")
        made[key] = value
    return made


def _sentence(error: Exception) -> str:
    """The text of an error of the system or of a parser. JSON5's begins with a placeholder for the file's name."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error).replace("<string>:", "line ", 1)
