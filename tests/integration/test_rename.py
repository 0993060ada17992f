"""``mirror rename``: a file that was moved goes on where it was, whatever the command was killed at."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.core.folders import known_sources, resolve, source_folder
from mirror.postgres.removal import rename
from mirror.postgres.sessions import connect
from tests.support.commands import CommandLine
from tests.support.pasted import commands_in
from tests.support.source import Writer
from tests.support.waiting import LIMIT


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture
def old(folder: Path) -> Path:
    return make(folder / "old.db", 300)


@pytest.fixture
def new(folder: Path) -> Path:
    """Where the file is moved to."""
    (folder / "there").mkdir()
    return folder / "there" / "new.db"


def make(path: Path, rows: int, *more: str) -> Path:
    """A source that no program has open, with so many rows, and some pages."""
    with Writer(path) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")
        writer.run(
            "INSERT INTO t(v) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < "
            f"{rows}) SELECT '{path.name} ' || hex(randomblob(200)) FROM n",
            *more,
        )
    return path


def insert(path: Path, value: str) -> None:
    with Writer(path) as writer:
        writer.run(f"INSERT INTO t(v) VALUES ('{value}')")


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def goes_on(cli: CommandLine, new: Path, dsn: str, *flags: object) -> None:
    """The mirror of the new name has no new copy, its tables, and what was written meanwhile; parity is equal."""
    before = rows(dsn, "SELECT source_id, lineage FROM mirror.sources")
    insert(new, "after the move")
    with cli.up(*((new,) if not flags else ()), *flags):
        (report,) = json.loads(cli.run("status", "--json", *flags).out)["sources"]
        assert report["source"] == str(resolve(new)) and report["resyncs"] == [] and not report["refusals"], report
    assert cli.run("parity", new, *flags).code == 0
    assert rows(dsn, "SELECT source_id, lineage FROM mirror.sources") == before
    assert rows(dsn, "SELECT count(*) FROM t WHERE v = 'after the move'") == [(1,)]
    assert rows(dsn, "SELECT path FROM mirror.sources") == [(str(resolve(new)),)]
    assert known_sources(cli.state_dir) == [resolve(new)]


def test_a_file_that_was_moved(cli: CommandLine, old: Path, new: Path, dsn: str) -> None:
    """It goes on without a new copy; twice is harmless; status knows it by its new name at once; and back again."""
    assert cli.run("up", old, "--once").code == 0
    os.rename(old, new)
    done = cli.run("rename", old, new)
    assert done.code == 0 and f"{resolve(new)} is mirrored in place of {resolve(old)}" in done.out, done
    (report,) = json.loads(cli.run("status", "--json").out)["sources"]
    assert report["source"] == str(resolve(new)) and report["phase"] == "stopped"
    assert "nothing is left to do" in cli.run("rename", old, new).out
    goes_on(cli, new, dsn)
    os.rename(new, old)
    old.with_name("link.db").symlink_to(old)
    assert json.loads(cli.run("rename", new, old.with_name("link.db"), "--json").out)["changed"] is True
    assert cli.run("up", old, "--once").code == 0
    assert cli.run("parity", old).code == 0


def test_a_link_is_left_in_its_place(cli: CommandLine, old: Path, new: Path, dsn: str) -> None:
    """So that programs find it: the old name then leads to the new one."""
    assert cli.run("up", old, "--once").code == 0
    os.rename(old, new)
    old.symlink_to(new)
    assert cli.run("rename", old, new).code == 0
    goes_on(cli, new, dsn)


@pytest.mark.parametrize("step", ["nothing", "postgres", "folder", "named"])
def test_killed_in_between(cli: CommandLine, old: Path, new: Path, dsn: str, folder: Path, step: str) -> None:
    """What a command that was killed after each of its steps leaves: given again, it completes that."""
    config = folder / "mirror.json"
    config.write_text('{\n  // these\n  "sources": [\n    {"path": "old.db", "schema": "public"}\n  ]\n}\n')
    flags = ("--config", str(config), "--state-dir", str(cli.state_dir))
    assert cli.run("up", *flags, "--once").code == 0
    os.rename(old, new)
    here, there = (source_folder(cli.state_dir, resolve(path)) for path in (old, new))
    if step != "nothing":
        with connect(dsn, raw=True) as conn:
            assert rename(conn, str(resolve(old)), str(resolve(new))) == 1
    if step in ("folder", "named"):
        os.rename(here, there)
    if step == "named":
        (there / "source").write_bytes(os.fsencode(resolve(new)))
    done = cli.run("rename", old, new, *flags)
    assert done.code == 0 and "is mirrored in place of" in done.out, done
    assert not here.exists()
    assert "// these" in config.read_text()
    assert '"path": "' + str(resolve(new)) in config.read_text() and '"schema": "public"' in config.read_text()
    goes_on(cli, new, dsn, *flags)


def test_a_mirror_was_started_with_the_new_name(cli: CommandLine, old: Path, new: Path, dsn: str) -> None:
    """As somebody does who moves a file. It names this command, which then works as it stands."""
    assert cli.run("up", old, "--once").code == 0
    os.rename(old, new)
    refused = cli.run("up", new, "--once")
    assert refused.code == 2 and f"`mirror rename {resolve(old)} {resolve(new)}`" in refused.err, refused
    assert cli.run("rename", old, new).code == 0
    goes_on(cli, new, dsn)


def test_refused(cli: CommandLine, old: Path, new: Path, folder: Path) -> None:
    """While the old file is there; for another database; for one that is mirrored already."""
    assert cli.run("up", old, "--once").code == 0
    assert "no such file" in cli.run("rename", old, new.with_name("none.db")).error
    other = make(new, 300)
    assert "it is still there" in cli.run("rename", old, other).error
    assert "it needs the old name and the new one" in cli.run("rename", old).error
    assert "it is the same file" in cli.run("rename", old, old).error
    assert "was never mirrored" in cli.run("rename", folder / "none.db", other).error
    away = old.rename(old.with_name("away.db"))
    told = cli.run("rename", old, other).error
    assert "not the database that was mirrored: of " in told and " rows of t that were looked for it has 0" in told
    assert f"`mirror rename {resolve(old)} {resolve(other)} --anyway`" in told
    text = folder / "text.db"
    text.write_text("no database at all, but more than a hundred bytes of it" * 3)
    assert "no SQLite database" in cli.run("rename", old, text).error
    shutil.copyfile(away, old)  # while that is there, the other one is a file of its own
    assert cli.run("up", away, "--once", "--schema", "another").code == 0
    old.unlink()
    refused = cli.run("rename", old, away).error
    assert "is mirrored already" in refused and f"mirror remove {resolve(away)}" in refused
    assert {resolve(old), resolve(away)} == set(known_sources(cli.state_dir)), "nothing was changed"
    assert cli.run("remove", away, "--drop-tables", "--yes", "--schema", "another").code == 0
    assert cli.run("rename", old, away).code == 0
    assert cli.run("up", away, "--once").code == 0 and cli.run("parity", away).code == 0


def test_a_small_foreign_file(cli: CommandLine, folder: Path, dsn: str) -> None:
    """With a table of the same name: nothing is lost for it. Who says that it is the one is believed."""
    old, new = make(folder / "old.db", 3), make(folder / "new.db", 1)
    assert cli.run("up", old, "--once").code == 0
    gone = old.rename(folder / "gone.db")
    refused = cli.run("rename", old, new)
    assert "of 3 rows of t that were looked for it has 0" in refused.error
    assert rows(dsn, "SELECT path FROM mirror.sources") == [(str(resolve(old)),)]
    with Writer(gone) as writer:
        writer.run("UPDATE t SET v = 'all of it is new'")
    (step,) = commands_in(cli.run("rename", old, gone).err)
    assert cli.run(*shlex.split(step)[1:]).code == 0
    goes_on(cli, gone, dsn)


def test_without_a_copy(cli: CommandLine, old: Path, new: Path, dsn: str) -> None:
    """The state directory was lost: nobody can tell which file it was."""
    assert cli.run("up", old, "--once").code == 0
    shutil.rmtree(cli.source_folder(old))
    os.rename(old, new)
    (step,) = commands_in(cli.run("rename", old, new).err)
    assert cli.run(*shlex.split(step)[1:]).code == 0
    assert cli.run("up", new, "--once").code == 0 and cli.run("parity", new).code == 0
    assert rows(dsn, "SELECT path FROM mirror.sources") == [(str(resolve(new)),)]


@pytest.fixture
def other(folder: Path) -> Path:
    """Another source of the same mirror."""
    path = folder / "other.db"
    with Writer(path) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE o(id INTEGER PRIMARY KEY)")
    return path


def test_beside_others(cli: CommandLine, old: Path, new: Path, other: Path, dsn: str) -> None:
    """The mirror goes on with it, in the same schema and without a new copy, and with the others all the time; so it
    does with the old one where the new one is refused.
    """
    with cli.up(other, wait=False) as process:
        assert cli.run("wait", other, "--timeout", LIMIT).code == 0
        assert cli.run("add", old, "--schema", "shop").code == 0
        assert cli.run("wait", old, "--timeout", LIMIT).code == 0
        before = rows(dsn, "SELECT source_id, lineage, schema_name FROM mirror.sources ORDER BY 1")
        os.rename(old, new)
        foreign = make(new.with_name("foreign.db"), 300)
        assert "not the database that was mirrored" in cli.run("rename", old, foreign).error
        known = [each["source"] for each in json.loads(cli.run("status", "--json").out)["sources"]]
        assert known == sorted([str(resolve(old)), str(resolve(other))]), "as before"
        done = cli.run("rename", old, new)
        assert done.code == 0 and "the mirror that runs goes on with it" in done.out, done
        insert(new, "after the move")
        assert cli.run("wait", new, "--timeout", LIMIT).code == 0 and process.poll() is None
        reports = {each["source"]: each for each in json.loads(cli.run("status", "--json").out)["sources"]}
        assert set(reports) == {str(resolve(new)), str(resolve(other))}
        report = reports[str(resolve(new))]
        assert report["resyncs"] == [] and report["schema"] == "shop" and not report["refusals"], report
        assert cli.run("parity").code == 0
    assert rows(dsn, "SELECT source_id, lineage, schema_name FROM mirror.sources ORDER BY 1") == before
    assert rows(dsn, "SELECT count(*) FROM shop.t WHERE v = 'after the move'") == [(1,)]


def test_beside_others_in_a_list(cli: CommandLine, old: Path, new: Path, other: Path, folder: Path) -> None:
    """The mirror follows the list in mirror.json as well: it has the source once, by its new name."""
    config = folder / "mirror.json"
    config.write_text('{"sources": ["other.db", {"path": "old.db", "schema": "shop"}]}')
    flags = ("--config", str(config), "--state-dir", str(cli.state_dir))
    with cli.up(*flags, wait=False) as process:
        assert cli.run("wait", old, other, "--timeout", LIMIT, *flags).code == 0
        os.rename(old, new)
        done = cli.run("rename", old, new, *flags)
        assert done.code == 0 and "goes on with it" in done.out, done
        insert(new, "later")
        assert cli.run("wait", new, "--timeout", LIMIT, *flags).code == 0 and process.poll() is None
        assert cli.run("parity", *flags).code == 0
        assert {resolve(new), resolve(other)} == set(known_sources(cli.state_dir))
    assert json.loads(config.read_text())["sources"] == ["other.db", {"path": str(resolve(new)), "schema": "shop"}]


def test_the_only_one_of_a_mirror_that_runs(cli: CommandLine, old: Path, new: Path, dsn: str) -> None:
    """It would end: the steps that are printed, in order, go on with it."""
    with cli.up(old) as process:
        os.rename(old, new)
        refused = cli.run("rename", old, new)
        assert "a mirror of it runs" in refused.error
        (step,) = commands_in(refused.err)
        assert step.startswith("mirror down ") and cli.run(*shlex.split(step)[1:]).code == 0
        process.wait(LIMIT)
    done = cli.run("rename", old, new)
    assert done.code == 0 and f"`mirror up {resolve(new)}" in done.out, done
    goes_on(cli, new, dsn)


def test_the_new_name_is_mirrored_already(cli: CommandLine, old: Path, new: Path, other: Path, dsn: str) -> None:
    """Somebody has added it: the steps that are printed, in order, go on with it."""
    with cli.up(old, other):
        with Writer(old) as writer:
            writer.run(f"VACUUM INTO '{new}'")
        assert cli.run("add", new).code == 1, "its tables are those of the old name"
        old.unlink()
        (step,) = commands_in(cli.run("rename", old, new).err)
        assert step.startswith("mirror remove ") and cli.run(*shlex.split(step)[1:]).code == 0
        assert cli.run("rename", old, new).code == 0
        insert(new, "later")
        assert cli.run("wait", new, "--timeout", LIMIT).code == 0
        assert cli.run("parity").code == 0
    assert rows(dsn, "SELECT count(*) FROM t") == [(301,)]


def test_a_moved_file_is_not_copied_again(cli: CommandLine, old: Path, new: Path, other: Path, dsn: str) -> None:
    """In whatever schema: it is refused, and what is to be done is said there, and where somebody asks."""
    assert cli.run("up", old, "--once").code == 0
    os.rename(old, new)
    at_old, at_new = str(resolve(old)), str(resolve(new))
    shown = cli.run("status", old).out
    assert "its file is not there" in shown and f"mirror up {at_old}" not in shown and "mirror parity" not in shown
    assert (
        f"`mirror rename {at_old} NEW.db`" in shown and f"`mirror rename {at_old} NEW.db`" in cli.run("wait", old).err
    )
    refused = cli.run("up", new, "--once", "--schema", "another")
    assert refused.code == 2 and f"it has the rows of {at_old}, which is not there any more" in refused.err
    with cli.up(other):
        refused = cli.run("add", new, "--schema", "another")
        assert refused.code == 2
        rename, remove = commands_in(refused.err)
        assert (rename, remove) == (f"mirror rename {at_old} {at_new}", f"mirror remove {at_old}")
        assert f"next: {rename}\n" in cli.run("status", new).out
        assert cli.run(*shlex.split(rename)[1:]).code == 0 and cli.run("add", new).code == 0
        insert(new, "later")
        assert cli.run("wait", new, "--timeout", LIMIT).code == 0
    assert rows(dsn, "SELECT count(*) FROM t") == [(301,)]
    assert rows(dsn, "SELECT count(*) FROM pg_namespace WHERE nspname = 'another'") == [(0,)]


def test_one_that_was_removed_from_a_mirror_that_runs(cli: CommandLine, old: Path, new: Path, dsn: str) -> None:
    """As the refusal says: removed, renamed, added; the mirror of the others goes on."""
    other = old.with_name("other.db")
    with Writer(other) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE o(id INTEGER PRIMARY KEY)")
    with cli.up(old, other) as process:
        assert cli.run("remove", old).code == 0
        os.rename(old, new)
        assert cli.run("rename", old, new).code == 0
        assert cli.run("add", new).code == 0
        insert(new, "later")
        assert cli.run("wait", new, "--timeout", LIMIT).code == 0 and process.poll() is None
        assert cli.run("parity", new, other).code == 0
        assert rows(dsn, "SELECT count(*) FROM t") == [(301,)]
