"""The schema belongs to the source: two sources with tables of one name, at once or one after the other."""

from __future__ import annotations

import json
import shlex
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest

from mirror.core.errors import SinkError
from mirror.core.positions import Lsn, Position, Salts
from mirror.core.rows import RowChange
from mirror.core.source_settings import remembered_schema
from mirror.core.tables import Column, Table
from mirror.postgres import target
from mirror.postgres.migrate import statement
from mirror.postgres.profiles import PROFILES
from mirror.postgres.sessions import connect
from mirror.postgres.sink import Sink
from tests.support.commands import CommandLine, Done
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import until

T = Table("t", 2, (Column("id", "INTEGER", "INTEGER"),), ("id",), None, False, (0,))
SECONDS = 60.0
#: Somebody in this database waits for a lock of a kind.
WAITING = (
    "SELECT 1 FROM pg_stat_activity JOIN pg_locks USING (pid)"
    " WHERE datname = current_database() AND NOT granted AND locktype LIKE '{}'"
)


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


def sql(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def make(path: Path, *statements: str) -> Path:
    with Writer(path) as writer:
        writer.run("PRAGMA journal_mode=WAL", *statements)
    return path


@pytest.fixture
def two(folder: Path) -> tuple[Path, Path]:
    """Two files with a table of one name, and one that each has alone."""
    return tuple(
        make(
            folder / f"{name}.db",
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)",
            f"INSERT INTO t(v) VALUES ('{name}')",
            f"CREATE TABLE of_{name}(id INTEGER PRIMARY KEY)",
        )
        for name in ("one", "two")
    )  # type: ignore[return-value]


def pasted(cli: CommandLine, step: str) -> Done:
    """Run a next step, as somebody would who copies it."""
    program, *arguments = shlex.split(step, comments=True)
    assert program == "mirror"
    return cli.run(*arguments)


def status_of(cli: CommandLine, source: Path, *arguments: object) -> dict[str, Any]:
    (report,) = json.loads(cli.run("status", source, "--json", *arguments).out)["sources"]
    return dict(report)


@pytest.mark.slow
def test_two_files_with_a_table_of_one_name(cli: CommandLine, two: tuple[Path, Path], folder: Path, dsn: str) -> None:
    """One has it; the other is told whose it is, and the step that it is given works as it stands."""
    state = ("--state-dir", folder / "my state")
    done = cli.run("up", *two, "--once", *state)
    assert done.code == 2, done
    assert "pg_type" not in done.err and "duplicate" not in done.err
    [(owner,)] = sql(dsn, "SELECT v FROM public.t")
    first, second = sorted(two, key=lambda path: path.stem != owner)
    line = done.err.splitlines()[-1].partition(" ERROR   ")[2]
    assert line.startswith(f"{second.name}: Postgres refuses t: public.t ") and str(first) in line
    step = line.partition(" -- ")[2].strip("`")
    assert step == f"mirror up {second} --state-dir '{folder / 'my state'}' --schema {second.stem}"

    # Everybody gives this step; nobody says --repair, which would not help.
    (told,) = status_of(cli, second, *state)["refusals"]
    assert told["table"] == "t" and told["own_schema"]
    assert f"{step}  # names that are taken: t" in status_of(cli, second, *state)["next_steps"]
    compared = cli.run("parity", second, "--json", *state)
    (report,) = json.loads(compared.out)["reports"]
    assert compared.code == 1 and report["next_steps"] == [f"{step}  # names that are taken: t"]
    steps = status_of(cli, second, *state)["next_steps"]
    assert f"{step}  # names that are taken: t" in steps and not [each for each in steps if "--repair" in each]
    shown = cli.run("status", second, *state).out
    assert f"{second.name}: next: {step}  # names" in shown, "it is one line"

    assert pasted(cli, f"{step} --once").code == 0
    assert sql(dsn, f"SELECT v FROM {second.stem}.t") == [(second.stem,)]
    assert sql(dsn, "SELECT v FROM public.t") == [(owner,)]

    # From now on the source has its own schema, whoever asks, and the other one its.
    assert cli.run("parity", *state).code == 0
    assert cli.run("up", *two, "--once", *state).code == 0
    assert status_of(cli, second, *state)["schema"] == second.stem
    assert not [each for each in status_of(cli, second, *state)["next_steps"] if "--schema" in each]
    assert cli.run("rejects", "retry", second, *state).code == 0
    plan = json.loads(cli.run("cutover", "plan", second, "--json", *state).out)["sources"][0]
    assert "Postgres" not in {rail["name"] for rail in plan["rails"]}
    doctor = cli.run("doctor", *two, "--json", *state)
    assert doctor.code == 0, doctor.out


@pytest.mark.slow
def test_the_reason_is_the_same_each_time(cli: CommandLine, two: tuple[Path, Path]) -> None:
    """Whichever comes first, it keeps what it has."""
    said = {cli.run("up", *two, "--once").err.splitlines()[-1] for _ in range(3)}
    assert len({line.partition(": public.t ")[0] for line in said}) == 1


@pytest.mark.slow
def test_doctor_tells_it_before(cli: CommandLine, two: tuple[Path, Path]) -> None:
    one, other = two
    reports = json.loads(cli.run("doctor", *two, "--json").out)["reports"]
    assert reports[0]["healthy"] and not reports[1]["healthy"]
    step = f"mirror up {other} --schema two"
    assert [finding["next_step"] for finding in reports[1]["findings"] if finding["level"] == "problem"] == [step]
    assert cli.run("up", one, "--once").code == 0
    (report,) = json.loads(cli.run("doctor", other, "--json").out)["reports"]
    (problem,) = [finding for finding in report["findings"] if finding["level"] == "problem"]
    assert problem["detail"] == f"public.t mirrors another source, {one}" and problem["next_step"] == step
    assert pasted(cli, f"{step} --once").code == 0
    assert cli.run("doctor", other).code == 0, "it is looked at where it is"


def test_from_the_configuration(cli: CommandLine, two: tuple[Path, Path], folder: Path, dsn: str) -> None:
    """An entry names its schema; what is named on the command line goes before."""
    (folder / "argent").mkdir()
    entries = [str(two[0]), {"path": str(two[1]), "schema": "listed"}]
    (folder / "argent" / "argent.json").write_text(json.dumps({"storage": {"mirror": {"sources": entries}}}))
    assert cli.run("up", "--once").code == 0
    assert sql(dsn, "SELECT v FROM listed.t") == [("two",)]
    assert cli.run("parity").code == 0
    assert cli.run("up", two[1], "--once", "--schema", "named").code == 0
    assert sql(dsn, "SELECT v FROM named.t") == [("two",)]
    assert remembered_schema(cli.source_folder(two[1])) == "named"


@pytest.mark.slow
def test_another_schema_is_told_as_such(cli: CommandLine, two: tuple[Path, Path], dsn: str) -> None:
    """Not as a replica, and not as a source that was never mirrored; and nothing is made there on the way."""
    source = two[0]
    for schema in ("first", "second"):
        assert cli.run("up", source, "--once", "--schema", schema).code == 0
    done = cli.run("parity", source, "--schema", "first")
    assert done.code == 2 and "it mirrors into the schema second, not into first" in done.error
    with cli.up(source):
        done = cli.run("parity", source, "--schema", "first")
        assert done.code == 2 and "--schema second" in done.error and "replica" not in done.error
        assert cli.run("parity", source, "--schema", "typo").code == 2
        assert cli.run("parity", source).code == 0
    assert cli.run("rejects", "retry", source, "--schema", "typo").code == 2
    assert sql(dsn, "SELECT to_regnamespace('typo')") == [(None,)]


def test_parity_finds_the_schema_out(
    make_mirror: Callable[..., MirrorProcess], two: tuple[Path, Path], folder: Path
) -> None:
    """Where only the position tells: another mirror of the same file once wrote into the schema that is asked for."""
    before = make_mirror(two[0], state="before", schema="first")
    before.start()
    before.wait_applied()
    before.stop()
    with Writer(two[0]) as writer:
        writer.run("INSERT INTO t(v) VALUES ('more')")
        mirror = make_mirror(two[0], schema="second")
        mirror.start()
        mirror.check()
        mirror.schema = "first"
        report = mirror.parity()
        assert report.verdict == "not checked"
        assert "--schema second" in report.reason and "replica" not in report.reason
        mirror.schema = "third"
        assert "it is mirrored into first, second" in mirror.parity().reason
        mirror.schema = "second"


# -- at the same moment ------------------------------------------------------------------------------


@pytest.fixture
def empty(folder: Path) -> Path:
    connection = apsw.Connection(str(folder / "empty.db"))
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)").fetchall()
    connection.close()
    return folder / "empty.db"


class Loading:
    """A load of the table ``t`` in a thread, which waits right before it commits."""

    def __init__(self, sink: Sink, database: Path, agent: str | None = None, *, fail: bool = False) -> None:
        self.made, self.go = threading.Event(), threading.Event()
        self.error: BaseException | None = None
        self._sink, self._database, self._agent, self._fail = sink, database, agent, fail
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            load(self._sink, self._database, self._agent, self._wait)
        except BaseException as error:
            self.error = error

    def _wait(self) -> None:
        self.made.set()
        assert self.go.wait(SECONDS)
        if self._fail:
            raise ZeroDivisionError

    def finish(self) -> None:
        self.go.set()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()


def load(
    sink: Sink, database: Path, agent: str | None = None, before_commit: Callable[[], None] = lambda: None
) -> None:
    position = Position(Lsn(1, 1), Salts(7, 8), 1_700_000_000.25)
    sink.load(database, [T], rows, position, str(uuid.uuid4()), before_commit=before_commit, agent=agent)


def rows(table: Table) -> Iterator[RowChange]:
    return iter([RowChange(1, None, (1,))])


@pytest.fixture
def sinks(dsn: str) -> Iterator[tuple[Sink, Sink]]:
    with Sink.open(dsn, "/a.db", "public", PROFILES) as one, Sink.open(dsn, "/b.db", "public", PROFILES) as other:
        yield one, other


@pytest.mark.parametrize("fail", [False, True])
def test_while_the_first_makes_it_the_second_is_told(
    sinks: tuple[Sink, Sink], empty: Path, dsn: str, fail: bool
) -> None:
    """At once, and by whom: it does not wait for a copy that may take hours. If that fails, the second has the name."""
    one, other = sinks
    first = Loading(one, empty, fail=fail)
    assert first.made.wait(SECONDS)
    load(other, empty)
    refusal = other.refusals["t"]
    assert refusal.reason == "public.t is being created at this moment for a table of another source, /a.db"
    assert refusal.own_schema and "--schema" in refusal.next_step
    first.finish()
    assert isinstance(first.error, ZeroDivisionError if fail else type(None))
    assert other.reload(T, rows) == fail
    if not fail:
        assert other.refusals["t"].reason == "public.t mirrors another source, /a.db"
    assert sql(dsn, "SELECT id FROM t") == [(1,)]


def test_whoever_makes_it_may_end_between_two_questions(
    sinks: tuple[Sink, Sink], dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nobody is making it at this moment: the name is asked for again."""
    with psycopg.connect(dsn) as other, connect(dsn, name="test", raw=True) as conn:
        other.execute("SELECT pg_advisory_xact_lock(mirror.name_key('public', 't'))")

        def ending(name: str) -> Any:
            if name == "name_holder":
                other.commit()
            return statement(name)

        monkeypatch.setattr(target, "statement", ending)
        with conn.transaction():
            target.require_free(conn, 1, "public", "t")


def test_agents_share_what_both_make_at_once(sinks: tuple[Sink, Sink], empty: Path, dsn: str) -> None:
    one, other = sinks
    first = Loading(one, empty, "ada")
    assert first.made.wait(SECONDS)
    second = Loading(other, empty, "bob")
    until(lambda: sql(dsn, WAITING.format("advisory")), alive=lambda: second.error is None)
    first.finish()
    second.finish()
    assert (first.error, second.error, other.refusals) == (None, None, {})
    assert sql(dsn, "SELECT agent_id FROM t ORDER BY 1") == [("ada",), ("bob",)]


def test_a_table_that_somebody_else_makes_at_the_same_moment(sinks: tuple[Sink, Sink], empty: Path, dsn: str) -> None:
    """Tried again, not told as a row of the catalog; and then it is a name that is taken."""
    with psycopg.connect(dsn) as somebody:
        somebody.execute("CREATE TABLE t(x int)")
        loading = Loading(sinks[0], empty)
        until(lambda: sql(dsn, WAITING.format("%")), alive=lambda: loading.error is None)
        somebody.commit()
    loading.finish()
    assert isinstance(loading.error, SinkError) and loading.error.retryable
    assert "pg_type" not in str(loading.error) and "same name" in str(loading.error)
    load(sinks[0], empty)
    assert sinks[0].refusals["t"].own_schema


def test_what_was_never_mirrored_gets_the_whole_command(cli: CommandLine, two: tuple[Path, Path], folder: Path) -> None:
    """With the state directory, and the name as a shell needs it."""
    state = ("--state-dir", folder / "my state")
    assert cli.run("up", two[0], "--once", *state).code == 0
    step = f"run `mirror up {two[1]} --state-dir '{folder / 'my state'}'`"
    for command in (("parity",), ("rejects", "retry")):
        assert cli.run(*command, two[1], *state).error.endswith(f" -- {step}")


@pytest.mark.slow
def test_the_schema_is_not_forgotten_with_the_state_directory(
    cli: CommandLine, two: tuple[Path, Path], dsn: str
) -> None:
    """Postgres knows it: no second copy is made somewhere else without a word. What is named goes."""
    source = two[0]
    for named in ("its own", "public"):
        assert cli.run("up", source, "--once", "--schema", "its own").code == 0
        shutil.rmtree(cli.state_dir)
        done = cli.run("up", source, "--once")
        assert done.code == 2 and "it was mirrored into its own before" in done.err.splitlines()[-1], done
        assert "`--schema 'its own'` goes on there" in done.err and "`--schema public` begins" in done.err
        assert sql(dsn, "SELECT to_regclass('public.t')") == [(None,)]
        assert cli.run("up", source, "--once", "--schema", named).code == 0
    assert sql(dsn, "SELECT v FROM public.t") == [("one",)]
    shutil.rmtree(cli.state_dir)
    assert cli.run("up", source, "--once").code == 0, "it was in the default one, too"


@pytest.mark.few(1)
@pytest.mark.parametrize("content", ["{", None])
def test_damaged_settings_of_one_source_leave_the_others_alone(
    cli: CommandLine, two: tuple[Path, Path], content: str | None
) -> None:
    """While nothing runs: every source is shown, and the damaged one with what to do. None: it cannot be read."""
    bad, good = two
    assert cli.run("up", good, "--once", "--schema", "good").code == 0
    assert cli.run("up", bad, "--once", "--schema", "bad").code == 0
    settings = cli.source_folder(bad) / "settings.json"
    settings.unlink()
    if content is None:
        settings.mkdir()
    else:
        settings.write_text(content)
    done = cli.run("status", "--json")
    assert done.code == 0, done
    reports = {Path(report["source"]).name: report for report in json.loads(done.out)["sources"]}
    assert reports["two.db"]["phase"] == "stopped" and reports["two.db"]["schema"] == "good"
    assert reports["one.db"]["phase"] == "failed" and "settings.json" in reports["one.db"]["last_error"]
    assert reports["one.db"]["next_steps"]
    assert cli.run("status").code == 0
    done = cli.run("config", "show", "--json")
    assert done.code == 0, done
    schemas = {Path(source["path"]).name: source["schema"] for source in json.loads(done.out)["sources"]}
    assert schemas["two.db"] == {"value": "good", "origin": "remembered"}
    assert schemas["one.db"]["value"] is None and "settings.json" in schemas["one.db"]["origin"]
    assert cli.run("config", "show").code == 0
