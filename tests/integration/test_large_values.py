"""Values of many megabytes arrive, one at a time in memory, as far as Postgres holds them."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from mirror.postgres.codecs import MAX_JSON_BYTES, OVERSIZED_JSON
from mirror.postgres.large import LARGE_BYTES
from tests.support.mirrors import MirrorProcess
from tests.support.quick import quick
from tests.support.source import Writer
from tests.support.waiting import LIMIT

MB = 1_000_000
#: A little more than what is sent by itself.
SIZE = LARGE_BYTES + 12_345
#: What a process of the mirror has without them, at most.
USUAL = 120 * MB


#: SQL for texts of about this many bytes: plain, with what COPY escapes, and with characters of one to four bytes.
TEXTS = (
    f"hex(zeroblob({SIZE // 2}))",
    f"replace(hex(zeroblob({SIZE // 5})), '00', char(92, 9, 10) || '\\.')",
    f"replace(hex(zeroblob({SIZE // 10})), '00', 'aé€\U0001f600')",
)
BLOBS = (f"randomblob({SIZE})", f"zeroblob({SIZE})")


def _large(dsn: str, table: str) -> list[object]:
    """The ids of the rows of a table that are large."""
    with psycopg.connect(dsn) as connection:
        query = f"SELECT id FROM {table} WHERE octet_length(data) > {LARGE_BYTES} ORDER BY id::text"
        return [row[0] for row in connection.execute(query)]


def _peak(mirror: MirrorProcess) -> int:
    """The most memory that a process of the mirror has had, in bytes."""
    status = (Path(f"/proc/{process.pid}/status").read_text() for process in mirror.processes())
    return max(int(text.partition("VmHWM:")[2].split()[0]) for text in status) * 1024


@pytest.mark.few(2)
@pytest.mark.parametrize("before", [True, False], ids=["first copy", "live"])
@pytest.mark.parametrize("key", ["id INTEGER PRIMARY KEY", "id PRIMARY KEY", "id INT PRIMARY KEY) WITHOUT ROWID --"])
def test_they_arrive(mirror: MirrorProcess, writer: Writer, dsn: str, key: str, before: bool) -> None:
    """Blobs and texts, alone and beside small rows; changed, moved to another key, and deleted."""
    columns = "name TEXT, data BLOB, real REAL, flag BOOLEAN, amount DECIMAL, free"
    key, _, without = key.partition(")")
    for table, kind in (("blobs", "BLOB"), ("texts", "TEXT")):
        writer.run(f"CREATE TABLE {table}({key}, {columns.replace('BLOB', kind)}){without}")
    if not before:
        mirror.start()
    for at, value in enumerate((*BLOBS, *TEXTS), 1):
        table = "texts" if value in TEXTS else "blobs"
        writer.transaction(
            f"INSERT INTO {table} VALUES ({10 * at}, 'n', {value}, 1.5, 1, 2.5, 'free')",
            *(f"INSERT INTO {table} VALUES ({10 * at + n}, NULL, NULL, NULL, NULL, NULL, 1)" for n in range(1, 9)),
        )
    if before:
        mirror.start()
    mirror.check()
    assert (_large(dsn, "blobs"), _large(dsn, "texts")) == ([10, 20], [30, 40, 50])
    # One takes the key of another, which gets a new one; and a small row takes that of a large one.
    writer.transaction(
        "UPDATE blobs SET id = 1 WHERE id = 20",
        "UPDATE blobs SET id = 20 WHERE id = 10",
        "UPDATE blobs SET id = 10 WHERE id = 11",
        "UPDATE texts SET name = 'changed' WHERE id = 30",
        "DELETE FROM texts WHERE id = 40",
        "UPDATE texts SET data = 'short' WHERE id = 50",
    )
    mirror.check()
    assert (_large(dsn, "blobs"), _large(dsn, "texts")) == ([1, 20], [30])
    assert mirror.status()["rejects"] == 0


def test_documents_and_odd_text(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """Of a column that keeps what it cannot show, too."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, doc JSON, odd TEXT)")
    mirror.start()
    document = f"""'{{"b": 1, "a": "' || hex(zeroblob({SIZE // 2})) || '"}}'"""
    writer.run(
        f"INSERT INTO t VALUES (1, {document}, 'a' || char(0) || {TEXTS[0]})", "INSERT INTO t VALUES (2, '1', 'c')"
    )
    mirror.check()
    with psycopg.connect(dsn) as connection:
        query = "SELECT length(doc ->> 'a'), length(odd), length(_original ->> 'doc') FROM t WHERE id = 1"
        size = SIZE // 2 * 2
        assert connection.execute(query).fetchone() == (size, size + 2, size + 17)
    assert mirror.status()["rejects"] == 0


def test_a_large_row_that_postgres_refuses_is_a_reject(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """The others of its transaction arrive; it does, too, once that is over."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, data BLOB)")
    mirror.start()
    mirror.check()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE t ADD CONSTRAINT short CHECK (octet_length(data) < 1000 OR id = 3)")
    values = (f"INSERT INTO t VALUES ({n}, randomblob({SIZE}))" for n in (1, 2, 3))
    writer.transaction(*values, "INSERT INTO t VALUES (4, x'04')")
    mirror.wait_applied()
    assert mirror.status()["rejects"] == 2
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT id FROM t ORDER BY id").fetchall() == [(3,), (4,)]
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE t DROP CONSTRAINT short")
    writer.run("UPDATE t SET id = id + 10")
    mirror.check()
    assert mirror.status()["rejects"] == 0


@pytest.mark.slow
def test_parity_finds_a_difference_in_one(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """And repairs it. Of what is too large to be noted as it was there is the size."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, data BLOB)")
    mirror.start()
    writer.transaction(*(f"INSERT INTO t VALUES ({n}, zeroblob({SIZE}))" for n in (1, 2, 3)))
    writer.run(f"INSERT INTO t VALUES (4, zeroblob({33 * MB}))")
    mirror.check()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE t SET data = set_byte(data, 1234567, 77) WHERE id IN (2, 4)")
    (table,) = mirror.parity().tables
    assert (table.status, table.different, table.missing, table.extra) == ("different", 2, 0, 0)
    with mirror.control() as client:
        client.repair(["t"], LIMIT, replace=True)
    mirror.check()
    with psycopg.connect(dsn) as connection:
        query = "SELECT kind, length(before ->> 'data'), after FROM mirror.repairs ORDER BY after -> 'id'"
        (kind, length, _), large = connection.execute(query).fetchall()
    assert (kind, length) == ("different", 2 * SIZE + 2)
    assert large[0] == "different" and large[2] == {"id": 4, "data": {"left_out": 33 * MB}}


@pytest.mark.slow
@pytest.mark.parametrize("when", quick("live", among=["first copy", "live", "restart"]))
def test_memory_holds_one_at_a_time(mirror: MirrorProcess, writer: Writer, when: str) -> None:
    """Of twelve values in one transaction."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, data BLOB)")
    if when != "first copy":
        mirror.start()
    if when == "restart":
        mirror.wait_applied()
        mirror.stop()
    writer.transaction(*[f"INSERT INTO t(data) VALUES (randomblob({20 * MB}))"] * 12)
    if when != "live":
        mirror.start()
    mirror.wait_applied()
    assert _peak(mirror) < 3 * 20 * MB + USUAL
    mirror.check()


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False], ids=["first copy", "live"])
@pytest.mark.parametrize("size", [300 * MB, 900 * MB])
def test_hundreds_of_megabytes(mirror: MirrorProcess, writer: Writer, dsn: str, size: int, before: bool) -> None:
    """In memory of three times the value at most, and compared by parity."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, data BLOB)")
    if not before:
        mirror.start()
    writer.run(f"INSERT INTO t VALUES (1, zeroblob({size})), (2, x'01')")
    if before:
        mirror.start()
    mirror.wait_applied(600)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT id, length(data) FROM t ORDER BY id").fetchall() == [(1, size), (2, 1)]
    assert _peak(mirror) < 3 * size + USUAL
    mirror.check()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE t SET data = set_byte(data, 1234567, 77) WHERE id = 1")
    with mirror.control() as client:
        client.repair(["t"], 600, replace=True)
    mirror.check()


@pytest.mark.slow
def test_what_is_beyond_the_limit_is_a_reject_with_its_reason(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """Of a column without a type: jsonb holds less. The value itself stays in SQLite, and the reject says its size."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, data)")
    mirror.start()
    writer.run(f"INSERT INTO t VALUES (1, zeroblob({MAX_JSON_BYTES}))", "INSERT INTO t VALUES (2, 'small')")
    mirror.wait_applied(600)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT id FROM t").fetchall() == [(2,)]
        found = connection.execute("SELECT reason, row_data FROM mirror.rejects").fetchall()
    assert found == [(f"data: {OVERSIZED_JSON}", f'{{"id":1,"data":{{"left_out":{MAX_JSON_BYTES}}}}}')]
    mirror.check()
