"""A column that was widened has its own type back, once every value fits again and somebody asks for it."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import LIMIT

TABLE = "CREATE TABLE t(id INTEGER PRIMARY KEY, i INTEGER, r REAL, s TEXT, b BLOB, f BOOLEAN, d DECIMAL, j JSON)"
GOOD = (
    "INSERT INTO t VALUES (1, 9007199254740993, 1e300, 'é', x'00ff', 1, 1.25, '{\"a\":1}'),"
    " (2, 1, -0.0, '', x'', 0, 3, '[ ]')"
)
BAD = "INSERT INTO t VALUES (9, 'text', 'text', x'00', 5, 7, 'text', x'ff')"
TYPES = ["bigint", "bigint", "double precision", "text", "bytea", "boolean", "numeric", "jsonb"]


def types(dsn: str, table: str = "t") -> list[str]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT data_type FROM information_schema.columns WHERE table_name = %s AND column_name NOT LIKE '\\_%%'"
            " ORDER BY ordinal_position",
            (table,),
        ).fetchall()
    return [row[0] for row in rows]


def retry(mirror: MirrorProcess) -> None:
    mirror.wait_applied()
    with mirror.control() as control:
        control.retry(LIMIT)


@pytest.mark.few(1)
@pytest.mark.parametrize("bad_at_first", [True, False])
def test_there_and_back(mirror: MirrorProcess, writer: Writer, dsn: str, bad_at_first: bool) -> None:
    """Every type; a column that one value still needs stays, and the others do not wait for it."""
    writer.run(TABLE, GOOD, *([BAD] if bad_at_first else []))
    mirror.start()
    if not bad_at_first:
        mirror.wait_applied()
        writer.run(BAD)
    mirror.check()
    at_first = "bigint" if bad_at_first else "jsonb"  # 0, 1 and 7 are all integers
    assert types(dsn) == ["bigint", *["jsonb"] * 4, at_first, *["jsonb"] * 2]
    assert mirror.status()["widened"] == [f"t.{name}" for name in sorted("irsbd" if bad_at_first else "irsbfd")]
    retry(mirror)
    assert types(dsn) == ["bigint", *["jsonb"] * 4, "bigint", *["jsonb"] * 2]
    writer.run("UPDATE t SET i = 5, r = 0.5, s = 's', b = x'01', f = 0, j = NULL WHERE id = 9")
    mirror.check()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE INDEX kept ON t (id) WHERE id > 0; GRANT SELECT ON t TO PUBLIC")
    retry(mirror)
    assert types(dsn) == [*TYPES[:6], "jsonb", "jsonb"]
    assert mirror.status()["widened"] == ["t.d"]
    mirror.check()
    writer.run("DELETE FROM t WHERE id = 9")
    retry(mirror)
    assert types(dsn) == TYPES
    mirror.check()
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT i, j ->> 'a' FROM t WHERE id = 1").fetchone() == (9007199254740993, "1")
        assert connection.execute("SELECT to_regclass('kept') IS NOT NULL").fetchone() == (True,)
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE tablename LIKE 't\\_\\_%'").fetchone() == (0,)
    writer.run(BAD)
    mirror.check()
    assert types(dsn) == ["bigint", *["jsonb"] * 7]


def test_text_with_nul_and_a_key(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """_original goes with the last text that needs it; a key gets its type back too."""
    writer.run("CREATE TABLE t(k INT PRIMARY KEY, s TEXT)", "INSERT INTO t VALUES ('one', char(0)), (2, 'b')")
    mirror.start()
    mirror.check()
    assert types(dsn) == ["jsonb", "text"] and mirror.status()["escaped"] == ["t.s"]
    writer.run("UPDATE t SET k = 1, s = 'a' WHERE k = 'one'")
    retry(mirror)
    assert types(dsn) == ["bigint", "text"] and mirror.status()["escaped"] == []
    mirror.check()
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT * FROM t ORDER BY k").fetchall() == [(1, "a"), (2, "b")]
    writer.run("INSERT INTO t VALUES (3, 'c')", "DELETE FROM t WHERE k = 1")
    mirror.check()


def test_a_view_is_in_the_way(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """The table stays as it is, and goes on."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, i INTEGER)", "INSERT INTO t VALUES (1, 'x'), (2, 1)")
    mirror.start()
    mirror.check()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE VIEW seen AS SELECT i FROM t")
        writer.run("UPDATE t SET i = 1")
        mirror.wait_applied()
        retry(mirror)
        assert types(dsn) == ["bigint", "jsonb"] and mirror.status()["refusals"] == []
        connection.execute("DROP VIEW seen")
    mirror.check()
    retry(mirror)
    assert types(dsn) == ["bigint", "bigint"]


def test_repair_narrows(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """Also where parity finds nothing different."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, i INTEGER)", "INSERT INTO t VALUES (1, 'x'), (2, 5)")
    mirror.start()
    mirror.wait_applied()
    assert types(dsn) == ["bigint", "jsonb"]
    writer.run("DELETE FROM t WHERE id = 1")
    mirror.check()
    cli = CommandLine(mirror.state_dir.parent, dsn)
    done = cli.run("parity", mirror.sources[0], "--repair", "--state-dir", mirror.state_dir)
    assert done.code == 0 and "i is bigint" in done.err, done
    assert types(dsn) == ["bigint", "bigint"]
