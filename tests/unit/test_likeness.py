"""Whether a file is the one that was mirrored: right for one that was written, rebuilt or restored, not for another."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mirror.capture.spool import SpoolPlace
from mirror.core.errors import SourceError
from mirror.core.positions import Salts
from mirror.replica.images import Images
from mirror.replica.likeness import is_like
from mirror.replica.shadow import SavedPosition, Shadow
from mirror.replica.spool_reader import SpoolReader

Files = Callable[..., Path]

#: A program's tables, and what each of its files has from the start.
PROGRAM = (
    "CREATE TABLE versions(number INTEGER PRIMARY KEY, name TEXT)",
    "INSERT INTO versions WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30)"
    " SELECT i, 'migration ' || i FROM n",
    "CREATE TABLE memories(id TEXT PRIMARY KEY, content TEXT, kind TEXT, seen INTEGER)",
    "CREATE TABLE notes(id INTEGER PRIMARY KEY, content TEXT, kind TEXT, seen INTEGER)",
    "CREATE TABLE links(one INTEGER, other INTEGER)",
    "CREATE TABLE state(name TEXT PRIMARY KEY, value)",
    "INSERT INTO state VALUES ('counter', 1)",
)


def rows(count: int, mark: str) -> tuple[str, ...]:
    """Data, which differ from file to file by ``mark``."""
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
    return (
        f"INSERT INTO memories {numbers} SELECT '{mark}-' || i, 'what {mark} knows of ' || i, 'a preference', 0 FROM n",
        f"INSERT INTO notes {numbers} SELECT i, 'what {mark} notes of ' || i, 'a preference', 0 FROM n",
        f"INSERT INTO links {numbers} SELECT i, i * 7 % {len(mark) + 5} FROM n",
    )


def run(path: Path, *statements: str) -> Path:
    """In the standard library, which stands for the program's: this process has no other connection to the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        for statement in statements:
            connection.execute(statement)
    return path


def copy(path: Path, folder: Path) -> Path:
    """What a mirror has of a file that no program has open."""
    (folder / "spool").mkdir(parents=True)
    shutil.copyfile(path, folder / "shadow.db")
    size = int.from_bytes(path.read_bytes()[16:18], "big")
    saved = SavedPosition("x", 2, 7, Salts(1, 2), 5.0, SpoolPlace(1, 52), size, path.stat().st_size // size)
    spool = SpoolReader(folder / "spool")
    made = Shadow.create(folder, Images(folder, spool), saved, {})
    made.commit(b"")
    made.close()
    return folder


def difference(folder: Path, path: Path) -> str:
    with pytest.raises(SourceError, match="not the database that was mirrored") as caught:
        is_like(folder, path)
    return caught.value.detail


@pytest.fixture(params=[3, 400])
def size(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def old(folder: Path, size: int) -> Path:
    return run(folder / "old.db", *PROGRAM, *rows(size, "old"))


MEANWHILE = {
    "nothing": (),
    "more rows": ("INSERT INTO notes(content) VALUES ('a new one')", "UPDATE state SET value = 2"),
    "all rows were seen": ("UPDATE notes SET seen = 5", "UPDATE memories SET seen = 5"),
    "some are gone": ("DELETE FROM notes WHERE id % 3 = 0", "DELETE FROM links WHERE rowid % 3 = 0"),
    "rebuilt": ("DELETE FROM links WHERE one % 3 = 1", "VACUUM"),
    "other pages": ("PRAGMA journal_mode=DELETE", "PRAGMA page_size=8192", "VACUUM"),
    "another column": ("ALTER TABLE notes ADD COLUMN more TEXT DEFAULT 'x'", "CREATE TABLE later(id)"),
    "indexed": ("CREATE INDEX by_content ON links(other, one)",),
}


@pytest.mark.parametrize("meanwhile", list(MEANWHILE))
def test_the_same_file(folder: Path, old: Path, meanwhile: str) -> None:
    """Whatever happened to it since."""
    here = copy(old, folder / "state")
    run(old, *MEANWHILE[meanwhile])
    before = sorted(path.name for path in folder.iterdir())
    assert is_like(here, old)
    assert sorted(path.name for path in folder.iterdir()) == before, "nothing is made beside it"


def test_what_is_in_the_log_alone(folder: Path, old: Path) -> None:
    """A program has it open again: the file alone has less."""
    here = copy(old, folder / "state")
    with closing(sqlite3.connect(old, isolation_level=None)) as program:
        program.execute("PRAGMA wal_autocheckpoint=0")
        program.execute("ALTER TABLE notes RENAME COLUMN kind TO sort")
        program.execute("INSERT INTO notes(content) SELECT content FROM notes")
        size = os.stat(f"{old}-wal").st_size
        assert is_like(here, old)
        assert os.stat(f"{old}-wal").st_size == size, "nothing is written, and nothing is checkpointed"
        program.execute("INSERT INTO notes(content) VALUES ('goes on')")


def test_an_older_backup(folder: Path, old: Path, size: int) -> None:
    backup = shutil.copyfile(old, folder / "backup.db")
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {size // 3})"
    run(old, f"INSERT INTO notes(content) {numbers} SELECT 'since the backup ' || i FROM n", "DELETE FROM state")
    assert is_like(copy(old, folder / "state"), backup)


OTHERS = {
    "a new one of the program": PROGRAM,
    "one with as many rows": (*PROGRAM, *rows(400, "new")),
    "one with few rows": (*PROGRAM, *rows(3, "new")),
    "one with less tables": PROGRAM[:2],
    "one with a table of the name": ("CREATE TABLE notes(id INTEGER, x)", "INSERT INTO notes VALUES (1, 'y')"),
    "an empty one": (),
}  # fmt: skip


@pytest.mark.parametrize("which", list(OTHERS))
def test_another_one(folder: Path, old: Path, which: str) -> None:
    """Also one that the same program has made, and one that is as small."""
    here = copy(old, folder / "state")
    assert difference(here, run(folder / "new.db", *OTHERS[which]))


def test_small_ones(folder: Path) -> None:
    """Of one table with one row: that is looked for, and what was in it counts."""
    table = "CREATE TABLE t(id INTEGER PRIMARY KEY, v)"
    here = copy(run(folder / "old.db", table, "INSERT INTO t VALUES (1, 'one')"), folder / "state")
    assert is_like(here, run(folder / "more.db", table, "INSERT INTO t VALUES (1, 'one'), (2, 'two')"))
    assert "it has 0" in difference(here, run(folder / "new.db", table, "INSERT INTO t VALUES (1, 'two')"))
    assert "no row in t" in difference(here, run(folder / "none.db", table))
    assert "no table t" in difference(here, run(folder / "u.db", "CREATE TABLE u(id)"))
    text = folder / "text.db"
    text.write_text("no database at all, but more than a hundred bytes of it" * 3)
    with pytest.raises(SourceError, match="no SQLite database"):
        is_like(here, text)


@pytest.mark.parametrize(
    "table",
    [
        "CREATE TABLE t(a TEXT COLLATE theirs, b INT, PRIMARY KEY(a, b)) WITHOUT ROWID",
        "CREATE TABLE t(a BLOB, b REAL, rowid TEXT, _rowid_ TEXT, oid TEXT)",
        "CREATE TABLE t(a, b, c AS (a || b) VIRTUAL, d AS (b + 1) STORED)",
        "CREATE TABLE t(a TEXT PRIMARY KEY, b)",
    ],
)
def test_tables_of_all_kinds(folder: Path, table: str) -> None:
    path = folder / "old.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as program:
        program.create_collation("theirs", lambda left, right: (left > right) - (left < right))
        program.execute(table)
        values = [("a\0b", 1), ("ü", 2), (b"\xff\xfe", 3.5), ("", 10**18)]
        program.executemany("INSERT INTO t(a, b) VALUES (?, ?)", values)
        if "theirs" not in table:
            program.execute("INSERT INTO t(a, b) VALUES (CAST(x'61ff' AS TEXT), 7)")
    here = copy(path, folder / "state")
    assert is_like(here, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as program:
        program.create_collation("theirs", lambda left, right: (left > right) - (left < right))
        program.execute("UPDATE t SET a = CAST(a || 'x' AS BLOB)")
    assert "it has 0" in difference(here, path)


def test_nothing_to_compare_with(folder: Path) -> None:
    """No copy, or one that was not completed; and a copy without a row, which has nothing to lose."""
    path = run(folder / "old.db", "CREATE TABLE t(id)")
    assert not is_like(folder / "nowhere", path)
    (folder / "begun").mkdir()
    (folder / "begun" / "shadow.db").write_bytes(b"half")
    assert not is_like(folder / "begun", path)
    here = copy(path, folder / "state")
    assert is_like(here, run(folder / "new.db", "CREATE TABLE u(id)"))
    (here / "shadow.map").unlink()
    assert not is_like(here, path)
