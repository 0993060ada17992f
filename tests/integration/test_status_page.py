"""The status page of a running mirror, its metrics and its health, as a client on this machine gets them."""

from __future__ import annotations

import http.client
import json
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg.conninfo import make_conninfo

from tests.support.commands import CommandLine, stop
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

SECRET = "not-to-be-seen"
PATHS = ("/", "/page.css", "/page.js", "/status.json", "/history.json", "/metrics", "/healthz", "/readyz")


class Answer(NamedTuple):
    code: int
    headers: dict[str, str]
    body: str


class Client:
    def __init__(self, url: str) -> None:
        self.host, self.port = urlsplit(url).hostname or "", urlsplit(url).port or 0

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=LIMIT)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read().decode())
        finally:
            connection.close()


@contextmanager
def serving(cli: CommandLine, *arguments: object) -> Iterator[Client]:
    log = cli.folder / "up.out"
    with log.open("w") as out:
        process = cli.start("up", *arguments, stdout=out, stderr=out)
    try:
        until(lambda: "Status page: " in log.read_text(), alive=lambda: process.poll() is None)
        (line,) = [line for line in log.read_text().splitlines() if "Status page: " in line]
        yield Client(line.partition("Status page: ")[2])
    finally:
        assert stop(process, signal.SIGTERM) == 0, log.read_text()


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, make_conninfo(dsn, password=SECRET))


def test_what_is_served(cli: CommandLine, database: Path, writer: Writer) -> None:
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)", "INSERT INTO notes VALUES (1, 'one')")
    with serving(cli, database, "--http", "0") as client:
        assert client.host == "127.0.0.1"
        until(lambda: client.ask("/readyz").code == 200)
        writer.run("INSERT INTO notes VALUES (2, 'two')")
        assert cli.run("wait", database).code == 0 and cli.run("parity", database).code == 0
        answers = {path: client.ask(path) for path in PATHS}
        for path, answer in answers.items():
            assert answer.code == 200 and answer.body, path
            assert SECRET not in answer.body + str(answer.headers), path
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert answer.headers["Cache-Control"] == "no-store"
            head = client.ask(path, "HEAD")
            assert (head.code, head.body) == (200, "")
        (here,) = json.loads(answers["/status.json"].body)["sources"]
        (there,) = json.loads(cli.run("status", database, "--json").out)["sources"]
        moving = {"freshness_seconds", "lag_seconds", "worst_lag_seconds", "caught_up_at", "parity"}
        assert {key: here[key] for key in here.keys() - moving} == {key: there[key] for key in there.keys() - moving}
        assert here["parity"]["proof"] == "verified"
        assert json.loads(answers["/history.json"].body)["sources"][str(database)]
        found = {family.name: family for family in text_string_to_metric_families(answers["/metrics"].body)}
        (commits,) = found["mirror_commits"].samples
        assert commits.labels == {"source": str(database)} and commits.value >= 1
        assert found["process_cpu_seconds"].samples[0].value > 0
        health = json.loads(answers["/healthz"].body)
        assert (health["state"], [check["name"] for check in health["checks"]]) == ("ok", ["loop"])
        assert client.ask("/nothing").code == 404
        assert client.ask("/status.json", "POST").code == 501


def test_only_those_who_name_this_machine_are_answered(cli: CommandLine, database: Path, writer: Writer) -> None:
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY)")
    with serving(cli, database, "--http", "127.0.0.1:0") as client:
        for host in ("localhost", f"localhost:{client.port}", f"127.0.0.1:{client.port}", "[::1]:80"):
            assert client.ask("/healthz", Host=host).code == 200, host
        for host in ("evil.example", f"evil.example:{client.port}", ""):
            assert client.ask("/healthz", Host=host).code == 421, host
        # One that keeps its connection open does not keep the mirror from ending.
        with socket.create_connection((client.host, client.port)) as idle:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle.recv(100).startswith(b"HTTP/1.1 200")


def test_one_source_of_two_is_not_there_yet(cli: CommandLine, database: Path, folder: Path, writer: Writer) -> None:
    """By the configuration; and the one that is missing fails the readiness, by name."""
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY)")
    (folder / "argent").mkdir()
    (folder / "argent" / "mirror.json").write_text('{"sources": ["../source.db", "../later.db"], "http": "0"}')
    with serving(cli) as client:

        def failed() -> set[tuple[str, str]]:
            answer = client.ask("/readyz")
            assert answer.code == 503
            checks = json.loads(answer.body)["checks"]
            return {(check["name"], Path(check["source"]).name) for check in checks if check["state"] == "failed"}

        until(lambda: failed() == {("following", "later.db")})
        assert client.ask("/healthz").code == 200
        with Writer(folder / "later.db") as later:
            later.run("CREATE TABLE tasks(id INTEGER PRIMARY KEY)")
            until(lambda: client.ask("/readyz").code == 200)


def test_addresses_that_cannot_be_had(cli: CommandLine, database: Path, writer: Writer) -> None:
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY)")
    for text in ("here", "127.0.0.1:99999", "127.0.0.1:"):
        assert f"serve the status page ({text}): no address" in cli.run("up", database, "--http", text).error
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = cli.run("up", database, "--http", port).error
        assert f"(127.0.0.1:{port})" in error and "choose another port" in error
