"""Rows that others have written in Postgres: no copy or repair replaces them unasked, and it keeps them."""

from __future__ import annotations

import json
import shlex
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, filling
from tests.support.waiting import LIMIT, until

Postgres = psycopg.Connection[tuple[Any, ...]]
MAKE = "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)"
FILL = filling("i, 'row ' || i")


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture
def postgres(dsn: str) -> Iterator[Postgres]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def rows(postgres: Postgres, table: str = "t") -> list[tuple[Any, ...]]:
    return postgres.execute(f"SELECT * FROM {table} ORDER BY 1".encode()).fetchall()


def listed(cli: CommandLine) -> list[tuple[str, list[str] | None, dict[str, Any] | None]]:
    """Table, key and content of the rows that are kept, the first one first."""
    found = json.loads(cli.run("overwritten", "list", "--json").out)["overwritten"]
    return [(row["table"], row["key"], row["row"]) for row in reversed(found)]


def noted(postgres: Postgres) -> list[tuple[str, list[str] | None]]:
    found = postgres.execute("SELECT source_table, key FROM mirror.others_wrote ORDER BY 1, 2").fetchall()
    return [(str(table), key) for table, key in found]


def lose_state(cli: CommandLine) -> None:
    shutil.rmtree(cli.state_dir)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_a_whole_copy(cli: CommandLine, writer: Writer, database: Path, postgres: Postgres) -> None:
    """Changed, added and deleted rows, once the state directory is lost: refused with a step that works, then kept."""
    writer.run(MAKE, FILL.format(1, 5), "CREATE TABLE u(id INTEGER PRIMARY KEY)", "INSERT INTO u VALUES (1)")
    assert cli.run("up", database, "--once").code == 0
    postgres.execute("UPDATE t SET v = 'theirs' WHERE id = 2")
    postgres.execute("DELETE FROM t WHERE id = 3")
    postgres.execute("INSERT INTO t VALUES (77, 'new')")
    postgres.execute("UPDATE t SET id = 88 WHERE id = 4")
    theirs = rows(postgres)
    lose_state(cli)
    writer.run("UPDATE t SET v = 'newer' WHERE id IN (1, 2)")
    refused = cli.run("up", database, "--once")
    assert refused.code == 2 and "Traceback" not in refused.err
    line = next(line for line in refused.err.splitlines() if line.startswith("mirror: "))
    assert "others than the mirror have written 5 rows of t" in line and "--replace-rows" in line
    assert rows(postgres) == theirs and not listed(cli) and len(noted(postgres)) == 5
    assert not [path for path in cli.state_dir.rglob("*") if path.name.startswith("shadow")]
    step = line.split("`")[1]
    done = cli.run(*shlex.split(step)[1:])
    assert done.code == 0, done
    (said,) = [line for line in done.err.splitlines() if "WARNING" in line]
    assert "5 rows of t" in said and "mirror.overwritten" in said
    assert rows(postgres) == [(1, "newer"), (2, "newer"), (3, "row 3"), (4, "row 4"), (5, "row 5")]
    assert sorted(listed(cli), key=str) == sorted(
        [
            ("t", ["2"], {"id": 2, "v": "theirs"}),
            ("t", ["3"], None),
            ("t", ["4"], None),
            ("t", ["77"], {"id": 77, "v": "new"}),
            ("t", ["88"], {"id": 88, "v": "row 4"}),
        ],
        key=str,
    )
    assert noted(postgres) == []
    # Now it is the mirror's again.
    lose_state(cli)
    assert cli.run("up", database, "--once").code == 0
    (source,) = json.loads(cli.run("status", "--json").out)["sources"]
    assert source["overwritten"] == 5 and source["others_wrote"] == 0
    assert any("mirror overwritten list" in step for step in source["next_steps"])
    shown = cli.run("overwritten", "list").out
    assert "theirs" in shown and "it was deleted" in shown and "a whole copy" in shown
    assert "1 row forgotten" in cli.run("overwritten", "forget", "--id", "1").out
    assert "4 rows forgotten" in cli.run("overwritten", "forget").out
    assert not listed(cli) and "nothing of others" in cli.run("overwritten", "list").out


def test_nobody_else_has_written(cli: CommandLine, writer: Writer, database: Path, postgres: Postgres) -> None:
    """The state directory is lost, and the source has gone on: nothing is asked, and nothing is kept."""
    writer.run(MAKE, FILL.format(1, 500))
    assert cli.run("up", database, "--once").code == 0
    lose_state(cli)
    writer.run("DELETE FROM t WHERE id > 100", "UPDATE t SET v = 'x' WHERE id < 50", "INSERT INTO t VALUES (600, 'y')")
    done = cli.run("up", database, "--once")
    assert done.code == 0 and "overwritten" not in done.err
    assert len(rows(postgres)) == 101 and not listed(cli) and not noted(postgres)


def test_a_truncate(cli: CommandLine, writer: Writer, database: Path, postgres: Postgres) -> None:
    writer.run(MAKE, FILL.format(1, 3))
    assert cli.run("up", database, "--once").code == 0
    postgres.execute("TRUNCATE t")
    lose_state(cli)
    refused = cli.run("up", database, "--once")
    assert refused.code == 2 and "as by TRUNCATE" in refused.err and not rows(postgres)
    assert cli.run("up", database, "--once", "--replace-rows").code == 0
    assert len(rows(postgres)) == 3 and listed(cli) == [("t", None, None)]


@pytest.mark.slow
def test_a_key_that_was_altered(cli: CommandLine, writer: Writer, database: Path, postgres: Postgres) -> None:
    """Others can write as before; of which rows is not known then, so all count. They are in the table that is kept."""
    writer.run(MAKE, FILL.format(1, 3))
    assert cli.run("up", database, "--once").code == 0
    postgres.execute("ALTER TABLE t RENAME id TO number")
    postgres.execute("UPDATE t SET v = 'theirs' WHERE number = 2")
    assert cli.run("parity", "--repair").code == 2 and noted(postgres) == [("t", None)]
    done = cli.run("parity", "--repair", "--replace-rows")
    assert done.code == 0, done
    assert rows(postgres)[1] == (2, "row 2") and listed(cli) == [("t", None, None)]
    (kept,) = postgres.execute("SELECT relname FROM pg_class WHERE relname LIKE 't\\_\\_dropped%'").fetchone() or ("",)
    assert rows(postgres, kept)[1] == (2, "theirs")


@pytest.mark.slow
def test_what_the_mirror_has_written_since_is_its_own(
    cli: CommandLine, writer: Writer, database: Path, postgres: Postgres
) -> None:
    """A commit of the source that changes the row again is ordinary mirroring; after it the row is not theirs."""
    writer.run(MAKE, FILL.format(1, 3))
    assert cli.run("up", database, "--once").code == 0
    postgres.execute("UPDATE t SET v = 'theirs' WHERE id = 2")
    with postgres.transaction(), postgres.transaction():  # in a subtransaction
        postgres.execute("UPDATE t SET v = 'theirs' WHERE id = 3")
    writer.run("UPDATE t SET v = 'newer' WHERE id = 2")
    assert cli.run("up", database, "--once").code == 0
    assert rows(postgres)[1] == (2, "newer")
    lose_state(cli)
    writer.run("UPDATE t SET v = 'newest'")
    refused = cli.run("up", database, "--once")
    assert refused.code == 2 and "1 row of t" in refused.err
    assert cli.run("up", database, "--once", "--replace-rows").code == 0
    assert listed(cli) == [("t", ["3"], {"id": 3, "v": "theirs"})]


def test_a_repair(cli: CommandLine, writer: Writer, database: Path, postgres: Postgres) -> None:
    """In ranges, with and without a running mirror; what is equal anyway is not kept."""
    writer.run(MAKE, FILL.format(1, 3000), "CREATE TABLE u(id INTEGER PRIMARY KEY)", "INSERT INTO u VALUES (1)")
    with cli.up(database):
        assert cli.run("wait").code == 0
        postgres.execute("UPDATE t SET v = v || '!' WHERE id <= 1500")
        postgres.execute("DELETE FROM t WHERE id = 2000")
        postgres.execute("UPDATE t SET v = v || '' WHERE id = 2500")
        postgres.execute("INSERT INTO u VALUES (2)")
        theirs = rows(postgres)
        refused = cli.run("parity", "--repair")
        assert refused.code == 2 and "1,502 rows of t" in refused.err and "1 row of u" in refused.err
        assert rows(postgres) == theirs and len(rows(postgres, "u")) == 2 and not listed(cli)
        step = next(line for line in refused.err.splitlines() if "--replace-rows" in line).split("`")[1]
        done = cli.run(*shlex.split(step)[1:])
        assert done.code == 0, done
        kept = listed(cli)
        assert len(kept) == 1502 and ("t", ["2000"], None) in kept and ("u", ["2"], {"id": 2}) in kept
        assert ("t", ["7"], {"id": 7, "v": "row 7!"}) in kept
        assert not noted(postgres)
        until(lambda: json.loads(cli.run("status", "--json").out)["sources"][0]["overwritten"] == 1502)
    postgres.execute("UPDATE t SET v = 'again' WHERE id = 7")
    assert cli.run("parity", "--repair").code == 2
    assert cli.run("parity", "--repair", "--table", "t", "--replace-rows").code == 0
    assert listed(cli)[-1] == ("t", ["7"], {"id": 7, "v": "again"})
    assert cli.run("parity", "--replace-rows").code == 2


@pytest.mark.slow
def test_rejects_retry(cli: CommandLine, writer: Writer, database: Path, postgres: Postgres) -> None:
    writer.run("CREATE TABLE t(id TEXT PRIMARY KEY, v INTEGER)", "INSERT INTO t VALUES ('a', 1), ('b', 2)")
    assert cli.run("up", database, "--once").code == 0
    postgres.execute("ALTER TABLE t ADD CHECK (v < 5) NOT VALID")
    writer.run("INSERT INTO t VALUES ('c', 9)")
    assert cli.run("up", database, "--once").code == 0
    postgres.execute("UPDATE t SET v = 3 WHERE id = 'a'")
    postgres.execute("ALTER TABLE t DROP CONSTRAINT t_v_check")
    refused = cli.run("rejects", "retry")
    assert refused.code == 2 and "1 row of t" in refused.err and rows(postgres) == [("a", 3), ("b", 2)]
    step = refused.error.split("`")[1]
    assert cli.run(*shlex.split(step)[1:]).code == 0
    assert rows(postgres) == [("a", 1), ("b", 2), ("c", 9)] and listed(cli) == [("t", ["a"], {"id": "a", "v": 3})]


def test_other_sources_go_on(
    cli: CommandLine, writer: Writer, database: Path, folder: Path, postgres: Postgres
) -> None:
    """Of two sources of one command the one is refused, with all of its state as it was."""
    writer.run(MAKE, FILL.format(1, 3))
    other = folder / "other.db"
    with Writer(other) as writes:
        writes.run("PRAGMA journal_mode=WAL", "CREATE TABLE o(id INTEGER PRIMARY KEY)", "INSERT INTO o VALUES (1)")
        assert cli.run("up", database, other, "--once").code == 0
        postgres.execute("UPDATE t SET v = 'theirs' WHERE id = 2")
        # Postgres' copy is not the state directory's any more.
        postgres.execute("UPDATE mirror.sources SET lineage = gen_random_uuid() WHERE path LIKE '%source.db'")
        shadow = cli.source_folder(database) / "shadow"
        before = files(shadow) or files(cli.source_folder(database) / "shadow.json")
        writer.run("INSERT INTO t VALUES (4, 'four')")
        writes.run("INSERT INTO o VALUES (2)")
        refused = cli.run("up", database, other, "--once")
        assert refused.code == 2 and "others than the mirror" in refused.err
        assert rows(postgres, "o") == [(1,), (2,)]
        assert rows(postgres) == [(1, "row 1"), (2, "theirs"), (3, "row 3")]
        assert (cli.source_folder(database) / "shadow.json").exists()
        assert before == (files(shadow) or files(cli.source_folder(database) / "shadow.json"))
    assert cli.run("up", database, "--once", "--replace-rows").code == 0
    assert len(rows(postgres)) == 4 and listed(cli) == [("t", ["2"], {"id": 2, "v": "theirs"})]


def test_it_is_said_once(cli: CommandLine, writer: Writer, database: Path, postgres: Postgres) -> None:
    """``--replace-rows`` counts for the start of a mirror, not for what is written while it runs."""
    writer.run(MAKE, FILL.format(1, 3))
    with cli.up(database, "--replace-rows") as running:
        assert cli.run("wait").code == 0
        postgres.execute("UPDATE t SET v = 'theirs' WHERE id = 2")
        lose_state(cli)
        until(lambda: running.poll() is not None)
    assert rows(postgres)[1] == (2, "theirs")


@pytest.mark.slow
def test_tables_that_agents_share(
    make_mirror: Callable[..., MirrorProcess], folder: Path, cli: CommandLine, postgres: Postgres
) -> None:
    """Each source has its own agent's rows; of the others none is counted, kept or touched."""
    sources = []
    for agent in ("ada", "bob"):
        path = folder / f"{agent}.db"
        with Writer(path) as writer:
            writer.run("PRAGMA journal_mode=WAL", MAKE, FILL.format(1, 3))
        assert cli.run("up", path, "--once", "--agent", agent).code == 0
        sources.append(path)
    postgres.execute("UPDATE t SET v = 'theirs' WHERE id = 2")
    postgres.execute("DELETE FROM t WHERE id = 3 AND agent_id = 'bob'")
    assert noted(postgres) == [("t", ["2"]), ("t", ["2"]), ("t", ["3"])]
    lose_state(cli)
    refused = cli.run("up", sources[0], "--once", "--agent", "ada")
    assert refused.code == 2 and "1 row of t" in refused.err
    done = cli.run("up", sources[0], "--once", "--agent", "ada", "--replace-rows")
    assert done.code == 0, done
    assert postgres.execute("SELECT agent_id, id, v FROM t ORDER BY 1, 2").fetchall() == [
        ("ada", 1, "row 1"), ("ada", 2, "row 2"), ("ada", 3, "row 3"), ("bob", 1, "row 1"), ("bob", 2, "theirs"),
    ]  # fmt: skip
    assert noted(postgres) == [("t", ["2"]), ("t", ["3"])]
    assert [(key, row and row["v"]) for _, key, row in listed(cli)] == [(["2"], "theirs")]


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("ddl", "values", "key"),
    [
        ("CREATE TABLE t(id INTEGER, v TEXT)", "(5, 'a')", ["1"]),
        ("CREATE TABLE t(id BLOB PRIMARY KEY, v TEXT) WITHOUT ROWID", "(x'00ff', 'a')", ["\\x00ff"]),
        ("CREATE TABLE t(id REAL PRIMARY KEY, v TEXT)", "(0.1, 'a')", ["0.1"]),
        ("CREATE TABLE t(a TEXT, id INTEGER, v TEXT, PRIMARY KEY (id, a))", "('x', 1, 'a')", ["x", "1"]),
    ],
    ids=["rowid", "blob", "real", "two"],
)
def test_keys(
    cli: CommandLine, writer: Writer, database: Path, postgres: Postgres, ddl: str, values: str, key: list[str]
) -> None:
    """Whatever a session of others has set for text forms."""
    writer.run(ddl, f"INSERT INTO t VALUES {values}")
    assert cli.run("up", database, "--once").code == 0
    postgres.execute("SET bytea_output = 'escape'")
    postgres.execute("SET extra_float_digits = -15")
    postgres.execute("UPDATE t SET v = 'theirs'")
    lose_state(cli)
    assert cli.run("up", database, "--once").code == 2
    assert cli.run("up", database, "--once", "--replace-rows").code == 0
    ((_, found, row),) = listed(cli)
    assert found == key and row is not None and row["v"] == "theirs"


def test_written_while_it_copies(
    cli: CommandLine, writer: Writer, database: Path, postgres: Postgres, dsn: str
) -> None:
    """A row that others write between the look and the copy's own write: found at the end, and nothing is done."""
    writer.run(MAKE, FILL.format(1, 3))
    assert cli.run("up", database, "--once").code == 0
    lose_state(cli)
    writer.run("UPDATE t SET v = 'newer' WHERE id = 2")
    with psycopg.connect(dsn) as other:
        other.execute("UPDATE t SET v = 'theirs' WHERE id = 2")  # the copy waits for this transaction
        done: list[Any] = []
        command = threading.Thread(target=lambda: done.append(cli.run("up", database, "--once")))
        command.start()
        until(
            lambda: (
                postgres.execute(
                    "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'mirror'"
                ).fetchone()
                is not None
            )
        )
        other.commit()
    command.join(LIMIT)
    assert done and done[0].code == 2 and "1 row of t" in done[0].err, done
    assert rows(postgres)[1] == (2, "theirs")


@pytest.mark.slow
def test_a_restored_dump(cli: CommandLine, writer: Writer, database: Path, postgres: Postgres) -> None:
    """Tables whose rows were loaded again by others: said once, and with --replace-rows over."""
    writer.run(MAKE, FILL.format(1, 3))
    assert cli.run("up", database, "--once").code == 0
    saved = rows(postgres)
    writer.run("UPDATE t SET v = 'newer' WHERE id = 2")
    assert cli.run("up", database, "--once").code == 0
    postgres.execute("TRUNCATE t")
    for row in saved:
        postgres.execute("INSERT INTO t VALUES (%s, %s)", row)
    lose_state(cli)
    assert cli.run("up", database, "--once").code == 2
    assert cli.run("up", database, "--once", "--replace-rows").code == 0
    # Of the rows only the one that was older is kept; and that there was a TRUNCATE.
    assert sorted(listed(cli), key=str) == [("t", None, None), ("t", ["2"], {"id": 2, "v": "row 2"})]
    lose_state(cli)
    assert cli.run("up", database, "--once").code == 0


@pytest.mark.slow
def test_tables_are_renamed_and_made(cli: CommandLine, writer: Writer, database: Path, postgres: Postgres) -> None:
    """What others wrote is known under the new name; a table that is made while the mirror runs is watched, too."""
    writer.run(MAKE, FILL.format(1, 3))
    with cli.up(database):
        assert cli.run("wait").code == 0
        postgres.execute("UPDATE t SET v = 'theirs' WHERE id = 2")
        writer.run("ALTER TABLE t RENAME TO renamed", "CREATE TABLE made(id INTEGER PRIMARY KEY, v TEXT)")
        writer.run("INSERT INTO made VALUES (1, 'one')")
        assert cli.run("wait").code == 0
        postgres.execute("DELETE FROM made")
        assert noted(postgres) == [("made", ["1"]), ("renamed", ["2"])]
        writer.run("DROP TABLE made")
        assert cli.run("wait").code == 0
        assert noted(postgres) == [("renamed", ["2"])]
    lose_state(cli)
    assert "1 row of renamed" in cli.run("up", database, "--once").err


@pytest.mark.slow
def test_the_profile_changes(cli: CommandLine, writer: Writer, database: Path, postgres: Postgres) -> None:
    """Tables that are dropped for another agent: rows of others are kept first."""
    writer.run(MAKE, FILL.format(1, 3))
    assert cli.run("up", database, "--once").code == 0
    postgres.execute("UPDATE t SET v = 'theirs' WHERE id = 2")
    # As before the source had an agent: all of its tables are dropped and loaded again.
    lose_state(cli)
    postgres.execute("UPDATE mirror.sources SET profile = NULL")
    assert cli.run("up", database, "--once", "--agent", "ada").code == 2
    assert cli.run("up", database, "--once", "--agent", "ada", "--replace-rows").code == 0
    assert ("t", ["2"], {"id": 2, "v": "theirs"}) in listed(cli)


@pytest.mark.slow
def test_a_column_that_a_rule_leaves_out(
    cli: CommandLine, writer: Writer, database: Path, folder: Path, postgres: Postgres
) -> None:
    """It is not kept either, where the table is sent again because of the rule."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, w TEXT)", "INSERT INTO t VALUES (1, 'a', 'b')")
    assert cli.run("up", database, "--once").code == 0
    postgres.execute("UPDATE t SET v = 'secret', w = 'theirs'")
    config = folder / "mirror.json"
    config.write_text(json.dumps({"columns": {"t.v": "omit"}}))
    options = ("--once", "--config", config, "--state-dir", cli.state_dir)
    assert cli.run("up", database, *options).code == 2 and rows(postgres) == [(1, "secret", "theirs")]
    assert cli.run("up", database, *options, "--replace-rows").code == 0
    assert rows(postgres) == [(1, "b")] and listed(cli) == [("t", ["1"], {"id": 1, "w": "theirs"})]


@pytest.mark.slow
def test_a_sealed_source_without_its_state(
    cli: CommandLine, writer: Writer, database: Path, folder: Path, postgres: Postgres
) -> None:
    """Nothing writes to Postgres, also with --replace-rows; and what programs write there is no news."""
    (folder / "argent").mkdir()
    (folder / "argent" / "mirror.json").write_text(
        json.dumps({"sources": [str(database)], "storage": {"backend": "dual", "readFrom": "sqlite"}})
    )
    writer.run(MAKE, FILL.format(1, 3))
    with cli.up(database):
        assert cli.run("parity").code == 0
        for _ in range(2):
            done = cli.run("cutover", "advance", "--acknowledge", "backups")
            assert done.code == 0, done
        postgres.execute("UPDATE t SET v = 'in Postgres' WHERE id = 2")
        postgres.execute("DELETE FROM t WHERE id = 3")
        assert not noted(postgres)
        until(lambda: writer.run("SELECT * FROM t") == [[1, "row 1"], [2, "in Postgres"]])
    postgres.execute("INSERT INTO t VALUES (9, 'nobody carries it')")
    theirs = rows(postgres)
    lose_state(cli)
    for command in (("parity", "--repair", "--replace-rows"), ("rejects", "retry", "--replace-rows")):
        refused = cli.run(command[0], *command[1:], database)
        assert refused.code == 2 and rows(postgres) == theirs, refused
    # `up` does not copy: it goes on carrying into the file.
    with cli.up(database, "--replace-rows", wait=False):
        until(lambda: len(writer.run("SELECT * FROM t")) == 3)
        for command in (("parity", "--repair", "--replace-rows"), ("rejects", "retry", "--replace-rows")):
            refused = cli.run(*command)
            assert refused.code == 2 and "moved to Postgres" in refused.out + refused.err, refused
    assert rows(postgres) == theirs
    finalized = cli.run("cutover", "finalize")
    assert finalized.code == 0 or "mirror" in finalized.err
    assert rows(postgres) == theirs and not listed(cli)
