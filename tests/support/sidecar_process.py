"""A mirror that can kill itself at a fault seam.

``python sidecar_process.py DSN STATE_DIR SCHEMA SPOOL_LIMIT SEAM HIT SOURCE...``; runs until SIGTERM. An empty SEAM:
never. With MIRROR_CAPTURE_SEAM in the environment the capture process has the fault instead, once (see
:mod:`tests.support.capture_process`). Other variables:

MIRROR_AGENTS         the sources' agents, as JSON
MIRROR_CHANGES        a change feed: ``redis`` (host and port, database), ``keep``, ``log``, as JSON
MIRROR_PROFILE        the profile of all sources
MIRROR_PLANTED_BUG    a text that is decoded wrongly wherever it occurs
MIRROR_SAVE_PAGES     number of changed pages after which a save is due
MIRROR_SCHEMAS        schemas of sources that have another one, as JSON
MIRROR_OPEN_FILES     number of files that are open from the start, here and in the capture process
MIRROR_STOP_SECONDS   seconds that a stop may take before what is left is cut off
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path

from mirror.capture.link import CAPTURE_MODULE
from mirror.core.config.change_options import KEEP
from mirror.core.folders import resolve
from mirror.core.signals import Signals
from mirror.core.values import Value
from mirror.hot.connection import Address
from mirror.replica import shadow
from mirror.sidecar.changes.hub import Changes, ChangesSettings
from mirror.sidecar.supervisor import Supervisor, SupervisorSettings
from mirror.sqlite.decode import rows


def plant(text: str) -> None:
    """Have the decoder give another value for a text, as a bug in it would."""
    right = rows.decode_record

    def wrong(payload: bytes, encoding: str = "utf-8") -> list[Value]:
        return [f"{text}?" if value == text else value for value in right(payload, encoding)]

    rows.decode_record = wrong


def open_files() -> None:
    """Open MIRROR_OPEN_FILES additional files, which are never closed."""
    number = int(os.environ.get("MIRROR_OPEN_FILES", 0))
    if number:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for _ in range(number):
        os.open(os.devnull, os.O_RDONLY)


def main() -> int:
    dsn, state_dir, schema, limit, seam, hit, *sources = sys.argv[1:]
    left = int(hit)
    guard = threading.Lock()

    def faults(name: str) -> None:
        nonlocal left
        with guard:
            if name == seam:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    own = {"MIRROR_CAPTURE_SEAM", "MIRROR_OPEN_FILES"} & set(os.environ)
    capture = "tests.support.capture_process" if own else CAPTURE_MODULE
    paths = [Path(source) for source in sources]
    shadow.SAVE_PAGES = int(os.environ.get("MIRROR_SAVE_PAGES", shadow.SAVE_PAGES))
    if capture != CAPTURE_MODULE:
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])  # capture runs with -P
    if planted := os.environ.get("MIRROR_PLANTED_BUG"):
        plant(planted)
    open_files()
    agents = {Path(path): agent for path, agent in json.loads(os.environ.get("MIRROR_AGENTS", "{}")).items()}
    wished = json.loads(os.environ.get("MIRROR_CHANGES", "null"))
    changes = None
    if wished is not None:
        redis = wished.get("redis") and Address(*wished["redis"])
        changes = Changes(ChangesSettings(redis, wished.get("keep", KEEP), wished.get("log", 0)), dsn)
        changes.start()
    settings = SupervisorSettings(
        paths,
        dsn,
        Path(state_dir),
        schema,
        agents,
        dict.fromkeys(map(resolve, paths), profile) if (profile := os.environ.get("MIRROR_PROFILE")) else {},
        schemas={Path(path): name for path, name in json.loads(os.environ.get("MIRROR_SCHEMAS", "{}")).items()},
        links={resolve(path): path for path in paths if path != resolve(path)},
        spool_limit=int(limit),
        capture=capture,
        changes=None if changes is None else changes.feed,
    )
    faulthandler.register(signal.SIGUSR1)  # a test that waits in vain asks where it stands
    with Signals(signal.SIGTERM) as signals:
        supervisor = Supervisor(settings, faults)
        supervisor.start()
        while supervisor.running and not signals.wait(0.05):
            pass
        given = os.environ.get("MIRROR_STOP_SECONDS")
        ended = supervisor.stop() if given is None else supervisor.stop(float(given))
        if changes is not None:
            changes.stop()
    errors = supervisor.errors
    for error in errors:
        print(error, file=sys.stderr)
    if not ended:
        os._exit(3)
    return 2 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
