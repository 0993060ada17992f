"""What ``mirror doctor`` says of the places where a mirror keeps its files, before it makes any of them.

That a directory can be written is tried, with a nameless file of one page that is gone at once: the rights, the
file system and its room are then known together.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from mirror.core.checks import Code
from mirror.core.errors import MirrorError
from mirror.core.folders import source_folder
from mirror.core.sockets import require_control_path
from mirror.core.state_errors import detail_of, existing, megabytes, place_of, room_for, state_error, step_for
from mirror.core.words import counted
from mirror.postgres.cluster import EMPTY_BYTES, Cluster
from mirror.sidecar.doctor_report import Report

#: Files that a mirror makes of a source in its state directory, about; and a new embedded server.
_FILES, _SERVER_FILES = 100, 2000
_PAGE = 4096
#: Bytes of a name, and of a whole path with its final zero, on every file system in use.
_LONGEST_NAME, _LONGEST_PATH = 255, 4096
_NAME = "state directory"
_BELONGS = "it belongs to another user"


def check_place(report: Report, source: Path, state_dir: Path, *, embedded: bool) -> None:
    """Check the state directory, its disk, and, if ``embedded``, that a Postgres can be made and started in it."""
    folder = source_folder(state_dir, source)
    usable = _check_directories(report, state_dir, folder, embedded=embedded)
    if usable:
        _check_room(report, source, state_dir, embedded=embedded)
        try:
            require_control_path(folder)
        except MirrorError as error:
            report.fails(Code.STATE_DIRECTORY, "control socket", error)
    if embedded:
        _check_embedded(report, state_dir, usable=usable)


def say_user(report: Report, state_dir: Path) -> None:
    """As which user the embedded server runs that is there already, where that is not the one of this process."""
    if user := Cluster((state_dir / "postgres").resolve()).runs_as:
        detail = f"it runs as the user {user} of the system: Postgres does not run as root"
        report.add(Code.POSTGRES, "ok", "embedded Postgres", detail)


def _check_directories(report: Report, state_dir: Path, folder: Path, *, embedded: bool) -> bool:
    """Whether all of them are there and can be written, or can be made."""
    ours = (folder, folder / "spool", *((state_dir / "postgres",) if embedded else ()))
    try:
        _require_short(folder / "spool" / f"{0:016d}.seg")
        for path in (state_dir, folder.parent, *ours):
            _require_writable(path, ours=path in ours)
    except OSError as error:
        place = place_of(error, state_dir)
        said = "written" if os.path.isdir(state_dir) else "made"
        detail = f"{state_dir} cannot be {said}: {place}: {detail_of(error, place)}"
        report.add(Code.STATE_DIRECTORY, "problem", _NAME, detail, step_for(error, place))
        return False
    said = "written" if os.path.isdir(state_dir) else "made"
    report.add(Code.STATE_DIRECTORY, "ok", _NAME, f"{state_dir} can be {said}")
    return True


def _require_short(path: Path) -> None:
    """Raise ``OSError`` if a file of this name cannot be made, because it or a part of it is too long."""
    if len(os.fsencode(path)) >= _LONGEST_PATH or any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


def _require_writable(path: Path, *, ours: bool) -> None:
    """Raise ``OSError`` if a folder cannot be written, or made. ``ours``: only its owner uses it."""
    above = next(each for each in (path, *path.parents) if os.path.lexists(each))
    if not os.path.isdir(above):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(above))
    there = existing(path)
    if there == path and ours and os.geteuid() not in (0, path.stat().st_uid):
        raise PermissionError(errno.EPERM, _BELONGS, str(path))
    try:
        with tempfile.TemporaryFile(dir=there, buffering=0) as file:
            file.write(bytes(_PAGE))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(there)) from error  # not of the file, which nobody knows


def _check_room(report: Report, source: Path, state_dir: Path, *, embedded: bool) -> None:
    try:
        size = source.stat().st_size
    except OSError:  # it is told with the source
        return
    place = existing(state_dir)
    free, needed = shutil.disk_usage(place).free, room_for(size) + (size + EMPTY_BYTES if embedded else 0)
    detail = f"{free >> 20:,} MB free for a source of {megabytes(size)}"
    if free < needed:
        step = f"make room for {megabytes(needed)} in {place}, or name another --state-dir"
        report.add(Code.DISK, "problem", "disk", detail, step)
    else:
        report.add(Code.DISK, "ok", "disk", detail)
    found, files = os.statvfs(place), _FILES + (_SERVER_FILES if embedded else 0)
    if found.f_files and found.f_favail < files:  # a file system that does not count its inodes says 0 of 0
        detail = f"room for {counted(found.f_favail, 'file')} more (inodes) in {place}, and some {files:,} are needed"
        report.add(Code.DISK, "problem", "files", detail, "delete files there, or name another --state-dir")


def _check_embedded(report: Report, state_dir: Path, *, usable: bool) -> None:
    try:
        cluster = Cluster((state_dir / "postgres").resolve())
        cluster.require_socket()
    except MirrorError as error:
        report.fails(Code.POSTGRES, "embedded Postgres", error)
        return
    except OSError as error:
        if usable:  # else it is told already
            report.fails(
                Code.POSTGRES, "embedded Postgres", state_error(error, state_dir, "start the embedded Postgres")
            )
        return
    detail = "no server is configured: the embedded one will be started in the state directory"
    if user := cluster.runs_as:
        detail += f", as the user {user} of the system: Postgres does not run as root"
        detail += "" if cluster.user_is_there else "; that user is made then"
        closed = [str(path) for path in cluster.data.parents if path.is_dir() and not path.stat().st_mode & 0o001]
        detail += f", and may then pass through {', '.join(closed)}" if closed else ""
    step = "to use another server, name it: --postgres, or ARGENT_PG_URL"
    report.add(Code.POSTGRES, "note", "Postgres", detail, step)
