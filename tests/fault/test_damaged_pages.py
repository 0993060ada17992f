"""Damaged pages of one table: it is named, its other rows arrive, other tables are equal; a good file heals it."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from mirror.core.errors import recover
from mirror.sidecar.doctor import examine
from tests.support.mirrors import MirrorProcess
from tests.support.quick import quick
from tests.support.source import Writer, put_in_place
from tests.support.waiting import until

PAGE = 4096
ROWS = 20_000
SCHEMA = (
    "CREATE TABLE heartbeat(id INTEGER PRIMARY KEY, msg TEXT)",
    "CREATE TABLE keyed(k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID",
    "CREATE TABLE monitor(id INTEGER PRIMARY KEY, name TEXT)",
    "CREATE INDEX by_name ON monitor(name)",
    f"WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) INSERT INTO heartbeat"
    " SELECT i, CASE WHEN i = 7 THEN replace(hex(zeroblob(10000)), '0', 'x') ELSE 'm' || i || 'm' || i END FROM n",
    "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) INSERT INTO monitor"
    " SELECT i, 'mon' || i FROM n",
    f"WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) INSERT INTO keyed"
    " SELECT printf('%08d', i), 'value' || i FROM n",
)


def make(database: Path) -> None:
    with Writer(database) as writer:
        writer.run(f"PRAGMA page_size={PAGE}", "PRAGMA journal_mode=WAL", *SCHEMA)


def root_of(database: Path, name: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute("
         "'SELECT rootpage FROM sqlite_schema WHERE name = ?', sys.argv[2:]).fetchone()[0])", database, name],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return int(done.stdout)


def page_at(database: Path, pgno: int) -> bytes:
    return database.read_bytes()[(pgno - 1) * PAGE : pgno * PAGE]


def child(database: Path, pgno: int, number: int = 5) -> int:
    page = page_at(database, pgno)
    [pointer] = struct.unpack_from(">H", page, 12 + 2 * number)
    return int(struct.unpack_from(">I", page, pointer)[0])


def overwrite(database: Path, pgno: int, data: bytes, at: int = 0) -> None:
    with open(database, "r+b") as file:
        file.seek((pgno - 1) * PAGE + at)
        file.write(data)


def damage(database: Path, where: str) -> tuple[str, int]:
    """Damage one page; returns the table, and how many of its rows cannot be read any more."""
    table = "keyed" if where.startswith("keyed") else "heartbeat"
    root = root_of(database, table)
    leaf = child(database, root)
    match where:
        case "leaf" | "keyed leaf":
            [cells] = struct.unpack_from(">H", page_at(database, leaf), 3)
            overwrite(database, leaf, b"\xee" * 400)
        case "cell":
            cells = 1
            [pointer] = struct.unpack_from(">H", page_at(database, leaf), 8)
            overwrite(database, leaf, b"\x9f\xff\xff", pointer)  # a payload that leaves the page
        case "chain":
            cells, first = 1, page_at(database, child(database, root, 0))
            # The row with the long text has rowid 7: the cell ends with the number of its first overflow page.
            [pointer] = struct.unpack_from(">H", first, 8 + 2 * 6)
            size = (first[pointer] & 0x7F) << 14 | (first[pointer + 1] & 0x7F) << 7 | first[pointer + 2]
            room = (PAGE - 12) * 32 // 255 - 23
            local = room + (size - room) % (PAGE - 4)
            local = local if local <= PAGE - 35 else room
            end = pointer + 4 + local
            [link] = struct.unpack_from(">I", first, end)
            overwrite(database, link, struct.pack(">I", 1 << 30))
        case _:
            raise AssertionError(where)
    return table, int(cells)


def count(dsn: str, table: str) -> int:
    with psycopg.connect(dsn) as connection:
        found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[call-overload]
    assert found is not None
    return int(found[0])


@pytest.mark.few(1)
@pytest.mark.parametrize("where", quick("leaf", "chain", among=["leaf", "keyed leaf", "cell", "chain"]))
def test_a_damaged_page_at_the_first_copy(
    make_mirror: Callable[..., MirrorProcess], database: Path, dsn: str, where: str
) -> None:
    """The other rows of the table, and all other tables, now and later; a recovered file ends it."""
    make(database)
    assert examine(database, None, database.parent, "public", None, None, "").healthy
    sound = database.with_name("sound.db")
    shutil.copy(database, sound)
    table, lost = damage(database, where)
    findings = examine(database, None, database.parent, "public", None, None, "").findings
    [damaged] = [finding for finding in findings if finding.level == "problem"]
    assert table in damaged.name and ".recover" in damaged.next_step
    mirror = make_mirror(database)
    mirror.start()
    mirror.wait_applied()
    [refusal] = mirror.status_when(lambda status: status["phase"] == "following")["refusals"]
    assert refusal["table"] == table
    assert "the file is damaged there (page " in refusal["reason"]
    assert refusal["next_step"] == damaged.next_step == recover(database)
    assert count(dsn, table) == ROWS - lost
    assert count(dsn, "monitor") == 300
    assert count(dsn, "keyed" if table == "heartbeat" else "heartbeat") == ROWS
    with Writer(database) as writer:
        writer.run(
            "INSERT INTO monitor VALUES (1000, 'new')",
            "INSERT INTO heartbeat VALUES (100000, 'new')"
            if table == "heartbeat"
            else "INSERT INTO keyed VALUES ('x', 1)",
        )
        mirror.wait_applied()
        assert count(dsn, "monitor") == 301
        until(lambda: count(dsn, table) == ROWS - lost + 1, alive=lambda: mirror.alive)
        report = {each.table: each for each in mirror.parity().tables}
    assert {name: each.status for name, each in report.items() if name != table} == {
        name: "equal" for name in ("heartbeat", "keyed", "monitor") if name != table
    }
    assert report[table].status == "not checked"
    assert "damaged" in report[table].reason and ".recover" in report[table].next_step
    mirror.kill()
    mirror.start()
    mirror.wait_applied()
    assert mirror.status_when(lambda status: bool(status["refusals"]))["refusals"][0]["table"] == table
    put_in_place(sound, database)
    mirror.status_when(lambda status: status["phase"] == "following" and not status["refusals"])
    mirror.check()


@pytest.mark.slow
def test_rows_that_were_mirrored_before_the_damage_stay(
    make_mirror: Callable[..., MirrorProcess], database: Path, dsn: str
) -> None:
    """Postgres has the only copy of them."""
    make(database)
    mirror = make_mirror(database)
    mirror.start()
    mirror.wait_applied()
    mirror.stop()
    table, _ = damage(database, "leaf")
    mirror.start()
    status = mirror.status_when(lambda status: status["phase"] == "following" and bool(status["refusals"]))
    assert [refusal["table"] for refusal in status["refusals"]] == [table]
    assert "could be read earlier" in status["refusals"][0]["reason"]
    assert count(dsn, table) == ROWS
    with Writer(database) as writer:
        writer.run("INSERT INTO monitor VALUES (1000, 'new')")
        mirror.wait_applied()
    assert count(dsn, "monitor") == 301
    mirror.stop()


@pytest.mark.slow
@pytest.mark.parametrize("leads_to", quick("another table", among=["itself", "another table"]))
@pytest.mark.parametrize("table", ["heartbeat", "keyed"])
def test_a_tree_that_leads_back(
    make_mirror: Callable[..., MirrorProcess], database: Path, folder: Path, table: str, leads_to: str
) -> None:
    """SQLite reads it for ever, or more than once: whoever compares or checks it ends, and calls it damaged."""
    make(database)
    root = root_of(database, table)
    goal = (
        root
        if leads_to == "itself"
        else child(database, root_of(database, "keyed" if table != "keyed" else "heartbeat"))
    )
    overwrite(database, root, struct.pack(">I", goal), 8)
    mirror = make_mirror(database)
    mirror.start()
    mirror.status_when(lambda status: bool(status["refusals"]))
    found = {each.table: each.status for each in mirror.parity().tables}
    assert found["monitor"] == "equal" and found[table] == "not checked"
    report = examine(database, None, folder / "state", "public", None, None, "mirror up")
    assert report.findings
    mirror.kill()
