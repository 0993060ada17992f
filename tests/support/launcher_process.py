"""Forks mirrors from a process that has imported all that they need: the imports cost more than most tests.

``python launcher_process.py REQUESTS REPORTS``, two descriptors. Each line of REQUESTS is a JSON object with the
``arguments`` and the ``environment`` of a :mod:`sidecar_process` and its ``log`` (or null). For each, REPORTS gets a
line with its process id as ``started`` and, once it has ended, one with it as ``ended`` and its exit ``code``. Ends
when REQUESTS is closed. There is no thread here and no connection: a forked process is the same as a started one.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import sys

import apsw
import sidecar_process


def main() -> int:
    requests, reports = map(int, sys.argv[1:])
    lines = os.fdopen(requests, "rb")
    selector = selectors.DefaultSelector()
    selector.register(lines, selectors.EVENT_READ)
    gc.freeze()

    def report(**what: int) -> None:
        os.write(reports, json.dumps(what).encode() + b"\n")

    while True:
        for key, _ in selector.select():
            if key.fileobj is not lines:
                # The other end of the pipe, which only the child has, is closed.
                _, status = os.waitpid(key.data, 0)
                selector.unregister(key.fileobj)
                os.close(key.fd)
                report(ended=key.data, code=os.waitstatus_to_exitcode(status))
                continue
            line = lines.readline()
            if not line:
                return 0
            request = json.loads(line)
            alive, lives = os.pipe()
            pid = os.fork()
            if not pid:
                for other in [*selector.get_map().values()]:
                    if other.fileobj is not lines:
                        os.close(other.fd)
                lines.close()
                selector.close()
                os.close(alive)
                os.close(reports)
                if request["log"] is not None:
                    os.dup2(os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), 2)
                os.environ.clear()
                os.environ.update(request["environment"])
                sys.argv[1:] = request["arguments"]
                apsw.randomness(0)  # seeded again
                return sidecar_process.main()
            os.close(lives)
            selector.register(alive, selectors.EVENT_READ, pid)
            report(started=pid)


if __name__ == "__main__":
    sys.exit(main())
