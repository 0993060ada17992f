"""``mirror adopt --after-copy``: SQL that is run in Postgres once the first copy is there, and again by the switch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.integration.test_adopted import IN_SQLITE, ROWS, adopt, app, cli, constraints, owned
from tests.integration.test_adopted_moves import PARENTS, configuration, phase, rails
from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import until

__all__ = ["app", "cli", "configuration"]

SEARCH = (
    "CREATE VIRTUAL TABLE category_search USING fts5(name, content='category', content_rowid='id')",
    "INSERT INTO category_search(category_search) VALUES ('rebuild')",
)
IN_POSTGRES = """
    ALTER TABLE category ADD COLUMN words tsvector;
    CREATE TABLE ran(number bigint GENERATED ALWAYS AS IDENTITY, rows bigint, settings text);
"""
#: What the application searches by; and how often it was run, with what there was then.
SCRIPT = """
-- all that is needed; twice does not hurt
UPDATE category SET words = to_tsvector('simple', name) WHERE words IS DISTINCT FROM to_tsvector('simple', name);
INSERT INTO ran (rows, settings) SELECT count(*), current_setting('search_path') FROM category;
SET search_path = nowhere;  -- the mirror's sessions do not mind
"""
KNOWN = ("--acknowledge", "backups")


@pytest.fixture
def script(folder: Path, app: psycopg.Connection[Any], writer: Writer) -> Path:
    """A file, and the tables that it needs, with the source's rows."""
    app.execute(IN_POSTGRES.encode())
    writer.run(*IN_SQLITE, *ROWS, *PARENTS, *SEARCH)
    path = folder / "search.sql"
    path.write_text(SCRIPT)
    return path


def found(app: psycopg.Connection[Any]) -> tuple[int, int]:
    """How many rows a search finds that has all names, and how often the script was run."""
    query = "SELECT count(*) FROM category WHERE words @@ to_tsquery('simple', 'things | orphan')"
    row = app.execute(f"SELECT ({query}), count(*) FROM ran".encode()).fetchone()
    assert row is not None
    return row[0], row[1]


def test_it_is_run_once_after_the_copy(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer, script: Path, mirror: MirrorProcess
) -> None:
    adopt(cli, database, "--after-copy", str(script))
    mirror.start()
    mirror.check()
    assert found(app) == (3, 1)
    assert app.execute("SELECT rows, settings FROM ran").fetchall() == [(5, "public, pg_catalog, pg_temp")]
    # What comes later is mirrored, and the script is not run for it; nor after a restart, nor after another copy.
    writer.run("INSERT INTO category VALUES (9, 'more things', NULL)")
    mirror.check()
    mirror.stop()
    mirror.start()
    mirror.check()
    mirror.kill()
    mirror.stop()
    for path in mirror.state_dir.rglob("shadow*"):
        path.unlink()
    mirror.start()
    mirror.check()
    assert mirror.status()["resyncs"]
    assert found(app) == (3, 1)
    status = mirror.status()
    assert status["after_copy_error"] == "" and status["others_wrote"] == 0, "what it writes is the mirror's"
    # Given anew, it is.
    adopt(cli, database, "--after-copy", str(script))
    mirror.stop()
    mirror.start()
    mirror.check()
    assert found(app) == (4, 2)


def test_triggers_act_on_what_it_writes(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, script: Path, mirror: MirrorProcess
) -> None:
    app.execute("CREATE TABLE log(row text)")
    app.execute(
        "CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO public.log VALUES (NEW.name); RETURN NULL; END'"
    )
    app.execute("CREATE TRIGGER logs AFTER INSERT OR UPDATE ON category FOR EACH ROW EXECUTE FUNCTION logs()")
    adopt(cli, database, "--after-copy", str(script))
    mirror.start()
    mirror.check()
    assert app.execute("SELECT count(*) FROM log").fetchone() == (5,), "for its rows, and for none of the copy"


@pytest.mark.parametrize("seam", ["after-copy:begun", "after-copy:before-commit", "after-copy:done"])
def test_killed_in_the_middle(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, script: Path, mirror: MirrorProcess, seam: str
) -> None:
    adopt(cli, database, "--after-copy", str(script))
    mirror.start(kill_at=seam, wait=False)
    mirror.wait_killed()
    assert found(app)[1] == (seam == "after-copy:done")
    mirror.start()
    mirror.check()
    assert found(app) == (3, 1)


def test_it_does_not_go_through_each_time(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, script: Path, mirror: MirrorProcess
) -> None:
    """A script that ends its own session is begun three times, and then the mirror follows without it."""
    script.write_text("INSERT INTO ran (rows) VALUES (1); SELECT pg_terminate_backend(pg_backend_pid());")
    adopt(cli, database, "--after-copy", str(script))
    mirror.start(wait=False)
    status = mirror.status_when(lambda status: bool(status["after_copy_error"]))
    assert "57P01" in status["after_copy_error"] or "begun 3 times" in status["after_copy_error"]
    mirror.check()
    assert app.execute("SELECT count(*) FROM ran").fetchone() == (0,)
    assert app.execute("SELECT after_copy_begun FROM mirror.adoptions").fetchone() == (3,)


def test_stopped_while_it_takes_long(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, script: Path, mirror: MirrorProcess
) -> None:
    script.write_text("INSERT INTO ran (rows) VALUES (1); SELECT pg_sleep(600);")
    adopt(cli, database, "--after-copy", str(script))
    mirror.start(wait=False)
    asleep = b"SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    until(lambda: app.execute(asleep).fetchone() == (1,))
    mirror.stop()
    assert app.execute(asleep).fetchone() == (0,)
    assert app.execute("SELECT after_copy_begun, after_copy_at FROM mirror.adoptions").fetchone() == (0, None)
    script.write_text(SCRIPT)
    adopt(cli, database, "--after-copy", str(script))
    mirror.start()
    mirror.check()
    assert found(app) == (3, 1)


def test_a_script_that_fails_and_is_mended(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer, script: Path, folder: Path
) -> None:
    """Rows are followed all the same; what is wrong is told once, and keeps a move from beginning."""
    script.write_text(f"{SCRIPT}\nUPDATE nowhere.at_all SET x = 1;\nSELECT 1")
    adopt(cli, database, "--after-copy", str(script))
    with cli.up(database):
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        writer.run("INSERT INTO category VALUES (9, 'more things', NULL)")
        assert cli.run("wait").code == 0
        assert app.execute("SELECT count(*) FROM category").fetchone() == (6,)
        assert found(app) == (0, 0), "all of it is undone"
        (status,) = json.loads(cli.run("status", "--json").out)["sources"]
        why = 'line 7: relation "nowhere.at_all" does not exist (SQLSTATE 42P01)'
        assert status["after_copy_error"] == f"{script}: {why}"
        (step,) = [each for each in status["next_steps"] if "after the copy" in each]
        assert "mirror adopt" in step and "--after-copy FILE" in step
        assert cli.run("parity").code == 0
        rail = rails(cli)["after copy"]
        assert (
            rail["level"] == "problem" and why in rail["detail"] and "--acknowledge 'after copy'" in rail["next_step"]
        )
        assert cli.run("cutover", "advance", *KNOWN).code == 1 and phase(cli) == 1
        done = cli.run("cutover", "advance", *KNOWN, "--acknowledge", "after copy")
        assert done.code == 2 and why in done.err, done
        assert phase(cli) == 1 and found(app) == (0, 0)
        writer.run("INSERT INTO category VALUES (10, 'goes on', NULL)")
        assert cli.run("wait").code == 0
    script.write_text(SCRIPT)
    adopt(cli, database, "--after-copy", str(script))
    with cli.up(database):
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        assert found(app) == (4, 1)
        assert "was run at" in rails(cli)["after copy"]["detail"]


def test_the_switch_runs_it_again(folder: Path, app: psycopg.Connection[Any], database: Path, writer: Writer) -> None:
    """As the owner of the tables, whose foreign keys are set aside meanwhile; where it fails then, nothing is done."""
    cli = CommandLine(folder, make_conninfo(app.info.dsn, user=owned(app)))
    before = constraints(app)
    app.execute(IN_POSTGRES.encode())
    app.execute("CREATE TABLE stop(now int)")
    writer.run(*IN_SQLITE, *ROWS, *PARENTS, *SEARCH)
    script = folder / "search.sql"
    script.write_text(f"{SCRIPT} SELECT 1 / (1 - count(*)) FROM public.stop; SET ROLE NONE")
    adopt(cli, database, "--after-copy", str(script))
    with cli.up(database):
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        assert found(app) == (3, 1)
        writer.run("INSERT INTO category VALUES (9, 'more things', 1)")
        assert cli.run("wait").code == 0
        app.execute("INSERT INTO stop VALUES (1)")
        done = cli.run("cutover", "advance", *KNOWN)
        assert done.code == 2 and "division by zero (SQLSTATE 22012)" in done.err, done
        assert phase(cli) == 1 and found(app) == (3, 1) and constraints(app) == []
        writer.run("INSERT INTO category VALUES (10, 'things that came then', 1)")
        assert cli.run("wait").code == 0
        app.execute("DELETE FROM stop")
        done = cli.run("cutover", "advance", *KNOWN)
        assert done.code == 0 and phase(cli) == 3, done
        assert found(app) == (5, 2) and constraints(app) == before
        app.execute("UPDATE category SET name = 'carried back' WHERE id = 10")
        until(lambda: writer.run("SELECT name FROM category WHERE id = 10") == [["carried back"]])
        assert cli.run("cutover", "rollback").code == 0
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        assert found(app)[1] == 2, "the file is copied again, which does not run it"


def test_what_it_is_to_do_is_reported(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, script: Path
) -> None:
    exclude = ("--exclude", "cache_*")
    done = cli.run("adopt", database, *exclude, "--dry-run")
    said = " ".join(done.out.split())
    assert (
        "category_search (fts5): full-text search of name in category: it is not mirrored, nor are its tables" in said
    )
    example = """UPDATE "public"."category" SET "words" = to_tsvector(concat_ws(' ', "name"))"""
    assert f"next: --after-copy FILE.sql, with SQL that fills category.words, as {example}" in said
    done = cli.run("adopt", database, *exclude, "--dry-run", "--after-copy", str(script), "--json")
    (report,) = json.loads(done.out)["reports"]
    assert report["after_copy"] == str(script) and report["decisions"]["after_copy"] == SCRIPT
    (search,) = report["search"]
    assert search["in_postgres"] == ["category.words"] and search["texts_in"] == "category"
    assert app.execute("SELECT to_regclass('mirror.adoptions')").fetchone() == (None,)
    said = " ".join(cli.run("adopt", database, *exclude, "--dry-run", "--after-copy", str(script)).out.split())
    assert f"{script} is to fill category.words" in said and "must be such that it can run twice" in said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("UPDATE category SET name = 'x'; COMMIT", "line 1 begins or ends a transaction: COMMIT"),
        ("SELECT 1;\nSELEC 2", 'line 2: syntax error at or near "SELEC"'),
        ("SELECT 'abc", "line 1: unterminated quoted string"),
        ("\\i other.sql", "line 1 has a backslash"),
        (" -- nothing\n", "there is no statement in it"),
    ],
)
def test_a_file_that_cannot_be_run(cli: CommandLine, database: Path, script: Path, text: str, why: str) -> None:
    script.write_text(text)
    done = cli.run("adopt", database, "--exclude", "cache_*", "--after-copy", str(script))
    assert why in done.error, done


def test_postgres_itself_lets_no_script_commit(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, script: Path, mirror: MirrorProcess
) -> None:
    """What is not seen in the text."""
    script.write_text("INSERT INTO ran (rows) VALUES (1); DO 'BEGIN COMMIT; END'")
    adopt(cli, database, "--after-copy", str(script))
    mirror.start()
    mirror.check()
    assert "2D000" in mirror.status()["after_copy_error"]
    assert app.execute("SELECT count(*) FROM ran").fetchone() == (0,)
