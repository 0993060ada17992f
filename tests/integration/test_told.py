"""Nothing happens without a line: each kind of event is one line of the log, counted in the status, and told once."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.proxy import Proxy
from tests.support.source import Writer, filling
from tests.support.waiting import LIMIT, until

#: A record in the form of loguru's own.
_RECORD = re.compile(r"^[-0-9]+ [:.0-9]+ \| (\w+) +\| [^ ]+ - source\.db: (.*)$", re.MULTILINE)
#: A key that Postgres cannot hold.
_BAD = "CAST(x'62ff' || i AS TEXT)"


class Log:
    """What mirrors of the test's source have said."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = 0

    def all(self) -> list[tuple[str, str]]:
        """Level and text of each line."""
        return [(level, text) for level, text in _RECORD.findall(self._path.read_text())]

    def new(self, *words: str) -> list[tuple[str, str]]:
        """The lines since the last call, as soon as the last of the words is in one of them."""

        def look() -> list[tuple[str, str]]:
            found = self.all()[self._seen :]
            return found if all(any(word in text for _, text in found) for word in words) else []

        found = until(look)
        self._seen += len(found)
        return found

    def one(self, level: str, text: str) -> str:
        """The only line since the last call: it is of this level and begins with this text."""
        ((found, line),) = self.new(text)
        assert found == level and line.startswith(text), (found, line)
        return line


@pytest.fixture
def log(folder: Path, mirror: MirrorProcess) -> Iterator[Log]:
    """Of the test's mirror."""
    mirror.log = folder / "log"
    return Log(mirror.log)


def begin(mirror: MirrorProcess, log: Log) -> None:
    mirror.start()
    mirror.wait_applied()
    mirror.settle()
    log.new("copied into Postgres")


def events(mirror: MirrorProcess) -> dict[str, Any]:
    """What the status counts, but for what is 0."""
    return {name: number for name, number in mirror.status()["events"].items() if number}


def test_rows_that_postgres_cannot_hold(mirror: MirrorProcess, writer: Writer, log: Log) -> None:
    """One line with their number, however many they are. What stays rejected is no news."""
    writer.run("CREATE TABLE t(k TEXT PRIMARY KEY, v INTEGER)", "INSERT INTO t VALUES ('good', 1)")
    begin(mirror, log)
    writer.transaction(filling(f"{_BAD}, i").format(1, 3000))
    line = log.one(
        "WARNING",
        "3,000 rows rejected, as Postgres cannot hold them: t: the first one: key CAST(x'62ff31' AS TEXT): k: ",
    )
    assert line.endswith(f"`mirror rejects list {mirror.sources[0]}`") and "is there no more" not in line
    mirror.wait_applied()
    writer.run("UPDATE t SET v = 0 WHERE v = 7")
    mirror.wait_applied()
    writer.run("UPDATE t SET k = CAST(x'ff' AS TEXT) WHERE k = 'good'")
    line = log.one("WARNING", "1 row rejected, as Postgres cannot hold it: t, key CAST(x'ff' AS TEXT): k: ")
    assert "; it was in Postgres until now, and is there no more; " in line
    mirror.wait_applied()
    writer.transaction("UPDATE t SET k = 'row' || v WHERE v IN (8, 9)", "DELETE FROM t WHERE v = 10")
    log.one("INFO", "3 rows rejected no more: t: ")
    mirror.wait_applied()
    # One comes and one goes.
    writer.transaction("UPDATE t SET k = CAST(x'ff00' AS TEXT) WHERE v = 8", "UPDATE t SET k = 'row11' WHERE v = 11")
    rejected, back = log.new("1 row rejected no more")
    assert rejected[1].startswith("1 row rejected, ") and back[0] == "INFO"
    assert events(mirror) == {"rows_rejected": 3002, "rows_lost": 2, "rows_back": 4}
    assert mirror.status()["rejects"] == 2998


def test_a_few_of_many_tables(mirror: MirrorProcess, writer: Writer, log: Log) -> None:
    writer.run(*(f"CREATE TABLE {name}(k TEXT PRIMARY KEY) WITHOUT ROWID" for name in "abc"))
    begin(mirror, log)
    writer.transaction(*(f"INSERT INTO {name} VALUES (CAST(x'ff' AS TEXT))" for name in "ab"))
    log.one(
        "WARNING", "2 rows rejected, as Postgres cannot hold them: a, b: the first one: a, key CAST(x'ff' AS TEXT): k: "
    )


def test_a_column_that_becomes_jsonb_and_is_narrow_again(mirror: MirrorProcess, writer: Writer, log: Log) -> None:
    """It is known since when and for which value, also after a restart and under another name."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, total REAL, note TEXT)", "INSERT INTO t VALUES (1, 1.5, 'a')")
    begin(mirror, log)
    before = time.time()
    writer.run("INSERT INTO t VALUES (900002, 'not a number', 'b')")
    line = log.one(
        "WARNING", "1 column widened to jsonb: t.total (was double precision, a text does not fit, key 900002)"
    )
    assert f"`mirror rejects retry {mirror.sources[0]}`" in line and "not a number" not in line
    mirror.wait_applied()
    (found,) = mirror.status()["widenings"]
    since = found.pop("since")
    assert before <= since <= time.time()
    assert found == {
        "column": "t.total",
        "was": "double precision",
        "kind": "a text",
        "value": "'not a number'",
        "key": "[900002]",
    }
    writer.run("ALTER TABLE t RENAME TO u", "ALTER TABLE u RENAME COLUMN total TO sum")
    renamed = [text for _, text in log.new("column renamed")]
    assert renamed == ["table renamed: t is u now", "column renamed: u.total is sum now"]
    mirror.wait_applied()
    assert events(mirror) == {"columns_widened": 1, "tables_renamed": 1, "columns_renamed": 1}
    mirror.stop()
    mirror.start()
    mirror.settle()
    assert mirror.status()["widenings"] == [{"column": "u.sum", "since": since} | {**found, "column": "u.sum"}]
    level, text = log.new("as before")[0]
    assert level == "INFO" and text.startswith("as before: 1 column widened to jsonb (u.sum since 20")
    assert events(mirror) == {}
    writer.run("DELETE FROM u WHERE id = 900002")
    mirror.wait_applied()
    with mirror.control() as control:
        control.retry(LIMIT)
    assert log.new("narrow")[-1] == (
        "INFO",
        "1 column narrow again, as all values fit: u.sum is double precision",
    )
    assert mirror.status()["widenings"] == [] and events(mirror) == {"columns_narrowed": 1}


def test_a_table_that_is_made_again_keeps_since_when(mirror: MirrorProcess, writer: Writer, log: Log) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, total REAL)", "INSERT INTO t VALUES (1, 'text'), (2, 1.5)")
    begin(mirror, log)
    (found,) = mirror.status()["widenings"]
    assert found["column"] == "t.total" and found["was"] == "double precision" and found["since"]
    writer.transaction(
        "CREATE TABLE n(id INTEGER PRIMARY KEY, total REAL NOT NULL, more TEXT)",
        "INSERT INTO n SELECT id, total, 'm' FROM t",
        "DROP TABLE t",
        "ALTER TABLE n RENAME TO t",
    )
    said = log.new("made again", "new column")
    assert said == [("INFO", "table made again with another definition: t"), ("INFO", "new column: t.more")]
    mirror.wait_applied()
    assert mirror.status()["widenings"] == [found]


def test_the_first_text_that_is_escaped(mirror: MirrorProcess, writer: Writer, log: Log) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, s TEXT, o TEXT)", "INSERT INTO t VALUES (1, 'a', 'b')")
    begin(mirror, log)
    writer.run("INSERT INTO t VALUES (2, 'a' || char(0), 'b')")
    line = log.one("INFO", "text that Postgres cannot hold as it is (with NUL, or not valid) is shown without that")
    assert line.endswith("kept whole in _original: t.s")
    writer.run("INSERT INTO t VALUES (3, 'a' || char(0), 'b')")
    mirror.check()
    assert log.all()[-1][1] == line and events(mirror) == {"columns_escaped": 1}


@pytest.mark.parametrize("text", ["hello", '["\\u0000"]'])
def test_the_first_text_that_is_no_json(
    mirror: MirrorProcess, writer: Writer, log: Log, database: Path, text: str
) -> None:
    """It is a JSON string in Postgres, where queries for its members find nothing; also one of the first copy."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v JSON, w JSON)", ("INSERT INTO t VALUES (1, '{}', ?)", (text,)))
    mirror.start()
    mirror.status_when(lambda status: status["phase"] == "following")
    said = "1 column declared JSON with values that are no JSON: "
    assert [line[1].startswith(f"{said}t.w; in") for line in log.new(said) if said in line[1]] == [True]
    assert mirror.status()["not_json"] == ["t.w"]
    writer.run(("INSERT INTO t VALUES (2, ?, ?)", (text, text)))
    log.one("WARNING", f"{said}t.v; in Postgres a text of them is a JSON string, of which `->` and `->>` give NULL")
    writer.run(("INSERT INTO t VALUES (3, ?, ?)", (text, text)), "ALTER TABLE t RENAME COLUMN v TO x")
    mirror.check()
    assert [name for name, _ in log.new("renamed")] == ["INFO"], "that is all"
    assert events(mirror) == {"columns_not_json": 2, "columns_renamed": 1}
    cli = CommandLine(mirror.state_dir, mirror.dsn)
    shown = cli.run("status", database, "--state-dir", mirror.state_dir).out
    assert "no JSON in 2 columns declared JSON: t.w, t.x" in " ".join(shown.split()), shown
    plan = cli.run("cutover", "plan", database, "--state-dir", mirror.state_dir, "--postgres", mirror.dsn)
    assert "2 columns with values that are no JSON" in " ".join(plan.out.split()), plan.out
    mirror.kill()
    mirror.start()
    mirror.wait_applied()
    assert mirror.status()["not_json"] == ["t.w", "t.x"]
    writer.run("UPDATE t SET w = '{}' WHERE id > 0")
    mirror.wait_applied()
    with mirror.control() as control:
        control.retry(LIMIT)
    assert mirror.status()["not_json"] == ["t.x"]
    mirror.check()


def test_tables_and_columns_of_the_source(mirror: MirrorProcess, writer: Writer, log: Log) -> None:
    writer.run("CREATE TABLE old(id INTEGER PRIMARY KEY, a TEXT, b TEXT)", "INSERT INTO old VALUES (1, 'a', 'b')")
    begin(mirror, log)
    writer.transaction(*(f"CREATE TABLE n{number}(v)" for number in range(7)))
    log.one("INFO", "7 new tables: n0, n1, n2, n3, n4 and 2 more")
    writer.run("ALTER TABLE old ADD COLUMN c TEXT")
    log.one("INFO", "new column: old.c")
    writer.run("ALTER TABLE old RENAME COLUMN b TO d")
    log.one("INFO", "column renamed: old.b is d now")
    writer.run("ALTER TABLE old DROP COLUMN a")
    line = log.one("INFO", "column dropped in SQLite, and kept in Postgres: old.a as a__dropped_")
    assert re.search(r"old\.a as a__dropped_\d+_\d+$", line)
    writer.run("ALTER TABLE old RENAME TO young")
    log.one("INFO", "table renamed: old is young now")
    writer.transaction("DROP TABLE n0", "DROP TABLE n1")
    line = log.one("INFO", "2 tables dropped in SQLite, and kept in Postgres: n0 as n0__dropped_")
    assert re.search(r"n0 as n0__dropped_\d+_\d+, n1 as n1__dropped_\d+_\d+$", line)
    assert events(mirror) == {
        "tables_added": 7,
        "tables_dropped": 2,
        "tables_renamed": 1,
        "columns_added": 1,
        "columns_dropped": 1,
        "columns_renamed": 1,
    }


def test_a_table_that_postgres_refuses(mirror: MirrorProcess, writer: Writer, log: Log, dsn: str) -> None:
    writer.run("CREATE TABLE t(v)")
    begin(mirror, log)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE taken(v int)")
        writer.run("CREATE TABLE taken(v)")
        until(lambda: events(mirror).get("tables_refused"))  # `mirror up` tells it
        connection.execute("DROP TABLE taken")
        assert {level for level, _ in log.new("Postgres accepts taken again")} == {"INFO"}
    assert events(mirror) == {"tables_added": 1, "tables_refused": 1, "tables_accepted": 1}


def test_postgres_lost_and_back(mirror: MirrorProcess, writer: Writer, log: Log, dsn: str) -> None:
    """Two lines, however often it is tried."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    with Proxy(dsn) as proxy:
        mirror.its_dsn = proxy.dsn
        begin(mirror, log)
        proxy.refuse()
        writer.run("INSERT INTO t VALUES (1)")
        lost = log.new("waits for Postgres: ")
        assert [level for level, _ in lost] == ["WARNING"]
        outage = mirror.status_when(lambda status: status["interruptions"] >= 4)["outage"]
        assert outage["postgres"] and outage["ended_at"] is None and outage["tries"] >= 3
        proxy.accept()
        mirror.wait_applied()
        said = log.new("connected again after ")
    level, line = said[-1]
    tries = mirror.status()["outage"]["tries"]
    assert level == "INFO" and line.endswith(f" (tried {tries} times), caught up")
    assert {level for level, _ in said} == {"INFO"} and len(said) <= 3  # of another reason there is a line, once
    status = mirror.status()
    assert status["outage"]["ended_at"] >= status["outage"]["began_at"] and events(mirror) == {"reconnections": 1}


def test_one_line_where_many_sources_lose_postgres(
    make_mirror: Callable[..., MirrorProcess], folder: Path, dsn: str
) -> None:
    """And one when it is there again; neither says what the mirror was just doing."""
    sources = [folder / f"{name}.db" for name in "abcd"]
    writers = [Writer(source) for source in sources]
    for each in writers:
        each.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY)")
    mirror = make_mirror(*sources)
    mirror.log = folder / "log"
    for source, schema in zip(sources, "abcd", strict=True):
        mirror.schemas[source] = schema
    with Proxy(dsn) as proxy:
        mirror.its_dsn = proxy.dsn
        mirror.start()
        for source in sources:
            mirror.status_when(lambda status: status["phase"] == "following", source)
        said = mirror.log.read_text()
        proxy.refuse()
        for each in writers:
            each.run("INSERT INTO t VALUES (1)")
        for source in sources:
            mirror.status_when(lambda status: status["phase"] == "waiting" and status["outage"]["tries"] > 2, source)
        proxy.accept()
        for source in sources:
            mirror.status_when(lambda status: status["phase"] == "following", source)
        mirror.stop()
    told = [line for line in mirror.log.read_text().removeprefix(said).splitlines() if re.search(r" (INFO|WARN)", line)]
    away, back = told
    assert re.search(r"WARNING .* Postgres is away, and 4 sources wait for it: ", away), told
    assert re.search(r"INFO .* Postgres is there again after [\d.]+ \w+: 4 sources go on$", back), told
    for each in writers:
        each.close()


def test_a_start_that_heals_a_gap(mirror: MirrorProcess, writer: Writer, log: Log) -> None:
    """One line, which is no warning: how long nobody was there, what it has cost, and that nothing was lost."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")
    writer.run(filling("i, 'v' || i").format(1, 500))
    begin(mirror, log)
    mirror.kill()
    writer.run(filling("i, 'w' || i").format(401, 614))
    writer.close()  # the log is gone with it
    mirror.start()
    mirror.check()
    (line,) = [text for _, text in log.new("compared the file")]
    assert re.fullmatch(
        r"caught up after [\d.]+ (ms|s|min) away: compared the file \([\d.]+ kB, [\d.]+ m?s\), 214 rows sent."
        " Nothing was lost",
        line,
    )
    (gap,) = mirror.status()["gaps"]
    assert (gap["healed"], gap["rows"]) == (True, 214) and gap["seconds"] > 0
    mirror.stop()
    mirror.start()
    mirror.settle()
    assert mirror.status()["gaps"] == [gap]
    (said,) = [text for _, text in log.new("compared the file")]
    assert said.endswith(", and nothing had changed")
    assert "WARNING" not in {level for level, _ in log.all()}


def test_what_a_killed_mirror_could_not_say(mirror: MirrorProcess, writer: Writer, log: Log) -> None:
    """A line comes after the commit that it is about; where nobody was left to say it, the next mirror does."""
    writer.run("CREATE TABLE t(k TEXT PRIMARY KEY, v INTEGER) WITHOUT ROWID")
    mirror.start(kill_at="apply:after-commit", hit=1)
    mirror.wait_applied()
    log.new("copied into Postgres")
    writer.run("INSERT INTO t VALUES (CAST(x'ff' AS TEXT), 'text')")
    mirror.wait_killed()
    assert not [text for _, text in log.all() if "rejected" in text or "widened" in text]
    mirror.start()
    mirror.wait_applied()
    said = log.new("rejected", "widened")
    assert [level for level, _ in said[:2]] == ["WARNING", "WARNING"]
    mirror.stop()
    mirror.start()
    mirror.settle()
    level, line = log.new("as before")[0]
    assert level == "INFO" and "1 row that Postgres cannot hold (t), 1 column widened to jsonb (t.v since " in line
    assert len([text for _, text in log.all() if text.startswith(("1 row rejected", "1 column widened"))]) == 2


def test_a_copy_begins_and_ends(mirror: MirrorProcess, writer: Writer, log: Log) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)", "CREATE TABLE u(id INTEGER PRIMARY KEY)")
    writer.run(filling("i").format(1, 3000))
    mirror.start()
    mirror.check()
    begun, copied = log.new("copied into Postgres")
    assert begun == ("INFO", "copying the whole file into Postgres, for the first time")
    assert copied[0] == "INFO" and re.fullmatch(r"copied into Postgres: 2 tables, 3,000 rows, [\d.]+ m?s", copied[1])
    assert events(mirror) == {}


def test_json_has_the_source(folder: Path, dsn: str) -> None:
    database = folder / "source.db"
    with Writer(database) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(v INTEGER)", "INSERT INTO t VALUES (1), ('text')")
        done = CommandLine(folder, dsn).run("up", database, "--once", "--log-format", "json")
    assert done.code == 0, done
    records = [json.loads(line) for line in done.err.splitlines()]
    (found,) = [record for record in records if "widened" in record["message"]]
    assert (found["level"], found["source"]) == ("warning", str(database))


def test_two_files_of_one_name_are_told_apart(folder: Path, make_mirror: Callable[..., MirrorProcess]) -> None:
    """By as much of their paths as that takes."""
    paths = [folder / name / "app.db" for name in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        with Writer(path) as writer:
            writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(v)")
    mirror = make_mirror(*paths)
    mirror.schemas = {mirror.sources[1]: "other"}
    mirror.log = folder / "log"
    mirror.start()
    mirror.wait_applied()
    said = mirror.log.read_text()
    for name in ("one", "two"):
        assert f" - {name}/app.db: copied into Postgres: " in said
    assert " - app.db: " not in said
