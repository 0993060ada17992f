"""A spool filled by hand: a WAL that is made up frame by frame, with SQLite's checksums."""

from __future__ import annotations

import struct
from pathlib import Path

from mirror.capture.spool import Cursor, Kind, SpoolWriter
from mirror.core.positions import Salts
from mirror.sqlite.format.wal import frame_checksum
from tests.support.sqlite import reference_checksum

PAGE_SIZE = 512


def opened(folder: Path) -> SpoolWriter:
    """The writer of a spool that no other process has open."""
    writer = SpoolWriter(folder)
    for _ in writer.open():
        pass
    return writer


def size_of(spool: SpoolWriter) -> int:
    """Bytes in all segments now."""
    spool.measure()
    return spool.size


def page(pgno: int, version: int, cookie: int = 0) -> bytes:
    """An image that shows which page and version it is; page 1 has a schema cookie."""
    image = struct.pack(">II", pgno, version) + bytes(PAGE_SIZE - 8)
    return image[:40] + struct.pack(">I", cookie) + image[44:] if pgno == 1 else image


class Filler:
    """Writes frames and the records between generations, as capture would."""

    def __init__(self, folder: Path, spool: SpoolWriter | None = None) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.spool = spool or opened(folder)
        self.version = 0
        self.cookie = 0
        if self.spool.cursor is None:
            self.gap("first sight of the source")

    @property
    def cursor(self) -> Cursor:
        """The spool's end."""
        assert self.spool.cursor is not None
        return self.spool.cursor

    def _new(self, kind: Kind, reason: str) -> None:
        old = self.spool.cursor
        generation = 1 if old is None else old.generation + 1
        salts = Salts(100 + generation, 7)
        self.spool.begin(kind, Cursor(generation, 0, salts, (0, 0), 0, PAGE_SIZE, False, 5, reason), float(generation))

    def gap(self, reason: str) -> None:
        """Begin a generation that cannot be proved to continue the last one."""
        self._new(Kind.GAP, reason)

    def reset(self) -> None:
        """Begin a generation that does."""
        self._new(Kind.RESET, "")

    def frames(self, *frames: tuple[int, int]) -> dict[int, bytes]:
        """Append one record of frames: (page number, size of the database if a commit else 0)."""
        before = self.cursor
        data, chain, written = b"", before.checksum, {}
        for pgno, size in frames:
            self.version += 1
            image = written[pgno] = page(pgno, self.version, self.cookie)
            head = struct.pack(">II", pgno, size)
            chain = reference_checksum(head + image, "little", chain)
            data += head + struct.pack(">IIII", *before.salts, *chain) + image
        after = before._replace(
            frame=before.frame + len(frames),
            checksum=frame_checksum(data[-536:]),
            changes=before.changes + sum(size > 0 for _, size in frames),
            reason="",
        )
        self.spool.append(before, after, data, 1000.0 + after.frame)
        return written

    def commit(self, *pages: int, size: int = 9) -> dict[int, bytes]:
        """One transaction in one record."""
        return self.frames(*((pgno, 0) for pgno in pages[:-1]), (pages[-1], size))


def bytes_of(folder: Path) -> dict[str, bytes]:
    """All segments in a folder."""
    return {path.name: path.read_bytes() for path in folder.glob("*.seg")}


def restore(folder: Path, files: dict[str, bytes]) -> None:
    """Make a folder hold these segments and no others."""
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.seg"):
        path.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
