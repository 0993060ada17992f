"""Tables with as many columns as Postgres takes, rows too large for a page, keys too long for an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import LIMIT

#: Postgres' limit.
MOST = 1600


def wide(name: str, columns: int = MOST, kind: str = "TEXT") -> str:
    """A table of so many columns, the first of which is its key."""
    others = ", ".join(f"c{at} {kind}" for at in range(1, columns))
    return f"CREATE TABLE {name}(id INTEGER PRIMARY KEY, {others})"


def rejects(dsn: str, table: str) -> list[tuple[str, str]]:
    with psycopg.connect(dsn) as connection:
        found: list[tuple[str, str]] = connection.execute(
            "SELECT key, reason FROM mirror.rejects WHERE source_table = %s ORDER BY key", (table,)
        ).fetchall()
    return found


def keys(dsn: str, table: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return [key for (key,) in connection.execute(f"SELECT id FROM {table} ORDER BY 1".encode())]


def doctor(folder: Path, database: Path, dsn: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is said about checks, and about the columns."""
    done = CommandLine(folder, dsn).run("doctor", database, "--json")
    (report,) = json.loads(done.out)["reports"]
    told = {check["check"]: check["detail"] for check in report["findings"] if check["level"] != "ok"}
    return told, {f"{column['table']}.{column['column']}": column for column in report["columns"]}


@pytest.mark.slow
@pytest.mark.parametrize("live", [pytest.param(False, marks=pytest.mark.slow), True])
def test_no_room_for_originals(
    mirror: MirrorProcess, database: Path, folder: Path, writer: Writer, dsn: str, live: bool
) -> None:
    """One text with NUL is a reject there, and documents are texts; with one column less there is room."""
    made = [wide("filled"), wide("room", MOST - 1), wide("docs", kind="JSON")]
    if live:
        writer.run(*made, "INSERT INTO filled(id) VALUES (5)")
        mirror.start()
        mirror.wait_applied()
        made = []
    rows = "(id, c1, c7) VALUES (1, 'fine', 'a'), (2, 'odd', 'a' || char(0)), (3, 'odd', CAST(x'ff' AS TEXT))"
    writer.run(*made, f"INSERT INTO filled{rows}", f"INSERT INTO room{rows}")
    writer.run("""INSERT INTO docs(id, c1, c7) VALUES (1, '{"a": 1}', '[1 ]'), (2, 'no', NULL)""")
    told, columns = doctor(folder, database, dsn)
    assert columns["filled.c7"]["becomes"] == "text" and sum(columns["filled.c7"]["rejects"].values()) == 2
    assert columns["room.c7"]["escaped"] == 2 and not columns["room.c7"]["rejects"]
    assert not [name for name in told if name.startswith("table ")], told
    if not live:
        mirror.start()
    mirror.check()
    assert mirror.status()["refusals"] == [] and mirror.status()["rejects"] == 2
    assert [key for key, _ in rejects(dsn, "filled")] == ["[2]", "[3]"]
    assert keys(dsn, "filled") == ([1, 5] if live else [1]) and keys(dsn, "room") == [1, 2, 3]
    with mirror.control() as control:
        control.retry(LIMIT)
    mirror.check()
    assert mirror.status()["refusals"] == [] and keys(dsn, "docs") == [1, 2]
    writer.run("UPDATE filled SET c7 = 'b'", "UPDATE room SET c7 = 'b'")
    mirror.check()
    assert mirror.status()["rejects"] == 0
    writer.run("WITH RECURSIVE c(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM c WHERE i < 900)"
               " INSERT INTO filled(id, c1) SELECT i, 'many' FROM c")  # fmt: skip
    mirror.check()
    assert mirror.status()["refusals"] == [] and len(keys(dsn, "filled")) > 890
    writer.run("DELETE FROM filled WHERE id % 2 = 0", "UPDATE filled SET c1 = 'x'")
    mirror.check()
    with mirror.control() as control:
        control.repair(["filled"], LIMIT)
    mirror.check()


def test_no_room_for_a_rowid(mirror: MirrorProcess, database: Path, folder: Path, writer: Writer, dsn: str) -> None:
    """A table without a key gets one column more: the doctor counts it, and the refusal says why."""
    writer.run(f"CREATE TABLE t({', '.join(f'c{at}' for at in range(MOST))})", "CREATE TABLE fine(v)")
    told, _ = doctor(folder, database, dsn)
    assert "1,600 columns and _rowid" in told["table t"]
    mirror.start()
    mirror.wait_applied()
    (refusal,) = mirror.status()["refusals"]
    assert refusal["table"] == "t" and "1,600 columns and _rowid" in refusal["reason"]
    writer.run("DROP TABLE t")
    mirror.check()


def test_many_changes_of_a_wide_table(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """No stage has room for it: keys that move, rejects and a large row are applied one by one, in one transaction."""
    writer.run(wide("t").replace("id INTEGER", "id TEXT"), "INSERT INTO t(id, c1) VALUES ('first', 'a')")
    mirror.start()
    mirror.check()
    rows = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 700)"
    writer.run(f"{rows} INSERT INTO t(id, c1, c9) SELECT printf('%04d', i), i, iif(i % 100, 'x', char(0)) FROM c")
    mirror.check()
    assert len(rejects(dsn, "t")) == 7 and len(keys(dsn, "t")) == 694
    writer.transaction(
        "UPDATE t SET id = 'moving ' || id",
        "UPDATE t SET id = printf('%04d', substr(id, 8) % 700 + 1) WHERE id LIKE 'moving 0%'",
        "UPDATE t SET c2 = replace(hex(zeroblob(2500000)), '0', 'z') WHERE id = '0007'",
        "UPDATE t SET c9 = 'healed' WHERE id = '0101'",
    )
    mirror.check()
    assert len(rejects(dsn, "t")) == 6 and len(keys(dsn, "t")) == 695
    assert mirror.status()["refusals"] == []


@pytest.mark.slow
def test_numbers_of_dropped_columns(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """Postgres counts columns that were dropped: a table without room because of these is made again."""
    writer.run(wide("t", MOST - 1), "INSERT INTO t(id, c1) VALUES (1, 'a')")
    mirror.start()
    mirror.wait_applied()
    for _ in range(3):
        writer.run("UPDATE t SET c1 = char(0)")
        mirror.wait_applied()
        with mirror.control() as control:
            control.retry(LIMIT)
        mirror.check()
        assert mirror.status()["escaped"] == ["t.c1"] and mirror.status()["refusals"] == []
        writer.run("UPDATE t SET c1 = 'b'")
        mirror.wait_applied()
        with mirror.control() as control:
            control.retry(LIMIT)
        assert mirror.status()["escaped"] == []
    mirror.check()


def test_a_retry_makes_nothing_worse(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """A table with rejects that Postgres does not take whole stays as it is, and goes on."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER)", "INSERT INTO t VALUES (1, 5)")
    mirror.start()
    mirror.check()
    with psycopg.connect(dsn) as connection:
        connection.execute("ALTER TABLE t ADD CONSTRAINT small CHECK (v < 10)")
    writer.run("INSERT INTO t VALUES (2, 20), (3, 6)")
    mirror.check()
    assert [key for key, _ in rejects(dsn, "t")] == ["[2]"] and keys(dsn, "t") == [1, 3]
    with mirror.control() as control:
        control.retry(LIMIT)
    assert mirror.status()["refusals"] == [] and [key for key, _ in rejects(dsn, "t")] == ["[2]"]
    writer.run("INSERT INTO t VALUES (4, 7)", "UPDATE t SET v = 8 WHERE id = 2")
    mirror.check()
    assert keys(dsn, "t") == [1, 2, 3, 4] and rejects(dsn, "t") == []


@pytest.mark.few(1)
@pytest.mark.parametrize("live", [False, True])
def test_rows_too_large_for_a_page(mirror: MirrorProcess, writer: Writer, dsn: str, live: bool) -> None:
    """A reject with Postgres' reason; the other rows arrive, and so does it when it has become smaller."""
    made = [wide("t"), "INSERT INTO t(id, c1) VALUES (1, 'a')"]
    if live:
        writer.run(*made)
        mirror.start()
        mirror.wait_applied()
        made = []
    values = ", ".join(f"'{'x' * 40}{at}'" for at in range(1, MOST))
    writer.run(*made, f"INSERT INTO t VALUES (2, {values})", "INSERT INTO t(id, c2) VALUES (3, 'b')")
    if not live:
        mirror.start()
    mirror.check()
    assert keys(dsn, "t") == [1, 3]
    ((key, reason),) = rejects(dsn, "t")
    assert key == "[2]" and "8160" in reason
    writer.run(f"INSERT INTO t VALUES (4, {values}), (5, {values})", "UPDATE t SET c1 = 'c' WHERE id = 3")
    with mirror.control() as control:
        control.retry(LIMIT)
    mirror.check()
    assert len(rejects(dsn, "t")) == 3 and mirror.status()["refusals"] == []
    short = ", ".join(f"c{at} = NULL" for at in range(100, MOST))
    writer.run(f"UPDATE t SET {short} WHERE id IN (2, 5)")
    mirror.check()
    assert keys(dsn, "t") == [1, 2, 3, 5] and [key for key, _ in rejects(dsn, "t")] == ["[4]"]


@pytest.mark.few(4)
@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("declared", ["TEXT", "BLOB", "UUID"])
@pytest.mark.parametrize("shape", ["", " WITHOUT ROWID"])
def test_long_keys(
    mirror: MirrorProcess, database: Path, folder: Path, writer: Writer, dsn: str, shape: str, declared: str, live: bool
) -> None:
    """A key that is longer than an index entry is a reject with that reason, and the doctor counts it before."""
    value = "CAST({} AS BLOB)" if declared == "BLOB" else "{}"
    made = [f"CREATE TABLE t(id {declared} NOT NULL PRIMARY KEY, v){shape}"]
    made += [f"INSERT INTO t VALUES ({value.format(repr(letter))}, 1)" for letter in "ab"]
    if live:
        writer.run(*made)
        mirror.start()
        mirror.wait_applied()
        made = []
    # Letters that Postgres cannot compress away.
    writer.run(*made, f"INSERT INTO t VALUES ({value.format('hex(randomblob(3000))')}, 2)")
    writer.run(f"INSERT INTO t VALUES ({value.format('hex(randomblob(1290))')}, 3)")
    told, _ = doctor(folder, database, dsn)
    assert told["table t"] == "1 row would go to mirror.rejects: key too long for a Postgres index"
    if not live:
        mirror.start()
    mirror.check()
    assert [reason for _, reason in rejects(dsn, "t")] == ["key too long for a Postgres index"]
    assert len(keys(dsn, "t")) == 3 and mirror.status()["refusals"] == []
    writer.run("UPDATE t SET v = 5", "DELETE FROM t WHERE length(id) > 5000")
    mirror.check()
    assert rejects(dsn, "t") == []
