"""The shadow: the source's pages as of the position that Postgres has.

Files in the source's state directory::

    shadow.db       page images: a byte-exact copy of the source at the saved position
    shadow.map      the page map at that position
    shadow.json     the position and its place in the spool
    shadow.redo     while a save runs: the pages it is about to write
    rediff-N.pages  pages that the comparison of generation N found to differ (format: :mod:`mirror.replica.copy`)

``shadow.json`` is a :class:`SavedPosition` as JSON, with the format (:mod:`mirror.core.versions`), and ``crc``: the
CRC-32 of that JSON without it, in every format. ``shadow.map`` is
a page map as bytes (:meth:`~mirror.sqlite.decode.pagemap.PageMap.to_bytes`). ``shadow.redo``, little-endian: 4 bytes
size of a position, 4 bytes number of pages, the position as in ``shadow.json``, for each page 4 bytes number, 8 bytes
segment and 8 bytes offset of its image (:func:`~mirror.replica.images.place_of`), then the page map. The last two files
end with the CRC-32 of the rest, 4 bytes, big-endian.

Pages that changed since the saved position are not copied: an overlay in memory says where in the
spool (or in a re-diff file) their newest image is. A save writes them into ``shadow.db``, in a
thread of its own: reads during a save find those pages in the overlay, so it does not matter
whether they have been written. A save cut short by a kill is finished at the next start from
``shadow.redo``. So at any kill the files describe one exact position, and the spool from there on
leads to any later one.

Why not a SQLite database of pages: one read costs a pread (about 1 µs) instead of a query, the copy is
written once instead of twice (a 4 KB blob does not fit a 4 KB page), and the finished copy *is* a
database that SQLite itself can open for the snapshot.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from mirror.capture.spool import SpoolPlace
from mirror.core.errors import FormatError, NewerStateError
from mirror.core.faults import Faults, no_fault
from mirror.core.files import write_atomically
from mirror.core.positions import Lsn, Salts
from mirror.core.state_errors import state_error
from mirror.core.versions import require_format, stamped, without_stamp
from mirror.replica.images import Image, Images, image_at, place_of
from mirror.replica.spool_reader import SpoolReader

_ENTRY = struct.Struct("<IqQ")
#: A save is due when the overlay has grown to this many pages, or the spool after the saved position
#: to this many segments.
SAVE_PAGES, SAVE_SEGMENTS = 8192, 4


@dataclass(frozen=True, slots=True)
class SavedPosition:
    """The position that the files describe."""

    lineage: str
    """Random name of this copy; Postgres has it too, which shows that the two belong together."""
    generation: int
    frame: int
    salts: Salts
    committed_at: float
    place: SpoolPlace
    """From here on the spool has everything that was committed later."""
    page_size: int
    pages: int

    @property
    def lsn(self) -> Lsn:
        """The position."""
        return Lsn(self.generation, self.frame)


class _Saving(NamedTuple):
    position: SavedPosition
    overlay: dict[int, Image]
    done: Future[None]


#: Saves of all sources of a process, one at a time: they all wait for the same disk.
_writers = ThreadPoolExecutor(1, "mirror save")


class Shadow:
    """The shadow of one source.

    Thread: the source's own (the loop). Another may call :meth:`sync` and :meth:`read_run` while a copy is finished.
    """

    def __init__(self, folder: Path, images: Images, saved: SavedPosition, faults: Faults = no_fault) -> None:
        """``faults`` is called with the name of each place in a save at which tests kill the process."""
        self._faults = faults
        self._folder = folder
        self._images = images
        self.saved = saved
        self.pages = saved.pages
        self._page_size = saved.page_size
        self._overlay: dict[int, Image] = {}
        self._saving: _Saving | None = None
        self._base = os.open(folder / "shadow.db", os.O_RDWR)

    # -- making and opening ------------------------------------------------------------------------

    @staticmethod
    def database(folder: Path) -> Path:
        """The file that holds the copy."""
        return folder / "shadow.db"

    @classmethod
    def open(cls, folder: Path, images: Images, faults: Faults = no_fault) -> tuple[Shadow, bytes] | None:
        """The shadow as saved, and its page map's bytes; None if there is none.

        Finishes a save that was cut short. Raises ``FormatError`` for files that are damaged or do not fit together,
        ``StateError`` for those that cannot be read, or that a newer mirror has made.
        """
        try:
            _remove_leftovers(folder)
            redo = folder / "shadow.redo"
            if redo.exists():
                _finish_save(folder, redo)
            saved = _parse_position((folder / "shadow.json").read_bytes(), folder)
            pagemap = (folder / "shadow.map").read_bytes()
            shadow = cls(folder, images, saved, faults)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise state_error(error, folder, "open the shadow", retryable=True) from error
        except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise FormatError("open the shadow", str(folder), f"{type(error).__name__}: {error}") from error
        body, stored = pagemap[:-4], pagemap[-4:]
        if zlib.crc32(body).to_bytes(4, "big") != stored or os.fstat(shadow._base).st_size < (
            saved.pages * saved.page_size
        ):
            shadow.close()
            raise FormatError("open the shadow", str(folder), "its files do not fit together")
        return shadow, body

    @classmethod
    def create(
        cls,
        folder: Path,
        images: Images,
        saved: SavedPosition,
        changed: Mapping[int, Image],
        faults: Faults = no_fault,
    ) -> Shadow:
        """Finish a copy: write ``changed`` over ``shadow.db``, so that it describes ``saved``.

        It counts, and is on disk, only after :meth:`commit`.
        """
        shadow = cls(folder, images, saved, faults)
        _write_pages(shadow._base, images, changed, saved)
        return shadow

    def sync(self) -> None:
        """Have the copy written to disk, which takes a while; may be called from another thread."""
        os.fsync(self._base)

    def commit(self, pagemap: bytes) -> None:
        """Record that a copy just made is whole."""
        self.sync()
        write_atomically(self._folder / "shadow.map", _sealed(pagemap), durable=True)
        write_atomically(self._folder / "shadow.json", _position_json(self.saved), durable=True)

    @staticmethod
    def discard(folder: Path) -> None:
        """Delete the shadow; the position first, so that a shadow deleted in part counts as none."""
        for name in ("shadow.json", "shadow.redo", "shadow.map", "shadow.db"):
            (folder / name).unlink(missing_ok=True)
        _remove_leftovers(folder)
        for path in folder.glob("rediff-*.pages"):
            path.unlink()

    # -- reading and advancing ---------------------------------------------------------------------

    def read(self, pgno: int) -> bytes:
        """The image of a page at the applied position; empty after the end."""
        image = self._overlay.get(pgno)
        if image is not None:
            return self._images.read(image, self._page_size)
        if pgno > self.saved.pages:
            return b""
        return os.pread(self._base, self._page_size, (pgno - 1) * self._page_size)

    def read_run(self, pgno: int, count: int) -> bytes:
        """The bytes of at most ``count`` consecutive pages, fewer at the end."""
        numbers = range(pgno, min(pgno + count - 1, self.pages) + 1)
        newer = [number for number in numbers if number in self._overlay] if self._overlay else []
        run = os.pread(self._base, len(numbers) * self._page_size, (pgno - 1) * self._page_size)
        if not newer:
            return run
        pages = bytearray(run.ljust(len(numbers) * self._page_size, b"\0"))
        for number in newer:
            at = (number - pgno) * self._page_size
            pages[at : at + self._page_size] = self.read(number)
        return bytes(pages)

    def advance(self, changed: Mapping[int, Image], pages: int) -> None:
        """Take over a batch's pages, once Postgres has committed it."""
        self._overlay.update(changed)
        if pages < self.pages:
            for pgno in [pgno for pgno in self._overlay if pgno > pages]:
                del self._overlay[pgno]
        self.pages = pages

    def save_due(self, place: SpoolPlace) -> bool:
        """Whether so much has changed since the last save that one is due; ``place``: up to here the spool is read."""
        if self._saving is not None:
            return False
        return len(self._overlay) >= SAVE_PAGES or place.segment - self.saved.place.segment >= SAVE_SEGMENTS

    @property
    def saving(self) -> bool:
        """Whether a save is running or has yet to be noted."""
        return self._saving is not None

    def overdue(self, place: SpoolPlace) -> bool:
        """Whether a save has been due for so long that it must not wait for a better moment.

        By segments too: the spool's limit is chosen so that this leaves less than half of it.
        """
        return len(self._overlay) >= 4 * SAVE_PAGES or place.segment - self.saved.place.segment > SAVE_SEGMENTS

    @property
    def changed(self) -> bool:
        """Whether anything has changed since the last save."""
        return bool(self._overlay) or self.pages != self.saved.pages

    def begin_save(self, saved: SavedPosition, pagemap: bytes) -> None:
        """Begin to write the overlay into the files, so that they describe ``saved``, the present position."""
        overlay = dict(self._overlay)
        self._saving = _Saving(saved, overlay, _writers.submit(self._save, saved, pagemap, overlay))

    def end_save(self, *, wait: bool) -> bool:
        """Note a save that is done; True if there was one. ``wait``: until a running one is done.

        Raises ``StateError`` if it failed; the files then describe what they did before.
        """
        saving = self._saving
        if saving is None or not (wait or saving.done.done()):
            return False
        self._saving = None
        saving.done.result()
        for pgno, image in saving.overlay.items():
            if self._overlay.get(pgno) == image:
                del self._overlay[pgno]
        self.saved = saving.position
        return True

    def _save(self, saved: SavedPosition, pagemap: bytes, overlay: dict[int, Image]) -> None:
        # A spool reader and descriptors of its own: the loop's thread goes on reading with its own.
        spool = SpoolReader(self._folder / "spool")
        images = Images(self._folder, spool)
        try:
            spool.sync({place_of(image)[0] for image in overlay.values() if image >= 0})
            self._faults("save:begun")
            write_atomically(self._folder / "shadow.redo", _sealed(_redo_bytes(saved, pagemap, overlay)), durable=True)
            self._faults("save:redo")
            _write_pages(self._base, images, overlay, saved)
            os.fsync(self._base)
            self._faults("save:pages")
            write_atomically(self._folder / "shadow.map", _sealed(pagemap), durable=True)
            self._faults("save:map")
            write_atomically(self._folder / "shadow.json", _position_json(saved), durable=True)
            self._faults("save:position")
            (self._folder / "shadow.redo").unlink()
        except OSError as error:
            raise state_error(error, self._folder, "save the shadow", retryable=True) from error
        finally:
            images.close()
            spool.close()

    def close(self) -> None:
        """Close the file, after the save that still runs has ended."""
        if self._saving is not None:
            wait_for([self._saving.done])
        os.close(self._base)


def _write_pages(base: int, images: Images, overlay: Mapping[int, Image], saved: SavedPosition) -> None:
    for pgno, image in overlay.items():
        if pgno > saved.pages:
            continue
        os.pwrite(base, images.read(image, saved.page_size), (pgno - 1) * saved.page_size)
    os.ftruncate(base, saved.pages * saved.page_size)


def _redo_bytes(saved: SavedPosition, pagemap: bytes, overlay: Mapping[int, Image]) -> bytearray:
    head = _position_json(saved)
    data = bytearray(struct.pack("<II", len(head), len(overlay)) + head)
    for pgno, image in overlay.items():
        data += _ENTRY.pack(pgno, *place_of(image))
    data += pagemap
    return data


def _finish_save(folder: Path, redo: Path) -> None:
    sealed = redo.read_bytes()
    data, stored = sealed[:-4], sealed[-4:]
    if len(sealed) < 12 or zlib.crc32(data).to_bytes(4, "big") != stored:
        redo.unlink()  # cut short before it was whole: nothing had been written yet
        return
    head_size, count = struct.unpack_from("<II", data)
    saved = _parse_position(data[8 : 8 + head_size], folder)
    at = 8 + head_size
    overlay = {}
    for _ in range(count):
        pgno, segment, offset = _ENTRY.unpack_from(data, at)
        overlay[pgno] = image_at(segment, offset)
        at += _ENTRY.size
    spool = SpoolReader(folder / "spool")
    images = Images(folder, spool)
    base = os.open(folder / "shadow.db", os.O_RDWR)
    try:
        _write_pages(base, images, overlay, saved)
        os.fsync(base)
    finally:
        os.close(base)
        images.close()
        spool.close()
    write_atomically(folder / "shadow.map", _sealed(data[at:]), durable=True)
    write_atomically(folder / "shadow.json", _position_json(saved), durable=True)
    redo.unlink()


def _position_json(saved: SavedPosition) -> bytes:
    values = stamped(asdict(saved))
    return json.dumps(values | {"crc": _crc(values)}).encode()


def _crc(values: dict[str, object]) -> int:
    return zlib.crc32(json.dumps(values).encode())


def _parse_position(data: bytes, folder: Path) -> SavedPosition:
    values = dict(json.loads(data))
    if values.pop("crc") != _crc(values):
        raise ValueError("the saved position is damaged")
    require_format(values, folder / "shadow.json")  # only now: a damaged file may say anything
    values = without_stamp(values)
    salt1, salt2 = values.pop("salts")
    segment, offset = values.pop("place")
    return SavedPosition(salts=Salts(salt1, salt2), place=SpoolPlace(segment, offset), **values)


def saved_position(folder: Path) -> SavedPosition | None:
    """What the files in a folder describe; None if there are none, or damaged or newer ones."""
    try:
        return _parse_position((folder / "shadow.json").read_bytes(), folder)
    except (FileNotFoundError, NewerStateError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _sealed(data: bytes | bytearray) -> bytes | bytearray:
    return data + zlib.crc32(data).to_bytes(4, "big")


def _remove_leftovers(folder: Path) -> None:
    """Remove what a kill during the replacement of a file has left."""
    for path in folder.glob(".shadow.*.tmp"):
        path.unlink(missing_ok=True)
