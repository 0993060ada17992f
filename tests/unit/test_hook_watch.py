"""The hooks on one APSW connection: what they tell of, and that the program notices nothing of them."""

from __future__ import annotations

import gc
import struct
import weakref
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import apsw
import pytest

from mirror.hook import budget
from mirror.hook.budget import Budget
from mirror.hook.outbox import Outbox
from mirror.hook.watch import ConnectionHooks, agent
from mirror.hook.wire import MOST_ROWS
from tests.support.hooked import row_told

Told = list[tuple[Any, ...]]


class Sent:
    """Takes the messages in place of the outbox."""

    def __init__(self) -> None:
        self.messages: Told = []
        self.resting: list[tuple[ConnectionHooks, float]] = []
        self.connected = True

    def resume(self, watch: ConnectionHooks, seconds: float) -> None:
        self.resting.append((watch, seconds))

    def put(self, message: tuple[Any, ...], size: int) -> None:
        self.messages.append(message)

    def take(self) -> Told:
        """The messages since the last call, with their rows."""
        found, self.messages = self.messages, []
        return found

    def rows(self) -> list[Any]:
        """The rows of each commit since the last call; None: not all are known."""
        found = [message[4] for message in self.take() if message[0] == "commit"]
        return [None if rows is None else [row_told(row) for row in rows] for rows in found]

    def ops(self) -> list[Any]:
        """Op, table and rowid of each row of the only commit."""
        (rows,) = self.rows()
        return [row[:3] for row in rows]


class Program:
    """A connection with hooks."""

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self.db = apsw.Connection(str(path))
        self.run(f"PRAGMA journal_mode={mode}")
        self.sent = Sent()
        self.watch = ConnectionHooks(self.db, cast("Outbox", self.sent), Budget(), rows=True)

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.db.execute(statement).fetchall()


@pytest.fixture(params=["wal", "delete"])
def program(request: pytest.FixtureRequest, folder: Path) -> Program:
    made = Program(folder / "p.db", request.param)
    made.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT UNIQUE)", "CREATE TABLE g(x)")
    made.run("CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID")
    assert made.sent.take() == [], "a change of the schema is none of rows"
    return made


def test_each_kind_of_change(program: Program) -> None:
    program.run("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    assert program.sent.rows() == [[("INSERT", "t", 1, 1, None, (1, "a")), ("INSERT", "t", 2, 2, None, (2, "b"))]]
    program.run("UPDATE t SET v = 'c' WHERE id = 1")
    assert program.sent.rows() == [[("UPDATE", "t", 1, 1, (1, "a"), (1, "c"))]]
    program.run("UPDATE t SET id = 7 WHERE id = 1")
    assert program.sent.rows() == [[("UPDATE", "t", 1, 7, (1, "c"), (7, "c"))]]
    program.run("INSERT OR REPLACE INTO t VALUES (9, 'b')")
    assert program.sent.rows() == [[("DELETE", "t", 2, 2, (2, "b"), None), ("INSERT", "t", 9, 9, None, (9, "b"))]]
    program.run("INSERT INTO w VALUES ('k', x'00ff'), ('l', NULL)", "UPDATE w SET v = 1.5 WHERE k = 'k'")
    told = [[(op, table, before, after) for op, table, _, _, before, after in rows] for rows in program.sent.rows()]
    assert told == [
        [("INSERT", "w", None, ("k", b"\0\xff")), ("INSERT", "w", None, ("l", None))],
        [("UPDATE", "w", ("k", b"\0\xff"), ("k", 1.5))],
    ]


def test_all_rows_of_a_table_are_deleted(program: Program) -> None:
    """SQLite would do without telling, if the statement had been prepared before the hook was set."""
    program.run("INSERT INTO g VALUES (1), (2)", "INSERT INTO t VALUES (1, 'a')")
    program.sent.take()
    program.run("DELETE FROM g")
    assert program.sent.ops() == [("DELETE", "g", 1), ("DELETE", "g", 2)]


def test_what_is_taken_back_is_not_told(program: Program) -> None:
    program.run(
        "BEGIN", "INSERT INTO g VALUES (1)", 'SAVEPOINT "A b"', "INSERT INTO g VALUES (2)", "SAVEPOINT inner",
        "INSERT INTO g VALUES (3)", "RELEASE inner", "ROLLBACK TRANSACTION /* now */ TO [a B]",
        "INSERT INTO g VALUES (4)", "RELEASE 'a b'", "COMMIT",
    )  # fmt: skip
    (rows,) = program.sent.rows()
    assert [row[5] for row in rows] == [(1,), (4,)]
    program.run("BEGIN", "INSERT INTO g VALUES (1)", "ROLLBACK")
    program.run("SAVEPOINT alone", "INSERT INTO g VALUES (1)", "ROLLBACK TO alone", "RELEASE alone")
    assert program.sent.rows() == []


def test_nested_blocks_of_apsw(program: Program) -> None:
    with program.db:
        program.db.execute("INSERT INTO g VALUES (1)")
        with pytest.raises(apsw.SQLError), program.db:
            program.db.execute("INSERT INTO g VALUES (2); INSERT INTO nowhere VALUES (1)")
        with program.db:
            program.db.execute("INSERT INTO g VALUES (3)")
    (rows,) = program.sent.rows()
    assert [row[5] for row in rows] == [(1,), (3,)]


def test_a_statement_that_fails_half_way(program: Program) -> None:
    program.run("BEGIN", "INSERT INTO t VALUES (1, 'a')")
    for statement in ("INSERT INTO t VALUES (2, 'b'), (3, 'a')", "UPDATE t SET v = NULL, id = CASE id WHEN 1 THEN 1/0"):
        with pytest.raises(apsw.Error):
            program.run(statement)
    program.run("INSERT INTO t VALUES (4, 'd')", "COMMIT")
    assert program.sent.rows() == [None], "it is not always taken back"
    with pytest.raises(apsw.ConstraintError):
        program.run("INSERT INTO t VALUES (5, 'e'), (6, 'a')")
    program.run("INSERT OR IGNORE INTO t VALUES (5, 'e'), (6, 'a'), (7, 'f')")
    assert program.sent.ops() == [("INSERT", "t", 5), ("INSERT", "t", 7)]
    with pytest.raises(apsw.ConstraintError):
        program.run("INSERT OR FAIL INTO t VALUES (8, 'g'), (9, 'a')")
    assert program.sent.ops() == [("INSERT", "t", 8)], "what was there before the failure stays"


def test_triggers_and_full_text(program: Program) -> None:
    """Statements inside of statements; where it is not sure what a failed one has left, no rows are sent."""
    program.run(
        "CREATE VIRTUAL TABLE f USING fts5(v, content='t', content_rowid='id')",
        "CREATE TRIGGER i AFTER INSERT ON t BEGIN INSERT INTO f(rowid, v) VALUES (new.id, new.v); END",
        "CREATE VIEW vt AS SELECT * FROM t",
        "CREATE TRIGGER iv INSTEAD OF INSERT ON vt BEGIN INSERT INTO t VALUES (new.id, new.v); END",
    )
    program.sent.take()
    program.run("BEGIN", "INSERT INTO t VALUES (1, 'a'), (2, 'b')", "INSERT INTO t VALUES (3, 'c')", "COMMIT")
    assert [op for op in program.sent.ops() if op[1] == "t"] == [("INSERT", "t", n) for n in (1, 2, 3)]
    program.run("BEGIN", "INSERT INTO t VALUES (4, 'd')")
    with pytest.raises(apsw.ConstraintError):
        program.run("INSERT INTO t VALUES (5, 'e'), (6, 'a')")
    program.run("COMMIT")
    assert program.sent.rows() == [None]
    program.run("INSERT INTO vt VALUES (7, 'g')")
    assert program.sent.rows() == [None]


def test_a_blob_that_is_written_in_place_and_text_that_is_none(program: Program) -> None:
    program.run("INSERT INTO w VALUES ('a', 1)", "INSERT INTO g VALUES (zeroblob(4))")
    program.sent.take()
    with program.db.blob_open("main", "g", "x", 1, True) as blob:
        blob.write(b"ab")
    assert program.sent.rows() == [None]
    program.db.execute("DELETE FROM g RETURNING x").close()
    assert program.sent.rows() == [None], "it has not been read to its end"
    program.run("INSERT INTO g VALUES (0)")
    program.sent.take()
    program.run("INSERT INTO g VALUES (CAST(x'61ff' AS TEXT))")
    assert program.sent.rows() == [None] and program.watch.failures == 1
    program.run("INSERT INTO g VALUES (1)")
    assert program.sent.ops() == [("INSERT", "g", 3)]


def test_statements_behind_a_comment(program: Program) -> None:
    """SQLite marks what runs inside of a statement by the same sign."""
    program.run(
        "-- begin\nBEGIN", "-- a\nSAVEPOINT a", "-- name: one\nINSERT INTO g VALUES (1)", "-- undo\nROLLBACK TO a",
        "-- two\nINSERT INTO g VALUES (2)", "--\nCOMMIT", "-- three\nINSERT INTO g VALUES (3)",
    )  # fmt: skip
    assert [[row[5] for row in rows] for rows in program.sent.rows()] == [[(2,)], [(3,)]]
    cursor = program.db.execute("SELECT * FROM g")
    next(cursor)
    program.run("-- while another is open\nINSERT INTO g VALUES (4)", "INSERT INTO g VALUES (5)")
    assert [rows and len(rows) for rows in program.sent.rows()] == [None, 1]
    cursor.close()


def test_a_savepoint_is_taken_back_inside_of_a_query(program: Program) -> None:
    program.db.create_scalar_function("back", lambda: program.run("ROLLBACK TO a"))
    program.db.create_scalar_function("release", lambda: program.run("RELEASE a"))
    for function in ("back", "release"):
        program.run("BEGIN", "SAVEPOINT a", "INSERT INTO g VALUES (1)", f"SELECT {function}()", "COMMIT")
        assert program.sent.rows() in ([None], [])
    program.run("INSERT INTO g VALUES (2)")
    assert [len(rows) for rows in program.sent.rows()] == [1]


def test_savepoints_that_are_none_any_more(program: Program) -> None:
    """Of a transaction that had nothing to commit; and names that differ in more than ASCII letters' case."""
    program.run("BEGIN", "SAVEPOINT a", "SELECT 1", "COMMIT", "BEGIN", "INSERT INTO g VALUES (1)")
    with pytest.raises(apsw.SQLError):
        program.run("ROLLBACK TO a")
    program.run("INSERT INTO g VALUES (2)", "COMMIT")
    assert program.sent.rows() == [None]
    program.run(
        "SAVEPOINT \u00e9", "INSERT INTO g VALUES (40)", "SAVEPOINT \u00c9", "INSERT INTO g VALUES (41)",
        "ROLLBACK TO \u00e9", "INSERT INTO g VALUES (42)", "RELEASE \u00e9",
    )  # fmt: skip
    (rows,) = program.sent.rows()
    assert [row[5] for row in rows] == [(42,)]


def test_a_statement_that_fails_and_is_run_again(program: Program) -> None:
    """From the cache, under the number it had: it is no action of a foreign key."""
    program.run(
        "PRAGMA recursive_triggers=ON", "CREATE TABLE r(id INTEGER PRIMARY KEY, k UNIQUE, v)",
        "INSERT INTO r VALUES (1, 1, 1), (2, 2, 2)",
        "CREATE TRIGGER rt AFTER DELETE ON r WHEN old.id = 1 BEGIN SELECT RAISE(ABORT, 'no'); END", "BEGIN",
    )  # fmt: skip
    program.sent.take()
    with pytest.raises(apsw.ConstraintError):
        program.db.execute("INSERT OR REPLACE INTO r VALUES (?, ?, ?)", (50, 1, 9))
    program.db.execute("INSERT OR REPLACE INTO r VALUES (?, ?, ?)", (51, 2, 9))
    program.run("COMMIT")
    assert program.sent.rows() == [None]


def test_a_failure_that_takes_nothing_back(program: Program) -> None:
    program.run("CREATE TABLE b(id INTEGER PRIMARY KEY, v)")
    program.db.limit(apsw.SQLITE_LIMIT_LENGTH, 2000)
    program.run("BEGIN", f"INSERT INTO b VALUES (1, 'a'), (2, 'b'), (3, '{'c' * 1500}')")
    with pytest.raises(apsw.TooBigError):
        program.run("UPDATE b SET v = v || v || v")
    program.run("COMMIT")
    assert program.sent.rows() == [None]
    assert program.db.execute("SELECT v FROM b WHERE id < 3").fetchall() == [("aaa",), ("bbb",)]


def test_more_rows_than_are_kept(program: Program) -> None:
    program.run(f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {MOST_ROWS + 1})"
                " INSERT INTO g SELECT i FROM n")  # fmt: skip
    assert program.sent.rows() == [None]


def test_other_databases_are_left_out(program: Program, folder: Path) -> None:
    program.run(f"ATTACH '{folder / 'other.db'}' AS o", "CREATE TABLE o.g(x)", "CREATE TEMP TABLE tt(x)")
    program.sent.take()
    program.run("BEGIN", "INSERT INTO o.g VALUES (1)", "INSERT INTO tt VALUES (1)", "COMMIT")
    assert program.sent.rows() == []


def test_a_commit_is_named_by_the_one_before(program: Program) -> None:
    """Also when the log begins again, and when other connections write in between."""
    other = apsw.Connection(str(program.path))
    places = []
    for number in range(30):
        program.run(f"INSERT INTO g VALUES ({number})")
        if number % 3 == 0:
            other.execute("INSERT INTO g VALUES (-1)")
        if number % 10 == 9:
            other.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        places += [message[3] for message in program.sent.take()]
    if program.watch.with_rows and places[0][0] == "wal":
        with open(f"{program.path}-wal", "rb") as log:
            salts = struct.unpack(">16xII", log.read(24))
        assert len({place[1:3] for place in places}) == 3 and salts == places[-1][1:3]
        frames = [place[3] for place in places if place[1:3] == salts]
        assert frames == sorted(set(frames))
    else:
        with open(program.path, "rb") as file:
            counter, cookie = struct.unpack(">24xI12xI", file.read(44))
        assert places[-1] == ("file", counter - 1, cookie, program.path.stat().st_ino)
        assert [b[1] - a[1] for a, b in pairwise(places)] == [2, 1, 1] * 9 + [2, 1]
    other.close()


def test_whose_work_it_is(program: Program) -> None:
    token = agent.set("maya")
    program.run("INSERT INTO g VALUES (1)")
    agent.reset(token)
    program.run("INSERT INTO g VALUES (2)")
    assert [message[2] for message in program.sent.take()] == ["maya", None]


def test_readers_in_the_way_of_a_commit(folder: Path) -> None:
    """The first COMMIT fails, the second tells of all; or the transaction is rolled back, and nothing is told."""
    program = Program(folder / "p.db", "delete")
    program.run("CREATE TABLE g(x)", "INSERT INTO g VALUES (0), (1)")
    program.sent.take()
    reader = apsw.Connection(str(program.path))
    for end, told in (("COMMIT", 1), ("ROLLBACK", 0)):
        cursor = reader.execute("SELECT * FROM g")
        next(cursor)
        program.run("BEGIN IMMEDIATE", "INSERT INTO g VALUES (2)")
        with pytest.raises(apsw.BusyError):
            program.run("COMMIT")
        program.run("INSERT INTO g VALUES (3)")
        cursor.close()
        program.run(end)
        assert [len(rows) for rows in program.sent.rows()] == [2] * told
    reader.close()


def test_a_commit_that_the_program_refuses(program: Program) -> None:
    """Its own commit hook says no: whichever is asked first, nothing is sent."""
    program.db.set_commit_hook(lambda: True, id="own")
    with pytest.raises(apsw.ConstraintError):
        program.run("INSERT INTO g VALUES (1)")
    assert program.sent.take() == []
    program.db.set_commit_hook(None, id="own")
    program.run("INSERT INTO g VALUES (1)", "BEGIN", "SELECT 1", "ROLLBACK")
    assert program.sent.ops() == [("INSERT", "g", 1)]


def test_the_programs_own_hooks_go_on(program: Program) -> None:
    """All of them at once; and what it has set is what it reads."""
    seen: list[object] = []
    db = program.db
    db.set_update_hook(lambda *told: seen.append(("update", *told[2:])))
    db.set_commit_hook(lambda: bool(seen.append("commit")))
    db.set_rollback_hook(lambda: seen.append("rollback"))
    db.preupdate_hook(lambda update: seen.append(("preupdate", update.rowid)), id="own")
    db.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: seen.append("trace"), id="own")
    db.set_profile(lambda statement, nanoseconds: seen.append("profile"))
    db.set_authorizer(lambda *told: apsw.SQLITE_OK)
    db.set_progress_handler(lambda: False, 1000)
    db.exec_trace = lambda cursor, sql, bindings: bool(seen.append("exec")) or True
    program.run("INSERT INTO g VALUES (1)")
    assert {"commit", "trace", "exec", ("preupdate", 1), ("update", "g", 1)} <= set(seen)
    program.run("BEGIN", "INSERT INTO g VALUES (2)", "ROLLBACK")
    assert "rollback" in seen
    assert len(program.sent.take()) == 1


def test_automatic_checkpoints_go_on(folder: Path) -> None:
    program = Program(folder / "p.db", "wal")
    assert program.db.pragma("wal_autocheckpoint") == 1000
    program.run("CREATE TABLE g(x)", "PRAGMA wal_autocheckpoint=20")
    for number in range(100):
        program.run(f"INSERT INTO g VALUES ({number})")
    assert (folder / "p.db-wal").stat().st_size < 40 * 4200
    calls: list[int] = []
    program.db.set_wal_hook(lambda connection, name, pages: calls.append(pages) or apsw.SQLITE_OK)
    program.run("INSERT INTO g VALUES (1)")
    assert len(calls) == 1 and len(program.sent.take()) == 101


def test_the_statement_cache_goes_on(program: Program) -> None:
    before = program.db.cache_stats()
    for _ in range(50):
        program.run("INSERT INTO g VALUES (1)")
    after = program.db.cache_stats()
    assert after["hits"] - before["hits"] >= 49


def test_a_connection_that_is_thrown_away_is_closed(program: Program) -> None:
    """The hooks hold it no longer than the program does."""
    gone = weakref.ref(program.db)
    program.run("INSERT INTO g VALUES (1)")
    del program.db
    gc.collect()
    assert gone() is None


def test_set_in_the_midst_of_a_transaction(program: Program) -> None:
    program.watch.remove()
    program.run("BEGIN", "INSERT INTO g VALUES (1)")
    again = ConnectionHooks(program.db, cast("Outbox", program.sent), Budget(), rows=True)
    program.run("INSERT INTO g VALUES (2)", "COMMIT", "INSERT INTO g VALUES (3)")
    assert [rows and len(rows) for rows in program.sent.rows()] == [None, 1] and again.failures == 0


@pytest.mark.parametrize("whole", [False, True])
def test_a_transaction_begins_while_hooks_are_set_again(program: Program, whole: bool) -> None:
    """By another thread: none of its rows is sent, and all of the next one's."""
    set_last = program.watch._listen_to_rows

    def meanwhile(connection: apsw.Connection) -> None:
        program.run("BEGIN", "INSERT INTO g VALUES (1)", *["COMMIT", "BEGIN", "INSERT INTO g VALUES (2)"] * whole)
        set_last(connection)

    program.watch._rest(program.db, 1.0)
    program.watch._listen_to_rows = meanwhile  # type: ignore[method-assign]
    assert program.watch.resume()
    program.run("INSERT INTO g VALUES (3)", "COMMIT", "INSERT INTO g VALUES (4)")
    assert [rows and len(rows) for rows in program.sent.rows()] == [None] * (1 + whole) + [1]


def test_removed(program: Program) -> None:
    program.watch.remove()
    program.run("INSERT INTO g VALUES (1)")
    assert program.sent.take() == []
    program.db.close()
    program.watch.remove()


@pytest.mark.parametrize("make", [lambda db: apsw.Connection(":memory:"), lambda db: apsw.Connection("")])
def test_connections_without_a_file(make: Callable[[object], apsw.Connection]) -> None:
    """Whose commits cannot be named."""
    db, sent = make(None), Sent()
    watch = ConnectionHooks(db, cast("Outbox", sent), Budget(), rows=True)
    db.execute("CREATE TABLE g(x)")
    db.execute("INSERT INTO g VALUES (1)")
    assert [message[3] for message in sent.take()] == [None] and watch.failures == 0


def test_a_heap_memory_index_is_left_alone(folder: Path) -> None:
    """``locking_mode=EXCLUSIVE`` keeps the WAL index out of shared memory: asking for it would make a file."""
    db, sent = apsw.Connection(str(folder / "x.db")), Sent()
    db.execute("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL").fetchall()
    watch = ConnectionHooks(db, cast("Outbox", sent), Budget(), rows=True)
    db.execute("CREATE TABLE g(x)")
    db.execute("INSERT INTO g VALUES (1)")
    assert not (folder / "x.db-shm").exists() and watch.failures == 0
    db.close()


def test_a_program_that_commits_without_a_pause(folder: Path) -> None:
    """It is reported in bursts, and has no hooks in between; of each burst every commit."""
    program = Program(folder / "p.db", "wal")
    program.run("PRAGMA synchronous=OFF", "CREATE TABLE g(x)")
    program.sent.take()
    bursts = []
    for _ in range(3):
        while not program.sent.resting:
            program.db.execute("INSERT INTO g VALUES (1)")
        program.run("INSERT INTO g VALUES (1)")
        bursts.append([rows[0][2] for rows in program.sent.rows()])
        ((watch, seconds),) = program.sent.resting
        assert watch is program.watch and seconds > 0
        program.sent.resting.clear()
        program.run("BEGIN", "INSERT INTO g VALUES (1)")
        assert not watch.resume(), "in the midst of a transaction"
        program.run("COMMIT")
        assert program.sent.take() == []
        assert watch.resume()
    for burst in bursts:
        assert burst == list(range(burst[0], burst[0] + len(burst)))
    assert len(bursts[0]) > 100, "it begins with what may be saved up"
    assert all(later[0] - earlier[-1] in (3, 4) for earlier, later in pairwise(bursts))


def test_a_commit_after_many_statements_rests_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cost and that of the statements are spent at the same moment: the hooks are not set again twice."""
    monkeypatch.setattr(budget, "WHOLE", 1e9)
    program = Program(folder / "p.db", "wal")
    program.run("CREATE TABLE g(x)")
    for number in range(600):
        program.sent.resting.clear()
        assert program.watch.resume()
        program.run("INSERT INTO g VALUES (1)")
        assert len(program.sent.resting) == 1, number


def honest(program: Program, *statements: str) -> None:
    """What is told, if rows are, is what the transaction did to the tables."""
    tables = [str(name) for (name,) in program.db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    keyed = [name for name in tables if not name.startswith("f_") and name != "f"]

    def content() -> dict[str, dict[Any, Any]]:
        return {t: {row[0]: row[1:] for row in program.db.execute(f"SELECT rowid, * FROM {t}")} for t in keyed}

    program.sent.take()
    before = content()
    for statement in statements:
        with suppress(apsw.Error):
            program.run(statement)
    after = content()
    for rows in program.sent.rows():
        if rows is None:
            return
        for op, table, rowid, new_rowid, _, values in rows:
            if table in before:
                if op != "INSERT":
                    del before[table][rowid]
                if op != "DELETE":
                    before[table][new_rowid] = values
    assert before == after, statements


def test_what_is_told_is_what_was_done(program: Program) -> None:
    """Where statements are not what they seem: actions of foreign keys, functions that write, odd savepoints."""
    program.run(
        "PRAGMA foreign_keys=ON", "CREATE TABLE par(id INTEGER PRIMARY KEY)", "CREATE TABLE l(x UNIQUE)",
        "CREATE TABLE kid(a INTEGER PRIMARY KEY, p REFERENCES par ON DELETE CASCADE ON UPDATE SET NULL)",
        "CREATE TABLE rig(p REFERENCES par)", "INSERT INTO par VALUES (1), (2), (3)", "INSERT INTO rig VALUES (2)",
        "INSERT INTO kid VALUES (10, 1), (20, 2), (30, 3)", "DROP TABLE w",
    )  # fmt: skip

    def writes(x: int) -> int:
        with suppress(apsw.ConstraintError):
            program.run("INSERT INTO l VALUES (1), (1)")
        return x

    program.db.create_scalar_function("writes", writes, 1)
    insert, twice, function = "INSERT INTO g VALUES ({})".format, "INSERT INTO l VALUES (7), (7)", "SELECT writes(1)"
    honest(program, "DELETE FROM par WHERE id = 1")
    some = "INSERT INTO par VALUES (5)", "DELETE FROM par WHERE id < 4", "INSERT INTO par VALUES (6)"
    honest(program, "BEGIN", *some, "UPDATE par SET id = 9 WHERE id = 3", "COMMIT")
    honest(program, insert("writes(4)"))
    honest(program, "BEGIN", insert("writes(4)"), function, "COMMIT")
    odd = "; rollback to a", "\rrollback to a", "\ufeffrollback to a", "--c\nrollback to a", "/**/ROLLBACK TO a--"
    for back in odd:
        honest(program, "BEGIN", insert(1), "-- c\nsavepoint a", insert(2), back, "COMMIT")
    inner = insert(1), "SAVEPOINT a--x", insert(2), "ROLLBACK TO a", insert(3)
    honest(program, "SAVEPOINT a", *inner, "RELEASE a", "RELEASE a")
    replace = "INSERT INTO l VALUES (8)", "REPLACE INTO l VALUES (8)"
    honest(program, "BEGIN", twice, twice, *replace, "INSERT INTO g SELECT 1", "COMMIT")


def test_rows_that_are_still_read(program: Program) -> None:
    program.run("CREATE TABLE u(a UNIQUE)")
    program.sent.take()

    def others() -> None:
        with suppress(apsw.ConstraintError):
            program.run("INSERT INTO u VALUES (5), (5)")
        program.run("SELECT 1")

    for begin, end in (("SELECT 1", "SELECT 1"), ("BEGIN", "COMMIT")):
        program.run(begin)
        cursor = program.db.execute("INSERT INTO u VALUES (1), (2), (3) RETURNING a")
        next(cursor)
        others()
        with suppress(apsw.Error):
            program.run("SAVEPOINT s")
        cursor.fetchall()
        program.run("INSERT INTO g VALUES (1)", end)
        assert program.sent.rows()[0] is None
        program.run("DELETE FROM u")
        program.sent.take()
    assert program.db.execute("INSERT INTO u VALUES (1), (2) RETURNING a").fetchall() == [(1,), (2,)]
    assert len(program.sent.ops()) == 2
    cursor = program.db.execute("INSERT INTO u VALUES (11), (12) RETURNING a")
    next(cursor)
    again = ConnectionHooks(program.db, cast("Outbox", program.sent), Budget(), rows=True)
    program.watch.remove()
    cursor.fetchall()
    assert again.failures == 0 and [rows for rows in program.sent.rows() if rows is not None] == []


def test_a_lock_that_is_kept(folder: Path) -> None:
    """Without a WAL no commit but the first then raises the counter, so that it names none."""
    program = Program(folder / "p.db", "delete")
    program.run("CREATE TABLE g(x)", "INSERT INTO g VALUES (0)", "PRAGMA locking_mode=EXCLUSIVE")
    program.sent.take()
    for number in range(5):
        program.run(f"INSERT INTO g VALUES ({number})")
    places = [message[3] for message in program.sent.take()]
    assert places[2:] == [None] * 3


def test_while_nobody_listens(program: Program) -> None:
    """Of a file with a WAL nothing is told, for a while; of one without, what is told may be kept for who comes."""
    program.sent.connected = False
    program.run("INSERT INTO g VALUES (1)", "INSERT INTO g VALUES (2)")
    (mode,) = program.db.execute("PRAGMA journal_mode").fetchall()[0]
    assert len(program.sent.take()) == (1 if mode == "wal" else 2)
    program.watch.remove()
    assert program.watch.resume(), "there is nothing to resume any more"
    program.run("INSERT INTO g VALUES (3)")
    assert program.sent.take() == []
