"""Copy the source's pages while it is being written, without a lock: a fuzzy copy and the WAL.

A page read from the database file is a state that some checkpoint wrote, or is just writing. Every
page that a checkpoint can write comes from a committed frame of the generation that was current when
the copy began, or of a later one. Capture spools exactly those frames, from the first of that
generation on. So the pages as read, overlaid with the spooled frames up to any commit that was
published after the last page had been read, are the database at that commit: torn or outdated
pages included, since each of them has a frame. (``pg_basebackup`` does the same; ARIES calls it a fuzzy dump.)
No read transaction is held, so no writer and no checkpoint is affected.

The file is read through a SQLite connection's own handle, because closing another descriptor on it
would drop that connection's POSIX locks (hazard 17, mirror/HAZARDS.md).

A re-diff file has the pages that a comparison of the file with the shadow found to differ, for each, big-endian: 4
bytes page number, 4 bytes CRC-32 of the page, the page.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import compress
from pathlib import Path

from mirror.core.files import sync_folder
from mirror.core.state_errors import room_for, state_error
from mirror.replica.images import Image, image_at, rediff_path
from mirror.replica.shadow import Shadow

#: Reads ``(offset, amount)``, in bytes, from the database file; returns fewer bytes at its end.
ReadFile = Callable[[int, int], bytes]
Progress = Callable[[int], None]

_BLOCK = 1 << 20
_REDIFF_HEADER = struct.Struct(">II")


def blocks(read: ReadFile) -> Iterator[tuple[int, bytes]]:
    """The file's bytes in blocks: ``(offset, bytes)``, the last one shorter."""
    offset = 0
    while True:
        block = read(offset, _BLOCK)
        if not block:
            return
        yield offset, block
        offset += len(block)


def copy_file(read: ReadFile, target: Path, size: int, progress: Progress | None = None) -> None:
    """Write the database file's bytes to ``target``; ``progress`` is called with the bytes written so far.

    ``size``: bytes that the file has, about. Raises ``StateError``.
    """
    try:
        with open(target, "wb") as file:
            for offset, block in blocks(read):
                file.write(block)
                if progress is not None:
                    progress(offset + len(block))
    except OSError as error:
        raise state_error(error, target, "copy the source", needed=room_for(size), retryable=True) from error


def rediff(
    read: ReadFile,
    shadow: Shadow,
    page_size: int,
    folder: Path,
    generation: int,
    progress: Progress,
) -> dict[int, Image]:
    """Find the pages of the database file that differ from the shadow.

    Their images are written to the re-diff file of ``generation``; the result gives the place of each by page
    number. ``progress`` is called with the bytes compared so far, and may raise to end the work. Raises ``StateError``.
    """
    path = rediff_path(folder, generation)
    found: dict[int, Image] = {}
    try:
        with open(path, "wb") as file:
            at = 0
            for offset, block in blocks(read):
                progress(offset)
                first = offset // page_size + 1
                for index in _differing(block, shadow.read_run(first, len(block) // page_size), page_size):
                    image = block[index * page_size : (index + 1) * page_size]
                    head = _REDIFF_HEADER.pack(first + index, zlib.crc32(image))
                    file.write(head + image)
                    found[first + index] = image_at(-generation, at + len(head))
                    at += len(head) + page_size
            file.flush()
            os.fsync(file.fileno())
        sync_folder(folder)
    except OSError as error:
        raise state_error(error, path, "compare the source with the shadow", retryable=True) from error
    return found


def _differing(ours: bytes, theirs: bytes, page_size: int) -> list[int]:
    """Indexes of the whole pages of ``ours`` that differ in ``theirs``, or are missing there: it may end earlier."""
    if ours == theirs:
        return []
    count, shared = len(ours) // page_size, min(len(ours), len(theirs)) // page_size
    starts = range(0, shared * page_size, page_size)
    differing = [ours[at : at + page_size] != theirs[at : at + page_size] for at in starts]
    return [*compress(range(shared), differing), *range(shared, count)]


def read_rediff(folder: Path, generation: int, page_size: int) -> dict[int, Image] | None:
    """The images in a re-diff file of an earlier run; None if there is none or it is damaged."""
    path = rediff_path(folder, generation)
    found: dict[int, Image] = {}
    try:
        with open(path, "rb") as file:
            at = 0
            while head := file.read(_REDIFF_HEADER.size):
                image = file.read(page_size)
                if len(head) < _REDIFF_HEADER.size or len(image) < page_size:
                    return None
                pgno, crc = _REDIFF_HEADER.unpack(head)
                if zlib.crc32(image) != crc:
                    return None
                found[pgno] = image_at(-generation, at + len(head))
                at += len(head) + page_size
    except FileNotFoundError:
        return None
    return found
