"""Recording that the log was not contiguous, so that all pages were compared."""

from __future__ import annotations

from datetime import UTC, datetime

from loguru import logger

from mirror.postgres.ledger import Ledger
from mirror.sidecar.status import SourceStatus
from mirror.sidecar.table_repair import REPAIR


def record_gaps(name: str, ledger: Ledger, status: SourceStatus, generation: int, reasons: list[str]) -> None:
    """Record gaps in Postgres, in the status and in the log. ``generation``: the one that was left.

    A reason that is empty, or a repair that was requested, is no gap: nothing was lost. Raises ``SinkError``.
    """
    lost = [reason for reason in reasons if reason not in ("", REPAIR)]
    if not lost:
        return
    before = f" (and {len(lost) - 1:,} times before)" if len(lost) > 1 else ""
    logger.warning("{}: all pages are compared: {}{}", name, lost[-1], before)
    ledger.record_gaps(generation, lost)
    for reason in lost:
        status.add_gap(generation, reason, datetime.now(UTC))
