"""What a mirror tells about one source."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class SourceStatus:
    """State of one source. Written by its pipeline, read by whoever asks."""

    source: str
    schema: str
    phase: str = "starting"
    """starting, snapshot, catching up, following, re-diff, waiting, failed, stopped."""
    captured: str | None = None
    """Position up to which frames are in the spool."""
    applied: str | None = None
    """Position that Postgres has."""
    committed_at: float | None = None
    """When the newest applied commit was made."""
    behind_since: float | None = None
    """Since when there has been something captured that Postgres does not have."""
    caught_up_at: float | None = None
    commits: int = 0
    """Source commits applied since the mirror started."""
    transactions: int = 0
    """Postgres transactions they took."""
    rows: int = 0
    """Rows written and deleted in Postgres since the mirror started, without the snapshot's."""
    rejects: int = 0
    tables: int = 0
    gaps: list[dict[str, Any]] = field(default_factory=list)
    """Each with the generation that was left, the reason, and when it was found."""
    resyncs: list[str] = field(default_factory=list)
    """Why the whole source was copied (again) since the mirror started."""
    last_error: str | None = None
    progress: dict[str, Any] | None = None
    """While a snapshot runs: what, done, total."""

    def report(self) -> dict[str, Any]:
        """The state as JSON values, with the figures that follow from the clock."""
        now = time.time()
        result = asdict(self)
        result["lag_seconds"] = round(now - self.behind_since, 3) if self.behind_since is not None else 0.0
        result["freshness_seconds"] = round(now - self.committed_at, 3) if self.committed_at else None
        result["next_steps"] = self._next_steps()
        return result

    def _next_steps(self) -> list[str]:
        steps = []
        if self.phase == "failed":
            steps.append(f"mend the cause and start `mirror up {self.source}` again")
        if self.phase == "stopped":
            steps.append(f"start it with `mirror up {self.source}`")
        if self.rejects:
            steps.append(f"look at the {self.rejects} rows that Postgres cannot hold: select * from mirror.rejects")
        return steps


def stopped_status(source: Path, schema: str, folder: Path) -> SourceStatus:
    """The status of a source whose mirror is not running: the position it saved last."""
    status = SourceStatus(str(source), schema, phase="stopped")
    try:
        saved = json.loads((folder / "shadow.json").read_bytes())
    except FileNotFoundError:
        return status
    status.applied = f"{saved['generation']}:{saved['frame']}"
    status.committed_at = saved["committed_at"]
    return status
