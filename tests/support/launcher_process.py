"""Forks programs from a process that has imported all that they need: the imports cost more than most tests.

``python launcher_process.py SOCKET``, a descriptor. Each line from it is a JSON object with the name of a ``program``
(of :data:`PROGRAMS`), its ``arguments``, its ``environment`` and the ``folder`` in which it works, and comes with two
descriptors, for its stdout and its stderr. What goes back tells of each its ``started`` and, once it has ended,
``ended`` (process ids) with its ``code``. Ends with the conversation. There is no thread here and no connection: what
is forked is as good as new.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import socket
import sys
import time
from importlib import import_module

import apsw
import patient_command
import sidecar_process

from mirror.cli.main import COMMANDS
from mirror.cli.main import main as command

for _module in COMMANDS.values():
    import_module(f"mirror.cli.{_module}")

PROGRAMS = {"sidecar": sidecar_process.main, "command": command, "patient command": patient_command.main}


def main() -> int | None:
    talk = socket.socket(fileno=int(sys.argv[1]))
    selector = selectors.DefaultSelector()
    selector.register(talk, selectors.EVENT_READ)
    gc.freeze()

    def report(**what: int) -> None:
        talk.sendall(json.dumps(what).encode() + b"\n")

    while True:
        for key, _ in selector.select():
            if key.fileobj is not talk:
                # The other end of the pipe, which only the child has, is closed.
                _, status = os.waitpid(key.data, 0)
                selector.unregister(key.fileobj)
                os.close(key.fd)
                report(ended=key.data, code=os.waitstatus_to_exitcode(status))
                continue
            line, descriptors, _, _ = socket.recv_fds(talk, 1 << 16, 2)
            if not line:
                return 0
            stdout, stderr = descriptors
            while not line.endswith(b"\n"):
                line += talk.recv(1 << 16)
            request = json.loads(line)
            alive, lives = os.pipe()
            pid = os.fork()
            if not pid:
                for other in [*selector.get_map().values()]:
                    if other.fileobj is not talk:
                        os.close(other.fd)
                talk.close()
                selector.close()
                os.close(alive)
                os.dup2(stdout, 1)
                os.dup2(stderr, 2)
                os.close(stdout)
                os.close(stderr)
                os.chdir(request["folder"])
                os.environ.clear()
                os.environ.update(request["environment"])
                time.tzset()
                sys.argv[:] = ["mirror", *request["arguments"]]
                apsw.randomness(0)  # seeded again
                return PROGRAMS[request["program"]]()
            os.close(lives)
            os.close(stdout)
            os.close(stderr)
            selector.register(alive, selectors.EVENT_READ, pid)
            report(started=pid)


if __name__ == "__main__":
    sys.exit(main())
