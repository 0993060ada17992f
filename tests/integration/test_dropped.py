"""Tables that SQLite has dropped: kept in Postgres, listed, and purged; one that is made anew is not dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.commands import CommandLine, stop
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def dsn_database(dsn: str) -> str:
    return str(conninfo_to_dict(dsn)["dbname"])


def tables(dsn: str) -> list[str]:
    return [name for (name,) in rows(dsn, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")]


def made_anew(columns: str, values: str) -> list[str]:
    """What tools do that change a table: Alembic's batches, Django, sqlite-utils, ``.recover``."""
    return [
        f"CREATE TABLE t_new({columns})",
        f"INSERT INTO t_new SELECT {values} FROM t",
        "DROP TABLE t",
        "ALTER TABLE t_new RENAME TO t",
    ]


@pytest.fixture
def running(mirror: MirrorProcess, writer: Writer) -> MirrorProcess:
    """A mirror of a source with one table of two rows."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, n INTEGER)", "INSERT INTO t VALUES (1,'x',1), (2,'y',2)")
    mirror.start()
    mirror.check()
    return mirror


def test_tables_made_anew_leave_no_copy(running: MirrorProcess, writer: Writer, dsn: str) -> None:
    """Four times, each with another definition, as migrations have them; also with 2,000 rows, and of an empty one."""
    writer.transaction(*made_anew("id INTEGER PRIMARY KEY, a TEXT, n TEXT", "id, a, n"))
    running.check()
    writer.transaction(*made_anew("id INTEGER PRIMARY KEY, n TEXT NOT NULL, a TEXT", "id, n, a"))
    running.check()
    assert tables(dsn) == ["t"]
    writer.run("INSERT INTO t WITH RECURSIVE i(v) AS (SELECT 3 UNION ALL SELECT v + 1 FROM i WHERE v < 2000)"
               " SELECT v, v, 'r' FROM i")  # fmt: skip
    writer.transaction(*made_anew("id TEXT PRIMARY KEY, n TEXT DEFAULT 'z', b, a TEXT", "id, n, 'b' || id, a"))
    running.check()
    assert tables(dsn) == ["t"] and rows(dsn, "SELECT count(*) FROM t") == [(2000,)]
    writer.run("DELETE FROM t")
    writer.transaction(*made_anew("a TEXT, b INTEGER, n TEXT, id TEXT PRIMARY KEY", "a, b, n, id"))
    running.check()
    assert tables(dsn) == ["t"]


def test_a_table_that_was_there_takes_the_place(running: MirrorProcess, writer: Writer, dsn: str) -> None:
    """The new one is made and filled in one transaction, and takes the other's name in a later one."""
    for columns in ("id INTEGER PRIMARY KEY, a TEXT, n INTEGER", "id INTEGER PRIMARY KEY, n TEXT, a TEXT"):
        made, filled, *swap = made_anew(columns, columns.replace("INTEGER PRIMARY KEY", "").replace("INTEGER", "").
                                        replace("TEXT", ""))  # fmt: skip
        writer.transaction(made, filled)
        running.check()
        writer.transaction(*swap)
        running.check()
        assert tables(dsn) == ["t"]


def test_what_the_new_one_lacks_is_kept(running: MirrorProcess, writer: Writer, dsn: str) -> None:
    """Rows, or columns."""
    writer.transaction(
        *made_anew("n TEXT, id INTEGER PRIMARY KEY, a TEXT", "n, id, a")[:1],
        "INSERT INTO t_new SELECT n, id, a FROM t WHERE id = 1",
        *made_anew("", "")[2:],
    )
    running.check()
    (kept,) = [name for name in tables(dsn) if name != "t"]
    assert rows(dsn, f"SELECT id, a FROM {kept} ORDER BY id") == [(1, "x"), (2, "y")]
    writer.transaction(*made_anew("a TEXT, id TEXT PRIMARY KEY", "a, id"))
    running.check()
    (second,) = [name for name in tables(dsn) if name not in ("t", kept)]
    assert rows(dsn, f"SELECT n FROM {second}") == [("1",)]


def test_what_others_use_is_kept(running: MirrorProcess, writer: Writer, dsn: str, cli: CommandLine) -> None:
    """A view stays with the first table, is named, and keeps that from being purged; nothing of others is dropped."""
    rows(dsn, "CREATE VIEW names AS SELECT a FROM t")
    writer.transaction(*made_anew("id INTEGER PRIMARY KEY, a TEXT, n TEXT", "id, a, n"))
    running.check()
    (kept,) = [name for name in tables(dsn) if name != "t"]
    state = ("--state-dir", running.state_dir)
    (found,) = json.loads(cli.run("dropped", "list", *state, "--json").out)["dropped"]
    assert found["name"] == kept and found["successor"] == "t" and found["depending"] == ["view public.names"]
    for names in ((), (kept,)):
        done = cli.run("dropped", "purge", "--yes", *names, *state)
        assert done.code == 1 and f"{kept} stays: view public.names" in done.out
    rows(dsn, "CREATE OR REPLACE VIEW names AS SELECT 'none'::text AS a")
    assert cli.run("dropped", "purge", "--yes", *state).code == 0
    assert tables(dsn) == ["t"] and rows(dsn, "SELECT a FROM names") == [("none",)]


def test_grants_keep_it_unless_it_is_named(running: MirrorProcess, writer: Writer, dsn: str, cli: CommandLine) -> None:
    """Who may read the first table, and not the new one, still needs it, or a grant."""
    role = f"reader_{dsn_database(dsn)}"
    rows(dsn, f"CREATE ROLE {role}")
    try:
        rows(dsn, f"GRANT SELECT ON t TO {role}")
        writer.transaction(*made_anew("id INTEGER PRIMARY KEY, a TEXT, n TEXT", "id, a, n"))
        running.check()
        (kept,) = [name for name in tables(dsn) if name != "t"]
        state = ("--state-dir", running.state_dir)
        assert f"grant of SELECT to {role}" in cli.run("dropped", "list", *state).out
        assert cli.run("dropped", "purge", "--yes", *state).code == 1 and kept in tables(dsn)
        assert cli.run("dropped", "purge", "--yes", kept, *state).code == 0 and tables(dsn) == ["t"]
    finally:
        rows(dsn, f"DROP OWNED BY {role}")
        rows(dsn, f"DROP ROLE {role}")


def test_list_and_purge(running: MirrorProcess, writer: Writer, dsn: str, cli: CommandLine) -> None:
    """Of which source, since when, how many rows; all of them or those that are named; while the mirror runs."""
    state = ("--state-dir", running.state_dir)
    assert "keeps no table" in cli.run("dropped", "list", *state).out
    writer.run("CREATE TABLE u(k TEXT PRIMARY KEY)", "INSERT INTO u VALUES ('k')")
    running.check()
    writer.run("DROP TABLE t")
    until(lambda: len(tables(dsn)) == 2 and "t" not in tables(dsn))
    writer.run("DROP TABLE u", "CREATE TABLE v(k TEXT PRIMARY KEY)")
    running.check()
    rows(dsn, "CREATE TABLE mine__dropped_1_1(x int)")
    found = json.loads(cli.run("dropped", "list", *state, "--json").out)["dropped"]
    assert [(each["table"], each["rows"], each["why"]) for each in found] == [
        ("t", 2, "the source dropped it"), ("u", 1, "the source dropped it"),
    ]  # fmt: skip
    assert {each["source"] for each in found} == {str(running.sources[0])} and all(each["since"] for each in found)
    shown = cli.run("dropped", "list", *state).out
    assert all(each["name"] in shown for each in found) and "nobody uses it" in shown
    first, second = (each["name"] for each in found)
    dry = cli.run("dropped", "purge", "--dry-run", *state)
    assert dry.code == 0 and f"public.{first} would go: 2 rows" in dry.out and first in tables(dsn)
    assert "there is none of this name" in cli.run("dropped", "purge", "v", *state).error
    assert "there is nobody to ask" in cli.run("dropped", "purge", *state).error
    assert "there is nobody to ask" in cli.run("dropped", "purge", "--json", *state).error
    assert cli.run("dropped", "purge", "--yes", f"public.{first}", *state).code == 0
    assert first not in tables(dsn) and second in tables(dsn)
    assert cli.run("dropped", "purge", "--yes", *state).code == 0
    assert tables(dsn) == ["mine__dropped_1_1", "v"], "what is not the mirror's stays"


def test_columns_are_kept_listed_and_purged(running: MirrorProcess, writer: Writer, dsn: str, cli: CommandLine) -> None:
    """With their values, in their table; an index or a view of others keeps one. Following goes on beside it."""
    state = ("--state-dir", running.state_dir)
    writer.run("ALTER TABLE t DROP COLUMN n", "CREATE TABLE u(id INTEGER PRIMARY KEY, n TEXT)")
    writer.run("INSERT INTO t VALUES (3, 'z')", "ALTER TABLE u DROP COLUMN n")
    running.check()
    first = json.loads(cli.run("dropped", "list", *state, "--json").out)["dropped"][0]
    assert (first["name"], first["source_column"], first["rows"]) == ("t", "n", 2) and first["bytes"] == 16
    assert first["why"] == "the source dropped the column n of t"
    assert first["source"] == str(running.sources[0]) and first["since"]
    kept = first["column"]
    assert f"public.t.{kept}: 2 values, 16 bytes, since" in cli.run("dropped", "list", *state).out
    rows(dsn, f"CREATE VIEW numbers AS SELECT {kept} FROM t")
    rows(dsn, f"CREATE INDEX mine ON t({kept})")
    done = cli.run("dropped", "purge", "--yes", f"t.{kept}", *state)
    assert done.code == 1 and f"public.t.{kept} stays: index public.mine, view public.numbers" in done.out
    rows(dsn, "DROP VIEW numbers")
    rows(dsn, "DROP INDEX mine")
    dry = cli.run("dropped", "purge", "--dry-run", *state)
    assert dry.code == 0 and f"public.t.{kept} would go: 2 values" in dry.out and " 16 bytes" in dry.out
    assert "there is none of this name" in cli.run("dropped", "purge", "t", *state).error
    assert cli.run("dropped", "purge", "--yes", f"t.{kept}", *state).code == 0
    assert cli.run("dropped", "purge", "--yes", *state).code == 0
    assert rows(dsn, "SELECT * FROM t ORDER BY id") == [(1, "x"), (2, "y"), (3, "z")]
    writer.run("INSERT INTO t VALUES (4, 'later')", "UPDATE t SET a = 'w' WHERE id = 1")
    running.check()


def test_the_list_says_what_a_kept_table_has(
    running: MirrorProcess, writer: Writer, dsn: str, cli: CommandLine
) -> None:
    """Rows, columns or users: which of them, not all three."""

    def why(kept: set[str]) -> tuple[str, set[str]]:
        found = json.loads(cli.run("dropped", "list", "--state-dir", running.state_dir, "--json").out)["dropped"]
        (new,) = [each for each in found if each["name"] not in kept]
        return new["why"].removeprefix("the source made t anew, and it has "), {each["name"] for each in found}

    made, filled, *rest = made_anew("n TEXT, id INTEGER PRIMARY KEY, a TEXT", "n, id, a")
    writer.transaction(made, f"{filled} LIMIT 1", *rest)
    running.check()
    told, kept = why(set())
    assert told == "rows that the new one has not"
    writer.transaction(*made_anew("a TEXT, id TEXT PRIMARY KEY", "a, id"))
    running.check()
    told, kept = why(kept)
    assert told == "the column n that the new one has not"
    rows(dsn, "CREATE VIEW names AS SELECT a FROM t")
    writer.transaction(*made_anew("id TEXT PRIMARY KEY, a TEXT", "id, a"))
    running.check()
    told, kept = why(kept)
    assert told == "users that the new one has not"


def test_one_in_which_others_have_written_is_kept(running: MirrorProcess, writer: Writer, dsn: str) -> None:
    """Their rows are in no file, and the new table has none of them, however many it has."""
    rows(dsn, "INSERT INTO t VALUES (9, 'others', 9)")
    writer.transaction(
        *made_anew("id INTEGER PRIMARY KEY, a TEXT, n TEXT", "id, a, n"), "INSERT INTO t VALUES (3, 'z', 3)"
    )
    running.check()
    (kept,) = (name for name in tables(dsn) if name != "t")
    assert rows(dsn, f"SELECT a FROM {kept} WHERE id = 9") == [("others",)]


def test_made_renamed_and_dropped_in_one_go(running: MirrorProcess, writer: Writer, dsn: str) -> None:
    """It is the mirror's own, though it never had what tells that."""
    writer.transaction("CREATE TABLE one(id INTEGER PRIMARY KEY)", "INSERT INTO one VALUES (1)")
    writer.transaction("ALTER TABLE one RENAME TO two")
    writer.transaction("DROP TABLE two")
    running.check()
    assert not [
        name for name in tables(dsn) if "strange" in str(rows(dsn, f"SELECT obj_description('{name}'::regclass)"))
    ]


def test_a_table_of_somebody_in_the_place_of_the_mirrors(
    cli: CommandLine, writer: Writer, database: Path, dsn: str
) -> None:
    """It is told, and goes by its name alone: no other command takes it."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT)", "INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    log = cli.folder / "up.log"
    with log.open("w") as file:
        process = cli.start("up", database, stdout=file, stderr=file)
        assert cli.run("wait", database, "--timeout", LIMIT).code == 0
        rows(dsn, "ALTER TABLE t RENAME TO t_old")
        rows(dsn, "CREATE TABLE t(id int, precious text)")
        rows(dsn, "INSERT INTO t VALUES (1, 'mine')")
        writer.run("INSERT INTO t VALUES (3, 'z')")
        until(lambda: rows(dsn, "SELECT count(*) FROM t") == [(3,)])
        assert cli.run("wait", database, "--timeout", LIMIT).code == 0
        assert stop(process) == 0
    (kept,) = (name for name in tables(dsn) if name.startswith("t__dropped_"))
    assert f"public.t is not known to be the mirror's own, and is {kept} from now on" in log.read_text()
    assert "not known to be the mirror's own" in cli.run("dropped", "list").out
    purged = cli.run("dropped", "purge", "--yes")
    assert purged.code == 1 and rows(dsn, f"SELECT precious FROM {kept}") == [("mine",)], purged
    assert cli.run("parity", database).code == 0
    rows(dsn, "DROP TABLE t_old")
    assert cli.run("remove", database, "--drop-tables", "--yes").code == 0
    assert tables(dsn) == [kept]
    assert cli.run("dropped", "purge", "--yes", kept).code == 0 and tables(dsn) == []
