"""Vectors of pgvector in an application's own tables; and types beside them, whatever the session's search_path is."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.postgres.adopted import guards
from mirror.postgres.adopted.catalog import read_tables
from mirror.postgres.sessions import connect
from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer

#: The extension is where the application's types are, as it mostly is.
IN_POSTGRES = """
    CREATE EXTENSION vector;
    CREATE TYPE color AS ENUM ('red', 'light blue');
    CREATE DOMAIN short AS text CHECK (length(VALUE) < 5);
    CREATE TABLE item(id bigint PRIMARY KEY, colors color[], color color NOT NULL, note short, near vector(3), half
        halfvec(3))
"""
IN_SQLITE = "CREATE TABLE item(id INTEGER PRIMARY KEY, colors TEXT, color TEXT, note TEXT, near BLOB, half BLOB)"


def blob(*numbers: float) -> str:
    return f"x'{struct.pack(f'<{len(numbers)}f', *numbers).hex()}'"


ROWS = (
    f"INSERT INTO item VALUES (1, '[\"red\"]', 'red', 'a', {blob(0.1, -0.0, 3e38)}, {blob(1, 0.1, -2)})",
    f"INSERT INTO item VALUES (2, NULL, 'light blue', NULL, {blob(1e-45, 2, 3)}, NULL)",
)


@pytest.fixture
def app(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(IN_POSTGRES)
        yield connection


def test_names_of_types_do_not_depend_on_the_session(app: psycopg.Connection[Any], dsn: str) -> None:
    names = []
    for path in ("pg_catalog, pg_temp", "pg_catalog, public"):
        with connect(dsn, raw=True) as conn:
            conn.execute(f"SET search_path = {path}".encode())
            names.append([column.type.sql for column in read_tables(conn, "public")["item"].columns])
    assert names == 2 * [
        ["bigint", "public.color[]", "public.color", "public.short", "public.vector", "public.halfvec"]
    ]


def test_a_foreign_key_is_made_again_in_a_session_that_has_another_path(
    folder: Path, app: psycopg.Connection[Any], dsn: str, database: Path, writer: Writer, mirror: MirrorProcess
) -> None:
    """The extension's schema is in the search_path of the one that sets it aside, and not of the others."""
    app.execute("CREATE TABLE part(id bigint PRIMARY KEY, item_id bigint REFERENCES item ON DELETE CASCADE)")
    writer.run(IN_SQLITE, "CREATE TABLE part(id INTEGER PRIMARY KEY, item_id INTEGER REFERENCES item)", *ROWS)
    cli = CommandLine(folder, dsn)
    assert cli.run("adopt", database).code == 0
    mirror.start()
    mirror.check()
    mirror.stop()
    with connect(dsn, raw=True) as conn:
        conn.execute("SET search_path = pg_catalog, public")
        ((source_id,),) = conn.execute("SELECT source_id FROM mirror.sources").fetchall()
        with conn.transaction():
            guards.set_aside(conn, int(source_id), "public", ["item", "part"])
        assert conn.execute("SELECT current_setting('search_path')").fetchone() == ("pg_catalog, public",)
    ((definition,),) = app.execute("SELECT definition FROM mirror.set_aside").fetchall()
    assert definition == "FOREIGN KEY (item_id) REFERENCES public.item(id) ON DELETE CASCADE"
    done = cli.run("remove", database, "--drop-tables", "--yes", "--state-dir", mirror.state_dir)
    assert done.code == 0, done.out + done.err
    found = app.execute(
        "SELECT conname FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace"
    ).fetchall()
    assert found == [("part_item_id_fkey",)]


def test_the_store_of_langgraph(
    folder: Path, app: psycopg.Connection[Any], dsn: str, database: Path, writer: Writer, mirror: MirrorProcess
) -> None:
    """Its lives are rounded as PostgresStore rounds them; of vectors without an item is told what to do."""
    columns = "created_at {0} DEFAULT CURRENT_TIMESTAMP, updated_at {0} DEFAULT CURRENT_TIMESTAMP"
    both = (
        "CREATE TABLE store (prefix text NOT NULL, key text NOT NULL, value {json} NOT NULL, {columns},"
        " expires_at {time}, ttl_minutes {number}, PRIMARY KEY (prefix, key))",
        "CREATE TABLE store_vectors (prefix text NOT NULL, key text NOT NULL, field_name text NOT NULL, embedding"
        " {vector}, {columns}, PRIMARY KEY (prefix, key, field_name), FOREIGN KEY (prefix, key) REFERENCES"
        " store(prefix, key) ON DELETE CASCADE)",
        "CREATE TABLE store_migrations (v INTEGER PRIMARY KEY)",
        "INSERT INTO store_migrations VALUES (0), (1), (2), (3)",
    )
    here = {"json": "text", "columns": columns.format("TIMESTAMP"), "time": "TIMESTAMP", "number": "REAL"}
    zone = "TIMESTAMP WITH TIME ZONE"
    there = {"json": "jsonb", "columns": columns.format(zone), "time": zone, "number": "INT", "vector": "vector(2)"}
    writer.run(
        *(each.format(**here, vector="BLOB") for each in both),
        "INSERT INTO store_migrations VALUES (4)",
        "INSERT INTO store (prefix, key, value, expires_at, ttl_minutes) VALUES"
        " ('a.b', 'k', CAST('{\"n\":1.0}' AS BLOB), '2026-11-30 04:54:24.578199+00:00', 1.5),"
        " ('a', 'k', CAST('{}' AS BLOB), '2026-11-30 04:54:24', 2.5), ('a', 'l', CAST('[]' AS BLOB), NULL, NULL)",
        f"INSERT INTO store_vectors (prefix, key, field_name, embedding) VALUES ('a', 'k', '$', {blob(1, 2)}),"
        f" ('a', 'gone', '$', {blob(1, 2)})",
    )
    app.execute("DROP TABLE item")
    for each in both:
        app.execute(each.format(**there).encode())
    done = CommandLine(folder, dsn).run("adopt", database)
    assert done.code == 0, done.out + done.err
    said = " ".join(done.out.split())
    assert "rounded to 0 places" in said and "no such row in store" in said, done.out
    assert "DELETE FROM store_vectors WHERE NOT EXISTS" in said, done.out
    mirror.start()
    mirror.check()
    assert app.execute("SELECT prefix, value, expires_at::text, ttl_minutes FROM store ORDER BY 1, key").fetchall() == [
        ("a", {}, "2026-11-30 04:54:24+00", 2),
        ("a", [], None, None),
        ("a.b", {"n": 1.0}, "2026-11-30 04:54:24.578199+00", 2),
    ]
    assert app.execute("SELECT count(*) FROM store_migrations").fetchone() == (4,)


def test_vectors_are_mirrored_and_found(
    folder: Path, app: psycopg.Connection[Any], dsn: str, database: Path, writer: Writer, mirror: MirrorProcess
) -> None:
    writer.run(IN_SQLITE, *ROWS)
    done = CommandLine(folder, dsn).run("adopt", database)
    assert done.code == 0 and "rounded to half precision" in done.out, done.out + done.err
    mirror.start()
    mirror.check()
    writer.run(
        f"UPDATE item SET near = {blob(1, 2, 3)} WHERE id = 2",
        f"INSERT INTO item VALUES (3, NULL, 'red', 'b', {blob(1, 2)}, NULL)",
        f"INSERT INTO item VALUES (4, NULL, 'red', 'b', NULL, {blob(1, 70_000, 2)})",
    )
    mirror.wait_applied()
    assert app.execute("SELECT id FROM item ORDER BY near <=> '[3,6,9]' LIMIT 1").fetchone() == (2,)
    assert app.execute("SELECT near::text, half::text FROM item WHERE id = 1").fetchone() == (
        "[0.1,-0,3e+38]",
        "[1,0.099975586,-2]",
    )
    rejects = app.execute("SELECT key::text, reason FROM mirror.rejects ORDER BY 1").fetchall()
    assert [(key, "dimensions" in why, "out of range" in why) for key, why in rejects] == [
        ("[3]", True, False),
        ("[4]", False, True),
    ]
