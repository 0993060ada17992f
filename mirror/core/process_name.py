"""The name of a process, which no other process, on any machine or in any container, has.

By it is judged whether the mirror that holds a source is still there.

A host name and a process id are not enough: containers share both. A name here is the boot of the machine, the
namespace of process ids in it, the id, and when the process began. Only a name of this boot and namespace can be
judged: the process is gone if no process has that id, or one has it that began at another time.

=======  =========================================  ==========================================
system   boot and namespace                         when a process began
=======  =========================================  ==========================================
Linux    ``boot_id``, inode of ``/proc/self/ns/pid``  ticks after the boot (field 22 of its stat)
macOS    ``kern.bootsessionuuid``                   seconds, as the kernel has them
=======  =========================================  ==========================================

An inode of a namespace may be used again, but only when all processes of the first namespace have ended.
Not covered: copies of one running virtual machine, which have the same boot, namespace and processes.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

_LINUX = sys.platform == "linux"
#: Indexes of the fields of ``/proc/PID/stat`` after the program's name, which may contain any character.
_STATE, _STARTED = 0, 19


def this_process() -> str:
    """The name of this process; empty where the system does not show its parts: then no process can judge it."""
    system, started = _system(), _started(os.getpid())
    return f"{system} {os.getpid()} {started}" if system and started else ""


def can_judge(name: str | None) -> bool:
    """Whether it is the name of a process in this boot and namespace, so that it is known whether it has ended."""
    system, _, rest = (name or "").partition(" ")
    number, _, began = rest.partition(" ")
    return bool(system) and system == _system() and number.isdecimal() and bool(began)


def is_gone(name: str | None) -> bool:
    """Whether the process of this name has ended for certain; False also where this process cannot know."""
    if not can_judge(name):
        return False
    assert name is not None
    _, number, began = name.split(" ", 2)
    pid = int(number)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's process, which may still have begun at another time
    started = _started(pid)
    return started is not None and started != began


def _system() -> str:
    """This boot of this machine, and the namespace of its process ids; empty if the system does not show them."""
    try:
        if _LINUX:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"
        return _boot_of_macos()
    except OSError:
        return ""


@cache
def _boot_of_macos() -> str:
    import subprocess  # Linux needs none of what it loads

    command = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except subprocess.SubprocessError as error:
        raise OSError(str(error)) from error


def _started(pid: int) -> str | None:
    """When a process began; "ended" for a zombie; None if there is no such process, or it cannot be seen."""
    try:
        if _LINUX:
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            return "ended" if fields[_STATE] in "ZX" else fields[_STARTED]
        return _started_on_macos(pid)
    except OSError:
        return None


def _started_on_macos(pid: int) -> str | None:
    import psutil  # takes longer to load than the rest of this module

    try:
        process = psutil.Process(pid)
        return "ended" if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except psutil.Error:
        return None
