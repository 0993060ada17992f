"""What has happened to a source is counted since it was mirrored first, over restarts and kills, and is in the plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mirror.core.folders import source_folder
from mirror.core.saved_status import STATUS_FILE
from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import until


def counts(report: dict[str, Any], which: str = "ever") -> dict[str, int]:
    return {name: number for name, number in report[which].items() if number}


def test_events_outlive_the_mirror(mirror: MirrorProcess, writer: Writer, folder: Path, dsn: str) -> None:
    writer.run("CREATE TABLE t(k TEXT PRIMARY KEY, v INTEGER)", "INSERT INTO t VALUES ('a', 1)")
    mirror.start()
    mirror.wait_applied()
    writer.run("ALTER TABLE t RENAME COLUMN v TO w", "CREATE TABLE u(id INTEGER PRIMARY KEY)")
    writer.run("INSERT INTO t VALUES (CAST(x'62ff' AS TEXT), 2)")
    mirror.wait_applied()
    first = {"columns_renamed": 1, "tables_added": 1, "rows_rejected": 1}
    status = mirror.status()
    since, told = status["ever_since"], [each["text"] for each in status["happened"]]
    assert counts(status) == counts(status, "events") == first
    assert told == ["column renamed: t.v is w now", "new table: u"]
    # A kill before that is saved has them counted again, as new ones.
    saved = source_folder(mirror.state_dir, mirror.sources[0]) / STATUS_FILE
    until(lambda: counts(json.loads(saved.read_text())) == first, alive=lambda: mirror.alive)
    mirror.kill()
    mirror.start()
    mirror.settle()
    status = mirror.status()
    assert counts(status) == first and counts(status, "events") == {} and status["ever_since"] == since
    writer.run("DELETE FROM t WHERE w = 2", "ALTER TABLE u ADD COLUMN more TEXT", "DROP TABLE t")
    mirror.wait_applied()
    mirror.stop()
    cli = CommandLine(folder, dsn)
    given = (mirror.sources[0], "--state-dir", mirror.state_dir)
    (report,) = json.loads(cli.run("status", *given, "--json").out)["sources"]
    then = {**first, "rows_back": 1, "columns_added": 1, "tables_dropped": 1}
    assert counts(report) == then
    assert "table added, 1 table dropped, 1 column added, 1 column renamed" in cli.run("status", *given).out
    plan = cli.run("cutover", "plan", *given)
    (line,) = [line for line in plan.out.splitlines() if " changes: " in line]
    assert "1 table added, 1 table dropped, 1 column added, 1 column renamed" in line and "new table: u" in line
    (rail,) = [
        rail
        for rail in json.loads(cli.run("cutover", "plan", *given, "--json").out)["sources"][0]["rails"]
        if rail["code"] == "mirror.changes"
    ]
    assert rail["level"] == "note" and "new column: u.more" in rail["detail"]


@pytest.mark.parametrize("how", ["as of an earlier mirror", "damaged"])
def test_counting_begins_anew_where_nothing_was_counted(mirror: MirrorProcess, writer: Writer, how: str) -> None:
    writer.run("CREATE TABLE t(k TEXT PRIMARY KEY)")
    mirror.start()
    mirror.wait_applied()
    writer.run("CREATE TABLE u(id INTEGER PRIMARY KEY)")
    mirror.wait_applied()
    assert counts(mirror.status()) == {"tables_added": 1}
    mirror.stop()
    (path,) = mirror.state_dir.glob("sources/*/status.json")
    values = json.loads(path.read_bytes())
    for name in ("ever", "ever_since", "happened"):
        del values[name]
    path.write_text(json.dumps(values) if how != "damaged" else "{")
    mirror.start()
    status = until(lambda: mirror.status() if mirror.status()["phase"] == "following" else None)
    assert counts(status) == {} and status["happened"] == [] and status["ever_since"]
