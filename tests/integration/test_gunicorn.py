"""``enable_mirror()`` in a server that forks its workers, before or after the line was said."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from mirror.core.control import wait_for_mirror
from mirror.core.folders import holder, resolve, source_folder
from mirror.parity.compare import compare
from tests.support.source import Writer
from tests.support.waiting import LIMIT, ended, until

WORKERS, REQUESTS = 3, 60
APPLICATION = """
import os, threading, apsw, mirror
SOURCE, DSN, STATE = {source!r}, {dsn!r}, {state!r}
mirror.enable_mirror([SOURCE], postgres=DSN, state_dir=STATE, sidecar="follows")
mine = threading.local()

def application(environ, start_response):
    if not hasattr(mine, "db"):
        mine.db = apsw.Connection(SOURCE)
        mine.db.set_busy_timeout(10_000)
    with mirror.as_agent("web"):
        mine.db.execute("INSERT INTO t(v) VALUES (?)", (os.getpid(),))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


class _Server(http.client.HTTPConnection):
    """The server's Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=LIMIT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))


def ask(path: Path) -> int:
    """Have a row written; the process that did."""
    server = _Server(path)
    server.request("GET", "/")
    answer = server.getresponse()
    assert answer.status == 200
    pid = int(answer.read())
    server.close()
    return pid


@pytest.fixture(params=["--preload", ""])
def gunicorn(
    request: pytest.FixtureRequest, database: Path, dsn: str, folder: Path, writer: Writer
) -> Iterator[subprocess.Popen[str]]:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER)")
    state = folder / "state"
    (folder / "application.py").write_text(APPLICATION.format(source=str(database), dsn=dsn, state=str(state)))
    options = ["--workers", str(WORKERS), "--threads", "2", "--bind", f"unix:{folder / 'web'}", *request.param.split()]
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *options, "application:application"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield server
    server.kill()
    server.communicate()


@pytest.mark.few(1)
def test_gunicorn(gunicorn: subprocess.Popen[str], database: Path, dsn: str, folder: Path) -> None:
    assert gunicorn.stderr is not None
    while "Listening at" not in (line := gunicorn.stderr.readline()):
        assert line, "gunicorn has ended"
    source = resolve(database)
    control = source_folder(folder / "state", source)
    pids = {ask(folder / "web")}
    with wait_for_mirror(control, LIMIT) as client:
        until(lambda: client.status().phase == "following")
        while len(pids) < 2 or len(client.status().hook.writers) < len(pids):
            pids.add(ask(folder / "web"))
        pids |= {ask(folder / "web") for _ in range(REQUESTS)}
        assert client.wait(LIMIT)
        with psycopg.connect(dsn) as connection:
            report = compare(source, connection, "public", client)
            assert report.verdict == "equal" and report.tables, report.to_json()
            connection.autocommit = True
            query = "SELECT DISTINCT pid FROM mirror.writes WHERE agent = 'web'"
            # Written down about once a second.
            found = until(lambda: rows if len(rows := connection.execute(query).fetchall()) >= 2 else None)
            told = {pid for (pid,) in found or ()}
        assert told <= pids, "those that wrote, and nobody else"
        assert client.status().discrepancies == 0, client.status()
    sidecar = holder(control)
    assert sidecar is not None
    gunicorn.send_signal(signal.SIGTERM)
    assert gunicorn.wait(LIMIT) == 0
    until(lambda: ended(sidecar))
