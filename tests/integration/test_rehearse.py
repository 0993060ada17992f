"""``mirror cutover rehearse``: the whole way and back on a clone, under load; and nothing is left of it."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.core.control import ControlClient
from mirror.core.recorded_load import RecordedLoad
from mirror.cutover.rehearsal.statements import statements_of
from mirror.cutover.rehearsal.stores import PostgresStore, SqliteStore
from mirror.cutover.rehearsal.workload import TableWork, Work
from mirror.postgres.sessions import connect
from mirror.postgres.target import load_targets
from tests.support.commands import CommandLine, processes_about, stop
from tests.support.memustore import create_store, item, vector
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

SHOP = (
    "CREATE TABLE customers(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, points INTEGER)",
    "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customers(id) ON DELETE CASCADE,"
    " note TEXT, total REAL CHECK (total >= 0))",
    "CREATE TABLE log(at TEXT, line TEXT)",
    "CREATE VIRTUAL TABLE orders_fts USING fts5(note, content='orders', content_rowid='id')",
    "CREATE TRIGGER orders_ai AFTER INSERT ON orders BEGIN"
    " INSERT INTO orders_fts(rowid, note) VALUES (new.id, new.note); END",
    "CREATE TRIGGER orders_ad AFTER DELETE ON orders BEGIN"
    " INSERT INTO orders_fts(orders_fts, rowid, note) VALUES ('delete', old.id, old.note); END",
    "CREATE TRIGGER orders_au AFTER UPDATE ON orders BEGIN"
    " INSERT INTO orders_fts(orders_fts, rowid, note) VALUES ('delete', old.id, old.note);"
    " INSERT INTO orders_fts(rowid, note) VALUES (new.id, new.note); END",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)"
    " INSERT INTO customers SELECT i, 'name ' || i, i FROM n",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
    " INSERT INTO orders SELECT i, 1 + i % 200, 'tea ' || i, i / 2.0 FROM n",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)"
    " INSERT INTO log SELECT i, 'x' FROM n",
)


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    (folder / "argent").mkdir()
    (folder / "argent" / "mirror.json").write_text('{"sources": ["../source.db"]}')
    return CommandLine(folder, dsn)


def rehearse(cli: CommandLine, *arguments: object) -> dict[str, Any]:
    done = cli.run("cutover", "rehearse", "--json", *arguments, timeout=3 * LIMIT)
    assert "Traceback" not in done.err, done
    told = json.loads(done.out)
    assert done.code == (0 if told["works"] else 1), done
    (source,) = told["sources"]
    assert isinstance(source, dict)
    return source


#: Seconds after which a call has failed (:data:`mirror.cutover.rehearsal.writer.CALL_SECONDS`), less a bit.
PATIENCE = 4.5


def problems(found: dict[str, Any]) -> list[dict[str, str]]:
    """Without those that a busy machine makes."""
    of_the_machine = {"lag", "gaps since parity", "disk"}
    if any(pause and pause["worst_ms"] > 1000 * PATIENCE for pause in (found["to_postgres"], found["to_sqlite"])):
        of_the_machine.add("failed calls")
    return [problem for problem in found["problems"] if problem["what"] not in of_the_machine]


def everything(dsn: str) -> dict[str, Any]:
    """All that Postgres has besides system objects: schemas, relations, functions, types, roles, and the rows."""
    with psycopg.connect(dsn) as conn:
        found: dict[str, Any] = {}
        for name, query in {
            "schemas": "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_(temp|toast)'",
            "relations": "SELECT oid::regclass::text, relkind FROM pg_class WHERE oid >= 16384 AND relnamespace <>"
            " 'pg_toast'::regnamespace",
            "functions": "SELECT oid::regprocedure::text FROM pg_proc WHERE oid >= 16384",
            "triggers": "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal",
            "types": "SELECT oid::regtype::text FROM pg_type WHERE oid >= 16384",
            "roles": "SELECT rolname FROM pg_roles WHERE rolname !~ 'mirror_test'",
            "grants": "SELECT count(*) FROM pg_shdepend WHERE dbid = (SELECT oid FROM pg_database WHERE datname ="
            " current_database())",
        }.items():
            found[name] = sorted(map(str, conn.execute(query).fetchall()))
        tables = conn.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND oid >= 16384 AND relnamespace NOT IN"
            " ('pg_toast'::regnamespace)"
        ).fetchall()
        for (table,) in tables:
            # Comparisons in the background come at any time: only of which sources there are some.
            what = "source_id" if table == "mirror.parity_runs" else "the_row"
            rows = conn.execute(f"SELECT DISTINCT {what}::text FROM {table} the_row".encode()).fetchall()
            found[f"rows of {table}"] = sorted(str(row) for (row,) in rows)
        return found


def files(folder: Path) -> set[str]:
    """What lies in a state directory, without the files that each source's own mirror makes and deletes."""
    return {str(path.relative_to(folder)) for path in [*folder.glob("*"), *folder.glob("sources/*")]}


def test_there_and_back_on_a_clone(cli: CommandLine, writer: Writer, database: Path, dsn: str) -> None:
    writer.run(*SHOP)
    with cli.up(database):
        assert cli.run("parity").code == 0
        for number in range(50):
            writer.run(f"UPDATE orders SET note = 'coffee {number}' WHERE id = {1 + number}")
            writer.run(f"INSERT INTO log VALUES ({number}, 'y')")
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        before, on_disk = everything(dsn), files(cli.state_dir)
        content = writer.run("SELECT * FROM orders ORDER BY id"), writer.run("SELECT * FROM log ORDER BY rowid")
        configuration = (cli.folder / "argent" / "mirror.json").read_text()
        found = rehearse(cli)
        assert problems(found) == [] and found["works"] is not bool(found["problems"]), found
        for pause in (found["to_postgres"], found["to_sqlite"]):
            assert 0 < pause["p50_ms"] <= pause["p99_ms"] <= pause["worst_ms"]
        assert found["load"]["recorded"] and found["calls"] > 0
        assert found["parity"]["forward"].startswith("equal") and "compared" in found["parity"]["back"]
        # No trace, and the source is as it was.
        assert files(cli.state_dir) == on_disk
        assert everything(dsn) == before
        assert (cli.folder / "argent" / "mirror.json").read_text() == configuration
        assert (
            writer.run("SELECT * FROM orders ORDER BY id"),
            writer.run("SELECT * FROM log ORDER BY rowid"),
        ) == content
        assert len(processes_about(cli.state_dir / "rehearsals")) == 0


def test_what_would_fail_is_named(cli: CommandLine, writer: Writer, database: Path, dsn: str) -> None:
    """An order of nobody: SQLite does not mind, Postgres cannot make the foreign key."""
    writer.run(*SHOP, "PRAGMA foreign_keys=OFF", "INSERT INTO orders VALUES (1000, 999, 'orphan', 1)")
    with cli.up(database):
        assert cli.run("parity").code == 0
        before, on_disk = everything(dsn), files(cli.state_dir)
        found = rehearse(cli)
        assert not found["works"]
        (problem,) = problems(found)
        assert problem["where"] == "the clone" and problem["next_step"], problem
        assert "orders(customer) to customers: 1 orphan: 999" in problem["detail"]
        # How long the file was fenced before that was undone; and programs went on in it.
        assert found["to_postgres"]["worst_ms"] > 0 and found["to_sqlite"] is None
        assert found["parity"]["forward"].startswith("equal")
        shown = cli.run("cutover", "rehearse", timeout=3 * LIMIT)
        assert shown.code == 1 and "SOMETHING WOULD FAIL" in shown.out and "orphan: 999" in shown.out
        assert files(cli.state_dir) == on_disk
        assert everything(dsn) == before


@pytest.mark.slow
def test_numbers_that_are_used_up(cli: CommandLine, writer: Writer, database: Path) -> None:
    writer.run(*SHOP, f"INSERT INTO customers VALUES ({2**63 - 1}, 'the last', 0)")
    with cli.up(database):
        assert cli.run("parity").code == 0
        found = rehearse(cli)
        (problem,) = problems(found)
        assert "numbers are used up" in problem["detail"] and not found["works"]


def test_a_mirror_tells_what_was_written(cli: CommandLine, writer: Writer, database: Path) -> None:
    writer.run(*SHOP)
    with cli.up(database), ControlClient(cli.source_folder(database)) as client:
        assert client.load() == RecordedLoad()
        for statement in (
            "INSERT INTO log VALUES (1, 'a'), (2, 'b'), (3, 'c')",
            "UPDATE log SET line = 'd' WHERE line IN ('a', 'b')",
            "DELETE FROM log WHERE line = 'd'",
            "UPDATE orders SET total = total + 1 WHERE id <= 7",
        ):
            writer.run(statement)
            assert cli.run("wait").code == 0
        found = client.load()
        assert found.tables == {"log": (3, 2, 2), "orders": (0, 7, 0)}
        assert found.commits == 4 and 1 <= found.peak <= 4 and 1 <= found.seconds <= 4


def test_rows_come_again_as_they_were(cli: CommandLine, writer: Writer, database: Path, dsn: str) -> None:
    """Touched twice, and taken and put, in both stores, whatever their values are."""
    writer.run(
        "CREATE TABLE odd(a TEXT, n INTEGER, b BLOB, j JSON, d DECIMAL, x, t DATETIME, PRIMARY KEY (b, n))"
        " WITHOUT ROWID",
        "INSERT INTO odd VALUES"
        " ('é \\' || char(10, 0), 9223372036854775807, x'00ff', '{\"a\": 1.50}', 1.5, 'x', '2026-01-01'),"
        " (NULL, -9223372036854775808, x'', NULL, NULL, x'01', NULL), (' ', -3, x'41', '[ ]', -0.25, 2.5, 17)",
        "CREATE TABLE keyless(n INTEGER, r REAL)",
        "INSERT INTO keyless VALUES (9223372036854775807, 1e300), (-9223372036854775808, -0.0), (NULL, NULL), ('x', 5)",
        "CREATE TABLE words(word TEXT)",
        "INSERT INTO words VALUES ('one'), ('two '), (''), (NULL)",
    )
    assert cli.run("up", database, "--once").code == 0

    def content() -> tuple[Any, Any]:
        found = everything(dsn)
        rows = {name: found[f"rows of {name}"] for name in ("odd", "keyless", "words")}
        return rows, [writer.run(f"SELECT rowid, * FROM {name} ORDER BY 1") for name in ("keyless", "words")] + [
            writer.run("SELECT quote(a), n, quote(b), quote(j), quote(d), quote(x), quote(t) FROM odd ORDER BY n")
        ]

    before = content()
    with connect(dsn, raw=True) as conn:
        (source_id,) = conn.execute("SELECT source_id FROM mirror.sources").fetchone() or (0,)
        made = statements_of(database, conn, load_targets(conn, source_id, None).values(), ())
    assert set(made) == {"odd", "keyless", "words"}
    tables = [TableWork(each, 1, 1) for each in made.values()]
    assert made["words"].sqlite.touch and made["words"].postgres.touch
    work = Work(str(database), "", 1.0, tables)
    sqlite, postgres = SqliteStore(work), PostgresStore(work, dsn)
    try:
        for store in (sqlite, postgres):
            every = [len(rows.keys) for rows in store.tables]
            assert store.write([(count, 0) for count in every]) == sum(every)
        changed = content()
        assert changed[0]["words"] != before[0]["words"] and changed[1][1] != before[1][1]
        for store in (sqlite, postgres):
            every = [len(rows.keys) for rows in store.tables]
            store.write([(count, 0) for count in every])
            store.begin()
            taken = [[*store.take(rows.statements.take, key)] for rows in store.tables for key in rows.keys]
            assert [len(rows) for rows in taken] == [1] * sum(every)
            assert all(store.read(rows.statements.keys) == [] for rows in store.tables)
            statements = [rows.statements.put for rows in store.tables for _ in rows.keys]
            assert [store.change(put, row) for put, (row,) in zip(statements, taken, strict=True)] == [1] * sum(every)
            store.commit()
        assert content() == before
    finally:
        sqlite.close()
        postgres.close()


@pytest.mark.slow
def test_without_a_mirror_it_takes_a_rate_of_its_own(
    cli: CommandLine, writer: Writer, database: Path, dsn: str
) -> None:
    """And what keeps the source itself from being moved is named."""
    writer.run(*SHOP)
    assert "is not mirrored" in cli.run("cutover", "rehearse", database).error
    assert cli.run("up", database, "--once").code == 0
    found = rehearse(cli)
    assert not found["load"]["recorded"] and found["load"]["commits_per_second"] == 100
    assert "no mirror of the source runs" in found["load"]["note"]
    assert found["to_postgres"] is not None and found["to_sqlite"] is not None
    assert {problem["where"] for problem in problems(found)} == {"the source"} and not found["works"]
    assert "mirror" in {problem["what"] for problem in problems(found)}


def test_a_source_without_rows_cannot_be_rehearsed(cli: CommandLine, writer: Writer, database: Path, dsn: str) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    with cli.up(database):
        before, on_disk = everything(dsn), files(cli.state_dir)
        assert "no table has a row" in cli.run("cutover", "rehearse").error
        assert everything(dsn) == before and files(cli.state_dir) == on_disk


@pytest.mark.slow
def test_a_file_without_a_wal(cli: CommandLine, database: Path, dsn: str) -> None:
    with Writer(database) as writer:
        writer.run(*SHOP)
        with cli.up(database):
            assert cli.run("parity").code == 0
            found = rehearse(cli)
            assert found["to_postgres"] is not None and found["parity"]["forward"].startswith("equal"), found


@pytest.mark.slow
def test_the_memory_of_an_agent_under_load(cli: CommandLine, folder: Path, dsn: str) -> None:
    """Its profile, in a schema of its own, for an agent of its own; while its program goes on writing."""
    source = folder / "memory.db"
    (folder / "argent" / "mirror.json").write_text('{"sources": ["../memory.db"]}')
    with create_store(source) as writer:
        for number in range(100):
            writer.run(item(str(number), embedding=vector(number, 2)))
        with cli.up(source):
            assert cli.run("parity").code == 0
            ended = threading.Event()
            written: list[int] = []

            def write() -> None:
                while not ended.is_set():
                    writer.run(f"UPDATE memory_items SET reinforcement_count = {len(written)} WHERE id = '7'")
                    written.append(1)

            program = threading.Thread(target=write)
            program.start()
            try:
                until(lambda: len(written) > 50)
                relations = everything(dsn)["relations"]
                found = rehearse(cli, "--acknowledge", "read differences")
            finally:
                ended.set()
                program.join()
            assert found["to_postgres"] and found["to_sqlite"], found
            assert not [problem for problem in problems(found) if problem["where"] == "the clone"], found
            assert found["load"]["recorded"]
            left = everything(dsn)
            assert left["relations"] == relations
            assert not [row for name, rows in left.items() for row in rows if "rehearsal" in row], "no trace"
            # The mirror of the source has gone on. (On a busy machine it may have had to compare pages.)
            assert cli.run("wait").code == 0 and cli.run("parity").code == 0
            (status,) = json.loads(cli.run("status", "--json").out)["sources"]
            assert len(status["resyncs"]) == 1 and status["phase"] == "following" and not status["last_error"]


@pytest.mark.slow
def test_a_memory_with_rows_that_refer_to_none(cli: CommandLine, folder: Path, dsn: str) -> None:
    """The source's guard rails name them; what the switch would take is measured all the same."""
    source = folder / "memory.db"
    (folder / "argent" / "mirror.json").write_text('{"sources": ["../memory.db"]}')
    with create_store(source) as writer:
        writer.run(*(item(str(number)) for number in range(20)))
        writer.run("PRAGMA foreign_keys=OFF", "INSERT INTO category_items VALUES ('1', 'nowhere')")
        with cli.up(source):
            assert cli.run("parity").code == 0
            found = rehearse(cli)
            named = {(problem["where"], problem["what"]) for problem in problems(found)}
            assert named == {("the source", "category_items_category_fkey")}, found
            assert not found["works"] and found["to_postgres"] and found["to_sqlite"]


def begin(cli: CommandLine, dsn: str, seen: str) -> subprocess.Popen[str]:
    """A rehearsal that has come so far that a query of Postgres gives a row."""
    process = cli.start("cutover", "rehearse", stdout=subprocess.DEVNULL)
    with psycopg.connect(dsn, autocommit=True) as conn:
        until(lambda: conn.execute(seen.encode()).fetchone() is not None, alive=lambda: process.poll() is None)
    return process


MOMENTS = {
    "mirroring": "SELECT 1 FROM mirror.sources WHERE schema_name LIKE 'mirror\\_rehearsal%'",
    "in phase 3": "SELECT 1 FROM mirror.phase WHERE phase = 3",
}


@pytest.mark.few(1)
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_cleaned(cli: CommandLine, writer: Writer, database: Path, dsn: str, moment: str) -> None:
    writer.run(*SHOP)
    with cli.up(database):
        assert cli.run("parity").code == 0
        before, on_disk = everything(dsn), files(cli.state_dir)
        process = begin(cli, dsn, MOMENTS[moment])
        assert stop(process, signal.SIGKILL) == -signal.SIGKILL
        (place,) = (cli.state_dir / "rehearsals").iterdir()
        # What it has started notices.
        until(lambda: not processes_about(place))
        done = cli.run("cutover", "rehearse", "--clean")
        assert done.code == 0 and place.name in done.out, done
        assert files(cli.state_dir) == on_disk
        assert everything(dsn) == before
        assert "nothing is left" in cli.run("cutover", "rehearse", "--clean").out


@pytest.mark.slow
def test_the_next_one_cleans_and_one_that_runs_is_left_alone(
    cli: CommandLine, writer: Writer, database: Path, dsn: str
) -> None:
    writer.run(*SHOP)
    with cli.up(database):
        assert cli.run("parity").code == 0
        before, on_disk = everything(dsn), files(cli.state_dir)
        first = begin(cli, dsn, MOMENTS["in phase 3"])
        assert "nothing is left" in cli.run("cutover", "rehearse", "--clean").out
        stop(first, signal.SIGKILL)
        assert problems(rehearse(cli)) == []
        assert files(cli.state_dir) == on_disk
        assert everything(dsn) == before


@pytest.mark.few(1)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(
    cli: CommandLine, writer: Writer, database: Path, dsn: str, number: signal.Signals, code: int
) -> None:
    writer.run(*SHOP)
    with cli.up(database):
        assert cli.run("parity").code == 0
        before, on_disk = everything(dsn), files(cli.state_dir)
        assert stop(begin(cli, dsn, MOMENTS["in phase 3"]), number) == code
        assert files(cli.state_dir) == on_disk
        assert everything(dsn) == before
        assert not processes_about(cli.state_dir / "rehearsals")
