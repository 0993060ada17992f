"""The statements that ``mirror cutover plan`` prints: each runs, and Postgres then takes what SQLite takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.commands import CommandLine
from tests.support.source import Writer, WriterError

#: The guard rails of constraints.
CONSTRAINTS = ("unique indexes", "not null", "sequences", "foreign keys")


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@dataclass
class Case:
    """A file; transactions that both stores are given once the statements have run; and what they have then."""

    made: Sequence[str]
    attempts: Sequence[Sequence[str] | str] = ()
    shown: Sequence[str] = ()
    """Queries with the same result in both."""
    notes: Sequence[str] = ()
    """Parts of the figures: what no statement makes."""


LONG = "a_name_that_is_so_long_that_postgres_cuts_it_at_its_end_" + "x" * 40

CASES = {
    "actions": Case(
        [
            "CREATE TABLE p(id INTEGER PRIMARY KEY, code TEXT UNIQUE, a INT, b INT, UNIQUE (b, a))",
            "CREATE TABLE c1(p INT REFERENCES p ON UPDATE CASCADE ON DELETE SET NULL)",
            "CREATE TABLE c2(code TEXT REFERENCES P(CODE) ON DELETE CASCADE ON UPDATE SET NULL)",
            "CREATE TABLE c3(a INT, b INT, FOREIGN KEY (a, b) REFERENCES p(a, b) ON UPDATE RESTRICT)",
            "CREATE TABLE c4(p INT DEFAULT NULL REFERENCES p(id) ON DELETE SET DEFAULT)",
            "INSERT INTO p VALUES (1, 'x', 1, 2), (2, 'y', 3, 4), (3, 'z', 5, 6)",
            "INSERT INTO c1 VALUES (1), (2), (NULL)",
            "INSERT INTO c2 VALUES ('x'), ('y'), (NULL)",
            "INSERT INTO c3 VALUES (5, 6), (NULL, 9)",
            "INSERT INTO c4 VALUES (2)",
        ],
        [
            "UPDATE p SET id = 10 WHERE id = 1",
            "UPDATE p SET code = 'new' WHERE code = 'x'",
            "DELETE FROM p WHERE id = 2",
            "UPDATE p SET a = 7 WHERE id = 3",
            "DELETE FROM p WHERE id = 3",
            "INSERT INTO c1(p) VALUES (99)",
            "INSERT INTO c3(a, b) VALUES (NULL, 77)",
            "INSERT INTO c3(a, b) VALUES (6, 5)",
        ],
        [
            "SELECT p FROM c1 ORDER BY p IS NULL, p",
            "SELECT code FROM c2 ORDER BY code IS NULL, code",
            "SELECT p FROM c4 ORDER BY 1",
        ],
    ),
    "deferred": Case(
        [
            "CREATE TABLE p(id INTEGER PRIMARY KEY)",
            "CREATE TABLE a(p INT /* REFERENCES x */ REFERENCES p -- DEFERRABLE\n"
            " NOT NULL DEFERRABLE INITIALLY DEFERRED, q INT REFERENCES p NOT DEFERRABLE INITIALLY DEFERRED)",
            'CREATE TABLE b("DEFERRABLE" INT DEFAULT 1, p INT REFERENCES p DEFERRABLE INITIALLY IMMEDIATE, q INT,'
            ' s INT, FOREIGN KEY ("q") REFERENCES p(id) MATCH FULL ON DELETE NO ACTION deferrable initially deferred,'
            " CONSTRAINT last FOREIGN KEY ([s]) REFERENCES p)",
            "CREATE TABLE later(id INTEGER PRIMARY KEY)",
            "ALTER TABLE later ADD COLUMN p INT REFERENCES p DEFERRABLE INITIALLY DEFERRED",
            "CREATE TABLE x(id INTEGER PRIMARY KEY, y INT REFERENCES y DEFERRABLE INITIALLY DEFERRED)",
            "CREATE TABLE y(id INTEGER PRIMARY KEY, x INT REFERENCES x, y INT REFERENCES y ON DELETE CASCADE)",
        ],
        [
            ("INSERT INTO a(p) VALUES (1)", "INSERT INTO p VALUES (1)"),
            ("INSERT INTO a(p, q) VALUES (1, 2)", "INSERT INTO p VALUES (2)"),
            "INSERT INTO a(p) VALUES (7)",
            ("INSERT INTO b(p) VALUES (3)", "INSERT INTO p VALUES (3)"),
            ("INSERT INTO b(q) VALUES (4)", "INSERT INTO p VALUES (4)"),
            ("INSERT INTO b(s) VALUES (5)", "INSERT INTO p VALUES (5)"),
            ("INSERT INTO later(id, p) VALUES (1, 6)", "INSERT INTO p VALUES (6)"),
            ("INSERT INTO x VALUES (1, 1)", "INSERT INTO y VALUES (1, 1, 1)"),
            ("INSERT INTO y VALUES (2, 2, 2)", "INSERT INTO x VALUES (2, 2)"),
        ],
        ["SELECT id FROM p ORDER BY 1"],
    ),
    "collations": Case(
        [
            "CREATE TABLE n(name TEXT COLLATE NOCASE UNIQUE, t TEXT COLLATE RTRIM, d INT)",
            "CREATE UNIQUE INDEX n_t ON n(t, d DESC)",
            "CREATE TABLE k(name TEXT COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID",
            "INSERT INTO n VALUES ('É', 'a', 1), ('é', 'b', 1), ('İ', 'b', 2), ('i', NULL, 2), (NULL, NULL, 2)",
            "INSERT INTO k VALUES ('É'), ('é'), ('a')",
            "CREATE TABLE child(k TEXT REFERENCES k)",
            "INSERT INTO child VALUES ('A'), ('É'), ('nobody')",
        ],
        [
            "INSERT INTO n(name) VALUES ('I')",
            "INSERT INTO n(name) VALUES ('ı')",
            "INSERT INTO n(name) VALUES (NULL)",
            "INSERT INTO n(t, d) VALUES ('a  ', 1)",
            "INSERT INTO n(t, d) VALUES ('a ', 2)",
            "INSERT INTO n(t, d) VALUES ('A', 1)",
            "INSERT INTO k(name) VALUES ('A')",
            "INSERT INTO k(name) VALUES ('Ä')",
            "INSERT INTO k(name) VALUES ('ä')",
        ],
        notes=[
            "child(k) to k: 1 orphan: nobody",
            "name is compared by NOCASE, which no foreign key",
        ],
    ),
    "conditions": Case(
        [
            "CREATE TABLE t(a INT, b TEXT, gone TEXT, ok BOOLEAN, kind TEXT, n INT)",
            'CREATE UNIQUE INDEX t1 ON t(a) WHERE gone IS NULL AND ("b" IS NOT NULL)',
            "CREATE UNIQUE INDEX t2 ON t(b) where /* WHERE */ ok = 1",
            "CREATE UNIQUE INDEX t3 ON t(n) WHERE kind == 'it''s' AND n NOTNULL",
            "CREATE UNIQUE INDEX t4 ON t(a, n) WHERE n = 7",
            "CREATE UNIQUE INDEX t5 ON t(kind) WHERE length(kind) > 30",
            "CREATE UNIQUE INDEX t6 ON t(kind) WHERE n IS NULL OR a IS NULL",
            "CREATE UNIQUE INDEX t7 ON t(lower(b), a)",
            "CREATE UNIQUE INDEX t8 ON t(kind, a, b) WHERE n > 5",
            "INSERT INTO t VALUES (1, 'x', NULL, 1, 'it''s', 1), (1, 'y', 'gone', 0, 'k', 2)",
        ],
        [
            "INSERT INTO t(a, b, ok, n) VALUES (1, 'new', false, 20)",
            "INSERT INTO t(a, b, ok, gone, n) VALUES (2, 'x', false, 'gone', 21)",
            "INSERT INTO t(a, b, ok, gone, n) VALUES (3, 'x', true, 'gone', 22)",
            "INSERT INTO t(n, kind, a) VALUES (1, 'it''s', 4)",
            "INSERT INTO t(n, kind, a) VALUES (2, 'it''s', 5)",
            "INSERT INTO t(n, a) VALUES (7, 7)",
            "INSERT INTO t(n, a, b) VALUES (7, 7, 'another')",
        ],
        notes=[
            "t(kind) where a condition holds: its condition is not carried over: length (kind) > 30",
            "its condition is not carried over: n IS NULL OR a IS NULL",
            "its condition is not carried over: n > 5",
            "t(an expression, a): it is of an expression",
        ],
    ),
    "kinds": Case(
        [
            "CREATE TABLE mixed(v, w UNIQUE, UNIQUE (v, w))",
            "INSERT INTO mixed VALUES (1, 'a'), ('1', 'b'), (x'31', 'c'), (NULL, NULL), (NULL, 2)",
            "CREATE TABLE w(a TEXT, b ANY, PRIMARY KEY (b, a)) STRICT, WITHOUT ROWID",
            "INSERT INTO w VALUES ('x', 1), ('x', '1')",
            "CREATE TABLE wc(a TEXT, b ANY, FOREIGN KEY (a, b) REFERENCES w(a, b)) STRICT",
            "INSERT INTO wc VALUES ('x', 1)",
            "CREATE TABLE p(id INTEGER PRIMARY KEY, code TEXT UNIQUE, r REAL UNIQUE)",
            "INSERT INTO p VALUES (1, '1', 1.5), (2, '02', 2)",
            "CREATE TABLE c(code INT REFERENCES p(code), id TEXT REFERENCES p(id), any REFERENCES p(id),"
            " r INT REFERENCES p(r))",
            "INSERT INTO c VALUES (1, '1', 1, 2), (NULL, ' 2 ', '2', NULL), (NULL, '1.0', 'x', NULL), (2, 'x', 9, 3)",
            "CREATE TABLE long(t TEXT UNIQUE)",
            "INSERT INTO long VALUES ('short')",
            "INSERT INTO long SELECT group_concat(hex(randomblob(500)), '') FROM (SELECT 1 UNION SELECT 2 UNION"
            " SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)",
        ],
        notes=[
            "c(code) to p: 1 orphan: 2",
            "c(id) to p: 1 orphan: x",
            "c(any) to p: 2 orphans: x; 9",
            "c(r) to p: 1 orphan: 3",
            "c(code) to p: Postgres does not compare bigint with text",
            "c(id) to p: Postgres does not compare text with bigint",
            "c(any) to p: Postgres does not compare jsonb with bigint",
            "an index of Postgres takes about",
        ],
    ),
    "not keys": Case(
        [
            "CREATE TABLE p(id INTEGER PRIMARY KEY, a INT, b TEXT UNIQUE)",
            "CREATE UNIQUE INDEX p_b ON p(a) WHERE a > 0",
            "CREATE TABLE c(a INT REFERENCES p(a), d INT DEFAULT 5 REFERENCES p ON DELETE SET DEFAULT)",
            "INSERT INTO p VALUES (1, 1, 'x')",
        ],
        notes=["foreign key mismatch", "SET DEFAULT needs the DEFAULT of d"],
    ),
    "names": Case(
        [
            'CREATE TABLE "select"(id INTEGER PRIMARY KEY, "Order" TEXT UNIQUE NOT NULL, "a""b\'c; d" TEXT UNIQUE)',
            f'CREATE TABLE {LONG}1("{LONG}a" INT UNIQUE NOT NULL, "{LONG}b" INT REFERENCES {LONG}1("{LONG}a"))',
            f'CREATE TABLE {LONG}2("{LONG}a" INT UNIQUE NOT NULL, "{LONG}b" INT REFERENCES {LONG}1("{LONG}a"))',
            'CREATE TABLE "t_id_seq"(id INTEGER PRIMARY KEY AUTOINCREMENT)',
            'CREATE TABLE t(id INTEGER PRIMARY KEY, s INT UNIQUE REFERENCES "SELECT")',
            "CREATE TABLE t_s_idx(s INT UNIQUE, t_s_fkey INT REFERENCES t)",
            'CREATE TABLE t_s_fkey(s INT REFERENCES "t"("ID"), "lower(""Order"")" TEXT UNIQUE, "%s" INT UNIQUE)',
            "INSERT INTO \"select\" VALUES (1, 'x', 'y')",
        ],
        [
            'INSERT INTO "select"("Order") VALUES (\'x\')',
            'INSERT INTO "select"(id, "Order", "a""b\'c; d") VALUES (7, \'z\', \'y\')',
            "INSERT INTO t(id, s) VALUES (1, 1)",
            "INSERT INTO t(id, s) VALUES (2, 2)",
            'INSERT INTO t_s_fkey("%s") VALUES (5)',
            'INSERT INTO t_s_fkey("%s") VALUES (5)',
        ],
    ),
    "numbers": Case(
        [
            "CREATE TABLE used_up(id INTEGER PRIMARY KEY AUTOINCREMENT)",
            "INSERT INTO used_up VALUES (9223372036854775807)",
            "CREATE TABLE nearly(id INTEGER PRIMARY KEY)",
            "INSERT INTO nearly VALUES (9223372036854775806)",
            "CREATE TABLE negative(id INTEGER PRIMARY KEY, x INT)",
            "INSERT INTO negative VALUES (-5, 1)",
            "CREATE TABLE gone(id INTEGER PRIMARY KEY AUTOINCREMENT, x INT)",
            "INSERT INTO gone VALUES (41, 1)",
            "DELETE FROM gone",
        ],
        ["INSERT INTO gone(x) VALUES (2)"],
        ["SELECT id FROM gone"],
        ["used_up.id (SQLite is at 9,223,372,036,854,775,807): its numbers are used up"],
    ),
}


def planned(cli: CommandLine, source: Path) -> dict[str, Any]:
    done = cli.run("cutover", "plan", source, "--json")
    assert "Traceback" not in done.err, done
    (verdict,) = json.loads(done.out)["sources"]
    assert isinstance(verdict, dict)
    return verdict


def printed(verdict: dict[str, Any]) -> list[str]:
    """The statements of all guard rails, in their order."""
    assert all(isinstance(statement, str) for statement in verdict["statements"])
    for statement in verdict["statements"]:
        assert any(statement in rail["next_step"] for rail in verdict["rails"])
    return list(verdict["statements"])


def takes(connection: psycopg.Connection[Any], statements: Sequence[str]) -> bool:
    try:
        with connection.transaction():
            for statement in statements:
                connection.execute(statement.encode())
    except psycopg.errors.IntegrityError:
        return False
    return True


def sqlite_takes(writer: Writer, statements: Sequence[str]) -> bool:
    try:
        writer.transaction(*statements)
    except WriterError:
        writer.run("ROLLBACK")
        return False
    return True


@pytest.mark.parametrize("name", CASES)
def test_what_is_printed_runs_and_holds_what_sqlite_holds(
    cli: CommandLine, writer: Writer, database: Path, dsn: str, name: str
) -> None:
    case = CASES[name]
    writer.run(*case.made)
    assert cli.run("up", database, "--once").code == 0
    verdict = planned(cli, database)
    figures = "\n".join(rail["figure"] for rail in verdict["rails"])
    for note in case.notes:
        assert note in figures
    with psycopg.connect(dsn, autocommit=True) as connection:
        with connection.transaction():
            for statement in printed(verdict):
                connection.execute(statement.encode())
        writer.run("PRAGMA foreign_keys=ON")
        for attempt in case.attempts:
            statements = [attempt] if isinstance(attempt, str) else list(attempt)
            assert takes(connection, statements) == sqlite_takes(writer, statements), statements
        for query in case.shown:
            assert [list(row) for row in connection.execute(query.encode()).fetchall()] == writer.run(query)
        # What was made is found: the plan prints none of it again.
        verdict = planned(cli, database)
        assert printed(verdict) == []
        failing = {rail["name"] for rail in verdict["rails"] if not rail["passed"]} & {*CONSTRAINTS}
        assert bool(failing) == bool(case.notes)


def test_actions_of_an_agents_rows(cli: CommandLine, writer: Writer, database: Path, dsn: str) -> None:
    """The agent's id leads each key, and stays when the row that is referred to goes."""
    writer.run(
        "CREATE TABLE p(id INTEGER PRIMARY KEY)",
        "CREATE TABLE c(id INTEGER PRIMARY KEY, p INT REFERENCES p ON DELETE SET NULL)",
        "CREATE TABLE d(id INTEGER PRIMARY KEY, p INT REFERENCES p ON UPDATE SET NULL)",
        "INSERT INTO p VALUES (1)",
        "INSERT INTO c VALUES (1, 1)",
    )
    assert cli.run("up", database, "--agent", "maya", "--once").code == 0
    verdict = planned(cli, database)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in printed(verdict):
            connection.execute(statement.encode())
        connection.execute("DELETE FROM p")
        assert connection.execute("SELECT agent_id, id, p FROM c").fetchall() == [("maya", 1, None)]
    figures = {rail["name"]: rail["figure"] for rail in planned(cli, database)["rails"]}
    assert "d(p) to p: ON UPDATE SET NULL would take the row from its agent" in figures["foreign keys"]
    assert "c(p)" not in figures["foreign keys"]


def test_the_next_step_of_a_sequence_runs(cli: CommandLine, writer: Writer, database: Path, dsn: str) -> None:
    writer.run('CREATE TABLE "it\'s a ""T"""(id INTEGER PRIMARY KEY)', 'INSERT INTO "it\'s a ""T""" VALUES (5)')
    assert cli.run("up", database, "--once").code == 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in printed(planned(cli, database)):
            connection.execute(statement.encode())
        connection.execute('INSERT INTO "it\'s a ""T""" VALUES (70)')
        (rail,) = [rail for rail in planned(cli, database)["rails"] if rail["name"].startswith("sequence of")]
        assert not rail["passed"]
        connection.execute(rail["next_step"].encode())
        made = connection.execute('INSERT INTO "it\'s a ""T""" DEFAULT VALUES RETURNING id').fetchone()
        assert made == (71,)


def test_a_key_that_is_there_but_does_something_else(
    cli: CommandLine, writer: Writer, database: Path, dsn: str
) -> None:
    """Neither a foreign key with other actions passes, nor an index of fewer rows, or of other letters."""
    writer.run(
        "CREATE TABLE p(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n TEXT COLLATE NOCASE UNIQUE)",
        "CREATE TABLE c(id INTEGER PRIMARY KEY, p INT REFERENCES p ON DELETE CASCADE, u UNIQUE ON CONFLICT REPLACE)",
        "INSERT INTO p VALUES (1, 'x', 'y')",
        "INSERT INTO c VALUES (1, 1, 1)",
    )
    assert cli.run("up", database, "--once").code == 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE c ADD FOREIGN KEY (p) REFERENCES p")
        connection.execute("CREATE UNIQUE INDEX ON p(name) WHERE id > 5")
        connection.execute("CREATE UNIQUE INDEX ON p(lower(n))")
        verdict = planned(cli, database)
        rails = {rail["name"]: rail for rail in verdict["rails"]}
        assert "c(p) to p" in rails["foreign keys"]["figure"]
        assert "p(name)" in rails["unique indexes"]["figure"] and "p(n)" in rails["unique indexes"]["figure"]
        assert rails["ON CONFLICT"]["figure"].endswith(": c")
        for statement in printed(verdict):
            connection.execute(statement.encode())
        connection.execute("DELETE FROM p")
        assert connection.execute("SELECT * FROM c").fetchall() == []
    assert printed(planned(cli, database)) == []
