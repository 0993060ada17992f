"""Tables that are only in Postgres: jobs, observations, documents of collections, secrets, differences of reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.support.postgres import PostgresServer
from tests.support.tenants import add_agents, as_application, make_tables

Connection = psycopg.Connection[tuple[Any, ...]]

AGENTS = ("ada", "bob", "eve")


@pytest.fixture(scope="module")
def made(postgres_server: PostgresServer) -> Iterator[tuple[str, dict[str, int]]]:
    dsn = postgres_server.create_database()
    make_tables(dsn)
    yield dsn, add_agents(dsn, *AGENTS)
    postgres_server.drop_database(dsn)


@pytest.fixture
def dsn(postgres_server: PostgresServer, made: tuple[str, dict[str, int]]) -> Iterator[str]:
    dsn = postgres_server.create_database(like=made[0])
    yield dsn
    postgres_server.drop_database(dsn)


@pytest.fixture
def app(dsn: str) -> Iterator[Connection]:
    with as_application(dsn) as connection:
        yield connection


def act_as(connection: Connection, agent: str) -> None:
    connection.execute("SELECT set_config('app.agent_id', %s, false)", (agent,))


def first(connection: Connection, query: str, *parameters: object) -> list[Any]:
    return [row[0] for row in connection.execute(query.encode(), parameters)]


def test_jobs(app: Connection) -> None:
    """Each is its agent's alone; an event with a key is there once for each agent; what hangs on a template goes
    with it."""
    for agent in ("ada", "bob"):
        act_as(app, agent)
        app.execute("INSERT INTO job_templates (agent_id, id, name, role_prompt) VALUES (%s, 't', 'n', 'r')", (agent,))
        app.execute(
            "INSERT INTO job_assignments (agent_id, id, template_id, title, source_agent_id)"
            " VALUES (%s, 'a', 't', 'x', 'who')",
            (agent,),
        )
        app.execute(
            "INSERT INTO job_runs (agent_id, id, assignment_id, template_id, task_id, execution_mode, source_agent_id)"
            " VALUES (%s, 'r', 'a', 't', 'task', 'simulate', 'who')",
            (agent,),
        )
        for _ in range(2):
            app.execute(
                "INSERT INTO job_events (agent_id, event_type, source, idempotency_key)"
                " VALUES (%s, 'x', 'manual', 'k') ON CONFLICT (agent_id, idempotency_key) DO NOTHING",
                (agent,),
            )
        app.execute("INSERT INTO job_events (agent_id, event_type, source) VALUES (%s, 'x', 'manual')", (agent,))
        for table, count in (("job_templates", 1), ("job_assignments", 1), ("job_runs", 1), ("job_events", 2)):
            assert first(app, f"SELECT agent_id FROM {table}") == [agent] * count
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(f"UPDATE {table} SET agent_id = 'eve'".encode())
    app.execute("DELETE FROM job_templates")
    assert first(app, "SELECT id FROM job_runs") == []
    act_as(app, "ada")
    assert first(app, "SELECT id FROM job_runs") == ["r"]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        app.execute(
            "INSERT INTO job_assignments (agent_id, template_id, title, source_agent_id)"
            " VALUES ('ada', 'none', 'x', 'who')"
        )


def test_observations_of_knowledge(app: Connection) -> None:
    """One active for a key; those that it superseded beside it. To whom it is shown, evidence is not."""
    add = (
        "INSERT INTO knowledge_observations (agent_id, id, kind, subject_type, canonical_key, summary, tags, status)"
        " VALUES (%s, %s, 'world_fact', 'global', 'k', 'tea is green', '[\"drinks\"]', %s)"
    )
    act_as(app, "bob")
    for key, status in (("1", "superseded"), ("2", "superseded"), ("3", "active")):
        app.execute(add, ("bob", key, status))
    with pytest.raises(psycopg.errors.UniqueViolation):
        app.execute(add, ("bob", "4", "active"))
    with pytest.raises(psycopg.errors.CheckViolation):
        app.execute(add, ("bob", "4", "gone"))
    app.execute(
        "INSERT INTO knowledge_observation_evidence (agent_id, observation_id, stance) VALUES ('bob', '3', 'support')"
    )
    app.execute("UPDATE knowledge_observations SET visibility = 'team', readers = '{ada}' WHERE id = '3'")
    found = "SELECT id FROM knowledge_observations WHERE search @@ plainto_tsquery('english', 'drink')"
    assert len(first(app, found)) == 3
    act_as(app, "ada")
    assert first(app, found) == ["3"] and first(app, "SELECT id FROM knowledge_observation_evidence") == []
    app.execute(add, ("ada", "3", "active"))
    for agent in ("eve", "nobody", ""):
        act_as(app, agent)
        assert first(app, found) == []
    act_as(app, "bob")
    app.execute("DELETE FROM knowledge_observations WHERE id = '3'")
    assert first(app, "SELECT id FROM knowledge_observation_evidence") == []


@pytest.fixture
def library(app: Connection) -> Connection:
    """Two collections of bob with a document of two chunks each; one is granted to ada."""
    act_as(app, "bob")
    for name in ("open", "closed"):
        app.execute("INSERT INTO knowledge_collections (agent_id, id, name) VALUES ('bob', %s, %s)", (name, name))
        app.execute(
            "INSERT INTO knowledge_documents (agent_id, id, collection_id, title) VALUES ('bob', %s, %s, %s)",
            (f"{name} book", name, name.title()),
        )
        app.execute(
            "INSERT INTO knowledge_chunks (agent_id, document_id, part, content, embedding)"
            " SELECT 'bob', %s, i, 'green tea, part ' || i, ARRAY[i, 1]::vector FROM generate_series(1, 2) AS i",
            (f"{name} book",),
        )
    app.execute(
        "INSERT INTO knowledge_collection_grants (agent_id, collection_id, grantee_agent_id)"
        " VALUES ('bob', 'open', 'ada')"
    )
    return app


def found_by(app: Connection, agent: str) -> list[str]:
    """The chunks that an agent finds: the same by words, by nearness, both ways, and by a plain query."""
    act_as(app, agent)
    ways = [
        sorted(first(app, f"SELECT document_id || ' ' || part FROM search_knowledge({call})"))
        for call in ("'tea'", "NULL, '[1,1]'", "'tea', '[1,1]'", "'green nothing', p_syntax => 'any'")
    ]
    ways.append(sorted(first(app, "SELECT document_id || ' ' || part FROM knowledge_chunks")))
    assert all(way == ways[0] for way in ways), ways
    assert {each.rsplit(" ", 1)[0] for each in ways[0]} == set(first(app, "SELECT id FROM knowledge_documents"))
    return ways[0]


OPEN, CLOSED = ["open book 1", "open book 2"], ["closed book 1", "closed book 2"]


def test_documents_of_a_collection(library: Connection) -> None:
    app = library
    assert found_by(app, "bob") == CLOSED + OPEN
    assert found_by(app, "ada") == OPEN
    for agent in ("eve", "nobody", ""):
        assert found_by(app, agent) == []
    act_as(app, "ada")
    for command in (
        "UPDATE knowledge_chunks SET content = 'x'",
        "UPDATE knowledge_documents SET collection_id = 'closed'",
        "DELETE FROM knowledge_documents",
    ):
        assert app.execute(command.encode()).rowcount == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(
            "INSERT INTO knowledge_chunks (agent_id, document_id, part, content)"
            " VALUES ('bob', 'open book', 3, 'forged')"
        )
    [row] = app.execute("SELECT * FROM search_knowledge('tea', '[1,1]', 1, '{open}')").fetchall()
    assert row[:6] == ("bob", "open", "open book", 1, "Open", "green tea, part 1")
    assert row[6] == pytest.approx(2 / 61) and row[8:] == (1, pytest.approx(0, abs=1e-6), 1)
    assert app.execute("SELECT * FROM search_knowledge('tea', '[1,1]', 1, '{closed}')").fetchall() == []


def test_what_opens_and_closes_documents(library: Connection) -> None:
    app = library
    act_as(app, "bob")
    app.execute("UPDATE knowledge_documents SET collection_id = 'closed' WHERE id = 'open book'")
    assert found_by(app, "ada") == []
    act_as(app, "bob")
    app.execute("UPDATE knowledge_documents SET collection_id = 'open'")
    assert found_by(app, "ada") == CLOSED + OPEN
    act_as(app, "bob")
    app.execute("UPDATE knowledge_chunks SET readers = '{eve}', collection_visibility = 'public', collection_id = 'x'")
    app.execute("UPDATE knowledge_documents SET readers = '{eve}', collection_visibility = 'public'")
    assert found_by(app, "eve") == []
    act_as(app, "bob")
    app.execute("UPDATE knowledge_collections SET visibility = 'family' WHERE id = 'open'")
    assert found_by(app, "eve") == CLOSED + OPEN
    act_as(app, "bob")
    app.execute("UPDATE knowledge_collections SET visibility = 'private'")
    app.execute("DELETE FROM knowledge_collection_grants")
    assert found_by(app, "eve") == found_by(app, "ada") == []
    act_as(app, "bob")
    app.execute("DELETE FROM knowledge_collections")
    assert found_by(app, "bob") == []


def test_dimensions_are_noted(library: Connection, dsn: str) -> None:
    """So that an index of them is built."""
    with psycopg.connect(dsn) as owner:
        noted = owner.execute("SELECT table_name, column_name, dimension FROM mirror.vector_dimensions").fetchall()
    assert noted == [("knowledge_chunks", "embedding", 2)]


def test_secrets(app: Connection) -> None:
    """A variable once for each agent, never another agent's to see, whatever its lists say."""
    add = (
        "INSERT INTO service_keys (agent_id, variable, name, encrypted_value, allowed_agents, key_id)"
        " VALUES (%s, 'KEY', 'a name', 'enc:v1:aa:bb:cc', '[\"ada\", \"bob\", \"eve\"]', 'k1')"
    )
    profile = (
        "INSERT INTO auth_credentials (agent_id, profile_id, provider, credential_type, encrypted_payload)"
        " VALUES (%s, 'p:1', 'p', 'oauth', 'enc:v1:aa:bb:cc')"
    )
    for agent in ("ada", "bob"):
        act_as(app, agent)
        for command in (add, profile):
            app.execute(command, (agent,))
            with pytest.raises(psycopg.errors.UniqueViolation):
                app.execute(command, (agent,))
        assert first(app, "SELECT agent_id FROM service_keys") == [agent]
        assert first(app, "SELECT agent_id FROM auth_credentials WHERE enabled AND error_count = 0") == [agent]


def test_older_secrets_are_kept(postgres_server: PostgresServer) -> None:
    dsn = postgres_server.create_database()
    try:
        make_tables(dsn, up_to=(7, 5))
        add_agents(dsn, "ada")
        with psycopg.connect(dsn, autocommit=True) as owner:
            owner.execute(
                "INSERT INTO service_keys (agent_id, id, service, name, encrypted_value) VALUES"
                " ('ada', '1', 'mail', 'default', 'enc:v1:aa:bb:cc'), ('ada', '2', 'mail', 'x/y', '\\x00ff'),"
                " ('ada', '3', 'mail/x', 'y', '\\x')"
            )
            owner.execute(
                "INSERT INTO auth_credentials (agent_id, id, provider, account, kind, encrypted_value)"
                " VALUES ('ada', '1', 'web', 'me', 'oauth', 'enc:v1:aa:bb:cc')"
            )
            make_tables(dsn)
            keys = owner.execute("SELECT variable, service, name, encrypted_value FROM service_keys ORDER BY id")
            assert keys.fetchall() == [
                ("mail/default", "mail", "default", "enc:v1:aa:bb:cc"),
                ("mail/x/y/2", "mail", "x/y", "bytes:00ff"),
                ("mail/x/y/3", "mail/x", "y", "bytes:"),
            ]
            assert owner.execute(
                "SELECT profile_id, credential_type, encrypted_payload, account FROM auth_credentials"
            ).fetchall() == [("web:me", "oauth", "enc:v1:aa:bb:cc", "me")]
    finally:
        postgres_server.drop_database(dsn)


def test_differences_of_reads(app: Connection, dsn: str, made: tuple[str, dict[str, int]]) -> None:
    """Each kind once, with how often it was seen; of sources of the agent that is set."""
    source = made[1]["ada"]
    note = "SELECT mirror.note_read_difference(%s, 'get_item', 'digest', %s, 3, %s, 'of SQLite', %s)"
    act_as(app, "ada")
    seen = [
        first(app, note, source, kind, frame, text)
        for kind, frame, text in (("value", 1, "a"), ("value", 2, "b"), ("order", 3, "c" * 20000))
    ]
    assert seen == [[1], [2], [1]]
    for agent in ("bob", "nobody", ""):
        act_as(app, agent)
        assert first(app, note, source, "value", 9, "x") == [None]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute("SELECT * FROM mirror.read_differences")
    with psycopg.connect(dsn) as owner:
        kept = owner.execute(
            "SELECT kind, generation, frame, sqlite, left(postgres, 1), length(postgres), count"
            " FROM mirror.read_differences ORDER BY difference_id"
        ).fetchall()
    assert kept == [("value", 3, 2, "of SQLite", "a", 1, 2), ("order", 3, 3, "of SQLite", "c", 10000, 1)]
