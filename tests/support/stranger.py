"""Another user of this machine, as far as tests can have one: a process that runs as the user ``nobody``.

Only root can start it (the tests of CI run as root). ``python stranger.py listen PATH``: binds a socket there, says
``ready``, and prints as hex all that the first client sends until it closes. ``python stranger.py say PATH HEX``:
connects, sends that, and prints as hex all that is answered.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

#: The user ``nobody``; a test that is not run by root cannot become another user.
NOBODY = 65534
IS_ROOT = os.geteuid() == 0


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start such a process."""
    assert IS_ROOT
    command = [sys.executable, "-P", str(Path(__file__)), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def run(*arguments: object) -> str:
    """Run such a process to its end; return what it has printed."""
    process = start(*arguments)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out


def main() -> None:
    """Run in the process."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    what, path, *more = sys.argv[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as own:
        own.settimeout(60)
        if what == "listen":
            own.bind(path)
            os.chmod(path, 0o666)
            own.listen()
            print("ready", flush=True)
            connection, _ = own.accept()
        else:
            own.connect(path)
            connection = own
        read = b""
        with connection, suppress(ConnectionError):  # the other end was closed
            connection.settimeout(60)
            if what == "say":
                own.sendall(bytes.fromhex(more[0]))
                own.shutdown(socket.SHUT_WR)
            while data := connection.recv(1 << 16):
                read += data
        print(read.hex())


if __name__ == "__main__":
    main()
