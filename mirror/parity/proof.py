"""When a source was last compared with Postgres, and the outcome: saved where ``mirror status`` reads it.

Every run is in Postgres (:mod:`mirror.sidecar.parity_runs`); the last one of all tables, or with a difference, is also
in ``parity.json`` in the source's folder, so that ``status`` can show the proof without Postgres.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from mirror.core.files import write_atomically
from mirror.core.status import ProofReport
from mirror.core.versions import require_format, stamped, without_stamp

if TYPE_CHECKING:
    from mirror.parity.report import Status

#: Seconds after which a proof is stale: another program may have written to Postgres since.
FRESH_SECONDS = 24 * 3600.0

_FILE = "parity.json"

#: By table of a source (source_id): what changes when Postgres has another table for it, or it in another form.
FORMS = """
SELECT t.source_table,
       concat_ws(' ', coalesce(c.oid, 0),
                 md5(concat_ws(' ', t.target_table, t.columns, t.key, to_jsonb(t) -> 'omitted')))
  FROM mirror.tables t
  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = t.target_schema
  LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.target_table AND c.relkind IN ('r', 'p')
 WHERE t.source_id = %s
"""

Proof = Literal["verified", "verified except rejects", "not mirrored", "stale", "different", "not checked", "never"]

#: What a recent comparison proves, by its verdict: all that Postgres has is as in the source.
_PROVED: dict[Status, Proof] = {
    "equal": "verified",
    "equal except rejects": "verified except rejects",
    "not mirrored": "not mirrored",
}
#: Proofs that pass the guard rail of comparisons: what Postgres does not hold, rows and tables, has rails of its own.
ENOUGH: frozenset[Proof] = frozenset(_PROVED.values())


class LastRun(msgspec.Struct, frozen=True):
    """The last comparison of all tables, or of a part that differed."""

    verdict: Status
    finished_at: float
    """Seconds since the epoch."""
    rows: int
    headline: str
    repairable: bool = True
    """Whether a repair may help, if it differs: not where Postgres refuses all tables that differ."""
    forms: Mapping[str, str] = msgspec.field(default_factory=dict)
    """The tables that were compared, each in the form that it had then: see :data:`FORMS`."""
    by_itself: bool = False
    """Whether the mirror made it by itself, in the background."""

    def never_compared(self, forms: Mapping[str, str]) -> list[str]:
        """Of the tables that Postgres has now, in these forms: those that were not compared, or in another form."""
        return sorted(table for table, form in forms.items() if self.forms.get(table) != form)

    def proof(self, now: float) -> Proof:
        """How good it is as a proof at the time ``now`` (seconds since the epoch)."""
        if self.verdict == "different" or self.verdict == "not checked":
            return self.verdict
        return _PROVED[self.verdict] if now - self.finished_at < FRESH_SECONDS else "stale"


def keep(folder: Path, last: LastRun) -> None:
    """Save it in the source's folder. Raises ``OSError``."""
    write_atomically(folder / _FILE, json.dumps(stamped(msgspec.structs.asdict(last))).encode(), durable=False)


def last_run(folder: Path) -> LastRun | None:
    """The last comparison of all tables of a source; None if there was none, or its file is damaged.

    Raises ``NewerStateError``, ``OSError``.
    """
    path = folder / _FILE
    try:
        found = json.loads(path.read_bytes())
        require_format(found, path)
        return LastRun(**without_stamp(found))
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None


def described(folder: Path) -> ProofReport:
    """The proof, as the status has it."""
    now, last = time.time(), last_run(folder)
    if last is None:
        return ProofReport()
    age = round(now - last.finished_at, 1)
    return ProofReport(
        proof=last.proof(now),
        age_seconds=age,
        headline=last.headline,
        repairable=last.repairable,
        rows=last.rows,
        by_itself=last.by_itself,
    )
