"""What a mirror tells the manager that has started it as a service, on a real socket."""

from __future__ import annotations

import itertools
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from mirror.core.notify import Notifier
from mirror.core.status import Phase
from mirror.sidecar.service import Service, headline, rough
from mirror.sidecar.status import SourceStatus
from mirror.sidecar.supervisor import Supervisor, SupervisorSettings
from tests.support.commands import CommandLine, stop
from tests.support.manager import Manager
from tests.support.source import Writer
from tests.support.waiting import until


@pytest.mark.parametrize("abstract", [False, pytest.param(True, marks=pytest.mark.linux)])
def test_a_message_is_one_datagram(folder: Path, abstract: bool) -> None:
    name = f"@mirror-{secrets.token_hex(8)}" if abstract else str(folder / "notify")
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    with Manager(name) as manager:
        notifier = Notifier(environment)
        assert environment == {"HOME": "/"}, "programs that it starts are not the service"
        assert notifier.is_heard and notifier.watchdog_seconds == 2.5
        assert notifier.send(READY=1, STATUS="two\nlines")
        assert manager.receive() == {"READY": "1", "STATUS": "two lines"}
        before = time.monotonic_ns() // 1000
        notifier.reloading()
        message = manager.receive()
        assert message["RELOADING"] == "1" and int(message["MONOTONIC_USEC"]) >= before


def test_without_a_manager_nothing_is_sent(folder: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"WATCHDOG_USEC": "1000"}):
        notifier = Notifier(dict(environment))
        assert not notifier.is_heard and notifier.watchdog_seconds is None and not notifier.send(READY=1)
    gone = Notifier({"NOTIFY_SOCKET": str(folder / "gone"), "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
    assert gone.watchdog_seconds is None, "it is another process's"
    assert not gone.send(READY=1)


def test_a_mirror_as_a_service(folder: Path, dsn: str, database: Path, writer: Writer) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    config = folder / "mirror.json"
    config.write_text(json.dumps({"sources": [str(database)]}))
    cli = CommandLine(folder, dsn)
    with Manager(folder / "notify") as manager:
        log = (folder / "log").open("w+")
        variables = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "2000000"}
        process = cli.start("up", "--config", config, env=variables, stderr=log)
        try:
            manager.hears("READY")
            assert cli.run("status", "--config", config).code == 0
            assert any("EXTEND_TIMEOUT_USEC" in message for message in manager.messages)
            assert any(message.get("STATUS") == "following; lag under 1 s" for message in manager.messages)
            manager.hears("WATCHDOG")

            process.send_signal(signal.SIGHUP)
            assert int(manager.hears("RELOADING")["MONOTONIC_USEC"]) > 0
            manager.hears("READY")
            config.write_text(json.dumps({"sources": [str(database), "another.db"]}))
            process.send_signal(signal.SIGHUP)
            manager.hears("READY")
            manager.hears("STATUS", "2 sources")
            config.write_text("{")
            process.send_signal(signal.SIGHUP)
            manager.hears("READY")

            said = len(manager.messages)
            for _ in range(4):
                manager.hears("WATCHDOG")
            assert not [message for message in manager.messages[said:] if "STATUS" in message], "it has not changed"
            writer.run("INSERT INTO t VALUES (2)")
            assert cli.run("wait", "--config", config, "--timeout", "60").code == 2  # which cannot use it either
            assert process.poll() is None
        finally:
            code = stop(process)
        assert code == 0
        manager.hears("STOPPING")
        log.seek(0)
        # Once, or twice where the file was seen to have changed before the signal came.
        lines = list(dict.fromkeys(line.partition("read again")[2] for line in log if "read again" in line))
    assert len(lines) == 3, lines
    assert "nothing changed" in lines[0] and "another.db is listed" in lines[1] and "cannot be used" in lines[2]
    with psycopg.connect(dsn) as conn:
        assert conn.execute("SELECT count(*) FROM t").fetchone() == (2,)


def test_a_closed_terminal_ends_a_mirror_that_is_no_service(
    folder: Path, dsn: str, database: Path, writer: Writer
) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    with CommandLine(folder, dsn).up(database) as process:
        assert stop(process, signal.SIGHUP) == -signal.SIGHUP


def test_a_source_that_waits_by_itself_does_not_keep_the_service_from_starting(folder: Path, dsn: str) -> None:
    with Manager(folder / "notify") as manager:
        cli = CommandLine(folder, dsn)
        process = cli.start("up", folder / "later.db", env={"NOTIFY_SOCKET": manager.name})
        try:
            manager.hears("READY")
            assert any(message.get("STATUS", "").startswith("waiting; later.db: ") for message in manager.messages)
            assert not any("WATCHDOG" in message for message in manager.messages), "nobody has asked for it"
        finally:
            process.kill()
            process.communicate()


def test_the_sidecar_of_a_program_that_is_a_service_says_nothing_in_its_place(
    folder: Path, dsn: str, database: Path, writer: Writer
) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    cli = CommandLine(folder)
    program = "import sys, mirror; m = mirror.enable_mirror(sys.argv[1], sidecar='follows'); input()"
    with Manager(folder / "notify") as manager:
        variables = cli.environment({"PG_URL": dsn, "NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "1000000"})
        process = subprocess.Popen([sys.executable, "-c", program, database], env=variables, stdin=subprocess.PIPE)
        try:
            assert cli.run("wait", database, "--timeout", "100").code == 0
        finally:
            process.communicate(b"\n")
        until(lambda: cli.run("status", database).out.count("stopped"))
        assert manager.is_silent


def test_a_loop_that_stalls_is_not_hidden(folder: Path, dsn: str, database: Path, writer: Writer) -> None:
    """The watchdog hears nothing more, and the status names the source. One that waits for Postgres is no such."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    stalls, goes_on, stalled = threading.Event(), threading.Event(), threading.Event()

    def faults(name: str) -> None:
        if name == "apply:before-commit" and stalls.is_set():
            stalled.set()
            goes_on.wait()

    supervisor = Supervisor(SupervisorSettings([database], dsn, folder / "state"), faults)
    with Manager(folder / "notify") as manager, psycopg.connect(dsn, autocommit=True) as conn:
        notifier = Notifier({"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "1500000"})
        service, done = Service(notifier, supervisor), threading.Event()
        assert service.seconds < 1.5 / 2, "it is called twice, at least, before a manager loses patience"

        def run() -> None:
            while not done.wait(0.05):
                service.turn()

        loop = threading.Thread(target=run)
        with supervisor:
            loop.start()
            try:
                manager.hears("READY")
                # A lock in Postgres.
                conn.execute("BEGIN")
                conn.execute("LOCK TABLE t")
                writer.run("INSERT INTO t VALUES (1)")
                until(lambda: supervisor.awaiting_postgres(3.0) == [database.name])
                assert supervisor.stalled(1.5) == []
                manager.messages.clear()
                manager.hears("WATCHDOG")
                conn.execute("COMMIT")
                until(lambda: supervisor.awaiting_postgres(0.5) == [])

                stalls.set()
                writer.run("INSERT INTO t VALUES (2)")
                assert stalled.wait(60)
                status = manager.hears("STATUS", "stalled")["STATUS"]
                assert status.startswith(f"stalled: {database.name}; following; lag ")
                said = len(manager.messages)
                assert "lag over" in manager.hears("STATUS")["STATUS"], "it grows"
                assert not [message for message in manager.messages[said:] if "WATCHDOG" in message]
                goes_on.set()
                manager.hears("STATUS", "following; lag under 1 s")
                manager.hears("WATCHDOG")
            finally:
                goes_on.set()
                done.set()
                loop.join()


def test_the_status_names_phases_lag_and_the_first_error() -> None:
    states = [SourceStatus(f"/data/{name}.db", "public", phase=Phase.FOLLOWING) for name in "abc"]
    assert headline(states[:1], [], 100.0) == "following; lag under 1 s"
    states[1].behind_since = 75.0
    states[2].phase, states[2].last_error = Phase.WAITING, "it is away" * 100
    line = headline(states, [("d.db", "locked")], 100.0)
    assert line.startswith("4 sources: 2 following, 1 waiting, 1 could not begin; lag over 20 s; c.db: it is away")
    assert len(line) < 300
    assert headline([], [("d.db", "locked")], 100.0) == "could not begin; d.db: locked"


def test_figures_in_the_status_change_seldom() -> None:
    seen = [rough(second / 10) for second in range(36000)]
    changes = [text for before, text in itertools.pairwise(seen) if text != before]
    assert len(changes) == len(set(changes)) < 20
    assert all(re.fullmatch(r"over \d+ (s|min)", text) for text in changes)
