"""Row-level security of the agents' tables, and ways to get round it. Each test acts as the role argent_app."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import RawCursor
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier
from psycopg_pool import ConnectionPool

from mirror.core.errors import SinkError
from mirror.postgres.migrate import migrate_profile, sql_directory
from tests.support.memustore import create_store, item, vector
from tests.support.mirrors import MirrorProcess
from tests.support.postgres import PostgresServer

Connection = psycopg.Connection[tuple[Any, ...]]

#: At least these are there.
# fmt: off
DOCUMENTED = [
    "agents", "resources", "memory_items", "memory_categories", "category_items", "entities", "item_entities",
    "reflections", "lessons", "model_feedback", "live_memory_candidates", "memory_promotion_events",
    "personal_skill_candidates", "personal_skill_reviews", "tasks", "teams", "team_members",
    "knowledge_collections", "knowledge_collection_grants", "shared_knowledge", "service_keys",
    "auth_credentials", "sessions", "observations", "job_templates", "job_assignments", "job_runs", "job_events",
    "knowledge_observations", "knowledge_observation_evidence", "knowledge_documents", "knowledge_chunks",
]
# fmt: on


@pytest.fixture(scope="module")
def mirrored(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with two agents, each with a row of the same id in some tables, as a mirror has left it."""
    folder = tmp_path_factory.mktemp("stores")
    dsn = postgres_server.create_database()
    mirror = MirrorProcess([folder / "ada.db", folder / "bob.db"], dsn, folder / "state")
    writers = []
    for agent in ("ada", "bob"):
        mirror.agents[folder / f"{agent}.db"] = agent
        writers.append(create_store(folder / f"{agent}.db"))
        writers[-1].run(
            item("1", f"{agent}'s secret", embedding=vector(1, 2)),
            "INSERT INTO memory_categories(id, name) VALUES ('1', 'work')",
            "INSERT INTO category_items VALUES ('1', '1')",
            "INSERT INTO live_memory_candidates(id, role, candidate_type, fact_text, fact_hash, source_ts, expires_at)"
            " VALUES ('1', 'user', 'fact', 'f', 'h', datetime('now'), datetime('now'))",
        )
    try:
        mirror.start()
        mirror.check()
        for source in mirror.sources:
            mirror.status_when(lambda status: status["indexing"] is None, source)
    finally:
        mirror.end()
        for writer in writers:
            writer.close()
    yield dsn
    postgres_server.drop_database(dsn)


@pytest.fixture
def dsn(postgres_server: PostgresServer, mirrored: str) -> Iterator[str]:
    """A copy of it for each test."""
    dsn = postgres_server.create_database(like=mirrored)
    yield dsn
    postgres_server.drop_database(dsn)


@pytest.fixture
def filled(dsn: str) -> str:
    """The DSN of argent_app."""
    return make_conninfo(dsn, user="argent_app")


@pytest.fixture
def app(filled: str) -> Iterator[Connection]:
    with psycopg.connect(filled, autocommit=True) as connection:
        yield connection


def act_as(connection: Connection, agent: str) -> None:
    connection.execute("SELECT set_config('app.agent_id', %s, false)", (agent,))


def summaries(connection: Connection) -> list[str]:
    return [text for (text,) in connection.execute("SELECT summary FROM memory_items ORDER BY 1")]


def test_every_table_of_agents_is_secured(filled: str, dsn: str) -> None:
    with psycopg.connect(dsn) as owner:
        secured = dict(
            owner.execute(
                "SELECT relname, relrowsecurity AND EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid)"
                " FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            ).fetchall()
        )
        [role] = owner.execute(
            "SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = 'argent_app'"
        )
        owned = owner.execute("SELECT count(*) FROM pg_class WHERE pg_get_userbyid(relowner) = 'argent_app'").fetchone()
    assert set(DOCUMENTED) <= set(secured) and "memu_meta" in secured
    assert all(secured.values()), secured
    assert role == (False, False, False) and owned == (0,)


@pytest.mark.parametrize("agent", [None, "", "nobody", "ADA", "ada ", "%", "ada' OR '1'='1", "{ada,bob}", "*"])
def test_missing_empty_and_forged(app: Connection, dsn: str, agent: str | None) -> None:
    """Nothing is seen, of no table and no view: not even what is shared with all."""
    with psycopg.connect(dsn) as owner:
        owner.execute("UPDATE memory_items SET visibility = 'shared'")
    if agent is not None:
        act_as(app, agent)
    relations = [*DOCUMENTED, "categories", "item_categories", "live_candidates", "memu_meta"]
    for relation in relations:
        assert app.execute(SQL("SELECT count(*) FROM {}").format(Identifier(relation))).fetchone() == (0,), relation
    assert app.execute("SELECT * FROM search_memories('secret', '[1,2]')").fetchall() == []


def test_own_rows_only(app: Connection) -> None:
    for agent in ("ada", "bob"):
        act_as(app, agent)
        assert summaries(app) == [f"{agent}'s secret"]
        assert app.execute("SELECT agent_id FROM agents").fetchall() == [(agent,)]
        assert app.execute("SELECT agent_id FROM categories").fetchall() == [(agent,)]
        assert app.execute("SELECT summary FROM search_memories('secret', '[1,2]')").fetchall() == [
            (f"{agent}'s secret",)
        ]


def test_nothing_is_left_over_on_a_pooled_connection(filled: str) -> None:
    """Set for a transaction, it is gone with it, on a rollback too; a prepared plan does not keep it."""
    with ConnectionPool(filled, min_size=1, max_size=1) as pool:
        for agent in ("ada", "bob"):
            with pool.connection() as connection:
                connection.execute("SELECT set_config('app.agent_id', %s, true)", (agent,))
                assert summaries(connection) == [f"{agent}'s secret"]
            with pool.connection() as connection:
                assert summaries(connection) == []
        with pool.connection() as connection:
            connection.execute("SELECT set_config('app.agent_id', 'ada', true)")
            with pytest.raises(psycopg.errors.DivisionByZero):
                connection.execute("SELECT 1 / 0")
            connection.rollback()
        with pool.connection() as connection:
            assert summaries(connection) == []
            connection.execute("PREPARE q AS SELECT summary FROM memory_items")
            for agent in ("ada", "bob") * 6:
                connection.execute("SELECT set_config('app.agent_id', %s, true)", (agent,))
                assert connection.execute("EXECUTE q").fetchall() == [(f"{agent}'s secret",)]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT summary FROM memory_items UNION ALL SELECT summary FROM memory_items WHERE agent_id = 'bob'",
        "SELECT summary FROM (TABLE memory_items) AS x WHERE agent_id = 'bob'",
        "WITH x AS MATERIALIZED (SELECT * FROM memory_items) SELECT summary FROM x WHERE agent_id <> 'ada'",
        "SELECT i.summary FROM category_items c JOIN memory_items i ON i.id = c.item_id AND i.agent_id <> 'ada'",
        "SELECT most_common_vals::text, histogram_bounds::text FROM pg_stats WHERE tablename = 'memory_items'",
        "SELECT summary FROM memory_items TABLESAMPLE system (100) WHERE agent_id = 'bob' FOR SHARE",
        "SELECT summary FROM memory_items i, LATERAL (SELECT set_config('app.agent_id', 'ada', true)) s"
        " WHERE i.agent_id = 'bob'",
    ],
)
def test_tricks_with_queries(app: Connection, query: str) -> None:
    act_as(app, "ada")
    found = app.execute(query.encode()).fetchall()
    assert "bob's secret" not in repr(found)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("SET row_security = off; SELECT * FROM memory_items", psycopg.errors.InsufficientPrivilege),
        ("SET ROLE postgres", psycopg.errors.InsufficientPrivilege),
        ("SET SESSION AUTHORIZATION postgres", psycopg.errors.InsufficientPrivilege),
        ("ALTER TABLE memory_items DISABLE ROW LEVEL SECURITY", psycopg.errors.InsufficientPrivilege),
        ("DROP POLICY own_rows ON memory_items", psycopg.errors.InsufficientPrivilege),
        ("CREATE POLICY mine ON memory_items USING (true)", psycopg.errors.InsufficientPrivilege),
        ("ALTER ROLE argent_app BYPASSRLS", psycopg.errors.InsufficientPrivilege),
        ("SELECT * FROM mirror.rejects", psycopg.errors.InsufficientPrivilege),
        ("SELECT * FROM mirror.sources", psycopg.errors.InsufficientPrivilege),
        ("CREATE VIEW public.leak AS SELECT * FROM memory_items", psycopg.errors.InsufficientPrivilege),
        ("TRUNCATE memory_items", psycopg.errors.InsufficientPrivilege),
        ("INSERT INTO agents(agent_id) VALUES ('nobody')", psycopg.errors.InsufficientPrivilege),
        ("COPY memory_items TO PROGRAM 'cat'", psycopg.errors.InsufficientPrivilege),
    ],
)
def test_what_the_role_may_not_do(app: Connection, command: str, error: type[psycopg.Error]) -> None:
    act_as(app, "ada")
    with pytest.raises(error):
        app.execute(command.encode())


def test_a_function_in_the_query_sees_no_other_row(app: Connection) -> None:
    """A condition that tells what it is given is not asked about rows of others, however cheap it claims to be."""
    told: list[str] = []
    app.add_notice_handler(lambda notice: told.append(str(notice.message_primary)))
    app.execute(
        "CREATE FUNCTION pg_temp.spy(t text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS"
        " $$BEGIN RAISE NOTICE '%', t; RETURN true; END$$"
    )
    act_as(app, "ada")
    app.execute("SELECT 1 FROM memory_items WHERE pg_temp.spy(summary)")
    app.execute("SELECT 1 FROM categories WHERE pg_temp.spy(agent_id || name)")
    assert told == ["ada's secret", "adawork"]


def test_writes_into_rows_of_others(app: Connection, dsn: str) -> None:
    act_as(app, "ada")
    forbidden = psycopg.errors.InsufficientPrivilege
    insert = "INSERT INTO memory_items(agent_id, id, memory_type, summary) VALUES (%s, '9', 'fact', 'x')"
    with pytest.raises(forbidden):
        app.execute(insert, ("bob",))
    with pytest.raises(forbidden):
        app.execute("UPDATE memory_items SET agent_id = 'bob'")
    with pytest.raises(forbidden):
        app.execute("UPDATE categories SET agent_id = 'bob'")
    with pytest.raises(forbidden):
        app.execute("INSERT INTO item_categories VALUES ('bob', '1', '2')")
    with pytest.raises(forbidden):
        app.execute(
            "INSERT INTO memory_items(agent_id, id, memory_type, summary) VALUES ('bob', '1', 'fact', 'taken over')"
            " ON CONFLICT (agent_id, id) DO UPDATE SET summary = excluded.summary"
        )
    for command in (
        "UPDATE memory_items SET summary = 'gone' WHERE agent_id = 'bob'",
        "DELETE FROM live_candidates WHERE agent_id = 'bob'",
        "MERGE INTO memory_items t USING (SELECT 'bob' AS a) s ON t.agent_id = s.a WHEN MATCHED THEN DELETE",
    ):
        assert app.execute(command.encode()).rowcount == 0
    assert app.execute(insert, ("ada",)).rowcount == 1
    with psycopg.connect(dsn) as owner:
        assert owner.execute("SELECT summary FROM memory_items WHERE agent_id = 'bob'").fetchall() == [
            ("bob's secret",)
        ]


def test_views_can_be_written_to(app: Connection, dsn: str) -> None:
    act_as(app, "ada")
    assert app.execute("UPDATE categories SET name = 'play'").rowcount == 1
    assert app.execute("INSERT INTO categories(agent_id, id, name) VALUES ('ada', '2', 'new')").rowcount == 1
    assert app.execute("INSERT INTO item_categories VALUES ('ada', '1', '2')").rowcount == 1
    assert app.execute("UPDATE live_candidates SET status = 'promoted'").rowcount == 1
    assert app.execute("DELETE FROM live_candidates").rowcount == 1
    with psycopg.connect(dsn) as owner:
        found = owner.execute("SELECT agent_id, name FROM memory_categories ORDER BY 1, 2").fetchall()
        assert found == [("ada", "new"), ("ada", "play"), ("bob", "work")]


def test_shared_by_visibility(app: Connection, dsn: str) -> None:
    """To read, not to write."""
    with psycopg.connect(dsn) as owner:
        owner.execute("UPDATE memory_items SET visibility = 'shared' WHERE agent_id = 'bob'")
    act_as(app, "ada")
    assert summaries(app) == ["ada's secret", "bob's secret"]
    assert app.execute("UPDATE memory_items SET summary = 'x' WHERE agent_id = 'bob'").rowcount == 0
    assert app.execute("DELETE FROM memory_items WHERE agent_id = 'bob'").rowcount == 0


def test_shared_by_a_grant(app: Connection) -> None:
    """One collection, to one agent, until it is taken back."""
    act_as(app, "bob")
    for name in ("open", "closed"):
        app.execute("INSERT INTO knowledge_collections(agent_id, id, name) VALUES ('bob', %s, %s)", (name, name))
        app.execute(
            "INSERT INTO shared_knowledge(agent_id, id, collection_id, content) VALUES ('bob', %s, %s, %s)",
            (name, name, f"{name} knowledge"),
        )
    grant = "INSERT INTO knowledge_collection_grants(agent_id, collection_id, grantee_agent_id) VALUES (%s, %s, 'ada')"
    app.execute(grant, ("bob", "open"))
    act_as(app, "ada")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(grant, ("bob", "closed"))
    app.execute(grant, ("ada", "closed"))  # of a collection of its own that is not there
    assert app.execute("SELECT content FROM shared_knowledge").fetchall() == [("open knowledge",)]
    assert app.execute("SELECT name FROM knowledge_collections").fetchall() == [("open",)]
    assert app.execute("UPDATE shared_knowledge SET content = 'x'").rowcount == 0
    assert app.execute("DELETE FROM knowledge_collection_grants WHERE agent_id = 'bob'").rowcount == 0
    act_as(app, "bob")
    app.execute("DELETE FROM knowledge_collection_grants")
    act_as(app, "ada")
    assert app.execute("SELECT content FROM shared_knowledge").fetchall() == []


def test_migrations_are_applied_once(filled: str, dsn: str) -> None:
    """They are in a ledger with their checksums, and are an error if they have changed since."""
    with psycopg.connect(dsn, cursor_factory=RawCursor) as owner:
        names = sorted(path.stem for path in (sql_directory() / "profiles" / "memustore").glob("0*.sql"))
        ledger = owner.execute("SELECT name FROM mirror.profile_migrations WHERE schema_name = 'public' ORDER BY 1")
        assert [name for (name,) in ledger.fetchall()] == names
        assert migrate_profile(owner, "memustore", "public") == []
        owner.execute("UPDATE mirror.profile_migrations SET checksum = 'x' WHERE version = 2")
        with pytest.raises(SinkError, match=r"0002_indexes.*applied in another form"):
            migrate_profile(owner, "memustore", "public")


def test_every_constraint_contains_the_agent(filled: str, dsn: str) -> None:
    """So that tables can be distributed by it (test_citus.py); those that hold from the cutover on as well."""
    with psycopg.connect(dsn) as owner:
        owner.execute((sql_directory() / "profiles" / "memustore" / "constraints.sql").read_bytes())
        found = owner.execute(
            "SELECT conrelid::regclass::text, conname, contype::text, (SELECT array_agg(attname::text ORDER BY attname)"
            " FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey)) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace AND contype IN ('p', 'u', 'f')"
        ).fetchall()
        unique = owner.execute(
            "SELECT indexrelid::regclass::text, EXISTS (SELECT FROM pg_attribute WHERE attrelid = indrelid"
            " AND attname = 'agent_id' AND attnum = ANY (indkey)) FROM pg_index JOIN pg_class c ON c.oid = indrelid"
            " WHERE indisunique AND c.relnamespace = 'public'::regnamespace"
        ).fetchall()
    assert sum(kind == "f" for _, _, kind, _ in found) == 14
    assert [row for row in found if "agent_id" not in row[3]] == []
    assert [name for name, leads in unique if not leads] == []
