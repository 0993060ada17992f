"""What ``mirror doctor`` says of services: of those whose files are there, whichever manager runs them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from mirror.cli.service.job import SYSTEMS_ENVIRONMENT, is_private
from mirror.cli.service.managers import Launchd, Systemd
from mirror.cli.service.render import command_in, label, unit_name
from mirror.core.checks import Level

_JOBS = ("mirror", "redis", "postgres")


def service_checks(
    state_dir: Path, environment: Mapping[str, str] = os.environ
) -> Iterator[tuple[Level, str, str, str]]:
    """Level, name, detail and next step of each check; none where no service is installed."""
    for system in (False, True):
        units, lists = Systemd.folder(environment, system=system), Launchd.folder(environment, system=system)
        for job in _JOBS:
            for path in (units / unit_name(job), lists / f"{label(job)}.plist"):
                try:
                    command = command_in(path)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except (OSError, ValueError) as error:
                    yield "problem", "service", f"{path} cannot be read: {error}", f"rm {shlex.quote(str(path))}"
                    continue
                words = (f" --server {job}" if job != "mirror" else "") + (" --system" if system else "")
                yield _check(path, command, job, words)
    for file in (state_dir / "service.env", SYSTEMS_ENVIRONMENT):
        if not is_private(file):
            detail = f"other users can read {file}, which may hold a password"
            yield "problem", "service", detail, f"chmod 600 {shlex.quote(str(file))}"


def _check(path: Path, command: list[str], job: str, words: str) -> tuple[Level, str, str, str]:
    again = f"mirror service install{words}, with the options that it is to have"
    if not command or not Path(command[0]).exists():
        program = command[0] if command else "no program"
        return "problem", "service", f"{path} runs {program}, which is not there", again
    if job == "mirror" and command[0] != sys.executable:
        detail = f"{path} runs another installation of the mirror ({command[0]}) than this ({sys.executable})"
        step = f"if this is to run: mirror service uninstall{words}, then {again}"
        return "note", "service", detail, step
    return "ok", "service", f"{path} runs {shlex.join(command)}", ""
