"""Writing the phase into the configuration: ``storage.backend``, ``readFrom``, ``writeTo``.

They are written to the file that has them, mirror.json before argent.json; where neither does, to mirror.json.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mirror.core.config.json_edit import rewrite, with_values
from mirror.core.config.settings import Settings
from mirror.core.errors import ConfigError

#: By phase: what the configuration says.
FLAGS: Mapping[int, Mapping[str, Any]] = {
    1: {"backend": "dual", "readFrom": "sqlite", "writeTo": ["sqlite", "postgres"]},
    2: {"backend": "dual", "readFrom": "postgres", "writeTo": ["sqlite", "postgres"]},
    3: {"backend": "postgres", "readFrom": "postgres", "writeTo": ["postgres"]},
}


def configured(phases: Iterable[int]) -> int:
    """The phase that a configuration is to say for sources in these phases.

    Postgres alone only once all are there: before, programs go by the seal of each (:mod:`mirror.core.published`).
    Reads from Postgres as soon as one source is so far: what it answers is proved fresh for each.
    """
    found = set(phases)
    return 3 if found == {3} else 1 if found == {1} else 2


def file_of(settings: Settings) -> Path | None:
    """The file to write to; None: there is no configuration, so programs do not go by one."""
    for key in ("backend", "readFrom", "writeTo"):
        origin = settings.origins.get(f"storage.{key}", "")
        for file in settings.files:
            if origin.startswith(f"{file.path}:"):
                return file.path
    return next((file.path for file in settings.files if file.name == "mirror.json" and file.exists), None)


def disagreement(settings: Settings, phase: int) -> str:
    """What the configuration says otherwise than the phase; empty if it agrees, or there is none."""
    if not any(file.exists for file in settings.files):
        return ""
    storage, wanted = settings.storage, FLAGS[phase]
    found = {"backend": storage.backend, "readFrom": storage.read_from}
    # A program that has never heard of the mirror's phases, in the first one, is right.
    if phase == 1 and storage.backend == "sqlite":
        return ""
    wrong = [f"storage.{key} is {value}, not {wanted[key]}" for key, value in found.items() if value != wanted[key]]
    if not wrong:
        return ""
    return f"{', '.join(wrong)}: set that in {file_of(settings) or settings.files[0].path}"


def require_writable(settings: Settings, phase: int) -> None:
    """Raise ``ConfigError`` if the configuration cannot be made to say a phase."""
    path = file_of(settings)
    if path is None:
        return
    try:
        path = path.resolve(strict=True)
        with_values(path.read_text(encoding="utf-8"), _values(phase))
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(f"no file can be made in {path.parent}, so it cannot be replaced")
    except (OSError, ValueError) as error:
        raise ConfigError("write the phase", str(path), str(error), next_step="correct that, and try again") from error


def write(settings: Settings, phase: int) -> str:
    """Make the configuration say a phase; returns what was done. Raises ``ConfigError``."""
    path = file_of(settings)
    if path is None:
        return "there is no configuration to change"
    try:
        rewrite(path, lambda text: with_values(text, _values(phase)))
    except (OSError, ValueError) as error:
        raise ConfigError(
            "write the phase", str(path), str(error), next_step=f"set yourself: {_said(phase)}"
        ) from error
    return str(path.resolve())


def _values(phase: int) -> dict[tuple[str, ...], Any]:
    return {("storage", key): value for key, value in FLAGS[phase].items()}


def _said(phase: int) -> str:
    return ", ".join(f"storage.{key} to {json.dumps(value)}" for key, value in FLAGS[phase].items())
