"""``mirror doctor``: each thing that would go wrong is told with its next step, before anything is copied."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from mirror.core.checks import Check, Code
from mirror.replica import source_connection as keeper
from mirror.replica.filesystem import Mount
from mirror.sidecar import doctor
from tests.support.commands import CommandLine
from tests.support.memustore import create_dashboard, create_store, item, vector
from tests.support.source import Writer


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


def examine(cli: CommandLine, *arguments: object) -> tuple[int, dict[str, Any]]:
    done = cli.run("doctor", "--json", *arguments)
    assert "Traceback" not in done.err, done
    (report,) = json.loads(done.out)["reports"]
    assert done.code == (0 if report["healthy"] else 1)
    assert all(finding["next_step"] for finding in report["findings"] if finding["level"] != "ok")
    return done.code, report


def told(report: dict[str, Any], level: str) -> dict[str, str]:
    return {finding["check"]: finding["detail"] for finding in report["findings"] if finding["level"] == level}


def column(report: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in report["columns"] if f"{each['table']}.{each['column']}" == name]
    return dict(found)


def test_all_is_well(cli: CommandLine, folder: Path, dsn: str) -> None:
    with create_store(folder / "memory.db") as store:
        store.run(item("1", embedding=vector(1, 2)), item("2"))
        code, report = examine(cli, folder / "memory.db")
        assert code == 0, report
        assert set(told(report, "ok")) == {
            *("state directory", "disk", "Postgres", "rights", "file", "SQLite", "journal mode", "profile", "pgvector"),
            "row security",
        }
        found = column(report, "memory_items.embedding")
        assert (found["becomes"], found["classes"]) == ("vector", {"blob": 1, "null": 1})
        assert cli.run("doctor", folder / "memory.db").out.count("✓") == 10
        with psycopg.connect(dsn) as connection:
            there = connection.execute("SELECT to_regnamespace('mirror')").fetchone()
        assert there == (None,), "nothing is made"
        assert not (folder / "argent").exists()
        assert cli.run("up", folder / "memory.db", "--once").code == 0
        assert examine(cli, folder / "memory.db")[0] == 0, "what the mirror made is in nobody's way"


def test_values(cli: CommandLine, folder: Path) -> None:
    """The storage classes of each column, what becomes of it, and what nobody can hold."""
    with Writer(folder / "any.db") as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, s TEXT, w)")
        writer.run("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 4500)"
                   " INSERT INTO t SELECT i - 2, i, 's', i FROM c")  # fmt: skip
        writer.run("INSERT INTO t VALUES (-9223372036854775808, 'text', 'a' || char(0), 1.5)")
        writer.run("INSERT INTO t VALUES (9223372036854775807, NULL, CAST(x'ff' AS TEXT), NULL)")
        writer.run("CREATE TABLE k(a TEXT PRIMARY KEY, b) WITHOUT ROWID", "INSERT INTO k VALUES ('a', 1)")
        writer.run("CREATE TABLE u(k TEXT PRIMARY KEY)", "INSERT INTO u VALUES (NULL), ('x')")
        code, report = examine(cli, folder / "any.db")
        assert code == 0
        assert column(report, "t.n")["classes"] == {"integer": 4500, "text": 1, "null": 1}
        assert column(report, "t.n")["becomes"] == "jsonb"
        assert column(report, "t.s")["rejects"] == {} and column(report, "t.s")["escaped"] == 2
        assert "2 texts have a NUL or are not valid" in told(report, "note")["column t.s"]
        assert column(report, "k.b")["classes"] == {"integer": 1}
        assert "1 row has NULL in its key" in told(report, "note")["table u"]
        _, with_agent = examine(cli, folder / "any.db", "--agent", "main")
        assert "NULL in the primary key" in told(with_agent, "problem")["table u"]


def test_what_postgres_has_already(cli: CommandLine, folder: Path) -> None:
    """Of a table that is mirrored, what it is comes before what it would become."""
    with Writer(folder / "any.db") as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, a INTEGER, b INTEGER)")
        writer.run("INSERT INTO t VALUES (1, 'text', 1), (2, 2, 2)")
        assert "becomes jsonb: 1 value does not fit" in told(examine(cli, folder / "any.db")[1], "note")["column t.a"]
        assert cli.run("up", folder / "any.db", "--once").code == 0
        assert "is jsonb: 1 value does not fit" in told(examine(cli, folder / "any.db")[1], "note")["column t.a"]
        writer.run("UPDATE t SET a = 1")
        _, report = examine(cli, folder / "any.db")
        assert column(report, "t.a")["becomes"] == "jsonb" and column(report, "t.b")["becomes"] == "bigint"
        assert "every value fits bigint" in told(report, "note")["column t.a"]


def test_a_store_with_what_does_not_fit(cli: CommandLine, folder: Path) -> None:
    with create_store(folder / "memory.db") as store:
        store.run(item("1", happened_at="last week", extra="{"), item("2", embedding=b"123"))
        code, report = examine(cli, folder / "memory.db")
        assert code == 1
        problems = told(report, "problem")
        assert "not a time" in problems["column memory_items.happened_at"]
        assert "not JSON" in problems["column memory_items.extra"]
        assert "not a float32 vector" in problems["column memory_items.embedding"]
        assert examine(cli, folder / "memory.db", "--profile", "generic")[0] == 0


def test_keys_documents_and_what_is_left_out(cli: CommandLine, folder: Path) -> None:
    """By which key each table is known, what its JSON becomes, and what does not come along."""
    with Writer(folder / "any.db") as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE p(a TEXT, b TEXT, PRIMARY KEY (a, b))")
        writer.run("CREATE TABLE c(id INTEGER PRIMARY KEY, a, b, v JSON, FOREIGN KEY (a, b) REFERENCES p(a, b))")
        writer.run("CREATE TABLE r(x REFERENCES p)", "CREATE INDEX i ON c(a)", "CREATE VIRTUAL TABLE f USING fts5(x)")
        writer.run("""INSERT INTO c(v) VALUES ('{"a": 1}'), ('plain'), (NULL), ('[1]')""", "INSERT INTO r VALUES (1)")
        _, report = examine(cli, folder / "any.db")
        assert {found["table"]: found["key"] for found in report["tables"]} == {
            "p": ["a", "b"], "c": ["id"], "r": ["_rowid"],
        }  # fmt: skip
        assert column(report, "c.v")["becomes"] == "jsonb"
        notes = told(report, "note")
        assert notes["column c.v"] == "1 text is no JSON: it is a JSON string in Postgres"
        assert "1 index, 2 foreign keys" in notes["views, triggers, indexes"]
        assert "f (fts5)" in notes["virtual tables"]
        shown = cli.run("doctor", folder / "any.db").out
        assert "key: a, b" in shown and "key: _rowid" in shown and "3 tables" in shown
        assert shown.index("✓ Postgres") < shown.index("• column c.v"), "what takes no time comes first"
        assert cli.run("up", folder / "any.db", "--once").code == 0
    with psycopg.connect(cli.dsn or "") as connection:
        found = connection.execute("SELECT v ->> 'a', v #>> '{}' FROM c WHERE v IS NOT NULL ORDER BY id").fetchall()
    assert found == [("1", '{"a": 1}'), (None, "plain"), (None, "[1]")]


def test_a_damaged_file(cli: CommandLine, folder: Path) -> None:
    """A page anywhere in a table: all values are read."""
    with Writer(folder / "x.db") as writer:
        writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "CREATE TABLE other(id INTEGER PRIMARY KEY)")
        writer.run("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 3000)"
                   " INSERT INTO t SELECT i, hex(zeroblob(100)) FROM c")  # fmt: skip
    with open(folder / "x.db", "r+b") as file:
        file.seek(4096 * 90)
        file.write(b"\xff" * 4096)
    done = cli.run("doctor", folder / "x.db")
    assert done.code == 1 and "✗ table t: it is damaged" in done.out
    said = " ".join(done.out.split())
    source = folder.resolve() / "x.db"
    assert f"`sqlite3 {source} 'PRAGMA integrity_check'`" in said
    assert f"`sqlite3 {source} .recover | sqlite3 {source}.new`" in said
    assert "Next:" not in done.out


def test_no_words_of_a_mirror_that_is_not_there(cli: CommandLine, folder: Path) -> None:
    with Writer(folder / "x.db") as writer:
        writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, zeroblob(20000))")
    (folder / "x.db").write_bytes((folder / "x.db").read_bytes()[:8192])
    done = cli.run("doctor", folder / "x.db")
    assert done.code == 1 and "next: let the copy end" in done.out and "by itself" not in done.out


def test_servers_that_do_not_answer(cli: CommandLine, folder: Path) -> None:
    """Redis and webhooks: notes, because a mirror works without them."""
    with Writer(folder / "x.db") as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY)")
    (folder / "argent").mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        values = {
            "storage": {"redis": {"host": "127.0.0.1", "port": 1}},
            "alerts": {"webhook": "http://127.0.0.1:1/told"},
            "changes": {"webhook": {"url": f"http://127.0.0.1:{server.getsockname()[1]}/changes"}},
        }
        (folder / "argent" / "mirror.json").write_text(json.dumps(values))
        code, report = examine(cli, folder / "x.db")
    assert code == 0
    assert told(report, "note")["Redis"].startswith("redis 127.0.0.1:1/0 does not answer")
    assert told(report, "note")["alerts.webhook"] == "http://127.0.0.1:1 takes no connection: Connection refused"
    assert "takes connections" in told(report, "ok")["changes.webhook"]


def test_the_embedded_server_of_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under which user of the system it runs is told, where that is another one."""
    with Writer(folder / "x.db") as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY)")
    (found,) = [finding for finding in look(folder / "x.db") if finding.code == Code.POSTGRES]
    assert ("as the user pgserver of the system" in found.detail) == (os.geteuid() == 0)
    cli = CommandLine(folder)
    done = cli.run("up", folder / "x.db", "--once")
    assert done.code == 0 and ("runs as the user pgserver" in done.err) == (os.geteuid() == 0)
    again = cli.run("doctor", folder / "x.db")
    assert again.code == 0
    assert ("✓ embedded Postgres: it runs as the user pgserver" in again.out) == (os.geteuid() == 0)
    assert "runs as the user" not in cli.run("parity", folder / "x.db").err, "it is told once"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (found,) = [finding for finding in look(folder / "x.db") if finding.code == Code.POSTGRES]
    assert found.level == "problem" and "pip install 'mirror[embedded]'" in found.next_step


def test_without_a_wal_no_lock_is_taken(cli: CommandLine, folder: Path) -> None:
    with Writer(folder / "old.db", busy=0) as writer:
        writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)", "BEGIN EXCLUSIVE")
        code, report = examine(cli, folder / "old.db")
        assert code == 0
        assert "slower" in told(report, "note")["journal mode"]
        assert column(report, "t.id")["classes"] == {"integer": 1}
        writer.run("COMMIT")


@pytest.mark.parametrize("content", [b"", b"encrypted" * 1000])
def test_no_database(cli: CommandLine, folder: Path, content: bytes) -> None:
    (folder / "x.db").write_bytes(content)
    code, report = examine(cli, folder / "x.db")
    assert code == 1 and "source" in told(report, "problem")


@pytest.mark.parametrize("plain", [16, 24, 32, 60, 100, 108])
def test_an_encrypted_file_with_a_plain_header(folder: Path, plain: int) -> None:
    """As some ciphers leave it, so that the file is recognised; whatever its length, nothing calls it a good one."""
    path = folder / "x.db"
    with Writer(path) as writer:
        writer.run(
            "PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 2)"
        )
    path.write_bytes(path.read_bytes()[:plain] + os.urandom(8192 - plain))
    (found,) = [finding for finding in look(path) if finding.level == "problem"]
    assert found.name == "source" and "encrypted" in found.detail


def test_a_network_file_system_and_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the operating system would tell of them."""
    with create_store(folder / "memory.db"):
        usage = shutil.disk_usage(folder)._replace(free=1 << 20)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        (disk,) = [finding for finding in look(folder / "memory.db") if finding.level == "problem"]
        assert disk.name == "disk" and "1 MB free" in disk.detail and "--state-dir" in disk.next_step
        monkeypatch.setattr(keeper, "mounts", lambda: [Mount("/", "nfs4")])
        full, found = [finding for finding in look(folder / "memory.db") if finding.level == "problem"]
        assert full == disk and found.name == "source" and "network file system (nfs4)" in found.detail
        assert "local disk" in found.next_step


def test_a_folder_of_the_host(folder: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note of `mirror doctor`, and a warning of `mirror up`."""
    with create_store(folder / "memory.db"):
        monkeypatch.setattr(doctor, "mounts", lambda: [Mount("/", "virtiofs")])
        (found,) = [finding for finding in look(folder / "memory.db") if finding.code == Code.FILE_SYSTEM]
        assert found.level == "note" and "host (virtiofs)" in found.detail and "this machine" in found.next_step
        told = (
            "import sys; from mirror.cli import up; from mirror.replica.filesystem import Mount;"
            " up.mounts = lambda: [Mount('/', 'virtiofs')]; from mirror.cli.main import main; main()"
        )
        done = CommandLine(folder, dsn, (sys.executable, "-c", told)).run("up", folder / "memory.db", "--once")
        assert done.code == 0 and f"WARNING {folder.resolve() / 'memory.db'}: it is in a folder of" in done.err


def look(source: Path) -> list[Check]:
    """What is found of a source for the embedded server."""
    return doctor.examine(source, None, source.parent / "state", "public", None, None, "mirror up").findings


def test_what_up_would_refuse(cli: CommandLine, folder: Path) -> None:
    """Two sources with tables of one name, and a table that is too wide."""
    for name in ("a.db", "b.db"):
        with Writer(folder / name) as writer:
            writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)", "CREATE TABLE own(id INTEGER PRIMARY KEY)")
    with Writer(folder / "b.db") as writer:
        writer.run(f"CREATE TABLE wide({', '.join(f'c{i}' for i in range(1700))})", "DROP TABLE own")
    done = cli.run("doctor", folder / "a.db", folder / "b.db", "--json")
    first, second = json.loads(done.out)["reports"]
    assert done.code == 1 and first["healthy"]
    problems = told(second, "problem")
    assert set(problems) == {"table t", "table wide"}
    assert str(folder / "a.db") in problems["table t"] and "1,700 columns" in problems["table wide"]


def test_names_that_are_taken(cli: CommandLine, folder: Path, dsn: str) -> None:
    create_dashboard(folder / "dashboard.db").close()
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE lessons(x int); CREATE VIEW tasks AS SELECT 1")
    code, report = examine(cli, folder / "dashboard.db")
    assert code == 1
    assert {"table lessons", "table tasks"} <= set(told(report, "problem"))
    assert examine(cli, folder / "dashboard.db", "--schema", "other")[0] == 0


def test_postgres_away_or_without_rights(cli: CommandLine, folder: Path, dsn: str) -> None:
    create_store(folder / "memory.db").close()
    code, report = examine(cli, folder / "memory.db", "--postgres", "host=/nowhere")
    assert code == 1 and "Postgres" in told(report, "problem")
    with psycopg.connect(dsn, autocommit=True) as connection:
        guest = f"{connection.info.dbname}_guest"
        connection.execute(f"CREATE ROLE {guest} LOGIN".encode())
    code, report = examine(cli, folder / "memory.db", "--postgres", make_conninfo(dsn, user=guest))
    assert code == 1 and "may not create in the database" in told(report, "problem")["rights"]
    assert cli.run("doctor").code == 2 and cli.run("doctor", folder / "none.db").code == 2
