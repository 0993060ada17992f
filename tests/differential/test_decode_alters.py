"""The decoder against SQLite where several ALTER TABLE lie between two states, as in a migration or after a downtime.

Names alone do not say what happened to a column: one that is gone and one that is new may be the same, and rows that
were not written since ``ADD COLUMN`` have short records, which may stay byte by byte, and mean something else.
"""

from __future__ import annotations

import random
from collections import Counter

import apsw
import pytest

from tests.differential.test_decode import Copy, Setting
from tests.support.quick import quick
from tests.support.sqlite import Pages

NAMES = ("a", "b", "c", "d", "e")
#: Few, so that columns are often alike; and what rows get that were there before.
TYPES = (
    "TEXT", "TEXT", "INTEGER", "REAL", "TEXT DEFAULT 'x'", "TEXT NOT NULL DEFAULT 'x'",
    "DEFAULT 7", "DEFAULT 7.0", "DEFAULT 0.0", "DEFAULT -0.0", "BLOB DEFAULT 0",
)  # fmt: skip
SETTINGS = (Setting(page_size=512), Setting(page_size=512, auto_vacuum=1), Setting(page_size=4096, secure_delete=True))
CREATE = "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b TEXT)"

#: What migrations do, after which pages are as they were.
HISTORIES: dict[str, tuple[str, ...]] = {
    "renamed, and one added": ("RENAME COLUMN b TO c", "ADD COLUMN d"),
    "renamed, and its name used again": ("RENAME COLUMN b TO c", "ADD COLUMN b TEXT"),
    "both renamed, and one added": ("RENAME COLUMN a TO c", "RENAME COLUMN b TO d", "ADD COLUMN e TEXT"),
    "names exchanged": ("RENAME COLUMN a TO c", "RENAME COLUMN b TO a", "RENAME COLUMN c TO b"),
    "names exchanged, and one added": (
        "RENAME COLUMN a TO c", "RENAME COLUMN b TO a", "RENAME COLUMN c TO b", "ADD COLUMN c INTEGER",
    ),
    "one dropped, and one added": ("DROP COLUMN a", "ADD COLUMN c TEXT"),
    "the last dropped, and others added": ("DROP COLUMN b", "ADD COLUMN c TEXT", "ADD COLUMN d TEXT"),
    "added and not written, dropped, its name given": ("ADD COLUMN c TEXT", "DROP COLUMN c", "RENAME COLUMN b TO c"),
    "dropped and added as before": ("DROP COLUMN b", "ADD COLUMN b TEXT"),
    "a default that is equal, and another": ("ADD COLUMN c DEFAULT 1", "DROP COLUMN c", "ADD COLUMN c DEFAULT 1.0"),
}  # fmt: skip


def copy_of(connection: apsw.Connection) -> Copy:
    """A copy of the database as it is."""
    pages = Pages.take(connection)
    return Copy(connection, pages.read, pages.count, pages.layout)


def fill(connection: apsw.Connection, first: int, last: int) -> None:
    """Rows of all the table's columns."""
    names = [str(row[1]) for row in connection.execute("PRAGMA table_info(t)")]
    values = ", ".join("i" if name == "id" else f"'{name}' || i" for name in names)
    number = f"WITH RECURSIVE s(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM s WHERE i < {last})"
    connection.execute(f"INSERT INTO t({', '.join(names)}) {number} SELECT {values} FROM s")


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("short", [True, False], ids=["short records", "whole records"])
@pytest.mark.parametrize("name", HISTORIES)
def test_migrations(name: str, short: bool, at_once: bool) -> None:
    """One or several states; rows that have all columns, or only those of before the last ADD COLUMN."""
    connection = Setting().connect()
    connection.execute(CREATE.replace(", b TEXT", "") if short else CREATE)
    fill(connection, 1, 100)
    if short:
        connection.execute("ALTER TABLE t ADD COLUMN b TEXT")
        fill(connection, 101, 110)
    before, copy = Pages.take(connection), copy_of(connection)
    for number, alter in enumerate(HISTORIES[name], 1):
        connection.execute(f"ALTER TABLE t {alter}")
        if not at_once or number == len(HISTORIES[name]):
            after = Pages.take(connection)
            copy.step(after.read, after.differing(before), after.count)
            before = after
    connection.close()


@pytest.mark.parametrize(("was", "now"), [("1", "1.0"), ("0.0", "-0.0"), ("1e15", "1000000000000000")])
@pytest.mark.parametrize("kind", ["", "STRICT"])
def test_a_default_that_is_equal_and_another(was: str, now: str, kind: str) -> None:
    """Rows that were not written since have it, though nothing else of the table has changed, nor any record."""
    connection = Setting().connect()
    name = "ANY" if kind else ""
    connection.execute(f"CREATE TABLE t(id INTEGER PRIMARY KEY) {kind}")
    connection.execute("INSERT INTO t VALUES (1), (2)")
    connection.execute(f"ALTER TABLE t ADD COLUMN a {name} DEFAULT {was}")
    before, copy = Pages.take(connection), copy_of(connection)
    connection.execute("ALTER TABLE t DROP COLUMN a")
    connection.execute(f"ALTER TABLE t ADD COLUMN a {name} DEFAULT {now}")
    after = Pages.take(connection)
    copy.step(after.read, after.differing(before), after.count)
    connection.close()


def alter(connection: apsw.Connection, r: random.Random) -> str:
    """One statement that changes the table's columns, or some rows."""
    columns = [str(row[1]) for row in connection.execute("PRAGMA table_info(t)")][1:]
    free = [name for name in NAMES if name not in columns]
    match r.randrange(6):
        case 0 | 1 if columns and free:
            return f"ALTER TABLE t RENAME COLUMN {r.choice(columns)} TO {r.choice(free)}"
        case 2 | 3 if free:
            return f"ALTER TABLE t ADD COLUMN {r.choice(free)} {r.choice(TYPES)}"
        case 4 if columns:
            return f"ALTER TABLE t DROP COLUMN {r.choice(columns)}"
        case _ if columns:
            value = r.choice(("'y'", "id", "NULL", "1.0", f"printf('%.*c', {r.choice((5, 3000))}, 'z')"))
            return f"UPDATE OR IGNORE t SET {r.choice(columns)} = {value} WHERE id % {r.choice((7, 50))} = 1"
        case _:
            return "DELETE FROM t WHERE id % 31 = 5"


@pytest.mark.parametrize("first", quick(0, among=range(8)))
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_any_history(setting: Setting, first: int) -> None:
    """Up to five statements between two states, of tables with few and many rows."""
    kinds: Counter[str] = Counter()
    for seed in range(first * 60, first * 60 + 60):
        r = random.Random(seed)
        connection = setting.connect()
        connection.execute(CREATE)
        fill(connection, 1, r.choice((3, 60, 400)))
        before, copy = Pages.take(connection), copy_of(connection)
        said: list[str] = []
        try:
            for _ in range(8):
                for _ in range(r.randrange(1, 6)):
                    said.append(alter(connection, r))
                    connection.execute(said[-1])
                if r.random() < 0.3:
                    fill(connection, 1000 + len(said) * 10, 1003 + len(said) * 10)
                after = Pages.take(connection)
                decoded = copy.step(after.read, after.differing(before), after.count)
                kinds.update(change.kind for change in decoded.schema_changes)
                said.append("-- compared")
                before = after
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {said}") from error
        connection.close()
    assert kinds["columns"] > 50, kinds
