"""Whatever a program does: what its hooks tell of a transaction is what it has done, or no rows are sent."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import apsw
import pytest

from mirror.hook.budget import Budget
from mirror.hook.keys import KeyHooks
from mirror.hook.outbox import Outbox
from mirror.hook.watch import ConnectionHooks
from tests.support.hooked import row_told
from tests.unit.test_hook_watch import Sent

TABLES = {"t": "id", "g": "rowid", "log": "id", "child": "id", "w": "k"}
SCHEMA = (
    "CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE NOT NULL CHECK (v <> 13))",
    "CREATE TABLE g(x)",
    "CREATE TABLE log(id INTEGER PRIMARY KEY, x)",
    "CREATE TABLE child(id INTEGER PRIMARY KEY, p REFERENCES t ON DELETE CASCADE ON UPDATE SET NULL)",
    "CREATE TABLE w(k PRIMARY KEY, v UNIQUE) WITHOUT ROWID",
    "CREATE VIRTUAL TABLE f USING fts5(x)",
    "CREATE VIEW vt AS SELECT * FROM t",
    "CREATE TRIGGER tr AFTER INSERT ON t WHEN new.v > 50 BEGIN INSERT INTO log(x) VALUES (new.v); END",
    "CREATE TRIGGER td AFTER DELETE ON t WHEN old.v % 7 = 1 BEGIN SELECT RAISE(ABORT, 'no'); END",
    "CREATE TRIGGER tu BEFORE UPDATE ON t WHEN old.v % 9 = 1 BEGIN SELECT RAISE(IGNORE); END",
    "CREATE TRIGGER tv INSTEAD OF INSERT ON vt BEGIN INSERT INTO t VALUES (new.id, new.v); END",
)
STATEMENTS = (
    "INSERT INTO t VALUES (NULL, ?a)",
    "INSERT INTO t VALUES (NULL, ?a), (NULL, ?b), (?c, 13)",
    "INSERT OR FAIL INTO t VALUES (NULL, ?a), (NULL, ?b)",
    "INSERT OR ROLLBACK INTO t VALUES (NULL, ?a), (NULL, ?b)",
    "INSERT OR REPLACE INTO t VALUES (?b, ?a)",
    "REPLACE INTO w VALUES (?a, ?b), (?b, ?a)",
    "INSERT OR IGNORE INTO t VALUES (?b, ?a), (?a, ?b)",
    "INSERT INTO t VALUES (?a, ?b) ON CONFLICT(id) DO UPDATE SET v = v + ?c",
    "INSERT INTO vt VALUES (?a, ?b)",
    "UPDATE OR REPLACE t SET v = ?a WHERE id % 5 = ?c",
    "UPDATE t SET v = v + 1 WHERE id % 5 = ?c",
    "UPDATE t SET id = ?b WHERE id = ?a",
    "DELETE FROM t WHERE id % 7 = ?c",
    "DELETE FROM t",
    "DELETE FROM g",
    "INSERT INTO g VALUES (?a), (?b)",
    "INSERT INTO child VALUES (NULL, ?a)",
    "INSERT INTO child SELECT NULL, id FROM t LIMIT ?c",
    "DELETE FROM w WHERE k > ?a",
    "INSERT INTO f VALUES ('?a ?b')",
    "SELECT logged(?a)",
    "SELECT back(), logged(?c)",
    "INSERT INTO t VALUES (NULL, logged(?a))",
    "INSERT INTO t SELECT NULL, logged(?a) UNION ALL SELECT NULL, NULL",
    "INSERT INTO t VALUES (NULL, ?a) RETURNING id",
    "UPDATE g SET x = x || 'y' RETURNING x",
    "-- name: one\nUPDATE w SET v = ?a WHERE k = ?b",
    "-- undo\nROLLBACK TO s",
    "HALF SELECT * FROM t, g",
    "HALF UPDATE log SET x = ?a RETURNING x",
    *("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "SAVEPOINT S", "ROLLBACK TO s", "RELEASE s") * 2,
    "SELECT count(*) FROM t",
)
State = dict[tuple[str, object], tuple[Any, ...]]


class Program:
    """A connection with hooks, and another that sees what was committed."""

    def __init__(self, path: Path, mode: str, kind: type[ConnectionHooks], seed: int) -> None:
        self.random = random.Random(seed)
        self.db = apsw.Connection(str(path))
        self.outside = apsw.Connection(str(path))
        self.sent = Sent()
        self.half: list[apsw.Cursor] = []
        self.watch = kind(self.db, cast("Outbox", self.sent), Budget(), rows=kind is ConnectionHooks)
        self.db.create_scalar_function("logged", self._logged)
        self.db.create_scalar_function("back", lambda: self.db.execute("ROLLBACK TO s").fetchall() or None)
        for sql in (f"PRAGMA journal_mode={mode}", *SCHEMA, "PRAGMA foreign_keys=ON", "PRAGMA recursive_triggers=ON"):
            self.db.execute(sql).fetchall()
        self.sent.take()

    def _logged(self, x: int) -> int:
        """A function that writes: its statement runs inside of another."""
        self.db.execute("INSERT INTO log(x) VALUES (?)", (x,))
        return x

    def step(self) -> str:
        """Do something; what it was. It may fail."""
        r = self.random
        sql = r.choice(STATEMENTS)
        for name, below in (("?a", 60), ("?b", 60), ("?c", 5)):
            sql = sql.replace(name, str(r.randrange(below)))
        if self.half and r.random() < 0.4:
            self.half.pop().close()
        with suppress(apsw.Error):
            if sql.startswith("HALF"):
                self.half.append(self.db.execute(sql[5:]))
                next(self.half[-1], None)
            else:
                self.db.execute(sql).fetchall()
        return sql

    def state(self) -> State:
        return {
            (table, row[0]): row[1:]
            for table, key in TABLES.items()
            for row in self.outside.execute(f"SELECT {key}, * FROM {table}").fetchall()
        }

    def told(self) -> list[list[tuple[Any, ...]] | None]:
        """The rows of each commit since the last call; None: not known."""
        messages = [message for message in self.sent.take() if message[0] == "commit"]
        return [None if rows is None else [row_told(row) for row in rows] for rows in (m[4] for m in messages)]


def key(table: str, rowid: int, values: tuple[Any, ...]) -> tuple[str, object]:
    return table, values[0] if table == "w" else rowid


@pytest.mark.parametrize("kind", [ConnectionHooks, KeyHooks])
@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("seed", range(6))
def test_what_is_told_is_so(folder: Path, mode: str, kind: type[ConnectionHooks], seed: int) -> None:
    """All values are right; where only keys are told, rows that are new are named and deleted ones are gone."""
    program = Program(folder / "p.db", mode, kind, seed)
    before, known = program.state(), 0
    steps: list[str] = []
    for _ in range(600):
        steps.append(program.step())
        if program.db.in_transaction or program.db.txn_state() > 1:
            continue
        after, commits = program.state(), program.told()
        if not commits:
            assert kind is KeyHooks or after == before, steps
        elif None not in commits:
            rows = [row for commit in commits for row in commit or () if row[1] in TABLES]
            known += 1
            if kind is ConnectionHooks:
                expected = dict(before)
                for _, table, rowid, new_rowid, old, new in rows:
                    if old is not None:
                        del expected[key(table, rowid, old)]
                    if new is not None:
                        expected[key(table, new_rowid, new)] = new
                assert after == expected, (steps, rows)
            else:
                last = {(table, rowid): op for op, table, rowid in rows}
                assert {each for each in after if each not in before} <= last.keys(), steps
                assert not {each for each, op in last.items() if op == "DELETE"} & after.keys(), steps
        before = after
        steps.clear()
    assert known > 20 and not program.watch.failures
    for cursor in program.half:
        cursor.close()
    program.outside.close()
