"""Following a real WAL: all SQLite is in another process, driven step by step; the follower runs here.

What the spool says must be a true history: replayed over the pages at its start, the frames give the
database's pages as SQLite has them, and every commit is there exactly once, or a gap says why not.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mirror.capture import room
from mirror.capture import spool as spool_module
from mirror.capture import wal_follower as follow_module
from mirror.capture.spool import Kind, Record, SpoolWriter
from mirror.capture.wal_follower import Follower
from mirror.core.errors import ReplacedError, SourceError, StateError
from mirror.core.positions import Lsn, Salts
from mirror.replica.spool_reader import SpoolReader
from mirror.sqlite.format.wal import WalHeader
from tests.support.spooling import opened, size_of
from tests.support.sqlite import WriterProcess

LIMIT = 1 << 30


@pytest.fixture(scope="module")
def program() -> Iterator[WriterProcess]:
    """The process that writes all sources of this module."""
    with WriterProcess() as process:
        yield process


class Source:
    """One database in WAL mode, written by the program, with a second connection that keeps it open."""

    def __init__(self, program: WriterProcess, folder: Path) -> None:
        self.program = program
        self.path = folder / "source.db"
        self.connect()
        for pragma in ("page_size=1024", "journal_mode=WAL", "wal_autocheckpoint=0", "synchronous=OFF"):
            self.run(f"PRAGMA {pragma}")
        self.run("CREATE TABLE t(id INTEGER PRIMARY KEY, x)")
        self.commit()

    def connect(self) -> None:
        for name in ("main", "keeper"):
            self.program.open(self.path, f"{name} {self.path}")
        self.program.run("SELECT count(*) FROM sqlite_master", name=f"keeper {self.path}")
        self.run("PRAGMA wal_autocheckpoint=0")

    def close(self) -> None:
        """Close both connections: the last one deletes the WAL."""
        for name in ("main", "keeper"):
            self.program.close(f"{name} {self.path}")

    def run(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        return self.program.run(sql, values, f"main {self.path}")  # type: ignore[return-value, arg-type]

    def commit(self, rows: int = 1, size: int = 10) -> None:
        """One commit of some rows."""
        self.program.run("BEGIN", name=f"main {self.path}")
        data = [("x" * size,)] * rows
        self.program.many("INSERT INTO t(x) VALUES (?)", data, f"main {self.path}")
        self.program.run("COMMIT", name=f"main {self.path}")

    def checkpoint(self, mode: str) -> None:
        """A checkpoint that nothing hinders."""
        [(busy, _, _)] = self.run(f"PRAGMA wal_checkpoint({mode})")
        assert busy == 0

    def spill(self, rows: int = 200) -> None:
        """A transaction so large that SQLite writes its frames before it commits."""
        self.run("PRAGMA cache_size=5")
        self.run("BEGIN")
        self.program.many("INSERT INTO t(x) VALUES (?)", [("s" * 500,)] * rows, f"main {self.path}")

    @property
    def count(self) -> int:
        """Rows in the table."""
        [(count,)] = self.run("SELECT count(*) FROM t")
        assert isinstance(count, int)
        return count

    def wal_bytes(self) -> int:
        return os.stat(f"{self.path}-wal").st_size


class Capture:
    """A follower of a source, and what its spool holds."""

    def __init__(self, source: Source, folder: Path, limit: int = LIMIT) -> None:
        self.folder = folder / "spool"
        self.folder.mkdir(exist_ok=True)
        self.spool = opened(self.folder)
        self.follower = Follower(source.path, self.spool, limit)

    def attach(self, floor: int = 0, forced: str = "") -> str | None:
        self.follower.open()
        while not self.follower.is_ready():
            pass
        return self.follower.attach(floor, forced)

    def poll(self) -> None:
        """Take all that is committed, and look whether the files were replaced."""
        while self.follower.poll():
            pass
        assert not self.follower.poll()

    def close(self) -> None:
        self.follower.detach()
        self.spool.close()

    def records(self) -> list[Record]:
        reader = SpoolReader(self.folder)
        first = reader.first()
        found = [] if first is None else list(reader.records(first))
        reader.close()
        return found

    def history(self) -> list[str]:
        """The spool in words: commits counted, resets and gaps named."""
        words: list[str] = []
        commits = 0
        for record in self.records():
            if record.kind is Kind.FRAMES:
                commits += sum(pages > 0 for _, pages, _ in frames(record))
                continue
            if record.kind is Kind.START:
                continue
            if commits:
                words.append(f"{commits} commits")
            commits = 0
            cursor = record.cursor()
            words.append(f"gap: {cursor.reason}" if record.kind is Kind.GAP else "reset")
        return [*words, f"{commits} commits"] if commits else words


def frames(record: Record) -> list[tuple[int, int, bytes]]:
    """The frames of a record: page number, size of the database if a commit, page."""
    size = len(record.payload) // record.count
    parts = [record.payload[at : at + size] for at in range(0, len(record.payload), size)]
    return [(int.from_bytes(p[:4], "big"), int.from_bytes(p[4:8], "big"), p[24:]) for p in parts]


def replay(base: bytes, records: Sequence[Record], page_size: int = 1024) -> bytes:
    """The database after the committed frames of some records."""
    pages = {n // page_size + 1: base[n : n + page_size] for n in range(0, len(base), page_size)}
    pending: dict[int, bytes] = {}
    size = len(pages)
    for record in records:
        if record.kind in (Kind.RESET, Kind.GAP):
            pending = {}
        for pgno, count, image in frames(record) if record.count else ():
            pending[pgno] = image
            if count:
                pages |= pending
                pending, size = {}, count
    return b"".join(pages.get(pgno, bytes(page_size)) for pgno in range(1, size + 1))


def database_bytes(source: Source, folder: Path) -> bytes:
    """The database as SQLite sees it, by VACUUM-free means: a full checkpoint into the file, then its bytes.

    Reading the file here is harmless: this process holds no SQLite connection.
    """
    source.checkpoint("PASSIVE")
    return source.path.read_bytes()


@pytest.fixture
def source(program: WriterProcess, tmp_path: Path) -> Iterator[Source]:
    source = Source(program, tmp_path)
    yield source
    source.close()


@pytest.fixture
def capture(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Capture]:
    """Attached, with all read that there is."""
    monkeypatch.setattr(follow_module, "REPLACED_INTERVAL", 0.0)
    capture = Capture(source, tmp_path)
    assert capture.attach() == "first sight of the source"
    capture.poll()
    yield capture
    capture.close()


FIRST = ["gap: first sight of the source", "2 commits"]


# -- commits -------------------------------------------------------------------------------------------


def test_the_first_attach_takes_all_that_is_in_the_wal(capture: Capture) -> None:
    """Under a gap, because nothing is known of what was before."""
    assert capture.history() == FIRST
    assert capture.follower.cursor.generation == 1


def test_commits_come_one_by_one_or_together(source: Source, capture: Capture) -> None:
    for _ in range(3):
        source.commit()
        capture.poll()
    for _ in range(4):
        source.commit(30)
    capture.poll()
    assert capture.history() == [FIRST[0], "9 commits"]
    found = [record.first_frame + record.count - 1 for record in capture.records() if record.count]
    assert found[-1] == capture.follower.cursor.frame == (source.wal_bytes() - 32) // 1048


def test_the_spooled_frames_are_the_database(source: Source, capture: Capture, tmp_path: Path) -> None:
    """Page by page, through growth, deletes, checkpoints and resets."""
    for number in range(6):
        source.commit(40, 300)
        source.run("DELETE FROM t WHERE id % 3 = ?", number % 3)
        capture.poll()
        source.checkpoint(("PASSIVE", "RESTART", "TRUNCATE")[number % 3])
        capture.poll()
    source.commit()
    capture.poll()
    assert not [word for word in capture.history()[1:] if word.startswith("gap")]
    assert replay(b"", capture.records()) == database_bytes(source, tmp_path)


def test_nothing_new_is_nothing(source: Source, capture: Capture) -> None:
    place, cursor = capture.spool.place, capture.follower.cursor
    source.run("SELECT * FROM t")
    source.run("BEGIN IMMEDIATE")
    source.run("ROLLBACK")
    capture.poll()
    assert (capture.spool.place, capture.follower.cursor) == (place, cursor)


def test_a_large_commit_in_many_chunks(source: Source, capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copied a few frames at a time; each call but the last says that there is more."""
    monkeypatch.setattr(follow_module, "CHUNK_BYTES", 5000)
    before = capture.follower.cursor.frame
    source.commit(300, 400)
    calls = 1
    while capture.follower.poll():
        calls += 1
    added = capture.follower.cursor.frame - before
    assert added > 100
    assert calls >= added // 4
    assert capture.history() == [FIRST[0], "3 commits"]


@pytest.mark.parametrize("page_size", [512, 65536])
def test_the_extreme_page_sizes(
    program: WriterProcess, tmp_path: Path, page_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_module, "CHUNK_BYTES", 5000)
    source = Source(program, tmp_path)
    source.run("PRAGMA journal_mode=DELETE")
    source.run(f"PRAGMA page_size={page_size}")
    source.run("VACUUM")
    source.run("PRAGMA journal_mode=WAL")
    source.commit()
    capture = Capture(source, tmp_path)
    capture.attach()
    capture.poll()
    base = database_bytes(source, tmp_path)
    source.commit(50, 3000)
    capture.poll()
    source.checkpoint("RESTART")
    source.commit(5)
    capture.poll()
    assert capture.history()[1:] == ["1 commits", "reset", "1 commits", "reset", "1 commits"]
    assert capture.follower.cursor.page_size == page_size
    assert replay(base, capture.records(), page_size) == database_bytes(source, tmp_path)
    capture.close()
    source.close()


# -- resets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
@pytest.mark.parametrize("look", [False, True])
def test_a_reset_with_all_read_is_contiguous(source: Source, capture: Capture, mode: str, look: bool) -> None:
    """Whether the follower looks between the checkpoint and the commit that resets the WAL, or not."""
    source.commit(5)
    capture.poll()
    source.checkpoint(mode)
    if look:
        capture.poll()
    source.commit()
    capture.poll()
    assert capture.history() == [FIRST[0], "3 commits", "reset", "1 commits"]
    cursor = capture.follower.cursor
    assert cursor.generation == 2
    assert cursor.salts == WalHeader.parse(Path(f"{source.path}-wal").read_bytes()[:32]).salts


def test_many_resets(source: Source, capture: Capture) -> None:
    for number in range(12):
        source.commit()
        capture.poll()
        source.checkpoint(("RESTART", "TRUNCATE", "PASSIVE")[number % 3])
    source.commit()
    capture.poll()
    assert capture.follower.cursor.generation == 13
    assert capture.history().count("reset") == 12
    assert not [word for word in capture.history()[1:] if word.startswith("gap")]


@pytest.mark.parametrize("mode", ["PASSIVE", "RESTART"])
@pytest.mark.parametrize("missed", [1, 5])
def test_leftovers_are_drained(source: Source, capture: Capture, mode: str, missed: int) -> None:
    """Commits that were not read when the WAL was reset stand behind what the new generation overwrote."""
    source.commit(100, 100)
    capture.poll()
    for _ in range(missed):
        source.commit()
    source.checkpoint(mode)
    source.commit()
    capture.poll()
    assert capture.history() == [FIRST[0], f"{3 + missed} commits", "reset", "1 commits"]


def test_leftovers_of_many_chunks(source: Source, capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "CHUNK_BYTES", 5000)
    source.commit(100, 100)
    capture.poll()
    base = capture.records()
    for _ in range(30):
        source.commit(20, 50)
    source.checkpoint("RESTART")
    source.commit()
    capture.poll()
    assert capture.history() == [FIRST[0], "33 commits", "reset", "1 commits"]
    assert len(capture.records()) > len(base)


def test_leftovers_that_were_overwritten_are_a_gap(source: Source, capture: Capture, tmp_path: Path) -> None:
    """The new generation went past the place that was read: some commits are lost, and this is said."""
    source.commit()
    source.commit()
    source.checkpoint("RESTART")
    source.commit(100, 300)
    capture.poll()
    assert capture.history() == [*FIRST, "gap: the WAL was reset: 2 commits overwritten", "1 commits"]


def test_leftovers_cut_off_are_a_gap(source: Source, capture: Capture) -> None:
    """A TRUNCATE checkpoint shortens the file."""
    source.commit()
    source.checkpoint("TRUNCATE")
    source.commit()
    capture.poll()
    assert capture.history() == [*FIRST, "gap: the WAL was reset: 1 commits overwritten", "1 commits"]


def test_leftovers_overwritten_in_part_are_a_gap(source: Source, capture: Capture) -> None:
    """Of five unread commits the last ones are still there: but not the first, so none is taken."""
    for _ in range(5):
        source.commit()
    source.checkpoint("RESTART")
    for _ in range(4):
        source.commit()
    capture.poll()
    assert capture.history() == [*FIRST, "gap: the WAL was reset: 5 commits overwritten", "4 commits"]


def test_a_missed_generation_is_a_gap(source: Source, capture: Capture) -> None:
    """Two resets between two looks: what was in the generation between is gone, however little it was."""
    source.commit(100, 100)
    capture.poll()
    source.checkpoint("RESTART")
    source.commit()
    source.checkpoint("RESTART")
    source.commit()
    capture.poll()
    assert capture.history() == [
        FIRST[0],
        "3 commits",
        "gap: the WAL was reset: 1 commits overwritten",
        "1 commits",
    ]


def test_following_goes_on_behind_a_gap(source: Source, capture: Capture, tmp_path: Path) -> None:
    source.commit()
    source.checkpoint("TRUNCATE")
    source.commit()
    capture.poll()
    base = database_bytes(source, tmp_path)
    place = len(capture.records())
    source.commit(20)
    capture.poll()
    source.checkpoint("RESTART")
    source.commit(20)
    capture.poll()
    assert capture.history()[-2:] == ["reset", "1 commits"]
    assert replay(base, capture.records()[place:]) == database_bytes(source, tmp_path)


# -- transactions that are not committed ---------------------------------------------------------------


def test_spilled_frames_are_not_taken(source: Source, capture: Capture) -> None:
    """They stand in the file with right salts and checksums; the index does not have them."""
    cursor = capture.follower.cursor
    source.spill()
    assert (source.wal_bytes() - 32) // 1048 > cursor.frame + 50
    capture.poll()
    assert capture.follower.cursor == cursor
    source.run("COMMIT")
    capture.poll()
    assert capture.history() == [FIRST[0], "3 commits"]


def test_a_rollback_after_a_spill_leaves_nothing(source: Source, capture: Capture, tmp_path: Path) -> None:
    """The next commit overwrites the frames of the one that was rolled back."""
    source.spill()
    capture.poll()
    source.run("ROLLBACK")
    capture.poll()
    source.commit(3)
    capture.poll()
    assert capture.history() == [FIRST[0], "3 commits"]
    assert replay(b"", capture.records()) == database_bytes(source, tmp_path)


def test_a_rolled_back_spill_is_no_leftover(source: Source, capture: Capture) -> None:
    """At a reset the old generation ends with frames that never were committed."""
    source.commit(100, 100)
    source.commit()
    source.spill()
    source.run("ROLLBACK")
    source.checkpoint("RESTART")
    source.commit()
    capture.poll()
    assert capture.history() == [FIRST[0], "4 commits", "reset", "1 commits"]


def test_a_spill_that_overwrites_leftovers_is_a_gap(source: Source, capture: Capture) -> None:
    """The index shows few frames of the new generation, the file has many."""
    source.commit()
    source.commit()
    source.checkpoint("RESTART")
    source.commit()
    source.spill()
    capture.poll()
    assert capture.history() == [*FIRST, "gap: the WAL was reset: 2 commits overwritten", "1 commits"]
    source.run("ROLLBACK")


def test_a_savepoint_rolled_back_in_a_spilled_transaction(source: Source, capture: Capture, tmp_path: Path) -> None:
    """SQLite writes frames of the same transaction again, in place, and sums them anew."""
    source.spill(100)
    source.run("SAVEPOINT s")
    source.run("UPDATE t SET x = upper(x)")
    source.run("ROLLBACK TO s")
    source.run("UPDATE t SET x = x || '!' WHERE id % 2")
    capture.poll()
    source.run("COMMIT")
    capture.poll()
    assert capture.history() == [FIRST[0], "3 commits"]
    assert replay(b"", capture.records()) == database_bytes(source, tmp_path)


def unseal(source: Source, first: int, last: int) -> None:
    """Take salts and sums from frames that are committed, as SQLite 3.40 leaves them after a savepoint's rollback."""
    with open(f"{source.path}-wal", "r+b") as wal:
        for frame in range(first, last + 1):
            wal.seek(32 + (frame - 1) * 1048 + 8)
            wal.write(bytes(16))


@pytest.mark.parametrize("also_the_last", [False, True])
@pytest.mark.parametrize("from_the_start", [False, True])
def test_committed_frames_without_salts(
    source: Source, capture: Capture, tmp_path: Path, from_the_start: bool, also_the_last: bool
) -> None:
    """The index says that they are committed, and SQLite reads them so; what follows them is taken, too."""
    if from_the_start:
        source.checkpoint("RESTART")
    first = 1 if from_the_start else capture.follower.cursor.frame + 1
    source.commit(40, 300)
    last = int.from_bytes(Path(f"{source.path}-shm").read_bytes()[16:20], sys.byteorder)
    assert last > first + 5
    unseal(source, first, last if also_the_last else first + 4)
    capture.poll()
    source.commit()
    capture.poll()
    assert capture.history() == [*FIRST, "reset", "2 commits"] if from_the_start else [FIRST[0], "4 commits"]
    assert replay(b"", capture.records()) == database_bytes(source, tmp_path)
    source.checkpoint("RESTART")
    source.commit()
    capture.poll()
    assert capture.history()[-2:] == ["reset", "1 commits"]
    assert replay(b"", capture.records()) == database_bytes(source, tmp_path)


def test_a_start_on_frames_without_salts(source: Source, capture: Capture, tmp_path: Path) -> None:
    """The frame that was read last has lost its salts, too: a gap, and all frames of the WAL are taken anew."""
    source.commit(40, 300)
    last = capture.follower.cursor.frame
    unseal(source, 1, 6)
    again, reason = resumed(capture, source, tmp_path)
    assert reason == f"frame {last} is not the one that was read"
    assert again.history()[-1] == "3 commits"
    assert replay(b"", again.records()) == database_bytes(source, tmp_path)
    again.close()


def test_frames_of_other_salts_are_damage(source: Source, capture: Capture) -> None:
    first = capture.follower.cursor.frame + 1
    source.commit()
    with open(f"{source.path}-wal", "r+b") as wal:
        wal.seek(32 + (first - 1) * 1048 + 8)
        wal.write(b"otherone")
    with pytest.raises(SourceError, match=f"frame {first}"):
        capture.poll()


# -- another start -------------------------------------------------------------------------------------


def resumed(capture: Capture, source: Source, tmp_path: Path, floor: int = 0) -> tuple[Capture, str | None]:
    """A new process on the same spool."""
    capture.close()
    again = Capture(source, tmp_path)
    reason = again.attach(floor)
    again.poll()
    return again, reason


@pytest.mark.parametrize("missed", [0, 1, 7])
def test_a_new_follower_goes_on(source: Source, capture: Capture, tmp_path: Path, missed: int) -> None:
    """No gap as long as the WAL was not reset, however much was written meanwhile."""
    for _ in range(missed):
        source.commit(10)
    again, reason = resumed(capture, source, tmp_path)
    assert reason is None
    source.commit()
    again.poll()
    assert again.history() == [FIRST[0], f"{3 + missed} commits"]
    assert replay(b"", again.records()) == database_bytes(source, tmp_path)
    again.close()


def test_a_new_follower_follows_resets(source: Source, capture: Capture, tmp_path: Path) -> None:
    """The counter of commits is right again once it has caught up."""
    source.commit()
    again, reason = resumed(capture, source, tmp_path)
    assert reason is None
    source.checkpoint("RESTART")
    source.commit()
    again.poll()
    assert again.history() == [FIRST[0], "3 commits", "reset", "1 commits"]
    again.close()


def test_a_new_follower_right_behind_a_reset(source: Source, capture: Capture, tmp_path: Path) -> None:
    """It stopped at frame 0 of a generation whose header may not have been written yet."""
    source.checkpoint("TRUNCATE")
    capture.poll()
    assert capture.follower.cursor.frame == 0
    again, reason = resumed(capture, source, tmp_path)
    assert reason is None
    source.commit()
    again.poll()
    assert again.history() == [*FIRST, "reset", "1 commits"]
    again.close()


@pytest.mark.parametrize("mode", ["RESTART", "TRUNCATE"])
def test_a_reset_while_nobody_followed_is_a_gap(source: Source, capture: Capture, tmp_path: Path, mode: str) -> None:
    """Even where leftovers stand: nobody counted."""
    source.commit()
    capture.follower.detach()
    source.checkpoint(mode)
    source.commit()
    again, reason = resumed(capture, source, tmp_path, floor=9)
    assert reason == "the WAL was reset while nobody followed it"
    assert again.follower.cursor.generation == 9
    assert again.history() == [*FIRST, f"gap: {reason}", "1 commits"]
    again.close()


def test_uncommitted_frames_of_the_last_process_are_taken_again(
    source: Source, capture: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of a large commit."""
    monkeypatch.setattr(follow_module, "CHUNK_BYTES", 5000)
    source.commit(300, 400)
    for _ in range(3):
        capture.follower.poll()
    again, reason = resumed(capture, source, tmp_path)
    assert reason is None
    assert again.history() == [FIRST[0], "3 commits"]
    assert replay(b"", again.records()) == database_bytes(source, tmp_path)
    again.close()


def test_another_frame_at_the_saved_place_is_a_gap(source: Source, capture: Capture, tmp_path: Path) -> None:
    """A power cut took commits that had been read, and others came instead, under the same salts."""
    before = {suffix: Path(f"{source.path}{suffix}").read_bytes() for suffix in ("", "-wal")}
    source.commit()
    capture.poll()
    capture.close()
    source.close()
    for suffix, data in before.items():
        with open(f"{source.path}{suffix}", "r+b" if suffix == "" else "wb") as file:
            file.write(data)
    source.connect()
    again = Capture(source, tmp_path)
    reason = again.attach()
    assert reason is not None
    assert "went back from frame" in reason
    again.close()
    source.run("INSERT INTO t(x) VALUES ('another')")


def test_a_forced_gap(source: Source, capture: Capture) -> None:
    """The mirror asks for one, for a copy that begins now."""
    source.commit()
    capture.poll()
    assert capture.attach(5, "the copy was made anew") == "the copy was made anew"
    capture.poll()
    assert capture.follower.cursor.generation == 5
    assert capture.history() == [FIRST[0], "3 commits", "gap: the copy was made anew", "3 commits"]


def test_attaching_again_goes_on(source: Source, capture: Capture) -> None:
    source.commit()
    assert capture.attach(5) is None
    capture.poll()
    assert capture.history() == [FIRST[0], "3 commits"]
    assert capture.follower.cursor.generation == 1


# -- replaced files ------------------------------------------------------------------------------------


def test_a_deleted_wal_is_noticed_and_a_gap(source: Source, capture: Capture) -> None:
    """The last connection to close deletes the WAL; the next one makes a new one, with random salts."""
    source.close()
    with pytest.raises(ReplacedError):
        capture.poll()
    with pytest.raises(SourceError) as caught:
        capture.attach()
    assert caught.value.retryable
    source.connect()
    source.commit()
    assert capture.attach() == "the WAL was reset while nobody followed it"
    capture.poll()
    assert capture.history() == [*FIRST, "gap: the WAL was reset while nobody followed it", "1 commits"]


def test_a_wal_recreated_at_once_is_noticed(source: Source, capture: Capture) -> None:
    source.close()
    source.connect()
    source.commit()
    with pytest.raises(ReplacedError):
        capture.poll()
    assert capture.attach() == "the WAL was reset while nobody followed it"
    capture.poll()
    assert capture.history()[-1] == "1 commits"


def test_a_replaced_database_is_noticed(source: Source, capture: Capture, tmp_path: Path) -> None:
    """A restore by rename: another inode under the same path."""
    source.close()
    shutil.copy(source.path, tmp_path / "restored.db")
    os.replace(tmp_path / "restored.db", source.path)
    source.connect()
    source.commit()
    with pytest.raises(ReplacedError):
        capture.follower.target()  # at once, not with the next look: whoever asks for "all that is committed" means it
    with pytest.raises(ReplacedError):
        capture.poll()
    assert capture.attach() == "the database file was replaced"
    capture.poll()
    assert capture.history()[-2:] == ["gap: the database file was replaced", "1 commits"]


def test_a_file_that_is_not_in_wal_mode(program: WriterProcess, tmp_path: Path) -> None:
    """There is nothing to follow: an error that says what is needed."""
    source = Source(program, tmp_path)
    source.program.close(f"keeper {source.path}")
    source.run("PRAGMA journal_mode=DELETE")
    capture = Capture(source, tmp_path)
    with pytest.raises(SourceError, match="WAL mode"):
        capture.attach()
    with pytest.raises(SourceError, match="not attached"):
        capture.follower.poll()
    source.program.close(f"main {source.path}")


# -- positions -----------------------------------------------------------------------------------------


def test_the_target_is_all_that_is_committed_now(source: Source, capture: Capture) -> None:
    assert capture.follower.target() == capture.follower.cursor.lsn
    source.commit(50)
    target = capture.follower.target()
    assert target is not None
    assert target > capture.follower.cursor.lsn
    capture.poll()
    assert capture.follower.cursor.lsn == target
    source.checkpoint("RESTART")
    source.commit()
    assert capture.follower.target() is None, "a reset has to be followed first"
    capture.poll()
    assert capture.follower.target() == capture.follower.cursor.lsn


def test_frames_are_found_by_their_salts(source: Source, capture: Capture) -> None:
    old = capture.follower.cursor
    source.checkpoint("RESTART")
    source.commit()
    salts = WalHeader.parse(Path(f"{source.path}-wal").read_bytes()[:32]).salts
    assert capture.follower.locate(salts, 2) is None, "not followed yet"
    capture.poll()
    assert capture.follower.locate(salts, 2) == Lsn(2, 2)
    assert capture.follower.locate(old.salts, 3) == Lsn(1, 3)
    assert capture.follower.locate(Salts(1, 2), 3) is None


# -- the spool's limits --------------------------------------------------------------------------------


@pytest.fixture
def full(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Capture]:
    """Its spool has reached its limit, and what was committed after that stands in the WAL."""
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 20_000)
    capture = Capture(source, tmp_path, limit=100_000)
    capture.attach()
    for _ in range(20):
        source.commit(20, 400)
        while capture.follower.poll():
            pass
    assert 100_000 < size_of(capture.spool) < 150_000
    frame = capture.follower.cursor.frame
    source.commit()
    assert not capture.follower.poll()
    assert capture.follower.cursor.frame == frame
    yield capture
    capture.close()


@pytest.mark.parametrize("resets", [0, 1, 2])
def test_a_full_spool_waits_for_room(source: Source, full: Capture, resets: int) -> None:
    """What still stands in the WAL then is not lost; what does not is a gap."""
    captured = full.follower.cursor.lsn
    for _ in range(resets):
        source.checkpoint("RESTART")
        source.commit()
    assert not full.follower.poll()
    reader = SpoolReader(full.folder)
    while full.follower.cursor.lsn != full.follower.target():  # what the WAL still has fills it once more
        reader.prune(full.spool.place.segment)
        full.follower.poll()  # whether there is room is measured now and then, so one that takes nothing says nothing
    gaps = [record.cursor().reason for record in full.records() if record.kind is Kind.GAP]
    if resets == 2:
        (reason,) = gaps
        assert reason.startswith("the spool reached its limit of 100000 bytes, and the WAL was reset")
    else:
        assert not gaps
        assert full.follower.cursor.lsn > captured


def test_a_full_spool_gives_way_to_whoever_cannot_make_room_before(full: Capture) -> None:
    """As a comparison of pages, which ends with the position of all that is committed: both would wait for ever."""
    target = full.follower.target()
    assert target is not None and full.follower.cursor.lsn < target
    full.follower.room.awaited = True
    full.poll()
    assert full.follower.cursor.lsn == full.follower.target() == target


def test_a_look_at_the_index_tells_whether_there_is_something_to_take(source: Source, capture: Capture) -> None:
    """Nothing that was taken, or that does not move the index, is news; a commit is, and so is a reset."""
    follower = capture.follower
    assert not follower.has_news()
    source.commit()
    assert follower.has_news() and follower.has_news()
    assert not follower.poll() and not follower.has_news(), "one turn takes it, and no other looks at it again"
    assert follower.is_settled()
    source.checkpoint("PASSIVE")
    assert not follower.has_news()
    source.checkpoint("RESTART")
    source.commit()
    assert follower.has_news()
    capture.poll()
    assert not follower.has_news()
    follower.detach()
    assert not follower.has_news()


def test_for_a_full_spool_there_is_no_news(source: Source, full: Capture) -> None:
    """Room comes by pruning, which the index does not tell."""
    source.commit()
    assert not full.follower.has_news() and not full.follower.is_settled()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_transaction_larger_than_the_spool(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    """It comes whole: nobody could apply a part of it, and so make room."""
    monkeypatch.setattr(follow_module, "CHUNK_BYTES", 20_000)
    capture = Capture(source, tmp_path, limit=100_000)
    capture.attach()
    capture.poll()
    source.commit(300, 1000)
    if restarted:
        while size_of(capture.spool) < 50_000:
            capture.follower.poll()
        capture.close()
        capture = Capture(source, tmp_path, limit=100_000)
        assert capture.attach() is None
    while capture.follower.poll():
        pass
    assert capture.follower.cursor.lsn == capture.follower.target() == capture.follower.committed
    assert size_of(capture.spool) > 300_000
    capture.close()


def test_a_full_disk_loses_nothing(
    source: Source, capture: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What could not be appended is appended later."""
    real = os.pwritev

    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    source.commit(5)
    monkeypatch.setattr(os, "pwritev", full)
    for _ in range(2):
        with pytest.raises(StateError):
            capture.poll()
    monkeypatch.setattr(os, "pwritev", real)
    source.commit(5)
    capture.poll()
    assert capture.history() == [FIRST[0], "4 commits"]
    assert replay(b"", capture.records()) == database_bytes(source, tmp_path)


@pytest.mark.parametrize("unread", [0, 2])
@pytest.mark.parametrize("allowed", [0, 1])
def test_a_full_disk_at_a_reset_loses_nothing(
    source: Source, capture: Capture, monkeypatch: pytest.MonkeyPatch, unread: int, allowed: int
) -> None:
    """Neither leftovers nor the record of the reset; or a gap says so."""
    real = os.pwritev
    left = allowed

    def full(*args: object) -> object:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)  # type: ignore[arg-type]

    source.commit(100, 100)
    capture.poll()
    for _ in range(unread):
        source.commit()
    source.checkpoint("RESTART")
    source.commit()
    monkeypatch.setattr(os, "pwritev", full)
    if allowed and unread == 0:
        capture.follower.poll()  # the record of the reset still found room
    with pytest.raises(StateError):
        capture.poll()
    monkeypatch.setattr(os, "pwritev", real)
    capture.poll()
    history = capture.history()
    assert history[0] == FIRST[0]
    if history[2].startswith("gap"):
        assert history[3:] == ["1 commits"]
    else:
        assert history[1:] == [f"{3 + unread} commits", "reset", "1 commits"]


# -- nothing holds up whoever follows other files as well -----------------------------------------------


def test_a_reset_is_followed_in_steps(source: Source, capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much stands in the old generation and in the new one, each call reads and writes no more than a chunk."""
    monkeypatch.setattr(follow_module, "CHUNK_BYTES", 20_000)
    source.commit(150, 900)
    capture.poll()
    base = capture.records()
    for _ in range(30):
        source.commit(20, 50)
    moved = 0
    real = {"pread": os.pread, "pwritev": os.pwritev}

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        nonlocal moved
        data: bytes = real["pread"](descriptor, size, offset)  # type: ignore[operator]
        moved += len(data)
        return data

    def pwritev(descriptor: int, parts: Sequence[bytes], offset: int) -> int:
        nonlocal moved
        moved += sum(map(len, parts))
        return int(real["pwritev"](descriptor, parts, offset))  # type: ignore[operator]

    monkeypatch.setattr(os, "pread", pread)
    monkeypatch.setattr(os, "pwritev", pwritev)
    source.checkpoint("RESTART")
    source.commit(60, 900)  # does not reach the leftovers
    calls, most, more = 0, 0, True
    while more:
        moved = 0
        more = capture.follower.poll()
        calls, most = calls + 1, max(most, moved)
    assert calls > 10
    assert most < 2 * 20_000 + 5_000, "a chunk is read, and spooled"
    assert capture.history() == [FIRST[0], "33 commits", "reset", "1 commits"]
    assert len(capture.records()) > len(base) + 3


def test_a_step_of_a_reset_that_fails_is_done_again(
    source: Source, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full in the midst of the leftovers: none is lost, none comes twice."""
    monkeypatch.setattr(follow_module, "CHUNK_BYTES", 5_000)
    source.commit(100, 100)
    capture.poll()
    for _ in range(30):
        source.commit(20, 50)
    source.checkpoint("RESTART")
    source.commit()
    real, left = os.pwritev, 3

    def full(*args: object) -> object:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "pwritev", full)
    for _ in range(2):
        with pytest.raises(StateError):
            capture.poll()
    monkeypatch.setattr(os, "pwritev", real)
    capture.poll()
    assert capture.history() == [FIRST[0], "33 commits", "reset", "1 commits"]


@pytest.fixture
def left_alone(source: Source, tmp_path: Path) -> Path:
    """A copy of the source's files, which no program has open."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for suffix in ("", "-wal", "-shm"):
        shutil.copyfile(f"{source.path}{suffix}", folder / f"source.db{suffix}")
    return folder / "source.db"


@pytest.mark.parametrize("size", [0, 50])
def test_an_index_that_was_cut(left_alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A map of it would end this process; what is read is an index that does not settle, which is told."""
    (tmp_path / "spool").mkdir()
    spool = opened(tmp_path / "spool")
    follower = Follower(left_alone, spool, LIMIT)
    follower.open()
    assert follower.is_ready()
    follower.attach(0)
    while follower.poll():
        pass
    os.truncate(f"{left_alone}-shm", size)
    assert not follower.poll()
    monkeypatch.setattr(follow_module, "SETTLE_SECONDS", 0.0)
    with pytest.raises(SourceError, match="never settled") as caught:
        follower.poll()
    assert caught.value.retryable
    follower.detach()
    spool.close()


def test_an_index_that_does_not_settle_is_asked_again(
    left_alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attaching waits for a writer that is between the two copies of the header, without waiting in the call."""
    (tmp_path / "spool").mkdir()
    spool = opened(tmp_path / "spool")
    index = Path(f"{left_alone}-shm")
    whole = index.read_bytes()
    index.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    follower = Follower(left_alone, spool, LIMIT)
    follower.open()
    assert not follower.is_ready()
    assert not follower.is_ready()
    index.write_bytes(whole)
    assert follower.is_ready()
    assert follower.attach(0) == "first sight of the source"
    monkeypatch.setattr(follow_module, "SETTLE_SECONDS", 0.0)
    index.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    follower.open()
    assert not follower.is_ready()
    with pytest.raises(SourceError, match="never settled"):
        follower.is_ready()
    follower.detach()
    spool.close()


def test_a_full_spool_is_not_measured_at_each_look(full: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Postgres may be away for hours, and the program writes: a look comes every other millisecond."""
    measured = 0
    real = SpoolWriter.measure

    def measure(spool: SpoolWriter) -> None:
        nonlocal measured
        measured += 1
        real(spool)

    monkeypatch.setattr(SpoolWriter, "measure", measure)
    monkeypatch.setattr(room, "ROOM_INTERVAL", 1000.0)
    assert not any(full.follower.poll() for _ in range(200))
    assert measured <= 1
    reader = SpoolReader(full.folder)
    reader.prune(full.spool.place.segment)
    monkeypatch.setattr(room, "ROOM_INTERVAL", 0.0)
    full.follower.room._next_measure = 0.0
    full.poll()
    assert full.follower.cursor.lsn == full.follower.target()
