"""Tables that Postgres refuses: ``mirror wait`` does not succeed, and one cause is one line wherever it is told."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.support.commands import CommandLine, stop
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

TABLES = [f"taken{number:02}" for number in range(14)]


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


def test_one_cause_is_one_line(cli: CommandLine, writer: Writer, database: Path, folder: Path, dsn: str) -> None:
    writer.run(*(f"CREATE TABLE {name}(v)" for name in TABLES), "CREATE TABLE fine(v)", "CREATE TABLE taken(v)")
    with psycopg.connect(dsn) as connection:
        for name in TABLES:
            connection.execute(f"CREATE TABLE {name}(a int)".encode())
        connection.execute("CREATE VIEW taken AS SELECT 1 AS a")
    log = folder / "log"
    with log.open("w") as out:
        up = cli.start("up", database, stdout=out, stderr=out)
    try:
        until(lambda: "following every commit" in log.read_text(), alive=lambda: up.poll() is None)
        waited = cli.run("wait", database, "--timeout", LIMIT)
        assert waited.code == 1
        # One that is added, and whose only table has the name of another source's.
        with Writer(folder / "other.db") as other:
            other.run("PRAGMA journal_mode=WAL", "CREATE TABLE fine(v)")
        added = cli.run("add", folder / "other.db")
        assert added.code == 1 and "But Postgres refuses its table: `mirror status " in added.out, added
        assert cli.run("remove", folder / "other.db").code == 0
        shown = cli.run("status", database, env={"COLUMNS": "300"}).out
        with psycopg.connect(dsn) as connection:
            for name in TABLES:
                connection.execute(f"DROP TABLE {name}".encode())
            connection.execute("DROP VIEW taken")
        assert cli.run("rejects", "retry", database).code == 0
        assert cli.run("wait", database, "--timeout", LIMIT).code == 0, "everything is there"
    finally:
        stop(up)
    many = "14 tables: taken00, taken01, taken02, taken03, taken04 and 9 more: each is there already and is not"
    for said in (waited.err, shown, log.read_text()):
        about = [line for line in said.splitlines() if "there already" in line]
        assert len(about) == 2, said
        assert [line for line in about if many in line], said
        assert [line for line in about if "taken: public.taken is there already, as a view, and is not" in line], said
