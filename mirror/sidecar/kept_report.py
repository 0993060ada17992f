"""The status of a source that no mirror answers for: from what was saved last, and what its files show.

Of the source itself nothing is opened: sizes and times alone are read (hazard 17, mirror/HAZARDS.md).
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from msgspec.structs import replace

from mirror.core.beginnings import beginning
from mirror.core.errors import MirrorError
from mirror.core.folders import Ending, ending, holder
from mirror.core.place import is_missing, where
from mirror.core.positions import Lsn
from mirror.core.published import POSITION_FILE
from mirror.core.saved_status import saved_report
from mirror.core.source_settings import is_paused
from mirror.core.status import Phase, StatusReport
from mirror.sidecar.next_steps import next_steps


def kept_report(source: Path, schema: str, folder: Path) -> StatusReport:
    """The status of a source that is not being mirrored, or not yet.

    From the last report and the last position that were saved, the lock file, and the sizes and times of the source's
    files. ``folder``: the source's folder in the state directory.
    """
    # Imported here: it takes longer to load than a running mirror takes to answer.
    from mirror.replica.shadow import saved_position

    report = saved_report(source, schema, folder)
    how, stopped_at = (Ending.NOT, None) if is_starting(source, folder) else ending(folder)
    # Stopped, or killed: then the saved phase is an earlier one.
    phase: Phase = report.phase if report.phase is Phase.FAILED and how is not Ending.KILLED else Phase.STOPPED
    if how is Ending.NOT:
        phase = Phase.STARTING
        report = replace(report, last_error=None, error=None)
    with contextlib.suppress(MirrorError):  # what is damaged is said where it is used
        if is_paused(folder):
            phase = Phase.PAUSED
    applied, committed_at = report.applied, report.committed_at
    saved = saved_position(folder)
    if saved is not None and (applied is None or Lsn.parse(applied) < saved.lsn):
        applied, committed_at = str(saved.lsn), saved.committed_at
    report = replace(
        report,
        phase=phase,
        killed=holder(folder) if how is Ending.KILLED else None,
        stopped_at=stopped_at,
        file_missing=is_missing(source),
        unread_bytes=None if how is Ending.NOT else _unread_bytes(source, _read_at(report, folder, stopped_at)),
        applied=applied,
        committed_at=committed_at,
        behind_since=None,
        progress=None,
        lag_seconds=None,
        worst_lag_seconds=None,
        freshness_seconds=round(time.time() - committed_at, 3) if committed_at else None,
    )
    return replace(report, next_steps=next_steps(report))


def is_starting(source: Path, folder: Path) -> bool:
    """Whether a mirror of the source, which does not answer yet, is there: it has the lock, or is about to take it."""
    return source in beginning(folder.parent.parent) or ending(folder)[0] is Ending.NOT


def _read_at(report: StatusReport, folder: Path, stopped_at: float | None) -> float | None:
    """When the source was read last. None: not known, as of one that its mirror could not read."""
    return None if report.phase is Phase.FAILED else stopped_at or _seen_at(folder)


def _seen_at(folder: Path) -> float | None:
    """When the mirror wrote last that it is there; None: never."""
    try:
        return os.stat(folder / POSITION_FILE).st_mtime
    except OSError:
        return None


def _unread_bytes(source: Path, since: float | None) -> int | None:
    """Bytes that were written since then (Unix time), at most; 0 if nothing was; None: not known.

    The log's, where it has been written; the file's, where a checkpoint has put the log into it, or there is none.
    """
    file = where(source)
    try:
        log = os.stat(f"{file}-wal")
        if log.st_size:
            return log.st_size if since is None or log.st_mtime > since else 0
    except OSError:
        pass
    try:
        found = os.stat(file)
        return None if since is None else 0 if found.st_mtime <= since else found.st_size
    except OSError:
        return None
