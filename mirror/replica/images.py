"""Page images by place: one number that says where an image is, and the reader that fetches it.

An image is in a frame of a spool segment (format: :mod:`mirror.capture.spool`), or in a re-diff file: the pages in
which a comparison found the source to differ from the shadow (format: :mod:`mirror.replica.copy`). Re-diff files are
deleted here.

Guaranteed: a place is valid until its segment is pruned or its re-diff file is deleted, also after a restart.

Not guaranteed: that an image is undamaged. Reading one tests nothing: checksums are tested where records of the spool
or whole re-diff files are read.
"""

from __future__ import annotations

import os
from pathlib import Path

from mirror.capture.spool import SpoolPlace
from mirror.replica.spool_reader import SpoolReader

#: The place of a page image: a spool segment (>= 0) or the re-diff file of generation -n, and the offset in bytes.
#: One number, because a transaction of a gigabyte has hundreds of thousands of them (see :func:`image_at`).
Image = int


_OFFSET_BITS = 40


def image_at(segment: int, offset: int) -> Image:
    """The image at an offset in bytes, below a terabyte, of a segment or (negative) of a generation's re-diff file."""
    return segment << _OFFSET_BITS | offset


def place_of(image: Image) -> tuple[int, int]:
    """The inverse of :func:`image_at`: segment (or minus the generation of a re-diff file) and offset in bytes."""
    return image >> _OFFSET_BITS, image & ((1 << _OFFSET_BITS) - 1)


def rediff_path(folder: Path, generation: int) -> Path:
    """The file with the pages of the re-diff that began a generation."""
    return folder / f"rediff-{generation}.pages"


class Images:
    """Reads page images from the spool and from re-diff files.

    Thread: one at a time; a save has its own.
    """

    def __init__(self, folder: Path, spool: SpoolReader) -> None:
        self._folder = folder
        self._spool = spool
        self._files: dict[int, int] = {}

    def read(self, image: Image, page_size: int) -> bytes:
        """One page image of ``page_size`` bytes; raises ``OSError`` when its file is gone."""
        segment, offset = place_of(image)
        if segment >= 0:
            return self._spool.page(SpoolPlace(segment, offset), page_size)
        descriptor = self._files.get(segment)
        if descriptor is None:
            descriptor = self._files[segment] = os.open(rediff_path(self._folder, -segment), os.O_RDONLY)
        return os.pread(descriptor, page_size, offset)

    @property
    def comparisons(self) -> int:
        """How many re-diff files are open."""
        return len(self._files)

    def forget_rediffs(self, *, up_to: int | None = None, above: int | None = None) -> None:
        """Delete the re-diff files of generations up to one (saved) or above one (never applied).

        Raises ``OSError``.
        """
        for path in self._folder.glob("rediff-*.pages"):
            generation = int(path.stem.partition("-")[2])
            if (up_to is not None and generation <= up_to) or (above is not None and generation > above):
                descriptor = self._files.pop(-generation, None)
                if descriptor is not None:
                    os.close(descriptor)
                path.unlink()

    def close(self) -> None:
        """Close the re-diff files."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
