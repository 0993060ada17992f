"""Statistics and vector indexes: guard rails of the plan, and what a move sees to itself before it switches."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import Identifier

from mirror.core.errors import SinkError
from mirror.cutover import statistics, vector_indexes
from mirror.cutover.mirrored import targets_of
from mirror.cutover.readiness import Readiness
from mirror.postgres.sessions import connect
from mirror.postgres.target import Target, TargetColumn
from tests.support.commands import CommandLine, Done
from tests.support.memustore import create_store, item, vector
from tests.support.source import Writer
from tests.support.waiting import until

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture
def postgres(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def plan(cli: CommandLine, *arguments: object) -> dict[str, dict[str, Any]]:
    done = cli.run("cutover", "plan", "--json", "--acknowledge", "backups", *arguments)
    (verdict,) = json.loads(done.out)["sources"]
    assert verdict["ready"] is (done.code == 0)
    return {rail["name"]: rail for rail in verdict["rails"]}


def last_line(done: Done) -> tuple[int, str]:
    return done.code, done.out.splitlines()[-1]


def analyzed(postgres: Connection) -> bool:
    query = "SELECT EXISTS (SELECT FROM pg_stats WHERE schemaname = 'public' AND tablename = 'notes')"
    return postgres.execute(query).fetchone() == (True,)


@pytest.fixture
def grown(cli: CommandLine, writer: Writer, database: Path, postgres: Connection) -> Iterator[None]:
    """A mirror of a table that was empty when it was copied; and the server has not come by."""
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)", "CREATE TABLE small(id INTEGER PRIMARY KEY)")
    with cli.up(database):
        postgres.execute("ALTER TABLE notes SET (autovacuum_enabled = off)")
        writer.run(
            "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
            " INSERT INTO notes SELECT i, 'a text that makes the table a few pages large' FROM n",
            "INSERT INTO small VALUES (1)",
        )
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        yield


@pytest.mark.usefixtures("grown")
def test_statistics(cli: CommandLine, postgres: Connection) -> None:
    """The next step can be pasted; and the last line of the plan is for scripts."""
    known = ("--acknowledge", "backups", "--acknowledge", "sequences")
    rail = plan(cli)["statistics"]
    assert not rail["passed"] and rail["figure"] == 'none of "public"."notes"'
    assert last_line(cli.run("cutover", "plan", *known)) == (1, "CUTOVER_READY=NO")
    coloured = cli.run("cutover", "plan", *known, env={"FORCE_COLOR": "1"})
    assert last_line(coloured) == (1, "CUTOVER_READY=NO")
    postgres.execute(rail["next_step"])
    assert plan(cli)["statistics"]["figure"] == "2 tables with them, or too small to need them"
    assert last_line(cli.run("cutover", "plan", *known)) == (0, "CUTOVER_READY=YES")
    # VACUUM counts the rows of a table, and says nothing of what is in them.
    postgres.execute("CREATE TABLE copy AS SELECT * FROM notes; DROP TABLE notes CASCADE")
    postgres.execute("ALTER TABLE copy SET (autovacuum_enabled = off); ALTER TABLE copy RENAME TO notes")
    postgres.execute("VACUUM notes")
    assert not plan(cli)["statistics"]["passed"]


@pytest.mark.usefixtures("grown")
def test_a_move_analyzes(cli: CommandLine, postgres: Connection) -> None:
    assert not analyzed(postgres)
    done = cli.run("cutover", "advance", "--acknowledge", "backups")
    assert done.code == 0 and "warm vector indexes, and set sequences ahead: 1 table analyzed" in done.out, done
    assert analyzed(postgres)


@pytest.mark.usefixtures("grown")
def test_a_table_that_grows_meanwhile(
    postgres: Connection, dsn: str, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was too small to be analyzed when that was decided, and is not one that may not be."""
    looks, missing = [], statistics._missing

    def look(connection: Connection, targets: Iterable[Target]) -> list[Identifier]:
        if looks:
            postgres.execute("INSERT INTO small SELECT * FROM generate_series(2, 2000)")
        looks.append(missing(connection, targets))
        return looks[-1]

    monkeypatch.setattr(statistics, "_missing", look)
    postgres.execute("ALTER TABLE small SET (autovacuum_enabled = off)")
    with connect(dsn, raw=True) as connection:
        targets = targets_of(connection, database.resolve(), "public")
        assert statistics.analyze(connection, targets, Readiness("source.db")) == "1 table analyzed"
    assert Identifier("public", "small") in looks[-1]
    postgres.execute("DELETE FROM small WHERE id > 1")


@pytest.mark.usefixtures("grown")
def test_a_table_that_may_not_be_analyzed(postgres: Connection, dsn: str, database: Path) -> None:
    """Postgres only warns of it; a move does not go on."""
    [(name,)] = postgres.execute("SELECT current_database()").fetchall()
    user = f"{name}_user"
    postgres.execute(
        f"CREATE ROLE {user} LOGIN; GRANT USAGE ON SCHEMA mirror TO {user};"
        f" GRANT SELECT ON ALL TABLES IN SCHEMA mirror, public TO {user}".encode()
    )
    try:
        with connect(psycopg.conninfo.make_conninfo(dsn, user=user), raw=True) as connection:
            targets = targets_of(connection, database.resolve(), "public")
            with pytest.raises(SinkError, match=r'as their owner: ANALYZE "public"\."notes"'):
                statistics.analyze(connection, targets, Readiness("source.db"))
    finally:
        postgres.execute(f"DROP OWNED BY {user}; DROP ROLE {user}".encode())


@pytest.fixture
def store(folder: Path) -> Iterator[Writer]:
    chance = random.Random(7)
    with create_store(folder / "memory.db") as writer:
        writer.run(*(item(str(n), embedding=vector(*(chance.random() for _ in range(768)))) for n in range(300)))
        yield writer


@pytest.fixture
def elsewhere(postgres: Connection) -> Iterator[str]:
    """A tablespace: an index that was moved to or from it is in no buffer of the server."""
    [(name,)] = postgres.execute("SELECT 'cold_' || current_database()").fetchall()
    postgres.execute("SET allow_in_place_tablespaces = on")
    postgres.execute(f"CREATE TABLESPACE {name} LOCATION ''".encode())
    yield name
    postgres.execute(f"ALTER INDEX {INDEX} SET TABLESPACE pg_default".encode())
    postgres.execute(f"DROP TABLESPACE {name}".encode())


INDEX = "memory_items_embedding_768_hnsw"


def test_vector_indexes(
    cli: CommandLine, folder: Path, store: Writer, postgres: Connection, elsewhere: str, dsn: str
) -> None:
    path = folder / "memory.db"
    with cli.up(path):
        query = "SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass(%s) AND indisvalid)"
        until(lambda: postgres.execute(query, (INDEX,)).fetchone() == (True,))
        assert cli.run("parity", path).code == 0
        assert plan(cli, path)["vector indexes"]["passed"], "it was built a moment ago"
        postgres.execute(f"ALTER INDEX {INDEX} SET TABLESPACE {elsewhere}".encode())
        rail = plan(cli, path)["vector indexes"]
        assert not rail["passed"] and rail["figure"].startswith(f"{INDEX}: 8 searches visited "), rail
        assert "mirror cutover plan" in rail["next_step"]
        # To look is to search, and to search is to warm.
        until(lambda: plan(cli, path)["vector indexes"]["passed"])
        postgres.execute(f"ALTER INDEX {INDEX} SET TABLESPACE pg_default".encode())
        done = cli.run("cutover", "advance", path, "--acknowledge", "backups")
        assert done.code == 0 and INDEX in done.out, done
        with connect(dsn, raw=True) as connection:
            targets = targets_of(connection, path.resolve(), "public")
            found = Readiness("memory.db")
            vector_indexes.judge(found, connection, targets)
            assert found.ready, found.rails
            # No vectors: nothing to be warm.
            postgres.execute("UPDATE memory_items SET embedding = NULL")
            assert vector_indexes.warm_all(connection, targets, (), found) == f"{INDEX}: no vectors"


def test_an_index_that_a_search_does_not_use(postgres: Connection, dsn: str) -> None:
    """What cannot be looked at is not passed, unless it is acknowledged."""
    postgres.execute("CREATE EXTENSION IF NOT EXISTS vector")
    postgres.execute("CREATE TABLE t (id bigint, v public.vector(2)); INSERT INTO t VALUES (1, '[1,2]')")
    postgres.execute("CREATE INDEX i ON t USING ivfflat (v public.vector_l2_ops) WITH (lists = 1)")
    with connect(dsn, raw=True) as connection:
        (index,) = vector_indexes._indexes(
            connection, [Target("t", "public", "t", (TargetColumn("id", "id", "bigint"),), ("id",))]
        )
        assert index.operator == "OPERATOR(public.<->)"
        assert vector_indexes.measure(connection, index).warm
        unused = index._replace(operator="OPERATOR(public.<=>)")
        assert not vector_indexes.measure(connection, unused).warm
