"""Two stores as a gateway left them, mirrored into one Postgres, and compared twice: by parity, and value by value.

They are looked for at ``MIRROR_REAL_DATA``, and beside the checkout. Without them, the demo's program
writes two stores of the same kind.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import RawCursor
from psycopg.sql import SQL, Composable, Identifier

import mirror
from mirror.postgres import typed
from mirror.postgres.codecs import decode
from mirror.postgres.target import Target
from mirror.postgres.target import load_targets as load
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer

_BESIDE = Path(mirror.__file__).parents[2] / "shared" / "data"
_WRITE_SECONDS = 2

#: (kind, what it is): integers and reals as numbers, texts and blobs as hexadecimal digits.
Canonical = tuple[str, Any]


@pytest.fixture
def stores(folder: Path) -> list[Path]:
    """Copies of the real files, or files that the demo's program has written."""
    data = Path(os.environ.get("MIRROR_REAL_DATA", _BESIDE))
    found = sorted(data.glob("*.db"))
    if found:
        return [Path(shutil.copyfile(path, folder / path.name)) for path in found]
    paths = [folder / "memory.db", folder / "other.db"]
    for path in paths:
        subprocess.run(
            [sys.executable, "-m", "mirror.cli.demo.writer", path, str(_WRITE_SECONDS)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return paths


def test_real_stores(stores: list[Path], make_mirror: Callable[..., MirrorProcess], dsn: str) -> None:
    """Each in a schema of its own, because they may have tables of the same name."""
    for path in stores:
        with Writer(path) as writer:
            assert writer.run("PRAGMA journal_mode=WAL") == [["wal"]]
            tables = tables_of(writer)
            assert tables
            running = make_mirror(path, state=f"state of {path.stem}", schema=path.stem)
            running.profile = "generic"
            running.start()
            running.wait_applied()
            assert running.status()["rejects"] == 0
            running.check()
            compare(writer, tables, dsn, path.stem)
            # A part of the largest table goes away, and comes back with other rowids.
            largest = quoted(max(tables, key=lambda table: writer.run(f"SELECT count(*) FROM {quoted(table)}")[0][0]))
            for step in (
                f"CREATE TEMP TABLE kept AS SELECT * FROM {largest} WHERE rowid % 3 = 0",
                f"DELETE FROM {largest} WHERE rowid % 3 = 0",
                f"INSERT INTO {largest} SELECT * FROM kept",
            ):
                writer.run(step)
                running.check()
                compare(writer, tables, dsn, path.stem)


def test_real_stores_as_what_they_are(stores: list[Path], make_mirror: Callable[..., MirrorProcess], dsn: str) -> None:
    """In one schema, for one agent; each value is turned back into what SQLite had by its column's codec."""
    mirror = make_mirror(*stores[:2])
    if len(stores) > 2 or stores[1].name == "other.db":
        mirror = make_mirror(stores[0])
    mirror.agents = dict.fromkeys(stores, "main")
    mirror.start()
    mirror.check()
    with psycopg.connect(dsn) as connection:
        for source in mirror.sources:
            status = mirror.status(source)
            assert (status["profile"], status["agent"], status["rejects"]) == ("memustore", "main", 0)
            targets = load_targets(connection, source)
            with Writer(source) as writer:
                for table in tables_of(writer):
                    compare_typed(writer, connection, targets[table])


def load_targets(connection: psycopg.Connection[Any], source: Path) -> dict[str, Target]:
    row = connection.execute("SELECT source_id FROM mirror.sources WHERE path = %s", (str(source),)).fetchone()
    assert row is not None
    with psycopg.Connection.connect(connection.info.dsn, cursor_factory=RawCursor) as raw:
        return load(raw, row[0], "main")


def compare_typed(writer: Writer, connection: psycopg.Connection[Any], target: Target) -> None:
    names = ", ".join(quoted(column.source) for column in target.columns)
    ours = writer.run(f"SELECT {names} FROM {quoted(target.source)}")
    told = [
        SQL("{}::text" if column.codec in ("json", "vector") else "{}").format(Identifier(column.name))
        for column in target.columns
    ]
    original = SQL(", _original" if target.keeps_original else ", NULL")
    query = SQL("SELECT {}{} FROM {} WHERE agent_id = 'main'").format(
        SQL(", ").join(told), original, Identifier(target.schema, target.name)
    )
    theirs = []
    for *values, kept in connection.execute(query):
        row = []
        for column, value in zip(target.columns, values, strict=True):
            if column.source in (kept or {}):
                row.append(kept[column.source])
            elif column.codec in ("", "strict"):
                row.append(decode(column.pg_type, value))
            else:
                row.append(typed.decode(column.codec, value))
        theirs.append(row)
    assert Counter(map(repr, map(decoded, ours))) == Counter(map(repr, theirs)), target.source


def decoded(row: list[Any]) -> list[Any]:
    """The writer's answer, blobs as bytes."""
    return [base64.b64decode(value["blob"]) if isinstance(value, dict) else value for value in row]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def tables_of(writer: Writer) -> list[str]:
    """The ordinary tables: neither virtual ones nor those that they keep their data in.

    Where a virtual table's module is not loaded, SQLite does not know the latter from ordinary ones; their
    names begin with the virtual table's.
    """
    found = writer.run("SELECT name, type FROM pragma_table_list WHERE schema = 'main' ORDER BY name")
    inner = ("sqlite_", *(f"{name}_" for name, kind in found if kind == "virtual"))
    return [name for name, kind in found if kind == "table" and not name.startswith(inner)]


def compare(writer: Writer, tables: list[str], dsn: str, schema: str) -> None:
    """Every value of every row, each side told by its own SQL; nothing of the mirror's code takes part."""
    values = 0
    with psycopg.connect(dsn) as connection:
        for table in tables:
            names = [name for (name,) in writer.run(("SELECT name FROM pragma_table_info(?)", (table,)))]
            types: dict[str, str] = dict(
                connection.execute(
                    "SELECT column_name, data_type FROM information_schema.columns"
                    " WHERE table_schema = %s AND table_name = %s",
                    (schema, table),
                ).fetchall()
            )
            assert set(types) - {"_rowid"} == set(names), table
            ours = Counter(source_rows(writer, table, names))
            theirs = Counter(postgres_rows(connection, schema, table, [(name, types[name]) for name in names]))
            assert ours == theirs, (table, list((ours - theirs).items())[:3], list((theirs - ours).items())[:3])
            values += ours.total() * len(names)
    assert values


def source_rows(writer: Writer, table: str, names: list[str]) -> list[tuple[Canonical, ...]]:
    columns = ", ".join(
        f"typeof({name}), CASE typeof({name}) WHEN 'real' THEN printf('%!.17g', {name})"
        f" WHEN 'integer' THEN CAST({name} AS TEXT) ELSE hex(CAST({name} AS BLOB)) END"
        for name in map(quoted, names)
    )
    return [
        tuple(canonical(kind, text) for kind, text in zip(row[::2], row[1::2], strict=True))
        for row in writer.run(f"SELECT {columns} FROM {quoted(table)}")
    ]


def canonical(kind: str, text: str) -> Canonical:
    match kind:
        case "null":
            return ("null", None)
        case "integer":
            return ("number", Decimal(text))
        case "real":
            return ("number", Decimal(float(text)))
        case _:
            return (kind, text)


#: By type in Postgres: what a value is, and its text.
_TOLD = {
    "bigint": ("integer", "{}::text"),
    "boolean": ("integer", "({}::int)::text"),
    "numeric": ("integer", "{}::text"),
    "double precision": ("real", "{}::text"),
    "text": ("text", "upper(encode(convert_to({}, 'UTF8'), 'hex'))"),
    "bytea": ("blob", "upper(encode({}, 'hex'))"),
    "jsonb": ("jsonb", "{}::text"),
}


def postgres_rows(
    connection: psycopg.Connection[Any], schema: str, table: str, columns: list[tuple[str, str]]
) -> list[tuple[Canonical, ...]]:
    told: list[Composable] = [SQL(_TOLD[kind][1]).format(Identifier(name)) for name, kind in columns]
    query = SQL("SELECT {} FROM {}").format(SQL(", ").join(told), Identifier(schema, table))
    kinds = [_TOLD[kind][0] for _, kind in columns]
    return [
        tuple(
            canonical("null", "") if text is None else of_jsonb(text) if kind == "jsonb" else canonical(kind, text)
            for kind, text in zip(kinds, row, strict=True)
        )
        for row in connection.execute(query)
    ]


def of_jsonb(text: str) -> Canonical:
    """The value that a column without one type holds, by the rules of the generic mapping."""
    match json.loads(text, parse_int=Decimal, parse_float=Decimal):
        case Decimal() as number:
            return ("number", Decimal(float(number)) if "." in text else number)
        case str() as string:
            return ("text", string.encode().hex().upper())
        case other:
            raise AssertionError(f"an unexpected value: {other}")
