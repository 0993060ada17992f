"""The position of a source, read by its agent in the statement that reads its rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from mirror.postgres.migrate import sql_directory
from mirror.postgres.profiles import PROFILES
from mirror.postgres.sink import Sink
from tests.support.postgres import PostgresServer
from tests.support.tenants import FRAME, GENERATION, SALT1, SALT2, add_agents, as_application, make_tables

Connection = psycopg.Connection[tuple[Any, ...]]

AGENTS = ("ada", "bob", "eve")

#: What a read is: the agent is set, then the position read, then the rows.
READ = """
SELECT p.generation, p.frame, p.salt1, p.salt2, q.*
  FROM (SELECT set_config('app.agent_id', %(agent)s, true) AS agent OFFSET 0) AS w
 CROSS JOIN LATERAL (SELECT * FROM mirror.position
                      WHERE source_id = %(source)s AND agent_id = w.agent OFFSET 0) AS p
  LEFT JOIN LATERAL ({} OFFSET 0) AS q ON true
"""

#: Inner queries; each gives a text that names the agent of the rows.
INNER = {
    "rows": "SELECT summary FROM memory_items WHERE agent_id = w.agent ORDER BY id LIMIT 2",
    "rows, no condition": "SELECT summary FROM memory_items WHERE w.agent <> '' ORDER BY id LIMIT 2",
    "parameter": "SELECT summary FROM memory_items WHERE agent_id = %(agent)s AND w.agent <> '' ORDER BY id LIMIT 2",
    "by key": "SELECT summary FROM memory_items WHERE agent_id = w.agent AND id = '1'",
    "join": "SELECT i.summary || c.name FROM memory_items i JOIN category_items l ON l.item_id = i.id"
    " JOIN memory_categories c ON c.id = l.category_id WHERE i.agent_id = w.agent",
    "subquery": "SELECT summary FROM memory_items WHERE agent_id = w.agent"
    " AND id IN (SELECT item_id FROM category_items)",
    "scalar": "SELECT (SELECT string_agg(summary, ',') FROM memory_items) WHERE w.agent <> ''",
    "exists": "SELECT w.agent WHERE EXISTS (SELECT FROM memory_items WHERE summary LIKE w.agent || '%%')",
    "aggregate": "SELECT string_agg(DISTINCT agent_id, ',') FROM memory_items WHERE w.agent <> ''",
    "grouped": "SELECT agent_id || count(*) FROM memory_items WHERE w.agent <> '' GROUP BY agent_id",
    "window": "SELECT agent_id || row_number() OVER (ORDER BY id) FROM memory_items WHERE w.agent <> ''",
    "materialized": "SELECT summary FROM (WITH m AS MATERIALIZED (SELECT * FROM memory_items WHERE w.agent <> '')"
    " SELECT summary FROM m) AS x",
    "union": "SELECT summary FROM (SELECT summary, w.agent FROM memory_items UNION SELECT name, w.agent"
    " FROM memory_categories) AS x",
    "view": "SELECT agent_id || name FROM categories WHERE w.agent <> ''",
    "words": "SELECT summary FROM memory_items WHERE agent_id = w.agent"
    " AND search @@ websearch_to_tsquery('english', 'secret')",
    "search": "SELECT f.summary FROM search_memories(CASE WHEN w.agent <> '' THEN 'secret' END, '[1,2]'::vector, 5) f",
}


@pytest.fixture(scope="module")
def made(postgres_server: PostgresServer) -> Iterator[tuple[str, dict[str, int]]]:
    dsn = postgres_server.create_database()
    make_tables(dsn)
    sources = add_agents(dsn, *AGENTS)
    with psycopg.connect(dsn, autocommit=True) as owner:
        for agent in AGENTS[:2]:
            owner.execute(
                "INSERT INTO memory_items (agent_id, id, memory_type, summary, embedding)"
                " SELECT %s, i::text, 'fact', %s || '''s secret ' || i, '[1,2]' FROM generate_series(1, 30) i",
                (agent, agent),
            )
            owner.execute("INSERT INTO memory_categories (agent_id, id, name) VALUES (%s, 'c', %s)", (agent, agent))
            owner.execute("INSERT INTO category_items VALUES (%s, '1', 'c')", (agent,))
        owner.execute("INSERT INTO mirror.sources (path, schema_name, generation, frame) VALUES ('/x', 'public', 1, 1)")
        owner.execute("ANALYZE")
    yield dsn, sources
    postgres_server.drop_database(dsn)


@pytest.fixture
def app(made: tuple[str, dict[str, int]]) -> Iterator[Connection]:
    with as_application(made[0]) as connection:
        yield connection


def read(app: Connection, inner: str, agent: str | None, source: int) -> list[tuple[Any, ...]]:
    query = READ.format(inner).encode()
    return app.execute(query, {"agent": agent, "source": source}, prepare=True).fetchall()


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan", "auto"])
@pytest.mark.parametrize("kind", INNER)
def test_the_agent_of_a_statement_counts_in_it(
    app: Connection, made: tuple[str, dict[str, int]], kind: str, mode: str
) -> None:
    """For each agent its own rows and position, whoever was before; and none of what the statement set is left."""
    app.execute(f"SET plan_cache_mode = {mode}".encode())
    for agent in ("ada", "bob") * 5:
        found = read(app, INNER[kind], agent, made[1][agent])
        assert found and all(row[:4] == (GENERATION, FRAME, SALT1, SALT2) for row in found)
        assert all(agent in row[4] for row in found), found
        other = "bob" if agent == "ada" else "ada"
        assert other not in repr(found)
        assert app.execute("SELECT current_setting('app.agent_id', true)").fetchone() in [(None,), ("",)]
        assert app.execute("SELECT summary FROM memory_items").fetchall() == []
        assert app.execute("SELECT * FROM mirror.position").fetchall() == []


def test_a_position_is_its_agents_alone(app: Connection, made: tuple[str, dict[str, int]]) -> None:
    """Not another agent's, not one of a source without an agent; with no rows beside it, the position all the same."""
    assert read(app, INNER["rows"], "eve", made[1]["eve"]) == [(GENERATION, FRAME, SALT1, SALT2, None)]
    for agent in ("ada", "", "nobody", None):
        assert read(app, INNER["rows"], agent, made[1]["bob"]) == []
    app.execute("SELECT set_config('app.agent_id', 'ada', false)")
    assert app.execute("SELECT source_id, agent_id FROM mirror.position").fetchall() == [(made[1]["ada"], "ada")]
    told: list[str] = []
    app.add_notice_handler(lambda notice: told.append(str(notice.message_primary)))
    app.execute(
        "CREATE FUNCTION pg_temp.spy(t text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS"
        " $$BEGIN RAISE NOTICE '%', t; RETURN true; END$$"
    )
    app.execute("SELECT 1 FROM mirror.position WHERE pg_temp.spy(path)")
    assert told == ["/ada/memory.db"]


@pytest.mark.parametrize(
    "command",
    [
        "SELECT * FROM mirror.sources",
        "SELECT * FROM mirror.migrations",
        "UPDATE mirror.position SET frame = 0",
        "DELETE FROM mirror.position",
        "SELECT mirror.backend(1)",
        "SELECT mirror.advance(1, 0, 9, 9, 1, 1, now(), 1)",
        "SELECT mirror.require_app_role()",
        "SELECT mirror.secure('public', 'agents')",
        "CREATE TABLE mirror.mine (a int)",
    ],
)
def test_nothing_else_of_the_mirrors_schema(app: Connection, command: str) -> None:
    app.execute("SELECT set_config('app.agent_id', 'ada', false)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(command.encode())


def test_no_function_of_the_mirrors_schema_is_everybodys(made: tuple[str, dict[str, int]]) -> None:
    """Of later migrations, too: a function is everybody's to call unless it is said that it is not."""
    with psycopg.connect(made[0]) as owner:
        found = owner.execute(
            "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE pronamespace = 'mirror'::regnamespace"
            " AND has_function_privilege('argent_app', oid, 'EXECUTE')"
        ).fetchall()
        readable = owner.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'mirror'::regnamespace AND relkind IN ('r', 'v', 'm')"
            " AND has_table_privilege('argent_app', oid, 'SELECT, INSERT, UPDATE, DELETE')"
        ).fetchall()
    allowed = {"mirror.note_read_difference", "mirror.count_shadow_reads", "mirror.note_writes"}
    # Whoever reads a view of vec0 calls these, of bytes that the view gives them; they look at nothing else.
    allowed |= {"mirror.vec0_text", "mirror.vec0_float", "mirror.vec0_integer"}
    assert {name.split("(")[0] for (name,) in found} == allowed
    assert readable == [("position",)]


def commit(owner: Connection, source: int, frame: int) -> None:
    """What the mirror commits: rows, and the position with them."""
    with owner.transaction():
        owner.execute("UPDATE memory_items SET lesson = %s WHERE agent_id = 'ada'", (str(frame),))
        owner.execute("UPDATE mirror.sources SET frame = %s WHERE source_id = %s", (frame, source))


def test_the_position_is_of_the_same_snapshot(
    postgres_server: PostgresServer, made: tuple[str, dict[str, int]]
) -> None:
    """A commit that comes while the statement runs, before its position and again before its rows are read, is in
    neither; under REPEATABLE READ none that came after the first statement is."""
    dsn, sources = postgres_server.create_database(like=made[0]), made[1]
    slow = (
        "SELECT lesson FROM memory_items, pg_advisory_lock_shared(7), pg_advisory_unlock_shared(7)"
        " WHERE agent_id = w.agent AND id = '1'"
    )
    try:
        with psycopg.connect(dsn, autocommit=True) as owner, as_application(dsn) as app:
            commit(owner, sources["ada"], 100)
            owner.execute("SELECT pg_advisory_lock(7)")
            found: list[tuple[Any, ...]] = []
            reader = threading.Thread(target=lambda: found.extend(read(app, slow, "ada", sources["ada"])))
            reader.start()
            waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while owner.execute(waits).fetchone() == (0,):
                assert reader.is_alive(), found
            commit(owner, sources["ada"], 200)
            owner.execute("SELECT pg_advisory_unlock(7)")
            reader.join(60)
            assert [(row[1], row[4]) for row in found] == [(100, "100")]

            app.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            by_key = "SELECT lesson FROM memory_items WHERE agent_id = w.agent AND id = '1'"
            for frame in (300, 400):
                [row] = read(app, by_key, "ada", sources["ada"])
                assert (row[1], row[4]) == (200, "200")
                commit(owner, sources["ada"], frame)
            app.execute("COMMIT")
            [row] = read(app, by_key, "ada", sources["ada"])
            assert (row[1], row[4]) == (400, "400")
    finally:
        postgres_server.drop_database(dsn)


def test_an_older_database_is_brought_up(postgres_server: PostgresServer) -> None:
    """By a mirror that goes on with its source: a copy, after which all is made, is not taken for it."""
    dsn = postgres_server.create_database()
    try:
        make_tables(dsn, up_to=(7, 5))
        sources = add_agents(dsn, "ada")
        with psycopg.connect(dsn, autocommit=True) as owner:
            owner.execute(
                "INSERT INTO memory_items (agent_id, id, memory_type, summary) VALUES ('ada', '1', 'fact', 'kept')"
            )
        with as_application(dsn) as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
            read(app, INNER["rows"], "ada", sources["ada"])
        with psycopg.connect(dsn, autocommit=True) as owner:
            owner.execute("UPDATE mirror.sources SET profile = 'memustore'")
        with Sink.open(dsn, "/ada/memory.db", "public", PROFILES) as sink:
            assert sink.source_id == sources["ada"]
        with psycopg.connect(dsn) as owner:
            applied = owner.execute("SELECT max(version) FROM mirror.profile_migrations").fetchone()
        newest = max(int(path.name[:4]) for path in (sql_directory() / "profiles" / "memustore").glob("0*.sql"))
        assert applied == (newest,)
        with as_application(dsn) as app:
            assert read(app, INNER["rows"], "ada", sources["ada"]) == [(GENERATION, FRAME, SALT1, SALT2, "kept")]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute("SELECT * FROM mirror.sources")
    finally:
        postgres_server.drop_database(dsn)
