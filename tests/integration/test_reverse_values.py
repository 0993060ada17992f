"""Values that programs write in Postgres, in columns of every kind: the file has each, or refuses it and says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.postgres.sessions import connect
from mirror.postgres.target import load_targets
from mirror.reverse import capture
from mirror.reverse.follower import ReverseFollower, start
from mirror.reverse.proof import differences
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer

KINDS = ("INTEGER", "REAL", "DOUBLE", "NUMERIC", "DECIMAL(10,2)", "BOOLEAN", "TEXT", "VARCHAR(9)", "BLOB", "",
         "DATETIME", "JSON", "UUID", "BIGINT")  # fmt: skip
NUMBERS = ("-0", "0", "-0.0", "1", "1.0", "1.10", "3", "-2.50", "100e-2", "1e2", "0.1", "9007199254740993",
           "9007199254740993.0", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1e308",
           "5e-324", "1e400", "0.1000000000000000055511151231257827", "NaN", "Infinity", "-Infinity")  # fmt: skip
TEXTS = ("", " ", "1", "1.0", " 1", "1 ", "1e2", "-0", "0x10", "007", "abc", "É", "true", "null",
         "2026-01-01 00:00:00", "[1]", '{"a": 1}', "NaN", "inf")  # fmt: skip
JSON = ("true", "false", "null", "[1, 2.0]", '{"a": [1.10]}', "{}")


def tables() -> Iterator[tuple[str, str, str]]:
    """Name, declared type, and a value that makes the column jsonb, where its own type does not do."""
    for number, kind in enumerate(KINDS):
        yield f"plain{number}", kind, "NULL"
        yield f"wide{number}", kind, "x'00'" if kind in ("TEXT", "VARCHAR(9)") else "'any text'"


def candidates(pg_type: str) -> list[str]:
    if pg_type == "jsonb":
        texts = ['"' + text.replace('"', '\\"') + '"' for text in TEXTS]
        return [*(number for number in NUMBERS if not number.strip("-")[0].isalpha()), *texts, *JSON]
    return [*NUMBERS, *TEXTS, *JSON]


@pytest.fixture
def postgres(dsn: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def test_values_of_every_kind(
    dsn: str,
    database: Path,
    writer: Writer,
    mirror: MirrorProcess,
    postgres: psycopg.Connection[tuple[Any, ...]],
) -> None:
    fits = {"INTEGER": "7", "REAL": "7.5", "DOUBLE": "7.5", "NUMERIC": "7", "DECIMAL(10,2)": "7.25", "BOOLEAN": "1",
            "BLOB": "x'07'", "": "7", "JSON": "'[7]'", "BIGINT": "7"}  # fmt: skip
    for name, kind, value in tables():
        writer.run(f"CREATE TABLE {name}(id INTEGER PRIMARY KEY, v {kind})")
        own = fits.get(kind, "'seven'")
        writer.run(f"INSERT INTO {name} VALUES (1, {own}), (2, {value})")
    mirror.start()
    mirror.wait_applied()
    mirror.check()
    mirror.stop()
    types = dict(postgres.execute("SELECT table_name, data_type FROM information_schema.columns"
                                  " WHERE table_schema = 'public' AND column_name = 'v'").fetchall())  # fmt: skip
    assert {"jsonb", "bigint", "double precision", "text", "bytea"} <= set(types.values())
    with connect(dsn, raw=True) as session, session.transaction():
        ((number,),) = session.execute("SELECT source_id FROM mirror.sources").fetchall()
        targets = load_targets(session, number, None).values()
        capture.install(session, number, targets)
        capture.switch(session, number, targets, on=True)
        start(session, number)
        session.execute(f"INSERT INTO mirror.phase (source_id, phase, sealed_at) VALUES ({number}, 3, now())")

    written = 0
    for name, _, _ in tables():
        for at, text in enumerate(candidates(types[name]), 10):
            try:
                postgres.execute(f"INSERT INTO {name}(id, v) VALUES (%s, %s::text::{types[name]})", (at, text))
                written += 1
            except psycopg.DataError:
                pass  # Postgres has no such value
    assert written > 600

    def carried() -> set[tuple[str, str]]:
        """Carry, look for strays, and return the rows that the file does not take."""
        follower = ReverseFollower.open(dsn, database, "public")
        try:
            follower.drain()
            follower.step()
        finally:
            follower.close()
        assert postgres.execute("SELECT source_table, key, before, after FROM mirror.strays").fetchall() == []
        rows = postgres.execute("SELECT source_table, key[1] FROM mirror.reverse_rejects").fetchall()
        return {(str(table), str(key)) for table, key in rows}

    rejects = carried()
    assert 0 < len(rejects) < written / 4
    # Opened again it knows nothing but what Postgres shows: had a program written, that would be a stray.
    postgres.execute("UPDATE mirror.reverse SET file = NULL")
    assert carried() == rejects
    for table, key in rejects:
        postgres.execute(f"DELETE FROM {table} WHERE id = {key}".encode())
    assert carried() == set()
    with connect(dsn, raw=True) as session:
        count, found = differences(session, database, "public")
    assert found == [] and count == written - len(rejects) + 2 * 2 * len(KINDS)
    # From the file alone, everything is mirrored as it is there.
    with connect(dsn, raw=True) as session, session.transaction():
        capture.remove(session, number)
        session.execute("DELETE FROM mirror.phase")
    mirror.start()
    mirror.wait_applied()
    mirror.check()
