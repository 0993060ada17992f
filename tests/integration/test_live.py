"""A source that is being written arrives in Postgres, whatever wrote it and however."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import apsw
import psycopg
import pytest

from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, WriterError
from tests.support.waiting import LIMIT, until


def rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


def test_snapshot_then_every_commit(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, score REAL, raw BLOB)")
    writer.run(("INSERT INTO t VALUES (1, 'before', 1.5, ?)", (b"\x00\xff",)))
    mirror.start()
    writer.run("INSERT INTO t VALUES (2, 'after', NULL, NULL)")
    writer.run("UPDATE t SET name = 'changed' WHERE id = 1")
    mirror.wait_applied()
    assert rows(dsn, "SELECT id, name, score, raw FROM t ORDER BY id") == [
        (1, "changed", 1.5, b"\x00\xff"),
        (2, "after", None, None),
    ]


@pytest.mark.parametrize("driver", ["sqlite3", "apsw"])
def test_any_driver(mirror: MirrorProcess, writer: Writer, database: Path, driver: str) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    mirror.start()
    with Writer(database, driver=driver) as other:
        for value in range(50):
            other.run(("INSERT INTO t(v) VALUES (?)", (value,)))
    mirror.check()


def test_the_sqlite_shell(mirror: MirrorProcess, writer: Writer, database: Path) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    mirror.start()
    shell = Path(apsw.__file__).parent / "sqlite_extra_binaries" / "sqlite3_shell"
    subprocess.run([shell, database, "INSERT INTO t(v) VALUES ('from the shell')"], check=True)
    mirror.check()


def test_two_programs_at_once_and_all_kinds_of_checkpoints(
    mirror: MirrorProcess, writer: Writer, database: Path
) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, who TEXT, v)")
    mirror.start()
    with Writer(database) as other:
        for turn, kind in enumerate(("PASSIVE", "FULL", "RESTART", "TRUNCATE") * 5):
            for who in (writer, other):
                who.send(*(f"INSERT INTO t(who, v) VALUES ('{who.pid}', {n})" for n in range(turn, turn + 20)))
            for who in (writer, other):
                who.answer()
            other.run(f"PRAGMA wal_checkpoint({kind})")
    mirror.check()


def test_no_gap_while_checkpoints_reset_the_wal(mirror: MirrorProcess, writer: Writer) -> None:
    """Resets that capture has followed are proved contiguous, by counting commits, not guessed."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    mirror.start()
    for turn in range(30):
        writer.run(f"INSERT INTO t(v) VALUES ({turn})")
        mirror.wait_applied()
        writer.run(f"PRAGMA wal_checkpoint({'TRUNCATE' if turn % 2 else 'RESTART'})")
    mirror.wait_applied()
    assert mirror.status()["gaps"] == []


@pytest.mark.slow
def test_200_000_unpaced_commits(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """None is lost. (That none needs a re-diff depends on the machine: scripts/bench/writer.py counts gaps.)"""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    mirror.start()
    mirror.wait_applied()
    for _ in range(20):
        writer.run(*["INSERT INTO t(v) VALUES (abs(random()))"] * 10_000)
    mirror.wait_applied(120)
    if not mirror.status()["gaps"]:
        assert mirror.status()["commits"] == 200_000
    assert rows(dsn, "SELECT count(*) FROM t") == [(200_000,)]


def test_a_large_transaction(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")
    mirror.start()
    mirror.wait_applied()
    writer.run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
        " INSERT INTO t SELECT i, 'row ' || i FROM n"
    )
    writer.run("UPDATE t SET v = v || '!' WHERE id % 2")
    writer.run("DELETE FROM t WHERE id % 3 = 0")
    mirror.wait_applied()
    assert rows(dsn, "SELECT count(*) FROM t") == [(66_667,)]


def test_delete_without_where_and_rolled_back_work(mirror: MirrorProcess, writer: Writer) -> None:
    writer.run("PRAGMA secure_delete=OFF", "PRAGMA cache_size=5")
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)", "CREATE TABLE u(id INTEGER PRIMARY KEY, v TEXT)")
    fill = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
        " INSERT INTO {} SELECT i, printf('%.200c', 'x') FROM n"
    )
    writer.run(fill.format("t"), fill.format("u"))
    mirror.start()
    mirror.wait_applied()
    writer.run("BEGIN", "UPDATE u SET v = 'spilled'", "ROLLBACK")
    writer.run("DELETE FROM t")
    writer.run("BEGIN", "DELETE FROM u WHERE id < 10", "SAVEPOINT s", "DELETE FROM u", "ROLLBACK TO s", "COMMIT")
    mirror.check()
    writer.run(fill.format("t").replace("3000", "10"))


def test_schema_changes_while_running(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    writer.run("CREATE TABLE a(id INTEGER PRIMARY KEY, v)", "INSERT INTO a VALUES (1, 'x')")
    mirror.start()
    mirror.wait_applied()
    writer.run("CREATE TABLE b(k TEXT PRIMARY KEY, v REAL) WITHOUT ROWID", "INSERT INTO b VALUES ('k', 1)")
    mirror.check()
    writer.run("ALTER TABLE a ADD COLUMN more TEXT DEFAULT 'filled'", "INSERT INTO a VALUES (2, 'y', NULL)")
    mirror.check()
    writer.run("ALTER TABLE b RENAME TO c", "ALTER TABLE a RENAME COLUMN v TO w")
    mirror.check()
    writer.transaction(
        "CREATE TABLE a_new(id INTEGER PRIMARY KEY, w, more INTEGER)",
        "INSERT INTO a_new SELECT id, w, 7 FROM a",
        "DROP TABLE a",
        "ALTER TABLE a_new RENAME TO a",
    )
    mirror.check()
    writer.run("DROP TABLE c", "VACUUM")
    mirror.wait_applied()
    kept = rows(dsn, "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'c\\_\\_dropped%'")
    assert len(kept) == 1


def test_columns_change_in_place(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """What is there stays where it is, and whoever looks at it; a dropped column stays under a marked name."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c REAL)")
    writer.run("INSERT INTO t VALUES (1, 'a1', 10, 1.5), (2, 'a2', 20, 2.5)")
    mirror.start()
    mirror.wait_applied()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE VIEW seen AS SELECT id, a, c FROM t")
    before = mirror.status()["rows"]
    writer.run("ALTER TABLE t RENAME COLUMN a TO name")
    writer.run("ALTER TABLE t DROP COLUMN b")
    mirror.check()
    assert mirror.status()["rows"] == before, "rows that did not change were written"
    writer.run("ALTER TABLE t ADD COLUMN b TEXT DEFAULT 'new'", "INSERT INTO t VALUES (3, 'a3', 3.5, 'other')")
    mirror.check()
    assert rows(dsn, "SELECT * FROM seen ORDER BY id") == [(1, "a1", 1.5), (2, "a2", 2.5), (3, "a3", 3.5)]
    assert rows(dsn, "SELECT b FROM t ORDER BY id") == [("new",), ("new",), ("other",)]
    [(kept,)] = rows(dsn, "SELECT attname FROM pg_attribute WHERE attname LIKE 'b\\_\\_dropped%'")
    assert rows(dsn, f'SELECT "{kept}" FROM t ORDER BY id') == [(10,), (20,), (None,)]
    writer.transaction(
        "ALTER TABLE t RENAME COLUMN name TO x",
        "ALTER TABLE t RENAME COLUMN b TO name",
        "ALTER TABLE t RENAME COLUMN x TO b",
        "UPDATE t SET name = 'changed' WHERE id = 1",
    )
    mirror.check()
    assert rows(dsn, "SELECT name, b FROM t ORDER BY id") == [("changed", "a1"), ("new", "a2"), ("other", "a3")]
    assert mirror.status()["refusals"] == []


def test_a_key_column_is_renamed(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    writer.run("CREATE TABLE t(p TEXT, q INT, v, PRIMARY KEY (q, p))", "INSERT INTO t VALUES ('a', 1, 2)")
    writer.run("CREATE TABLE u(id INTEGER PRIMARY KEY, v)", "INSERT INTO u VALUES (5, 6)")
    mirror.start()
    mirror.wait_applied()
    writer.run("ALTER TABLE t RENAME COLUMN q TO k", "ALTER TABLE u RENAME COLUMN id TO key")
    writer.run("UPDATE t SET k = 7, v = 'text'", "UPDATE u SET v = 8", "INSERT INTO u VALUES (9, 'text')")
    mirror.check()
    assert rows(dsn, "SELECT p, k FROM t") == [("a", 7)]


def test_values_that_do_not_fit_their_column(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, x TEXT)", "INSERT INTO t VALUES (1, 2, 'ok')")
    mirror.start()
    mirror.wait_applied()
    writer.run("INSERT INTO t VALUES (2, 'no number', 'ok')", "INSERT INTO t VALUES (3, 1.5, 'nul' || char(0))")
    mirror.wait_applied()
    assert rows(dsn, "SELECT id, n, x FROM t ORDER BY id") == [(1, 2, "ok"), (2, "no number", "ok"), (3, 1.5, "nul␀")]
    status = mirror.status()
    assert (status["rejects"], status["escaped"]) == (0, ["t.x"])


def test_a_change_that_postgres_refuses_stops_nothing_else(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """Its table waits for the next step that status and parity name; then it is equal again by itself."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)", "INSERT INTO t VALUES (1, 2)")
    writer.run("CREATE TABLE u(id INTEGER PRIMARY KEY, n INTEGER)")
    mirror.start()
    mirror.wait_applied()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE VIEW seen AS SELECT n FROM t")
        writer.run("INSERT INTO t VALUES (2, 'no number')")
        writer.run("INSERT INTO u VALUES (1, 1)", "UPDATE t SET n = 3 WHERE id = 1")
        mirror.wait_applied()
        assert rows(dsn, "SELECT n FROM u") == [(1,)]
        status = mirror.status()
        assert [refusal["table"] for refusal in status["refusals"]] == ["t"]
        assert any("drop the view" in step for step in status["next_steps"])
        report = mirror.parity()
        assert {table.table: table.status for table in report.tables} == {"t": "different", "u": "equal"}
        assert report.next_steps == ("t: drop the view or rule that uses the column",)
        connection.execute("DROP VIEW seen")
    until(lambda: not mirror.status()["refusals"])
    mirror.check()


def test_a_table_dropped_in_postgres_comes_back(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)", "INSERT INTO t VALUES (1, 2)")
    mirror.start()
    mirror.wait_applied()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE t")
    writer.run("INSERT INTO t VALUES (2, 3)")
    until(lambda: rows(dsn, "SELECT to_regclass('t') IS NOT NULL") == [(True,)])
    mirror.check()


def test_a_table_that_postgres_cannot_hold_until_it_is_rebuilt(mirror: MirrorProcess, writer: Writer) -> None:
    """1,700 columns are too many; the source is corrected while the mirror runs, and once while it does not."""
    columns = ", ".join(f"c{n}" for n in range(1700))
    writer.run(f"CREATE TABLE wide({columns})", "INSERT INTO wide(c0) VALUES (1)")
    mirror.start()
    mirror.wait_applied()
    writer.run(f"CREATE TABLE more({columns})", "INSERT INTO more(c0) VALUES (1)", "UPDATE wide SET c0 = 2")
    mirror.wait_applied()
    assert {refusal["table"] for refusal in mirror.status()["refusals"]} == {"wide", "more"}
    writer.run("CREATE TABLE x AS SELECT c0 FROM wide", "DROP TABLE wide", "ALTER TABLE x RENAME TO wide")
    mirror.wait_applied()
    assert mirror.stop() == 0
    writer.run("CREATE TABLE x AS SELECT c0 FROM more", "DROP TABLE more", "ALTER TABLE x RENAME TO more")
    mirror.start()
    mirror.wait_applied()
    assert mirror.status()["refusals"] == []
    mirror.check()


@pytest.mark.parametrize("kind", ["", "INT", "TEXT", "DECIMAL"])
def test_text_with_nul_at_the_first_copy(mirror: MirrorProcess, writer: Writer, kind: str) -> None:
    writer.run(f"CREATE TABLE t(id INTEGER PRIMARY KEY, x {kind})")
    writer.run("INSERT INTO t VALUES (1, 'a' || char(0) || 'b'), (2, 'fits')")
    mirror.start()
    mirror.check()
    assert mirror.status()["rejects"] == 0
    writer.run("UPDATE t SET x = 5 WHERE id = 1")
    mirror.check()


def test_a_rename_and_null_in_the_key_at_once(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    writer.run("CREATE TABLE t(k TEXT PRIMARY KEY, v)", "INSERT INTO t VALUES ('a', 1)")
    mirror.start()
    mirror.wait_applied()
    writer.transaction("ALTER TABLE t RENAME TO u", "INSERT INTO u VALUES (NULL, 2)")
    mirror.check()
    assert rows(dsn, "SELECT k, v FROM u ORDER BY v::int") == [("a", 1), (None, 2)]


def test_a_row_that_is_too_big_for_postgres(mirror: MirrorProcess, writer: Writer) -> None:
    writer.run(f"CREATE TABLE t(id INTEGER PRIMARY KEY, {', '.join(f'c{n}' for n in range(900))})")
    mirror.start()
    texts = ", ".join(["'twelve bytes'"] * 900)
    writer.run(f"INSERT INTO t VALUES (1, {texts})", "INSERT INTO t(id) VALUES (2)")
    mirror.check()
    assert mirror.status()["rejects"] == 1
    writer.run("UPDATE t SET " + ", ".join(f"c{n} = NULL" for n in range(900)))
    mirror.check()
    assert mirror.status()["rejects"] == 0


def test_a_table_beside_a_virtual_table_of_like_name(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """Only what a module is known to keep is left out; a name that merely looks like it is mirrored."""
    writer.run("CREATE VIRTUAL TABLE docs USING fts5(x)", "CREATE VIRTUAL TABLE words USING fts5vocab('docs', 'row')")
    writer.run("CREATE TABLE words_seen(id INTEGER PRIMARY KEY, w)", "INSERT INTO words_seen VALUES (1, 'hello')")
    mirror.start()
    mirror.check()
    assert rows(dsn, "SELECT id, w FROM words_seen") == [(1, "hello")]


def test_null_in_a_declared_key(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    writer.run("CREATE TABLE t(k TEXT PRIMARY KEY, v)", "INSERT INTO t VALUES ('a', 1)")
    mirror.start()
    mirror.wait_applied()
    writer.run("INSERT INTO t VALUES (NULL, 2)", "INSERT INTO t VALUES (NULL, 3)")
    mirror.check()
    assert rows(dsn, "SELECT count(*), count(DISTINCT _rowid) FROM t") == [(3, 3)]


def test_vacuum_renumbers_rowids(mirror: MirrorProcess, writer: Writer) -> None:
    writer.run("CREATE TABLE t(k TEXT PRIMARY KEY, v)", "CREATE TABLE n(v)")
    writer.transaction(*(f"INSERT INTO t VALUES ('{n}', {n})" for n in range(500)))
    writer.transaction(*(f"INSERT INTO n VALUES ({n})" for n in range(500)))
    mirror.start()
    mirror.wait_applied()
    writer.run("DELETE FROM t WHERE v % 3 = 0", "DELETE FROM n WHERE v % 3 = 0", "VACUUM")
    mirror.check()


def test_several_sources_in_one_process(make_mirror: Callable[..., MirrorProcess], folder: Path, dsn: str) -> None:
    paths = [folder / f"s{n}.db" for n in range(3)]
    writers = [Writer(path) for path in paths]
    for n, writer in enumerate(writers):
        writer.run("PRAGMA journal_mode=WAL", f"CREATE TABLE t{n}(id INTEGER PRIMARY KEY, v)")
    mirror = make_mirror(*paths)
    mirror.start()
    for n, writer in enumerate(writers):
        writer.run(*(f"INSERT INTO t{n}(v) VALUES ({v})" for v in range(100)))
    mirror.check()
    for writer in writers:
        writer.close()


def test_the_writer_is_never_kept_waiting(mirror: MirrorProcess, writer: Writer, database: Path) -> None:
    """With busy_timeout=0 no statement fails because of the mirror, not even a TRUNCATE checkpoint."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    mirror.start()
    with Writer(database, busy=0) as impatient:
        for turn in range(40):
            impatient.run(*[f"INSERT INTO t(v) VALUES ({turn})"] * 50)
            ((busy, _, _),) = impatient.run("PRAGMA wal_checkpoint(TRUNCATE)")
            assert busy == 0
    wal = Path(f"{database}-wal")
    assert os.stat(wal).st_size == 0


def test_a_second_mirror_of_the_same_source_is_refused(
    mirror: MirrorProcess, writer: Writer, make_mirror: Callable[..., MirrorProcess], database: Path
) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    mirror.start()
    mirror.wait_applied()
    for state in ("state", "another state directory"):
        second = make_mirror(database, state=state)
        second.start(wait=False)
        assert second._process is not None
        assert second._process.wait(LIMIT) != 0
    writer.run("INSERT INTO t(v) VALUES (1)")


def test_an_unwritable_value_is_the_writers_error_only(mirror: MirrorProcess, writer: Writer) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v NOT NULL)")
    mirror.start()
    with pytest.raises(WriterError):
        writer.run("INSERT INTO t VALUES (1, NULL)")
    writer.run("INSERT INTO t VALUES (1, 1)")
