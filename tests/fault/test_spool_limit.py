"""Postgres is away for longer than the spool can hold: what the WAL has lost then is compared, told, and converges."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from mirror.core.folders import source_folder
from mirror.sidecar.supervisor import LEAST_SPOOL_LIMIT
from tests.support.mirrors import MirrorProcess
from tests.support.proxy import Proxy
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until


@pytest.fixture
def proxy(dsn: str, mirror: MirrorProcess, writer: Writer) -> Iterator[Proxy]:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)", "INSERT INTO t VALUES (1, x'01'), (2, x'02')")
    mirror.spool_limit = LEAST_SPOOL_LIMIT
    with Proxy(dsn) as proxy:
        mirror.its_dsn = proxy.dsn
        yield proxy
        proxy.accept()
        mirror.check()
        mirror.end()


def spooled(mirror: MirrorProcess) -> int:
    folder: Path = source_folder(mirror.state_dir, mirror.sources[0]) / "spool"
    total = 0
    for path in folder.glob("*.seg"):
        with suppress(FileNotFoundError):  # pruned just now
            total += path.stat().st_size
    return total


def write_more_than_the_spool_holds(writer: Writer) -> None:
    """The same few rows over and over, and others that come and go."""
    size = LEAST_SPOOL_LIMIT // 80
    for turn in range(100):
        writer.run(
            f"INSERT OR REPLACE INTO t VALUES (1000, randomblob({size}))",
            f"INSERT INTO t VALUES ({2000 + turn}, 'short-lived')",
            f"DELETE FROM t WHERE id = {2000 + turn - 2}",
            f"UPDATE t SET v = 'changed {turn}' WHERE id = 2",
        )
    writer.run("DELETE FROM t WHERE id > 2000")


@pytest.mark.few(1)
@pytest.mark.parametrize("killed", [False, True])
def test_spool_limit_reached(mirror: MirrorProcess, proxy: Proxy, writer: Writer, killed: bool) -> None:
    mirror.start()
    mirror.wait_applied()
    proxy.refuse()
    write_more_than_the_spool_holds(writer)
    assert LEAST_SPOOL_LIMIT < spooled(mirror) < LEAST_SPOOL_LIMIT * 1.1
    if killed:
        mirror.kill()
        mirror.start()
    proxy.accept()
    mirror.check()
    reasons = [gap["reason"] for gap in mirror.status()["gaps"]]
    assert killed or any(f"limit of {LEAST_SPOOL_LIMIT} bytes" in reason for reason in reasons), reasons
    until(lambda: spooled(mirror) < LEAST_SPOOL_LIMIT // 2)  # the save that makes room runs beside what is told
    writer.run("DELETE FROM t WHERE id = 1")
    mirror.check()


@pytest.mark.slow
def test_a_transaction_larger_than_the_spool(mirror: MirrorProcess, proxy: Proxy, writer: Writer) -> None:
    """Postgres has it, and what comes after it, although nobody asks for anything; then there is room again."""
    writer.run("PRAGMA journal_mode=DELETE", "PRAGMA page_size=65536", "VACUUM", "PRAGMA journal_mode=WAL")
    mirror.start()
    mirror.wait_applied()
    writer.transaction(*[f"INSERT INTO t(v) VALUES (zeroblob({LEAST_SPOOL_LIMIT // 30}))"] * 32)
    writer.run("UPDATE t SET v = x'03' WHERE id = 2")
    with psycopg.connect(proxy.dsn, autocommit=True) as connection:
        until(lambda: connection.execute("SELECT v FROM t WHERE id = 2").fetchone() == (b"\3",))
    until(lambda: spooled(mirror) < LEAST_SPOOL_LIMIT // 2)


def test_a_limit_below_what_lies_between_two_saves_is_refused(make_mirror: Callable[..., MirrorProcess]) -> None:
    """Capture would stand still, and nothing would ever make room."""
    mirror = make_mirror(Path("any.db"))
    mirror.spool_limit = LEAST_SPOOL_LIMIT - 1
    mirror.start(wait=False)
    assert mirror.ends_within(LIMIT)


@pytest.mark.slow
def test_postgres_away_for_minutes(mirror: MirrorProcess, proxy: Proxy, writer: Writer) -> None:
    mirror.start()
    mirror.settle()
    over = threading.Event()
    timer = threading.Timer(150, over.set)
    proxy.refuse()
    timer.start()
    turn = 0
    while not over.is_set():
        turn += 1
        writer.run(f"INSERT INTO t(v) VALUES ('new {turn}')", f"DELETE FROM t WHERE id = {turn - 5}")
        assert mirror.status()["phase"] in ("waiting", "following", "catching up")
    assert spooled(mirror) < LEAST_SPOOL_LIMIT * 1.1
    proxy.accept()
    mirror.check()
