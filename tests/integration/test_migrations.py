"""What a program's migrations do to columns, several statements at a time: Postgres has every value afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg

from tests.differential.test_decode_alters import CREATE, HISTORIES
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer


def test_migrations(make_mirror: Callable[..., MirrorProcess], database: Path, dsn: str) -> None:
    """In one transaction while the mirror follows, and while it is away; what was renamed keeps its column there."""
    fill = "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 200)"
    with Writer(database) as writer:
        writer.run("PRAGMA journal_mode=WAL")
        histories: list[list[str]] = []
        for number, history in enumerate(HISTORIES.values()):
            for when in ("live", "away"):
                table = f"{when}{number}"
                writer.run(
                    CREATE.replace(" t(", f" {table}("),
                    f"INSERT INTO {table} {fill} SELECT i, 'a' || i, 'b' || i FROM s",
                )
            histories.append([f"ALTER TABLE live{number} {alter}" for alter in history])
        mirror = make_mirror(database)
        mirror.start()
        mirror.check()
        for history in histories:
            writer.transaction(*history)
        mirror.check()
        mirror.stop()
        for history in histories:
            writer.run(*(statement.replace("live", "away") for statement in history))
        mirror.start()
        mirror.check()
    with psycopg.connect(dsn) as connection:
        for table in ("live0", "away0"):
            query = f"SELECT count(*), min(c), count(d) FROM {mirror.schema}.{table} WHERE c = 'b' || id"
            assert connection.execute(query.encode()).fetchone() == (200, "b1", 0)


def test_a_column_with_a_name_of_the_mirrors(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """The one that a column has in Postgres between two others: it is renamed all the same, at once."""
    names = ("mirror_renaming_0", "mirror_renaming_1")
    writer.run("PRAGMA journal_mode=WAL", f"CREATE TABLE t(a TEXT, {names[0]} TEXT, c TEXT, {names[1]} TEXT)")
    writer.run("INSERT INTO t VALUES ('a', 'b', 'c', 'd')")
    mirror.start()
    mirror.check()
    writer.transaction("ALTER TABLE t RENAME COLUMN a TO x", f"ALTER TABLE t RENAME COLUMN {names[1]} TO a")
    mirror.check()
    assert mirror.status()["refusals"] == []
    with psycopg.connect(dsn) as connection:
        query = f"SELECT x, {names[0]}, c, a FROM {mirror.schema}.t"
        assert connection.execute(query.encode()).fetchall() == [("a", "b", "c", "d")]
        kept = "SELECT count(*) FROM information_schema.tables WHERE table_name LIKE 't\\_\\_dropped%'"
        assert connection.execute(kept).fetchone() == (0,)
