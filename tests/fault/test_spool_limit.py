"""Postgres is away for longer than the spool can hold: it gives way to a comparison, says so, and converges."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.statedir import source_folder
from tests.support.mirrors import MirrorProcess
from tests.support.proxy import Proxy
from tests.support.source import Writer

LIMIT = 4 << 20


@pytest.fixture
def proxy(dsn: str, mirror: MirrorProcess, writer: Writer) -> Iterator[Proxy]:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 'one'), (2, 'two')")
    mirror.spool_limit = LIMIT
    with Proxy(dsn) as proxy:
        mirror.its_dsn = proxy.dsn
        yield proxy
        mirror.check()
        mirror.end()


def spooled(mirror: MirrorProcess) -> int:
    folder: Path = source_folder(mirror.state_dir, mirror.sources[0]) / "spool"
    return sum(path.stat().st_size for path in folder.glob("*.seg"))


def write_more_than_the_spool_holds(writer: Writer) -> None:
    for turn in range(12):
        writer.run(
            "INSERT INTO t(v) VALUES (randomblob(1000000))",
            f"INSERT INTO t VALUES ({1000 + turn}, 'short-lived')",
            f"DELETE FROM t WHERE id = {1000 + turn - 2} OR length(v) = 1000000 AND id % 3 = 0",
            "UPDATE t SET v = 'changed' WHERE id = 2",
        )


@pytest.mark.parametrize("killed", [False, True])
def test_spool_limit_reached(mirror: MirrorProcess, proxy: Proxy, writer: Writer, killed: bool) -> None:
    mirror.start()
    mirror.wait_applied()
    proxy.refuse()
    write_more_than_the_spool_holds(writer)
    if killed:
        mirror.kill()
        mirror.start()
        write_more_than_the_spool_holds(writer)
    assert spooled(mirror) < 2 * LIMIT
    proxy.accept()
    mirror.check()
    gaps = mirror.status()["gaps"]
    assert any(f"limit of {LIMIT} bytes" in gap["reason"] for gap in gaps), gaps
    mirror.kill()
    writer.run("DELETE FROM t WHERE id = 1")
    mirror.start()
    mirror.check()
    proxy.refuse()
    write_more_than_the_spool_holds(writer)
    proxy.accept()


@pytest.mark.slow
def test_postgres_away_for_minutes(mirror: MirrorProcess, proxy: Proxy, writer: Writer) -> None:
    mirror.start()
    mirror.wait_applied()
    over = threading.Event()
    timer = threading.Timer(150, over.set)
    proxy.refuse()
    timer.start()
    turn = 0
    while not over.is_set():
        turn += 1
        writer.run(f"INSERT INTO t(v) VALUES ('new {turn}')", f"DELETE FROM t WHERE id = {turn - 5}")
        assert mirror.status()["phase"] in ("waiting", "following", "catching up")
    assert spooled(mirror) < 2 * LIMIT
    proxy.accept()
    mirror.check()
