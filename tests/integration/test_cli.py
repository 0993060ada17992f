"""The command line: exit codes, messages, signals, settings, and what it prints where."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

import mirror
from mirror.core.control import ControlClient, wait_for_mirror
from mirror.core.status import StatusReport
from tests.support import waiting
from tests.support.commands import UNREACHABLE, CommandLine, processes_about, stop
from tests.support.memustore import create_dashboard, create_store
from tests.support.postgres import PostgresServer
from tests.support.source import Writer
from tests.support.waiting import LIMIT

#: A mirror has this long to end after a signal, whatever else the machine does.
STOP_SECONDS = 30.0


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture
def source(writer: Writer, database: Path) -> Path:
    """A source with three rows, and a program that has it open."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO t(v) VALUES ('a'), ('b'), ('c')")
    return database


@pytest.fixture
def other_dsn(postgres_server: PostgresServer) -> Iterator[str]:
    dsn = postgres_server.create_database()
    yield dsn
    postgres_server.drop_database(dsn)


def sql(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def make(path: Path, *statements: str) -> Path:
    """A source that no program has open."""
    with Writer(path) as writer:
        writer.run("PRAGMA journal_mode=WAL", *statements)
    return path


def make_store(path: Path, table: str = "t", value: str = "a") -> Path:
    return make(
        path, f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, v TEXT)", f"INSERT INTO {table}(v) VALUES ('{value}')"
    )


def until(client: ControlClient, holds: Callable[[StatusReport], bool]) -> StatusReport:
    """Ask a running mirror until its status is so."""
    found = waiting.until(lambda: status if holds(status := client.status()) else None)
    assert found is not None
    return found


# -- up ------------------------------------------------------------------------------------------------


def test_version(cli: CommandLine) -> None:
    done = cli.run("--version")
    assert done.code == 0 and mirror.__version__ in done.out


def test_once_mirrors_and_ends(cli: CommandLine, source: Path, dsn: str) -> None:
    done = cli.run("up", source, "--once")
    assert done.code == 0, done
    assert dsn in done.err and done.out == ""
    assert sql(dsn, "SELECT id, v FROM t ORDER BY id") == [(1, "a"), (2, "b"), (3, "c")]


def test_once_goes_on_where_the_last_one_ended(cli: CommandLine, source: Path, writer: Writer, dsn: str) -> None:
    cli.run("up", source, "--once")
    writer.run("DELETE FROM t WHERE id = 1", "INSERT INTO t VALUES (9, 'later')")
    done = cli.run("up", source, "--once")
    assert done.code == 0, done
    assert "copying the whole file" not in done.err
    assert sql(dsn, "SELECT id FROM t ORDER BY id") == [(2,), (3,), (9,)]


def test_once_on_several_sources(cli: CommandLine, folder: Path, dsn: str) -> None:
    paths = [make_store(folder / f"s{n}.db", f"t{n}", f"value {n}") for n in range(3)]
    done = cli.run("up", *paths, "--once")
    assert done.code == 0, done
    for n in range(3):
        assert sql(dsn, f"SELECT v FROM t{n}") == [(f"value {n}",)]
    assert cli.run("parity").code == 0, "parity knows the sources from the state directory"


def test_agents_and_profiles(cli: CommandLine, folder: Path, dsn: str) -> None:
    """A store and a dashboard of one agent; the default one; and what is refused."""
    create_store(folder / "memory.db").close()
    create_dashboard(folder / "dashboard.db").close()
    paths = folder / "memory.db", folder / "dashboard.db"
    done = cli.run("up", *paths, "--agent", "main", "--once")
    assert done.code == 0, done
    assert sql(dsn, "SELECT agent_id FROM agents") == [("main",)]
    assert cli.run("parity").code == 0
    assert '"agent": "main"' in cli.run("status", "--json").out and "memory.db: agent: main" in cli.run("status").out
    refused = cli.run("up", paths[0], "--agent", "other", "--once")
    assert refused.code == 2 and "mirrored for the agent main, not for other" in refused.err
    assert cli.run("up", paths[0], "--agent", "", "--once").code == 2
    assert cli.run("up", paths[0], "--profile", "none", "--once").code == 2
    plain = cli.run("up", paths[0], "--profile", "generic", "--schema", "plain", "--once", "--state-dir", folder / "p")
    assert plain.code == 0, plain
    assert sql(dsn, "SELECT value FROM plain.memu_meta") == [("11",)]


def test_schema_keeps_tables_of_the_same_name_apart(cli: CommandLine, folder: Path, dsn: str) -> None:
    for name in ("one", "two"):
        path = make_store(folder / f"{name}.db", value=name)
        assert cli.run("up", path, "--once", "--schema", name).code == 0
        assert cli.run("parity", path, "--schema", name).code == 0
        assert sql(dsn, f"SELECT v FROM {name}.t") == [(name,)]


def test_two_sources_with_the_same_table_in_one_schema(cli: CommandLine, folder: Path, dsn: str) -> None:
    assert cli.run("up", make_store(folder / "one.db", value="one"), "--once").code == 0
    done = cli.run("up", make_store(folder / "two.db", value="two"), "--once")
    assert done.code == 2
    assert "one.db" in done.err and "--schema" in done.err.splitlines()[-1]
    assert sql(dsn, "SELECT v FROM t") == [("one",)]
    assert "refused: t: " in cli.run("status", folder / "two.db").out


def test_two_sources_with_the_same_table_at_once(cli: CommandLine, folder: Path, dsn: str) -> None:
    """One of them has it; the other says why not, and has its other tables."""
    one, two = make_store(folder / "one.db"), make(folder / "two.db", "CREATE TABLE t(v)", "CREATE TABLE u(v)")
    done = cli.run("up", one, two, "--once")
    assert done.code == 2 and "--schema" in done.err.splitlines()[-1]
    assert sql(dsn, "SELECT to_regclass('u') IS NOT NULL") == [(True,)]


def _empty(path: Path) -> None:
    path.touch()


def _text(path: Path) -> None:
    path.write_text("This is a letter and no database.\n" * 100)


def _directory(path: Path) -> None:
    path.mkdir()


def _nothing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize(
    ("put", "told"),
    [
        (_nothing, "no such file"),
        (_directory, "a directory"),
        (_empty, "it is empty"),
        (_text, "no SQLite database"),
    ],
)
def test_what_cannot_be_mirrored_is_told_in_one_line(
    cli: CommandLine, folder: Path, dsn: str, put: Callable[[Path], None], told: str
) -> None:
    path = folder / "a file.db"
    put(path)
    done = cli.run("up", path, "--once")
    assert told in done.error and str(path) in done.error
    assert sql(dsn, "SELECT to_regnamespace('mirror')") == [(None,)], "Postgres was changed"


def test_one_bad_source_does_not_hold_up_the_others(cli: CommandLine, folder: Path, dsn: str) -> None:
    good = make_store(folder / "good.db")
    bad = folder / "bad.db"
    _text(bad)
    done = cli.run("up", bad, good, "--once")
    assert done.code == 2 and "bad.db" in done.err.splitlines()[-1]
    assert sql(dsn, "SELECT v FROM t") == [("a",)]


def test_no_source_is_named_anywhere(cli: CommandLine) -> None:
    assert "mirror up FILE.db" in cli.run("up", "--once").error


def test_unreachable_postgres_ends_once(cli: CommandLine, source: Path) -> None:
    done = cli.run("up", source, "--once", "--postgres", UNREACHABLE)
    assert done.code == 2, done
    assert "Traceback" not in done.err
    assert " ERROR   mirror a source (" in done.err.splitlines()[-1], done.err
    assert "check that Postgres is up" in done.err.splitlines()[-1]


def test_unreachable_postgres_is_waited_for_otherwise(cli: CommandLine, source: Path) -> None:
    with cli.up(source, "--postgres", UNREACHABLE, wait=False) as process:
        with wait_for_mirror(cli.source_folder(source), LIMIT, lambda: process.poll() is None) as client:
            until(client, lambda status: status.phase == "waiting")
        report = json.loads(cli.run("status", source, "--json").out)["sources"][0]
        assert report["phase"] == "waiting" and "Postgres" in report["last_error"]
        done = cli.run("wait", source, "--timeout", 0.2)
        assert done.code == 1, done
        assert stop(process, seconds=STOP_SECONDS) == 0


def test_a_dsn_that_is_none(cli: CommandLine, source: Path) -> None:
    cli.run("up", source, "--once")
    for command in (("up", source, "--once"), ("parity", source)):
        done = cli.run(*command, "--postgres", "this is no DSN")
        assert done.code == 2 and "Traceback" not in done.err, done
        assert "libpq cannot read the connection string" in done.error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_mirror_cleanly(
    cli: CommandLine, source: Path, writer: Writer, number: signal.Signals, dsn: str
) -> None:
    with cli.up(source) as process:
        writer.run("INSERT INTO t VALUES (10, 'live')")
        assert cli.run("wait", source).code == 0
        assert stop(process, number, STOP_SECONDS) == 0
    assert sql(dsn, "SELECT v FROM t WHERE id = 10") == [("live",)]
    assert processes_about(cli.folder, writer.pid) == [], "the capture process has ended too"


def test_a_signal_while_a_snapshot_runs(cli: CommandLine, writer: Writer, database: Path, dsn: str) -> None:
    writer.run(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000)"
        " INSERT INTO t SELECT i, printf('%.100c', 'x') FROM n",
    )
    with cli.up(database, wait=False) as process:
        with wait_for_mirror(cli.source_folder(database), LIMIT) as client:
            until(client, lambda status: status.progress is not None and status.progress.what == "t")
        assert stop(process, seconds=STOP_SECONDS) == 0
    assert sql(dsn, "SELECT to_regclass('public.t')") == [(None,)], "it was cut short"
    assert cli.run("up", database, "--once").code == 0
    assert cli.run("parity", database).code == 0


def test_a_second_mirror_is_refused(cli: CommandLine, source: Path, writer: Writer) -> None:
    with cli.up(source) as process:
        assert f"pid {process.pid}" in cli.run("up", source).error
        done = cli.run("up", source, "--state-dir", cli.folder / "another")
        assert done.code == 2, done
        assert "another mirror" in done.err.splitlines()[-1]
        writer.run("INSERT INTO t VALUES (10, 'live')")
        assert cli.run("parity", source).code == 0, "the first goes on"


# -- wait ----------------------------------------------------------------------------------------------


def test_wait(cli: CommandLine, source: Path, writer: Writer, dsn: str) -> None:
    with cli.up(source):
        writer.run("INSERT INTO t VALUES (10, 'live')")
        done = cli.run("wait", source)
        assert (done.code, done.out, done.err) == (0, "", "")
        assert sql(dsn, "SELECT v FROM t WHERE id = 10") == [("live",)]
        assert cli.run("wait").code == 0, "the sources come from the state directory"


def test_wait_without_a_mirror_gives_up_in_time(cli: CommandLine, source: Path) -> None:
    done = cli.run("wait", source, "--timeout", "0.2")
    assert (done.code, done.out) == (3, "")
    assert done.err == (
        f"mirror: reach the mirror ({source.resolve()}): no mirror of this source is running"
        f" -- start it with `mirror up {source.resolve()}`\n"
    )


def test_wait_beside_a_mirror_that_ends_is_an_error(cli: CommandLine, source: Path) -> None:
    """The time limit is not over: whether everything is in Postgres cannot be said."""
    with cli.up(source) as process:
        os.kill(process.pid, signal.SIGSTOP)
        asking = cli.start("wait", source, "--timeout", 300)
        try:
            waiting.until(
                lambda: psutil.Process(asking.pid).net_connections("unix"), alive=lambda: asking.poll() is None
            )
        finally:
            process.kill()
        out, err = asking.communicate(timeout=60)
    assert (asking.returncode, out) == (3, ""), err
    assert len(err.splitlines()) == 1 and f"`mirror up {source.resolve()}`" in err


def test_wait_for_a_mirror_that_only_just_starts(cli: CommandLine, source: Path, dsn: str) -> None:
    with cli.up(source, wait=False):
        assert cli.run("wait", source, "--timeout", 60).code == 0
        assert sql(dsn, "SELECT count(*) FROM t") == [(3,)]


@pytest.mark.parametrize("command", ["wait", "status", "parity"])
def test_a_source_that_is_not_there(cli: CommandLine, folder: Path, command: str) -> None:
    assert "no such file" in cli.run(command, folder / "none.db").error
    assert "no source is named" in cli.run(command).error


def test_up_without_names_goes_on(cli: CommandLine, source: Path, dsn: str) -> None:
    """With all that was mirrored with the state directory, each in its schema; nothing was: that is said."""
    assert "no source is named" in cli.run("up").error
    with Writer(source.with_name("other.db")) as other:
        other.run("PRAGMA journal_mode=WAL", "CREATE TABLE o(id INTEGER PRIMARY KEY)")
        assert cli.run("up", source, "--once").code == 0
        assert cli.run("up", source.with_name("other.db"), "--once", "--schema", "beside").code == 0
        other.run("INSERT INTO o VALUES (1)")
        done = cli.run("up", "--once")
        assert done.code == 0 and sql(dsn, "SELECT count(*) FROM beside.o") == [(1,)], done
        assert cli.run("parity").code == 0


# -- status --------------------------------------------------------------------------------------------


def status_of(cli: CommandLine, *arguments: object) -> list[dict[str, Any]]:
    done = cli.run("status", "--json", *arguments)
    assert done.code == 0 and done.err == "", done
    report = json.loads(done.out)
    assert report["version"] == 1
    sources: list[dict[str, Any]] = report["sources"]
    return sources


def test_status_of_a_running_and_a_stopped_mirror(cli: CommandLine, source: Path) -> None:
    with cli.up(source):
        (running,) = status_of(cli, source)
        assert running["phase"] == "following" and running["source"] == str(source.resolve())
        assert running["applied"] == running["captured"]
        assert running["next_steps"] == [f"mirror parity {source.resolve()}  # never compared"]
        shown = cli.run("status").out
        assert source.name in shown and "following" in shown and running["applied"] in shown
    (stopped,) = status_of(cli)
    assert stopped["phase"] == "stopped" and stopped["applied"] == running["applied"]
    assert "mirror up" in stopped["next_steps"][0] and stopped["killed"] is None
    assert re.search(r"stopped \d+ s ago; nothing written since\n", cli.run("status").out)


def test_status_of_a_source_that_was_never_mirrored(cli: CommandLine, source: Path) -> None:
    (report,) = status_of(cli, source)
    assert report["phase"] == "stopped" and report["applied"] is None
    assert "mirror up" in report["next_steps"][0]


def test_status_of_a_source_that_was_deleted(cli: CommandLine, folder: Path) -> None:
    path = make_store(folder / "gone.db")
    cli.run("up", path, "--once")
    path.unlink()
    assert [report["source"] for report in status_of(cli, path)] == [str(path.resolve())]


# -- parity --------------------------------------------------------------------------------------------


def parity_of(cli: CommandLine, *arguments: object) -> tuple[int, list[dict[str, Any]]]:
    done = cli.run("parity", "--json", *arguments)
    assert "Traceback" not in done.err, done
    report = json.loads(done.out)
    assert report["version"] == 2
    return done.code, report["reports"]


def test_parity_is_remembered(cli: CommandLine, source: Path, dsn: str) -> None:
    """In Postgres each run; in `status` how good the last whole one is as a proof."""

    def proof() -> str:
        (report,) = status_of(cli, source)
        return str(report["parity"]["proof"])

    assert cli.run("up", source, "--once").code == 0
    assert proof() == "never"
    assert cli.run("parity", source, "--table", "t").code == 0
    assert "of a sample" in cli.run("parity", source, "--sample", "2").out
    assert cli.run("parity", source, "--sample", "2", "--repair").code == 2
    assert proof() == "never", "a part proves nothing of the whole"
    assert cli.run("parity", source).code == 0
    assert proof() == "verified"
    assert re.search(r"checked \d+ s ago: equal, 3 rows\n", cli.run("status", source).out)
    (kept,) = (cli.folder / "argent" / "mirror" / "sources").glob("*/parity.json")
    last = json.loads(kept.read_text())
    kept.write_text(json.dumps(last | {"finished_at": last["finished_at"] - 25 * 3600}))
    assert proof() == "stale"
    assert cli.run("parity", source).code == 0
    sql(dsn, "DELETE FROM t WHERE id = 1 RETURNING 1")
    assert cli.run("parity", source, "--table", "t").code == 1
    assert proof() == "different", "a part cannot prove the whole, but disprove it"
    steps = [step for step in status_of(cli, source)[0]["next_steps"] if "parity" in step]
    assert steps == [
        f"mirror parity {source}  # shows what differs",
        f"mirror parity {source} --repair --replace-rows --dry-run  # then: what would make Postgres equal",
    ]
    query = "SELECT verdict, whole, rows, missing, extra, report ->> 'verdict' FROM mirror.parity_runs ORDER BY run_id"
    runs = sql(dsn, query)
    assert runs.pop(1)[1:3] in ((False, 1), (False, 2))
    assert runs == [
        ("equal", False, 3, 0, 0, "equal"),
        ("equal", True, 3, 0, 0, "equal"),
        ("equal", True, 3, 0, 0, "equal"),
        ("different", False, 3, 1, 0, "different"),
    ]
    kept.write_text("{")
    assert proof() == "never"


@pytest.mark.parametrize("running", [True, False])
def test_parity_finds_what_was_damaged(cli: CommandLine, source: Path, dsn: str, running: bool) -> None:
    def check() -> None:
        code, (report,) = parity_of(cli, source)
        assert (code, report["verdict"], report["rows"]) == (0, "equal", 3)
        sql(dsn, "UPDATE t SET v = 'damaged' WHERE id = 2")
        code, (report,) = parity_of(cli, source)
        assert (code, report["verdict"]) == (1, "different")
        (table,) = report["tables"]
        (example,) = table["examples"]
        assert (table["different"], example["column"]) == (1, "v") and "damaged" in example["target_value"]
        shown = cli.run("parity", source)
        assert shown.code == 1 and "different" in shown.out

    if running:
        with cli.up(source):
            check()
    else:
        cli.run("up", source, "--once")
        check()


def test_parity_without_a_running_mirror_first_catches_up(
    cli: CommandLine, source: Path, writer: Writer, dsn: str
) -> None:
    cli.run("up", source, "--once")
    writer.run("INSERT INTO t VALUES (10, 'later')")
    code, (report,) = parity_of(cli, source)
    assert (code, report["rows"]) == (0, 4)
    assert sql(dsn, "SELECT v FROM t WHERE id = 10") == [("later",)]


def test_parity_of_one_table(cli: CommandLine, source: Path, writer: Writer, dsn: str) -> None:
    writer.run("CREATE TABLE u(id INTEGER PRIMARY KEY)")
    cli.run("up", source, "--once")
    sql(dsn, "DELETE FROM t WHERE id = 1")
    code, (report,) = parity_of(cli, source, "--table", "u")
    assert code == 0 and [table["table"] for table in report["tables"]] == ["u"]
    code, (report,) = parity_of(cli, source, "--table", "no such table")
    assert (code, report["verdict"]) == (2, "not_checked")


def test_parity_of_a_source_that_was_never_mirrored(cli: CommandLine, source: Path, dsn: str) -> None:
    done = cli.run("parity", source)
    assert "never been mirrored" in done.error and done.out == ""
    code, (report,) = parity_of(cli, source)
    assert (code, report["verdict"]) == (2, "not_checked") and "never been mirrored" in report["reason"]
    assert sql(dsn, "SELECT to_regclass('t')") == [(None,)], "parity copies nothing"


@pytest.mark.parametrize("running", [True, False])
def test_parity_with_unreachable_postgres(cli: CommandLine, source: Path, running: bool) -> None:
    def check() -> None:
        assert "connect to Postgres" in cli.run("parity", source, "--postgres", UNREACHABLE).error

    if running:
        with cli.up(source):
            check()
    else:
        cli.run("up", source, "--once")
        check()


def test_parity_of_another_postgres_repairs_nothing(cli: CommandLine, source: Path, other_dsn: str) -> None:
    """A server that was never mirrored into: an error, not a copy made on the way."""
    cli.run("up", source, "--once")
    done = cli.run("parity", source, "--postgres", other_dsn)
    assert done.code == 2 and "Traceback" not in done.err
    assert done.err.splitlines()[-1].startswith("mirror: ")
    assert sql(other_dsn, "SELECT to_regclass('t')") == [(None,)]


def test_a_difference_outweighs_a_source_that_could_not_be_checked(
    cli: CommandLine, folder: Path, source: Path, dsn: str
) -> None:
    cli.run("up", source, "--once")
    sql(dsn, "DELETE FROM t WHERE id = 1")
    code, reports = parity_of(cli, make_store(folder / "never.db"), source)
    assert code == 1
    assert [report["verdict"] for report in reports] == ["not_checked", "different"]


# -- settings ------------------------------------------------------------------------------------------


def test_sources_and_postgres_from_mirror_json(cli: CommandLine, folder: Path, dsn: str, source: Path) -> None:
    """Sources and state directory relative to the file, Postgres from beside it."""
    second = make_store(folder / "second.db", "u")
    (folder / "conf").mkdir()
    config = folder / "conf" / "mirror.json"
    config.write_text(f"{{sources: ['../{second.name}', {{path: '{source}'}}], stateDir: 'kept'}}  // by hand")
    (folder / "argent").mkdir()
    (folder / "argent" / "argent.json").write_text(json.dumps({"storage": {"postgres": {"connectionString": dsn}}}))
    cli.dsn = None
    done = cli.run("up", "--once", "--config", config)
    assert done.code == 0, done
    assert sql(dsn, "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM u)") == [(3, 1)]
    assert (folder / "conf" / "kept" / "sources").is_dir() and not cli.state_dir.exists()
    status = cli.run("status", "--json", env={"MIRROR_CONFIG": str(config)})
    assert [report["source"] for report in json.loads(status.out)["sources"]] == [
        str(path.resolve()) for path in (second, source)
    ]


def test_older_settings_in_argent_json(cli: CommandLine, folder: Path, dsn: str, source: Path) -> None:
    second = make_store(folder / "second.db", "u")
    (folder / "argent").mkdir()
    state = folder / "kept"
    (folder / "argent" / "argent.json").write_text(
        json.dumps(
            {
                "storage": {
                    "postgres": {"connectionString": dsn},
                    "mirror": {"sources": [{"path": str(source)}, str(second)], "stateDir": str(state)},
                }
            }
        )
    )
    cli.dsn = None
    done = cli.run("up", "--once")
    assert done.code == 0, done
    assert sql(dsn, "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM u)") == [(3, 1)]
    assert sorted(report["source"] for report in status_of(cli)) == sorted(
        str(path.resolve()) for path in (source, second)
    )
    assert (state / "sources").is_dir() and not cli.state_dir.exists()


def test_precedence_of_the_places_that_name_postgres(cli: CommandLine, source: Path, dsn: str, other_dsn: str) -> None:
    cli.dsn = None
    both = {"ARGENT_PG_URL": dsn, "PG_URL": other_dsn}
    assert cli.run("up", source, "--once", env=both).code == 0
    assert sql(dsn, "SELECT count(*) FROM t") == [(3,)]
    assert sql(other_dsn, "SELECT to_regclass('t')") == [(None,)]
    assert cli.run("up", source, "--once", env={"PG_URL": other_dsn}).code == 0
    assert sql(other_dsn, "SELECT count(*) FROM t") == [(3,)]


def test_a_damaged_configuration(cli: CommandLine, source: Path, folder: Path) -> None:
    config = folder / "argent.json"
    config.write_text("{")
    assert str(config) in cli.run("up", source, "--config", config).error
    assert "no such file" in cli.run("status", source, "--config", folder / "none.json").error


def test_debug_shows_the_traceback(cli: CommandLine, source: Path) -> None:
    done = cli.run("parity", source, "--debug")
    assert done.code == 2, done
    assert "Traceback" in done.err and "StateError" in done.err


def test_embedded_postgres_by_default(cli: CommandLine, source: Path, writer: Writer) -> None:
    cli.dsn = None
    done = cli.run("up", source, "--once")
    assert done.code == 0, done
    dsn = next(line for line in done.err.splitlines() if " INFO    Postgres: " in line)
    assert str(cli.state_dir / "postgres") in dsn
    assert f"The embedded Postgres stopped, too: its data is in {cli.state_dir / 'postgres'}; `mirror psql" in done.err
    assert cli.run("parity", source).code == 0
    assert processes_about(cli.folder, writer.pid) == [], "nothing is left running"
    with cli.up(source) as process:
        assert cli.run("parity", source).code == 0
        assert [line for line in processes_about(cli.folder, writer.pid) if "postgres" in line]
        assert stop(process, seconds=LIMIT) == 0
    assert processes_about(cli.folder, writer.pid) == []


# -- what is printed -----------------------------------------------------------------------------------


def on_a_terminal(cli: CommandLine, *arguments: object) -> tuple[int, str]:
    """Run a command on a terminal; exit code and all that it wrote."""
    master, slave = pty.openpty()
    process = cli.start(
        *arguments, stdin=slave, stdout=slave, stderr=slave, env={"TERM": "xterm-256color", "COLUMNS": "100"}
    )
    os.close(slave)
    written = b""
    try:
        while block := os.read(master, 65536):
            written += block
    except OSError:
        pass  # Linux's way of saying that nobody has the terminal open any more
    os.close(master)
    return process.wait(LIMIT), written.decode()


def test_progress_on_a_terminal(cli: CommandLine, source: Path, writer: Writer) -> None:
    writer.run(
        "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)"
        " INSERT INTO t SELECT i, printf('%.50c', 'x') FROM n"
    )
    code, written = on_a_terminal(cli, "up", source, "--once")
    assert code == 0
    assert "\x1b[" in written
    assert re.search(r"✓ t  299,904 rows  [\d.]+ (ms|s)\b", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written))


def test_neither_escape_codes_nor_bars_elsewhere(cli: CommandLine, source: Path) -> None:
    for command in (("up", source, "--once"), ("parity", source), ("status", source), ("wait", "--timeout", 0)):
        done = cli.run(*command)
        assert "\x1b" not in done.out + done.err and "✓" not in done.out + done.err, done


def test_an_unknown_option_is_a_usage_error(cli: CommandLine) -> None:
    done = cli.run("up", "--no-such-option")
    assert done.code == 2 and "--no-such-option" in done.err and "Traceback" not in done.err


def test_what_is_private_stays_so(cli: CommandLine, source: Path, dsn: str) -> None:
    """Nobody else reads the copy of the source, and no password goes to a log."""
    done = cli.run("up", source, "--once", "--postgres", f"{dsn} password=s3cret")
    assert done.code == 0 and "s3cret" not in done.out + done.err
    for folder in (cli.state_dir / "sources").iterdir():
        assert folder.stat().st_mode & 0o077 == 0


def test_the_embedded_postgres_in_a_path_with_a_space(cli: CommandLine, source: Path, folder: Path) -> None:
    done = CommandLine(folder, None).run("up", source, "--once", "--state-dir", folder / "my state")
    assert done.code == 2 and "space" in done.error and "--state-dir" in done.error


def test_rejects_are_listed_and_tried_again(cli: CommandLine, writer: Writer, database: Path, dsn: str) -> None:
    writer.run(
        "CREATE TABLE t(id INTEGER, v TEXT PRIMARY KEY)", "INSERT INTO t VALUES (1, CAST(x'61ff5b625d' AS TEXT))"
    )
    assert cli.run("up", database, "--once").code == 0
    shown = cli.run("rejects", "list", database)
    assert shown.code == 0 and "source.db" in shown.out
    [reject] = json.loads(cli.run("rejects", "list", database, "--json").out)["rejects"]
    assert "not valid" in reject["reason"] and reject["row"] == {"id": 1, "v": {"text": "Yf9bYl0="}}
    again = cli.run("rejects", "retry", database)
    assert again.code == 1 and "1 row that Postgres cannot hold" in again.out
    assert f"Next: mirror rejects list {database}" in again.out
    assert reject["find"] == """SELECT * FROM "t" WHERE "v" = CAST(x'61ff5b625d' AS TEXT);"""
    assert writer.run(reject["find"].replace("*", "id")) == [[1]]
    assert f"  mend: {reject['statement']}\n" in shown.out
    writer.run(reject["statement"])
    assert writer.run("SELECT v FROM t") == [["a\ufffd[b]"]]
    writer.run("UPDATE t SET v = 'repaired'")
    assert cli.run("rejects", "retry", database).code == 0
    assert sql(dsn, "SELECT v FROM t") == [("repaired",)]
    assert "no rejects" in cli.run("rejects", "list", database).out
    writer.run("UPDATE t SET id = 'one'")
    assert cli.run("up", database, "--once").code == 0
    writer.run("UPDATE t SET id = 1")
    narrow = cli.run("rejects", "retry", database)
    assert (narrow.code, narrow.out) == (0, "source.db: t.id has its own type again, every row is there\n")


def test_a_rejected_row_with_a_long_key_is_found(cli: CommandLine, writer: Writer, database: Path) -> None:
    writer.run("CREATE TABLE t(k TEXT PRIMARY KEY, v) WITHOUT ROWID")
    for at in range(3):
        writer.run(("INSERT INTO t VALUES (?, ?)", ("x" * 4000 + str(at) + "x" * 3999, at)))
    assert cli.run("up", database, "--once").code == 0
    found = json.loads(cli.run("rejects", "list", database, "--json").out)["rejects"]
    assert len(found) == 3 and all(len(each["find"]) < 300 for each in found)
    assert [writer.run(each["find"].replace("*", "v")) for each in found] == [[[each["row"]["v"]]] for each in found]
