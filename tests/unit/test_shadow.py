"""The shadow: at any kill its files describe one exact position, the old or the new one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.capture.spool import SpoolPlace
from mirror.core.errors import FormatError, StateError
from mirror.core.positions import Lsn, Salts
from mirror.replica.batches import Head, PageBatch, next_batch
from mirror.replica.copy import read_rediff, rediff
from mirror.replica.images import Images, rediff_path
from mirror.replica.shadow import SavedPosition, Shadow
from mirror.replica.spool_reader import SpoolReader
from tests.support.spooling import Filler, page

#: The copy that all tests begin with: pages 1 to 6 at version 0.
FIRST = {pgno: page(pgno, 0) for pgno in range(1, 7)}


class Killed(BaseException):
    """Not an ``Exception``: nothing may catch it, as nothing catches a kill."""


class Mirror:
    """A shadow with its spool, as the pipeline keeps them."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self.folder = folder
        self.reader = SpoolReader(folder / "spool")
        self.images = Images(folder, self.reader)
        if create:
            (folder / "shadow.db").write_bytes(b"".join(FIRST.values()))
            self.filler = Filler(folder / "spool")
            saved = SavedPosition(
                "lineage", 1, 0, self.filler.cursor.salts, 1.0, self.filler.spool.place, 512, len(FIRST)
            )
            self.shadow = Shadow.create(folder, self.images, saved, {})
            self.shadow.commit(b"map 0")
        else:
            opened = Shadow.open(folder, self.images)
            assert opened is not None
            self.shadow, self.pagemap = opened
        saved = self.shadow.saved
        self.head = Head(saved.lsn, saved.salts, saved.committed_at, saved.place)

    def next(self) -> PageBatch:
        found = next_batch(self.reader, self.head, None, None)
        assert isinstance(found, PageBatch)
        return found

    def advance(self) -> None:
        """Take over all that is spooled."""
        batch = self.next()
        self.shadow.advance(batch.images, batch.pages)
        self.head = batch.head

    def position(self) -> SavedPosition:
        """The position to be saved."""
        return replace(
            self.shadow.saved,
            generation=self.head.lsn.generation,
            frame=self.head.lsn.frame,
            salts=self.head.salts,
            committed_at=self.head.committed_at,
            place=self.head.place,
            pages=self.shadow.pages,
        )

    def save(self, pagemap: bytes) -> None:
        self.shadow.begin_save(self.position(), pagemap)
        assert self.shadow.end_save(wait=True)

    def pages(self) -> dict[int, bytes]:
        """All pages as the shadow has them."""
        return {pgno: self.shadow.read(pgno) for pgno in range(1, self.shadow.pages + 1)}

    def close(self) -> None:
        self.shadow.close()
        self.images.close()
        self.reader.close()


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    mirror = Mirror(tmp_path, create=True)
    yield mirror
    mirror.close()


def written(pages: dict[int, bytes]) -> dict[int, bytes]:
    """The pages that were ever written; those between them are empty or zeros, nobody reads them."""
    return {pgno: image for pgno, image in pages.items() if any(image)}


def reopened(mirror: Mirror) -> Mirror:
    """The same folder, as the next start finds it."""
    return Mirror(mirror.folder)


def test_a_copy_is_what_was_copied(mirror: Mirror) -> None:
    again = reopened(mirror)
    assert again.pages() == mirror.pages() == FIRST
    assert again.pagemap == b"map 0"
    assert again.shadow.saved == mirror.shadow.saved
    assert again.shadow.read(7) == b""
    assert not again.shadow.changed


def test_a_copy_is_overlaid_with_the_frames_since(tmp_path: Path) -> None:
    """The copy is fuzzy: pages come from the spool, also new ones; the copy may be longer than the database."""
    filler = Filler(tmp_path / "spool")
    (tmp_path / "shadow.db").write_bytes(b"\xff" * 512 * 12)
    written = filler.commit(*range(1, 9), size=8)
    reader = SpoolReader(tmp_path / "spool")
    images = Images(tmp_path, reader)
    head = Head(Lsn(1, 0), filler.cursor.salts, 0.0, SpoolPlace(1, 0))
    batch = next_batch(reader, head, None, None)
    assert isinstance(batch, PageBatch)
    saved = SavedPosition("lineage", 1, 8, head.salts, 1.0, batch.head.place, 512, 8)
    shadow = Shadow.create(tmp_path, images, saved, batch.images)
    assert Shadow.open(tmp_path, images) is None, "it counts only when it is recorded"
    shadow.commit(b"map")
    assert (tmp_path / "shadow.db").stat().st_size == 512 * 8
    assert {pgno: shadow.read(pgno) for pgno in range(1, 10)} == written | {9: b""}
    shadow.close()


def test_advancing_changes_what_is_read_and_not_the_files(mirror: Mirror) -> None:
    written = mirror.filler.commit(2, 7, 8, size=8)
    mirror.advance()
    assert mirror.pages() == FIRST | written
    assert mirror.shadow.changed
    assert reopened(mirror).pages() == FIRST


def test_the_database_shrinks_and_grows(mirror: Mirror) -> None:
    mirror.filler.commit(2, 8, size=8)
    mirror.advance()
    mirror.filler.commit(3, size=4)
    mirror.advance()
    assert len(mirror.pages()) == 4
    written = mirror.filler.commit(5, 6, size=6)
    mirror.advance()
    assert {pgno: mirror.shadow.read(pgno) for pgno in (5, 6)} == written
    mirror.save(b"map 1")
    again = reopened(mirror)
    assert again.pages() == mirror.pages()
    assert (mirror.folder / "shadow.db").stat().st_size == 6 * 512


def test_a_save_moves_the_files(mirror: Mirror) -> None:
    written = mirror.filler.commit(1, 2, 9, size=9)
    mirror.advance()
    mirror.save(b"map 1")
    assert not mirror.shadow.changed
    again = reopened(mirror)
    assert again.pages() == mirror.pages() == FIRST | written | {7: bytes(512), 8: bytes(512)}
    assert (again.pagemap, again.head) == (b"map 1", mirror.head)
    assert not (mirror.folder / "shadow.redo").exists()


def test_the_spool_leads_on_from_any_saved_position(mirror: Mirror) -> None:
    """Saved in between or not: the pages are the same."""
    for number in range(6):
        mirror.filler.commit(1 + number, 7 + number, size=7 + number)
        mirror.advance()
        if number in (1, 4):
            mirror.save(b"map")
    again = reopened(mirror)
    assert again.head.lsn < mirror.head.lsn
    again.advance()
    assert again.head == mirror.head
    assert written(again.pages()) == written(mirror.pages())


@pytest.mark.parametrize("then", ["goes on", "reset", "gap"])
def test_what_was_applied_stays_readable_when_capture_starts_anew(mirror: Mirror, then: str) -> None:
    """Capture alone was killed in the middle of a large commit; small ones before it had been applied."""
    mirror.filler.frames((2, 9), (3, 9), (4, 0))
    mirror.advance()
    expected = mirror.pages()
    mirror.filler.spool.close()
    again = Filler(mirror.folder / "spool")
    assert mirror.pages() == expected
    again.version = 100
    if then == "goes on":
        # The same frames as before, but cut into records in another way.
        again.version = again.cursor.frame
        for pgno, size in ((2, 9), (3, 9), (4, 0), (5, 9))[again.cursor.frame :]:
            again.frames((pgno, size))
    else:
        again.gap("lost") if then == "gap" else again.reset()
        again.commit(7, 8)
    assert mirror.pages() == expected
    again.spool.close()


def test_a_save_runs_while_the_mirror_reads_and_moves_on(mirror: Mirror) -> None:
    """At each place in the save: what is read is the newest position, what is saved the one it began with."""
    mirror.filler.commit(2, 3, 8, size=8)
    mirror.advance()
    saved = mirror.pages()
    seen: list[str] = []

    def meanwhile(name: str) -> None:
        seen.append(name)
        before = mirror.pages()
        images = mirror.filler.commit(3, 4 + len(seen), size=8 + len(seen))
        mirror.advance()
        assert written(mirror.pages()) == written(before | images)
        assert not mirror.shadow.end_save(wait=False)
        assert not mirror.shadow.save_due(mirror.head.place)

    mirror.shadow._faults = meanwhile
    mirror.save(b"map 1")
    mirror.shadow._faults = lambda name: None
    assert len(seen) == len(set(seen)) >= 4
    newest = mirror.pages()
    assert mirror.shadow.changed
    again = reopened(mirror)
    assert (written(again.pages()), again.pagemap) == (written(saved), b"map 1")
    again.advance()
    assert written(again.pages()) == written(newest)
    mirror.save(b"map 2")
    assert not mirror.shadow.changed
    mirror.shadow.end_save(wait=True)


def test_nothing_to_end(mirror: Mirror) -> None:
    assert not mirror.shadow.end_save(wait=True)


# -- kills ---------------------------------------------------------------------------------------------

#: What a save calls, each of which may be the last thing that it does.
STEPS = ("fsync", "pwrite", "ftruncate", "replace", "unlink")


class Saw:
    """Counts the steps of a save and kills it before or after one of them, or copies the folder at each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, action: Callable[[int], None]) -> None:
        self.count = 0
        self.active = False
        self._action = action
        for name in STEPS:
            monkeypatch.setattr(os, name, self._wrap(getattr(os, name)))
        monkeypatch.setattr(Path, "unlink", self._wrap(Path.unlink))

    def _wrap(self, real: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **kwargs: object) -> object:
            if self.active:
                self.count += 1
                self._action(self.count)
            return real(*args, **kwargs)

        return step


def ready_to_save(mirror: Mirror) -> dict[int, bytes]:
    """A mirror with a saved position behind it and changes in front of the next one; pages then."""
    mirror.filler.commit(2, 3, 7, size=7)
    mirror.advance()
    mirror.save(b"map 1")
    mirror.filler.commit(1, 3, 5, size=7)
    mirror.filler.commit(3, 4, size=4)
    mirror.advance()
    return mirror.pages()


def assert_old_or_new(folder: Path, old: dict[int, bytes], new: dict[int, bytes]) -> bool:
    """The folder describes one of the two positions, whole; True if the new one; and the spool leads to the new."""
    again = Mirror(folder)
    is_new = again.head.lsn == Lsn(1, 8)
    assert again.head.lsn in (Lsn(1, 3), Lsn(1, 8))
    assert again.pages() == (new if is_new else old)
    assert again.pagemap == (b"map 2" if is_new else b"map 1")
    if not is_new:
        again.advance()
    assert again.pages() == new
    again.save(b"map 2")
    again.close()
    last = Mirror(folder)
    assert (last.pages(), last.head.lsn, last.pagemap) == (new, Lsn(1, 8), b"map 2")
    last.close()
    return is_new


def test_killed_at_any_step_of_a_save(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is copied before each step: each copy opens at the old or the new position."""
    copies: list[Path] = []

    def copy(step: int) -> None:
        saw.active = False
        copies.append(tmp_path / f"kill-{step}")
        shutil.copytree(mirror.folder, copies[-1], ignore=shutil.ignore_patterns("kill-*"))
        saw.active = True

    new = ready_to_save(mirror)
    before = Mirror(mirror.folder)
    old = before.pages()
    before.close()
    saw = Saw(monkeypatch, mirror.folder, copy)
    saw.active = True
    mirror.save(b"map 2")
    saw.active = False
    assert len(copies) > 12
    outcomes = [assert_old_or_new(folder, old, new) for folder in copies]
    assert outcomes == sorted(outcomes), "once new, always new"
    assert {False, True} == set(outcomes)


def test_killed_at_any_step_of_finishing_a_save(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that finishes a save may be killed too, as often as it likes."""
    new = ready_to_save(mirror)
    halfway = tmp_path / "halfway"

    def stop_in_the_middle(step: int) -> None:
        if (mirror.folder / "shadow.redo").exists():
            saw.active = False
            shutil.copytree(mirror.folder, halfway, ignore=shutil.ignore_patterns("halfway"))
            raise Killed

    saw = Saw(monkeypatch, mirror.folder, stop_in_the_middle)
    saw.active = True
    with pytest.raises(Killed):
        mirror.save(b"map 2")
    kill_at = 0
    while True:
        kill_at += 1
        folder = tmp_path / f"kill-{kill_at}"
        shutil.copytree(halfway, folder)
        first = kill_at

        def die(step: int, first: int = first) -> None:
            if step == first:
                saw.active = False
                raise Killed

        saw._action, saw.count, saw.active = die, 0, True
        try:
            Mirror(folder).close()
        except Killed:
            assert assert_old_or_new(folder, {}, new)
            continue
        saw.active = False
        break
    assert kill_at > 8


@pytest.mark.parametrize(("name", "steps"), [("fsync", 3), ("pwrite", 2), ("ftruncate", 1), ("replace", 3)])
def test_a_full_disk_at_any_step_of_a_save(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, name: str, steps: int
) -> None:
    """A retryable error; the mirror reads on, moves on, and can save later."""
    ready_to_save(mirror)
    real = getattr(os, name)
    for fail_at in range(1, 4):
        mirror.filler.commit(2, 4, size=5)
        mirror.advance()
        expected = mirror.pages()
        calls = 0

        def fail(*args: object, at: int = fail_at) -> object:
            nonlocal calls
            calls += 1
            if calls == at:
                raise OSError(28, "No space left on device")
            return real(*args)

        monkeypatch.setattr(os, name, fail)
        with pytest.raises(StateError) if fail_at <= steps else nullcontext():
            mirror.save(b"map 2")
        monkeypatch.setattr(os, name, real)
        assert mirror.pages() == expected
        mirror.save(b"map 3")
        again = reopened(mirror)
        assert again.pages() == expected
        assert again.pagemap == b"map 3"
        again.close()


# -- files that do not fit -----------------------------------------------------------------------------


def test_no_shadow(tmp_path: Path) -> None:
    assert Shadow.open(tmp_path, Images(tmp_path, SpoolReader(tmp_path))) is None


@pytest.mark.parametrize("name", ["shadow.db", "shadow.map", "shadow.json"])
def test_a_lost_file_is_no_shadow(mirror: Mirror, name: str) -> None:
    (mirror.folder / name).unlink()
    assert Shadow.open(mirror.folder, mirror.images) is None


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("shadow.map", lambda data: b""),
        ("shadow.map", lambda data: data[:-1]),
        ("shadow.map", lambda data: b"x" + data[1:]),
        ("shadow.db", lambda data: data[:-1]),
        ("shadow.db", lambda data: b""),
        ("shadow.json", lambda data: b""),
        ("shadow.json", lambda data: b"{}"),
        ("shadow.json", lambda data: b"[1]"),
        ("shadow.json", lambda data: b"\xff"),
        ("shadow.json", lambda data: data.replace(b'"frame"', b'"flame"')),
        ("shadow.json", lambda data: data.replace(b'"frame": ', b'"frame": 1')),
    ],
)
def test_damaged_files_are_refused(mirror: Mirror, name: str, damage: Callable[[bytes], bytes]) -> None:
    """Never a wrong page map or position."""
    path = mirror.folder / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FormatError):
        Shadow.open(mirror.folder, mirror.images)


@pytest.mark.parametrize("keep", [0, 3, 11, 40, -1])
def test_a_redo_file_cut_short_is_ignored(mirror: Mirror, monkeypatch: pytest.MonkeyPatch, keep: int) -> None:
    """It is made before anything else is written: cut short, nothing was."""
    new = ready_to_save(mirror)
    real = os.pwrite

    def die(*args: object) -> int:
        raise Killed

    monkeypatch.setattr(os, "pwrite", die)
    with pytest.raises(Killed):
        mirror.save(b"map 2")
    monkeypatch.setattr(os, "pwrite", real)
    redo = mirror.folder / "shadow.redo"
    redo.write_bytes(redo.read_bytes()[:keep])
    again = reopened(mirror)
    assert again.pagemap == b"map 1"
    assert not redo.exists()
    again.advance()
    assert again.pages() == new


def test_a_comparison_keeps_the_pages_that_differ(mirror: Mirror) -> None:
    """After a gap: only those pages are kept, readable like spooled ones, also by a later start."""
    now = FIRST | {2: page(2, 50), 7: page(7, 50)}
    data = b"".join(now.values())
    found = rediff(lambda at, amount: data[at : at + amount], mirror.shadow, 512, mirror.folder, 4, lambda done: None)
    assert {pgno: mirror.images.read(image, 512) for pgno, image in found.items()} == {2: now[2], 7: now[7]}
    assert read_rediff(mirror.folder, 4, 512) == found
    assert read_rediff(mirror.folder, 5, 512) is None
    mirror.shadow.advance(found, 7)
    assert mirror.pages() == now
    path = rediff_path(mirror.folder, 4)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:3], whole[:100] + b"x" + whole[101:]):
        path.write_bytes(damaged)
        assert read_rediff(mirror.folder, 4, 512) is None
    mirror.images.forget_rediffs(above=4)
    assert path.exists()
    mirror.images.forget_rediffs(up_to=4)
    assert not path.exists()


def test_discarded_is_gone(mirror: Mirror) -> None:
    (mirror.folder / "rediff-3.pages").write_bytes(b"")
    Shadow.discard(mirror.folder)
    assert [path.name for path in mirror.folder.iterdir()] == ["spool"]
    Shadow.discard(mirror.folder)


def test_the_position_tells_its_lsn(mirror: Mirror) -> None:
    assert replace(mirror.shadow.saved, generation=4, frame=9, salts=Salts(1, 2)).lsn == Lsn(4, 9)
