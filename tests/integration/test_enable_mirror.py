"""``enable_mirror()`` in a program of its own: on APSW with hooks, on ``sqlite3`` without, with a real sidecar."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from textwrap import indent
from typing import Any

import msgspec
import psycopg
import pytest

from mirror.core.status import StatusReport
from tests.support.gateway import Gateway
from tests.support.source import Writer
from tests.support.waiting import LIMIT, ended, until

README = Path(__file__).parents[2] / "README.md"

TABLES = """
c = connect(PATH)
c.execute("PRAGMA journal_mode=MODE").fetchall()
c.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, r REAL)")
c.execute("CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID")
c.close()
"""

#: A dozen threads, each with its own connection and agent.
WORK = """
def work(number):
    c = connect(PATH)
    c.execute("PRAGMA synchronous=NORMAL").fetchall()
    with mirror.as_agent(f"agent {number % 3}"):
        for i in range(ROUNDS):
            c.execute("INSERT INTO t(v, r) VALUES (?, ?)", (f"{number}/{i}", float(i)))
            c.execute("BEGIN IMMEDIATE")
            c.execute("UPDATE t SET v = v || '!' WHERE id = (SELECT max(id) - ? FROM t)", (i % 5,))
            c.execute("INSERT OR REPLACE INTO w VALUES (?, ?)", (f"k{i % 7}", i))
            if i % 4 == 0:
                c.execute("SAVEPOINT s")
                c.execute("DELETE FROM w")
                c.execute("ROLLBACK TO s")
            c.execute("COMMIT")
            if i % 9 == 0:
                c.execute("DELETE FROM t WHERE id = (SELECT max(id) - ? FROM t)", (i % 5,))
    c.close()

threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def code(text: str, path: Path, *, mode: str = "wal", rounds: int = 40) -> str:
    return text.replace("PATH", repr(str(path))).replace("MODE", mode).replace("ROUNDS", str(rounds))


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def change_counter(database: Path) -> int:
    """As the file's header has it: it counts commits."""
    return int.from_bytes(database.read_bytes()[24:28], "big")


def writes(dsn: str, commits: int) -> dict[tuple[str, int], int]:
    """Commits by agent and process, once so many are written down, which is done about once a second."""
    query = "SELECT agent, pid, sum(commits)::int FROM mirror.writes GROUP BY 1, 2"
    found: list[tuple[Any, ...]] = []

    def all_of_them() -> bool:
        found[:] = rows(dsn, query)
        return sum(number for *_, number in found) >= commits

    until(all_of_them)
    return {(agent, pid): number for agent, pid, number in found}


@pytest.fixture(params=["apsw", "sqlite3"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.few(1)
def test_a_dozen_threads(database: Path, dsn: str, driver: str) -> None:
    """All is captured; on APSW each commit is reported, checked against the WAL, and whose it was is known."""
    with Gateway(database, dsn, driver=driver) as program:
        program.do(code(TABLES, database))
        program.enable()
        program.do(code(TABLES.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS "), database))
        if driver == "apsw":
            program.do(f"open_one = connect({str(database)!r})")
            program.await_hook()
            # Not all need be reported: what that may cost has a limit, which is reached sooner on a busy machine.
            program.do("from mirror.hook import budget; budget.SHARE = budget.BURST = 1000.0")
        program.do(code(WORK, database))
        program.check()
        status = program.do("answer = m.status()")
        assert status["error"] is None and status["hook"]["failures"] == 0
        if driver == "sqlite3":
            assert "no hooks" in status["hook"]["how"]
            assert program.do("import sys; answer = 'apsw' in sys.modules") is False, "one copy of SQLite in a process"
            return
        hook = program.await_checked()
        assert status["hook"]["let_go"] == 0 and hook["checked"] > 100, (status, hook)
        assert program.status()["discrepancies"] == 0
        assert set(writes(dsn, hook["checked"])) == {(f"agent {n}", program.pid) for n in range(3)}


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_killed_on_either_side(database: Path, dsn: str, mode: str) -> None:
    """The program in the midst of its work, then the sidecar in the midst of the next one's: nothing is lost."""
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database, mode=mode))
        program.enable(sidecar="outlives")
        program.begin(code(WORK, database, rounds=100_000))
        what = "checked" if mode == "wal" else "applied"
        program.status_when(lambda status: status["hook"].get(what, 0) >= 20)
        program.kill()
        with Gateway(database, dsn) as second:
            second.enable(sidecar="outlives")
            first = second.sidecar_pid()
            second.begin(code(WORK, database, rounds=20))
            os.kill(first, signal.SIGKILL)
            second.end()
            second.do("answer = m.wait(200)")
            assert second.sidecar_pid() != first, "another was started"
            second.check()
            assert second.status()["discrepancies"] == 0
            second.do(code(WORK, database, rounds=2))


def test_a_planted_disagreement_is_recorded(database: Path, dsn: str) -> None:
    """The hook's rows are falsified: one value, one row too many, one too few."""
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database))
        program.enable()
        program.do(f"c = connect({str(database)!r}); c.execute('INSERT INTO t VALUES (1, NULL, 0.0)')")
        program.await_hook()
        program.do("""
            from msgspec import msgpack
            from mirror.hook import outbox
            put = outbox.Outbox.put
            def falsify(self, message, size):
                if message[0] == "commit" and message[4]:
                    row = msgpack.decode(message[4][0])
                    kind = row[5][0] if row[5] else 0
                    if kind == 2: row[5] = (2, "false", 0.0)
                    found = [msgpack.encode(row)]
                    if kind == 3: found.append(msgpack.encode(("INSERT", "t", 99, 99, None, (99, "never", 0.0))))
                    if kind == 4: found = found[1:]
                    message = (*message[:4], found if kind in (2, 3, 4) else message[4])
                put(self, message, size)
            outbox.Outbox.put = falsify
        """)
        for number, key in enumerate((2, 3, 4)):
            # A commit that the hook rests for, or tells of too late, is not checked: then once more.
            while program.status()["discrepancies"] <= number:
                program.do(f"c.execute('DELETE FROM t WHERE id = {key}')")
                program.check()
                program.do(f"c.execute(\"INSERT INTO t VALUES ({key}, 'right', 0.0)\")")
                program.check()
                program.await_checked()
        found = rows(dsn, "SELECT source_table, key, kind, wal, hook, writer FROM mirror.discrepancies ORDER BY key")
        right = [f'[{i},"right",0.0]' for i in (2, 4)]
        assert [found_[:5] for found_ in found] == [
            ("t", "[2]", "different", right[0], '[2,"false",0.0]'),
            ("t", "[4]", "only the WAL", right[1], None),
            ("t", "[99]", "only the hook", None, '[99,"never",0.0]'),
        ]
        assert str(program.pid) in found[0][5]
        assert any("mirror.discrepancies" in step for step in program.status()["next_steps"])


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_without_the_preupdate_hook(database: Path, dsn: str, mode: str) -> None:
    """As where SQLite was built without it: the update hook's keys are checked against the WAL; who wrote is known.

    Without a WAL the values are read by comparing pages.
    """
    with Gateway(database, dsn) as program:
        program.do(code("import apsw; del apsw.PreUpdate\n" + TABLES, database, mode=mode))
        program.enable()
        program.do(f"c = connect({str(database)!r}); c.execute('INSERT INTO t VALUES (1, NULL, 0.0)')")
        program.await_hook()
        program.do("""
            from mirror.hook import budget
            budget.SHARE = budget.BURST = 1000.0  # that all are reported
            with mirror.as_agent("maya"):
                for i in range(100):
                    c.execute("INSERT OR REPLACE INTO t(id, v) VALUES (?, ?)", (i % 30, i))
                    c.execute("UPDATE t SET r = ? WHERE id = ?", (i, i % 7))
                    if i % 3 == 0: c.execute("DELETE FROM t WHERE id = ?", (i % 11,))
        """)
        program.check()
        status = program.do("answer = m.status()")
        assert "keys" in status["hook"]["how"] and status["hook"]["failures"] == status["hook"]["with_rows"] == 0
        assert program.status()["discrepancies"] == 0
        if mode == "delete":
            assert program.status()["capture"] == "pages" and program.status()["hook"]["applied"] == 0
            return
        hook = program.await_checked()
        assert hook["checked"] > 100, hook
        assert ("maya", program.pid) in writes(dsn, 100)
        program.do(code(WORK, database, rounds=20))
        program.check()
        program.await_checked()
        assert program.status()["discrepancies"] == 0
        program.do("""
            from mirror.hook import outbox
            put = outbox.Outbox.put
            def falsify(self, message, size):
                if message[0] == "commit" and message[4]:
                    message = (*message[:4], message[4][1:])
                put(self, message, size)
            outbox.Outbox.put = falsify
            c.execute("INSERT INTO t VALUES (7777, 'x', 0.0), (7778, 'y', 0.0)")
        """)
        program.status_when(lambda status: status["discrepancies"] >= 1)
        found = rows(dsn, "SELECT source_table, key, kind, wal, hook FROM mirror.discrepancies")
        assert found == [("t", "[7777]", "only the WAL", '[7777,"x",0.0]', None)]
        program.check()


def test_a_file_without_a_wal_is_kept_equal_by_the_hook_alone(database: Path, dsn: str) -> None:
    """200 commits a second, for some seconds: no page is compared, and nothing differs when they are at last.

    On a busy machine rows may come later than the mirror waits for them, or while a comparison that began before the
    part still reads pages; such a part does not count.
    """
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database, mode="delete"))
        program.enable()
        program.do(f"c = connect({str(database)!r}); c.execute('INSERT INTO t VALUES (1, NULL, 0.0)')")
        program.await_hook()
        program.check()
        first, begun = program.status(), change_counter(database)
        program.do("""
            import time
            def work(numbers):
                begun = time.monotonic()
                for i in numbers:
                    c.execute("INSERT INTO t(v, r) VALUES (?, ?)", (f"row {i}", i / 3))
                    if i % 3 == 0: c.execute("UPDATE t SET v = v || '!' WHERE id = ?", (i // 2,))
                    if i % 5 == 0: c.execute("DELETE FROM t WHERE id = ?", (i // 3,))
                    if i % 7 == 0: c.execute("INSERT OR REPLACE INTO w VALUES (?, ?)", (f"k{i % 4}", i))
                    time.sleep(max(0.0, begun + (i - numbers.start) / 160 - time.monotonic()))
        """)
        by_hook = part = 0
        while by_hook < 1000:
            assert part < 100, "pages are compared all the time"
            before, counter = program.status(), change_counter(database)
            program.do(f"work(range({100 * part}, {100 * part + 100}))")
            part += 1
            with program.control() as client:
                assert client.wait(LIMIT)
            status = program.status()
            applied, made = status["hook"]["applied"] - before["hook"]["applied"], change_counter(database) - counter
            # In all: the figure may come a moment after what it counts, and then counts for the next part.
            assert status["hook"]["applied"] - first["hook"]["applied"] <= change_counter(database) - begun
            if status["comparisons"] == before["comparisons"] and applied == made:
                by_hook += applied
        assert status["capture"] == "pages"
        program.check()
        status = program.status_when(lambda now: now["comparisons"] != status["comparisons"])
        assert status["discrepancies"] == 0 and status["resyncs"] == first["resyncs"]


def test_a_file_without_a_wal_and_programs_without_a_hook(database: Path, dsn: str) -> None:
    """Where they write in between, pages are compared: also rows come right that only the hook knew of."""
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database, mode="delete"))
        program.enable()
        program.do(f"c = connect({str(database)!r})")
        program.await_hook()
        with Writer(database) as stranger:
            for turn in range(4):
                program.do(f"""
                    for i in range(20):
                        c.execute("INSERT INTO t VALUES (?, 'mine', 1)", ({turn} * 100 + i,))
                    c.execute("UPDATE t SET v = 'changed' WHERE id % 7 = 0")
                    c.execute("INSERT OR REPLACE INTO w VALUES ('k', {turn})")
                """)
                stranger.run(
                    f"DELETE FROM t WHERE id = {turn * 100 + 3}",  # the pages compared last do not know it
                    f"UPDATE t SET v = 'theirs', id = id + 50 WHERE id = {turn * 100 + 7}",
                    "DELETE FROM w" if turn % 2 else "INSERT OR REPLACE INTO w VALUES ('l', 1)",
                )
                program.check()
            stranger.run("ALTER TABLE t ADD COLUMN n DEFAULT 5")
            program.do(f"c = connect({str(database)!r}); c.execute(\"INSERT INTO t VALUES (9000, 'new', 1, 2)\")")
            program.check()
            stranger.run(
                "CREATE TABLE u(id INTEGER PRIMARY KEY)", "INSERT INTO u VALUES (1)",
                "CREATE TABLE cased(k TEXT PRIMARY KEY COLLATE NOCASE, v) WITHOUT ROWID",
                "CREATE TABLE computed(id INTEGER PRIMARY KEY, v, twice AS (v * 2))",
                "CREATE VIRTUAL TABLE words USING fts5(v)",
            )  # fmt: skip
            program.do(f"c = connect({str(database)!r})")
            for turn in range(3):
                program.do(f"""
                    c.execute("INSERT OR REPLACE INTO cased VALUES (?, 1)", (("a", "A", "b")[{turn}],))
                    c.execute("INSERT INTO computed(v) VALUES ({turn})")
                    c.execute("INSERT INTO words VALUES ('one two')")
                    c.execute("INSERT INTO t(v) VALUES ('{turn}')")
                """)
                program.check()
            program.do("c.execute('INSERT INTO u VALUES (2)')")
        program.check()
        assert program.status()["discrepancies"] == 0


def test_what_was_told_while_nothing_could_be_applied(database: Path, dsn: str) -> None:
    """As when Postgres is away: it is applied afterwards, and no comparison of pages comes first and wonders."""
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database, mode="delete"))
        program.enable()
        program.do(f"c = connect({str(database)!r}); import time")
        program.await_hook()
        program.do("c.execute('INSERT INTO t(v) VALUES (0)')")
        program.check()
        compared = program.status()["comparisons"]
        with program.control() as client:
            hold = client.hold()
            program.do("""
                for i in range(25):  # for longer than a file is left alone before its pages are compared
                    c.execute("INSERT INTO t(v) VALUES (?)", (i,))
                    time.sleep(0.1)
            """)
            client.release(hold)
        program.check()
        program.status_when(lambda status: status["comparisons"] != compared)
        assert program.status()["discrepancies"] == 0


def test_a_file_without_a_wal_whose_lock_is_kept(database: Path, dsn: str) -> None:
    """Such commits do not raise the change counter: pages are compared once the lock is given up."""
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database, mode="delete"))
        program.enable()
        program.do(f"c = connect({str(database)!r}); c.execute('INSERT INTO t(v) VALUES (0)')")
        program.await_hook()
        program.check()
        for _ in range(2):
            program.do("""
                c.execute("INSERT INTO t(v) VALUES (1)")
                c.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
                for i in range(4): c.execute("INSERT INTO t(v) VALUES (?)", (i,))
                c.execute("PRAGMA locking_mode=NORMAL").fetchall()
                c.execute("SELECT * FROM t").fetchall()
            """)
            program.check()
            with Writer(database) as stranger:
                stranger.run("INSERT INTO t(v) VALUES ('theirs')")
            program.check()
        assert program.status()["discrepancies"] == 0


@pytest.mark.few(1)
@pytest.mark.parametrize("gone", [False, True])
def test_a_file_without_a_wal_that_is_made_again(database: Path, dsn: str, gone: bool) -> None:
    """Its commits have the same numbers as those of the old one. ``gone``: the mirror sees that there is no file."""
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database, mode="delete"))
        program.enable()
        program.do(f"c = connect({str(database)!r}); import os, time")
        program.await_hook()
        for turn in range(2):
            program.do(f"for i in range(8): c.execute('INSERT INTO t(v) VALUES ({turn})')")
            program.check()
            program.do(f"c.close(); os.unlink({str(database)!r})")
            if gone:  # so that the new file can have the old one's inode number, too
                program.status_when(lambda status: "gone" in (status["last_error"] or ""))
            program.do(code(TABLES, database, mode="delete"))
            program.do(f"c = connect({str(database)!r}); c.execute('INSERT INTO t(v) VALUES (9)')")
            program.check()
            program.do("for i in range(12): c.execute('INSERT INTO t(v) VALUES (?)', (i,))")
            program.check()
        assert program.status()["discrepancies"] == 0


def test_disabled_while_a_connection_is_in_use(database: Path, dsn: str) -> None:
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database))
        program.enable(sidecar="outlives")
        program.do(f"""
            c = connect({str(database)!r})
            begun = threading.Event()
            c.create_scalar_function("begun", lambda: begun.set() or 1, 0)
            endless = "WITH RECURSIVE n(i) AS (SELECT begun() UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
            def read():
                try: c.execute(endless).fetchall()
                except Exception as error: answered.append(type(error).__name__)
            answered = []
            thread = threading.Thread(target=read)
            thread.start()
            begun.wait()
            mirror.disable_mirror()
            c.interrupt()
            thread.join()
            c.execute("INSERT INTO t(v) VALUES (1)")
            answer = [answered, m.status()["enabled"], [t.name for t in threading.enumerate() if "mirror" in t.name]]
        """)
        assert program.do("answer = answer") == [["InterruptError"], False, []]
        program.check()


def test_one_sidecar_for_two_programs(database: Path, dsn: str) -> None:
    with Gateway(database, dsn) as one, Gateway(database, dsn) as other:
        one.do(code(TABLES, database))
        for program in (one, other):
            program.do(
                f"import mirror; m = mirror.enable_mirror([{str(database)!r}], postgres={dsn!r},"
                f" state_dir={str(one.state_dir)!r})"
            )
        one.await_following()
        for program in (one, other):
            assert program.do("answer = m.wait(200)")
            program.do(f"c = connect({str(database)!r}); c.execute('INSERT INTO t(v) VALUES (1)')")
            program.await_hook()
        pids = {one.sidecar_pid(), None}  # a second child, if there was one, has found the lock held and ends
        until(lambda: {program.do("answer = m.status()['sidecar']['pid']") for program in (one, other)} == pids)
        one.check()


@pytest.mark.parametrize("follows", [True, False])
def test_the_end_of_the_program(database: Path, dsn: str, follows: bool) -> None:
    """What was committed last is in Postgres whichever way; only one that outlives the program is there afterwards."""
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database))
        program.enable(sidecar="follows" if follows else "outlives")
        pid = program.sidecar_pid()
        program.do(f"c = connect({str(database)!r}); c.execute('INSERT INTO t VALUES (1, 2, 3)')")
        program.kill()
        if follows:
            until(lambda: ended(pid))
        else:
            program.check()
        assert rows(dsn, "SELECT v FROM t") == [("2",)]
        if not follows:
            os.kill(pid, 0)
        program.stop_sidecar()


def test_a_file_that_is_made_later_and_apsw_imported_later(database: Path, dsn: str) -> None:
    with Gateway(database, dsn) as program:
        program.do(
            f"import mirror, sys; m = mirror.enable_mirror([{str(database)!r}], postgres={dsn!r},"
            f" state_dir={str(program.state_dir)!r}, sidecar='follows')"
        )
        assert program.do("answer = 'apsw' in sys.modules, m.status()['hook']['how'][:8]") == [False, "no hooks"]
        program.do(code(TABLES, database))
        assert program.do("answer = m.status()['hook']['how'][:8]") == "hooks on"
        program.await_following()
        program.do(f"c = connect({str(database)!r}); c.execute('INSERT INTO t VALUES (1, 2, 3)')")
        program.await_hook()
        assert program.do("import apsw; answer = apsw.__spec__.loader.__class__.__name__") == "ExtensionFileLoader"


def test_forked_children_and_other_processes(database: Path, dsn: str, driver: str) -> None:
    """Each has its own connections; those of a fork have hooks, too."""
    with Gateway(database, dsn, driver=driver) as program:
        program.do(code(TABLES, database))
        program.enable()
        program.do(
            code(
                """
                import multiprocessing, time
                def child(number):
                    c = connect(PATH)
                    for i in range(20):
                        c.execute("INSERT INTO t(v) VALUES (?)", (f"{number}/{i}",))
                    if DRIVER == "apsw":
                        while not any(str(os.getpid()) in w for w in
                                      m.status()["sources"][PATH]["hook"]["writers"]): time.sleep(0.01)
                        c.execute("INSERT INTO t(v) VALUES ('hooked')")
                        while m.status()["hook"]["sent"] < 1: time.sleep(0.01)
                    c.close()
                import os
                children = [multiprocessing.get_context("fork").Process(target=child, args=(n,)) for n in range(4)]
                for each in children: each.start()
                for each in children: each.join()
                answer = [each.exitcode for each in children]
                """,
                database,
            )
        )
        assert program.do("answer = answer") == [0, 0, 0, 0]
        program.check()
        assert program.do("answer = m.status()['error']") is None


def test_asyncio(database: Path, dsn: str) -> None:
    """Agents are told apart by task, and APSW's own asynchronous connections have hooks as well.

    On a busy machine hooks' commits may come later than the mirror waits for them; such a round does not count.
    """
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database))
        program.enable()
        program.do(f"c = connect({str(database)!r})")
        program.await_hook()
        program.do("""
            import asyncio
            async def task(name):
                with mirror.as_agent(name):
                    for i in range(10):
                        await asyncio.sleep(0)
                        c.execute("INSERT INTO t(v) VALUES (?)", (name,))
            async def all_of_them(): await asyncio.gather(*(task(f"task {n}") for n in range(3)))
        """)
        for _ in range(20):
            missed, before = program.await_checked()["unchecked"], writes(dsn, 0)
            program.do("asyncio.run(all_of_them())")
            program.check()
            if program.await_checked()["unchecked"] == missed:
                break
        else:
            pytest.fail("the commits of no round came in time")
        after = writes(dsn, sum(before.values()) + 30)
        assert set(after) == {(f"task {n}", program.pid) for n in range(3)}
        assert all(number - before.get(who, 0) >= 10 for who, number in after.items())


def test_disabled(database: Path, dsn: str) -> None:
    """The process is as it was: hooks, threads, modules, what APSW and the import system hold."""
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database))
        program.do("""
            import apsw, gc, sys
            def state():
                return [list(map(str, apsw.connection_hooks)), str(apsw.Session), [str(f) for f in sys.meta_path],
                        sorted(thread.name for thread in threading.enumerate())]
            before = state()
        """)
        program.enable(sidecar="outlives")
        program.do(f"c = connect({str(database)!r}); c.execute('INSERT INTO t VALUES (1, 2, 3)')")
        program.await_hook()
        assert program.do("answer = before == state()") is False
        program.do("mirror.disable_mirror(); c.execute('INSERT INTO t VALUES (2, 2, 3)')")
        assert program.do("answer = [before, state()]; answer = answer if before != state() else 'same'") == "same"
        assert program.do("answer = m.status()['enabled']") is False
        program.check()
        program.do(
            f"m = mirror.enable_mirror([{str(database)!r}], postgres={dsn!r}, state_dir={str(program.state_dir)!r})"
        )
        program.do("m.watch(c); c.execute('INSERT INTO t VALUES (3, 2, 3)')")
        program.await_hook()


def test_disabled_while_the_sidecar_stands_still(database: Path, dsn: str) -> None:
    """Its socket is full, and the thread that sends waits: it ends all the same."""
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database))
        program.enable(sidecar="outlives")
        program.do(f"c = connect({str(database)!r})")
        program.await_hook()
        os.kill(program.sidecar_pid(), signal.SIGSTOP)
        program.do("c.execute('INSERT INTO t(v) VALUES (zeroblob(4000000))'); mirror.disable_mirror()")
        names = program.do("answer = [thread.name for thread in threading.enumerate()]")
        os.kill(program.sidecar_pid(), signal.SIGCONT)
        assert not [name for name in names if name.startswith("mirror")]
        program.check()


def test_names_and_arguments_of_all_kinds(database: Path, dsn: str) -> None:
    """An agent's name that Postgres cannot hold, or that is none; a program without a name."""
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database))
        program.do("import sys; sys.argv.clear()")
        program.enable()
        program.do(f"c = connect({str(database)!r}); c.execute('INSERT INTO t VALUES (1, 2, 3)')")
        program.await_hook()
        names = r"['a\0b', '\ud800', 5, 'long' * 1000]"
        program.do(f"""
            for name in {names}:
                with mirror.as_agent(name): c.execute("INSERT INTO t(v) VALUES (1)")
        """)
        program.check()
        program.await_checked()
        wanted = {"a\ufffdb", "?", "5", ("long" * 1000)[:200]}
        # What was committed before the hook was heard may be among them, or not.
        until(lambda: {agent for agent, _ in writes(dsn, 4)} - {None} == wanted)
        assert program.do("answer = m.status()['hook']['error']") is None


def test_the_working_directory_of_the_program(database: Path, dsn: str, folder: Path) -> None:
    """Files there that are called as modules are are not the sidecar's business."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    for name in ("mirror", "queue", "json"):
        (elsewhere / f"{name}.py").write_text("raise SystemExit(f'{__name__} of the program')")
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database))
        program.do(f"import os, mirror; os.chdir({str(elsewhere)!r})")
        program.enable()
        program.do(f"c = connect({str(database)!r}); c.execute('INSERT INTO t VALUES (1, 2, 3)')")
        program.check()


def test_a_fork_while_a_connection_is_being_opened(database: Path, dsn: str) -> None:
    """By another thread, which is not there in the child and lets go of nothing."""
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database))
        program.enable()
        program.do(f"""
            import os
            from mirror.hook import api as its
            held, done = threading.Event(), threading.Event()
            def hold():
                with its._guard:
                    held.set()
                    done.wait()
            threading.Thread(target=hold).start()
            held.wait()
            child = os.fork()
            if not child:
                c = connect({str(database)!r})
                c.execute("INSERT INTO t(v) VALUES ('child')")
                os._exit(0)
            answer = os.waitpid(child, 0)[1]
            done.set()
        """)
        assert program.do("answer = answer") == 0
        program.check()


def test_a_connection_that_is_handed_over(database: Path, dsn: str) -> None:
    """Statements that it has prepared before are prepared again, so that deleting all rows is told row by row."""
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database))
        program.do(f"""
            c = connect({str(database)!r})
            for _ in range(3):
                c.execute("INSERT INTO t VALUES (1, 2, 3), (2, 3, 4)")
                c.execute("DELETE FROM t")
        """)
        program.enable()
        program.do("m.watch(c); c.execute('INSERT INTO t VALUES (1, 2, 3), (2, 3, 4)')")
        program.await_hook()
        program.do("c.execute('DELETE FROM t'); c.execute('INSERT INTO t VALUES (5, 5, 5)')")
        program.check()
        assert program.await_checked()["unchecked"] <= 1, "the first one, before the hook was connected"
        assert program.status()["discrepancies"] == 0
        assert program.do("answer = c.authorizer") is None


def test_the_session_extension(database: Path, dsn: str) -> None:
    """It needs the preupdate hook for itself, and gets it; its changes are whole."""
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database))
        program.enable()
        program.do(f"""
            import apsw
            c = connect({str(database)!r})
            c.execute("INSERT INTO t VALUES (1, 2, 3)")
            session = apsw.Session(c, "main")
            session.attach()
            c.execute("INSERT INTO t VALUES (2, 'a', 3)")
            c.execute("DELETE FROM t WHERE id = 1")
            answer = [[change.op, change.pk_columns and 1] for change in apsw.Changeset.iter(session.changeset())]
        """)
        assert sorted(op for op, _ in program.do("answer = answer")) == ["DELETE", "INSERT"]
        assert program.do("answer = m.status()['hook']['with_rows']") == 0
        program.check()


def test_nothing_of_the_mirror_can_hurt(database: Path, dsn: str, folder: Path) -> None:
    """No sidecar, no Postgres, no configuration, a wrong argument: the program writes on."""
    with Gateway(database, "host=/nowhere") as program:
        program.do(code(TABLES, database))
        program.do(f"""
            import mirror
            m = mirror.enable_mirror([{str(database)!r}], postgres="host=/nowhere",
                                     state_dir={str(folder / "state")!r}, sidecar="follows")
            c = connect({str(database)!r})
            for i in range(500): c.execute("INSERT INTO t(v) VALUES (?)", (i,))
            answer = m.wait(0.2)
        """)
        assert program.do("answer = answer") is False
        error = "answer = m.status()['sources'].popitem()[1]['last_error'] or ''"
        until(lambda: "connect to Postgres" in program.do(error))
        program.do("mirror.disable_mirror()")
        for arguments in ("sidecar='sometimes'", "config='/nowhere.json'", ""):
            told = program.do(f"m = mirror.enable_mirror({arguments}); answer = m.status(); m.wait(0.1); m.disable()")
            assert told["error"] and told["enabled"] is False
        program.kill()
        program.stop_sidecar()


def test_settings_of_the_files(database: Path, dsn: str, folder: Path) -> None:
    """The README's lines: one call, and all else from mirror.json, and Postgres from argent.json."""
    home = folder / ".argentos"
    home.mkdir()
    (home / "mirror.json").write_text(json.dumps({"sources": [f"../{database.name}"], "sidecar": "follows"}))
    (home / "argent.json").write_text(json.dumps({"storage": {"postgres": {"connectionString": dsn}}}))
    with Gateway(database, dsn, state=".argentos/mirror") as program:
        program.do(code(TABLES, database))
        (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
        assert "enable_mirror()" in block
        program.do(
            f"import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as out:\n{indent(block, '  ')}"
        )
        program.await_following()
        program.do(f"c = connect({str(database)!r}); c.execute('INSERT INTO t VALUES (1, 2, 3)')")
        assert program.do("answer = mirror.wait(200)") is True
        assert program.do("answer = out.getvalue()").startswith("<Mirror ")


def test_what_is_refused_is_not_there(database: Path, dsn: str) -> None:
    """``wait`` says so at once, as ``mirror wait`` does."""
    with psycopg.connect(dsn, autocommit=True) as conn, Gateway(database, dsn) as program:
        conn.execute("CREATE TABLE t(a int)")
        program.do(code(TABLES, database))
        program.enable()
        program.status_when(lambda status: bool(status["refusals"]))
        assert program.do("answer = m.wait(200)") is False
        conn.execute("DROP TABLE t")
        program.status_when(lambda status: not status["refusals"])
        assert program.do("answer = m.wait(200)") is True


@pytest.mark.parametrize("name", ["mirror.json", "argent.json"])
def test_a_file_that_is_named(database: Path, dsn: str, folder: Path, name: str) -> None:
    """A mirror.json, or an argent.json as it was named before; and a schema, which the sidecar is given, too."""
    conf = folder / "conf"
    conf.mkdir()
    ours = {"sources": [str(database)], "sidecar": "follows"}
    values = ours | {"postgres": {"connectionString": dsn}}
    if name == "argent.json":
        values = {"agents": {}, "storage": {"mirror": ours, "postgres": {"connectionString": dsn}}}
    (conf / name).write_text(json.dumps(values))
    with Gateway(database, dsn, state="conf/mirror", schema="own") as program:
        program.do(code(TABLES, database))
        program.do(f"import mirror; m = mirror.enable_mirror(config={str(conf / name)!r}, schema='own')")
        program.await_following()
        program.do(f"c = connect({str(database)!r}); c.execute('INSERT INTO t VALUES (1, 2, 3)')")
        assert program.do("answer = m.wait(30)") is True
        assert program.do("answer = m.status()['error']") is None
        assert rows(dsn, "SELECT count(*) FROM own.t") == [(1,)]


@pytest.mark.few(1)
@pytest.mark.parametrize("what", ["garbage", "missing"])
def test_a_source_that_cannot_be_mirrored(database: Path, dsn: str, what: str, tmp_path: Path) -> None:
    """Its status has the form of any other, and says why; and that is logged once, however often it is tried again."""
    with Gateway(database, dsn) as program:
        if what == "garbage":
            database.write_bytes(b"\xa5" * 40_000)
        log = tmp_path / "program.log"
        program.do(f"import logging; logging.basicConfig(filename={str(log)!r})")
        arguments = f"[{str(program.database)!r}], postgres={dsn!r}, state_dir={str(program.state_dir)!r}"
        program.do(f"import mirror\nm = mirror.enable_mirror({arguments}, sidecar='follows')")
        found: list[StatusReport] = []

        def reason() -> bool:
            report = program.do("answer = m.status()['sources']")[str(program.database)]
            found[:] = [msgspec.convert(report, StatusReport)]
            return found[0].phase == ("failed" if what == "garbage" else "stopped") and bool(found[0].last_error)

        until(reason)
        (report,) = found
        assert report.last_error is not None
        assert ("no SQLite database" if what == "garbage" else "no such file") in report.last_error, report
        if what == "garbage":
            sidecar = program.state_dir / "sidecar.log"
            until(lambda: len(sidecar.read_text().splitlines()) >= 4)  # it was tried again some times
            (line,) = [line for line in log.read_text().splitlines() if "is not mirrored" in line]
            assert str(program.database) in line
            assert "no SQLite database" in line
