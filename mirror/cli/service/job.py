"""What a manager is to keep running: the mirror as its command was given, or a server that a setup script has made."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mirror.core.config.settings import Settings
from mirror.core.dsn import has_password
from mirror.core.errors import ConfigError

Name = Literal["mirror", "redis", "postgres"]
#: Where the setup scripts have servers keep their files, below the home directory; root's Redis.
DATA = {"redis": ".argentos/redis", "postgres": ".argentos/postgres"}
ROOTS_REDIS = Path("/var/lib/mirror-redis")
_OPERATION = "install the service"
#: Variables that mean something to the mirror; those of libpq besides.
_VARIABLES = frozenset((
    "ARGENT_PG_URL", "PG_URL", "ARGENT_STATE_DIR", "CLAWDBOT_STATE_DIR", "ARGENT_CONFIG_PATH", "CLAWDBOT_CONFIG_PATH",
    "MIRROR_REDIS_USERNAME", "MIRROR_REDIS_PASSWORD", "MIRROR_ALERTS_WEBHOOK", "MIRROR_ALERTS_SECRET",
    "MIRROR_WEBHOOK_SECRET",
))  # fmt: skip
_OF_LIBPQ = re.compile(r"PG[A-Z]+")
#: What has a backslash before it between double quotes.
_ESCAPED, _BEFORE = re.compile(r'(["\\$`])'), r"\\\1"
#: The file with the variables of the mirror's service, where that is the system's.
SYSTEMS_ENVIRONMENT = Path("/etc/argent-mirror.env")


@dataclass(frozen=True, slots=True)
class Job:
    """A program that is to run."""

    name: Name
    command: tuple[str, ...]
    """The program, an absolute path, and its arguments."""
    environment_file: Path | None = None
    """Lines of ``NAME="value"``, read at each start. It need not be there."""
    data: Path | None = None
    """A server's directory."""


def mirror_job(settings: Settings, environment_file: Path, more: Sequence[str]) -> Job:
    """The mirror of the sources that were named, or else of those that mirror.json lists whenever it starts.

    ``more``: arguments of ``mirror up`` besides those of ``settings``. Raises ``ConfigError`` if there is nothing to
    mirror, or the files would hold a password.
    """
    if not settings.sources:
        step = "mirror service install FILE.db, or list sources in mirror.json"
        raise ConfigError(_OPERATION, detail="no source is named", next_step=step)
    if settings.origins["postgres.connectionString"] == "--postgres" and has_password(settings.dsn or ""):
        raise ConfigError(
            _OPERATION,
            "--postgres",
            "it has a password, which everybody could read in the service's file",
            next_step="leave it out there, and put the password into ~/.pgpass, or the whole into mirror.json",
        )
    arguments = list(settings.arguments)
    # The service's home directory and variables may be others than those of this command.
    if "--state-dir" not in arguments:
        arguments += ["--state-dir", str(settings.state_dir)]
    read = [file.path for file in settings.files if file.exists and file.name == "mirror.json"]
    if "--config" not in arguments and read:
        arguments += ["--config", str(read[0])]
    named = settings.sources if settings.origins["sources"] == "arguments" else ()
    sources = [str(settings.links.get(source, source)) for source in named]
    # -P: import nothing from the working directory, which is the home directory for a user's service.
    command = (sys.executable, "-P", "-m", "mirror", "up", *sources, *arguments, *more)
    if any("\n" in word for word in command):
        raise ConfigError(_OPERATION, detail="a name has a new line", next_step="give it another one")
    return Job("mirror", command, environment_file)


def environment_file(settings: Settings, *, system: bool) -> Path:
    """Where the variables of the mirror's service are."""
    return SYSTEMS_ENVIRONMENT if system else settings.state_dir / "service.env"


def environment_file_of(command: Sequence[str], *, system: bool) -> Path | None:
    """Where the variables of a mirror's service are that runs this command; None for another program."""
    if "--state-dir" not in command:
        return None
    state_dir = Path(command[command.index("--state-dir") + 1])
    return SYSTEMS_ENVIRONMENT if system else state_dir / "service.env"


def server_job(name: Name, data: Path) -> Job:
    """The server that a setup script has made in a directory. Raises ``ConfigError`` if there is none."""
    if name == "redis":
        conf = data / "redis.conf"
        found = re.search(r"^# program: (/.+)$", _text(conf, "scripts/setup-redis.sh"), re.MULTILINE)
        if found is None:
            raise _not_made(conf, "scripts/setup-redis.sh")
        return Job("redis", (found[1], str(conf), "--daemonize", "no", "--supervised", "no"), data=data)
    made = "scripts/setup-postgres.sh"
    if "mirror.made_by" not in _text(data / "postgresql.conf", made):
        raise _not_made(data / "postgresql.conf", made)
    # It has the command line of the last start.
    options = data / "postmaster.opts"
    return Job("postgres", (shlex.split(_text(options, made))[0], "-D", str(data)), data=data)


def data_of(name: str, named: Path | None, home: Path, *, system: bool) -> Path:
    """A server's directory: the one that is named, or where the setup script makes it."""
    if named is not None:
        return named.absolute()
    return ROOTS_REDIS if name == "redis" and system else home / DATA[name]


def _text(path: Path, script: str) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        raise _not_made(path, script) from None
    except OSError as error:
        raise ConfigError(_OPERATION, str(path), error.strerror or str(error)) from error


def _not_made(path: Path, script: str) -> ConfigError:
    return ConfigError(_OPERATION, str(path), f"no server that {script} has made is there", next_step=f"run {script}")


def owner_of(settings: Settings) -> str:
    """The user that a service of the system runs as: whose the first source is, or the folder that it will be in.

    Raises ``ConfigError`` if the state directory is not that user's.
    """
    source = settings.sources[0]
    owner = user_of(_nearest(source))
    if owner not in ("root", user_of(_nearest(settings.state_dir))):
        detail = f"it is not {owner}'s, whose {source} is: so the service runs as {owner}"
        step = f"name a directory of {owner}'s with --state-dir"
        raise ConfigError(_OPERATION, str(settings.state_dir), detail, next_step=step)
    return owner


def _nearest(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


def user_of(path: Path) -> str:
    """The name of the user that a file belongs to."""
    number = path.stat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def environment(variables: Mapping[str, str]) -> str:
    """The environment file of a mirror's service: what of these variables means something to it.

    ``sh`` and systemd read it alike. Raises ``ConfigError`` for a value that has a new line.
    """
    lines = []
    for name, value in sorted(variables.items()):
        if not value.strip() or not (name in _VARIABLES or _OF_LIBPQ.fullmatch(name)):
            continue
        if "\n" in value:
            raise ConfigError(_OPERATION, name, "its value has a new line", next_step="name it in mirror.json instead")
        lines.append(f'{name}="{_ESCAPED.sub(_BEFORE, value)}"\n')
    return "".join(lines)


def is_private(path: Path) -> bool:
    """Whether nobody but its owner can read a file, if it is there."""
    try:
        return not stat.S_IMODE(os.stat(path).st_mode) & 0o077
    except OSError:  # it is not there, or nobody can look
        return True
