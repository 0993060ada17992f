"""A follower of a change feed that may be killed at any time: ``python -m …follow_process PORT DB SOURCE BEGIN FILE``.

What it does with a change is to write one line to the file, in one write: the position, how many rows were inserted,
and the keys that are named. It goes on after the last line that is whole: a write may be killed between two pages.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mirror.hot.connection import Address
from mirror.hot.facade import get_hot_state

if __name__ == "__main__":
    port, db, source, begin, file = sys.argv[1:]
    output = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    whole = Path(file).read_bytes().rpartition(b"\n")[0]
    os.ftruncate(output, len(whole) + bool(whole))
    lines = whole.decode().splitlines()
    with get_hot_state(Address(port=int(port), db=int(db))) as hot:
        for change in hot.changes.follow(source, lines[-1].split()[0] if lines else begin):
            keys = [key for table in change.tables for (key,) in table.keys.get("inserted", ())]
            count = sum(table.inserted for table in change.tables)
            os.write(output, f"{change.lsn} {count} {' '.join(map(str, keys))}\n".encode())
