"""Hooks without the preupdate hook: keys, and never a wrong one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import apsw
import pytest

from mirror.hook.budget import Budget
from mirror.hook.keys import KeyHooks
from mirror.hook.outbox import Outbox
from tests.unit.test_hook_watch import Sent

TABLES = (
    "CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)",
    "CREATE TABLE g(x)",
    "CREATE TABLE log(id INTEGER PRIMARY KEY, x)",
    "CREATE TABLE child(id INTEGER PRIMARY KEY, p REFERENCES t ON DELETE CASCADE)",
    "CREATE TABLE w(k PRIMARY KEY, v) WITHOUT ROWID",
    "CREATE VIRTUAL TABLE f USING fts5(x)",
    "CREATE TRIGGER tr AFTER INSERT ON t WHEN new.v > 50 BEGIN INSERT INTO log(x) VALUES (new.v); END",
    "PRAGMA foreign_keys=ON",
)


class Program:
    """A connection with hooks."""

    def __init__(self, path: Path, mode: str) -> None:
        self.db = apsw.Connection(str(path))
        self.sent = Sent()
        self.watch = KeyHooks(self.db, cast("Outbox", self.sent), Budget(), rows=False)
        self.db.create_scalar_function("logged", self._logged)
        for sql in (f"PRAGMA journal_mode={mode}", *TABLES):
            self.db.execute(sql).fetchall()
        self.sent.take()

    def _logged(self, x: int) -> int:
        """A function that writes: its statement runs inside of another."""
        self.db.execute("INSERT INTO log(x) VALUES (?)", (x,))
        return x

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.db.execute(statement).fetchall()

    def told(self) -> list[Any]:
        """The rows of each commit since the last call, in short: ``+t1``; None: not known."""
        signs = {"INSERT": "+", "UPDATE": "*", "DELETE": "-"}
        return [
            None if rows is None else [f"{signs[op]}{table}{rowid}" for op, table, rowid in rows]
            for rows in self.sent.rows()
        ]


@pytest.fixture(params=["wal", "delete"])
def program(request: pytest.FixtureRequest, folder: Path) -> Program:
    return Program(folder / "p.db", request.param)


def test_keys_are_told(program: Program) -> None:
    program.run("INSERT INTO t VALUES (1, 1), (2, 2)", "UPDATE t SET v = 3 WHERE id = 1", "DELETE FROM t WHERE id = 2")
    assert program.told() == [["+t1", "+t2"], ["*t1"], ["-t2"]]
    program.run("BEGIN", "INSERT INTO t VALUES (5, 60)", "UPDATE log SET x = 1 WHERE id = 1", "COMMIT")
    assert program.told() == [["+t5", "+log1", "*log1"]]
    program.run("INSERT INTO child VALUES (1, 5), (2, 5)", "DELETE FROM t WHERE id = 5")
    assert program.told() == [["+child1", "+child2"], ["-t5", "-child1", "-child2"]]
    program.run("BEGIN", "INSERT INTO t VALUES (7, 7)", "ROLLBACK", "SELECT 1", "INSERT INTO t VALUES (8, 8)")
    assert program.told() == [["+t8"]]
    program.run("BEGIN", "INSERT INTO t VALUES (9, 9)", "SAVEPOINT s", "DELETE FROM t", "ROLLBACK TO s", "COMMIT")
    assert program.told() == [["+t9"]]


@pytest.mark.parametrize(
    "statements",
    [
        ["DELETE FROM g"],
        ["INSERT INTO w VALUES (1, 2)"],
        ["INSERT INTO t VALUES (9, logged(9))"],
        ["BEGIN", "INSERT INTO t VALUES (7, 7)", "INSERT INTO t VALUES (8, 8), (9, 7)", "COMMIT"],
        ["INSERT INTO f VALUES ('some words')"],
    ],
)
def test_where_the_update_hook_is_silent_or_wrong_no_keys_are_told(program: Program, statements: list[str]) -> None:
    program.run("INSERT INTO t VALUES (1, 1), (2, 2)", "INSERT INTO g VALUES (1)")
    program.told()
    for statement in statements:
        with suppress(apsw.ConstraintError):
            program.run(statement)
    assert program.told() == [None]
    program.run("INSERT INTO t VALUES (20, 20)")
    assert program.told() == [["+t20"]], "the next transaction is sent again"


def test_a_commit_that_fails_is_not_told_of(folder: Path) -> None:
    program = Program(folder / "p.db", "delete")
    reader = apsw.Connection(str(folder / "p.db"))
    rows = reader.execute("SELECT * FROM sqlite_master")
    next(rows)
    with pytest.raises(apsw.BusyError):
        program.run("INSERT INTO t VALUES (1, 1)")
    program.run("BEGIN", "INSERT INTO t VALUES (1, 1)")
    with pytest.raises(apsw.BusyError):
        program.run("COMMIT")
    assert program.told() == []
    rows.fetchall()
    program.run("COMMIT", "INSERT INTO t VALUES (2, 2)")
    assert program.told() == [["+t1"], ["+t2"]]
    reader.close()


def test_the_programs_update_hook_takes_the_place_of_ours(program: Program) -> None:
    """It stays when ours rest, are set again, and are removed."""
    seen: list[tuple[Any, ...]] = []
    program.db.set_update_hook(lambda *row: seen.append(row))
    program.run("INSERT INTO t VALUES (1, 1)")
    assert program.told() == [None]
    program.watch._rest(program.db, 1.0)
    assert program.watch.resume()
    program.run("INSERT INTO t VALUES (2, 2)")
    program.watch.remove()
    program.run("INSERT INTO t VALUES (3, 3)")
    assert [row[3] for row in seen] == [1, 2, 3]
    assert program.told() == [None]


def test_a_rest(program: Program) -> None:
    program.watch._rest(program.db, 1.0)
    program.run("INSERT INTO t VALUES (1, 1)")
    assert program.told() == []
    assert program.watch.resume()
    program.run("INSERT INTO t VALUES (2, 2)")
    assert program.told() == [["+t2"]]
    program.watch.remove()
    program.run("INSERT INTO t VALUES (3, 3)")
    assert program.told() == []
