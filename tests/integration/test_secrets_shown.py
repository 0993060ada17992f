"""No password, whatever its characters, in what commands print, log and serve, nor in the list of processes."""

from __future__ import annotations

import http.client
import json
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import click
import psutil
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.integration.test_status_page import PATHS
from tests.support.commands import MIRROR, CommandLine, stop
from tests.support.memustore import create_store
from tests.support.quick import quick
from tests.support.source import Writer
from tests.support.waiting import until
from tests.unit.test_help import COMMANDS

#: How each command is run here; those that need more than a source are run so far that they fail.
ARGUMENTS: dict[tuple[str, ...], list[str]] = {
    ("config", "schema"): [],
    ("cutover", "advance"): ["{source}", "--dry-run"],
    ("cutover", "finalize"): ["{source}", "--dry-run"],
    ("cutover", "rehearse"): ["{source}", "--clean"],
    ("cutover", "rollback"): ["{source}", "--dry-run"],
    ("demo",): ["--keep", "{folder}", "--debug"],
    ("service", "install"): ["{source}", "--dry-run"],
    ("service", "logs"): ["--debug"],
    ("service", "status"): ["--debug"],
    ("service", "uninstall"): ["--dry-run", "--debug"],
    ("up",): ["{source}", "--once"],
    ("wait",): ["{source}", "--timeout", "1"],
}
LEAVES = sorted(" ".join(words) for words, command in COMMANDS.items() if not isinstance(command, click.Group))
#: For the normal run.
DIFFERENT = ("config show", "cutover plan", "demo", "doctor", "parity", "rejects list", "status", "up")


@dataclass
class Secret:
    """A password of characters that mean something to everybody who reads it, and parts that are found again."""

    mark: str

    @property
    def text(self) -> str:
        return f"/{self.mark}@{self.mark}:{self.mark}?{self.mark}' {self.mark}%{self.mark}\\{self.mark}€#{self.mark}&"

    def require_hidden(self, *shown: str) -> None:
        for text in shown:
            at = text.find(self.mark)
            assert at < 0, f"…{text[max(0, at - 200) : at + 100]}…"


@pytest.fixture
def secret() -> Secret:
    return Secret(f"zq1{secrets.token_hex(4)}")


def command_lines() -> str:
    """Of all processes that there are."""
    lines = []
    for process in psutil.process_iter():
        try:
            lines.append("\0".join(process.cmdline()))
        except psutil.Error:
            continue
    return "\n".join(lines)


def configure(folder: Path, dsn: str, secret: Secret) -> dict[str, str]:
    """Have secrets wherever they may be; returns the variables."""
    (folder / "argent").mkdir(exist_ok=True)
    values = {
        "storage": {"backend": "dual", "postgres": {"connectionString": make_conninfo(dsn, password=secret.text)}}
    }
    (folder / "argent" / "mirror.json").write_text(json.dumps(values))
    (folder / "argent" / "argent.json").write_text(json.dumps({"env": {"SOME_API_KEY": f"{secret.mark}-key"}}))
    names = ("PGPASSWORD", "MIRROR_REDIS_PASSWORD", "MIRROR_SECRET_KEY")
    return {name: f"{secret.mark}-{name}" for name in names}


def uri_of(dsn: str, password: str) -> str:
    """A connection string as a URI, with a password."""
    values = {**conninfo_to_dict(dsn)}
    host, port, user, database = (str(values.pop(name, "")) for name in ("host", "port", "user", "dbname"))
    at = f"postgresql://{quote(user)}:{password}@"
    if host.startswith("/"):
        return f"{at}/{database}?host={quote(host, safe='')}&port={port}"
    return f"{at}{host}:{port}/{database}"


@contextmanager
def running(cli: CommandLine, *arguments: object, env: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    log = cli.folder / "up.log"
    with log.open("w") as out:
        process = cli.start("up", *arguments, stdout=out, stderr=out, env=env)
    try:
        yield process, log
    finally:
        if process.poll() is None:
            assert stop(process) == 0, log.read_text()


def served(log: Path, process: subprocess.Popen[str]) -> list[str]:
    """All that the status page of a mirror answers."""
    until(lambda: "Status page: " in log.read_text(), alive=lambda: process.poll() is None)
    url = urlsplit(log.read_text().partition("Status page: ")[2].split()[0].strip('",}'))
    answers = []
    for path in (*PATHS, "/no-such-page"):
        connection = http.client.HTTPConnection(url.hostname or "", url.port or 0)
        connection.request("GET", path)
        answer = connection.getresponse()
        answers.append(f"{answer.headers}{answer.read().decode()}")
        connection.close()
    return answers


def test_a_mirror_that_works(folder: Path, dsn: str, database: Path, writer: Writer, secret: Secret) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO t VALUES (1, CAST(x'ff' AS TEXT))")
    cli, env = CommandLine(folder), configure(folder, dsn, secret)
    given = uri_of(dsn, quote(secret.text, safe=""))
    first = cli.run("up", database, "--once", "--postgres", given, env=env)
    assert f"Next: `mirror parity {database} --postgres" in first.err, "and it works without the password"
    secret.require_hidden(first.out, first.err)
    with running(cli, database, "--postgres", given, "--http", "0", "--log-level", "debug", env=env) as (process, log):
        answers = served(log, process)
        secret.require_hidden(command_lines(), *answers)
        known = ["--postgres", make_conninfo(dsn, password=secret.text)]
        assert cli.run("wait", database, *known, env=env).code == 0
        for words in (["status", database, "--json"], ["parity", database], ["config", "show"], ["doctor", database]):
            done = cli.run(*words, *known, env=env)
            assert done.code in (0, 1), done
            secret.require_hidden(done.out, done.err)
    text = log.read_text()
    secret.require_hidden(text, *(path.read_text(errors="replace") for path in _files(cli.state_dir)))
    assert "following; lag" in text and ":hidden@" in text


def _files(folder: Path) -> list[Path]:
    """All that the mirror has written."""
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_mirror_that_cannot_connect(folder: Path, dsn: str, database: Path, writer: Writer, secret: Secret) -> None:
    """The password is not encoded: the driver takes a part of it for the host, and names that in its error."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    cli = CommandLine(folder, f"postgresql://u:{secret.mark}a@{secret.mark}b@127.0.0.1:1/d")
    env = configure(folder, dsn, secret)
    options = ("--http", "0", "--log-format", "json")
    with running(cli, database, *options, env=env) as (process, log):
        until(lambda: '"waiting"' in log.read_text(), alive=lambda: process.poll() is None)
        secret.require_hidden(*served(log, process), command_lines())
        secret.require_hidden(*cli.run("status", database, env=env)[1:], *cli.run("status", "--json", env=env)[1:])
    found = [json.loads(line) for line in log.read_text().splitlines()]
    secret.require_hidden(log.read_text(), *(path.read_text(errors="replace") for path in _files(cli.state_dir)))
    warned = next(one for one in found if one["level"] == "warning")
    assert (
        warned["code"] == "postgres" and warned["retryable"] and warned["next_step"] and "hidden" in warned["message"]
    )
    assert warned["source"] == str(database)
    line = next(one for one in found if one.get("phase") == "waiting")
    assert line["source"] == str(database) and line["next_step"].startswith("nothing, or repair")


@pytest.mark.parametrize("name", quick(*DIFFERENT, among=LEAVES))
def test_every_command(name: str, folder: Path, database: Path, writer: Writer, secret: Secret) -> None:
    """With a connection string that the driver cannot read, because the password in it has a blank."""
    words = tuple(name.split())
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    variables = configure(folder, "host=127.0.0.1 port=1", secret)
    cli = CommandLine(folder, f"host=127.0.0.1 port=1 password={secret.mark}a {secret.mark}b")
    given = [word.format(source=database, folder=folder) for word in ARGUMENTS.get(words, ["{source}"])]
    if any(param.name == "debug" for param in COMMANDS[words].params) and "--debug" not in given:
        given.append("--debug")
    done = cli.run(*words, *given, env=variables)
    secret.require_hidden(done.out, done.err)


def test_arguments_that_are_wrong_are_not_repeated(folder: Path, secret: Secret) -> None:
    cli = CommandLine(folder)
    uri = f"postgresql://u:{secret.mark}@h/d"
    for words in (
        ["up", uri, "--once"],
        ["status", "x.db", "--timeout", uri],
        ["wait", "x.db", "--timeout", uri],
        ["up", "x.db", "--http", uri],
        ["parity", "x.db", "--table", uri, "--json"],
        ["status", "--postgres", f"{secret.mark} {secret.mark}", "--json"],
        ["config", "show", "--postgres", uri],
    ):
        done = cli.run(*words)
        secret.require_hidden(done.out, done.err)
    (folder / "bad.json").write_text(f'{{"postgres": {{"connectionString": "{uri}" "oops"}}}}')
    (folder / "wrong.json").write_text(
        f'{{"postgres": {{"connectionString": ["{uri}"], "x": "password={secret.mark}"}}}}'
    )
    for name in ("bad", "wrong"):
        done = cli.run("config", "show", "--config", folder / f"{name}.json")
        assert done.code == 2
        secret.require_hidden(done.out, done.err)


@pytest.mark.parametrize(
    "given",
    ["host=127.0.0.1 port=1 pasword={0} user=me", "postgresql://me@127.0.0.1:1/d?pasword={0}"],
    ids=["keywords", "URI"],
)
def test_a_misspelt_keyword(given: str, folder: Path, database: Path, writer: Writer, secret: Secret) -> None:
    """Its value may be a password. It is named itself, and what to do about it."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    cli, env = CommandLine(folder), {"ARGENT_PG_URL": given.format(secret.mark)}
    done = cli.run("up", database, "--once", env=env)
    said = "libpq cannot read the connection string: it does not know the keyword pasword -- correct it in the "
    said += "connection string (did you mean password?)"
    assert done.error.endswith(said) and done.err.count("does not know the keyword") == 1, done.err
    settings = cli.run("config", "show", "--json", env=env)
    shown = json.loads(settings.out)["settings"]
    assert shown["postgres.connectionString"]["value"] == given.format("hidden")
    secret.require_hidden(done.out, done.err, settings.out, settings.err)


def test_a_url_where_a_host_is_expected(folder: Path, secret: Secret) -> None:
    cli, path = CommandLine(folder), folder / "mirror.json"
    path.write_text(json.dumps({"storage": {"redis": {"host": f"redis://u:{secret.mark}@127.0.0.1", "port": 21380}}}))
    done = cli.run("config", "show", "--json", "--config", path)
    assert done.code == 2 and "host is a URL: give host and port" in done.err, done.err
    secret.require_hidden(done.out, done.err)


def test_the_list_of_processes(folder: Path, database: Path, writer: Writer, secret: Secret) -> None:
    """What an embedded server and capture are started with; and a password on the command line is taken from there."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    cli, env = CommandLine(folder), configure(folder, "host=h", secret)
    (folder / "argent" / "mirror.json").unlink()
    with running(cli, database, env=env) as (process, log):
        until(lambda: "following every commit" in log.read_text(), alive=lambda: process.poll() is None)
        assert len(psutil.Process(process.pid).children(recursive=True)) >= 3
        secret.require_hidden(command_lines(), log.read_text())
    for given in (["--postgres", f"host=h password={secret.mark}"], [f"--postgres=postgresql://u:{secret.mark}@h"]):
        waits = cli.start("wait", "--timeout", "60", database, *given)
        try:
            seen = psutil.Process(waits.pid)
            until(lambda: "hidden" in " ".join(seen.cmdline()), alive=lambda: waits.poll() is None)  # noqa: B023
            secret.require_hidden(command_lines())
            assert seen.cmdline()[1:4] == [*MIRROR[1:], "wait"] and seen.cmdline()[-1].endswith(("hidden", "hidden@h"))
        finally:
            waits.kill()
            waits.communicate()


def test_without_a_password_the_command_line_is_left_alone(folder: Path, dsn: str) -> None:
    cli = CommandLine(folder)
    done = cli.run("config", "show", "--json", "--postgres", dsn)
    assert json.loads(done.out)["settings"]["postgres.connectionString"] == {"value": dsn, "origin": "--postgres"}
    hidden = make_conninfo(dsn, password="pw")
    told = json.loads(cli.run("config", "show", "--json", "--postgres", hidden).out)["settings"]
    assert told["postgres.connectionString"] == {"value": f"{dsn} password=hidden", "origin": "--postgres"}


PROGRAM = """
import logging, mirror
logging.basicConfig(level=logging.DEBUG)
for make in (mirror.get_storage_adapter, mirror.get_hot_state):
    try:
        with make() as made:
            made.presence.online()
    except mirror.MirrorError as error:
        logging.error("%s %r %s", error, error, error.to_dict())
enabled = mirror.enable_mirror("memory.db", sidecar="none")
print(enabled.status(), enabled)
"""


def test_a_program_is_told_no_secret(folder: Path, secret: Secret) -> None:
    """Errors and what is logged, by :mod:`logging`, where Postgres and Redis cannot be reached."""
    create_store(folder / "memory.db").close()
    env = configure(folder, "host=127.0.0.1 port=1", secret)
    path = folder / "argent" / "mirror.json"
    values = {"sources": [str(folder / "memory.db")], "storage": {"backend": "postgres", "redis": {"port": 1}}}
    path.write_text(json.dumps(values))
    cli = CommandLine(folder, f"postgresql://u:{secret.mark}a@{secret.mark}b@127.0.0.1:1/d")
    done = subprocess.run(
        [MIRROR[0], "-c", PROGRAM], env=cli.environment(env), cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stderr.count("ERROR") == 2 and "hidden" in done.stderr, done.stderr
    secret.require_hidden(done.stdout, done.stderr)
