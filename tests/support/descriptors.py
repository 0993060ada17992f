"""What processes have open."""

from __future__ import annotations

import os
from pathlib import Path

import psutil


def open_files(pid: int, within: Path) -> list[str]:
    """The files in a folder that a process has open, on Linux those that were deleted, too."""
    listed = Path(f"/proc/{pid}/fd")
    if not listed.exists():
        return [file.path for file in psutil.Process(pid).open_files() if file.path.startswith(str(within))]
    found = []
    for name in os.listdir(listed):
        try:
            path = os.readlink(listed / name)
        except FileNotFoundError:  # closed just now
            continue
        if path.startswith(str(within)):
            found.append(path)
    return found


def mapped_files(pid: int, within: Path) -> list[str]:
    """Those that it has in its memory, where the system says so."""
    listed = Path(f"/proc/{pid}/maps")
    return [line for line in listed.read_text().splitlines() if str(within) in line] if listed.exists() else []


def own_descriptors() -> set[str]:
    """The descriptors of this process."""
    return set(os.listdir("/dev/fd"))
