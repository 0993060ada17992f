"""Settings from flags, environment and argent.json, in this order of precedence.

Postgres: ``--postgres`` > ``ARGENT_PG_URL`` > ``PG_URL`` > ``storage.postgres.connectionString``; none of them:
the embedded server. Sources: arguments > ``storage.mirror.sources``. State directory: ``--state-dir`` >
``storage.mirror.stateDir`` > ``mirror`` beside argent.json. argent.json: ``--config`` > ``ARGENT_STATE_DIR``
> ``~/.argentos``. A source's agent: ``--agent`` > ``agent`` in its entry of ``storage.mirror.sources``. Its schema:
``--schema`` > ``schema`` in its entry > what is remembered of it > ``public``.
``storage.mirror.sidecar``: one of :data:`SIDECARS`.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirror.errors import ConfigError
from mirror.statedir import known_sources, resolve

#: A sidecar that a program starts goes on behind the program's end, or ends with it; or it starts none.
SIDECARS = ("outlives", "follows", "none")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a command works with."""

    sources: tuple[Path, ...]
    """Absolute paths; empty when none is named anywhere."""
    dsn: str | None
    """None: the embedded server in the state directory."""
    state_dir: Path
    schema: str | None
    """As it was named for this command; None: each source's own."""
    agents: Mapping[Path, str] = field(default_factory=dict)
    """The agents that argent.json names for sources."""
    schemas: Mapping[Path, str] = field(default_factory=dict)
    """The Postgres schemas that argent.json names for sources."""
    options: str = ""
    """What was said of where the mirror is: a command needs it besides the source's name to mean the same one."""
    config: Path | None = None
    """The argent.json that was named, if one was."""
    sidecar: str = SIDECARS[0]
    """What becomes of a sidecar that a program has started when the program ends: one of :data:`SIDECARS`."""

    def known(self) -> tuple[Path, ...]:
        """The sources named, or else those that the state directory knows.

        Raises ``ConfigError`` if there is none, or if one is named that neither is there nor ever was.
        """
        known = tuple(known_sources(self.state_dir))
        for source in self.sources:
            if source not in known:
                require_file(source, "find the sources")
        found = self.sources or known
        if not found:
            raise ConfigError(
                "find the sources",
                str(self.state_dir),
                "none is named and the state directory knows none",
                next_step="name a SQLite file, or start `mirror up FILE`",
            )
        return found


def require_file(source: Path, operation: str) -> None:
    """Raise ``ConfigError`` if there is no file of this name."""
    if not source.is_file():
        detail = "it is a directory" if source.is_dir() else "no such file"
        raise ConfigError(operation, str(source), detail, next_step="check the path")


def load_settings(
    sources: Sequence[str],
    postgres: str | None,
    state_dir: str | None,
    schema: str | None,
    config: str | None,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """Gather the settings of one command; raises ``ConfigError``."""
    home = Path(environment.get("ARGENT_STATE_DIR") or "~/.argentos").expanduser()
    path = Path(config).expanduser() if config else home / "argent.json"
    values = _read(path, required=config is not None)
    mirror = _section(values, path, "storage", "mirror")
    listed = mirror.get("sources", [])
    if not isinstance(listed, list):
        raise ConfigError("read the configuration", str(path), "storage.mirror.sources is not a list")
    entries = [(resolve(_source_path(entry, path)), entry) for entry in listed]
    named = [resolve(source) for source in sources] or [source for source, _ in entries]
    if len(set(named)) < len(named):
        raise ConfigError("find the sources", detail="a source is named twice", next_step="name each once")
    dsn = (
        postgres
        or environment.get("ARGENT_PG_URL")
        or environment.get("PG_URL")
        or _text(_section(values, path, "storage", "postgres"), path, "connectionString")
    )
    folder = state_dir or _text(mirror, path, "stateDir") or path.parent / "mirror"
    agents = {source: agent for source, entry in entries if (agent := _said(entry, path, "agent"))}
    schemas = {source: found for source, entry in entries if (found := _said(entry, path, "schema"))}
    sidecar = _text(mirror, path, "sidecar") or SIDECARS[0]
    if sidecar not in SIDECARS:
        detail = f"storage.mirror.sidecar is {sidecar!r}, not one of {', '.join(SIDECARS)}"
        raise ConfigError("read the configuration", str(path), detail, next_step="mend the file")
    named_config = path if config else None
    state = Path(folder).expanduser().resolve()
    said = {"--state-dir": state_dir and str(state), "--config": config and str(path)}
    said["--schema"] = schema if schema != "public" else None
    options = "".join(f" {name} {shlex.quote(value)}" for name, value in said.items() if value)
    return Settings(tuple(named), dsn, state, schema, agents, schemas, options, named_config, sidecar)


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError as error:
        if not required:
            return {}
        raise ConfigError("read the configuration", str(path), "no such file", next_step="check --config") from error
    except (OSError, ValueError) as error:
        raise ConfigError("read the configuration", str(path), str(error), next_step="mend the file") from error
    if not isinstance(values, dict):
        raise ConfigError("read the configuration", str(path), "not a JSON object", next_step="mend the file")
    return values


def _section(values: dict[str, Any], path: Path, *names: str) -> dict[str, Any]:
    found: Any = values
    for depth, name in enumerate(names, 1):
        found = found.get(name, {})
        if not isinstance(found, dict):
            raise ConfigError("read the configuration", str(path), f"{'.'.join(names[:depth])} is not an object")
    return dict(found)


def _text(values: dict[str, Any], path: Path, name: str) -> str | None:
    found = values.get(name)
    if found is not None and not isinstance(found, str):
        raise ConfigError("read the configuration", str(path), f"{name} is not a text")
    return found


def _source_path(entry: Any, path: Path) -> str:
    if isinstance(entry, str):
        return entry
    if isinstance(entry, dict) and isinstance(entry.get("path"), str):
        return str(entry["path"])
    raise ConfigError("read the configuration", str(path), f"storage.mirror.sources has {entry!r} without a path")


def _said(entry: Any, path: Path, name: str) -> str | None:
    return _text(entry, path, name) if isinstance(entry, dict) else None
