"""``mirror remove`` of a source that programs have moved to Postgres, or are moving to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from mirror.core.folders import known_sources
from mirror.core.published import PublishedReader
from tests.integration.test_adopted import IN_POSTGRES, IN_SQLITE, ROWS, adopt, app, cli, constraints, owned
from tests.integration.test_adopted_moves import KNOWN, PARENTS, configuration, run
from tests.support.commands import CommandLine
from tests.support.source import Writer

__all__ = ["app", "cli", "configuration"]

OWN = ("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)", "INSERT INTO notes VALUES (1, 'one'), (2, 'two')")


def records(connection: psycopg.Connection[Any]) -> int:
    ((count,),) = connection.execute("SELECT count(*) FROM mirror.sources").fetchall()
    return int(count)


def test_an_adopted_source_of_which_something_is_set_aside(
    folder: Path, app: psycopg.Connection[Any], database: Path, writer: Writer
) -> None:
    """It says what does not act, and how that acts again; so does a dry run."""
    owner = owned(app)
    before = constraints(app)
    cli = CommandLine(folder, make_conninfo(app.info.dsn, user=owner))
    writer.run(*IN_SQLITE, *ROWS, *PARENTS)
    adopt(cli, database)
    assert cli.run("up", database, "--once").code == 0
    for more in (("--dry-run",), ()):
        said = cli.run("remove", database, *more).out
        assert "2 foreign keys and 1 trigger of them do not act until then" in said.replace("\n", " "), said
        assert f"`mirror remove {database} --drop-tables` gives the tables back to the application, drops none" in said
        assert f"`mirror up {database}` goes on" in said and "stay as they are" not in said
    assert constraints(app) == []
    done = cli.run("remove", database, "--drop-tables", "--yes")
    assert done.code == 0 and constraints(app) == before, done
    assert app.execute("SELECT count(*) FROM product").fetchone() == (2,)


def test_an_adopted_source_of_which_nothing_is_set_aside(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer
) -> None:
    writer.run(*IN_SQLITE, *ROWS)
    adopt(cli, database)
    assert cli.run("up", database, "--once").code == 0
    done = json.loads(cli.run("remove", database, "--json").out)["sources"][0]
    assert done["set_aside"] == {"foreign_keys": 0, "triggers": 0} and "not act" not in done["text"]
    assert "the tables of its application stay" in done["text"]


def test_where_postgres_does_not_answer(cli: CommandLine, database: Path, writer: Writer, dsn: str) -> None:
    """It is mirrored no more all the same, and what was not asked is told."""
    writer.run(*OWN)
    assert cli.run("up", database, "--once").code == 0
    away = CommandLine(cli.folder, make_conninfo(dsn, host="127.0.0.1", port=1, connect_timeout=2))
    done = away.run("remove", database)
    assert done.code == 0 and "Postgres was not asked whether anything of them is set aside" in done.out, done
    assert known_sources(cli.state_dir) == []


def test_in_the_middle_of_a_move(cli: CommandLine, database: Path, writer: Writer, dsn: str) -> None:
    """It names commands that go on, and none that is refused."""
    writer.run(*OWN)
    with cli.up(database):
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        run(cli, "advance", *KNOWN)
        reads = cli.run("remove", database, "--dry-run").out
        assert "phase 2 of its move" in reads and f"`mirror cutover rollback {database}`" in reads
        assert "Postgres does not get what they write" in reads and "--drop-tables" not in reads
        run(cli, "advance", *KNOWN)
        writes = cli.run("remove", database, "--dry-run").out
        assert "phase 3 of its move" in writes and f"`mirror cutover finalize {database}`" in writes
        assert "the file does not get what they write there" in writes and "--drop-tables" not in writes
        refused = cli.run("remove", database, "--drop-tables", "--yes").error
        assert "`mirror cutover rollback" in refused and "by hand" not in refused


@pytest.mark.parametrize("adopted", [False, True], ids=["own", "adopted"])
def test_after_the_end_of_a_move(cli: CommandLine, dsn: str, database: Path, writer: Writer, adopted: bool) -> None:
    """Records and saved copy go, and nothing of the tables; the old file is no danger to them."""
    with psycopg.connect(dsn, autocommit=True) as app:
        if adopted:
            app.execute(IN_POSTGRES)
            writer.run(*IN_SQLITE, *ROWS, *PARENTS)
            adopt(cli, database)
        else:
            writer.run(*OWN)
        table = "product" if adopted else "notes"
        with cli.up(database):
            assert cli.run("wait").code == 0 and cli.run("parity").code == 0
            for _ in range(1 if adopted else 2):
                run(cli, "advance", *KNOWN)
            app.execute(f"DELETE FROM {table} WHERE ctid = (SELECT min(ctid) FROM {table})".encode())
            said = run(cli, "finalize")
            assert f"`mirror remove {database}` takes away what the mirror has of it" in said, said
        before = constraints(app), content(app, table)
        refused = cli.run("remove", database, "--drop-tables", "--yes").error
        assert f"`mirror remove {database}` takes away" in refused and "rollback" not in refused, refused
        dry = cli.run("remove", database, "--dry-run").out
        assert "would be gone" in dry and "--drop-tables" not in dry and "rollback" not in dry and records(app) == 1
        done = cli.run("remove", database)
        assert done.code == 0 and "moved to Postgres for good" in done.out and "its tables stay" in done.out, done
        assert "DROP SCHEMA mirror CASCADE" in done.out and "rm -rf" not in done.out and "argent_app" not in done.out
        assert records(app) == 0 and (constraints(app), content(app, table)) == before
        here = cli.source_folder(database)
        assert sorted(each.name for each in here.iterdir()) == ["moved", "position"] and str(here) in done.out
        published = PublishedReader(here).read()
        assert published is not None and published.sealed, "programs that read by it know where to"
        assert known_sources(cli.state_dir) == [] and database.exists()
        assert json.loads((cli.folder / "argent" / "mirror.json").read_text())["sources"] == []
        assert depending(app) == [], "what is left can go with its schema"
        app.execute("DROP SCHEMA mirror CASCADE")
        assert (constraints(app), content(app, table)) == before
        # The old file is not mirrored anew by mistake.
        for command in (("up", "--once"), ("adopt",)):
            again = cli.run(*command, database).error
            assert "moved to Postgres for good" in again and f"delete {here}" in again, again
        after = PublishedReader(here).read()
        assert after is not None and after.sealed and known_sources(cli.state_dir) == []
        # Nor from another state directory: the tables are not its own.
        assert cli.run("up", database, "--once", "--state-dir", cli.folder / "other").code == 2
        assert (constraints(app), content(app, table)) == before


def test_killed_at_the_end(cli: CommandLine, database: Path, writer: Writer, dsn: str) -> None:
    """Given again once the records are gone, it does what is left."""
    writer.run(*OWN)
    with cli.up(database):
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        for _ in range(2):
            run(cli, "advance", *KNOWN)
        run(cli, "finalize")
    here = cli.source_folder(database)
    name = (here / "source").read_bytes()
    assert cli.run("remove", database).code == 0
    (here / "source").write_bytes(name)
    done = cli.run("remove", database)
    assert done.code == 0 and "moved to Postgres for good" in done.out and known_sources(cli.state_dir) == [], done


def test_agents_that_share_tables(cli: CommandLine, database: Path, writer: Writer, dsn: str) -> None:
    """The records stay, which keep the file from being mirrored over rows that are there whatever is mirrored."""
    writer.run(*OWN)
    with cli.up(database, "--agent", "ada"):
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        for _ in range(2):
            run(cli, "advance", *KNOWN)
        run(cli, "finalize")
    done = cli.run("remove", database)
    assert done.code == 0 and "its records in the schema mirror stay" in done.out, done
    with psycopg.connect(dsn, autocommit=True) as connection:
        assert records(connection) == 1
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (2,)
    again = cli.run("up", database, "--agent", "ada", "--once", "--state-dir", cli.folder / "other")
    assert "finalized" in again.error


def content(connection: psycopg.Connection[Any], table: str) -> list[Any]:
    return connection.execute(f"SELECT t::text FROM {table} t ORDER BY 1".encode()).fetchall()


def depending(connection: psycopg.Connection[Any]) -> list[Any]:
    """What is not of the schema mirror and depends on something that is."""
    return connection.execute(
        "SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_depend d, LATERAL"
        " pg_identify_object(d.classid, d.objid, d.objsubid) o, LATERAL"
        " pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) r"
        " WHERE d.deptype <> 'p' AND (r.schema = 'mirror' OR (r.type = 'schema' AND r.name = 'mirror'))"
        " AND coalesce(o.schema, '') NOT IN ('mirror', 'pg_toast')"
        " AND o.identity !~ ' on mirror\\.|^mirror\\.|for mirror\\.'"
    ).fetchall()
