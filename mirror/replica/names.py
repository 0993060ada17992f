"""Whether programs have a database open by another name than the one that is followed.

SQLite keeps the log beside the name by which a program opened the file, links followed
(https://sqlite.org/howtocorrupt.html, section 2.4). What is written through a hard link, or through a file that a
container mounts alone, lies in a log that nobody sees who follows the other name, until a checkpoint; if the program
dies before, its journal is not found there either. So:

* a file with several hard links, or that is a mount point itself, is refused; so is one whose log is a mount point;
* a name that is a link to the file, and leads to another one now, is reported;
* a program that has the file open, but not the WAL index beside the followed name, is reported. Every connection in WAL
  mode keeps a lock for reading on both (``SHARED_FIRST`` and ``UNIX_SHM_DMS`` in SQLite's os_unix.c).

The locks are asked for through the descriptors that SQLite itself has open: one of our own could not be closed (hazard
17, mirror/HAZARDS.md), and locks of this process do not count.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable
from pathlib import Path

from mirror.core.errors import SourceError
from mirror.core.files import is_locked
from mirror.replica.filesystem import Mount
from mirror.sqlite.format.header import LOCK_BYTE

#: In the database file, and in the WAL index.
_SHARED_FIRST, _SHARED_SIZE, _DMS = LOCK_BYTE + 2, 510, 128
#: Seconds between two looks, and how long a program may have the file open without the index: it is opening both.
LOOK_SECONDS, OPENING_SECONDS = 0.25, 1.0

_BESIDE = "and SQLite keeps the log beside the name by which a program opened it"


def require_one_name(database: Path, links: int, mounted: Iterable[Mount]) -> None:
    """``links``: the file's hard links. Raises ``SourceError`` if programs may use another name for it."""
    detail = several_links(links)
    step = "`find -samefile` finds them; restart a program that has opened one of those"
    if not detail and (alone := _mounted_alone(database, mounted)):
        what = "the file" if alone == database.name else alone
        detail = (
            f"{what} alone is mounted at this path, {_BESIDE}: the file, -wal and -shm are shared only together, and"
            " what is put in a mounted file's place by a rename is not seen"
        )
        step = "mount the folder that it is in, for the program and the mirror, instead of the file"
    if detail:
        raise SourceError("open the source", str(database), detail, next_step=step)


def _mounted_alone(database: Path, mounted: Iterable[Mount]) -> str:
    """The name of the file, or of one of its companions, that is a mount point itself; empty if none is."""
    points = {mount.point for mount in mounted}
    names = (f"{database.name}{suffix}" for suffix in ("", "-wal", "-shm", "-journal"))
    return next((name for name in names if str(database.with_name(name)) in points), "")


def several_links(links: int) -> str:
    """What is wrong with so many hard links; empty if nothing is."""
    return f"the file has {links} names (hard links), {_BESIDE}: remove the others" if links > 1 else ""


class NameWatch:
    """Watches the name of one database while this process has it open in SQLite.

    Thread: the one that opens and closes it.
    """

    def __init__(self, database: Path, link: Path | None) -> None:
        """``link``: the name by which the user named the database, if that leads to it through a link."""
        self._database = database
        self._link = link
        self._in_wal_mode = False
        self._file = self._index = -1
        """Descriptors of SQLite's."""
        self._since: float | None = None
        self._next = 0.0
        self._doubt = ""

    def open(self, *, in_wal_mode: bool) -> None:
        """SQLite has opened the database."""
        self.close()
        self._in_wal_mode = in_wal_mode

    def close(self) -> None:
        """SQLite is about to close the database."""
        self._in_wal_mode = False
        self._since, self._next, self._doubt = None, 0.0, ""

    def look(self) -> str:
        """Why programs may be writing elsewhere; empty if nothing is known that says so. Looks at most every 0.25 s."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LOOK_SECONDS
            self._doubt = self._look(now)
        return self._doubt

    @property
    def is_unsure(self) -> bool:
        """Whether the last look has found what may become a doubt."""
        return self._since is not None or bool(self._doubt)

    def _look(self, now: float) -> str:
        if self._link is not None and (target := self._link.resolve()) != self._database:
            return (
                f"{self._link} leads to {target} now, and this mirror follows {self._database}: stop it, and start one"
                " for that file, or let the link lead back"
            )
        try:
            file = os.stat(self._database)
            index = os.stat(f"{self._database}-shm") if self._in_wal_mode else None
        except OSError:
            return ""  # gone: that is noticed where it is read
        if doubt := several_links(file.st_nlink):
            return doubt
        if index is None or not self._is_open_elsewhere(file, index):
            self._since = None
            return ""
        self._since = self._since or now
        if now - self._since < OPENING_SECONDS:
            return ""
        return (
            "a program has it open by another name, or with another -wal and -shm than those beside this name (which"
            " were deleted, or put there, while it ran): what it commits is not seen; close it, and open the database"
            " by this name"
        )

    def _is_open_elsewhere(self, file: os.stat_result, index: os.stat_result) -> bool:
        if not (_is(self._file, file) and _is(self._index, index)):
            self._file, self._index = _descriptor(file), _descriptor(index)
        if self._file < 0 or self._index < 0:
            return False
        # The index first: who opens both has the lock on the file first, and gives it back last.
        others = is_locked(self._index, fcntl.F_WRLCK, _DMS, 1)
        return not others and is_locked(self._file, fcntl.F_WRLCK, _SHARED_FIRST, _SHARED_SIZE)


def _is(descriptor: int, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), wanted)
    except OSError:
        return False


def _descriptor(wanted: os.stat_result) -> int:
    """A descriptor that this process has of a file; -1 if it has none."""
    return next((int(name) for name in os.listdir("/dev/fd") if _is(int(name), wanted)), -1)
