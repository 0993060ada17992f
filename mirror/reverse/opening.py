"""A connection to the file of a source, whichever name it has at the moment (:mod:`mirror.core.place`)."""

from __future__ import annotations

import time
from pathlib import Path

import apsw

from mirror.core.place import where

#: Seconds between two tries to get a lock. SQLite's own waits grow to 100 ms, and so a program that writes again and
#: again is always faster.
_AGAIN_SECONDS = 0.0002


def insist(db: apsw.Connection, seconds: float, *, hurry_until: float = 0.0) -> None:
    """Have a connection wait so long for locks, in competition with programs that write all the time.

    ``hurry_until``: until then without any pause, which costs a processor: such a program lets a lock go for
    microseconds only, and a process that sleeps is late for them on a busy machine.
    """
    since = 0.0

    def again(tries: int) -> bool:
        nonlocal since
        now = time.monotonic()
        if tries == 0:
            since = now
        time.sleep(0 if now < hurry_until else _AGAIN_SECONDS)
        return now - since < seconds

    db.set_busy_handler(again)


def opened(database: Path, seconds: float) -> tuple[apsw.Connection, Path]:
    """Connect for reading and writing; returns the name that was opened, too. Raises APSW's errors.

    The log is open with that, so the connection stays with the file whatever its name is later. It leaves the log alone
    when it closes (``SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE``). ``seconds``: to wait for locks.
    """
    while True:
        path = where(database)
        db = None
        try:
            db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            insist(db, seconds)
            db.execute("SELECT 1 FROM sqlite_schema").fetchall()
        except apsw.Error:
            if db is not None:
                db.close()
            if where(database) == path:
                raise
            continue
        # Now that it is open, no program is the last one to close it, which could remove a stand-in.
        if where(database) == path:
            return db, path
        db.close()
