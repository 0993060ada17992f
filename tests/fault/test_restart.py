"""Whatever is killed, whenever: the mirror converges, loses nothing, applies nothing twice, never goes back."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from mirror.postgres.embedded import start_embedded
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, filling, put_in_place
from tests.support.waiting import LIMIT

FILL = filling("i, 'row ' || i, abs(random())")


@pytest.fixture
def filled(writer: Writer) -> Writer:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, v)", FILL.format(1, 2000))
    writer.run("CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID")
    return writer


def churn(writer: Writer, turn: int) -> None:
    """Work of every kind: what was just inserted is also deleted again."""
    writer.run(
        f"INSERT INTO t VALUES ({10_000 + turn}, 'new {turn}', {turn})",
        f"INSERT OR REPLACE INTO w VALUES ('{turn % 7}', {turn})",
        f"UPDATE t SET v = v + 1 WHERE id = {turn % 2000 + 1}",
        f"DELETE FROM t WHERE id = {10_000 + turn - 3}",
        f"DELETE FROM w WHERE k = '{(turn + 3) % 7}'",
    )


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("seam", "hit"),
    [
        ("snapshot:copied", 1),
        ("load:table", 1),
        ("load:before-commit", 1),
        ("load:after-commit", 1),
        ("apply:before-commit", 1),
        ("apply:before-commit", 5),
        ("apply:after-commit", 1),
        ("apply:after-commit", 7),
    ],
)
def test_killed_at_a_seam(mirror: MirrorProcess, filled: Writer, seam: str, hit: int) -> None:
    mirror.start(kill_at=seam, hit=hit, wait=False)
    turn = 0
    while mirror.alive:
        turn += 1
        churn(filled, turn)
    mirror.wait_killed()
    churn(filled, turn + 1)
    mirror.start()
    mirror.check()
    churn(filled, turn + 2)


@pytest.mark.few(1)
@pytest.mark.parametrize("seam", ["save:begun", "save:redo", "save:pages", "save:map", "save:position"])
def test_killed_in_a_save_of_the_shadow(mirror: MirrorProcess, filled: Writer, seam: str) -> None:
    mirror.save_pages = 300
    mirror.start(kill_at=seam)
    mirror.wait_applied()
    while mirror.alive:  # once should do, unless capture has lost track
        filled.run(*["INSERT INTO t VALUES (abs(random()), hex(randomblob(16)), randomblob(3000))"] * 1500)
        filled.run("DELETE FROM t WHERE id > 100000")
    mirror.wait_killed()
    churn(filled, 1)
    mirror.start()
    mirror.check()


@pytest.mark.few(1)
@pytest.mark.parametrize("seam", ["rediff:compared", "apply:before-commit", "apply:after-commit"])
def test_killed_in_a_comparison_after_a_gap(mirror: MirrorProcess, filled: Writer, seam: str) -> None:
    mirror.start()
    mirror.wait_applied()
    mirror.kill()
    churn(filled, 1)
    filled.run("PRAGMA wal_checkpoint(TRUNCATE)")
    churn(filled, 2)
    mirror.start(kill_at=seam, wait=False)
    mirror.wait_killed()
    filled.run("PRAGMA wal_checkpoint(TRUNCATE)")
    churn(filled, 3)
    mirror.start()
    mirror.check()
    assert mirror.status()["resyncs"] == []


def test_row_inserted_and_deleted_while_the_shadow_was_behind(mirror: MirrorProcess, filled: Writer) -> None:
    """Postgres has the row, the saved shadow does not, and the source no longer does."""
    mirror.start()
    mirror.wait_applied()
    filled.run("INSERT INTO t VALUES (99999, 'short-lived', 1)")
    mirror.wait_applied()
    mirror.kill()
    filled.run("DELETE FROM t WHERE id = 99999", "PRAGMA wal_checkpoint(TRUNCATE)")
    filled.run("INSERT INTO t VALUES (100000, 'after', 1)")
    mirror.start()
    mirror.check()
    assert mirror.status()["resyncs"] == []


def test_killed_ten_times_under_load(mirror: MirrorProcess, filled: Writer) -> None:
    turn = 0
    for _ in range(10):
        mirror.start()
        for _ in range(20):
            turn += 1
            churn(filled, turn)
        mirror.kill()
        turn += 1
        churn(filled, turn)
    mirror.start()
    mirror.check()


def test_capture_killed(mirror: MirrorProcess, filled: Writer) -> None:
    mirror.start()
    mirror.wait_applied()
    assert mirror._process is not None
    for turn in range(5):
        (capture,) = psutil.Process(mirror._process.pid).children()
        capture.send_signal(signal.SIGKILL)
        churn(filled, turn)
        mirror.wait_applied()
    assert mirror.status()["gaps"] == []


def test_a_signal_to_the_whole_group(mirror: MirrorProcess, filled: Writer, folder: Path) -> None:
    """As `timeout` and service managers send it: capture may have it first, and is stopped by the mirror alone."""
    mirror.log = folder / "log"
    mirror.start()
    mirror.wait_applied()
    (capture,) = psutil.Process(mirror.pid).children()
    for number in (signal.SIGTERM, signal.SIGINT):
        capture.send_signal(number)
    churn(filled, 1)
    mirror.wait_applied()
    assert mirror.capture_pid == capture.pid and mirror.status()["interruptions"] == 0
    capture.send_signal(signal.SIGTERM)
    assert mirror.stop() == 0
    capture.wait(LIMIT)
    assert "it has ended" not in mirror.log.read_text()


def test_capture_ends_with_its_mirror(mirror: MirrorProcess, filled: Writer) -> None:
    mirror.start()
    mirror.wait_applied()
    assert mirror._process is not None
    (capture,) = psutil.Process(mirror._process.pid).children()
    mirror.kill()
    capture.wait(LIMIT)


def test_writer_killed_inside_a_transaction(mirror: MirrorProcess, filled: Writer, database: Path) -> None:
    mirror.start()
    other = Writer(database)
    other.run("PRAGMA cache_size=5", "BEGIN", FILL.format(5000, 20_000))
    other.kill()
    churn(filled, 1)
    mirror.check()


@pytest.mark.few(1)
@pytest.mark.parametrize("checkpoint", ["PASSIVE", "RESTART", "TRUNCATE"])
def test_wal_reset_while_the_mirror_was_down(mirror: MirrorProcess, filled: Writer, checkpoint: str) -> None:
    mirror.start()
    mirror.wait_applied()
    mirror.kill()
    for turn in range(3):
        churn(filled, turn)
        filled.run(f"PRAGMA wal_checkpoint({checkpoint})")
    churn(filled, 9)
    mirror.start()
    mirror.check()
    assert mirror.status()["resyncs"] == []


def test_wal_deleted_while_the_mirror_was_down(make_mirror: Callable[..., MirrorProcess], database: Path) -> None:
    with Writer(database) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, v)")
        writer.run(FILL.format(1, 100))
        mirror = make_mirror(database)
        mirror.start()
        mirror.wait_applied()
        mirror.kill()
    assert not Path(f"{database}-wal").exists()
    with Writer(database) as writer:
        writer.run("DELETE FROM t WHERE id < 50")
        mirror.start()
        mirror.check()


def test_page_size_changed_while_the_mirror_was_down(make_mirror: Callable[..., MirrorProcess], database: Path) -> None:
    with Writer(database) as writer:
        writer.run(
            "PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 2)"
        )
        mirror = make_mirror(database)
        mirror.start()
        mirror.wait_applied()
        mirror.stop()
        writer.run("PRAGMA journal_mode=DELETE", "PRAGMA page_size=512", "VACUUM", "PRAGMA journal_mode=WAL")
        mirror.start()
        mirror.check()


def test_clean_stop_and_start_needs_no_comparison(mirror: MirrorProcess, filled: Writer) -> None:
    mirror.start()
    churn(filled, 1)
    mirror.wait_applied()
    assert mirror.stop() == 0
    churn(filled, 2)
    mirror.start()
    mirror.check()
    status = mirror.status()
    assert (status["gaps"], status["resyncs"]) == ([], [])


@pytest.mark.few(1)
@pytest.mark.parametrize("opened", [False, True])
def test_restart_while_nothing_was_written_is_no_gap(
    make_mirror: Callable[..., MirrorProcess], database: Path, opened: bool
) -> None:
    """A program's clean end leaves no WAL that could prove it; the comparison does, and finds nothing different."""
    with Writer(database) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, v)")
        writer.run(FILL.format(1, 1000))
    mirror = make_mirror(database)
    for _ in range(3):
        mirror.start()
        mirror.check()
        status = mirror.status()
        assert (status["gaps"], status["resyncs"][1:]) == ([], [])
        assert mirror.stop() == 0
        if opened:
            with Writer(database) as writer:
                writer.run("SELECT count(*) FROM t")
            assert not Path(f"{database}-wal").exists()


def test_a_write_that_the_header_does_not_tell_of(make_mirror: Callable[..., MirrorProcess], database: Path) -> None:
    """In WAL mode the change counter moves only when page 1 is written for another reason: it proves nothing."""
    with Writer(database) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
        writer.run("INSERT INTO t VALUES (1, 'before')")
    mirror = make_mirror(database)
    mirror.start()
    mirror.check()
    mirror.stop()
    before = os.stat(database), database.read_bytes()[:100]
    with Writer(database) as writer:
        writer.run("UPDATE t SET v = 'behind'")
    after = os.stat(database), database.read_bytes()[:100]
    assert (before[0].st_ino, before[0].st_size, before[1]) == (after[0].st_ino, after[0].st_size, after[1])
    mirror.start()
    mirror.check()
    assert len(mirror.status()["gaps"]) == 1


@pytest.fixture
def own_server(folder: Path) -> Iterator[Callable[[str], str]]:
    """A Postgres of the test's own, to stop, kill and start."""
    servers = [start_embedded(folder / "pg")] if (folder / "pg").mkdir() is None else []

    def control(action: str) -> str:
        if action == "stop":
            servers.pop().stop()
        elif action == "kill":
            # Postgres' own crash test: all its processes at once, then recovery.
            family = psutil.Process(servers[0].pid)
            processes = [*family.children(recursive=True), family]
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, LIMIT)
            servers.pop()
        if not servers and action == "start":
            servers.append(start_embedded(folder / "pg"))
        return servers[0].dsn if servers else ""

    yield control
    if servers:
        servers.pop().stop()


@pytest.mark.few(1)
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_postgres_restarted(
    own_server: Callable[[str], str], filled: Writer, database: Path, folder: Path, how: str
) -> None:
    mirror = MirrorProcess([database], own_server("dsn"), folder / "state")
    try:
        mirror.start()
        mirror.wait_applied()
        for turn in range(3):
            own_server(how)
            for step in range(30):
                churn(filled, 100 * turn + step)
            own_server("start")
            mirror.check()
        status = mirror.status()
        assert (status["gaps"], status["resyncs"][1:]) == ([], [])
    finally:
        mirror.end()


def test_postgres_lost_its_database(mirror: MirrorProcess, filled: Writer, dsn: str) -> None:
    """A database restored from an old backup, here an empty one: the mirror loads it again."""
    mirror.start()
    mirror.wait_applied()
    mirror.stop()
    churn(filled, 1)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("DROP SCHEMA mirror CASCADE")
    mirror.last_position.clear()
    mirror.start()
    mirror.check()


@pytest.mark.few(1)
@pytest.mark.parametrize("lost", ["", "spool", "shadow.db", "shadow.map", "shadow.json"])
def test_state_directory_lost(mirror: MirrorProcess, filled: Writer, lost: str) -> None:
    mirror.start()
    mirror.wait_applied()
    mirror.stop()
    churn(filled, 1)
    for folder in (mirror.state_dir / "sources").iterdir():
        target = folder / lost
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    churn(filled, 2)
    mirror.start()
    mirror.check()


@pytest.mark.few(1)
@pytest.mark.parametrize("seam", ["snapshot:copied", "load:table", "load:before-commit", "load:after-commit"])
def test_killed_while_it_copies_once_more(mirror: MirrorProcess, filled: Writer, seam: str) -> None:
    """Postgres has an older copy; the new one counts only at the very end."""
    mirror.start()
    mirror.wait_applied()
    mirror.stop()
    for folder in (mirror.state_dir / "sources").iterdir():
        (folder / "shadow.json").unlink()
    churn(filled, 1)
    mirror.start(kill_at=seam, wait=False)
    mirror.wait_killed()
    churn(filled, 2)
    mirror.start()
    mirror.check()


def test_source_replaced_by_an_older_copy(mirror: MirrorProcess, filled: Writer, database: Path, folder: Path) -> None:
    filled.run("PRAGMA wal_checkpoint(TRUNCATE)")
    backup = folder / "backup.db"
    subprocess.run(["cp", database, backup], check=True)
    mirror.start()
    mirror.wait_applied()
    churn(filled, 1)
    mirror.wait_applied()
    filled.close()
    put_in_place(backup, database)
    with Writer(database) as writer:
        writer.run("INSERT INTO t VALUES (77777, 'in the restored file', 1)")
        mirror.check()


@pytest.mark.slow
def test_a_stop_cuts_a_copy_short(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, v)", FILL.format(1, 300_000))
    mirror.stop_seconds = None
    mirror.start()
    assert mirror.stop() in (0, 3)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT to_regclass('public.t')").fetchone() == (None,)
    mirror.start()
