"""The files of managers: made of the templates in ``scripts/systemd/`` and ``launchd/``, and read again."""

from __future__ import annotations

import plistlib
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

from mirror.cli.service.job import Job
from mirror.core.errors import ConfigError

#: From this version of systemd on, a reload can be told by the service: ``Type=notify-reload``.
NOTIFY_RELOAD = 253
#: Runs a command with the variables of a file, if it is there: launchd has no such setting.
_WITH_FILE = 'set -a; [ ! -r "$0" ] || . "$0"; set +a; exec "$@"'
_SPECIAL = re.compile(r"[^A-Za-z0-9@_+=:,./-]")


@cache
def templates(manager: str) -> Path:
    """The folder of a manager's templates: in the installed package, else in the checkout."""
    package = Path(__file__).resolve().parents[2]
    for candidate in (package / manager, package.parent / manager, package.parent / "scripts" / manager):
        if candidate.is_dir():
            return candidate
    raise ConfigError("read the templates", str(package), f"{manager}/ is missing", next_step="install mirror again")


def unit_name(job: str) -> str:
    """The name of a job's unit in systemd."""
    return "argent-mirror.service" if job == "mirror" else f"argent-mirror-{job}.service"


def label(job: str) -> str:
    """The name of a job in launchd."""
    return "ai.argent.mirror" if job == "mirror" else f"ai.argent.mirror.{job}"


def unit(job: Job, user: str | None, version: int) -> str:
    """The unit of a job. ``user``: for a service of the system, whom it runs as. ``version``: of systemd."""
    text = (templates("systemd") / unit_name(job.name)).read_text()
    if user is not None:
        text += (templates("systemd") / "system.conf").read_text()
    if version < NOTIFY_RELOAD:
        text = text.replace("Type=notify-reload", "Type=notify\nExecReload=/bin/kill -HUP $MAINPID")
    values = {
        "COMMAND": " ".join(map(_quoted, job.command)),
        "ENVIRONMENT": str(job.environment_file).replace("%", "%%"),
        "USER": user or "",
    }
    return re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], text)


def _quoted(word: str) -> str:
    """A word of ``ExecStart``: ``%`` and ``$`` stand for themselves when doubled (systemd.service(5))."""
    doubled = word.replace("%", "%%").replace("$", "$$")
    if doubled and not _SPECIAL.search(doubled.replace("%", "").replace("$", "")):
        return doubled
    return '"' + doubled.replace("\\", "\\\\").replace('"', '\\"') + '"'


def plist(job: Job, user: str | None, log: Path) -> bytes:
    """The property list of a job, for launchd. ``user``: as for :func:`unit`. ``log``: for what it prints."""
    values: dict[str, Any] = plistlib.loads((templates("launchd") / f"{label(job.name)}.plist").read_bytes())
    command = job.command
    if job.environment_file is not None:
        command = ("/bin/sh", "-c", _WITH_FILE, str(job.environment_file), *command)
    values["ProgramArguments"] = list(command)
    values["StandardOutPath"] = values["StandardErrorPath"] = str(log)
    if user is not None:
        values["UserName"] = user
    return plistlib.dumps(values, sort_keys=False)


def command_in(path: Path) -> list[str]:
    """The program and its arguments in a manager's file; empty if there is none. Raises ``OSError``, ``ValueError``."""
    if path.suffix != ".plist":
        found = re.findall(r"^ExecStart=(.+)$", path.read_text(), re.MULTILINE)
        return shlex.split(found[-1].replace("%%", "%").replace("$$", "$")) if found else []
    try:
        words = plistlib.loads(path.read_bytes()).get("ProgramArguments", [])
    except plistlib.InvalidFileException as error:
        raise ValueError(str(error)) from error
    words = [str(word) for word in words]
    return words[4:] if words[1:3] == ["-c", _WITH_FILE] else words
