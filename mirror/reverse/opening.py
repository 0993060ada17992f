"""A connection to the file of a source, whichever name it has at the moment (:mod:`mirror.core.place`)."""

from __future__ import annotations

from pathlib import Path

import apsw

from mirror.core.place import where


def opened(database: Path, busy_ms: int) -> tuple[apsw.Connection, Path]:
    """Connect for reading and writing; returns the name that was opened, too. Raises APSW's errors.

    The log is open with that, so the connection stays with the file whatever its name is later. It leaves the log alone
    when it closes (``SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE``). ``busy_ms``: milliseconds to wait for locks.
    """
    while True:
        path = where(database)
        db = None
        try:
            db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            db.set_busy_timeout(busy_ms)
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
