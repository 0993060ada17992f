"""The end of a move of a source that is mirrored into its application's own tables: forward, back, and for good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.integration.test_adopted import IN_SQLITE, ROWS, adopt, app, cli, constraints, owned
from tests.support.commands import CommandLine
from tests.support.source import Writer, WriterError
from tests.support.waiting import until

__all__ = ["app", "cli"]

CONFIGURATION = '{"sources": ["../source.db"], "storage": {"backend": "dual", "readFrom": "sqlite"}}'
#: Of the orphans of ROWS: what they refer to.
PARENTS = ("INSERT INTO category VALUES (77, 'sold out', NULL), (99, 'top', NULL)",)
KNOWN = ("--acknowledge", "backups")


@pytest.fixture(autouse=True)
def configuration(folder: Path) -> Path:
    (folder / "argent").mkdir()
    path = folder / "argent" / "mirror.json"
    path.write_text(CONFIGURATION)
    return path


def rails(cli: CommandLine, *more: str) -> dict[str, dict[str, str]]:
    done = cli.run("cutover", "plan", "--json", *KNOWN, *more)
    (source,) = json.loads(done.out)["sources"]
    return {rail["name"]: rail for rail in source["rails"]}


def phase(cli: CommandLine) -> int:
    (source,) = json.loads(cli.run("cutover", "status", "--json").out)["sources"]
    assert source["moving_to"] is None, source
    return int(source["phase"])


def run(cli: CommandLine, *command: str) -> str:
    done = cli.run("cutover", *command)
    assert done.code == 0, done
    return done.out


def scaffolding(app: psycopg.Connection[Any]) -> list[Any]:
    """What the mirror has added to the application's tables."""
    return app.execute(
        "SELECT attrelid::regclass::text, attname::text FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
        " WHERE c.relnamespace = 'public'::regnamespace AND attname = '_rowid' AND NOT attisdropped"
        " UNION ALL SELECT tgrelid::regclass::text, tgname::text FROM pg_trigger WHERE tgname LIKE 'mirror%'"
    ).fetchall()


def test_there_and_back_and_for_good(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer
) -> None:
    writer.run(*IN_SQLITE, *ROWS, *PARENTS)
    before = constraints(app)
    adopt(cli, database)
    with cli.up(database):
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        assert phase(cli) == 1
        run(cli, "advance", *KNOWN, "--reads")
        assert phase(cli) == 2
        assert "already" in cli.run("cutover", "advance", *KNOWN, "--reads").error
        run(cli, "rollback")
        run(cli, "advance", *KNOWN)
        assert phase(cli) == 3
        assert constraints(app) == before
        # The application writes there: its sequence goes on, its trigger fires, and its keys hold.
        ((number,),) = app.execute("INSERT INTO category (name, parent_id) VALUES ('new', 2) RETURNING id").fetchall()
        assert number > 99
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            app.execute("INSERT INTO category (name, parent_id) VALUES ('orphan of none', 12345)")
        app.execute(
            "INSERT INTO product (id, name, price, made, tags, kind, category_id, sold) VALUES"
            " ('a1b2c3d4-89ab-cdef-0123-456789abcdef', 'c', 7.5, '2026-03-04 05:06:07.5+02', '{\"b\": null}', 'Tool',"
            " $1, true)".replace("$1", str(number))
        )
        app.execute("UPDATE product SET name = 'aa' WHERE name = 'a'")
        app.execute("DELETE FROM product WHERE name = 'b'")
        until(lambda: writer.run("SELECT count(*) FROM visit") == [[5]])
        assert writer.run("SELECT * FROM product ORDER BY name") == [
            ["0123456789abcdef0123456789abcdef", "aa", 1.5, "2026-01-02 03:04:05.678901", '{"a": [1, 2.50]}', "book", 2,
             1, None],
            ["a1b2c3d489abcdef0123456789abcdef", "c", 7.5, "2026-03-04 03:06:07.500000", '{"b": null}', "Tool", number,
             1, None],
        ]  # fmt: skip
        assert writer.run(f"SELECT name, parent_id FROM category WHERE id = {number}") == [["new", 2]]
        with Writer(database, busy=100) as stray, pytest.raises(WriterError, match="locked"):
            stray.run("INSERT INTO category VALUES (5, 'astray', NULL)")
        run(cli, "rollback")
        assert phase(cli) == 2
        with pytest.raises(psycopg.Error, match="moved back"):
            app.execute("INSERT INTO category (name) VALUES ('too late')")
        writer.run("UPDATE product SET price = 8 WHERE name = 'c'", "INSERT INTO visit VALUES ('2026-05-05', 'here')")
        assert cli.run("wait").code == 0
        done = cli.run("parity")
        assert done.code == 0, done.out
        run(cli, "advance", *KNOWN)
        assert phase(cli) == 3
        app.execute("UPDATE product SET price = 9 WHERE name = 'c'")
        until(lambda: writer.run("SELECT price FROM product WHERE name = 'c'") == [[9]])
        assert scaffolding(app)
        run(cli, "finalize")
        assert scaffolding(app) == []
        assert constraints(app) == before
        app.execute("INSERT INTO visit VALUES ('2026-06-06', 'theirs alone')")
    done = cli.run("up", database, "--once")
    assert done.code == 2 and "finalized" in done.err


def test_rows_that_refer_to_none(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer
) -> None:
    """They keep a move from beginning; where they may stay, Postgres says of the foreign key what is so."""
    writer.run(*IN_SQLITE, *ROWS)
    adopt(cli, database)
    with cli.up(database):
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        found = rails(cli)
        broken = found["foreign keys"]
        assert broken["level"] == "problem" and broken["detail"].startswith("rows that refer to none")
        assert "category_parent_id_fkey: 1 row of category (3)" in broken["detail"]
        assert "product_category_id_fkey: 1 row of product (11234567-89ab-cdef-0123-456789abcdef)" in broken["detail"]
        assert {name for name, rail in found.items() if rail["level"] == "problem"} == {"foreign keys"}
        assert "gives 1 next, the highest value is 3" in found["sequence of category.id"]["detail"]
        assert "cache_entry" in found["left out"]["detail"] and found["left out"]["level"] == "note"
        assert "replica" not in json.dumps(found)
        done = cli.run("cutover", "advance", *KNOWN)
        assert done.code == 2 and phase(cli) == 1
        assert [each for each in constraints(app) if each.endswith("NOT VALID")] == []
        run(cli, "advance", *KNOWN, "--acknowledge", "foreign keys")
        assert [each.endswith("NOT VALID") for each in constraints(app)] == [True, True]
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            app.execute("INSERT INTO category (name, parent_id) VALUES ('another', 12345)")


def test_a_sequence_goes_on_above_deleted_rows(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer
) -> None:
    """And one of a table that never had a row begins where the application's migrations have it begin."""
    app.execute("CREATE TABLE never(id serial PRIMARY KEY); CREATE SEQUENCE free")
    writer.run(*IN_SQLITE, *ROWS, *PARENTS, "CREATE TABLE never(id INTEGER PRIMARY KEY AUTOINCREMENT)")
    writer.run("INSERT INTO category VALUES (50000, 'gone', NULL)", "DELETE FROM category WHERE id = 50000")
    adopt(cli, database)
    with cli.up(database):
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        assert "free" in rails(cli)["free sequences"]["detail"]
        run(cli, "advance", *KNOWN)
        ((number,),) = app.execute("INSERT INTO category (name) VALUES ('new') RETURNING id").fetchall()
        assert number > 50000
        assert app.execute("INSERT INTO never DEFAULT VALUES RETURNING id").fetchone() == (1,)
        until(lambda: writer.run("SELECT id FROM never") == [[1]])


def test_as_the_owner_of_the_tables_who_is_no_superuser(
    folder: Path, app: psycopg.Connection[Any], database: Path, writer: Writer
) -> None:
    """What is set aside while the source is mirrored acts again once it is moved, and is set aside again after it."""
    owner = owned(app)
    before = constraints(app)
    cli = CommandLine(folder, make_conninfo(app.info.dsn, user=owner))
    writer.run(*IN_SQLITE, *ROWS, *PARENTS)
    adopt(cli, database)
    with cli.up(database):
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        assert constraints(app) == []
        aside = rails(cli)["set aside"]["detail"]
        assert "counts of product" in aside and "category_parent_id_fkey of category" in aside
        run(cli, "advance", *KNOWN)
        assert constraints(app) == before, "there, and validated"
        app.execute("UPDATE product SET price = 8 WHERE name = 'a'")
        until(lambda: writer.run("SELECT count(*) FROM visit") == [[4]])
        run(cli, "rollback")
        writer.run("DELETE FROM category WHERE id = 77")
        assert cli.run("wait").code == 0
        assert constraints(app) == []
        writer.run("INSERT INTO category VALUES (77, 'sold out', NULL)")
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        run(cli, "advance", *KNOWN)
        run(cli, "finalize")
        assert constraints(app) == before and scaffolding(app) == []


def test_what_a_stray_writer_writes(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer
) -> None:
    """It is found, and adopted: also a row whose number Postgres always gives itself. Unchanged rows are none."""
    writer.run(*IN_SQLITE, *ROWS, *PARENTS)
    writer.run(
        "UPDATE product SET made = replace(made, ' ', 'T') || 'Z'",
        "INSERT INTO product SELECT 'f' || substr(id, 1, 31), 'x' || name, price, '2026-02-02 00:00:00', tags, kind,"
        " category_id, sold, worth FROM product UNION ALL SELECT 'e' || substr(id, 1, 31), 'y' || name, price,"
        " '2026-02-02 00:00:00', tags, kind, category_id, sold, worth FROM product",
    )
    adopt(cli, database)
    with cli.up(database):
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        run(cli, "advance", *KNOWN, "--fence", "watch")
        writer.run("INSERT INTO category VALUES (5, 'astray', 1)", "UPDATE product SET sold = 1 WHERE name = 'xb'")
        until(lambda: run(cli, "strays", "--json").count('"table"') == 2)
        run(cli, "strays", "--adopt")
        assert app.execute("SELECT name, parent_id FROM category WHERE id = 5").fetchone() == ("astray", 1)
        assert app.execute("SELECT sold FROM product WHERE name = 'xb'").fetchone() == (True,)
        # What Postgres has not changed stays as the file has it, though most of the column is written otherwise.
        app.execute("UPDATE product SET price = 4 WHERE name = 'a'")
        until(lambda: writer.run("SELECT price FROM product WHERE name = 'a'") == [[4]])
        assert writer.run("SELECT made FROM product WHERE name = 'a'") == [["2026-01-02T03:04:05.678901Z"]]
        # A time that no form of SQLite has is a row that the file does not take.
        app.execute("UPDATE product SET made = 'infinity' WHERE name = 'a'")
        until(lambda: "has no form for" in cli.run("rejects", "list", "--json").out)
        assert "does not take 1 row" in cli.run("cutover", "rollback").error
        app.execute("UPDATE product SET made = '2026-04-04 04:04:04Z' WHERE name = 'a'")
        until(lambda: writer.run("SELECT made FROM product WHERE name = 'a'") == [["2026-04-04 04:04:04"]])
        run(cli, "rollback")


def test_a_key_of_which_no_form_was_decided(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer
) -> None:
    """The way back would not find its rows: adopted again, it does."""
    app.execute("CREATE TABLE later(id uuid PRIMARY KEY, n integer)")
    writer.run(*IN_SQLITE, *ROWS, *PARENTS, "CREATE TABLE later(id TEXT PRIMARY KEY, n INTEGER)")
    adopt(cli, database)
    with cli.up(database):
        writer.run("INSERT INTO later VALUES ('01234567-89ab-cdef-0123-456789abcdef', 1)")
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        found = rails(cli)
        assert {name for name, rail in found.items() if rail["level"] == "problem"} == {"keys"}
        assert "later.id" in found["keys"]["detail"]
        assert cli.run("cutover", "advance", *KNOWN).code == 2
    adopt(cli, database)
    with cli.up(database):
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        run(cli, "advance", *KNOWN)
        app.execute("UPDATE later SET n = 2")
        until(lambda: writer.run("SELECT * FROM later") == [["01234567-89ab-cdef-0123-456789abcdef", 2]])
