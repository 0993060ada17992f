"""A program that uses a dashboard through the storage operations, on one of the two SQLite libraries.

``python dashboard_process.py LIBRARY DATABASE``: does :func:`steps` and prints what it was answered, as JSON.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

#: The time of all that is written, and the same in milliseconds.
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
MILLIS = int(NOW.timestamp() * 1000)


def steps(database: Path) -> list[Any]:
    """Each kind of write once or more, and reads; ids are ``new-1``, ``new-2`` and so on."""
    from mirror.storage.dashboard import Tasks, Teams
    from mirror.storage.on_sqlite.store import SQLiteStore
    from mirror.storage.operations.base import Context

    numbers = iter(range(1, 100))
    context = Context("argent", lambda: NOW, lambda: f"new-{next(numbers)}")
    store = SQLiteStore(database)

    class Runner:
        def run(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return store.run(context, operation, args, kwargs)

    tasks, teams = Tasks(Runner()), Teams(Runner())
    before = [len(tasks.list()), len(teams.list(status=None))]
    tasks.create(
        title="Full ü",
        description="all of it",
        priority="high",
        source="agent",
        assignee="ada",
        due_at=1_800_000_000_123,
        agent_id="argent",
        channel_id="c",
        team_id="t",
        tags=["a", "ü"],
        metadata={"n": 1.0, "x": [1.5, None, True], "ü": "é"},
    )
    tasks.create(title="Plain")
    tasks.create(title="Waits", depends_on=["new-1"], parent_task_id="new-2", tags=[])
    tasks.create(title="Gone")
    tasks.update("new-1", title="Fuller", tags=["b"], metadata={"k": {}}, description=None, due_at=None)
    tasks.start("new-2")
    tasks.start("new-3")
    tasks.block("new-2", "why")
    tasks.complete("new-1")
    tasks.fail("new-2", "because")
    tasks.delete("new-4")
    tasks.create_project(title="Project", tasks=[{"title": "One"}, {"title": "Two", "depends_on": ["new-6"]}])
    teams.create("Team", "lead", {"size": 2})
    teams.create("Empty", "lead")
    teams.add_member("new-8", "s1", "lead", "first")
    teams.add_member("new-8", "s2")
    teams.add_member("new-8", "s1", "worker")
    teams.add_member("new-8", "s3")
    teams.update_member_status("new-8", "s2", "idle")
    teams.remove_member("new-8", "s3")
    teams.add_member("new-9", "s1")
    teams.disband("new-9")
    found = [task.id for task in tasks.search("fuller")]
    answers = [before, found, tasks.get("new-1"), tasks.get_project_with_children("new-5"), teams.get("new-8")]
    store.close()
    return answers


def main() -> None:
    library, database = sys.argv[1:]
    importlib.import_module(library)
    answers = steps(Path(database))
    other = {"apsw": "_sqlite3", "sqlite3": "apsw"}[library]
    assert other not in sys.modules, "two SQLite libraries in one process"
    print(json.dumps(answers, default=dataclasses.asdict))


if __name__ == "__main__":
    main()
