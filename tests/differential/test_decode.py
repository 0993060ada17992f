"""The decoder against SQLite: after any work, what it says changed is what SELECT says changed."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirror.core.rows import RowChange, SchemaChange
from mirror.core.tables import Table
from mirror.core.values import Row
from mirror.sqlite.decode import blocks as blocks_module
from mirror.sqlite.decode import diff as diff_module
from mirror.sqlite.decode import rows as rows_module
from mirror.sqlite.decode.diff import SCHEMA_TABLE, Decoded, Layout, build_pagemap, decode
from mirror.sqlite.decode.pagemap import NONE, OVERFLOW_FIRST, OVERFLOW_MORE
from mirror.sqlite.decode.rows import MANY_PAGES, PART_ROWS
from mirror.sqlite.decode.schema import read_schema
from mirror.sqlite.format.btree import ReadPage
from mirror.sqlite.format.wal import WalHeader, verify_frames
from tests.support.sqlite import Pages, new_database, runs, same_row, select
from tests.support.workload import NAMES, Work, random_commits

Key = tuple[object, ...] | int | None
Rows = dict[Key, Row]


class Copy:
    """What a mirror knows: schema, page map and rows, kept up by the decoder alone and compared with SQLite."""

    def __init__(self, connection: apsw.Connection, read: ReadPage, pages: int, layout: Layout) -> None:
        self._connection = connection
        self._read = read
        self._layout = layout
        self.schema = read_schema(read, layout.geometry, layout.encoding)
        self._pagemap = build_pagemap(runs(read), pages, self.schema, layout)
        self.rows = {name: self._select(table) for name, table in self.schema.tables.items()}
        self.changes = 0

    def _select(self, table: Table) -> Rows:
        return {key(table, rowid, row): row for rowid, row in select(self._connection, table, self._layout.encoding)}

    def step(
        self, read: ReadPage, changed: Collection[int], pages: int, judge: apsw.Connection | None = None
    ) -> Decoded:
        """Decode the way to a new state, follow it, and compare everything with what ``judge`` reads there."""
        self._connection = judge or self._connection
        decoded = decode(self._read, read, changed, self.schema, self._pagemap, self._layout)
        self.rows = redefined(self.rows, decoded.schema_changes)
        for part in decoded.tables:
            self.changes += follow(self.rows[part.table.name], part.table, part.rows)
        decoded.update.apply(self._pagemap)
        self.schema, self._read = decoded.schema, read
        self._compare(pages)
        return decoded

    def _compare(self, pages: int) -> None:
        assert self.rows.keys() == self.schema.tables.keys()
        names = {
            row[0]
            for row in self._connection.execute(
                "SELECT name FROM sqlite_schema WHERE type='table' AND name NOT LIKE 'sqlite_%'"
            )
        }
        assert self.schema.tables.keys() == names
        assert self.schema == read_schema(self._read, self._layout.geometry, self._layout.encoding)
        for name, table in self.schema.tables.items():
            expected = self._select(table)
            assert self.rows[name].keys() == expected.keys(), name
            for each, row in expected.items():
                assert same_row(self.rows[name][each], row), (name, each)
        fresh = build_pagemap(runs(self._read), pages, self.schema, self._layout)
        for pgno in range(1, pages + 1):
            kept, right = self._pagemap.get(pgno), fresh.get(pgno)
            stale = right[0] == NONE and kept[0] in (OVERFLOW_FIRST, OVERFLOW_MORE)
            assert kept == right or stale, (pgno, kept, right)


def key(table: Table, rowid: int | None, row: Row) -> Key:
    """What names a row: its rowid, or the primary key's values."""
    if not table.without_rowid:
        return rowid
    return tuple(row[table.position(name)] for name in table.primary_key)


def redefined(old: dict[str, Rows], changes: Sequence[SchemaChange]) -> dict[str, Rows]:
    """The tables after schema changes, before row changes."""
    new = dict(old)
    for change in changes:
        if change.kind in ("drop", "rename"):
            assert change.before is not None
            del new[change.before.name]
    for change in changes:
        if change.kind == "drop":
            continue
        assert change.after is not None
        name = change.after.name
        if change.kind == "create":
            assert name not in new
            new[name] = {}
        elif change.kind == "rebuild":
            new[name] = {}
        elif change.kind == "rename":
            assert change.before is not None
            new[name] = old[change.before.name]
        else:
            added = [column.default for column in change.after.columns]
            new[name] = {
                each: tuple(row[at] if at is not None else added[to] for to, at in enumerate(change.carried))
                for each, row in old[name].items()
            }
    return new


def follow(rows: Rows, table: Table, changes: Iterator[RowChange]) -> int:
    """Make row changes, as one set: each before must be there, no after may be there twice."""
    afters: Rows = {}
    count = 0
    for rowid, before, after in changes:
        count += 1
        assert before is not None or after is not None
        if before is not None and after is not None:
            assert not same_row(before, after)
        if before is not None:
            known = rows.pop(key(table, rowid, before))
            assert same_row(known[: len(before)], before)
        if after is not None:
            name = key(table, rowid, after)
            assert name not in afters
            afters[name] = after
    assert not afters.keys() & rows.keys()
    rows.update(afters)
    return count


# -- images compared -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """How a database is made."""

    page_size: int = 512
    auto_vacuum: int = 0
    secure_delete: bool = False
    encoding: str = "UTF-8"
    reserved: int = 0

    def connect(self, path: str = ":memory:") -> apsw.Connection:
        return new_database(
            path,
            page_size=self.page_size,
            auto_vacuum=self.auto_vacuum,
            secure_delete=self.secure_delete,
            encoding=self.encoding,
            reserved=self.reserved,
        )

    def __str__(self) -> str:
        return f"{self.page_size}-{self.auto_vacuum}-{self.secure_delete}-{self.encoding}-{self.reserved}"


SETTINGS = [
    Setting(),
    Setting(secure_delete=True),
    Setting(auto_vacuum=1),
    Setting(auto_vacuum=2),
    Setting(auto_vacuum=2, secure_delete=True, reserved=32),
    Setting(page_size=1024, encoding="UTF-16le"),
    Setting(page_size=4096, encoding="UTF-16be", auto_vacuum=1),
    Setting(page_size=65536, secure_delete=True),
]


def run_on_images(setting: Setting, commits: Sequence[Sequence[tuple[str, int]]]) -> int:
    """In memory: the changed pages are those that differ between two images of the whole database."""
    connection = setting.connect()
    work = Work(connection, setting.page_size)
    work.prepare()
    before = Pages.take(connection)
    copy = Copy(connection, before.read, before.count, before.layout)
    for operations in commits:
        work.commit(operations)
        after = Pages.take(connection)
        copy.step(after.read, after.differing(before), after.count)
        before = after
    connection.close()
    return copy.changes


@pytest.mark.few(8)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_long_workloads(setting: Setting, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit by commit, from page images; every second time all of them in blocks."""
    monkeypatch.setattr(rows_module, "MANY_PAGES", (1, MANY_PAGES)[seed % 2])
    assert run_on_images(setting, random_commits(seed, 70)) > 300


OPERATION = st.tuples(st.sampled_from(NAMES), st.integers(0, 2**32 - 1))
COMMITS = st.lists(st.lists(OPERATION, min_size=1, max_size=6), min_size=1, max_size=12)


@settings(max_examples=75, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(st.sampled_from(SETTINGS[:6]), COMMITS, st.sampled_from((3, 50, PART_ROWS)), st.sampled_from((1, 3, MANY_PAGES)))
def test_any_workload(setting: Setting, commits: list[list[tuple[str, int]]], part: int, many: int) -> None:
    """The same, found and shrunk by Hypothesis; with large transactions made of few rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "MANY_PAGES", many)
        patch.setattr(blocks_module, "_BLOCK_BYTES", 3000)
        patch.setattr(rows_module, "PART_ROWS", part)
        patch.setattr(diff_module, "_KEPT_PAGES", max(1, part // 50))
        run_on_images(setting, commits)


@pytest.mark.slow
def test_memory_does_not_grow_with_a_transaction_without_rowids(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows of a table replaced by others, in an order that only the program knows."""
    monkeypatch.setattr(rows_module, "PART_ROWS", 500)
    connection = new_database(page_size=4096)
    connection.create_collation("mine", lambda a, b: (a[::-1] > b[::-1]) - (a[::-1] < b[::-1]))
    connection.execute("CREATE TABLE t(k TEXT COLLATE mine PRIMARY KEY, v) WITHOUT ROWID")
    peaks = []
    for count in (2000, 8000):
        connection.execute("DELETE FROM t")
        connection.executemany("INSERT INTO t VALUES (?, 'old')", ((f"{i:09}{'k' * 40}",) for i in range(count)))
        before = Pages.take(connection)
        connection.execute("UPDATE t SET v = 'new' WHERE k % 3 = 0")
        connection.execute("UPDATE t SET k = 'moved' || k WHERE k % 3 = 1")
        after = Pages.take(connection)
        schema = read_schema(before.read, before.layout.geometry, before.layout.encoding)
        pagemap = build_pagemap(runs(before.read), before.count, schema, before.layout)
        found = []
        for _ in range(3):  # other threads of the tests need memory at times, too
            tracemalloc.start()
            decoded = decode(before.read, after.read, after.differing(before), schema, pagemap, before.layout)
            changes = Counter((old is None, new is None) for part in decoded.tables for _, old, new in part.rows)
            found.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        peaks.append(min(found))
        updated, moved = len(range(0, count, 3)), len(range(1, count, 3))
        assert changes == {(False, False): updated, (True, False): moved, (False, True): moved}
    assert peaks[1] < 1.5 * peaks[0]


# -- a real WAL ----------------------------------------------------------------------------------------


class Wal:
    """A WAL-mode database as a mirror sees it: its pages at the start, then frames. Read by APSW's handle."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        connection.execute("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=5").fetchall()
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        size = connection.execute("PRAGMA page_size").get * connection.execute("PRAGMA page_count").get
        self.start = Pages.of(connection.read("main", 0, 0, size)[1])
        self._frames = 0

    def _rest(self, which: int, offset: int) -> bytes:
        """The database file (0) or the WAL (1) from an offset on."""
        data = b""
        while (block := self._connection.read("main", which, offset + len(data), 1 << 20))[1]:
            data += block[1]
            if not block[0]:
                break
        return data

    def copied(self, folder: Path) -> apsw.Connection:
        """A copy of the files as they are now, opened: SQLite itself reads the WAL up to the last commit in it."""
        folder.mkdir(exist_ok=True)
        for name, which in (("copy.db", 0), ("copy.db-wal", 1)):
            (folder / name).write_bytes(self._rest(which, 0))
        (folder / "copy.db-shm").unlink(missing_ok=True)
        return apsw.Connection(str(folder / "copy.db"), flags=apsw.SQLITE_OPEN_READWRITE)

    def commits(self) -> list[tuple[dict[int, bytes], int]]:
        """Since the last call: for each commit its page images and the size of the database."""
        size = self.start.header.page_size
        head = self._connection.read("main", 1, 0, 32)[1]
        if not any(head):
            return []
        header = WalHeader.parse(head)
        data = self._rest(1, 32)
        run = verify_frames(data, size, header.big_endian, header.salts, header.checksum)
        found: list[tuple[dict[int, bytes], int]] = []
        images: dict[int, bytes] = {}
        for frame in range(self._frames, run.commits[-1] + 1 if run.commits else 0):
            at = frame * (size + 24)
            images[int.from_bytes(data[at : at + 4], "big")] = data[at + 24 : at + 24 + size]
            if pages := int.from_bytes(data[at + 4 : at + 8], "big"):
                found.append((images, pages))
                images = {}
                self._frames = frame + 1
        return found


@contextmanager
def live(setting: Setting, path: Path) -> Iterator[tuple[Work, Wal, Copy]]:
    """A WAL-mode database with the tables in it, and a copy of it."""
    connection = setting.connect(str(path))
    work = Work(connection, setting.page_size)
    work.prepare()
    wal = Wal(connection)
    start = wal.start
    yield work, wal, Copy(connection, start.read, start.count, start.layout)
    connection.close()


def overlay(old: ReadPage, images: dict[int, bytes]) -> ReadPage:
    """Pages with newer images over them."""
    known = dict(images)
    return lambda pgno: known[pgno] if pgno in known else old(pgno)


def run_on_wal(setting: Setting, path: Path, commits: Sequence[Sequence[tuple[str, int]]], batch: int) -> int:
    """Decode frames, ``batch`` transactions at a time.

    A batch's page set is the union of its commits', with the newest image of each page: also of pages
    that were freed later in the batch, whose images are stale then. Pages freed without a frame are
    not in it. The judge is SQLite on a copy of the files as they were right behind the batch.
    """
    images: dict[int, bytes] = {}
    with live(setting, path) as (work, wal, copy):
        for start in range(0, len(commits), batch):
            for operations in commits[start : start + batch]:
                work.commit(operations)
            found = wal.commits()
            if not found:
                continue
            changed: dict[int, bytes] = {}
            for written, _ in found:
                changed |= written
            images |= changed
            judge = wal.copied(path.with_suffix(".copy"))
            copy.step(overlay(wal.start.read, images), changed.keys(), found[-1][1], judge)
            judge.close()
        return copy.changes


@pytest.mark.few(4)
@pytest.mark.parametrize("setting", SETTINGS[:6], ids=str)
@pytest.mark.parametrize("batch", [1, 7])
def test_frames_of_a_real_wal(setting: Setting, batch: int, tmp_path: Path) -> None:
    """The changed pages are those that SQLite logged, commit by commit and in batches."""
    commits = random_commits(100 + batch, 60 * (1 if batch == 1 else 3))
    assert run_on_wal(setting, tmp_path / "s.db", commits, batch) > 300


ANY_SETTING = st.builds(
    Setting,
    page_size=st.sampled_from((512, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)),
    auto_vacuum=st.integers(0, 2),
    secure_delete=st.booleans(),
    encoding=st.sampled_from(("UTF-8", "UTF-16le", "UTF-16be")),
    reserved=st.sampled_from((0, 0, 1, 8, 32)),
)


@pytest.mark.slow
@settings(max_examples=110, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(ANY_SETTING, COMMITS, st.sampled_from((1, 1, 1, 2, 5)), st.sampled_from((1, MANY_PAGES)))
def test_any_workload_in_batches(
    tmp_path_factory: pytest.TempPathFactory,
    setting: Setting,
    commits: list[list[tuple[str, int]]],
    batch: int,
    many: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "MANY_PAGES", many)
        run_on_wal(setting, tmp_path_factory.mktemp("wal") / "s.db", commits, batch)


def test_emptying_a_table_logs_almost_nothing(tmp_path: Path) -> None:
    """Hazard 9: the pages of the deleted rows are not in the log, yet all rows are gone."""
    with live(Setting(page_size=4096), tmp_path / "s.db") as (work, wal, copy):
        work.connection.executemany("INSERT INTO a VALUES (?,?,?,?)", [(i, "x" * 200, 1.0, b"") for i in range(2000)])
        images = {pgno: image for written, _ in wal.commits() for pgno, image in written.items()}
        first = overlay(wal.start.read, images)
        copy.step(first, images.keys(), max(images))
        assert len(copy.rows["a"]) == 2000
        work.run("DELETE FROM a")
        [(written, pages)] = wal.commits()
        assert len(written) < 5 < len(images)
        copy.step(overlay(first, written), written.keys(), pages)
        assert copy.rows["a"] == {}


def test_a_blob_write_logs_only_an_overflow_page(tmp_path: Path) -> None:
    """Hazard 11: the row's own page is not in the log."""
    with live(Setting(), tmp_path / "s.db") as (work, wal, copy):
        work.run("INSERT INTO a VALUES (1, '', 0, zeroblob(5000))")
        [(written, pages)] = wal.commits()
        first = overlay(wal.start.read, written)
        copy.step(first, written.keys(), pages)
        with work.connection.blob_open("main", "a", "z", 1, True) as blob:
            blob.seek(3000)
            blob.write(b"here")
        [(written, pages)] = wal.commits()
        second = overlay(first, written)
        assert all(second(pgno)[0] == 0 for pgno in written)  # overflow pages begin with a small number
        copy.step(second, written.keys(), pages)
        assert copy.changes == 2
        assert copy.rows["a"][1][3] == bytes(3000) + b"here" + bytes(1996)


def test_rows_on_interior_pages_of_a_deep_tree() -> None:
    """Hazard 12: on 512-byte pages with long keys many rows of WITHOUT ROWID tables are interior cells."""
    connection = Setting().connect()
    work = Work(connection, 512)
    work.prepare()
    before = Pages.take(connection)
    copy = Copy(connection, before.read, before.count, before.layout)
    for start in range(0, 3000, 500):
        rows = [(None, str(i * 7919 % 3000).zfill(90), 0.0) for i in range(start, start + 500)]
        connection.executemany("INSERT INTO l VALUES (?,?,?)", rows)
        after = Pages.take(connection)
        copy.step(after.read, after.differing(before), after.count)
        before = after
    root = copy.schema.tables["l"].root
    interior = sum(before.read(pgno)[0] == 2 for pgno in range(2, before.count + 1))
    assert before.read(root)[0] == 2
    assert interior > 30
    assert copy.changes == 3000


@pytest.mark.parametrize("setting", SETTINGS[:5], ids=str)
def test_vacuum_keeps_the_rows(setting: Setting) -> None:
    """Hazard 14: every root moves; with an INTEGER PRIMARY KEY no row changes, without one rowids may."""
    connection = setting.connect()
    work = Work(connection, setting.page_size)
    work.prepare()
    for name in ("write_a", "write_b", "write_n", "write_w", "write_c", "write_l") * 6:
        work.do(name, 7)
    work.run("DELETE FROM b; DELETE FROM n WHERE rowid % 2")
    before = Pages.take(connection)
    copy = Copy(connection, before.read, before.count, before.layout)
    connection.execute("VACUUM")
    after = Pages.take(connection)
    decoded = copy.step(after.read, after.differing(before), after.count)
    assert decoded.schema_changes == ()


def test_a_commit_that_changes_no_row_gives_none() -> None:
    connection = Setting().connect()
    Work(connection, 512).prepare()
    before = Pages.take(connection)
    copy = Copy(connection, before.read, before.count, before.layout)
    connection.execute("PRAGMA user_version=5; CREATE INDEX b_k ON b(v, k); ANALYZE")
    after = Pages.take(connection)
    decoded = copy.step(after.read, after.differing(before), after.count)
    assert decoded.schema_changes == ()
    assert copy.changes == 0


def test_named_tables_are_given_whole() -> None:
    """``rebuild``: the sink asks for all rows of a table again."""
    connection = Setting().connect()
    work = Work(connection, 512)
    work.prepare()
    for _ in range(5):
        work.do("write_a", 1)
        work.do("write_w", 2)
    pages = Pages.take(connection)
    schema = read_schema(pages.read, pages.layout.geometry, pages.layout.encoding)
    pagemap = build_pagemap(runs(pages.read), pages.count, schema, pages.layout)
    decoded = decode(pages.read, pages.read, (), schema, pagemap, pages.layout, frozenset({"a", "w"}))
    assert [(change.kind, change.after.name) for change in decoded.schema_changes if change.after] == [
        ("rebuild", "a"),
        ("rebuild", "w"),
    ]
    for part in decoded.tables:
        rows = {key(part.table, rowid, after or ()): after for rowid, _, after in part.rows}
        assert rows == {key(part.table, rowid, row): row for rowid, row in select(connection, part.table)}
    before = pagemap.copy()
    decoded.update.apply(pagemap)
    assert pagemap == before


def test_the_schema_table_itself() -> None:
    """``sqlite_schema`` is described like any other table."""
    connection = Setting().connect()
    Work(connection, 512).prepare()
    pages = Pages.take(connection)
    schema = read_schema(pages.read, pages.layout.geometry, pages.layout.encoding)
    assert SCHEMA_TABLE.root == 1
    assert [table.root for table in schema.tables.values()] == sorted(schema.by_root)
