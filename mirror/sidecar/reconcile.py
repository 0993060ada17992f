"""Whether the replica and Postgres are at one state of the source, and the remedy if not.

Postgres' position is authoritative.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import Enum, auto

from mirror.capture.spool import SpoolPlace
from mirror.core.errors import ConfigError, SinkError
from mirror.postgres.sink import Sink
from mirror.replica.replica import Replica
from mirror.sidecar.recognise import is_recognised, may_be_known
from mirror.sidecar.source_folder import SourceTask


class Remedy(Enum):
    """What makes replica and Postgres agree."""

    NONE = auto()
    """Nothing: they agree; the replica has been rolled forward to Postgres' position."""
    LOAD = auto()
    """Load the whole replica into Postgres again."""
    COPY = auto()
    """Copy the source whole."""


def would_undo(task: SourceTask, written: datetime) -> SinkError:
    """The error where programs have written to Postgres alone: the mirror would undo that. ``written``: since when."""
    return SinkError(
        "mirror the source",
        str(task.database),
        f"programs have written to the agent's tables in Postgres alone since {written:%Y-%m-%d %H:%M:%S %Z}"
        " (storage.backend: postgres), and the mirror would undo that",
        next_step="go on with storage.backend: postgres; or give those writes up: start the mirror with"
        " --discard-writes, which makes Postgres equal to the file again",
    )


def disagreement(
    replica: Replica | None,
    sink: Sink,
    task: SourceTask,
    until: SpoolPlace | None,
    check: Callable[[], None],
    written: bool,
) -> tuple[Remedy, str]:
    """Roll the replica forward to Postgres' position if the spool, up to ``until``, reaches it.

    Returns what else has to be done, and why. ``check``: called during the work; may raise. ``written``: programs have
    written to Postgres alone. Raises ``ConfigError`` where the task asks for a profile of an adopted source.
    """
    if sink.adoption is not None and task.profile is not None:
        raise ConfigError(
            "mirror a source",
            str(task.database),
            f"it was adopted: it goes into its application's tables, not into those of the profile {task.profile}",
            next_step="leave --profile out",
        )
    if replica is None:
        return Remedy.COPY, "there is no copy of the source in the state directory"
    position = sink.position
    if position is None:
        # Not from the existing copy: what kept it from being loaded may have been repaired in the source.
        return Remedy.COPY, "Postgres has no snapshot of the source"
    if task.profile not in (None, sink.profile):
        return Remedy.COPY, f"the profile is now {task.profile}"
    ours, theirs = replica.head.lsn, position.lsn
    if theirs < ours:
        # Pages that are older than the position (see Replica.leap) cannot be loaded.
        return Remedy.COPY if replica.leapt else Remedy.LOAD, f"Postgres went back to {theirs}"
    if sink.lineage != replica.lineage:
        return Remedy.COPY, "Postgres' snapshot belongs to another state directory"
    if not replica.roll_forward(theirs, until, check):
        reached = replica.head.lsn
        return Remedy.COPY, f"Postgres is at {theirs}; the state directory reaches only {reached}"
    if not replica.position.is_same(position):  # it has one that a power cut took from the source
        return Remedy.COPY, f"Postgres has another commit at {theirs} than the spool"
    if may_be_known(task, sink, (), True) and is_recognised(replica):
        return Remedy.LOAD, "it was recognised as a MemuStore"
    if written:
        return Remedy.COPY if replica.leapt else Remedy.LOAD, "programs had written to Postgres alone"
    return Remedy.NONE, ""
