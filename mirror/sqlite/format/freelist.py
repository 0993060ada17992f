"""The free list: pages of a database that hold nothing (https://sqlite.org/fileformat2.html, 1.5).

======== ==== =============================================================
offset   size trunk page
======== ==== =============================================================
0        4    page number of the next trunk page; 0: this is the last one
4        4    number of leaf pages that follow, n
8        4·n  page numbers of leaf pages; what these contain is never read
======== ==== =============================================================

The number of the first trunk page is in the database header (page 1, offset 32).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from mirror.core.errors import FormatError


def free_leaves(read: Callable[[int], bytes]) -> set[int]:
    """The leaf pages of the free list; ``read`` gives whole pages. Raises ``FormatError``."""
    (trunk,) = struct.unpack_from(">I", read(1), 32)
    leaves: set[int] = set()
    seen: set[int] = set()
    while trunk:
        page = read(trunk)
        if trunk in seen or len(page) < 8:
            raise FormatError("read the free list", f"page {trunk}", "it is missing, or in the list twice")
        seen.add(trunk)
        following, count = struct.unpack_from(">II", page)
        if 8 + 4 * count > len(page):
            raise FormatError("read the free list", f"page {trunk}", f"{count} leaves")
        leaves.update(struct.unpack_from(f">{count}I", page, 8))
        trunk = following
    return leaves
