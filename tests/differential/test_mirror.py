"""SQLite runs a random workload, the mirror follows, and Postgres must equal it: the judge of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, WriterError

Statement = tuple[str, tuple[Any, ...]]

TABLES = {
    "a": "id INTEGER PRIMARY KEY, x TEXT, y REAL, z BLOB",
    "b": "k TEXT PRIMARY KEY, v",
    "c": "p TEXT, q INT, d NUMERIC, PRIMARY KEY (p, q)",
    "n": "x, y INTEGER",
    "w": "p TEXT, q, d TEXT, PRIMARY KEY (q, p)",
    "nocase": "k TEXT COLLATE NOCASE PRIMARY KEY, v BOOLEAN",
}
WITHOUT_ROWID = {"w"}
KEYS = {"a": "id", "b": "k", "c": "q", "n": "rowid", "w": "p", "nocase": "k"}
VALUES = {"a": "x", "b": "v", "c": "d", "n": "y", "w": "d", "nocase": "v"}

integers = st.one_of(st.integers(-3, 40), st.integers(-(2**63), 2**63 - 1))
texts = st.one_of(
    st.sampled_from(["", "a", "A", "b", "ä", "\U0001f600", "12", "1.5"]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
    st.integers(1, 9000).map("x".__mul__),
)
values = st.one_of(
    st.none(),
    integers,
    st.floats(allow_nan=False),
    st.sampled_from([0.0, 1.0, -1.0, 1e300, 5e-324, float("inf"), 1e15, 2.0**53]),
    texts,
    st.binary(max_size=20),
    st.integers(1, 20_000).map(lambda size: bytes([size % 256]) * size),
)
keys = st.one_of(st.integers(0, 40), st.sampled_from(["a", "A", "b", "key", "é"]))


@st.composite
def statement(draw: st.DrawFn) -> Statement:
    """One statement that changes something, or fails as it may."""
    table = draw(st.sampled_from(sorted(TABLES)))
    count = TABLES[table].count(",") + 1 - (2 if "PRIMARY KEY (" in TABLES[table] else 0)
    match draw(st.integers(0, 11)):
        case 0 | 1 | 2 | 3:
            row = [draw(keys), *(draw(values) for _ in range(count - 1))]
            places = ",".join("?" * count)
            how = draw(st.sampled_from(["INSERT", "INSERT OR REPLACE", "INSERT OR IGNORE"]))
            return f"{how} INTO {table} VALUES ({places})", tuple(row)
        case 4 | 5:
            return (
                f"UPDATE OR REPLACE {table} SET {VALUES[table]} = ? WHERE {KEYS[table]} = ?",
                (draw(values), draw(keys)),
            )
        case 6:
            if table == "n":
                return "UPDATE n SET x = y", ()
            return f"UPDATE OR REPLACE {table} SET {KEYS[table]} = ? WHERE {KEYS[table]} = ?", (
                draw(keys),
                draw(keys),
            )
        case 7:
            return f"DELETE FROM {table} WHERE {KEYS[table]} >= ?", (draw(keys),)
        case 8:
            return f"DELETE FROM {table}", ()
        case 9:
            size = draw(st.integers(1, 400))
            columns = ", ".join(["'k' || i" if table in "bw" else "i", *["printf('%.*c', i % 300, 'z')"] * (count - 1)])
            return (
                f"WITH RECURSIVE s(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM s WHERE i < {size})"
                f" INSERT OR REPLACE INTO {table} SELECT {columns} FROM s",
                (),
            )
        case 10:
            return f"UPDATE {table} SET {VALUES[table]} = {VALUES[table]} || ?", (draw(texts),)
        case _:
            return draw(
                st.sampled_from(
                    [
                        "CREATE TABLE IF NOT EXISTS extra(id INTEGER PRIMARY KEY, v TEXT)",
                        "INSERT INTO extra SELECT NULL, x FROM a LIMIT 5",
                        "ALTER TABLE extra ADD COLUMN more INTEGER DEFAULT 7",
                        "ALTER TABLE extra RENAME COLUMN v TO w",
                        "ALTER TABLE extra RENAME COLUMN w TO v",
                        "ALTER TABLE extra DROP COLUMN more",
                        "ALTER TABLE extra DROP COLUMN v",
                        "ALTER TABLE extra RENAME TO other",
                        "ALTER TABLE other RENAME TO extra",
                        "DROP TABLE IF EXISTS extra",
                        "DROP TABLE IF EXISTS other",
                        "VACUUM",
                        "PRAGMA wal_checkpoint(PASSIVE)",
                        "PRAGMA wal_checkpoint(RESTART)",
                        "PRAGMA wal_checkpoint(TRUNCATE)",
                        "PRAGMA secure_delete=ON",
                        "PRAGMA secure_delete=OFF",
                        "CREATE INDEX IF NOT EXISTS b_v ON b(v)",
                        "DROP INDEX IF EXISTS b_v",
                        "REINDEX",
                    ]
                )
            ), ()


@st.composite
def transaction(draw: st.DrawFn) -> tuple[list[Statement], str]:
    """Some statements, and how they end: each by itself, committed together, or rolled back."""
    return draw(st.lists(statement(), min_size=1, max_size=6)), draw(st.sampled_from(["each", "commit", "rollback"]))


def run(writer: Writer, statements: list[Statement], end: str) -> None:
    """Run statements; those that SQLite refuses are part of the workload."""
    if end != "each":
        writer.run("BEGIN")
    for item in statements:
        try:
            writer.run(item)
        except WriterError:
            continue
    if end != "each":
        try:
            writer.run(end.upper())
        except WriterError:
            writer.run("ROLLBACK")


@pytest.fixture(params=["WAL"])
def two_writers(database: Path, request: pytest.FixtureRequest) -> Iterator[list[Writer]]:
    writers = [Writer(database), Writer(database, driver="apsw")]
    for writer in writers:
        writer.run(f"PRAGMA journal_mode={request.param}")
    for writer in writers:
        writer.run("PRAGMA cache_size=20", "PRAGMA wal_autocheckpoint=60")
    for name, columns in TABLES.items():
        writers[0].run(f"CREATE TABLE {name}({columns}){' WITHOUT ROWID' if name in WITHOUT_ROWID else ''}")
    yield writers
    for writer in writers:
        writer.close()


def work_and_compare(mirror: MirrorProcess, writers: list[Writer], examples: int) -> None:
    """Let Hypothesis make workloads; after each, every value of every table must be equal.

    One mirror serves all examples: what an example starts from is what the ones before left.
    """
    mirror.start()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(st.lists(st.tuples(st.integers(0, 1), transaction()), min_size=1, max_size=4), st.integers(0, 19))
    def example(work: list[tuple[int, tuple[list[Statement], str]]], dice: int) -> None:
        if dice == 0:
            mirror.kill()
        for who, (statements, end) in work:
            run(writers[who], statements, end)
        if not mirror.alive:
            mirror.start()
        mirror.check()

    example()
    assert mirror.status()["resyncs"] in ([], ["there is no copy of the source in the state directory"])


def test_random_workloads(make_mirror: Callable[..., MirrorProcess], database: Path, two_writers: list[Writer]) -> None:
    work_and_compare(make_mirror(database), two_writers, 20)


@pytest.mark.slow
@pytest.mark.parametrize("two_writers", ["PERSIST"], indirect=True)
def test_random_workloads_in_rollback_mode(
    make_mirror: Callable[..., MirrorProcess], database: Path, two_writers: list[Writer]
) -> None:
    work_and_compare(make_mirror(database), two_writers, 30)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_random_workloads_for_long(
    make_mirror: Callable[..., MirrorProcess], database: Path, two_writers: list[Writer]
) -> None:
    work_and_compare(make_mirror(database), two_writers, 5000)
