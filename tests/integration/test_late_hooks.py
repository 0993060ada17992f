"""Files without a WAL: what hooks send may come late, and some of it names no commit."""

from __future__ import annotations

from pathlib import Path

from tests.integration.test_enable_mirror import TABLES, code
from tests.support.gateway import Gateway
from tests.support.waiting import until


def test_commits_that_do_not_raise_the_counter_come_late(database: Path, dsn: str) -> None:
    """`wait` is not over, and parity does not say "different", before they are in Postgres."""
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database, mode="delete"))
        program.enable()
        program.do(f"c = connect({str(database)!r}); c.execute('INSERT INTO t(v) VALUES (0)')")
        program.await_hook()
        program.check()
        program.do("""
            from mirror.hook import outbox
            put = outbox.Outbox.put
            def late(self, message, size):
                if message[0] == "commit" and message[3] is None:
                    threading.Timer(3, put, (self, message, size)).start()
                else:
                    put(self, message, size)
            outbox.Outbox.put = late
            c.execute("INSERT INTO t(v) VALUES (1)")
            c.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
            for i in range(4): c.execute("INSERT INTO t(v) VALUES (?)", (i,))
            c.execute("PRAGMA locking_mode=NORMAL").fetchall()
            c.execute("SELECT * FROM t").fetchall()
        """)
        program.check()


def test_a_commit_that_comes_after_its_pages_were_compared(database: Path, dsn: str) -> None:
    """What comes late is dropped: a file that is left alone is still compared, and the rows checked."""
    with Gateway(database, dsn) as program:
        program.do(code(TABLES, database, mode="delete"))
        program.enable()
        program.do(f"c = connect({str(database)!r}); c.execute('INSERT INTO t(v) VALUES (0)')")
        program.await_hook()
        program.check()
        before = program.status()["comparisons"]
        program.do("""
            from mirror.hook import outbox
            put = outbox.Outbox.put
            arrived = threading.Event()
            def late(self, message, size):
                outbox.Outbox.put = put
                def now():
                    put(self, message, size)
                    arrived.set()
                threading.Timer(1, now).start()
            outbox.Outbox.put = late
            c.execute("INSERT INTO t(v) VALUES ('sent late')")
            arrived.wait()
        """)
        compared = program.status_when(lambda status: status["comparisons"] > before)["comparisons"]
        program.check()
        program.do("for i in range(20): c.execute('INSERT INTO t(v) VALUES (1)')")
        program.check()
        until(lambda: program.status()["comparisons"] > compared)
