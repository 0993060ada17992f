"""``mirror cutover advance`` and ``rollback``: forward, back and forward again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.commands import CommandLine, stop
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, WriterError
from tests.support.waiting import LIMIT, until

HELD = Path(__file__).parents[1] / "support" / "held_move_process.py"
CONFIGURATION = """{
  // ours
  "sources": ["../source.db"],
  "storage": {"backend": "dual", "readFrom": "sqlite"}, // phase 1
}
"""


@contextmanager
def stopped(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Stopped at the end, if it still runs."""
    try:
        yield process
    finally:
        if process.poll() is None:
            stop(process)


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture
def configuration(folder: Path) -> Path:
    (folder / "argent").mkdir()
    path = folder / "argent" / "mirror.json"
    path.write_text(CONFIGURATION)
    return path


@pytest.fixture
def postgres(dsn: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def advance(cli: CommandLine) -> list[str]:
    done = cli.run("cutover", "advance", "--json", "--acknowledge", "backups")
    assert done.code == 0, done
    (source,) = json.loads(done.out)["sources"]
    return [step["step"] for step in source["steps"] if step["event"] in ("done", "journal")]


def rollback(cli: CommandLine) -> None:
    done = cli.run("cutover", "rollback")
    assert done.code == 0, done


def phase(cli: CommandLine) -> int:
    (source,) = json.loads(cli.run("cutover", "status", "--json").out)["sources"]
    assert not source["configuration"] and source["moving_to"] is None, source
    return int(source["phase"])


def test_there_and_back_and_there_again(
    cli: CommandLine,
    writer: Writer,
    database: Path,
    configuration: Path,
    postgres: psycopg.Connection[tuple[object, ...]],
) -> None:
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)", "INSERT INTO notes VALUES (1, 'in SQLite')")
    with cli.up(database):
        assert cli.run("parity").code == 0
        assert phase(cli) == 1
        advance(cli)
        assert phase(cli) == 2 and '"readFrom": "postgres"' in configuration.read_text()
        writer.run("INSERT INTO notes VALUES (2, 'in phase 2')")
        steps = advance(cli)
        assert steps.index("fence the file: no program can write to it") < steps.index("set the sequences")
        assert phase(cli) == 3
        changed = configuration.read_text()
        assert '"backend": "postgres"' in changed and "// ours" in changed and "// phase 1" in changed
        postgres.execute("INSERT INTO notes VALUES (3, 'in Postgres')")
        postgres.execute("UPDATE notes SET body = 'changed there' WHERE id = 1")
        until(lambda: writer.run("SELECT count(*) FROM notes") == [[3]])
        with Writer(database, busy=100) as stray, pytest.raises(WriterError, match="locked"):
            stray.run("INSERT INTO notes VALUES (99, 'astray')")
        # What would undo this is refused.
        assert "moved to Postgres" in cli.run("parity", "--repair").out
        assert cli.run("wait").code == 0  # for the file
        rollback(cli)
        assert phase(cli) == 2
        with pytest.raises(psycopg.Error, match="moved back") as refused:
            postgres.execute("INSERT INTO notes VALUES (98, 'too late')")
        assert refused.value.sqlstate == "MR004"
        everything = [[1, "changed there"], [2, "in phase 2"], [3, "in Postgres"]]
        assert writer.run("SELECT * FROM notes") == everything
        writer.run("INSERT INTO notes VALUES (4, 'in SQLite again')")
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        rollback(cli)
        assert phase(cli) == 1
        advance(cli)
        assert cli.run("parity").code == 0
        advance(cli)
        assert phase(cli) == 3
        postgres.execute("DELETE FROM notes WHERE id = 4")
        until(lambda: writer.run("SELECT * FROM notes") == everything)
        done = cli.run("cutover", "finalize")
        assert done.code == 0, done
        assert "nothing left to do" in cli.run("cutover", "rollback").error
    done = cli.run("up", database, "--once")
    assert done.code == 2 and "finalized" in done.err and "Traceback" not in done.err


def test_a_stray_writer_is_reported(
    cli: CommandLine,
    writer: Writer,
    database: Path,
    configuration: Path,
    postgres: psycopg.Connection[tuple[object, ...]],
) -> None:
    """Where the file is only watched; the way back is refused until it is known what becomes of it."""
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)", "INSERT INTO notes VALUES (1, 'in SQLite')")
    with cli.up(database):
        assert cli.run("parity").code == 0
        advance(cli)
        assert cli.run("cutover", "advance", "--acknowledge", "backups", "--fence", "watch").code == 0
        writer.run("INSERT INTO notes VALUES (99, 'astray')")

        def strays() -> int:
            (source,) = json.loads(cli.run("status", "--json").out)["sources"]
            return int(source["reverse"]["strays"])

        until(strays)
        done = cli.run("cutover", "rollback")
        assert done.code == 2 and "programs have written 1 row to it after the switch" in done.err
        assert phase(cli) == 3
        postgres.execute("INSERT INTO notes VALUES (2, 'goes on')")
        until(lambda: writer.run("SELECT count(*) FROM notes") == [[3]])
        writer.run("DELETE FROM notes WHERE id = 99")
        until(lambda: not strays())
        rollback(cli)
        assert writer.run("SELECT id FROM notes") == [[1], [2]]


def test_a_transaction_over_several_tables_does_not_meet_the_way_back_in_a_deadlock(
    cli: CommandLine,
    writer: Writer,
    database: Path,
    configuration: Path,
    postgres: psycopg.Connection[tuple[object, ...]],
    dsn: str,
) -> None:
    """It has a row of one table when the tables are held, and writes to another one then."""
    writer.run(*(f"CREATE TABLE {name}(id INTEGER PRIMARY KEY, n INTEGER)" for name in "ab"))
    writer.run(*(f"INSERT INTO {name} VALUES (1, 0)" for name in "ab"))
    with cli.up(database):
        assert cli.run("parity").code == 0
        advance(cli)
        advance(cli)
        waiting = (
            "SELECT w.relation::regclass::text FROM pg_locks w JOIN pg_locks h ON h.pid = w.pid AND h.granted AND"
            " h.mode = w.mode AND h.relation <> w.relation"
            " WHERE NOT w.granted AND w.mode = 'ShareRowExclusiveLock' AND h.relation IN ('a'::regclass, 'b'::regclass)"
        )
        with psycopg.connect(dsn) as program:
            # Whichever is locked last.
            program.execute("UPDATE b SET n = 1")
            process = cli.start("cutover", "rollback")
            until(lambda: postgres.execute(waiting).fetchone() == ("b",), alive=lambda: process.poll() is None)
            program.execute("UPDATE a SET n = 1")
            program.commit()
        _, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, err
        assert writer.run("SELECT (SELECT n FROM a), (SELECT n FROM b)") == [[1, 1]]


def test_the_way_back_is_made_beside_a_transaction_over_several_tables(
    cli: CommandLine,
    writer: Writer,
    database: Path,
    configuration: Path,
    postgres: psycopg.Connection[tuple[object, ...]],
    dsn: str,
) -> None:
    """As the mirror's are: it comes to a second table while the command waits for its first one. Then once more, when
    the triggers are switched on."""
    writer.run(*(f"CREATE TABLE {name}(id INTEGER PRIMARY KEY)" for name in "ab"))
    wanted = "SELECT FROM pg_locks WHERE NOT granted AND mode = $1 AND relation = 'b'::regclass"
    with ThreadPoolExecutor() as pool, cli.up(database), psycopg.connect(dsn) as first, psycopg.connect(dsn) as second:
        assert cli.run("parity").code == 0
        advance(cli)

        def waits(mode: str) -> bool:
            return psycopg.RawCursor(postgres).execute(wanted, (mode,)).fetchone() is not None

        first.execute("LOCK TABLE b IN ROW EXCLUSIVE MODE")
        process = cli.start("cutover", "advance", "--acknowledge", "backups")
        until(lambda: waits("ShareRowExclusiveLock"), alive=lambda: process.poll() is None)
        next_one = pool.submit(second.execute, "LOCK TABLE b IN ROW EXCLUSIVE MODE")  # gets it once they are made
        until(lambda: waits("RowExclusiveLock"))
        first.execute("LOCK TABLE a IN ROW EXCLUSIVE MODE")
        first.commit()
        next_one.result(LIMIT)
        until(lambda: waits("ShareRowExclusiveLock"), alive=lambda: process.poll() is None)
        second.execute("LOCK TABLE a IN ROW EXCLUSIVE MODE")
        second.commit()
        _, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, err
        assert phase(cli) == 3


def test_what_was_changed_in_postgres_and_back_in_the_file_is_mirrored(
    cli: CommandLine,
    writer: Writer,
    database: Path,
    configuration: Path,
    postgres: psycopg.Connection[tuple[object, ...]],
) -> None:
    """The file is then as the mirror knew it before phase 3, and Postgres is not."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)", "INSERT INTO t VALUES (1, 0), (2, 0)")
    with cli.up(database):
        assert cli.run("parity").code == 0
        advance(cli)
        advance(cli)
        postgres.execute("UPDATE t SET n = 1 WHERE id = 1")
        postgres.execute("INSERT INTO t VALUES (3, 0)")
        until(lambda: writer.run("SELECT * FROM t") == [[1, 1], [2, 0], [3, 0]])
    process = cli.start("cutover", "rollback")
    until(lambda: postgres.execute("SELECT sealed_at FROM mirror.phase").fetchone() == (None,))
    writer.run("UPDATE t SET n = 0 WHERE id = 1", "DELETE FROM t WHERE id = 3")
    with cli.up(database, wait=False):
        _, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, err
        assert cli.run("wait").code == 0
        done = cli.run("parity")
        assert done.code == 0, done
        assert postgres.execute("SELECT * FROM t ORDER BY id").fetchall() == [(1, 0), (2, 0)]


def test_of_many_sources_those_that_are_behind_are_moved(
    cli: CommandLine, folder: Path, writer: Writer, database: Path, configuration: Path, dsn: str
) -> None:
    """One by one, or all; what has failed at one of them is called again."""
    other = folder / "other.db"
    configuration.write_text(CONFIGURATION.replace('"../source.db"', '"../source.db", "../other.db"'))
    with Writer(other) as second:
        writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
        second.run("CREATE TABLE u(id INTEGER PRIMARY KEY)", "INSERT INTO u VALUES (1)")

        def move(command: str, *which: Path) -> None:
            done = cli.run("cutover", command, *which, *(("--acknowledge", "backups") if command == "advance" else ()))
            assert done.code == 0, done

        def phases() -> dict[str, int]:
            found = json.loads(cli.run("cutover", "status", "--json").out)["sources"]
            return {Path(each["source"]).name: each["phase"] for each in found}

        with cli.up(database, other):
            assert cli.run("wait").code == 0 and cli.run("parity").code == 0
            move("advance")
            assert phases() == {"source.db": 2, "other.db": 2}
            second.run("BEGIN IMMEDIATE")
            done = cli.run("cutover", "advance", "--acknowledge", "backups")
            assert done.code == 2 and "other.db" in done.err, done
            assert phases() == {"source.db": 3, "other.db": 2}
            second.run("ROLLBACK")
            move("advance")
            assert phases() == {"source.db": 3, "other.db": 3}
            move("rollback", other)
            move("rollback")
            assert phases() == {"source.db": 2, "other.db": 2}
            move("advance", other)
            move("finalize")
            found = json.loads(cli.run("cutover", "status", "--json").out)["sources"]
            assert [bool(each["finalized_at"]) for each in found] == [False, True]
            writer.run("INSERT INTO t VALUES (2)")
            assert cli.run("wait", database).code == 0 and cli.run("parity", database).code == 0


@pytest.mark.parametrize("first", ["one", "other"])
def test_finalize_gives_way_to_a_program_that_would_wait_for_it(
    cli: CommandLine,
    writer: Writer,
    database: Path,
    configuration: Path,
    postgres: psycopg.Connection[tuple[object, ...]],
    first: str,
) -> None:
    """A transaction reads two tables; between, finalize has locked one, and waits for the other."""
    second = {"one": "other", "other": "one"}[first]
    locked = (
        "SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation IN ('one'::regclass, 'other'::regclass)"
    )
    writer.run("CREATE TABLE one(id INTEGER PRIMARY KEY)", "CREATE TABLE other(id INTEGER PRIMARY KEY)")
    with cli.up(database), psycopg.connect(cli.dsn or "") as program:
        assert cli.run("parity").code == 0
        advance(cli)
        advance(cli)
        program.execute(f"SELECT FROM {first}")
        finalizing = cli.start("cutover", "finalize")
        try:
            until(lambda: postgres.execute(locked).fetchone(), alive=lambda: finalizing.poll() is None)
            program.execute(f"SELECT FROM {second}")
            program.rollback()
            assert finalizing.wait(LIMIT) == 0
        finally:
            finalizing.kill()
            finalizing.communicate()
    assert phase(cli) == 3


def test_a_mirror_that_ends_while_it_is_drained_is_noticed(
    cli: CommandLine, folder: Path, writer: Writer, database: Path, configuration: Path, dsn: str
) -> None:
    """Programs wait in Postgres meanwhile: not for long."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    mirror = MirrorProcess([database], dsn, cli.state_dir)
    try:
        mirror.start()
        mirror.wait_applied()
        assert cli.run("parity").code == 0
        advance(cli)
        advance(cli)
        go = folder / "go"
        go.mkdir()
        process = subprocess.Popen(
            [sys.executable, str(HELD), "cutover:before hold", str(go), "cutover", "rollback"],
            env=cli.environment(), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        until((go / "reached").exists, alive=lambda: process.poll() is None)
        draining = "SELECT FROM mirror.cutover_log WHERE event = 'begun' AND step = 'drain the way back'"
        with psycopg.connect(dsn) as held, psycopg.connect(dsn, autocommit=True) as program:
            held.execute("LOCK TABLE mirror.reverse IN SHARE MODE")  # so that it cannot carry this
            program.execute("INSERT INTO t VALUES (1)")
            (go / "go").touch()
            until(lambda: program.execute(draining).fetchone() is not None)
            mirror.kill()
            _, err = process.communicate(timeout=LIMIT)
            assert process.returncode == 2 and "no mirror runs any more" in err, err
            program.execute("INSERT INTO t VALUES (2)")
        mirror.start()
        rollback(cli)
        assert writer.run("SELECT id FROM t") == [[1], [2]]
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
    finally:
        mirror.end()


def test_columns_that_sqlite_computes(
    cli: CommandLine,
    writer: Writer,
    database: Path,
    configuration: Path,
    postgres: psycopg.Connection[tuple[object, ...]],
) -> None:
    """In Postgres they are plain ones, and as a program has left them: the file goes by its own."""
    computed = "twice INT AS (a * 2) STORED, more INT AS (a + 1) VIRTUAL"
    writer.run(f"CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, {computed})", "INSERT INTO t(a) VALUES (1), (2)")
    with cli.up(database):
        assert cli.run("parity").code == 0
        for command in ("rollback", "finalize"):
            if phase(cli) == 1:
                advance(cli)
            advance(cli)
            postgres.execute("UPDATE t SET a = a + 10 WHERE id = 1")
            postgres.execute("INSERT INTO t(id, a) VALUES ((SELECT max(id) + 1 FROM t), 7)")
            done = cli.run("cutover", command)
            assert done.code == 0, done
            assert writer.run("SELECT count(*) FROM t WHERE twice IS NOT a * 2 OR more IS NOT a + 1") == [[0]]
            if command == "rollback":
                assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        assert writer.run("SELECT a, twice, more FROM t WHERE id = 1") == [[21, 42, 22]]
        assert postgres.execute("SELECT count(*) FROM mirror.strays").fetchone() == (0,)


def test_numbers_that_sqlite_could_only_round(
    cli: CommandLine,
    writer: Writer,
    database: Path,
    configuration: Path,
    postgres: psycopg.Connection[tuple[object, ...]],
) -> None:
    """The file does not take them: going back would change what programs have written in Postgres."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, d DECIMAL(30, 2), r REAL, any)")
    writer.run("INSERT INTO t VALUES (1, 1.5, 1.5, 1.5), (2, 1.5, 1.5, 'x')")
    with cli.up(database):
        assert cli.run("parity").code == 0
        advance(cli)
        advance(cli)
        kept, rejects = [1, 1.5, 1.5, 1.5], "SELECT reason FROM mirror.reverse_rejects"
        for column, value, good in (
            ("d", "99999999999999.99", "7.25"),
            ("d", "12345678901234567890.12", "0.1"),
            ("r", "NaN", "Infinity"),
            ("any", "18446744073709551616", "9223372036854775807"),
        ):
            postgres.execute(f"UPDATE t SET \"{column}\" = '{value}' WHERE id = 1")
            until(lambda: postgres.execute(rejects).fetchone())
            assert postgres.execute(rejects).fetchone() == (f"no number of SQLite is {value}",)
            assert writer.run("SELECT * FROM t WHERE id = 1") == []
            assert "does not take 1 row that" in cli.run("cutover", "rollback").error
            postgres.execute(f"UPDATE t SET \"{column}\" = '{good}' WHERE id = 1")
            until(lambda: not postgres.execute(rejects).fetchone())
            at = ("id", "d", "r", "any").index(column)
            kept[at] = float(good) if column != "any" else int(good)
        postgres.execute("""UPDATE t SET "any" = '"12"' WHERE id = 2""")
        until(lambda: writer.run('SELECT "any", typeof("any") FROM t WHERE id = 2') == [["12", "text"]])
        rollback(cli)
        assert writer.run("SELECT * FROM t WHERE id = 1") == [kept]
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0


@pytest.mark.parametrize("command", ["status", "advance", "rollback", "finalize", "go", "strays"])
def test_before_it_was_mirrored(cli: CommandLine, configuration: Path, writer: Writer, command: str) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    error = cli.run("cutover", command).error
    assert "it is not mirrored here" in error and "run `mirror up" in error


def test_what_an_operator_reads(
    cli: CommandLine,
    writer: Writer,
    database: Path,
    folder: Path,
    configuration: Path,
    postgres: psycopg.Connection[tuple[object, ...]],
) -> None:
    """With two sources: in phase 3, after a return, and after both were finalized."""
    configuration.write_text(CONFIGURATION.replace("]", ', "../other.db"]'))
    other, log = folder / "other.db", folder / "up.log"
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT CHECK (length(body) < 9))")

    def status() -> dict[str, Any]:
        found, _ = json.loads(cli.run("status", "--json").out)["sources"]
        assert isinstance(found, dict)
        return found

    def up(phase: str) -> subprocess.Popen[str]:
        with log.open("w") as file:
            process = stack.enter_context(stopped(cli.start("up", stdout=file, stderr=file)))
        until(lambda: status()["phase"] == phase, alive=lambda: process.poll() is None)
        return process

    def forward() -> None:
        for number in (2, 3):
            done = cli.run("cutover", "advance", "--acknowledge", "backups")
            assert done.code == 0, done
            lines = done.out.splitlines()
            assert [line for line in lines if line.startswith("/")] == [str(database), str(other)]
            assert lines.count(f"✓ record the phase: phase {number}") == 2
            assert "0 of 0" not in done.out

    with ExitStack() as stack:
        second = stack.enter_context(Writer(other))
        second.run("CREATE TABLE tasks(id INTEGER PRIMARY KEY)")
        process = up("following")
        assert cli.run("wait", "--timeout", LIMIT).code == 0 and cli.run("parity").code == 0
        forward()
        # A row that the file does not take, and a command that is refused: neither is an error of the mirror.
        postgres.execute("INSERT INTO notes VALUES (5, 'too long for it')")
        until(lambda: status()["reverse"]["rejects"] == 1)
        compared = cli.run("parity", database)
        assert compared.code == 1 and "1 are in Postgres alone (`mirror rejects list`)" in compared.out, compared
        assert status()["last_error"] is None and status()["rejects"] == 0
        shown = cli.run("status", database).out
        assert "what programs write there is carried into the file" in shown
        assert "1 row of Postgres is not in the file" in " ".join(shown.split()) and "mirror rejects list" in shown
        listed = cli.run("rejects", "list")
        assert all(word in listed.out for word in ("source.db", "notes", "5", "constraint")), listed
        found = json.loads(cli.run("rejects", "list", "--json").out)
        (row,) = found["way_back"]
        assert found["rejects"] == [] and (row["source"], row["table"], row["key"]) == (str(database), "notes", ["5"])
        assert row["reason"].startswith("CHECK constraint failed") and row["first_seen"]
        assert json.loads(cli.run("rejects", "list", "--json", "--table", "tasks").out)["way_back"] == []
        assert f"`mirror rejects list {database}` shows them" in cli.run("cutover", "rollback", database).err
        process.kill()
        process.wait()
        refused = cli.run("rejects", "retry", database)
        assert refused.code == 2 and "moved to Postgres" in refused.out + refused.err
        assert "no mirror of this source is running" in cli.run("parity", database).err
        assert status()["last_error"] is None and status()["reverse"]["rejects"] == 1
        assert "until `mirror up` runs again; nothing is lost meanwhile" in cli.run("status", database).out
        process = up("carrying back")
        postgres.execute("DELETE FROM notes")
        until(lambda: status()["reverse"]["rejects"] == 0)
        assert stop(process) == 0
        said = log.read_text()
        assert said.count("until `mirror up` runs again; nothing is lost meanwhile") == 2
        assert "nothing yet" not in said and "mirror parity" not in said and "`mirror cutover rollback" in said
        assert "no rejects" in cli.run("rejects", "list").out
        # Back again.
        process = up("carrying back")
        done = cli.run("cutover", "rollback")
        assert done.code == 0 and [line for line in done.out.splitlines() if line.startswith("/")] == [
            str(database),
            str(other),
        ]
        until(
            lambda: (
                log.read_text().count("copying the whole file into Postgres again: the file is the original again") == 2
            )
        )
        assert "WARNING" not in log.read_text() and "no copy" not in log.read_text()
        assert cli.run("cutover", "rollback").code == 0 and cli.run("parity").code == 0
        forward()
        # One is finalized, and the other goes on, also with a mirror that starts then.
        assert cli.run("cutover", "finalize", database).code == 0
        until(lambda: status()["phase"] == "stopped")
        postgres.execute("INSERT INTO tasks VALUES (1)")
        until(lambda: second.run("SELECT id FROM tasks") == [[1]])
        assert "source.db: its move to Postgres was finalized" in cli.run("status", database).out
        assert stop(process) == 0
        process = up("stopped")
        postgres.execute("INSERT INTO tasks VALUES (2)")
        until(lambda: second.run("SELECT id FROM tasks") == [[1], [2]])
        assert cli.run("cutover", "finalize", other).code == 0
        assert process.wait(LIMIT) == 0
        said = log.read_text()
        assert "ERROR" not in said and "starts again" not in said and said.count("nothing left to do") == 2
        assert "Next:" not in said and status()["next_steps"] == []
