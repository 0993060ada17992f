"""A dashboard's file that this package has written is what the original program would have written.

Two copies of a file: one is written through the storage operations, the other by the statements that the original runs
for the same calls. All tables and the full-text table are then the same, value by value and type by type.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mirror
from tests.support import dashboard_process
from tests.support.dashboard_process import MILLIS
from tests.support.memustore import create_dashboard
from tests.support.source import Writer

_BESIDE = Path(mirror.__file__).parents[2] / "shared" / "data"

#: The columns that the original names when it creates a task.
_TASK = (
    "INSERT INTO tasks (id, title, description, status, priority, source, assignee, created_at, updated_at, due_at,"
    " agent_id, channel_id, parent_task_id, depends_on, team_id, tags, metadata)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_TEAM_COLUMNS = "id, name, lead_session_key, status, created_at, updated_at, config"
_TEAM = f"INSERT INTO teams ({_TEAM_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
_MEMBER = (
    "INSERT OR REPLACE INTO team_members (team_id, session_key, role, label, status, joined_at, last_active_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)


def _task(key: str, title: str, *, at: int = MILLIS, **more: Any) -> tuple[str, tuple[Any, ...]]:
    values = {
        "description": None, "status": "pending", "priority": "normal", "source": "user", "assignee": None,
        "created_at": at, "updated_at": at, "due_at": None, "agent_id": None, "channel_id": None,
        "parent_task_id": None, "depends_on": "[]", "team_id": None, "tags": None, "metadata": None,
    } | more  # fmt: skip
    return _TASK, (key, title, *values.values())


#: What the original runs for the calls of dashboard_process.steps. JSON is as JSON.stringify writes it.
ORIGINAL: list[tuple[str, tuple[Any, ...]]] = [
    _task(
        "new-1", "Full ü", description="all of it", priority="high", source="agent", assignee="ada",
        due_at=1_800_000_000_123, agent_id="argent", channel_id="c", team_id="t", tags='["a","ü"]',
        metadata='{"n":1,"x":[1.5,null,true],"ü":"é"}',
    ),
    _task("new-2", "Plain"),
    _task("new-3", "Waits", status="blocked", depends_on='["new-1"]', parent_task_id="new-2", tags="[]"),
    _task("new-4", "Gone"),
    ("UPDATE tasks SET updated_at = ?, title = 'Fuller', description = NULL, due_at = NULL, tags = '[\"b\"]',"
     " metadata = '{\"k\":{}}' WHERE id = 'new-1'", (MILLIS,)),
    ("UPDATE tasks SET updated_at = ?, status = 'in_progress', started_at = ? WHERE id = 'new-2'", (MILLIS, MILLIS)),
    ("UPDATE tasks SET updated_at = ?, status = 'blocked', metadata = ? WHERE id = 'new-3'",
     (MILLIS, '{"blockedReason":"Waiting on dependencies"}')),
    ("UPDATE tasks SET updated_at = ?, status = 'blocked', metadata = ? WHERE id = 'new-2'",
     (MILLIS, '{"blockedReason":"why"}')),
    ("UPDATE tasks SET updated_at = ?, status = 'completed', completed_at = ? WHERE id = 'new-1'", (MILLIS, MILLIS)),
    # Here the original leaves the reason on SQLite, and takes it away on Postgres.
    ("UPDATE tasks SET updated_at = ?, status = 'pending', metadata = '{}' WHERE id = 'new-3'", (MILLIS,)),
    ("UPDATE tasks SET updated_at = ?, status = 'failed', completed_at = ?, metadata = ? WHERE id = 'new-2'",
     (MILLIS, MILLIS, '{"blockedReason":"why","failureReason":"because"}')),
    ("DELETE FROM tasks WHERE id = 'new-4'", ()),
    _task("new-5", "Project", source="agent", metadata='{"type":"project"}'),
    _task("new-6", "One", at=MILLIS + 1, source="agent", parent_task_id="new-5"),
    _task("new-7", "Two", at=MILLIS + 2, source="agent", parent_task_id="new-5", status="blocked",
          depends_on='["new-6"]'),
    (_TEAM, ("new-8", "Team", "lead", "active", MILLIS, MILLIS, '{"size":2}')),
    (_TEAM, ("new-9", "Empty", "lead", "active", MILLIS, MILLIS, "{}")),
    (_MEMBER, ("new-8", "s1", "lead", "first", "active", MILLIS, MILLIS)),
    (_MEMBER, ("new-8", "s2", "worker", None, "active", MILLIS, MILLIS)),
    (_MEMBER, ("new-8", "s1", "worker", None, "active", MILLIS, MILLIS)),
    (_MEMBER, ("new-8", "s3", "worker", None, "active", MILLIS, MILLIS)),
    ("UPDATE team_members SET status = 'idle', last_active_at = ? WHERE team_id = 'new-8' AND session_key = 's2'",
     (MILLIS,)),
    ("DELETE FROM team_members WHERE team_id = 'new-8' AND session_key = 's3'", ()),
    (_MEMBER, ("new-9", "s1", "worker", None, "active", MILLIS, MILLIS)),
    ("UPDATE teams SET status = 'disbanded', updated_at = ? WHERE id = 'new-9'", (MILLIS,)),
    ("UPDATE team_members SET status = 'completed', last_active_at = ? WHERE team_id = 'new-9'", (MILLIS,)),
]  # fmt: skip


@pytest.fixture
def dashboard(folder: Path) -> Path:
    """A copy of a real dashboard, or a new one."""
    path = folder / "dashboard.db"
    real = Path(os.environ.get("MIRROR_REAL_DATA", _BESIDE)) / "dashboard.db"
    if real.exists():
        return Path(shutil.copyfile(real, path))
    create_dashboard(path, words=True).close()
    return path


def _everything(path: Path) -> dict[str, Any]:
    """All rows with their rowids and the types of their values, the full-text table's words, and the schema."""
    with Writer(path) as reader:
        found: dict[str, Any] = {"schema": reader.run("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2")}
        for table in ("tasks", "teams", "team_members", "tasks_fts"):
            names = [row[0] for row in reader.run(f"SELECT name FROM pragma_table_info('{table}')")]
            columns = ", ".join(f'"{name}", typeof("{name}")' for name in names)
            found[table] = reader.run(f"SELECT rowid, {columns} FROM {table} ORDER BY rowid")
        for word in ("fuller", "plain", "ü", "b", "waits", "gone", "full"):
            query = "SELECT task_id FROM tasks_fts WHERE tasks_fts MATCH ? ORDER BY rowid"
            found[f"word {word}"] = reader.run((query, (word,)))
        assert reader.run("PRAGMA integrity_check") == [["ok"]]
        assert reader.run("PRAGMA foreign_key_check") == []
        reader.run("INSERT INTO tasks_fts(tasks_fts) VALUES ('integrity-check')")
    return found


def _use(library: str, path: Path) -> list[Any]:
    program = dashboard_process.__file__
    done = subprocess.run([sys.executable, program, library, str(path)], check=True, capture_output=True, text=True)
    answers: list[Any] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize("library", ["sqlite3", "apsw"])
def test_a_file_is_written_as_the_original_writes_it(dashboard: Path, library: str) -> None:
    other = Path(shutil.copyfile(dashboard, dashboard.with_name("original.db")))
    with Writer(other) as original:
        original.run("PRAGMA journal_mode=WAL", "PRAGMA foreign_keys=ON")
        counts = [original.run(f"SELECT count(*) FROM {table}")[0][0] for table in ("tasks", "teams")]
        for statement in ORIGINAL:
            original.run(statement)
    before, found, first, project, team = _use(library, dashboard)
    assert before == counts and found == ["new-1"]
    assert (first["title"], first["tags"], first["status"]) == ("Fuller", ["b"], "completed")
    assert [task["id"] for task in project["tasks"]] == ["new-6", "new-7"]
    assert [member["session_key"] for member in team["members"]] == ["s1", "s2"]
    written, expected = _everything(dashboard), _everything(other)
    for name, rows in expected.items():
        assert written[name] == rows, name


def test_a_file_without_the_full_text_table_is_searched_too(folder: Path) -> None:
    path = folder / "dashboard.db"
    create_dashboard(path).close()
    assert _use("sqlite3", path)[1] == ["new-1"]
    with Writer(path) as reader:
        assert reader.run("SELECT count(*) FROM sqlite_schema WHERE name LIKE '%fts%'") == [[0]]
