"""Who may read a row is beside the row: visibilities, readers, grants; and ways to get round it, as ``argent_app``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.support.postgres import PostgresServer
from tests.support.tenants import add_agents, as_application, make_tables

Connection = psycopg.Connection[tuple[Any, ...]]

AGENTS = ("ada", "bob", "eve")
VISIBLE = ["resources", "memory_items", "memory_categories", "entities", "reflections", "lessons", "tasks", "teams"]


@pytest.fixture(scope="module")
def made(postgres_server: PostgresServer) -> Iterator[str]:
    dsn = postgres_server.create_database()
    make_tables(dsn)
    add_agents(dsn, *AGENTS)
    with psycopg.connect(dsn, autocommit=True) as owner:
        for agent in AGENTS:
            owner.execute(ITEM, {"agent": agent, "id": "1", "extra": "{}"})
    yield dsn
    postgres_server.drop_database(dsn)


ITEM = (
    "INSERT INTO memory_items (agent_id, id, memory_type, summary, extra)"
    " VALUES (%(agent)s, %(id)s, 'fact', %(agent)s || %(id)s, %(extra)s::jsonb)"
    " ON CONFLICT (agent_id, id) DO UPDATE SET extra = excluded.extra, summary = excluded.summary"
)


@pytest.fixture
def dsn(postgres_server: PostgresServer, made: str) -> Iterator[str]:
    dsn = postgres_server.create_database(like=made)
    yield dsn
    postgres_server.drop_database(dsn)


@pytest.fixture
def owner(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def app(dsn: str) -> Iterator[Connection]:
    with as_application(dsn) as connection:
        yield connection


def act_as(connection: Connection, agent: str) -> None:
    connection.execute("SELECT set_config('app.agent_id', %s, false)", (agent,))


def seen(app: Connection, query: str) -> dict[str, list[Any]]:
    """What each agent, and one that is made up, finds in the first column."""
    found = {}
    for agent in (*AGENTS, "nobody", ""):
        act_as(app, agent)
        found[agent] = [value for (value,) in app.execute(query.encode())]
    return found


def test_no_policy_contains_a_subquery(owner: Connection) -> None:
    policies = owner.execute(
        "SELECT c.relname || ' ' || polname, concat_ws(' ', pg_get_expr(polqual, polrelid),"
        " pg_get_expr(polwithcheck, polrelid)) FROM pg_policy JOIN pg_class c ON c.oid = polrelid"
    ).fetchall()
    assert len(policies) > 40
    assert [name for name, text in policies if "SELECT" in text.upper()] == []


def test_functions_of_the_owner_are_nobody_elses(owner: Connection) -> None:
    """They look past row security: each that applications may call is known here, and searches pg_temp last."""
    found = owner.execute(
        "SELECT proname, has_function_privilege('argent_app', oid, 'EXECUTE'), proconfig::text FROM pg_proc"
        " WHERE prosecdef AND pronamespace = 'public'::regnamespace"
    ).fetchall()
    assert {name for name, callable_, _ in found if callable_} <= OPEN
    assert [name for name, _, settings in found if "pg_temp" not in settings or '"$user' in settings] == []


#: They read the rows of the asking agent, and what others let it read.
OPEN = {"memory_candidates", "knowledge_candidates"}


@pytest.mark.parametrize(
    ("visibility", "readers", "who"),
    [
        ("private", None, "bob"),
        ("private", ["ada"], "bob"),
        ("team", None, "bob"),
        ("team", ["ada", "nobody", ""], "ada bob"),
        ("team", ["ADA", "ada ", "*", "%"], "bob"),
        ("family", None, "ada bob eve"),
        ("public", None, "ada bob eve"),
        ("shared", None, "ada bob eve"),
    ],
)
def test_visibilities(app: Connection, owner: Connection, visibility: str, readers: list[str] | None, who: str) -> None:
    """To read, not to write; for who is no agent, nothing."""
    owner.execute("UPDATE memory_items SET visibility = %s, readers = %s WHERE agent_id = 'bob'", (visibility, readers))
    found = seen(app, "SELECT agent_id FROM memory_items WHERE agent_id = 'bob'")
    assert {agent for agent, rows in found.items() if rows} == set(who.split())
    assert found == seen(app, "SELECT agent_id FROM memory_items OFFSET 0") | found
    act_as(app, "ada")
    for command in ("UPDATE memory_items SET readers = '{ada,eve}'", "DELETE FROM memory_items"):
        assert app.execute(command.encode() + b" WHERE agent_id = 'bob'").rowcount == 0


def test_a_visibility_that_is_none_is_refused(app: Connection) -> None:
    act_as(app, "ada")
    for table in VISIBLE:
        with pytest.raises(psycopg.errors.CheckViolation):
            app.execute("UPDATE memory_items SET visibility = 'everybody'")
        app.execute(f"SELECT visibility, readers FROM {table}".encode())


@pytest.mark.parametrize(
    ("extra", "visibility", "readers"),
    [
        ('{"visibility": "family"}', "family", None),
        ('{"visibility": "team", "readers": ["ada"], "a": 1}', "team", ["ada"]),
        ('{"visibility": "team", "readers": "ada"}', "team", None),
        ('{"visibility": "team", "readers": [1, null, {"a": 2}]}', "team", ["1", None, '{"a": 2}']),
        ('{"visibility": "private"}', "private", None),
        ('{"visibility": "Family"}', "private", None),
        ('{"visibility": ["family"]}', "private", None),
        ('{"visibility": null}', "private", None),
        ('["visibility"]', "private", None),
        ('"visibility"', "private", None),
    ],
)
def test_visibility_of_extra(owner: Connection, extra: str, visibility: str, readers: list[str] | None) -> None:
    """New and changed rows, as the mirror writes them; a row is never refused for it."""
    columns = "SELECT visibility, readers FROM memory_items WHERE id = %s AND agent_id = 'bob'"
    for key in ("1", "new"):
        owner.execute(ITEM, {"agent": "bob", "id": key, "extra": extra})
        assert owner.execute(columns, (key,)).fetchone() == (visibility, readers)
    owner.execute("UPDATE memory_items SET visibility = 'public', readers = '{eve}'")
    assert owner.execute(columns, ("1",)).fetchone() == (visibility, readers)


def test_visibility_that_is_taken_out_of_extra(owner: Connection) -> None:
    """Is private again; but what was only ever set in Postgres stays, whatever the mirror writes."""
    columns = "SELECT visibility, readers FROM memory_items WHERE agent_id = 'bob'"
    owner.execute(ITEM, {"agent": "bob", "id": "1", "extra": '{"visibility": "team", "readers": ["ada"]}'})
    for extra in ('{"other": 1}', None):
        owner.execute(ITEM, {"agent": "bob", "id": "1", "extra": extra})
        assert owner.execute(columns).fetchone() == ("private", None)
        owner.execute("UPDATE memory_items SET visibility = 'family', extra = '{\"visibility\": \"family\"}'")
    owner.execute("UPDATE memory_items SET extra = '{}'")
    owner.execute("UPDATE memory_items SET visibility = 'public'")
    owner.execute(ITEM, {"agent": "bob", "id": "1", "extra": '{"n": 2}'})
    assert owner.execute(columns).fetchone() == ("public", None)


GRANT = "INSERT INTO knowledge_collection_grants (agent_id, collection_id, grantee_agent_id) VALUES (%s, %s, %s)"
ENTRY = "INSERT INTO shared_knowledge (agent_id, id, collection_id, content) VALUES (%s, %s, %s, 'known')"


@pytest.fixture
def granted(app: Connection) -> Connection:
    """Collections of bob: one granted to ada, one not; each with an entry of its name."""
    act_as(app, "bob")
    for name in ("open", "closed"):
        app.execute("INSERT INTO knowledge_collections (agent_id, id, name) VALUES ('bob', %s, %s)", (name, name))
        app.execute(ENTRY, ("bob", name, name))
    app.execute(GRANT, ("bob", "open", "ada"))
    return app


def entries(app: Connection) -> dict[str, list[Any]]:
    found = seen(app, "SELECT id FROM shared_knowledge ORDER BY id")
    assert found["nobody"] == found[""] == []
    return {agent: found[agent] for agent in ("ada", "eve")}


def test_a_grant_and_what_comes_after_it(granted: Connection) -> None:
    app = granted
    assert entries(app) == {"ada": ["open"], "eve": []}
    act_as(app, "bob")
    app.execute(ENTRY, ("bob", "later", "open"))
    assert entries(app) == {"ada": ["later", "open"], "eve": []}
    act_as(app, "bob")
    app.execute("UPDATE shared_knowledge SET collection_id = 'closed' WHERE id = 'later'")  # moved
    assert entries(app) == {"ada": ["open"], "eve": []}
    act_as(app, "bob")
    app.execute("UPDATE shared_knowledge SET collection_id = 'open'")
    app.execute("UPDATE knowledge_collection_grants SET grantee_agent_id = 'eve'")
    assert entries(app) == {"ada": [], "eve": ["closed", "later", "open"]}
    act_as(app, "bob")
    app.execute("UPDATE knowledge_collection_grants SET collection_id = 'closed'")
    assert entries(app) == {"ada": [], "eve": []}
    act_as(app, "bob")
    app.execute("DELETE FROM knowledge_collection_grants")
    assert seen(app, "SELECT readers FROM shared_knowledge WHERE readers IS NOT NULL")["bob"] == []


def test_a_shared_collection_opens_what_is_in_it(granted: Connection) -> None:
    app = granted
    for visibility, ids in (("family", ["closed", "open"]), ("private", ["open"]), ("public", ["closed", "open"])):
        act_as(app, "bob")
        app.execute("UPDATE knowledge_collections SET visibility = %s WHERE id = 'closed'", (visibility,))
        assert entries(app)["ada"] == ids
    act_as(app, "bob")
    app.execute("DELETE FROM knowledge_collections WHERE id = 'closed'")
    assert entries(app)["ada"] == ["open"]


def test_a_grantee_opens_nothing(granted: Connection) -> None:
    """It neither grants on, nor writes readers; and readers that an owner writes are those of the grants."""
    app = granted
    act_as(app, "ada")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(GRANT, ("bob", "open", "eve"))
    app.execute(GRANT, ("ada", "open", "eve"))  # of a collection of its own that is not there
    app.execute("INSERT INTO knowledge_collections (agent_id, id, name) VALUES ('ada', 'closed', 'mine')")
    app.execute(GRANT, ("ada", "closed", "ada"))
    app.execute(ENTRY, ("ada", "mine", "closed"))
    assert app.execute("UPDATE shared_knowledge SET readers = '{eve}' WHERE agent_id = 'bob'").rowcount == 0
    assert entries(app) == {"ada": ["mine", "open"], "eve": []}
    act_as(app, "bob")
    app.execute("UPDATE shared_knowledge SET readers = '{eve}', collection_visibility = 'public'")
    app.execute("UPDATE knowledge_collections SET readers = '{eve}'")
    app.execute(
        "INSERT INTO shared_knowledge (agent_id, id, collection_id, content, readers)"
        " VALUES ('bob', 'x', 'closed', 'x', '{eve}')"
    )
    assert entries(app) == {"ada": ["mine", "open"], "eve": []}


def test_a_trigger_of_the_owner_on_a_table_of_the_caller(granted: Connection) -> None:
    """Through it, a caller would see who may read the collections of others."""
    act_as(granted, "eve")
    granted.execute("CREATE TEMP TABLE spy (agent_id text, id text, collection_id text, readers text[])")
    for function in ("take_grants", "take_collection", "pass_grant_on", "pass_collection_on"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            granted.execute(
                f"CREATE TRIGGER t BEFORE INSERT ON spy FOR EACH ROW EXECUTE FUNCTION {function}()".encode()
            )


def test_tables_of_the_caller_do_not_stand_in(granted: Connection) -> None:
    """A temporary table with the name of one that a trigger reads."""
    act_as(granted, "bob")
    granted.execute(
        "CREATE TEMP TABLE knowledge_collection_grants AS"
        " SELECT 'bob' AS agent_id, 'closed' AS collection_id, 'eve' AS grantee_agent_id"
    )
    granted.execute("GRANT ALL ON pg_temp.knowledge_collection_grants TO PUBLIC")
    granted.execute("UPDATE knowledge_collections SET description = 'x'")
    assert entries(granted) == {"ada": ["open"], "eve": []}


def test_plans_of_reads_that_set_their_agent(owner: Connection, app: Connection) -> None:
    """While such a statement is planned no agent is set: it is planned for many rows, so in the order of an index."""
    owner.execute(
        "INSERT INTO memory_items (agent_id, id, memory_type, summary)"
        " SELECT 'bob', 'b' || i, 'fact', 'x' FROM generate_series(1, 5000) AS i"
    )
    owner.execute("ANALYZE memory_items")
    app.execute(
        "PREPARE listed (text) AS SELECT q.* FROM (SELECT set_config('app.agent_id', $1, true) AS agent OFFSET 0) AS w,"
        " LATERAL (SELECT id FROM memory_items WHERE agent_id = w.agent ORDER BY created_at DESC LIMIT 5) AS q"
    )
    for mode in ("force_custom_plan", "force_generic_plan"):
        app.execute(f"SET plan_cache_mode = {mode}".encode())
        plan = "\n".join(line for (line,) in app.execute("EXPLAIN EXECUTE listed('bob')"))
        assert "memory_items_created" in plan and "Sort" not in plan, plan
    act_as(app, "ada")
    plan = "\n".join(line for (line,) in app.execute("EXPLAIN SELECT count(*) FROM memory_items"))
    assert "Seq Scan" not in plan and "memory_items_readable" in plan, plan
    plan = "\n".join(line for (line,) in app.execute("EXPLAIN SELECT summary FROM memory_items ORDER BY created_at"))
    assert "One-Time Filter" in plan and plan.count("asking_agent") == 1, plan
