"""Gives the file of a source another name, so that no program finds it, and gives it its own name back.

Both are done under the file's write lock, in steps that may be cut off anywhere. At no moment may a program that opens
the file by its own name find the database without its log, the log of another state, or a free name where it makes an
empty database. So each name goes from one to the other in one rename, and the log's name decides:

=====================  ============================  ==============================================================
names                  own: database, log, index     a program that opens the own name
=====================  ============================  ==============================================================
before                 there, there, there           sees the whole database
linked                 the same                      the same; all three have their other names, too
the log's first        there, stand-in, there        gets SQLITE_CANTOPEN: SQLite does not read a database that has a
                                                     log which it cannot open
then the others'       stand-in, stand-in, stand-in  gets SQLITE_CANTOPEN
=====================  ============================  ==============================================================

The way back is the same from the end. The log and its index have stand-ins for good, and are not only gone: a program
that has opened the database before and reads for the first time afterwards would make a new log beside it, see the
database as it was at its last checkpoint, and write into a log that nobody else reads.

A database in a rollback mode has no log at this moment, because the write lock is held. Its journal's name gets a
stand-in all the same: a program that has it open would not find the journal that the mirror, when it is killed, leaves
under the other name, and so read half a transaction.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from mirror.core.errors import SourceError
from mirror.core.faults import Faults, no_fault
from mirror.core.place import is_away, is_stand_in, other_name

#: What is renamed beside the database: the log first, which decides, and its index.
_WAL = ("-wal", "-shm")
_JOURNAL = ("-journal",)
_COMPANIONS = (*_WAL, *_JOURNAL)
#: What a name has that is about to take the place of another.
_NEW = ".new"
#: The places where a test may kill the process.
AWAY = ["rename:linked", *(f"rename:away{suffix}" for suffix in (*_WAL, ""))]
BACK = [*(f"rename:back{suffix}" for suffix in ("", "-shm", "-wal")), "rename:cleared"]


def require_possible(database: Path) -> None:
    """Raise ``SourceError`` if the file cannot be renamed so: its other name is taken, or its folder does not allow it.

    Tries it with files of its own, which it removes.
    """
    other = other_name(database)
    if taken := [str(name) for name in _names(other) if os.path.lexists(name)]:
        raise _failed(other, f"{taken[0]} is there already", "give that another name, or choose another --fence")
    one, two = Path(f"{other}-journal{_NEW}"), Path(f"{other}-journal{_NEW}2")
    try:
        folder, file = os.stat(database.parent), os.stat(database)
        if folder.st_mode & stat.S_ISVTX and os.geteuid() not in (0, folder.st_uid, file.st_uid):
            raise PermissionError(1, "only the owner of the file may rename it there")
        one.touch(mode=0o600)
        os.link(one, two)
        two.unlink()
        _make(one)
    except OSError as error:
        detail = f"it needs hard links and sockets in {database.parent}: {error.strerror or error}"
        raise _failed(database, detail, "choose another --fence") from error
    finally:
        for name in (one, two):
            with suppress(OSError):
                name.unlink(missing_ok=True)


def give_other(database: Path, *, wal: bool, faults: Faults = no_fault) -> Path:
    """Give the file its other name, or complete that; returns it. May be done again.

    The caller holds the write lock, and has it in a connection that leaves the log alone when it closes. ``wal``: the
    database is in WAL mode. Raises ``SourceError``.
    """
    other = other_name(database)
    companions = _WAL if wal else _JOURNAL
    try:
        if not is_away(database):
            _clear(database, other)  # of a try that was cut off; or of the way back
            for suffix in ("", *(_WAL if wal else ())):
                os.link(f"{database}{suffix}", f"{other}{suffix}")
            _sync(database.parent)
            faults("rename:linked")
        for suffix in (*companions, ""):
            if not is_stand_in(f"{database}{suffix}"):
                new = Path(f"{other}{suffix}{_NEW}")
                _make(new)
                os.replace(new, f"{database}{suffix}")
            faults(f"rename:away{suffix}")
        _sync(database.parent)
    except OSError as error:
        raise _failed(database, str(error), "see to that, and run the command again") from error
    return other


def give_back(database: Path, *, wal: bool, faults: Faults = no_fault) -> None:
    """Give the file its own name back, or complete that. May be done again, and where it has it.

    As :func:`give_other`.
    """
    other = other_name(database)
    there = ("", *_WAL) if wal else ("",)
    try:
        if is_away(database):
            for suffix in ("", "-shm", "-wal", "-journal"):  # the log last, which decides
                own, moved = f"{database}{suffix}", f"{other}{suffix}"
                if suffix in there:
                    if not (os.path.lexists(own) and os.path.samestat(os.lstat(own), os.lstat(moved))):
                        new = Path(f"{moved}{_NEW}")
                        new.unlink(missing_ok=True)
                        os.link(moved, new)
                        os.replace(new, own)
                elif is_stand_in(own):
                    os.unlink(own)
                faults(f"rename:back{suffix}")
            _sync(database.parent)
        _clear(database, other)
        faults("rename:cleared")
        _sync(database.parent)
    except OSError as error:
        raise _failed(database, str(error), "see to that, and run the command again") from error


def _names(other: Path) -> list[Path]:
    return [other, *(Path(f"{other}{suffix}") for suffix in _COMPANIONS)]


def _clear(database: Path, other: Path) -> None:
    """Remove the other names, while the file has its own.

    They were free before the move began (:func:`require_possible`), so they are the mirror's. Raises ``SourceError`` if
    another file has the database's since.
    """
    if os.path.lexists(other) and not os.path.samestat(os.lstat(other), os.lstat(database)):
        raise _failed(other, f"{other} is another file", "give that another name, and run the command again")
    for name in (*(Path(f"{other}{suffix}") for suffix in _COMPANIONS), other):
        name.unlink(missing_ok=True)
    for suffix in ("", *_COMPANIONS):
        Path(f"{other}{suffix}{_NEW}").unlink(missing_ok=True)


def _make(name: Path) -> None:
    """Make a stand-in at a name, in place of what is there."""
    name.unlink(missing_ok=True)
    try:
        os.mknod(name, stat.S_IFSOCK | 0o600)
    except PermissionError:  # a system on which only its administrator may
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(name))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failed(place: Path, detail: str, next_step: str) -> SourceError:
    return SourceError("rename the file", str(place), detail, next_step=next_step)
