"""``search_memories`` for agents of many sizes in one table: full answers, near the exact ones, of what may be read."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest

from tests.support.postgres import PostgresServer
from tests.support.tenants import add_agents, as_application, make_tables
from tests.support.waiting import until

Connection = psycopg.Connection[tuple[Any, ...]]

#: Of memories with an embedding, by agent.
SIZES = {"none": 0, "one": 1, "seven": 7, "small": 400, "medium": 1500, "middle": 8000, "big": 40000}
DIMENSION = 8
LIMIT = 10

#: Columns that tell how a memory was found.
PARTS = "id, score, rank, rank_place, distance, distance_place"


@pytest.fixture(scope="module")
def made(postgres_server: PostgresServer) -> Iterator[str]:
    """The middle agent's vectors are all far from the others'."""
    dsn = postgres_server.create_database()
    make_tables(dsn)
    add_agents(dsn, *SIZES)
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("SELECT setseed(0.5)")
        for agent, size in SIZES.items():
            owner.execute(
                "INSERT INTO memory_items (agent_id, id, memory_type, significance, summary, embedding, created_at)"
                " SELECT %(agent)s, i::text, (ARRAY['fact', 'event', 'skill'])[1 + i %% 3],"
                " (ARRAY['routine', 'core'])[1 + i %% 2],"
                " (ARRAY['cats', 'dogs', 'deploys', 'tea'])[1 + i %% 4] || ' number ' || i, v.embedding,"
                " '2026-01-01'::timestamptz + i * interval '1 minute'"
                " FROM generate_series(1, %(size)s) AS i CROSS JOIN LATERAL (SELECT array_agg("
                " CASE WHEN %(agent)s = 'middle' THEN -1 ELSE 1 END * (1 + random()))::vector AS embedding"
                " FROM generate_series(1, %(dimension)s) WHERE i > 0) AS v",
                {"agent": agent, "size": size, "dimension": DIMENSION},
            )
        owner.execute("SET maintenance_work_mem = '256MB'")
        owner.execute(
            f"CREATE INDEX ON memory_items USING hnsw ((embedding::vector({DIMENSION})) vector_cosine_ops)"
            f" WITH (m = 16, ef_construction = 40) WHERE vector_dims(embedding) = {DIMENSION}".encode()
        )
        owner.execute("VACUUM ANALYZE memory_items")
    yield dsn
    postgres_server.drop_database(dsn)


@pytest.fixture
def dsn(postgres_server: PostgresServer, made: str) -> Iterator[str]:
    """A copy for tests that change rows."""
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


@pytest.fixture
def reader(made: str) -> Iterator[Connection]:
    with as_application(made) as connection:
        yield connection


def act_as(connection: Connection, agent: str) -> None:
    connection.execute("SELECT set_config('app.agent_id', %s, false)", (agent,))


def vector_of(numbers: Sequence[float]) -> str:
    return "[" + ",".join(map(str, numbers)) + "]"


def ids(connection: Connection, call: str, *parameters: object) -> list[str]:
    return [key for (key,) in connection.execute(f"SELECT id FROM search_memories({call})".encode(), parameters)]


@pytest.mark.parametrize("agent", SIZES)
@pytest.mark.slow
def test_a_full_answer_that_is_nearly_the_exact_one(reader: Connection, agent: str) -> None:
    """By nearness; of the exact ten nearest, at least 95 percent, and in that order."""
    act_as(reader, agent)
    randoms = random.Random(7)
    expected, met = 0, 0
    for _ in range(20):
        query = vector_of([1 + randoms.random() for _ in range(DIMENSION)])
        exact = [
            key
            for (key,) in reader.execute(
                "SELECT id FROM memory_items WHERE agent_id = %s ORDER BY embedding <=> %s::vector, id LIMIT %s",
                (agent, query, LIMIT),
            )
        ]
        found = reader.execute(
            f"SELECT {PARTS} FROM search_memories(NULL, %s::vector, %s, 'own')".encode(), (query, LIMIT)
        ).fetchall()
        assert len(found) == min(LIMIT, SIZES[agent])
        assert [row[5] for row in found] == list(range(1, len(found) + 1))
        assert [row[4] for row in found] == sorted(row[4] for row in found)
        assert all(row[1] == pytest.approx(1 / (60 + row[5])) and row[2] is row[3] is None for row in found)
        expected, met = expected + len(exact), met + len(set(exact) & {row[0] for row in found})
    assert met >= 0.95 * expected


@pytest.mark.slow
def test_settings_are_as_they_were(reader: Connection) -> None:
    """How the index is read is the caller's business again afterwards."""
    act_as(reader, "big")
    query = vector_of([1.5] * DIMENSION)
    ids(reader, "NULL, %s::vector", query)
    reader.execute("SET hnsw.ef_search = 77")
    with reader.transaction():
        for scope in ("own", "others"):
            ids(reader, "NULL, %s::vector, 100, %s", query, scope)
            assert reader.execute("SHOW hnsw.ef_search").fetchone() == ("77",)
    assert reader.execute("SHOW hnsw.ef_search").fetchone() == ("77",)


@pytest.mark.few(1)
@pytest.mark.parametrize("limit", [1, 3, 100, 700])
def test_limits(reader: Connection, limit: int) -> None:
    query = vector_of([1.5] * DIMENSION)
    for agent, size in SIZES.items():
        act_as(reader, agent)
        assert len(ids(reader, "NULL, %s::vector, %s", query, limit)) == min(limit, size), agent
        assert len(ids(reader, "'number', NULL, %s", limit)) == min(limit, size), agent
        assert len(ids(reader, "'number', %s::vector, %s", query, limit)) == min(limit, size), agent
        assert len(set(ids(reader, "'cats', %s::vector, %s", query, limit))) == min(limit, size), agent
    assert len(ids(reader, "'number', NULL, 2147483647")) == SIZES[agent]
    for nothing in (0, -1, None):
        assert ids(reader, "'number', %s::vector, %s", query, nothing) == []


def test_a_small_agent_does_not_wait_for_a_big_one(reader: Connection) -> None:
    """Comparing its rows takes milliseconds; the bound is for a machine that is busy with other things."""
    query = vector_of([1.5] * DIMENSION)
    for agent in ("none", "one", "seven", "small", "medium"):
        act_as(reader, agent)
        ids(reader, "'cats', %s::vector", query)
        begun = time.monotonic()
        ids(reader, "'cats', %s::vector", query)
        assert time.monotonic() - begun < 5, agent


def test_without_a_vector_without_a_text_and_without_both(reader: Connection) -> None:
    """As one types it first: NULL or an empty text for what is not looked for."""
    act_as(reader, "seven")
    by_words = ids(reader, "'cats'")
    assert by_words and ids(reader, "'cats', NULL, 10") == by_words
    assert ids(reader, "'cats', NULL, 2") == by_words[:2]
    (target,) = reader.execute("SELECT embedding::text FROM memory_items WHERE id = '2'").fetchone() or ("",)
    nearest = ids(reader, "NULL, %s::vector, 2", target)
    assert len(nearest) == 2 and nearest[0] == "2"
    assert ids(reader, "'', %s::vector, 2", target) == ids(reader, "'  ', %s::vector, 2", target) == nearest
    assert ids(reader, "NULL, NULL, 2") == ids(reader, "'', NULL") == [], "nothing is looked for"


def test_by_words_alone_and_both(reader: Connection) -> None:
    act_as(reader, "seven")
    words = reader.execute(f"SELECT {PARTS} FROM search_memories('cats')".encode()).fetchall()
    assert [row[0] for row in words] == ["4"]
    assert words[0][1:4] == (pytest.approx(1 / 61), pytest.approx(0.0304, abs=0.0001), 1)
    assert words[0][4:] == (None, None)
    (target,) = reader.execute("SELECT embedding::text FROM memory_items WHERE id = '2'").fetchone() or ("",)
    both = reader.execute(f"SELECT {PARTS} FROM search_memories('cats', %s::vector)".encode(), (target,)).fetchall()
    assert len(both) == 7 and {row[0]: row[3] for row in both if row[3]} == {"4": 1}
    [cats] = [row for row in both if row[0] == "4"]
    assert cats[1] == pytest.approx(1 / 61 + 1 / (60 + cats[5]))
    assert both == sorted(both, key=lambda row: -row[1])
    for query in (None, "", "   "):
        assert ids(reader, "%s, %s::vector", query, target)[0] == "2"
        assert ids(reader, "%s", query) == []
    assert ids(reader, "'cats', '[1,2]'::vector") == ["4"]  # no memory has an embedding of two numbers


def test_restrictions(reader: Connection) -> None:
    query = vector_of([1.5] * DIMENSION)
    for agent, size in (("seven", 1), ("medium", 10), ("middle", 10), ("big", 10)):
        act_as(reader, agent)
        found = reader.execute(
            "SELECT memory_type, significance"
            " FROM search_memories('number', %s::vector, 10, 'own', '{event}', '{core}') JOIN"
            " memory_items USING (agent_id, id)",
            (query,),
        ).fetchall()
        assert found == [("event", "core")] * (size + (agent == "seven"))
        assert ids(reader, "'number', %s::vector, 10, 'own', '{nothing}'", query) == []
        assert ids(reader, "'number', %s::vector, 10, 'own', '{}'", query) == []


def test_shared_rows(app: Connection, owner: Connection) -> None:
    """Of others by the scope; never a private one, and none for who is no agent."""
    owner.execute("UPDATE memory_items SET visibility = 'family' WHERE agent_id = 'seven'")
    owner.execute("UPDATE memory_items SET visibility = 'team', readers = '{one,big}' WHERE agent_id = 'one'")
    owner.execute(
        "UPDATE memory_items SET visibility = 'team', readers = '{one}' WHERE agent_id = 'small' AND id = '1'"
    )
    query = vector_of([1.5] * DIMENSION)

    def owners(agent: str, scope: str) -> dict[str, int]:
        act_as(app, agent)
        found: dict[str, int] = {}
        for by in ("'number'", "NULL", "'number', NULL, 30, %s"):
            call = by if "%s" in by else f"{by}, '{query}'::vector, 30, %s"
            rows = app.execute(f"SELECT agent_id, id FROM search_memories({call})".encode(), (scope,)).fetchall()
            counted = {owner: sum(row[0] == owner for row in rows) for owner, _ in rows}
            assert found in ({}, counted)
            found = counted
        return found

    assert owners("one", "own") == {"one": 1}
    assert owners("one", "others") == {"seven": 7, "small": 1}
    assert owners("one", "all") == {"one": 1, "seven": 7, "small": 1}
    assert owners("none", "all") == owners("none", "others") == {"seven": 7}
    assert owners("big", "others") == {"seven": 7, "one": 1}
    assert owners("big", "own") == {"big": 30}
    for agent in ("", "nobody", "BIG"):
        assert owners(agent, "all") == {}
        asked = "SELECT * FROM memory_candidates('number', NULL, 9, 'all', NULL, NULL, 'any', '')"
        assert app.execute(asked).rowcount == 0
    for wrong in ("'x', NULL, 9, 'everything'", "'x', NULL, 9, NULL", "'x', NULL, 9, p_syntax => 'fts5'"):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            ids(app, wrong)


def test_tables_of_the_caller_do_not_stand_in(app: Connection) -> None:
    act_as(app, "seven")
    for table in ("agents", "memory_items"):
        app.execute(f"CREATE TEMP TABLE {table} AS SELECT * FROM public.{table}".encode())
    app.execute("INSERT INTO pg_temp.agents VALUES ('nobody', NULL, now())")
    app.execute("UPDATE pg_temp.memory_items SET agent_id = 'nobody', summary = 'forged number'")
    act_as(app, "nobody")
    assert ids(app, "'number'") == []
    act_as(app, "seven")
    assert len(ids(app, "'number'")) == 7 and ids(app, "'forged'") == []


def test_what_has_expired_is_hidden(app: Connection, owner: Connection) -> None:
    """A time that is none is no end."""
    ends = ["2020-01-01T00:00:00.000Z", "2999-01-01T00:00:00.000Z", "never", 5, None, ["2020"]]
    for key, end in enumerate(ends, 1):
        owner.execute(
            "UPDATE memory_items SET extra = jsonb_build_object('expiresAt', %s::jsonb)"
            " WHERE agent_id = 'seven' AND id = %s",
            (psycopg.types.json.Jsonb(end), str(key)),
        )
    owner.execute("UPDATE memory_items SET extra = NULL WHERE agent_id = 'seven' AND id = '7'")
    act_as(app, "seven")
    for call in ("'number'", f"NULL, '{vector_of([1] * DIMENSION)}'::vector", "'number', p_syntax => 'any'"):
        assert sorted(ids(app, call)) == ["2", "3", "4", "5", "6", "7"], call


@pytest.mark.parametrize(
    ("text", "any_of", "web"),
    [
        ("cats dogs", ["1", "4", "5"], []),
        ("cats OR dogs", ["1", "4", "5"], ["1", "4", "5"]),
        ("number -cats -dogs", ["1", "2", "3", "4", "5", "6", "7"], ["2", "3", "6", "7"]),
        ('"number 3"', ["1", "2", "3", "4", "5", "6", "7"], ["3"]),
        ("cat's, dogs!", ["1", "4", "5"], []),
        ("the", [], []),
        ("of", [], []),
        ("++", [], []),
        ("number 4 5 9", ["1", "2", "3", "4", "5", "6", "7"], []),
        ("umbe", [], []),
    ],
)
def test_syntaxes(reader: Connection, text: str, any_of: list[str], web: list[str]) -> None:
    act_as(reader, "seven")
    assert sorted(ids(reader, "%s, p_syntax => 'any'", text)) == any_of
    assert sorted(ids(reader, "%s", text)) == web


def test_a_text_without_words_is_looked_for_as_it_is(app: Connection, owner: Connection) -> None:
    """As the store does, the newest first."""
    owner.execute("UPDATE memory_items SET summary = 'C++ and The End' WHERE agent_id = 'seven' AND id IN ('2', '6')")
    act_as(app, "seven")
    for text in ("++", " ++ "):
        assert ids(app, "%s, p_syntax => 'any'", text) == ["6", "2"]


def test_frequent_words_are_found_where_there_are_no_others(app: Connection, owner: Connection) -> None:
    """As words, not as parts of words."""
    owner.execute("UPDATE memory_items SET summary = 'and The End' WHERE agent_id = 'seven' AND id IN ('2', '6')")
    owner.execute("UPDATE memory_items SET summary = 'other things' WHERE agent_id = 'seven' AND id = '3'")
    act_as(app, "seven")
    for text in ("the", " The ", "the of", "THE!"):
        assert sorted(ids(app, "%s, p_syntax => 'any'", text)) == ["2", "6"]
    assert ids(app, "'the things', p_syntax => 'any'") == ["3"]
    assert ids(app, "'the end', p_syntax => 'web'") == ids(app, "'end'") != []


@pytest.mark.parametrize("text", ["naive", "Naïve", "NAÏVE", "cafe\u0301", "café", "host", "x.example/a", '"host x"'])
def test_accents_and_signs(app: Connection, owner: Connection, text: str) -> None:
    told = "a naïve visit of a cafe\u0301 at https://host-x.example/a?b=c_d"
    owner.execute("UPDATE memory_items SET summary = %s WHERE agent_id = 'seven' AND id = '3'", (told,))
    act_as(app, "seven")
    assert ids(app, "%s, p_syntax => 'any'", text) == ids(app, "%s", text) == ["3"]


def test_an_older_database(postgres_server: PostgresServer) -> None:
    """What is in the tables when their index of words is made differently is found like what comes later."""
    dsn = postgres_server.create_database()
    make_tables(dsn, up_to=(7, 6))
    add_agents(dsn, "ada")
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute(
            "INSERT INTO memory_items (agent_id, id, memory_type, summary, created_at, updated_at)"
            " VALUES ('ada', 'old', 'fact', 'the naïve host-x.example', now(), now())"
        )
        owner.execute("INSERT INTO tasks (agent_id, id, title) VALUES ('ada', 'old', 'the naïve host-x.example')")
        make_tables(dsn)
        indexes = "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%USING gin (search)'"
        assert owner.execute(indexes).fetchone() == (9,)
    with as_application(dsn) as app:
        act_as(app, "ada")
        for text in ("naive", "example", "the"):
            assert ids(app, "%s, p_syntax => 'any'", text) == ["old"]
            assert app.execute("SELECT id FROM tasks WHERE search @@ any_word(%s)", (text,)).fetchall() == [("old",)]
    postgres_server.drop_database(dsn)


def test_no_text_is_an_error(reader: Connection) -> None:
    """Operators of FTS5, tsquery and LIKE, other scripts, long words and many words."""
    act_as(reader, "seven")
    texts = [
        "\"", "'", "''", '"a" AND', "AND OR NOT", "NEAR(a b)", "a*", "col:x", "(", ")", "a & | !b", "<->", "\\", "%",
        "_", ":*", "a:*", "&", "-", "- -a", "cats -", "3.14", "foo-bar", "a@b.example", "https://x.example/a?b=c&d",
        "東京 猫", "Zürich", "🙂", "\x01", "x" * 5000, "y" * 3000 + " cats", " ".join(f"w{i}" for i in range(5000)),
        "(" * 3000, "a-" * 2000, "! " * 2000, "\u202e\u0000".replace("\u0000", ""),
    ]  # fmt: skip
    randoms = random.Random(3)
    signs = "ab '\"&|!()<->:*\\-_%.@/ü猫\n\t"
    texts += ["".join(randoms.choices(signs, k=randoms.randint(1, 40))) for _ in range(300)]
    for text in texts:
        for syntax in ("any", "web"):
            ids(reader, "%s, p_syntax => %s", text, syntax)
    assert "4" in ids(reader, "%s, p_syntax => 'any'", "y" * 3000 + " cats")


def test_the_index_of_words_is_used(owner: Connection, app: Connection) -> None:
    """Under row security alone it is not: the operator tells too much of rows that may not be read."""
    scans = "SELECT idx_scan > 0 FROM pg_stat_user_indexes WHERE indexrelname = 'memory_items_search'"
    assert owner.execute(scans).fetchone() == (False,)
    act_as(app, "big")
    assert ids(app, "'12345'") == ["12345"]
    app.execute("SELECT pg_stat_force_next_flush()")
    app.execute("SELECT 1")
    until(lambda: owner.execute(scans).fetchone() == (True,))


def test_a_table_that_has_just_grown(postgres_server: PostgresServer) -> None:
    """With statistics of before the planner would sort all rows; the index of embeddings is read all the same."""
    dimension = 768
    dsn = postgres_server.create_database()
    make_tables(dsn)
    add_agents(dsn, "growing")
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("ALTER TABLE memory_items SET (autovacuum_enabled = off)")
        rows = (
            "INSERT INTO memory_items (agent_id, id, memory_type, summary, embedding)"
            " SELECT 'growing', i::text, 'fact',"
            f" 'number ' || i, ARRAY(SELECT random() FROM generate_series(1, {dimension}) WHERE i > 0)::vector"
            " FROM generate_series(%s::int, %s::int) i"
        )
        owner.execute(rows.encode(), (1, 1))
        owner.execute("ANALYZE memory_items")
        owner.execute(
            f"CREATE INDEX nearest ON memory_items USING hnsw ((embedding::vector({dimension})) vector_cosine_ops)"
            f" WITH (m = 4, ef_construction = 8) WHERE vector_dims(embedding) = {dimension}".encode()
        )
        owner.execute(rows.encode(), (2, 2100))

        def scans() -> dict[str, int]:
            owner.execute("SELECT pg_stat_clear_snapshot()")
            return dict(owner.execute("SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes").fetchall())

        with as_application(dsn) as app:
            act_as(app, "growing")
            before = scans()
            assert len(ids(app, "NULL, %s::vector, 10", vector_of([0.5] * dimension))) == 10
            app.execute("SELECT pg_stat_force_next_flush()")
        until(lambda: scans()["nearest"] > before["nearest"])
    postgres_server.drop_database(dsn)
