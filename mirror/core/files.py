"""Replacing a file's content, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def write_atomically(path: Path, data: bytes | bytearray, *, durable: bool) -> None:
    """Have a file contain ``data``: whoever reads it meanwhile finds what it was before, or all of this.

    Several may do so at once; the last one's content stays. The file is readable by its owner alone. ``durable``: it
    survives a power cut once this returns; else a power cut may leave the old content, or an empty file. Raises
    ``OSError``; the file is then as it was. A process that is killed in between leaves a file ``.NAME.*.tmp`` behind.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # the folder was deleted, say: then this is gone, too
            os.unlink(temporary)
        raise
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
