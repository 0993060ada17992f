"""A source that was moved to Postgres: what commands ask of it then, the other way round."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mirror.core.agreement import Agreement
from mirror.core.control import ControlClient
from mirror.core.errors import ControlError, NotRunningError, UnknownSourceError, WayBackLostError
from mirror.core.folders import source_folder
from mirror.core.words import counted
from mirror.cutover.going_back import patiently
from mirror.parity.report import ParityReport
from mirror.postgres import phase
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement
from mirror.postgres.sessions import Session, connect
from mirror.reverse import ending

_LOOK_SECONDS = 0.02


def is_open(source: Path, dsn: str, schema: str) -> bool:
    """Whether the source was moved to Postgres, and there is a way back."""
    try:
        with _asking("look at the phase", source, dsn, schema) as (conn, source_id):
            now = phase.read(conn, source_id)
    except UnknownSourceError:
        return False
    return now.sealed_at is not None and now.finalized_at is None


def all_or_nothing(source: Path) -> ControlError:
    """What a comparison of a part is answered with."""
    detail = "it was moved to Postgres: the file is compared with it as a whole"
    return ControlError("check parity", str(source), detail, next_step="leave --table and --sample out")


def wait_for_file(source: Path, dsn: str, schema: str, deadline: float) -> bool:
    """Wait until the file has all that is committed in Postgres now; whether it has, by ``deadline`` (monotonic).

    Raises ``SealedError`` if there is no way back any more, ``WayBackLostError``, and ``SinkError``.
    """
    with _asking("wait", source, dsn, schema) as (conn, source_id):
        seen = ending.snapshot(conn)
        while True:
            _require_way_back("wait", source, conn, source_id)
            if ending.has(conn, source_id, seen):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_SECONDS)


def require_way_back(what: str, source: Path, dsn: str, schema: str) -> None:
    """Raise ``SealedError`` or ``WayBackLostError`` if the source was moved, and there is no way back."""
    with suppress(UnknownSourceError), _asking(what, source, dsn, schema) as (conn, source_id):
        _require_way_back(what, source, conn, source_id)


def _require_way_back(what: str, source: Path, conn: Session, source_id: int) -> None:
    now = phase.require_open(phase.read(conn, source_id), str(source))
    if now.sealed_at is not None and (lost := ending.state(conn, source_id).lost) is not None:
        step = "`mirror cutover status` shows where it is"
        raise WayBackLostError(what, str(source), f"the way back is lost: {lost}", next_step=step)


def compared_back(source: Path, dsn: str, schema: str, state_dir: Path) -> ParityReport:
    """All rows of the file, compared with what Postgres has, while programs write.

    Raises ``NotRunningError`` if no mirror runs, ``SealedError`` if there is no way back any more, ``SinkError``.
    """
    begun = time.monotonic()
    with _asking("check parity", source, dsn, schema) as (conn, source_id):
        phase.require_open(phase.read(conn, source_id), str(source))
        now = ending.state(conn, source_id).now
    found = patiently(lambda: _agreement(source, state_dir, now))
    differ = found.unknown + found.not_carried + found.strays + found.rejects
    return ParityReport(
        str(source),
        (),
        "different" if differ else "equal",
        "",
        time.monotonic() - begun,
        found.rows,
        0.0,
        moved=_said(found, differ),
    )


def look_for_strays(source: Path, dsn: str, schema: str, state_dir: Path) -> bool:
    """Have the mirror compare the file now, if a program has written to it; False: no mirror runs."""
    with _asking("read the strays", source, dsn, schema) as (conn, source_id):
        stands = phase.read(conn, source_id)
        if stands.sealed_at is None or stands.finalized_at is not None:
            return True
        now = ending.state(conn, source_id).now
    try:
        patiently(lambda: _agreement(source, state_dir, now, touched=True))
    except NotRunningError:
        return False
    return True


def _agreement(source: Path, state_dir: Path, now: str, *, touched: bool = False) -> Agreement:
    with ControlClient(source_folder(state_dir, source)) as client:
        return client.agree(now, touched=touched)


@contextmanager
def _asking(what: str, source: Path, dsn: str, schema: str) -> Iterator[tuple[Session, int]]:
    with connect(dsn, name="mirror", raw=True) as conn, translated(what, str(source)):
        made = conn.execute("SELECT to_regclass('mirror.phase') IS NOT NULL").fetchone() == (True,)
        row = conn.execute(statement("reverse_read"), (str(source), schema)).fetchone() if made else None
        if row is None:
            raise UnknownSourceError(what, str(source), "it is not mirrored here")
        yield conn, int(row[0])


def _said(found: Agreement, differ: int) -> str:
    rows = f"it was moved to Postgres, so the file is compared with it: {counted(found.rows, 'row')}"
    if not differ:
        return rows
    parts = [
        f"{found.strays + found.unknown:,} were written to the file by programs (`mirror cutover strays` shows them)"
        if found.strays + found.unknown
        else "",
        f"{found.rejects:,} are in Postgres alone (`mirror rejects list`)" if found.rejects else "",
        f"{found.not_carried:,} were not carried: {', '.join(found.named)}" if found.not_carried else "",
    ]
    return f"{rows}, {differ:,} differ: {'; '.join(filter(None, parts))}"
