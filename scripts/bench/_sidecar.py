"""The mirror as `mirror up` runs it, in a process of its own, with a clock at its commits.

``python _sidecar.py JSON`` runs until its standard input closes, then writes what it noted: for each
Postgres transaction the time at which Postgres had acknowledged it (``time.monotonic()``, the same
clock in all processes of one machine) and how many source commits had been applied before it. The clock
sits in the engine's own fault seam, so the engine runs as it is, and costs about a microsecond.
"""

from __future__ import annotations

import json
import sys
import time
from array import array
from pathlib import Path
from typing import Any

from loguru import logger

from mirror.sidecar.supervisor import Supervisor, SupervisorSettings


def main(spec: dict[str, Any]) -> None:
    """Mirror one source until standard input closes."""
    logger.remove()
    logger.add(sys.stderr, level=spec["log"])
    times, applied = array("d"), array("d")

    def seam(name: str) -> None:
        if name == "apply:after-commit":
            times.append(time.monotonic())
            applied.append(pipeline.status.commits)

    settings = SupervisorSettings([Path(spec["source"])], spec["dsn"], Path(spec["state_dir"]), spec["schema"])
    supervisor = Supervisor(settings, seam)
    (pipeline,) = supervisor.pipelines
    supervisor.start()
    sys.stdin.read()
    supervisor.stop(timeout=20.0)
    times.append(time.monotonic())
    applied.append(pipeline.status.commits)
    Path(spec["trace"]).write_bytes(times.tobytes() + applied.tobytes())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
