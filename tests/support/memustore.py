"""MemuStores and dashboards in tests: made by their DDL, and written by calls of each kind."""

from __future__ import annotations

import struct
from importlib import resources
from pathlib import Path

from tests.support.source import Writer

#: A value and a text that the store's two ways to write a time give.
APP_TIME, DDL_TIME = "2026-11-23T00:05:04.442Z", "2026-11-23 00:05:04"

DASHBOARD = """
CREATE TABLE tasks(id TEXT PRIMARY KEY, title TEXT NOT NULL, description TEXT, status TEXT NOT NULL DEFAULT 'pending',
  priority TEXT NOT NULL DEFAULT 'normal', source TEXT NOT NULL DEFAULT 'user', created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL, started_at INTEGER, completed_at INTEGER, due_at INTEGER, agent_id TEXT,
  session_id TEXT, channel_id TEXT, parent_task_id TEXT REFERENCES tasks(id), tags TEXT, metadata TEXT, assignee TEXT,
  depends_on TEXT DEFAULT '[]', team_id TEXT);
CREATE TABLE teams(id TEXT PRIMARY KEY, name TEXT NOT NULL, lead_session_key TEXT NOT NULL,
  status TEXT NOT NULL DEFAULT 'active', created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
  config TEXT DEFAULT '{}');
CREATE TABLE team_members(team_id TEXT NOT NULL REFERENCES teams(id), session_key TEXT NOT NULL,
  role TEXT NOT NULL DEFAULT 'worker', label TEXT, status TEXT NOT NULL DEFAULT 'active', joined_at INTEGER NOT NULL,
  last_active_at INTEGER, PRIMARY KEY(team_id, session_key));
"""


#: The full-text table of a dashboard's tasks.
DASHBOARD_WORDS = """
CREATE VIRTUAL TABLE tasks_fts USING fts5(task_id, title, description, tags);
CREATE TRIGGER tasks_ai AFTER INSERT ON tasks BEGIN
  INSERT INTO tasks_fts(task_id, title, description, tags) VALUES (new.id, new.title, new.description, new.tags);
END;
CREATE TRIGGER tasks_ad AFTER DELETE ON tasks BEGIN DELETE FROM tasks_fts WHERE task_id = old.id;
END;
CREATE TRIGGER tasks_au AFTER UPDATE ON tasks BEGIN
  UPDATE tasks_fts SET title = new.title, description = new.description, tags = new.tags WHERE task_id = old.id;
END;
"""


def vector(*numbers: float) -> bytes:
    """An embedding as the store keeps it."""
    return struct.pack(f"<{len(numbers)}f", *numbers)


def statements(script: str) -> list[str]:
    """The statements of a script; a trigger's body is a part of its statement."""
    found, begun = [], ""
    for line in script.splitlines():
        if line.startswith("--"):
            continue
        begun += line + "\n"
        if line.rstrip().endswith(";") and ("BEGIN" not in begun or line.rstrip() == "END;"):
            found.append(begun.strip())
            begun = ""
    return found


def store_script() -> list[str]:
    """The DDL of a memory.db, statement by statement."""
    return statements(resources.files("mirror.cli.demo").joinpath("memory_store.sql").read_text())


def create_store(path: Path) -> Writer:
    """A new memory.db, version 11, and the program that has it open."""
    writer = Writer(path)
    writer.run("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", "PRAGMA foreign_keys=ON")
    writer.transaction(*store_script(), "INSERT INTO memu_meta VALUES ('schema_version', '11')")
    return writer


def create_dashboard(path: Path, *, words: bool = False) -> Writer:
    """A new dashboard.db; ``words``: with the full-text table of its tasks."""
    writer = Writer(path)
    writer.run("PRAGMA journal_mode=WAL", "PRAGMA foreign_keys=ON")
    writer.transaction(*statements(DASHBOARD), *(statements(DASHBOARD_WORDS) if words else ()))
    return writer


def item(key: str, summary: str = "something", **more: object) -> tuple[str, tuple[object, ...]]:
    """A statement that creates a memory item."""
    columns = {"id": key, "memory_type": "fact", "summary": summary} | more
    marks = ", ".join("?" for _ in columns)
    return f"INSERT INTO memory_items({', '.join(columns)}) VALUES ({marks})", tuple(columns.values())
