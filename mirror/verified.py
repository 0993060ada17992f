"""When a source was last compared with Postgres, and with what outcome: kept where ``mirror status`` looks.

Every run is in ``mirror.parity_runs``; the last one that tells something of the whole is in the source's folder, so
that ``status`` needs no Postgres to tell how good the proof is.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg import RawCursor

from mirror.errors import SinkError
from mirror.parity.report import ParityReport, Status
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement

#: Seconds after which a proof is old: somebody may have written to Postgres since.
FRESH_SECONDS = 24 * 3600.0

_FILE = "parity.json"

Proof = Literal["verified", "stale", "different", "not checked", "never"]


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last comparison of all tables, or of a part that differed."""

    verdict: Status
    finished_at: float
    """Seconds since the epoch."""
    rows: int
    headline: str

    def proof(self, now: float) -> Proof:
        """How good it is as a proof at a moment."""
        if self.verdict != "equal":
            return self.verdict
        return "verified" if now - self.finished_at < FRESH_SECONDS else "stale"


def record(
    conn: psycopg.Connection[Any], source: Path, schema: str, report: ParityReport, folder: Path, *, whole: bool
) -> None:
    """Keep what a comparison found; ``whole``: it was of all rows of all tables. Raises ``SinkError``, ``OSError``."""
    counts = [sum(getattr(table, name) for table in report.tables) for name in ("missing", "extra", "different")]
    values = [report.seconds, report.verdict, whole, report.rows, *counts, report.rejected]
    with translated("keep the outcome of a comparison", str(source)):
        conn.rollback()
        cursor = RawCursor(conn).execute(
            statement("parity_save"), [str(source), schema, *map(str, values), report.to_json()]
        )
        conn.commit()
    if not cursor.rowcount:
        raise SinkError("keep the outcome of a comparison", str(source), "Postgres does not know the source")
    if whole or report.verdict == "different":  # a part proves nothing of the whole, but it can disprove it
        last = LastRun(report.verdict, time.time(), report.rows, report.headline)
        temporary = folder / f"{_FILE}.tmp"
        temporary.write_text(json.dumps(asdict(last)))
        os.replace(temporary, folder / _FILE)


def last_run(folder: Path) -> LastRun | None:
    """The last comparison of all tables of a source; None if there was none, or what is kept of it is damaged."""
    try:
        return LastRun(**json.loads((folder / _FILE).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def described(folder: Path) -> dict[str, Any]:
    """The proof, as ``status`` tells it: JSON values."""
    now, last = time.time(), last_run(folder)
    if last is None:
        return {"proof": "never", "age_seconds": None, "headline": None}
    return {
        "proof": last.proof(now),
        "age_seconds": round(now - last.finished_at, 1),
        "headline": last.headline,
    }
