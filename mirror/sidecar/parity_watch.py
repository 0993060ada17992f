"""Comparing in the background, beside a running mirror, at a rate that costs it little.

The comparison is that of ``mirror parity``: exact at its positions. It works about a thirtieth of the time and waits
the rest, chunk by chunk. A difference is compared once more, at a later position, before it is reported.
``mirror parity`` has priority: a background run that meets one ends, and is tried again later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg
from loguru import logger

from mirror.core.commands import command
from mirror.core.control import ControlClient
from mirror.core.errors import MirrorError, SourceError
from mirror.core.folders import source_folder
from mirror.core.locks import ParityLock
from mirror.core.positions import Lsn, Salts
from mirror.core.status import named
from mirror.parity.compare import compare
from mirror.parity.report import ParityReport
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement
from mirror.postgres.sessions import connect
from mirror.reverse.capture import forget_left
from mirror.sidecar.parity_runs import derived, record

#: Fraction of the time in which a background comparison works.
SHARE = 0.03
#: Seconds from the start to the first run, and between two runs.
FIRST_SECONDS, BETWEEN_SECONDS = 60.0, 600.0
#: Seconds of one wait at most, so that a stop is noticed soon.
_STEP_SECONDS = 0.5


class _PacedGate:
    """A gate to the mirror that is used only :data:`SHARE` of the time."""

    def __init__(self, client: ControlClient, lock: ParityLock, stopping: threading.Event) -> None:
        self._client = client
        self._lock = lock
        self._stopping = stopping
        self._worked_since: float | None = None

    def _pace(self) -> None:
        """Wait in proportion to the work done since the last wait; raises ``SourceError`` when the run has to end."""
        now = time.monotonic()
        if self._worked_since is not None:
            until = now + (now - self._worked_since) * (1 / SHARE - 1)
            while (left := until - time.monotonic()) > 0 and not self._stopping.wait(min(left, _STEP_SECONDS)):
                pass
        if self._stopping.is_set():
            raise SourceError("compare in the background", detail="the mirror is stopping")
        self._worked_since = time.monotonic()

    def hold(self) -> str:
        """See :class:`~mirror.parity.gate.Gate`."""
        self._pace()
        if not self._lock.take(wait=False):
            raise SourceError("compare in the background", detail="another comparison is running")
        try:
            return self._client.hold()
        except MirrorError:
            self._lock.give()
            raise

    def reach(self, hold: str, salts: Salts, frame: int) -> Lsn:
        """See :class:`~mirror.parity.gate.Gate`."""
        return self._client.reach(hold, salts, frame)

    def settle(self) -> Lsn:
        """See :class:`~mirror.parity.gate.Gate`."""
        self._pace()
        return self._client.settle()

    def release(self, hold: str) -> None:
        """See :class:`~mirror.parity.gate.Gate`."""
        try:
            self._client.release(hold)
        finally:
            self._lock.give()


class ParityWatch:
    """Compares the sources of a mirror, one after another, until :meth:`stop`."""

    def __init__(self, schemas: Mapping[Path, str], dsn: str, state_dir: Path, options: str = "") -> None:
        """``schemas``: the sources, each with the Postgres schema of its tables; read again for each run.

        ``options``: what a command needs besides a source's name, with a space in front.
        """
        self._schemas = schemas
        self._dsn = dsn
        self._state_dir = state_dir
        self._options = options
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror verifier", daemon=True)

    def start(self) -> None:
        """Start; the first run begins after :data:`FIRST_SECONDS`."""
        self._thread.start()

    def stop(self) -> None:
        """End; waits up to a second for a run to end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2 * _STEP_SECONDS)

    def _run(self) -> None:
        pause = FIRST_SECONDS
        while not self._stopping.wait(pause):
            pause = BETWEEN_SECONDS
            for source in list(self._schemas):
                try:
                    if source not in self._schemas:
                        continue  # it was removed meanwhile
                    with logger.contextualize(source=str(source)):
                        self.verify(source)
                except Exception as error:
                    if not isinstance(error, MirrorError | psycopg.Error | OSError):
                        logger.exception("{}: comparing in the background failed", source.name)  # a bug
                        continue
                    # Postgres or the mirror is away, which the mirror itself reports; the last proof keeps its age.
                    logger.debug("{}: not compared in the background: {error}", source.name, error=error)
                if self._stopping.is_set():
                    return

    def verify(self, source: Path) -> ParityReport:
        """Compare a source now, and record the outcome unless it could not be checked.

        Raises ``MirrorError``, psycopg's errors, ``OSError``.
        """
        folder, schema = source_folder(self._state_dir, source), self._schemas[source]
        self._tidy(source, schema)
        lock = ParityLock(folder)
        try:
            with connect(self._dsn, autocommit=False) as connection, ControlClient(folder) as client:
                gate = _PacedGate(client, lock, self._stopping)
                known = derived(connection, source, schema)
                report = compare(source, connection, schema, gate, derived=known)
                if report.verdict == "different":
                    wrong = [table.table for table in report.tables if table.status == "different"]
                    again = compare(source, connection, schema, gate, tables=wrong, derived=known)
                    if again.verdict != "different":
                        return again  # the difference has gone; the next run compares everything again
                    what = f"{report.said.removeprefix('different: ')} ({named(wrong)})"
                    shows = command("parity", str(source), self._options)
                    logger.warning("{}: Postgres differs: {}: `{}` shows the rows", source.name, what, shows)
                if report.verdict != "not checked":
                    record(connection, source, schema, report, folder, whole=True, by_itself=True)
                return report
        finally:
            lock.close()

    def _tidy(self, source: Path, schema: str) -> None:
        """Look after what a command that was killed has left."""
        with connect(self._dsn, name="mirror verifier", raw=True) as conn, translated("look after moves", str(source)):
            row = conn.execute(statement("reverse_read"), (str(source), schema)).fetchone()
            if row is not None and forget_left(conn, row[0]):
                text = (
                    "{}: a command that moves it was killed: nothing is captured for it any more; the next one goes on"
                )
                logger.warning(text, source.name)
