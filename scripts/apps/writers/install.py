"""Installs what a writer needs: PyPI and npm packages into a folder of its own, outside the checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.apps.writers.entry import PROGRAMS, Writer

_SECONDS = 900


class NotInstalledError(Exception):
    """A writer cannot be installed here; the text says why."""


def cache() -> Path:
    """Where installations are kept: ``MIRROR_WRITERS``, or a folder of the user's cache."""
    if given := os.environ.get("MIRROR_WRITERS"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mirror-writers"


def install(writer: Writer, debian: bool = False) -> Path:
    """Install what a writer needs, unless it is there; return its folder.

    ``debian``: install Debian packages too, system-wide. Raises :class:`NotInstalledError`.
    """
    if (lacking := writer.missing()) and debian:
        _run(["apt-get", "install", "-y", "--no-install-recommends", *lacking], {"DEBIAN_FRONTEND": "noninteractive"})
        lacking = writer.missing()
    if lacking:
        raise NotInstalledError(f"this machine has no {', '.join(lacking)}")
    wanted = hashlib.sha256(repr((writer.pip, writer.npm, sys.version_info[:2])).encode()).hexdigest()[:10]
    folder = cache() / f"{writer.name}-{wanted}"
    done = folder / "installed"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if writer.pip:
            _run([base_python(), "-m", "pip", "install", "--quiet", "--target", str(folder / "python"), *writer.pip])
        if writer.npm:
            _run(["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", *writer.npm])
        done.touch()
    return folder


def command(writer: Writer, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return how an installed writer is started, and with which environment.

    The program is run from its folder, because that is where JavaScript looks for packages.
    """
    program = folder / writer.program.name
    shutil.copyfile(writer.program, program)
    for helper in PROGRAMS.glob("_*"):
        if helper.is_file():
            shutil.copyfile(helper, folder / helper.name)
    values = {"python": base_python(), "program": str(program), "folder": str(folder)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment |= {"PYTHONPATH": str(folder / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {name: value.format_map(values) for name, value in writer.environment.items()}
    return [part.format_map(values) for part in writer.run], environment


def base_python() -> str:
    """Return the interpreter without this environment's packages."""
    return str(getattr(sys, "_base_executable", sys.executable))


def _run(arguments: list[str], more: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=_SECONDS, check=False, env=os.environ | (more or {})
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(str(error)) from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise NotInstalledError(lines[-1] if lines else f"{arguments[0]} ended with {done.returncode}")
