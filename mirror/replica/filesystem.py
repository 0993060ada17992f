"""The kind of file system that a file is on.

Programs on one machine agree on the WAL's state through shared memory, the ``-shm`` file mapped by each. Over a network
a mapping shows only what the same machine writes, so a commit made on another would not be seen: SQLite forbids WAL
there (https://sqlite.org/wal.html), and file locks and times cannot be trusted either (hazard 21, mirror/HAZARDS.md).

A folder that a virtual machine has from its host is the same between the two: each has memory and locks of its own.
Where program and mirror both run in the machine it may do, so that is told, and not refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

_NETWORK = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afpfs", "webdav", "davfs", "afs", "ceph", "lustre"),
        *("gfs2", "ocfs2", "glusterfs", "beegfs"),
        *("fuse.ceph", "fuse.davfs", "fuse.glusterfs", "fuse.sshfs", "fuse.rclone"),
    )
)
#: Folders of a virtual machine's host in it: of QEMU, WSL, Docker Desktop, VirtualBox, Parallels, VMware.
_OF_HOST = frozenset(
    (
        *("9p", "virtiofs", "drvfs", "fakeowner", "fuse.grpcfuse", "fuse.osxfs", "osxfs"),
        *("vboxsf", "prl_fs", "vmhgfs", "fuse.vmhgfs-fuse"),
    )
)


class Mount(NamedTuple):
    """A place where a file system is mounted."""

    point: str
    kind: str
    """The type as the operating system names it: ext4, nfs4, apfs."""


def mounts() -> list[Mount]:
    """What is mounted on this machine."""
    return [Mount(found.mountpoint, found.fstype) for found in psutil.disk_partitions(all=True)]


def network_filesystem(path: Path, mounted: Iterable[Mount]) -> str | None:
    """The type of the file system that an absolute path is on, if other machines may write there; else None."""
    kind = _kind(path, mounted)
    return kind if kind.lower() in _NETWORK else None


def shared_with_host(path: Path, mounted: Iterable[Mount]) -> str | None:
    """The type of the file system that an absolute path is on, if this is a virtual machine's view of its host's."""
    kind = _kind(path, mounted)
    return kind if kind.lower() in _OF_HOST else None


def host_folder(kind: str) -> tuple[str, str]:
    """What is to be known of a file on such a file system, and what to do."""
    return (
        f"it is in a folder of this machine's host ({kind}): what programs outside this machine write to it is not"
        " seen, and their locks do not count",
        "run its programs in this machine, too, or keep the file on a disk or volume of this machine",
    )


def _kind(path: Path, mounted: Iterable[Mount]) -> str:
    above = [mount for mount in mounted if os.path.commonpath((mount.point, path)) == mount.point]
    # Of two at the same place the later one hides the other.
    return max(reversed(above), key=lambda mount: len(mount.point), default=Mount("", "")).kind
