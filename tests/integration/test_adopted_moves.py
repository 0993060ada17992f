"""The end of a move of a source that is mirrored into its application's own tables: forward, back, and for good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.integration.test_adopted import IN_SQLITE, ROWS, adopt, app, cli, constraints
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
        try:
            until(lambda: writer.run("SELECT count(*) FROM visit") == [[5]], seconds=15)
        except AssertionError:
            print(
                cli.run("status", "--json").out,
                app.execute("select * from mirror.reverse").fetchall(),
                app.execute("select * from mirror.reverse_rejects").fetchall(),
                writer.run("select * from visit"),
            )
            raise
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
