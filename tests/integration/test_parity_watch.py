"""Comparing in the background: paced, exact, out of the way of whoever runs ``mirror parity``."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from loguru import logger

from mirror.core.folders import source_folder
from mirror.core.locks import ParityLock
from mirror.core.positions import Salts
from mirror.parity.proof import described
from mirror.sidecar import parity_watch as verifier
from mirror.sidecar.parity_watch import ParityWatch
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, filling
from tests.support.waiting import LIMIT


@pytest.fixture
def running(mirror: MirrorProcess, writer: Writer) -> MirrorProcess:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)", filling("i, 'row ' || i").format(1, 2000))
    mirror.start()
    mirror.wait_applied()
    return mirror


@pytest.fixture
def background(running: MirrorProcess) -> ParityWatch:
    schemas = dict.fromkeys(running.sources, running.schema)
    return ParityWatch(schemas, running.dsn, running.state_dir, " --state-dir here")


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The warnings."""
    said: list[str] = []
    sink = logger.add(lambda message: said.append(message.record["message"]), level="WARNING")
    yield said
    logger.remove(sink)


def kept(mirror: MirrorProcess) -> str | None:
    path = source_folder(mirror.state_dir, mirror.sources[0]) / "parity.json"
    return str(json.loads(path.read_text())["verdict"]) if path.exists() else None


def test_equal_and_different(
    running: MirrorProcess, background: ParityWatch, writer: Writer, dsn: str, logged: list[str]
) -> None:
    source = running.sources[0]
    writer.send(*["UPDATE t SET name = name || 'x' WHERE id = 1"] * 500)
    assert background.verify(source).verdict == "equal"
    writer.answer()
    assert kept(running) == "equal" and not logged
    with psycopg.connect(dsn) as connection:
        connection.execute("DELETE FROM t WHERE id = 77")
    report = background.verify(source)
    assert report.verdict == "different" and report.tables[0].missing == 1
    assert kept(running) == "different"
    shows = f"`mirror parity {source} --state-dir here` shows the rows"
    assert logged == [f"{source.name}: Postgres differs: 1 row in 1 table (t): {shows}"]
    proof = described(source_folder(running.state_dir, source))
    assert proof.by_itself and proof.headline == "different: 1 row in 1 table; compared 1 table, 2,000 rows"
    writer.run("UPDATE t SET name = 'repaired' WHERE id = 77")
    running.wait_applied()
    assert background.verify(source).verdict == "equal"
    with psycopg.connect(dsn) as connection:
        runs = connection.execute("SELECT verdict FROM mirror.parity_runs ORDER BY run_id").fetchall()
    assert runs == [("equal",), ("different",), ("equal",)]


def test_whoever_asks_goes_first(running: MirrorProcess, background: ParityWatch) -> None:
    """It neither holds up another comparison nor ends its hold."""
    source = running.sources[0]
    lock = ParityLock(source_folder(running.state_dir, source))
    assert lock.take(wait=True)
    with running.control() as gate:
        hold = gate.hold()
        report = background.verify(source)
        assert report.verdict == "not checked" and "another comparison is running" in report.reason
        assert running.status()["applied"] is not None
        gate.reach(hold, *_place(running))
        gate.release(hold)
    lock.close()
    assert kept(running) is None
    assert background.verify(source).verdict == "equal"


def test_a_hold_of_somebody_who_takes_no_lock(
    running: MirrorProcess, background: ParityWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left alone, and the next run goes on as if nothing had been."""
    source = running.sources[0]
    with running.control() as other:
        monkeypatch.setattr(verifier, "SHARE", 1.0)  # a hold does not last for ever
        hold = other.hold()
        report = background.verify(source)
        assert report.verdict == "not checked" and "another client holds it" in report.reason
        other.release(hold)
    lock = ParityLock(source_folder(running.state_dir, source))
    assert lock.take(wait=False)
    lock.close()
    assert background.verify(source).verdict == "equal"


def _place(mirror: MirrorProcess) -> tuple[Salts, int]:
    data = Path(f"{mirror.sources[0]}-wal").read_bytes()[:32]
    salts = Salts(int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))
    return salts, int(str(mirror.status()["applied"]).partition(":")[2])


def test_it_runs_by_itself_and_ends(
    running: MirrorProcess, background: ParityWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    monkeypatch.setattr(verifier, "FIRST_SECONDS", 0.0)
    verify = background.verify

    def noted(source: Path) -> None:
        verify(source)
        done.set()

    monkeypatch.setattr(background, "verify", noted)
    background.start()
    assert done.wait(LIMIT)
    background.stop()
    assert kept(running) == "equal"
    assert not any(thread.name == "mirror verifier" for thread in threading.enumerate())
