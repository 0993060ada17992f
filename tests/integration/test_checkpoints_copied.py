"""``mirror adopt --preset langgraph-checkpoints``: what LangGraph's graphs have kept, copied to its PostgresSaver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver

from tests.support.commands import MIRROR, CommandLine
from tests.support.source import Writer
from tests.support.waiting import until

PRESET = ("--preset", "langgraph-checkpoints")
ROOT = Path(__file__).parents[2]


def program(*arguments: str) -> Any:
    """The program with graphs, which has a copy of SQLite of its own."""
    command = [sys.executable, "-m", "tests.support.graph_process", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "null")


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that the program has written; it has ended."""
    path = tmp_path_factory.mktemp("graphs") / "graphs.db"
    program("sqlite", str(path), "fill")
    return path


@pytest.fixture
def graphs(filled: Path, folder: Path) -> Path:
    path = folder / "graphs.db"
    path.write_bytes(filled.read_bytes())
    return path


def copied(cli: CommandLine, path: Path, *more: str, code: int = 0) -> dict[str, Any]:
    done = cli.run("adopt", path, *PRESET, "--json", *more)
    assert done.code == code, done
    (report,) = json.loads(done.out)["reports"]
    assert isinstance(report, dict)
    return report


def test_a_program_goes_on_in_postgres_as_in_sqlite(cli: CommandLine, graphs: Path, dsn: str) -> None:
    """Interrupts, subgraphs, errors beside what has succeeded, forks, objects of the program's own classes."""
    dry = copied(cli, graphs, "--dry-run")
    assert dry["threads"] == 12 and dry["in_postgres"] is None and not dry["copied"]
    assert dry["namespaces"] == 14 and dry["checkpoints"] > 50 and dry["writes"] > dry["checkpoints"]
    report = copied(cli, graphs)
    assert report["equal"] == report["checkpoints"] == report["in_postgres"] == dry["checkpoints"]
    assert not report["problems"] and not report["came_meanwhile"]
    again = copied(cli, graphs)
    assert again == report
    (ours, ours_then), (theirs, theirs_then) = program("sqlite", str(graphs), "goon"), program("postgres", dsn, "goon")
    assert ours == theirs
    assert len(ours["talk 1"]["history"]) == 12 and "Order(number=4" in ours["talk 1"]["now"]["values"]["order"]
    assert "not today" in json.dumps(ours["fails 1"]) and "how many?" in json.dumps(ours["sub 1"])
    assert ours_then == theirs_then


def test_a_file_of_the_asynchronous_saver(cli: CommandLine, folder: Path, dsn: str) -> None:
    path = folder / "async.db"
    program("aiosqlite", str(path), "fill")
    assert copied(cli, path)["equal"] > 50
    assert program("sqlite", str(path), "look") == program("postgres", dsn, "look")


def begun(cli: CommandLine, path: Path, dsn: str) -> tuple[psycopg.Connection[Any], subprocess.Popen[str]]:
    """A copy that has put some checkpoints, and waits; and the transaction that it waits for."""
    with PostgresSaver.from_conn_string(dsn) as saver:
        saver.setup()
    held = psycopg.connect(dsn)
    held.execute("LOCK TABLE checkpoint_writes")
    process = subprocess.Popen(
        [*MIRROR, "adopt", str(path), *PRESET, "--json"],
        env=cli.environment(),
        cwd=cli.folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    with psycopg.connect(dsn, autocommit=True) as look:
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database"
        until(lambda: look.execute(f"{waits} WHERE datname = current_database())".encode()).fetchone() == (1,))
        assert look.execute("SELECT count(*) > 50 FROM checkpoints").fetchone() == (True,)
    return held, process


def test_killed_in_the_middle(cli: CommandLine, graphs: Path, dsn: str) -> None:
    held, process = begun(cli, graphs, dsn)
    with held:
        process.kill()
        process.communicate()
    held.close()
    report = copied(cli, graphs)
    assert report["equal"] == report["checkpoints"] == report["in_postgres"]


def test_a_program_that_writes_meanwhile_is_noticed(cli: CommandLine, graphs: Path, dsn: str) -> None:
    held, process = begun(cli, graphs, dsn)
    with held, Writer(graphs) as writer:
        columns = "checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata"
        writer.run(
            f"INSERT INTO checkpoints (thread_id, {columns}) SELECT 'another', {columns} FROM checkpoints"
            " WHERE thread_id = 'ask 1'"
        )
    out, _ = process.communicate()
    held.close()
    (report,) = json.loads(out)["reports"]
    assert process.returncode == 1 and report["came_meanwhile"] == 3 and not report["good"]
    assert report["equal"] == report["checkpoints"], "what there was when it began"
    assert copied(cli, graphs)["threads"] == 13


def test_what_postgres_has_otherwise_is_named(cli: CommandLine, graphs: Path, dsn: str) -> None:
    copied(cli, graphs)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE checkpoint_blobs SET blob = 'x' WHERE thread_id = 'talk 1' AND channel = 'order'")
        connection.execute("UPDATE checkpoint_writes SET idx = idx + 50 WHERE thread_id = 'ask 1' AND idx >= 0")
        connection.execute("UPDATE checkpoints SET parent_checkpoint_id = 'x' WHERE thread_id = 'ask 2'")
        connection.execute(
            "INSERT INTO checkpoints SELECT 'theirs', checkpoint_ns, checkpoint_id, NULL, NULL, checkpoint, metadata"
            " FROM checkpoints WHERE thread_id = 'ask 1'"
        )
    report = copied(cli, graphs, code=1)
    assert report["equal"] + report["different"] == report["checkpoints"]
    assert report["in_postgres"] == report["checkpoints"] + 3
    details = {(each["thread"], each["detail"]) for each in report["problems"]}
    assert ("talk 1", "different: checkpoint") in details and ("ask 2", "different: parent") in details
    assert ("ask 1", "different: writes") in details
    done = cli.run("adopt", graphs, *PRESET)
    assert (
        done.code == 1 and "delete_thread" in done.out and "3 checkpoints of Postgres are not in the file" in done.out
    )
    with PostgresSaver.from_conn_string(dsn) as saver:
        for thread in ("talk 1", "ask 1", "ask 2"):
            saver.delete_thread(thread)
    done = cli.run("adopt", graphs, *PRESET)
    assert done.code == 0 and "Copied." in done.out and "End its programs first" in done.out, done


def test_what_postgres_cannot_hold_is_named(cli: CommandLine, graphs: Path, dsn: str) -> None:
    with Writer(graphs) as writer:
        nul = """json_set(CAST(metadata AS TEXT), '$.x', json('["\\u0000"]'))"""
        writer.run(f"UPDATE checkpoints SET metadata = CAST({nul} AS BLOB) WHERE thread_id = 'ask 1'")
        writer.run("UPDATE checkpoints SET type = 'msgpack+aes' WHERE thread_id = 'ask 2'")
    report = copied(cli, graphs, code=1)
    details = {(each["thread"], each["detail"]) for each in report["problems"]}
    assert ("ask 2", "it cannot be copied: it is of the type msgpack+aes, which only its program can read") in details
    assert any(thread == "ask 1" and "SQLSTATE 22P05" in detail for thread, detail in details), details
    assert report["equal"] == report["checkpoints"] - 6


def test_checkpoints_of_langgraph_before_2025(cli: CommandLine, database: Path, writer: Writer, dsn: str) -> None:
    """Other forms of nearly everything; what tasks have sent is with the checkpoint before."""
    writer.run(
        "CREATE TABLE checkpoints(thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', checkpoint_id TEXT"
        " NOT NULL, parent_checkpoint_id TEXT, type TEXT, checkpoint BLOB, metadata BLOB,"
        " PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id))",
        "CREATE TABLE writes(thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', checkpoint_id TEXT"
        " NOT NULL, task_id TEXT NOT NULL, idx INTEGER NOT NULL, channel TEXT NOT NULL, type TEXT, value BLOB,"
        " PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx))",
    )
    for number in (1, 2):
        said = {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "HumanMessage"]}
        said["kwargs"] = {"content": f"hello {number}", "type": "human", "id": str(number)}
        form = {"v": 1, "ts": "2024-05-04T06:32:42.235444+00:00", "id": f"1ef4f797-8335-6428-8001-8a1503f9b87{number}"}
        form |= {"channel_values": {"messages": [said], "count": number}, "channel_versions": {"messages": number}}
        text = json.dumps(form | {"versions_seen": {}, "pending_sends": []})
        metadata = json.dumps({"source": "loop", "writes": {"a": [said]}, "step": number})
        parent = "NULL" if number == 1 else f"'{form['id'][:-1]}1'"
        key, task = f"'old', '', '{form['id']}'", "'task'"
        writer.run(
            f"INSERT INTO checkpoints VALUES ({key}, {parent}, 'json', CAST('{text}' AS BLOB), '{metadata}')",
            f"INSERT INTO writes VALUES ({key}, {task}, 0, 'messages', 'json', CAST('[1]' AS BLOB)),"
            f" ({key}, {task}, 1, '__pregel_tasks', 'json', CAST('{{}}' AS BLOB))",
        )
    assert copied(cli, database)["equal"] == 2
    with PostgresSaver.from_conn_string(dsn) as saver:
        found = saver.get_tuple({"configurable": {"thread_id": "old"}})
    assert found is not None and found.checkpoint["channel_values"]["messages"][0].content == "hello 2"
    assert found.metadata == {"source": "loop", "step": 2} and found.parent_config is not None
    assert [channel for _, channel, _ in found.pending_writes or ()] == ["messages", "__pregel_tasks"]


def test_adopt_says_that_they_cannot_be_mirrored(cli: CommandLine, graphs: Path, dsn: str) -> None:
    done = cli.run("adopt", graphs)
    assert done.code == 1 and "cannot be mirrored live" in done.out
    assert f"`mirror adopt {graphs} --preset langgraph-checkpoints" in done.out, done.out
    with Writer(graphs) as writer:
        writer.run("CREATE TABLE orders(id INTEGER PRIMARY KEY, name TEXT)", "INSERT INTO orders VALUES (1, 'x')")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders(id bigint PRIMARY KEY, name text)")
    done = cli.run("adopt", graphs)
    assert done.code == 0 and "cannot be mirrored live" in done.out and "excluded: checkpoints, writes" in done.out, (
        done
    )
    with cli.up(graphs):
        assert cli.run("wait").code == 0
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT * FROM orders").fetchall() == [(1, "x")]


def test_what_is_wrong_is_said(cli: CommandLine, graphs: Path, folder: Path, database: Path, writer: Writer) -> None:
    writer.run("CREATE TABLE t(x)")
    assert "no tables of LangGraph's SqliteSaver" in cli.run("adopt", database, *PRESET).error
    assert "nothing is mirrored" in cli.run("adopt", graphs, *PRESET, "--exclude", "x").error
    assert "there is no schema of this name" in cli.run("adopt", graphs, *PRESET, "--schema", "nowhere").error
    (folder / "without" / "langgraph").mkdir(parents=True)
    (folder / "without" / "langgraph" / "__init__.py").touch()
    done = subprocess.run(
        [*MIRROR, "adopt", str(graphs), *PRESET],
        env={**cli.environment(), "PYTHONPATH": str(folder / "without")},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "pip install 'mirror[langgraph]'" in done.stderr, done
