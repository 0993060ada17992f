"""A file that the storage adapter wrote is as the original program would have left it.

Each method of ``adapter.memory`` runs on a copy of a real memory.db (or, where there is none, on a new file of the same
schema), on each library of SQLite, with and without vec0, in a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import mirror
from mirror.core.quote import quoted
from mirror.storage.operations.base import content_hash
from tests.support.memustore import create_store
from tests.support.source import Writer

_BESIDE = Path(mirror.__file__).parents[2] / "shared" / "data"
APP_FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
DDL_FORM = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
#: vec0's tables are made by the program, when it opens the file with the extension.
_SCHEMA = (
    "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name NOT LIKE 'vec|_%' ESCAPE '|'"
    " AND name != 'sqlite_sequence' ORDER BY name"
)


@dataclass
class Written:
    """A file before and after the program ran on it."""

    before: Path
    after: Path
    said: dict[str, Any]

    def row(self, table: str, name: str = "") -> dict[str, Any]:
        """What the program made, as SQLite has it."""
        with Writer(self.after) as reader:
            names = [row[0] for row in reader.run(f"SELECT name FROM pragma_table_info('{table}')")]
            statement = f"SELECT * FROM {quoted(table)} WHERE id = ?"
            [values] = reader.run((statement, (self.said["made"][name or table],)))
        return dict(zip(names, values, strict=True))

    def ask(self, *statements: str) -> list[list[Any]]:
        with Writer(self.after) as reader:
            return reader.run(*statements)


@pytest.fixture(
    scope="module",
    params=[("sqlite3", "no"), ("sqlite3", "yes"), ("apsw", "no"), ("apsw", "yes")],
    ids=["sqlite3", "sqlite3-vec0", "apsw", "apsw-vec0"],
)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    driver, vectors = request.param
    folder = tmp_path_factory.mktemp("files")
    before, after = folder / "before.db", folder / "memory.db"
    real = Path(os.environ.get("MIRROR_REAL_DATA", _BESIDE)) / "memory.db"
    if real.exists():
        shutil.copyfile(real, before)
    else:
        create_store(before).close()
    shutil.copyfile(before, after)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.storage_process", driver, vectors, str(after)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return Written(before, after, json.loads(ran.stdout))


def test_each_method_was_called(written: Written) -> None:
    assert written.said["not called"] == []


def test_one_library_of_sqlite_was_loaded(written: Written) -> None:
    assert written.said["other library"] is False


def test_the_file_is_whole(written: Written) -> None:
    """Structure, references, and the full-text tables, which triggers keep."""
    assert written.ask("PRAGMA integrity_check") == [["ok"]]
    assert written.ask("PRAGMA foreign_key_check") == []
    for table in ("memory_items_fts", "memory_categories_fts", "lessons_fts"):
        written.ask(f"INSERT INTO {table}({table}, rank) VALUES ('integrity-check', 1)")


def test_nothing_was_added_to_the_schema(written: Written) -> None:
    with Writer(written.before) as reader:
        assert written.ask(_SCHEMA) == reader.run(_SCHEMA)
    assert written.ask("PRAGMA journal_mode") == [["wal"]]


@pytest.mark.parametrize(
    ("table", "word", "name"),
    [
        ("memory_items", "zanzibar", "memory_items"), ("memory_items", "quokka", "changed"),
        ("memory_items", "wallabies", "changed"), ("memory_categories", "bays", "memory_categories"),
        ("memory_categories", "deep", "memory_categories"), ("lessons", "xylophones", "lessons"),
    ],
)  # fmt: skip
def test_triggers_index_what_was_written(written: Written, table: str, word: str, name: str) -> None:
    statement = f"SELECT t.id FROM {table}_fts f JOIN {table} t ON t.rowid = f.rowid WHERE {table}_fts MATCH '{word}'"
    assert [written.said["made"][name]] in written.ask(statement)


def test_vectors(written: Written) -> None:
    """vec0's tables, where there are any, have the vectors of all rows and no others."""
    assert written.said["compares"] == written.said["able"]
    if written.said["able"]:
        assert set(written.said["vectors"]) == {"memory_items", "entities", "categories"}
    for wrong, kept, own in written.said["vectors"].values():
        assert wrong == 0 and kept == own > 0


@pytest.mark.few(22)
@pytest.mark.parametrize(
    "table",
    ["resources", "memory_items", "memory_categories", "entities", "reflections", "lessons", "model_feedback",
     "live_memory_candidates", "memory_promotion_events", "personal_skill_candidates", "personal_skill_reviews"],
)  # fmt: skip
def test_values_are_stored_as_the_program_stores_them(written: Written, table: str) -> None:
    """The types of values, column by column, are those of the rows that the program wrote; ids and times look alike."""
    names = [row[0] for row in written.ask(f"SELECT name FROM pragma_table_info('{table}')")]
    kinds = ", ".join(f"group_concat(DISTINCT typeof({quoted(name)}))" for name in names)
    [after] = written.ask(f"SELECT {kinds} FROM {table}")
    declared = {row[0]: row[1] for row in written.ask(f"SELECT name, type FROM pragma_table_info('{table}')")}
    storage = {"TEXT": "text", "INTEGER": "integer", "REAL": "real", "BLOB": "blob"}
    for name, found in zip(names, after, strict=True):
        assert set(found.split(",")) <= {"null", storage[declared[name]]}, name
    with Writer(written.before) as reader:
        old = {row[0] for row in reader.run(f"SELECT id FROM {table}")}
    times = [name for name in names if name.endswith(("_at", "_ts", "_seen"))]
    for row in written.ask(f"SELECT id, {', '.join(times)} FROM {table}"):
        if row[0] in old:
            continue
        assert UUID.fullmatch(row[0])
        for name, time in zip(times, row[1:], strict=True):
            decayed = table == "lessons" and name == "updated_at" and row[0] == written.said["made"]["decayed"]
            assert time is None or (DDL_FORM if decayed else APP_FORM).fullmatch(time), (name, time)


def test_rows_that_were_there_are_as_they_were(written: Written) -> None:
    """But for lessons, of which all that are old enough decay."""
    for table in ("resources", "memory_items", "memory_categories", "category_items", "entities", "item_entities",
                  "reflections", "model_feedback", "live_memory_candidates", "lessons"):  # fmt: skip
        with Writer(written.before) as reader:
            old = reader.run(f"SELECT * FROM {table} ORDER BY rowid")
            last = reader.run(f"SELECT coalesce(max(rowid), 0) FROM {table}")[0][0]
        assert written.ask(f"SELECT * FROM {table} WHERE rowid <= {last} ORDER BY rowid") == old


def test_a_memory_item(written: Written) -> None:
    row = written.row("memory_items")
    assert row["extra"] == '{"b":1,"a":["é",null,true,0.5],"ü":{}}'
    assert row["content_hash"] == content_hash("Zanzibar was warm") and row["reinforcement_count"] == 2
    assert (row["emotional_valence"], row["significance"]) == (1.0, "core")
    changed = written.row("memory_items", "changed")
    assert changed["content_hash"] == content_hash("Changed to quokka") and changed["lesson"] is None
    assert json.loads(changed["extra"])["history"][0]["before"] == {"summary": "batch 0"}


def test_what_was_created_without_a_value_has_none(written: Written) -> None:
    """The embedding is not written before there is one, and JSON lists are never NULL."""
    assert written.ask("SELECT count(*) FROM lessons WHERE embedding IS NOT NULL") == [[0]]
    row = written.row("reflections")
    assert (row["lessons_extracted"], row["entities_involved"], row["self_insights"]) == ('["one é"]', "[]", "[]")
    assert row["period_start"] is None


def test_lessons(written: Written) -> None:
    row, decayed = written.row("lessons"), written.row("lessons", "decayed")
    assert (row["tags"], row["related_tools"], row["occurrences"]) == ('["ci","q\\"é"]', "[]", 2)
    assert row["confidence"] == pytest.approx(0.6)
    assert (decayed["tags"], decayed["occurrences"], decayed["confidence"]) == ('["a","b"]', 3, 0.25)
    assert DDL_FORM.fullmatch(decayed["updated_at"]) and APP_FORM.fullmatch(decayed["last_seen"])


def test_entities_and_links(written: Written) -> None:
    row = written.row("entities")
    assert row["memory_count"] == 1 and row["bond_strength"] == 1.0 and row["profile_summary"] == "reads"
    links = written.ask(f"SELECT item_id, role FROM item_entities WHERE entity_id = '{row['id']}'")
    assert links == [[written.said["made"]["memory_items"], "subject"]]


def test_personal_skills(written: Written) -> None:
    row = written.row("personal_skill_candidates")
    assert (row["agent_id"], row["execution_steps"], row["preconditions"]) == ("main", '["build","é"]', "[]")
    assert (row["usage_count"], row["last_used_at"]) == (2, "2026-11-28T12:00:00.000Z")
    review = written.row("personal_skill_reviews")
    assert (review["agent_id"], review["details"], review["reason"]) == ("main", '{"n":1}', None)


def test_the_live_inbox(written: Written) -> None:
    row, expired = written.row("live_memory_candidates"), written.row("live_memory_candidates", "expired")
    assert (row["status"], row["promoted_item_id"]) == ("promoted", written.said["made"]["memory_items"])
    assert (row["fact_hash"], row["trigger_flags"]) == (content_hash("fact 0"), "[]")
    assert (expired["status"], expired["promoted_item_id"]) == ("expired", None)
    actions = written.ask(f"SELECT action, result FROM memory_promotion_events WHERE candidate_id = '{row['id']}'")
    assert sorted(actions) == [["promote", "ok"], ["retry", "error"]]


def test_feedback(written: Written) -> None:
    row = written.row("model_feedback")
    assert (row["success"], row["complexity_score"], row["self_eval_score"]) == (1, 1.0, 1.0)
    assert (row["user_feedback"], row["error_type"], row["input_tokens"]) == ("up", None, 0)
