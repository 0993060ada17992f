"""``mirror cutover plan``: READY only if every guard rail is passed, each named with its figure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.core.checks import Code
from mirror.core.tables import Constraint
from mirror.postgres.migrate import sql_directory
from mirror.postgres.profiles import memustore
from tests.support.commands import CommandLine
from tests.support.memustore import create_store, item, vector
from tests.support.source import Writer


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture
def store(folder: Path) -> Iterator[Writer]:
    with create_store(folder / "memory.db") as writer:
        writer.run(item("1", embedding=vector(1, 2)))
        yield writer


def plan(cli: CommandLine, source: Path, *arguments: object) -> dict[str, dict[str, Any]]:
    done = cli.run("cutover", "plan", source, "--json", *arguments)
    assert "Traceback" not in done.err, done
    told = json.loads(done.out)
    assert done.code == (0 if told["ready"] else 1)
    (verdict,) = told["sources"]
    assert verdict["ready"] == all(rail["passed"] for rail in verdict["rails"])
    assert all(rail["next_step"] for rail in verdict["rails"] if not rail["passed"])
    return {rail["name"]: rail for rail in verdict["rails"]}


def failing(rails: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, rail in rails.items() if not rail["passed"]}


def test_step_by_step(cli: CommandLine, folder: Path, store: Writer, dsn: str) -> None:
    path = folder / "memory.db"
    with cli.up(path):
        rails = plan(cli, path)
        assert failing(rails) == {"parity", "backups"} and rails["gaps since parity"]["figure"] == "none"
        assert rails["parity"]["next_step"] == f"`mirror parity {path}`", "a first look, and no repair"
        assert cli.run("parity", path).code == 0
        rails = plan(cli, path, "--acknowledge", "backups")
        assert failing(rails) == set(), rails
        assert "ms at worst" in rails["lag"]["figure"]
        shown = cli.run("cutover", "plan", path, "--acknowledge", "backups")
        assert shown.code == 0 and shown.out.startswith("READY: memory.db: ")

        store.run(item("2", happened_at="some day"))
        cli.run("wait", path)
        assert failing(plan(cli, path, "--acknowledge", "backups")) == {"rejects"}
        assert failing(plan(cli, path, "--acknowledge", "backups", "--acknowledge", "rejects")) == set()
        store.run("DELETE FROM memory_items WHERE id = '2'")

        with psycopg.connect(dsn) as connection:
            connection.execute(
                "INSERT INTO mirror.discrepancies (source_id, generation, frame, source_table, key, kind, writer)"
                " SELECT source_id, 1, 1, 'memory_items', '[\"1\"]', 'only the WAL', 'gateway' FROM mirror.sources"
            )
        rails = plan(cli, path, "--acknowledge", "backups")
        assert failing(rails) == {"discrepancies"} and rails["discrepancies"]["figure"] == "1 between hook and WAL"
        assert failing(plan(cli, path, "--acknowledge", "backups", "--acknowledge", "discrepancies")) == set()
        with psycopg.connect(dsn) as connection:
            connection.execute("DELETE FROM mirror.discrepancies")

        # As a program without foreign keys leaves them.
        store.run("PRAGMA foreign_keys=OFF", "INSERT INTO category_items VALUES ('1', 'nowhere')")
        store.run(
            "INSERT INTO live_memory_candidates(id, session_key, role, candidate_type, fact_text, fact_hash, source_ts,"
            " expires_at) VALUES (1, 's', 'u', 'f', 't', 'h', datetime('now'), datetime('now'))",
            "DROP INDEX idx_live_candidates_dedupe",
            "INSERT INTO live_memory_candidates(id, session_key, role, candidate_type, fact_text, fact_hash, source_ts,"
            " expires_at) VALUES (2, 's', 'u', 'f', 't', 'h', datetime('now'), datetime('now'))",
        )
        cli.run("wait", path)
        rails = plan(cli, path, "--acknowledge", "backups")
        assert failing(rails) == {"category_items_category_fkey", "live_memory_candidates_fact_key"}
        assert (
            "1 orphan of memory_categories in category_items: nowhere"
            in rails["category_items_category_fkey"]["figure"]
        )
        with psycopg.connect(dsn) as connection:
            connection.execute("INSERT INTO observations(agent_id, id, kind, content) VALUES ('argent', 77, 'k', 'c')")
            connection.execute("DELETE FROM memory_items")
        assert "sequence of observations.id" in failing(plan(cli, path))
        assert cli.run("parity", path).code == 1
        assert "parity" in failing(plan(cli, path))
    assert {"mirror", "lag"} <= failing(plan(cli, path)), "nothing follows it"


def test_a_source_that_was_never_mirrored(cli: CommandLine, folder: Path, store: Writer) -> None:
    assert {"mirror", "parity", "Postgres"} <= failing(plan(cli, folder / "memory.db"))


def test_postgres_away(cli: CommandLine, folder: Path, store: Writer) -> None:
    path = folder / "memory.db"
    assert cli.run("up", path, "--once").code == 0
    assert "Postgres" in failing(plan(cli, path, "--postgres", "host=/nowhere"))


def catalog(connection: psycopg.Connection[Any], schema: str) -> set[Constraint]:
    """All constraints of a schema but NOT NULL, as Postgres has them."""
    names = """(SELECT coalesce(array_agg(a.attname::text ORDER BY k.place), '{}')
                  FROM unnest(%s) WITH ORDINALITY AS k (number, place)
                  JOIN pg_attribute a ON a.attrelid = %s AND a.attnum = k.number)"""
    found = connection.execute(
        f"""
        SELECT t.relname, c.conname, c.contype, c.confdeltype, c.confupdtype, c.condeferrable, c.confmatchtype,
               c.convalidated, r.relname, {names % ("c.conkey", "c.conrelid")}, {names % ("c.confkey", "c.confrelid")},
               {names % ("c.confdelsetcols", "c.conrelid")}
          FROM pg_constraint c
          JOIN pg_class t ON t.oid = c.conrelid
          JOIN pg_namespace n ON n.oid = t.relnamespace
          LEFT JOIN pg_class r ON r.oid = c.confrelid
         WHERE n.nspname = %s AND c.contype <> 'n'
        """.encode(),
        (schema,),
    ).fetchall()
    deletes: dict[str, Any] = {"a": "", "c": "cascade", "n": "set null", " ": ""}
    made = set()
    for table, name, kind, delete, update, deferrable, match, valid, referred, columns, theirs, nulls in found:
        if kind in ("p", "c"):
            made.add(Constraint(table, f"{kind} {name}", tuple(columns)))
            continue
        assert kind in ("u", "f") and update in ("a", " ") and match in ("s", " ") and valid and not deferrable, name
        made.add(Constraint(table, name, tuple(columns), referred or "", tuple(theirs), deletes[delete], tuple(nulls)))
    return made


def test_the_constraints_of_the_day_after_are_those_of_the_file(cli: CommandLine, folder: Path, dsn: str) -> None:
    """The file adds what the profile lists, and nothing else: a guard rail for each, and none is left out."""
    create_store(folder / "memory.db").close()
    assert cli.run("up", folder / "memory.db", "--once", "--schema", "scratch").code == 0
    with psycopg.connect(dsn) as connection:
        before = catalog(connection, "scratch")
        connection.execute("SET search_path = scratch")
        connection.execute((sql_directory() / "profiles" / "memustore" / "constraints.sql").read_bytes())
        added = catalog(connection, "scratch") - before
    assert added == set(memustore.CONSTRAINTS)
    assert len(memustore.CONSTRAINTS) == len(added), "none is listed twice"
    assert all("agent_id" in each.columns for each in added)
    rails = plan(cli, folder / "memory.db", "--schema", "scratch")
    assert {name for name, rail in rails.items() if rail["code"] == Code.CONSTRAINT} == {each.name for each in added}


def test_each_check_has_a_code_and_a_level(cli: CommandLine, folder: Path, store: Writer) -> None:
    """One shape for guard rails and findings; what an operator answers for is told as such."""
    path = folder / "memory.db"
    assert cli.run("up", path, "--once").code == 0
    rails = plan(cli, path, "--acknowledge", "backups", "--acknowledge", "rejects").values()
    (finding, *_) = json.loads(cli.run("doctor", path, "--json").out)["reports"][0]["findings"]
    codes = set(Code)
    for check in (*rails, finding):
        assert set(check) == set(finding)
        assert check["code"] in codes and check["passed"] == (check["level"] != "problem")
        assert (check["check"], check["figure"]) == (check["name"], check["detail"])
