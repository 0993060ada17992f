"""Tables, indexes, sequences and types share one name space in Postgres.

Nothing that the mirror made is in a table's way, and what somebody else made is named for what it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from mirror.core.positions import Lsn
from mirror.postgres.ddl import dropped_name
from mirror.postgres.profiles.generic import pg_name
from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer


def names(dsn: str, like: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            " AND relname LIKE %s ORDER BY 1",
            (like,),
        )
        return [name for (name,) in found]


@pytest.mark.parametrize("agent", [None, "maya"])
def test_a_table_named_as_the_index_of_another_tables_key(
    mirror: MirrorProcess, writer: Writer, database: Path, agent: str | None
) -> None:
    """In the first copy, live, and after a rename, which leaves the index its name."""
    if agent is not None:
        mirror.agents = {database: agent}
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)", "CREATE TABLE t_pkey(id INTEGER PRIMARY KEY)")
    writer.run("CREATE TABLE u(a TEXT PRIMARY KEY)", "INSERT INTO t_pkey VALUES (1)", "INSERT INTO u VALUES ('x')")
    mirror.start()
    mirror.check()
    writer.run("CREATE TABLE u_pkey(id INTEGER PRIMARY KEY)", "INSERT INTO u_pkey VALUES (1)")
    writer.run("CREATE TABLE t_pkey_pkey(v)", "INSERT INTO t_pkey_pkey VALUES (1)")
    mirror.check()
    writer.run("ALTER TABLE u RENAME TO w", "CREATE TABLE u_pkey1(id)", "CREATE TABLE w_pkey(id)")
    writer.run("DROP TABLE t", "CREATE TABLE t(id INTEGER PRIMARY KEY)", "ALTER TABLE w RENAME TO t_pkey1")
    mirror.check()
    assert not mirror.status()["refusals"]


def test_a_table_named_as_one_that_is_kept(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (7)", "CREATE TABLE stays(v)")
    mirror.start()
    mirror.check()
    writer.run("DROP TABLE t")
    mirror.check()
    (kept,) = names(dsn, "t#_#_dropped%".replace("#", "\\"))
    writer.run(f'CREATE TABLE "{kept}"(v)', f"INSERT INTO \"{kept}\" VALUES ('of the source')")
    mirror.check()
    assert not mirror.status()["refusals"]
    (other,) = [name for name in names(dsn, "t%") if name != kept]
    with psycopg.connect(dsn) as connection:
        assert connection.execute(f'SELECT id FROM "{other}"'.encode()).fetchall() == [(7,)], "nothing is lost"


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["t", "t" * 80])
def test_the_name_under_which_a_table_is_kept_is_taken(
    mirror: MirrorProcess, writer: Writer, dsn: str, name: str
) -> None:
    """Another source may have kept a table of the same name at the same position."""
    writer.run(f"CREATE TABLE {name}(id INTEGER PRIMARY KEY)", f"INSERT INTO {name} VALUES (7)")
    writer.run("CREATE TABLE stays(v)")
    mirror.start()
    mirror.check()
    writer.run(f"DROP TABLE {name}")
    mirror.check()
    assert len(names(dsn, "t%dropped%")) == 1
    writer.run(f"CREATE TABLE {name}(id INTEGER PRIMARY KEY)", f"INSERT INTO {name} VALUES (8)")
    mirror.check()
    last = Lsn.parse(mirror.status()["applied"])
    with psycopg.connect(dsn) as connection:
        for frame in range(last.frame, last.frame + 200):
            taken = dropped_name(pg_name(name), Lsn(last.generation, frame))
            connection.execute(f'CREATE TABLE "{taken}"()'.encode())
    writer.run(f"DROP TABLE {name}", "CREATE TABLE other(v)")
    mirror.check()
    assert len(names(dsn, "t%dropped%")) == 202


STRANGERS = {
    "an index of orders": "CREATE TABLE orders(a int); CREATE INDEX taken ON orders(a)",
    "a sequence": "CREATE SEQUENCE taken",
    "a view": "CREATE VIEW taken AS SELECT 1 AS a",
    "a type": "CREATE TYPE taken AS ENUM ('a')",
    "a table": "CREATE TABLE taken(a int)",
}


@pytest.mark.few(2)
@pytest.mark.parametrize("kind", STRANGERS)
@pytest.mark.parametrize("agent", [(), ("--agent", "maya")])
def test_what_somebody_else_made_is_named(
    folder: Path, dsn: str, writer: Writer, database: Path, kind: str, agent: tuple[str, ...]
) -> None:
    cli = CommandLine(folder, dsn)
    writer.run("CREATE TABLE taken(id INTEGER PRIMARY KEY)", "CREATE TABLE free(id INTEGER PRIMARY KEY)")
    with psycopg.connect(dsn) as connection:
        connection.execute(STRANGERS[kind].encode())
    before = json.loads(cli.run("doctor", database, "--json", *agent).out)["reports"][0]
    (problem,) = [finding for finding in before["findings"] if finding["level"] == "problem"]
    assert problem["code"] == "table.name-taken"
    done = cli.run("up", database, "--once", *agent)
    assert done.code == 2
    for said in (problem["detail"], done.err):
        assert "not the mirror's" in said and (kind == "a table" or kind in said), (said, kind)
    assert "--schema" in done.err and names(dsn, "free") == ["free"]


def test_doctor_takes_what_the_mirror_made_for_free(folder: Path, dsn: str, writer: Writer, database: Path) -> None:
    cli = CommandLine(folder, dsn)
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    assert cli.run("up", database, "--once").code == 0
    writer.run("CREATE TABLE t_pkey(id INTEGER PRIMARY KEY)")
    assert cli.run("doctor", database).code == 0
    assert cli.run("up", database, "--once").code == 0
    assert names(dsn, "t%") == ["t", "t_pkey"]


def test_two_sources_in_one_schema(
    make_mirror: Callable[..., MirrorProcess], folder: Path, writer: Writer, database: Path
) -> None:
    """The index of one source's table is in no other source's way."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    with Writer(folder / "other.db") as other:
        other.run("PRAGMA journal_mode=WAL", "CREATE TABLE t_pkey(id INTEGER PRIMARY KEY)")
        other.run("INSERT INTO t_pkey VALUES (2)")
        one = make_mirror(database)
        one.start()
        one.check()
        two = make_mirror(folder / "other.db", state="other")
        two.start()
        two.check()
        writer.run("INSERT INTO t VALUES (2)")
        one.check()
