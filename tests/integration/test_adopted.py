"""A source that is mirrored live into the tables that its application's own migrations made in Postgres."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import until

#: What the application's migrations make on each side.
IN_SQLITE = (
    "CREATE TABLE category(id INTEGER PRIMARY KEY AUTOINCREMENT, name VARCHAR(40) NOT NULL UNIQUE,"
    " parent_id INTEGER REFERENCES category(id))",
    "CREATE TABLE product(id CHAR(32) PRIMARY KEY, name VARCHAR(10) NOT NULL, price DECIMAL NOT NULL,"
    " made DATETIME NOT NULL, tags TEXT NOT NULL, kind VARCHAR(10) NOT NULL, category_id INTEGER NOT NULL"
    " REFERENCES category(id), sold BOOL NOT NULL, worth DECIMAL)",
    "CREATE TABLE visit(at DATETIME NOT NULL, page TEXT)",
    "CREATE TABLE cache_entry(k TEXT PRIMARY KEY, v BLOB)",
)
IN_POSTGRES = """
    CREATE TYPE kind AS ENUM ('book', 'Tool', 'it''s');
    CREATE TABLE category(
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name varchar(40) NOT NULL UNIQUE,
        parent_id bigint REFERENCES category ON DELETE CASCADE);
    CREATE TABLE product(
        id uuid PRIMARY KEY, name varchar(10) NOT NULL, price numeric(8,2) NOT NULL CHECK (price >= 0),
        made timestamptz NOT NULL, tags jsonb NOT NULL, kind kind NOT NULL,
        category_id bigint NOT NULL REFERENCES category DEFERRABLE INITIALLY DEFERRED, sold boolean NOT NULL,
        worth numeric(12,2) GENERATED ALWAYS AS (price * 2) STORED);
    CREATE TABLE visit(at timestamp NOT NULL, page text);
    CREATE FUNCTION counts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO visit VALUES ('2000-01-01', 'a trigger was here'); RETURN NULL; END $$;
    CREATE TRIGGER counts AFTER INSERT OR UPDATE ON product FOR EACH ROW EXECUTE FUNCTION counts();
    INSERT INTO category OVERRIDING SYSTEM VALUE VALUES (1, 'seeded');
"""
ROWS = (
    "INSERT INTO category VALUES (1, 'things', NULL), (2, 'small things', 1), (3, 'orphan', 99)",
    "INSERT INTO product VALUES ('0123456789abcdef0123456789abcdef', 'a', 1.5, '2026-01-02 03:04:05.678901',"
    " '{\"a\": [1, 2.50]}', 'book', 2, 1, NULL), ('1123456789abcdef0123456789abcdef', 'b', 12, '2026-01-02 03:04:05',"
    " '[]', 'it''s', 77, 0, NULL)",
    "INSERT INTO visit VALUES ('2026-01-02 00:00:00', 'x'), ('2026-01-02 00:00:00', 'x'), ('2026-01-03 00:00:00', NULL)",
)


@pytest.fixture
def app(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(IN_POSTGRES)
        yield connection


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


def adopt(cli: CommandLine, database: Path, *more: str) -> None:
    done = cli.run("adopt", database, "--exclude", "cache_*", *more)
    assert done.code == 0, done.out + done.err


def test_into_the_applications_tables(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer, mirror: MirrorProcess
) -> None:
    writer.run(*IN_SQLITE, *ROWS)
    adopt(cli, database)
    mirror.start()
    mirror.check()
    assert mirror.status()["refusals"] == []
    found = app.execute("SELECT id::text, name, price, made::text, tags, kind::text, sold, worth FROM product ORDER BY 1").fetchall()
    assert [str(value) for value in found[0]] == [
        "01234567-89ab-cdef-0123-456789abcdef", "a", "1.50", "2026-01-02 03:04:05.678901+00", "{'a': [1, 2.5]}", "book",
        "True", "3.00",
    ]  # fmt: skip
    assert app.execute("SELECT name FROM category ORDER BY id").fetchall() == [("things",), ("small things",), ("orphan",)]
    assert app.execute("SELECT count(*) FROM visit").fetchone() == (3,), "no trigger has fired"
    # Two rows exchange a unique value, one is deleted to which another refers, and one changes its key.
    writer.run(
        "UPDATE category SET name = 'swap' WHERE id = 1",
        "UPDATE category SET name = 'things' WHERE id = 2",
        "UPDATE category SET name = 'small things' WHERE id = 1",
    )
    writer.transaction(
        "UPDATE category SET name = 'x' WHERE id = 1",
        "UPDATE category SET name = 'small things' WHERE id = 2",
        "UPDATE category SET name = 'things' WHERE id = 1",
    )
    writer.run(
        "DELETE FROM category WHERE id = 1",
        "UPDATE product SET id = '2123456789abcdef0123456789abcdef' WHERE name = 'b'",
        "DELETE FROM visit WHERE page IS NULL",
    )
    mirror.check()
    assert app.execute("SELECT id, name FROM category ORDER BY 1").fetchall() == [(2, "small things"), (3, "orphan")]
    assert app.execute("SELECT count(*) FROM visit").fetchone() == (2,)
