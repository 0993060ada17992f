"""What the operating system says of a file, as an error of the tree: where it is, and the step that helps."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from mirror.core.errors import MirrorError, StateError

#: Room that a source needs in the state directory, as a factor of its size and bytes more: for its copy, and as much
#: again for what is spooled during the copy.
ROOM_FACTOR, ROOM_BYTES = 2, 256 << 20
#: Longest path that an error shows whole, in characters.
_LONGEST_PATH = 200

USE_STATE = "use the state directory"
_ANOTHER = "choose another --state-dir"
#: Something else is where a directory should be.
_IN_THE_WAY = frozenset((errno.ENOTDIR, errno.EEXIST))
#: The process or the system has no descriptor left.
NO_DESCRIPTORS = frozenset((errno.EMFILE, errno.ENFILE))
#: What only a file says. An error of another kind without the name of a file is that of a socket, a process, a thread.
OF_FILES = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.ESTALE))


def room_for(size: int) -> int:
    """Bytes that a source of ``size`` bytes needs in the state directory."""
    return ROOM_FACTOR * size + ROOM_BYTES


def megabytes(size: int) -> str:
    """A size in bytes as people read it, rounded up: ``276 MB``."""
    return f"{-(-size >> 20):,} MB"


def place_of(error: OSError, otherwise: Path) -> Path:
    """The file or folder that an error is about: of its name, what is in the way, where that is something else."""
    name = error.filename2 if error.errno == errno.EISDIR and error.filename2 else error.filename
    place = Path(os.fsdecode(name)) if isinstance(name, str | bytes) else otherwise
    if error.errno in _IN_THE_WAY:
        return next((path for path in (place, *place.parents) if _is_file(path)), place)
    return place


def detail_of(error: OSError, place: Path) -> str:
    """What was found, in words; ``place``: as :func:`place_of` gives it."""
    if error.errno in _IN_THE_WAY and _is_file(place):
        return "it is a file, not a directory"
    if error.errno == errno.EISDIR:
        return "it is a directory, not a file"
    if error.errno == errno.ENOSPC and not _has_inodes(place):
        return "the file system has no inode left for another file"
    return error.strerror or str(error)


def step_for(error: OSError, place: Path, *, needed: int = 0, otherwise: str = _ANOTHER) -> str:
    """What a person can do. ``needed``: bytes that are wanted there; 0: not known. ``otherwise``: instead of a file."""
    match error.errno:
        case errno.ENOSPC if not _has_inodes(place):
            return f"delete files in {existing(place)} that nobody needs, or {otherwise}"
        case errno.ENOSPC:
            room = f"make room for {megabytes(needed)}" if needed else "make room"
            return f"{room} in {existing(place)}, or {otherwise}"
        case errno.EDQUOT:
            return f"raise the user's quota of disk space, or {otherwise}"
        case errno.EFBIG:
            return "raise the limit of a file's size (`ulimit -f`), or choose a file system that takes larger files"
        case number if number in NO_DESCRIPTORS:
            return "raise the limit of open files (`ulimit -n`)"
        case errno.EACCES | errno.EPERM:
            return f"{otherwise}, or let this user (uid {os.geteuid()}) write there"
        case errno.ENOTDIR | errno.EEXIST:
            return f"{otherwise}, or move that file away"
        case errno.EISDIR:
            return f"{otherwise}, or move that directory away"
        case errno.ENAMETOOLONG if otherwise == _ANOTHER:
            return "choose a --state-dir with a shorter path"
        case _:
            return otherwise


def state_error(
    error: OSError,
    place: Path,
    operation: str = USE_STATE,
    *,
    needed: int = 0,
    otherwise: str = _ANOTHER,
    retryable: bool = False,
) -> StateError:
    """The error for one of the state directory's files. ``place``: where the error does not name a file.

    ``needed``, ``otherwise``: as for :func:`step_for`.
    """
    found = place_of(error, place)
    step = step_for(error, found, needed=needed, otherwise=otherwise)
    return StateError(operation, _shown(found), detail_of(error, found), next_step=step, retryable=retryable)


def file_error(error: OSError, state_dir: Path | None = None) -> MirrorError | None:
    """The error for what a command met at a file that it reads or writes; None: it is about no file.

    ``state_dir``: the state directory, where it is known.
    """
    if not isinstance(error.filename, str | bytes):
        if error.errno not in OF_FILES:
            return None
        step = (
            "make room for what it writes"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "see what is wrong with the disk"
        )
        return MirrorError("write a file", "", error.strerror or str(error), next_step=step)
    place = Path(os.fsdecode(error.filename)).absolute()
    if state_dir is not None and place.is_relative_to(state_dir):
        return state_error(error, place)
    found = place_of(error, place)
    step = step_for(error, found, otherwise="choose another place")
    return MirrorError("use a file", _shown(found), detail_of(error, found), next_step=step)


def _is_file(path: Path) -> bool:
    return os.path.lexists(path) and not os.path.isdir(path)


def existing(place: Path) -> Path:
    """The folder that is there, or would have to be."""
    return next((path for path in (place, *place.parents) if os.path.isdir(path)), place)


def _has_inodes(place: Path) -> bool:
    """Whether the file system has room for another file; a file system that does not count them says 0 of 0."""
    try:
        found = os.statvfs(existing(place))
    except OSError:
        return True
    return found.f_files == 0 or found.f_favail > 0


def _shown(place: Path) -> str:
    text = str(place)
    return text if len(text) <= _LONGEST_PATH else f"{text[: _LONGEST_PATH // 2]}…{text[-_LONGEST_PATH // 2 :]}"
