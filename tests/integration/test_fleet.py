"""Many sources in one process: few threads and sessions, and sources that come, go and pause while it runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from mirror.core.errors import PausedError, StateError
from mirror.core.folders import known_sources, resolve
from mirror.postgres import keeper
from mirror.postgres.profiles import PROFILES
from mirror.postgres.sink import Sink
from mirror.sidecar.crew import WORKERS
from mirror.sidecar.seats import MOST_SESSIONS
from tests.support.commands import CommandLine, stop
from tests.support.mirrors import MirrorProcess
from tests.support.proxy import Proxy
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

Make = Callable[..., MirrorProcess]
#: Sessions of a mirror besides those of sources: the keeper's, and one that a thread may be opening or closing.
OTHER_SESSIONS = 3
#: Threads besides those that work for sources.
OTHER_THREADS = 12


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture
def writers(folder: Path) -> Iterator[Callable[[int], list[Writer]]]:
    """Makes the programs of so many sources ``s0.db``, each with a table of its own."""
    made: list[Writer] = []

    def make(number: int) -> list[Writer]:
        for at in range(number):
            writer = Writer(folder / f"s{at}.db")
            made.append(writer)
            writer.run("PRAGMA journal_mode=WAL", f"CREATE TABLE item_{at}(id INTEGER PRIMARY KEY, v TEXT)")
            insert(writer, at, "first")
        return made

    yield make
    for writer in made:
        writer.close()


def insert(writer: Writer, at: int, value: str) -> None:
    writer.run(f"INSERT INTO item_{at}(v) VALUES ('{value}')")


def has(conn: psycopg.Connection[tuple[object, ...]], at: int, value: str) -> bool:
    """Whether Postgres shows a row."""
    return conn.execute(f"SELECT 1 FROM item_{at} WHERE v = %s".encode(), (value,)).fetchone() is not None


def sessions(conn: psycopg.Connection[tuple[object, ...]], name: str = "mirror%") -> list[int]:
    """The sessions of mirrors in this database, by the ids of their server processes."""
    query = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE %s AND state"
        " IS NOT NULL"
    )
    return [int(str(row[0])) for row in conn.execute(query, (name,))]


# -- many ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_few_sessions_and_threads(
    number: int, writers: Callable[[int], list[Writer]], make_mirror: Make, folder: Path, dsn: str
) -> None:
    """All are followed; while a table of one is locked, the others are mirrored; the bounds hold all the time."""
    made = writers(number)
    mirror = make_mirror(*(folder / f"s{at}.db" for at in range(number)))
    mirror.start(wait=False)
    with psycopg.connect(dsn, autocommit=True) as conn, psycopg.connect(dsn) as other:
        most = 0

        def look() -> None:
            nonlocal most
            most = max(most, len(sessions(conn)))

        for source in mirror.sources:
            with mirror.control(source) as client:
                assert client.wait(LIMIT), client.status()
            look()
        other.execute("LOCK TABLE item_0 IN EXCLUSIVE MODE")
        insert(made[0], 0, "stuck")
        for at in range(1, number):
            insert(made[at], at, "second")
            look()
        for at in range(1, number):
            until(lambda at=at: has(conn, at, "second"))  # type: ignore[misc]
            look()
        assert not has(conn, 0, "stuck")
        threads = psutil.Process(mirror.pid).num_threads()
        other.rollback()
        until(lambda: has(conn, 0, "stuck"))
    assert most <= MOST_SESSIONS + OTHER_SESSIONS
    # Those that work; one for each that is stuck or slow, which has a session; those that watch and accept, and so on.
    assert threads <= WORKERS + MOST_SESSIONS + OTHER_THREADS
    until(lambda: psutil.Process(mirror.pid).num_threads() <= WORKERS + OTHER_THREADS)


def test_the_session_that_keeps_the_locks_ends(
    writers: Callable[[int], list[Writer]], make_mirror: Make, folder: Path, dsn: str
) -> None:
    """Its sources are taken again, and mirrored on; no other mirror gets one meanwhile or afterwards."""
    number = MOST_SESSIONS + 4
    made = writers(number)
    mirror = make_mirror(*(folder / f"s{at}.db" for at in range(number)))
    mirror.start()
    mirror.wait_applied()
    with psycopg.connect(dsn, autocommit=True) as conn:
        (keeper,) = until(lambda: sessions(conn, "mirror keeper"))
        conn.execute("SELECT pg_terminate_backend(%s)", (keeper,))
        for at in range(number):
            insert(made[at], at, "second")
        mirror.wait_applied()
        for at in range(number):
            assert has(conn, at, "second")


def test_a_second_mirror_is_refused_whoever_has_the_lock(
    writers: Callable[[int], list[Writer]], make_mirror: Make, folder: Path, dsn: str
) -> None:
    number = MOST_SESSIONS + 2
    writers(number)
    mirror = make_mirror(*(folder / f"s{at}.db" for at in range(number)))
    mirror.start()
    mirror.wait_applied()
    with psycopg.connect(dsn, autocommit=True) as conn:
        kept = {row[0] for row in conn.execute("SELECT backend FROM mirror.sources")}
        assert len(kept) < number, "none is kept by a session that others share"
    second = make_mirror(*mirror.sources, state="other")
    second.log = folder / "second.log"
    second.start(wait=False)
    assert second.ends_within(LIMIT)
    assert second.log.read_text().count("another mirror holds it") >= number


def test_one_that_cannot_hand_its_lock_over_holds_up_no_other(
    writers: Callable[[int], list[Writer]], make_mirror: Make, folder: Path, dsn: str
) -> None:
    """Its row in mirror.sources is locked while it rests with a session that others want."""
    number = MOST_SESSIONS + 6
    made = writers(number)
    mirror = make_mirror(*(folder / f"s{at}.db" for at in range(number)))
    mirror.start()
    mirror.wait_applied()
    with psycopg.connect(dsn, autocommit=True) as conn, psycopg.connect(dsn) as other:
        insert(made[0], 0, "second")
        until(lambda: has(conn, 0, "second"))
        other.execute("SELECT 1 FROM mirror.sources WHERE path = %s FOR UPDATE", (str(resolve(folder / "s0.db")),))
        for turn in range(3):  # each wants more sessions than there are others
            for at in range(1, number):
                insert(made[at], at, f"turn {turn}")
            for at in range(1, number):
                until(lambda at=at, turn=turn: has(conn, at, f"turn {turn}"))  # type: ignore[misc]
        other.rollback()


def test_a_session_that_keeps_locks_and_does_not_answer(
    writers: Callable[[int], list[Writer]], make_mirror: Make, folder: Path, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is cut, and who waits for it goes on; it keeps nothing any more."""
    writers(1)
    mirror = make_mirror(folder / "s0.db")
    mirror.start()
    mirror.wait_applied()
    mirror.stop()
    monkeypatch.setattr(keeper, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(keeper, "LOOK_SECONDS", 0.01)
    with Proxy(dsn) as way:
        path = str(resolve(folder / "s0.db"))
        sink = Sink.open(dsn, path, "public", PROFILES)
        kept = keeper.Keeper(way.dsn)
        assert sink.rest(kept) and kept.keeps(sink.source_id)
        way.hang()
        dropping = threading.Thread(target=kept.drop, args=(sink.source_id,))
        dropping.start()
        way.swallowed.wait(LIMIT)
        until(lambda: not kept.keeps(sink.source_id) and not dropping.is_alive())
        kept.close()


# -- paused --------------------------------------------------------------------------------------------


def test_paused_under_writes(writers: Callable[[int], list[Writer]], make_mirror: Make, folder: Path, dsn: str) -> None:
    """Also killed in the pause, and started again: nothing is mirrored until it is resumed; then all of it."""
    first, second = writers(2)
    sources = [folder / "s0.db", folder / "s1.db"]
    mirror = make_mirror(*sources)
    mirror.start()
    mirror.wait_applied()
    with psycopg.connect(dsn, autocommit=True) as conn:
        for killed in (False, True):
            with mirror.control(sources[0]) as client:
                client.pause()
                assert client.status().phase == "paused"
                with pytest.raises(PausedError):
                    client.wait(1.0)
            insert(first, 0, f"paused {killed}")
            insert(second, 1, f"not paused {killed}")
            until(lambda killed=killed: has(conn, 1, f"not paused {killed}"))  # type: ignore[misc]
            if killed:
                mirror.kill()
                first.run("PRAGMA wal_checkpoint(TRUNCATE)")
                insert(first, 0, "while it was down")
                mirror.start()
                mirror.status_when(lambda status: status["phase"] == "paused", sources[0])
                other = make_mirror(sources[0], state="other")
                other.log = folder / "other.log"
                until(lambda: len(sessions(conn, "mirror keeper")) == 1)
                other.start(wait=False)
                assert other.ends_within(LIMIT) and "another mirror holds it" in other.log.read_text()
            assert not has(conn, 0, f"paused {killed}")
            with mirror.control(sources[0]) as client:
                client.resume()
            mirror.wait_applied()
            assert has(conn, 0, f"paused {killed}")
    assert not mirror.status_when(lambda status: status["phase"] == "following", sources[0])["resyncs"]


def test_paused_while_none_runs(
    cli: CommandLine, writers: Callable[[int], list[Writer]], folder: Path, dsn: str
) -> None:
    """The next mirror begins so, and says so; ``--once`` does not wait for it."""
    (writer,) = writers(1)
    source = folder / "s0.db"
    assert cli.run("up", source, "--once").code == 0
    assert "is paused" in cli.run("pause", source).out
    insert(writer, 0, "second")
    assert cli.run("up", source, "--once").code == 0
    (report,) = json.loads(cli.run("status", "--json").out)["sources"]
    assert report["phase"] == "paused" and any("mirror resume" in step for step in report["next_steps"])
    done = json.loads(cli.run("resume", source, "--json").out)["sources"]
    assert [(each["outcome"], each["running"]) for each in done] == [("resumed", False)]
    assert cli.run("up", source, "--once").code == 0
    with psycopg.connect(dsn) as conn:
        assert has(conn, 0, "second")


# -- added and removed ---------------------------------------------------------------------------------


def test_added_and_removed(cli: CommandLine, writers: Callable[[int], list[Writer]], folder: Path, dsn: str) -> None:
    """By commands: what is added is mirrored; what is removed is not, its tables stay, and it can be added again."""
    made = writers(2)
    sources = [folder / "s0.db", folder / "s1.db"]
    process = cli.start("up", sources[0])
    assert cli.run("wait", sources[0], "--timeout", 60).code == 0
    assert "is mirrored from now on" in cli.run("add", sources[1]).out
    assert cli.run("wait", sources[1], "--timeout", 60).code == 0
    assert cli.run("add", sources[1]).code == 0, "twice is as good as once"
    done = cli.run("remove", sources[0])
    assert done.code == 0 and "its tables in Postgres stay" in done.out
    for at in range(2):
        insert(made[at], at, "second")
    assert cli.run("wait", sources[1], "--timeout", 60).code == 0
    with psycopg.connect(dsn, autocommit=True) as conn:
        assert has(conn, 0, "first") and not has(conn, 0, "second") and has(conn, 1, "second")
        assert resolve(sources[0]) not in known_sources(cli.state_dir)
        assert cli.run("add", sources[0]).code == 0
        assert cli.run("wait", sources[0], "--timeout", 60).code == 0
        assert has(conn, 0, "second")
    for source in sources:
        assert cli.run("parity", source).code == 0
    assert "is not mirrored" in cli.run("pause", folder / "none.db").error
    stop(process)
    done = cli.run("add", sources[0])
    assert done.code == 3 and "no mirror runs" in done.err


def test_removed_while_its_table_is_locked(
    cli: CommandLine, writers: Callable[[int], list[Writer]], folder: Path, dsn: str
) -> None:
    """It is none of the sources from then on; it can be added again when what was under way has ended."""
    made = writers(2)
    sources = [folder / "s0.db", folder / "s1.db"]
    process = cli.start("up", *sources)
    for source in sources:
        assert cli.run("wait", source, "--timeout", 60).code == 0
    with psycopg.connect(dsn) as other, psycopg.connect(dsn, autocommit=True) as conn:
        other.execute("LOCK TABLE item_0 IN ACCESS EXCLUSIVE MODE")
        insert(made[0], 0, "second")
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'item_0'::regclass"
        until(lambda: conn.execute(waiting).fetchone() is not None)
        assert cli.run("remove", sources[0]).code == 0
        assert cli.run("add", sources[0]).code == 2, "it has its folder still"
        other.rollback()
        until(lambda: cli.run("add", sources[0]).code == 0)
        insert(made[0], 0, "third")
        until(lambda: has(conn, 0, "third"))
        assert has(conn, 0, "second")
    for source in sources:
        assert cli.run("parity", source).code == 0
    assert "is mirrored into the schema public" in cli.run("add", sources[0], "--schema", "another").error
    stop(process)


def test_many_commands_at_once(cli: CommandLine, writers: Callable[[int], list[Writer]], folder: Path) -> None:
    """Each changes mirror.json as the one before has left it, and leaves its rights."""
    number = 6
    writers(number)
    config = folder / "mirror.json"
    config.write_text('{"sources": []}')
    config.chmod(0o644)
    sources = [folder / f"s{at}.db" for at in range(number)]

    def listed() -> set[Path]:
        return {
            resolve(Path(each if isinstance(each, str) else each["path"]))
            for each in json.loads(config.read_text())["sources"]
        }

    for command, wanted in (("add", set(map(resolve, sources))), ("remove", set())):
        with ThreadPoolExecutor(number) as pool:
            done = list(pool.map(lambda source, command=command: cli.run(command, source, "--config", config), sources))  # type: ignore[misc]
        assert [each.code for each in done] == [0] * number, done
        assert listed() == wanted
    assert config.stat().st_mode & 0o777 == 0o644


def test_by_an_edit_of_mirror_json(cli: CommandLine, writers: Callable[[int], list[Writer]], folder: Path) -> None:
    """The mirror follows the list; and the commands change it, so that a restart has the same sources."""
    writers(3)
    sources = [str(folder / f"s{at}.db") for at in range(3)]
    config = folder / "mirror.json"

    def listed() -> list[str]:
        return [each if isinstance(each, str) else each["path"] for each in json.loads(config.read_text())["sources"]]

    config.write_text(json.dumps({"sources": sources[:2]}))
    flags = ("--config", config)
    process = cli.start("up", *flags)
    for source in sources[:2]:
        assert cli.run("wait", source, *flags, "--timeout", 60).code == 0
    config.write_text(json.dumps({"sources": [sources[0], sources[2]]}))
    until(lambda: cli.run("wait", sources[2], *flags, "--timeout", 60).code == 0)
    until(lambda: resolve(sources[1]) not in known_sources(cli.state_dir))
    assert cli.run("wait", sources[1], *flags, "--timeout", 0.1).code == 3
    assert cli.run("wait", sources[0], *flags, "--timeout", 60).code == 0
    assert cli.run("remove", sources[0], *flags).code == 0 and listed() == sources[2:]
    assert cli.run("add", sources[1], *flags).code == 0
    assert [str(resolve(path)) for path in listed()] == [str(resolve(sources[2])), str(resolve(sources[1]))]
    for source in sources[1:]:
        assert cli.run("wait", source, *flags, "--timeout", 60).code == 0
    stop(process)


def test_one_that_cannot_be_added(
    writers: Callable[[int], list[Writer]], make_mirror: Make, folder: Path, dsn: str
) -> None:
    """Its error is the answer, and nothing else changes."""
    writers(2)
    first, second = (make_mirror(folder / f"s{at}.db") for at in range(2))
    first.start()
    second.start()
    first.wait_applied()
    with first.control() as client, pytest.raises(StateError, match="another mirror of it is running"):
        client.add(folder / "s1.db")
    first.status_when(lambda status: status["phase"] == "following")
