"""``mirror parity --repair``: what was damaged in Postgres is found, named, repaired, noted, and proved equal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.core.control import ControlClient
from mirror.core.errors import ControlError
from mirror.core.words import counted
from mirror.parity.report import ColumnDifference
from tests.support.commands import CommandLine
from tests.support.memustore import create_store, item, vector
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, filling
from tests.support.waiting import LIMIT

FILL = filling("i, 'row ' || i, i * 0.1, zeroblob(3)")


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


def damage(dsn: str, *commands: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for command in commands:
            connection.execute(command.encode())


def repairs(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT kind, before ->> 'id', after ->> 'id', before, after FROM mirror.repairs ORDER BY repair_id"
        ).fetchall()


DAMAGES = {
    "UPDATE t SET name = 'changed' WHERE id = 7": ["different"],
    "UPDATE t SET r = 0.30000000000000010 WHERE id = 3": ["different"],
    "UPDATE t SET b = '\\x000001' WHERE id = 3": ["different"],
    "UPDATE t SET name = NULL WHERE id <= 2": ["different"] * 2,
    "DELETE FROM t WHERE id IN (1, 500, 1000)": ["missing"] * 3,
    "INSERT INTO t VALUES (-5, 'extra', 1, NULL), (5000, 'extra', 1, NULL)": ["extra"] * 2,
    "UPDATE t SET id = 9999 WHERE id = 1": ["extra", "missing"],
    "UPDATE t AS a SET name = b.name FROM t AS b WHERE (a.id, b.id) IN ((4, 5), (5, 4))": ["different"] * 2,
    "TRUNCATE t": ["missing"] * 1000,
}


def test_damage_of_every_kind(cli: CommandLine, folder: Path, dsn: str) -> None:
    """The smallest change, while the program goes on writing."""
    path = folder / "source.db"
    with Writer(path) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, r REAL, b BLOB)")
        writer.run(FILL.format(1, 1000), "CREATE TABLE other(id INTEGER PRIMARY KEY)", "INSERT INTO other VALUES (1)")
        with cli.up(path):
            assert cli.run("parity", path).code == 0
            for command, kinds in DAMAGES.items():
                damage(dsn, "DELETE FROM mirror.repairs", command)
                page = folder / "report.html"
                found = cli.run("parity", path, "--json", "--html", page)
                assert "Rows that differ" in page.read_text() and "different: " in page.read_text()
                assert found.code == 1 and "--repair" in json.loads(found.out)["reports"][0]["next_steps"][0]
                writer.send(*["INSERT INTO other DEFAULT VALUES"] * 3000)
                done = cli.run("parity", path, "--repair", "--replace-rows", "--json")
                writer.answer()
                assert done.code == 0 and json.loads(done.out)["reports"][0]["verdict"] == "equal", done
                assert f"repaired t: {counted(len(kinds), 'row')}, each in mirror.repairs" in done.err
                assert sorted(kind for kind, *_ in repairs(dsn)) == sorted(kinds), command
                writer.run("UPDATE t SET name = 'goes on ' || id")
                with ControlClient(cli.source_folder(path)) as client:
                    assert client.wait(LIMIT)
            assert cli.run("parity", path).code == 0


def test_what_was_is_noted(cli: CommandLine, folder: Path, dsn: str) -> None:
    """Of an agent's rows alone, with their vectors; also without a mirror that runs."""
    for agent in ("ada", "bob"):
        with create_store(folder / f"{agent}.db") as store:
            store.run(item("1", "mine", embedding=vector(1, 2)), item("2"))
        assert cli.run("up", folder / f"{agent}.db", "--agent", agent, "--once").code == 0
    damage(
        dsn,
        "UPDATE memory_items SET summary = 'forged', embedding = '[1,2.5]' WHERE id = '1' AND agent_id = 'ada'",
        "DELETE FROM memory_items WHERE id = '2' AND agent_id = 'ada'",
        "UPDATE memory_items SET visibility = 'shared'",
    )
    assert cli.run("parity", folder / "ada.db", "--repair", "--replace-rows").code == 0
    found = {kind: (before, after) for kind, _, _, before, after in repairs(dsn)}
    assert set(found) == {"different", "missing"}
    before, after = found["different"]
    assert (before["summary"], after["summary"]) == ("forged", "mine")
    assert (before["embedding"], after["embedding"]) == ("[1,2.5]", "[1,2]")
    assert cli.run("parity", folder / "bob.db").code == 0
    with psycopg.connect(dsn) as connection:
        kept = connection.execute("SELECT agent_id, id, visibility FROM memory_items ORDER BY 1, 2").fetchall()
    assert kept == [("ada", "1", "shared"), ("ada", "2", "private"), ("bob", "1", "shared"), ("bob", "2", "shared")]


def test_a_bug_in_the_decoder_is_caught(
    make_mirror: Callable[..., MirrorProcess], writer: Writer, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parity reads SQLite by SQL: what capture got wrong cannot hide, and a repair by the same bug proves nothing."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)", "INSERT INTO t VALUES (1, 'right')")
    mirror = make_mirror(database)
    monkeypatch.setenv("MIRROR_PLANTED_BUG", "planted")
    mirror.start()
    mirror.check()
    writer.run("INSERT INTO t VALUES (2, 'planted'), (3, 'also right')")
    mirror.wait_applied()
    for _ in range(2):
        report = mirror.parity()
        assert report.verdict == "different"
        [example] = report.tables[0].examples
        assert (example.key, example.columns) == ([2], (ColumnDifference("name", "planted", "planted?"),))
        with mirror.control() as client:
            client.repair(["t"], 60.0)
    mirror.kill()


@pytest.mark.parametrize("runs", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_no_false_alarm_under_heavy_writes(
    make_mirror: Callable[..., MirrorProcess], writer: Writer, database: Path, runs: int
) -> None:
    """Three programs write without a pause, checkpoints and all; each comparison is exact at its positions."""
    writer.run(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, v)", "CREATE TABLE n(x)", "INSERT INTO n VALUES (0)"
    )
    writer.run(filling("i, 'row ' || i, i").format(1, 5000))
    mirror = make_mirror(database)
    mirror.start()
    mirror.check()
    work = [
        "UPDATE n SET x = x + 1",
        "UPDATE t SET v = random() WHERE id = abs(random()) % 5000",
        "DELETE FROM t WHERE id = abs(random()) % 5000",
        "INSERT OR REPLACE INTO t VALUES (abs(random()) % 5000, 'new ' || random(), NULL)",
    ]
    with Writer(database) as second, Writer(database) as third:
        verdicts = []
        for run in range(runs):
            for program in (writer, second, third):
                program.send(*work * 50, f"PRAGMA wal_checkpoint({('PASSIVE', 'TRUNCATE')[run % 2]})")
            report = mirror.parity()
            verdicts.append(report.verdict)
            assert report.verdict != "different", report.to_json()
            for program in (writer, second, third):
                program.answer()
    assert verdicts.count("equal") > runs // 2, verdicts
    mirror.check()


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("commands", "reason", "told"),
    [
        (
            ["ALTER TABLE t ALTER name TYPE varchar", "UPDATE t SET name = 'x' WHERE id = 1"],
            "the column name is character varying in Postgres, not text",
            "created again",
        ),
        (["ALTER TABLE t ALTER id TYPE numeric"], "the column id is numeric in Postgres, not bigint", "created again"),
        (["ALTER TABLE t DROP COLUMN r"], "the column r is missing in Postgres", "created again"),
        (
            [
                "ALTER TABLE t DROP CONSTRAINT t_pkey, ALTER id DROP NOT NULL",
                "INSERT INTO t SELECT FROM generate_series(1, 5)",
            ],
            "",
            "created again",
        ),
        (["UPDATE t SET name = 'x'", "ALTER TABLE t ADD CHECK (name IS NOT NULL)"], "", "1,000 rows"),
    ],
)
def test_a_table_that_was_altered(
    cli: CommandLine, folder: Path, dsn: str, commands: list[str], reason: str, told: str
) -> None:
    """It is found whatever its values look like, and what is said of the repair is what was done."""
    path = folder / "source.db"
    with Writer(path) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, r REAL, b BLOB)")
        writer.run(FILL.format(1, 1000))
    assert cli.run("up", path, "--once").code == 0
    damage(dsn, *commands)
    found = cli.run("parity", path, "--json")
    (table,) = json.loads(found.out)["reports"][0]["tables"]
    assert found.code == 1 and table["reason"] == reason
    if "FROM generate_series" in commands[-1]:
        assert (table["extra"], table["missing"], table["different"]) == (5, 0, 0)
    done = cli.run("parity", path, "--repair", "--replace-rows")
    assert done.code == 0 and f"repaired t: {told}" in done.err, done


def test_a_trigger_that_undoes_a_repair(cli: CommandLine, folder: Path, dsn: str) -> None:
    """It is told, nothing is noted as repaired, and the mirror goes on."""
    path = folder / "source.db"
    with Writer(path) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, r REAL, b BLOB)")
        writer.run(FILL.format(1, 10))
        with cli.up(path):
            cli.run("wait", path)
            damage(
                dsn,
                "UPDATE t SET name = 'x' WHERE id = 1",
                "CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$",
                "CREATE TRIGGER undo BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION undo()",
            )
            done = cli.run("parity", path, "--repair", "--replace-rows")
            assert done.code == 2 and "a trigger, a rule or a policy changes them" in done.err, done
            assert repairs(dsn) == []
            damage(dsn, "DROP TRIGGER undo ON t")
            assert cli.run("parity", path, "--repair", "--replace-rows").code == 0
            writer.run("UPDATE t SET name = 'goes on'")
            assert cli.run("wait", path).code == cli.run("parity", path).code == 0


def test_range_by_range(cli: CommandLine, folder: Path, dsn: str) -> None:
    """A transaction for each 1,000 rows that differ, in key order; what was equal is not touched."""
    path = folder / "source.db"
    with Writer(path) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, r REAL, b BLOB)")
        writer.run(FILL.format(1, 3000))
    with cli.up(path):
        cli.run("wait", path)
        damage(
            dsn,
            "UPDATE t SET name = 'other' WHERE id <= 1500",
            "DELETE FROM t WHERE id BETWEEN 1501 AND 2200",
            "INSERT INTO t SELECT id, 'extra' FROM generate_series(3001, 3300) id",
        )
        with psycopg.connect(dsn) as connection:
            untouched = "SELECT id, xmin FROM t WHERE id BETWEEN 2201 AND 3000 ORDER BY id"
            before = connection.execute(untouched).fetchall()
            connection.rollback()
            assert cli.run("parity", path, "--repair", "--replace-rows").code == 0
            assert connection.execute(untouched).fetchall() == before
            ranges = connection.execute(
                "SELECT count(*), min(id), max(id) FROM"
                " (SELECT repaired_at, (coalesce(before, after) ->> 'id')::int AS id FROM mirror.repairs) AS r"
                " GROUP BY repaired_at ORDER BY repaired_at"
            ).fetchall()
    assert ranges == [(1000, 1, 1000), (1000, 1001, 2000), (500, 2001, 3300)]


def test_the_mirrors_own_copy_may_be_what_is_wrong(cli: CommandLine, folder: Path, dsn: str) -> None:
    """A byte of the copy has changed on disk: a repair from it would change nothing, or spoil a good row."""
    path = folder / "source.db"
    with Writer(path) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, r REAL, b BLOB)")
        writer.run(FILL.format(1, 1000))
        assert cli.run("up", path, "--once").code == 0
        copy = cli.source_folder(path) / "shadow.db"
        for old, new in ((b"row 700", b"rox 700"), (b"row 800", b"rox 800")):
            assert copy.read_bytes().count(old) == 1
            copy.write_bytes(copy.read_bytes().replace(old, new))
        damage(dsn, "UPDATE t SET name = 'rox 700' WHERE id = 700", "DELETE FROM t WHERE id = 1")
        found = cli.run("parity", path, "--json")
        assert found.code == 1 and json.loads(found.out)["reports"][0]["tables"][0]["different"] == 1
        assert cli.run("parity", path, "--repair", "--replace-rows").code == 0
        with psycopg.connect(dsn) as connection:
            names = connection.execute("SELECT name FROM t WHERE id IN (1, 700, 800) ORDER BY id").fetchall()
        assert names == [("row 1",), ("row 700",), ("row 800",)]
        assert copy.read_bytes().count(b"rox") == 0


@pytest.mark.few(1)
@pytest.mark.parametrize("hit", [1, 2])
def test_killed_between_two_ranges(
    make_mirror: Callable[..., MirrorProcess], writer: Writer, database: Path, dsn: str, hit: int
) -> None:
    """What was written stays, with its note; the rest is still different, and the next repair does it."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)", filling("i, 'row ' || i").format(1, 2500))
    mirror = make_mirror(database)
    mirror.start(kill_at="repair:range", hit=hit)
    mirror.check()
    damage(dsn, "UPDATE t SET name = 'other'")
    with mirror.control() as client, pytest.raises(ControlError):
        client.repair(["t"], 60.0, replace=True)
    mirror.wait_killed()
    assert len(repairs(dsn)) == 1000 * hit
    mirror.start()
    assert mirror.parity().tables[0].different == 2500 - 1000 * hit
    with mirror.control() as client:
        client.repair(["t"], 60.0, replace=True)
    assert len(repairs(dsn)) == 2500
    mirror.check()


def test_a_table_that_was_dropped(cli: CommandLine, folder: Path, dsn: str) -> None:
    path = folder / "source.db"
    with Writer(path) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, r REAL, b BLOB)")
        writer.run(FILL.format(1, 10))
        assert cli.run("up", path, "--once").code == 0
        damage(dsn, "DROP TABLE t")
        assert cli.run("parity", path).code == 1
        assert cli.run("parity", path, "--repair", "--replace-rows").code == 0
