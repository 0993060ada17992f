"""A MemuStore and its dashboard in Postgres: types, vectors, full text, older and later versions of the store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.memustore import APP_TIME, DDL_TIME, create_dashboard, create_store, item, store_script, vector
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import until

MakeMirror = Callable[..., MirrorProcess]


@pytest.fixture
def store(folder: Path) -> Iterator[Writer]:
    with create_store(folder / "memory.db") as writer:
        yield writer


@pytest.fixture
def running(make_mirror: MakeMirror, store: Writer, folder: Path) -> MirrorProcess:
    mirror = make_mirror(folder / "memory.db")
    mirror.start()
    mirror.wait_applied()
    return mirror


def rows(dsn: str, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode(), parameters).fetchall()


def settle(mirror: MirrorProcess) -> None:
    """Until no vector index is being built."""
    mirror.status_when(lambda status: status["indexing"] is None)


def test_typed_columns(running: MirrorProcess, store: Writer, dsn: str) -> None:
    """A default agent, both forms of a time as UTC, JSON as jsonb, and a flag as boolean."""
    extra = '{"tags":["a","ü"],"n":1.50}'
    store.run(
        item(
            "m1", created_at=APP_TIME, updated_at=DDL_TIME, happened_at="2026-11-23", extra=extra, emotional_valence=0.1
        )
    )
    store.run("INSERT INTO model_feedback(id, provider, model, tier, session_type, success) VALUES (1, 2, 3, 4, 5, 0)")
    running.check()
    [row] = rows(
        dsn,
        "SELECT agent_id, created_at, updated_at, happened_at, extra, emotional_valence, _original FROM memory_items",
    )
    second = datetime(2026, 11, 23, 0, 5, 4, tzinfo=UTC)
    assert row == (
        "argent",
        second.replace(microsecond=442000),
        second,
        datetime(2026, 11, 23, tzinfo=UTC),
        {"n": 1.5, "tags": ["a", "ü"]},
        0.1,
        # The date alone and the order of members are not what the typed values give back.
        {"happened_at": "2026-11-23", "extra": extra},
    )
    assert rows(dsn, "SELECT id, success FROM model_feedback") == [("1", False)]
    assert running.status()["agent"] == "argent" and running.status()["profile"] == "memustore"


def test_a_typed_value_is_compared_beside_its_original(
    make_mirror: MakeMirror, folder: Path, store: Writer, dsn: str
) -> None:
    """What queries see is the typed value, whatever ``_original`` says; and no part of it is rounded away."""
    path = folder / "memory.db"
    store.run(
        item("1", happened_at="2024-01-05", extra='{"b": 1, "a": 2.0}'),
        item("2", happened_at="2024-01-05T10:00:00.1234567+02:00", extra='{"a":1}'),
        item("3", happened_at="0044-03-15 00:00:00"),
    )
    mirror = make_mirror(path)
    mirror.start()
    mirror.check()

    def damaged(command: str, column: str) -> None:
        with psycopg.connect(dsn) as connection:
            assert connection.execute(command.encode()).rowcount == 1
            connection.commit()
            report = mirror.parity()
            (table,) = [table for table in report.tables if table.status != "equal"]
            (example,) = table.examples
            assert (table.different, [each.column for each in example.columns]) == (1, [column]), command
            with mirror.control() as client:
                client.repair([table.table], 60.0, replace=True)
        mirror.check()

    items = "UPDATE memory_items SET"
    damaged(f"{items} happened_at = '1999-12-31' WHERE id = '1'", "happened_at")
    damaged(f"{items} happened_at = happened_at + interval '1 microsecond' WHERE id = '2'", "happened_at")
    damaged(f"{items} happened_at = '0044-03-15 BC' WHERE id = '3'", "happened_at")
    damaged(f"{items} happened_at = 'infinity' WHERE id = '3'", "happened_at")
    damaged(f"{items} happened_at = NULL WHERE id = '1'", "happened_at")
    damaged(f"""{items} extra = '{{"a": 3}}' WHERE id = '1'""", "extra")
    damaged(f"""{items} extra = '{{"a": 2, "b": 1}}' WHERE id = '1'""", "extra")
    damaged(f"""{items} _original = _original || '{{"extra": "{{}}"}}' WHERE id = '1'""", "extra")


def test_what_does_not_fit_is_rejected(running: MirrorProcess, store: Writer, dsn: str) -> None:
    """Each with its row as it was; corrected in the source, it comes."""
    wrong = {
        "time": item("a", happened_at="last week"),
        "json": item("b", extra="{not json"),
        "NUL in json": item("c", extra='{"a":"\\u0000"}'),
        "surrogate": item("d", extra='"\\ud800"'),
        "vector": item("e", embedding=b"12345"),
        "NaN": item("f", embedding=vector(float("nan"), 1)),
        "text vector": item("g", embedding="[1,2]"),
        "blob": item("h", lesson=b"bytes"),
        "null key": ("INSERT INTO memory_items(id, memory_type, summary) VALUES (NULL, 'fact', 'no key')", ()),
    }
    store.run(*wrong.values(), item("ok"))
    running.check()
    assert running.status()["rejects"] == len(wrong)
    assert rows(dsn, "SELECT id FROM memory_items") == [("ok",)]
    kept = rows(dsn, "SELECT key, row_data::json ->> 'summary' FROM mirror.rejects ORDER BY key")
    assert kept[:8] == [(f'["{letter}"]', "something") for letter in "abcdefgh"]
    assert kept[8][1] == "no key" and json.loads(kept[8][0]).keys() == {"rowid"}
    store.run("UPDATE memory_items SET happened_at = NULL, extra = '{}', embedding = NULL, lesson = NULL")
    store.run("UPDATE memory_items SET id = 'i' WHERE id IS NULL")
    running.check()
    assert running.status()["rejects"] == 0
    assert len(rows(dsn, "SELECT 1 FROM memory_items")) == len(wrong) + 1


def test_rows_without_a_key_get_other_rowids(running: MirrorProcess, store: Writer, dsn: str) -> None:
    """What VACUUM renumbers is still the same reject, and each of them is one of its own."""
    store.run(*(item(str(number)) for number in range(20)))
    store.run("INSERT INTO memory_items(id, memory_type, summary) VALUES (NULL, 'fact', 'x'), (NULL, 'fact', 'y')")
    running.check()
    store.run("DELETE FROM memory_items WHERE id < '5'", "VACUUM")
    running.check()
    assert running.status()["rejects"] == 2
    assert rows(dsn, "SELECT row_data::json ->> 'summary' FROM mirror.rejects ORDER BY 1") == [("x",), ("y",)]


def test_a_snapshot_of_what_does_not_fit(make_mirror: MakeMirror, store: Writer, folder: Path) -> None:
    store.run(item("a", happened_at="last week"), item("b", embedding=b"123"), item("c"))
    store.run("INSERT INTO memory_items(id, memory_type, summary) VALUES (NULL, 'fact', 'x'), (NULL, 'fact', 'y')")
    mirror = make_mirror(folder / "memory.db")
    mirror.start()
    mirror.check()
    assert mirror.status()["rejects"] == 4


def test_vectors_of_every_dimension(running: MirrorProcess, store: Writer, dsn: str) -> None:
    """One HNSW index for each in use, also for one that comes later; none past what pgvector indexes."""
    numbers = [0.1, -0.0, 1e-40, 3.4e38]
    store.run(item("a", embedding=vector(*numbers)), item("b", embedding=vector(*[0.5] * 768)))
    store.run("INSERT INTO entities(id, name, embedding) VALUES ('e', 'n', zeroblob(8004))")
    running.check()
    settle(running)
    assert indexes(dsn) == {"memory_items_embedding_4_hnsw", "memory_items_embedding_768_hnsw"}
    [definition] = rows(dsn, "SELECT indexdef FROM pg_indexes WHERE indexname = 'memory_items_embedding_768_hnsw'")
    assert "hnsw" in definition[0] and "m='16', ef_construction='200'" in definition[0]
    assert "vector_cosine_ops" in definition[0]
    assert rows(dsn, "SELECT vector_dims(embedding) FROM entities") == [(2001,)]
    store.run(item("c", embedding=vector(1, 2, 3)))
    running.check()
    settle(running)
    assert "memory_items_embedding_3_hnsw" in indexes(dsn)
    with psycopg.connect(dsn) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(
            "EXPLAIN SELECT id FROM memory_items WHERE vector_dims(embedding) = 3"
            " ORDER BY embedding::vector(3) <=> '[1,2,3]' LIMIT 1"
        ).fetchall()
    assert any("memory_items_embedding_3_hnsw" in line for (line,) in plan)


def test_a_few_rows_are_no_statistics(make_mirror: MakeMirror, store: Writer, folder: Path, dsn: str) -> None:
    """Of one row each column looks like a key, and an item was looked up among all of the agent's."""
    store.run(item("a", embedding=vector(1, 2)))
    mirror = make_mirror(folder / "memory.db")
    mirror.start()
    mirror.check()
    settle(mirror)
    assert indexes(dsn) == {"memory_items_embedding_2_hnsw"}
    assert rows(dsn, "SELECT DISTINCT tablename FROM pg_stats WHERE schemaname = 'public'") == []


def indexes(dsn: str) -> set[str]:
    found = rows(
        dsn,
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE i.indisvalid AND c.relname LIKE '%%hnsw'",
    )
    return {name for (name,) in found}


def test_an_index_that_was_broken_off_is_built_at_the_next_start(
    running: MirrorProcess, store: Writer, dsn: str
) -> None:
    store.run(item("a", embedding=vector(1, 2)))
    running.check()
    settle(running)
    running.kill()
    with psycopg.connect(dsn) as connection:
        # As a build that was killed leaves it.
        connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'memory_items_embedding_2_hnsw'::regclass"
        )
    assert indexes(dsn) == set()
    running.start()
    running.check()
    settle(running)
    assert indexes(dsn) == {"memory_items_embedding_2_hnsw"}


def test_full_text(running: MirrorProcess, store: Writer, dsn: str) -> None:
    """Of summary, reflection and lesson; a text past what a tsvector holds is no obstacle."""
    store.run(item("a", "Deploying on Fridays", reflection="it was risky", lesson="never again"))
    store.run(item("b", "a word " * 300_000), item("c", "unrelated"))
    store.run("INSERT INTO entities(id, name, profile_summary) VALUES ('e', 'Ada', 'deploys machines')")
    running.check()
    for words in ("deploy", "risky"):
        found = rows(dsn, "SELECT id FROM memory_items WHERE search @@ websearch_to_tsquery('english', %s)", words)
        assert found == [("a",)]
    assert rows(dsn, "SELECT id FROM entities WHERE search @@ to_tsquery('english', 'deployed')") == [("e",)]


def test_calls_of_each_kind(running: MirrorProcess, store: Writer, dsn: str) -> None:
    """Links, reinforcement, INSERT OR IGNORE and OR REPLACE, cascades, a bulk transaction, VACUUM."""
    store.run("INSERT INTO resources(id, url) VALUES ('r', 'file')", item("a", resource_id="r"), item("b"))
    store.run("INSERT INTO memory_categories(id, name) VALUES ('c', 'work')")
    store.run("INSERT INTO category_items VALUES ('a', 'c'), ('b', 'c')")
    store.run(
        "INSERT INTO entities(id, name) VALUES ('e', 'Ada')", "INSERT INTO item_entities VALUES ('a', 'e', 'about')"
    )
    candidate = (
        "INSERT OR IGNORE INTO live_memory_candidates(id, session_key, role, candidate_type, fact_text, fact_hash,"
        " source_ts, expires_at) VALUES ({0}, 's', 'user', 'fact', 'f', 'h', datetime('now'), datetime('now'))"
    )
    store.run(candidate.format(1), candidate.format(2))
    store.run("INSERT OR REPLACE INTO memu_meta VALUES ('schema_version', '11'), ('other', 'x')")
    store.run(
        "UPDATE memory_items SET reinforcement_count = reinforcement_count + 1, last_reinforced_at = datetime('now')"
    )
    store.run(
        ("UPDATE memory_items SET embedding = ?, summary = ?, extra = ? WHERE id = 'a'", (vector(1), "new", "[]"))
    )
    running.check()
    assert rows(dsn, "SELECT count(*) FROM live_candidates") == [(1,)]
    store.run("DELETE FROM memory_items WHERE id = 'a'", "DELETE FROM resources")
    running.check()
    assert rows(dsn, "SELECT item_id FROM item_categories") == [("b",)]
    assert rows(dsn, "SELECT count(*) FROM item_entities") == [(0,)]
    store.transaction(*(item(f"bulk {n}", f"summary {n}") for n in range(1200)), "DELETE FROM memory_categories")
    running.check()
    store.run("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)", item("z"))
    running.check()
    running.kill()
    store.run("DELETE FROM memory_items WHERE id LIKE 'bulk 1%'")
    running.start()
    running.check()


def test_a_store_that_is_created_while_it_is_followed(make_mirror: MakeMirror, folder: Path, dsn: str) -> None:
    """Statement by statement, as the gateway does; only the last one says what it is."""
    with Writer(folder / "memory.db") as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE notes(id INTEGER PRIMARY KEY, v)")
        mirror = make_mirror(folder / "memory.db")
        mirror.start()
        mirror.wait_applied()
        writer.run(*store_script(), item("a"))
        mirror.check()
        assert mirror.status()["profile"] == "generic"
        assert rows(dsn, "SELECT pg_typeof(extra)::text FROM memory_items") == [("text",)]
        writer.run("INSERT INTO memu_meta VALUES ('schema_version', '11')", "INSERT INTO notes VALUES (1, 'kept')")
        mirror.check()
        assert mirror.status()["profile"] == "memustore"
        assert rows(dsn, "SELECT agent_id, pg_typeof(extra)::text FROM memory_items") == [("argent", "jsonb")]
        assert rows(dsn, "SELECT agent_id, id, v FROM notes") == [("argent", 1, "kept")]
        left = rows(dsn, "SELECT relname FROM pg_class WHERE relname LIKE '%%dropped%%'")
        assert left == []
        mirror.kill()
        writer.run(item("b"))
        mirror.start()
        mirror.check()
        assert mirror.status()["resyncs"] == []


def test_only_what_is_one_is_recognised(make_mirror: MakeMirror, folder: Path, dsn: str) -> None:
    """A table of a familiar name is not enough; `--profile` overrides."""
    with Writer(folder / "other.db") as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE tasks(id INTEGER PRIMARY KEY, title)")
        writer.run("CREATE TABLE memu_meta(key, value)", "INSERT INTO memu_meta VALUES ('schema_version', 'new')")
        writer.run("INSERT INTO tasks VALUES (1, 'x')")
        mirror = make_mirror(folder / "other.db", schema="other")
        mirror.start()
        mirror.check()
        assert mirror.status()["profile"] == "generic" and mirror.status()["agent"] is None
        assert rows(dsn, "SELECT * FROM other.tasks") == [(1, "x")]
    with create_store(folder / "memory.db") as store:
        store.run(item("a"))
        mirror = make_mirror(folder / "memory.db", schema="plain", state="plain")
        mirror.profile = "generic"
        mirror.start()
        mirror.check()
        assert rows(dsn, "SELECT extra FROM plain.memory_items") == [("{}",)]
        mirror.stop()
        mirror.profile = "memustore"  # on second thoughts
        mirror.start()
        mirror.check()
        assert rows(dsn, "SELECT agent_id, extra FROM plain.memory_items") == [("argent", {})]


def test_an_older_store(make_mirror: MakeMirror, folder: Path, dsn: str) -> None:
    """Columns that it lacks show their defaults; then it is upgraded."""
    with Writer(folder / "memory.db") as writer:
        writer.run("PRAGMA journal_mode=WAL")
        writer.run("CREATE TABLE memu_meta(key TEXT PRIMARY KEY, value TEXT)")
        writer.run("INSERT INTO memu_meta VALUES ('schema_version', '3')")
        writer.run("CREATE TABLE memory_items(id TEXT PRIMARY KEY, memory_type TEXT NOT NULL, summary TEXT NOT NULL)")
        writer.run("INSERT INTO memory_items VALUES ('a', 'fact', 'old')")
        mirror = make_mirror(folder / "memory.db")
        mirror.start()
        mirror.check()
        assert rows(dsn, "SELECT id, significance, emotional_valence FROM memory_items") == [("a", "routine", 0)]
        writer.run("ALTER TABLE memory_items ADD COLUMN significance TEXT NOT NULL DEFAULT 'high'")
        writer.run("ALTER TABLE memory_items ADD COLUMN extra TEXT DEFAULT '{\"b\": 1}'")
        writer.run("ALTER TABLE memory_items ADD COLUMN lesson TEXT DEFAULT NULL")
        writer.run("INSERT INTO memory_items VALUES ('b', 'fact', 'new', 'low', '{}', 'learned')")
        mirror.check()
        found = rows(dsn, "SELECT id, significance, extra, lesson FROM memory_items ORDER BY id")
        assert found == [("a", "high", {"b": 1}, None), ("b", "low", {}, "learned")]


def test_a_later_store(running: MirrorProcess, store: Writer, dsn: str) -> None:
    """Columns and tables that the profile does not know are carried by the generic mapping."""
    store.run(item("a"), "ALTER TABLE memory_items ADD COLUMN mood_score REAL DEFAULT 0.5")
    store.run("ALTER TABLE memory_items ADD COLUMN visibility TEXT DEFAULT 'theirs'")
    store.run("CREATE TABLE dreams(id TEXT PRIMARY KEY, agent_id TEXT, told INTEGER)")
    store.run("INSERT INTO dreams VALUES ('d', 'somebody', 1)", "UPDATE memory_items SET mood_score = 2.5")
    running.check()
    found = rows(dsn, "SELECT mood_score, visibility, visibility_ FROM memory_items")
    assert found == [(2.5, "private", "theirs")]
    assert rows(dsn, "SELECT agent_id, id, source_agent_id, told FROM dreams") == [("argent", "d", "somebody", 1)]
    store.run("INSERT INTO dreams VALUES ('e', NULL, 'a text')")  # widened
    store.run("ALTER TABLE dreams RENAME COLUMN told TO heard", "INSERT INTO dreams VALUES ('f', NULL, 3)")
    running.check()
    assert rows(dsn, "SELECT heard FROM dreams ORDER BY id") == [(1,), ("a text",), (3,)]
    store.run("ALTER TABLE memory_items DROP COLUMN mood_score")
    running.check()
    store.run("ALTER TABLE dreams RENAME TO visions", "DROP TABLE reflections")
    running.check()
    kept = rows(dsn, "SELECT relname FROM pg_class WHERE relname LIKE '%%__dropped_%%' AND relkind = 'r' ORDER BY 1")
    # Of what has gone: the column told under its name, the column mood_score, and a table; not of one that was renamed.
    assert [name.split("__")[0] for (name,) in kept] == ["dreams", "memory_items", "reflections"]


def test_dashboard(make_mirror: MakeMirror, folder: Path, dsn: str) -> None:
    """Milliseconds since 1970 as times, and the table that is rebuilt in place."""
    with create_dashboard(folder / "dashboard.db") as writer:
        writer.run("INSERT INTO teams(id, name, lead_session_key, created_at, updated_at) VALUES ('t', 'n', 's', 1, 2)")
        writer.run("INSERT INTO team_members(team_id, session_key, joined_at) VALUES ('t', 's', 1732320304442)")
        writer.run("INSERT INTO tasks(id, title, created_at, updated_at, agent_id) VALUES ('a', 'x', -1, 0, 'someone')")
        mirror = make_mirror(folder / "dashboard.db")
        mirror.agents[folder / "dashboard.db"] = "main"
        mirror.start()
        mirror.check()
        joined = datetime(2024, 11, 23, 0, 5, 4, 442000, tzinfo=UTC)
        assert rows(dsn, "SELECT agent_id, joined_at FROM team_members") == [("main", joined)]
        [task] = rows(dsn, "SELECT created_at, source_agent_id, depends_on FROM tasks")
        assert task == (datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC), "someone", [])
        rebuild = [
            "CREATE TABLE tasks_new(id TEXT PRIMARY KEY, title TEXT NOT NULL, created_at INTEGER NOT NULL,"
            " updated_at INTEGER NOT NULL, tags TEXT)",
            "INSERT INTO tasks_new SELECT id, title, created_at, updated_at, '[1]' FROM tasks",
            "DROP TABLE tasks",
            "ALTER TABLE tasks_new RENAME TO tasks",
        ]
        writer.transaction(*rebuild)
        mirror.check()
        assert rows(dsn, "SELECT id, status, tags FROM tasks") == [("a", "pending", [1])]
        writer.run(*rebuild)  # each at its commit
        mirror.check()
        writer.run("INSERT INTO tasks VALUES ('b', 'y', 99999999999999999, 0, NULL)")
        mirror.check()
        assert mirror.status()["rejects"] == 1


@pytest.mark.few(1)
@pytest.mark.parametrize(("seam", "hit"), [("load:table", 3), ("load:before-commit", 1), ("load:after-commit", 1)])
def test_killed_in_the_first_load(
    make_mirror: MakeMirror, store: Writer, folder: Path, dsn: str, seam: str, hit: int
) -> None:
    """The tables of the profile come with the rows, in one transaction, or not at all."""
    store.run(item("a", embedding=vector(1, 2)))
    mirror = make_mirror(folder / "memory.db")
    mirror.start(kill_at=seam, hit=hit, wait=False)
    mirror.wait_killed()
    there = rows(dsn, "SELECT to_regclass('memory_items') IS NOT NULL")
    assert there == [(seam == "load:after-commit",)]
    store.run(item("b"))
    mirror.start()
    mirror.check()
    settle(mirror)
    assert indexes(dsn) == {"memory_items_embedding_2_hnsw"}


@pytest.mark.few(1)
@pytest.mark.parametrize("seam", ["load:table", "load:before-commit", "load:after-commit"])
def test_killed_when_it_turns_out_to_be_a_store(make_mirror: MakeMirror, folder: Path, dsn: str, seam: str) -> None:
    """Held as any other file, or as a store: nothing in between, and the position never goes back."""
    with Writer(folder / "memory.db") as writer:
        writer.run("PRAGMA journal_mode=WAL", *store_script(), item("a"))
        mirror = make_mirror(folder / "memory.db")
        mirror.start()
        mirror.check()
        mirror.stop()
        mirror.start(kill_at=seam)
        mirror.wait_applied()
        writer.run("INSERT INTO memu_meta VALUES ('schema_version', '11')")
        mirror.wait_killed()
        kind = "jsonb" if seam == "load:after-commit" else "text"
        assert rows(dsn, "SELECT pg_typeof(extra)::text FROM memory_items") == [(kind,)]
        writer.run(item("b"))
        mirror.start()
        mirror.check()
        assert mirror.status()["profile"] == "memustore"
        assert rows(dsn, "SELECT agent_id, id FROM memory_items ORDER BY 2") == [("argent", "a"), ("argent", "b")]


def test_new_tables_have_statistics(dsn: str, folder: Path, make_mirror: Callable[..., MirrorProcess]) -> None:
    """Without them the planner would read every row for a list of ten, until autovacuum comes by."""
    store = create_store(folder / "memory.db")
    store.run(*[item(f"{number}") for number in range(100)])
    mirror = make_mirror(folder / "memory.db")
    mirror.start()
    mirror.wait_applied()

    def analyzed() -> bool:
        with psycopg.connect(dsn) as connection:
            found = connection.execute("SELECT reltuples FROM pg_class WHERE oid = 'memory_items'::regclass").fetchone()
        return found is not None and int(found[0]) == 100

    until(analyzed)
    store.close()
