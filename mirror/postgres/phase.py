"""The phase of a source: which store programs use. One row in Postgres, which every command and mirror goes by.

A command that moves a source raises the row's epoch first. Each change it makes names that epoch, so of two commands
the earlier one can change nothing more.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from mirror.core.errors import FencedError, MirrorError, SealedError
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement
from mirror.postgres.target import Conn

Event = Literal["begun", "done", "undone", "failed", "journal"]


class Phase(NamedTuple):
    """What the row says."""

    number: int
    """1: both stores, SQLite reads; 2: both, Postgres reads; 3: Postgres alone."""
    epoch: int
    moving_to: int | None
    """The phase that a command has begun to move to."""
    sealed_at: float | None
    """Seconds since the epoch; since then Postgres is the original."""
    finalized_at: float | None
    """Since then there is no way back."""
    fence: str
    finalized_why: str
    """Of a way back that has ended by itself; else empty."""
    reverse_until: float | None
    """When the way back ends by itself; None: it does not."""
    elapsed: bool
    """Whether that time has come, by Postgres' clock."""
    opening: bool
    """Whether a command is about to let programs in at the file again: the mirror gives up its lock."""


def read(conn: Conn, source_id: int) -> Phase:
    """The phase of a source. Raises ``SinkError``."""
    with translated("read the phase"):
        row = conn.execute(statement("phase_read"), (str(source_id),)).fetchone()
    assert row is not None
    return Phase(*row)


def require_unsealed(conn: Conn, source_id: int, path: str) -> bool:
    """Raise :class:`SealedError` if Postgres is the original of a source now; else whether it was ever moved."""
    if not is_sealed(conn, source_id, path):
        return read(conn, source_id).epoch > 0
    raise SealedError(
        "mirror a source",
        path,
        "it was moved to Postgres: what programs have written there since would be lost",
        next_step="`mirror cutover rollback` goes back to the file, `mirror cutover finalize` ends the way back",
    )


def is_sealed(conn: Conn, source_id: int, path: str) -> bool:
    """Whether Postgres is the original of a source. Raises :class:`SealedError` if there is no way back any more."""
    return require_open(read(conn, source_id), path).sealed_at is not None


def require_open(phase: Phase, path: str) -> Phase:
    """The same phase. Raises :class:`SealedError` if there is no way back any more."""
    if phase.finalized_at is not None:
        step = (
            "nothing: programs use Postgres; the file is an old copy; `mirror remove` removes what the mirror has of it"
        )
        why = "its move to Postgres was finalized" + (f": {phase.finalized_why}" if phase.finalized_why else "")
        raise SealedError("mirror a source", path, why, next_step=step)
    return phase


def take(conn: Conn, source_id: int, moving_to: int | None) -> Phase:
    """Begin a move: raise the epoch, and record where to. Returns the row as it was, with the new epoch.

    ``moving_to``: None for what leaves nothing to be completed or undone. Raises ``MirrorError`` if the move was
    finalized, which may have been a moment ago.
    """
    before = read(conn, source_id)
    row = conn.execute(
        "INSERT INTO mirror.phase AS p (source_id, epoch, moving_to) VALUES ($1::bigint, 1, $2::smallint)"
        " ON CONFLICT (source_id) DO UPDATE SET epoch = p.epoch + 1, moving_to = EXCLUDED.moving_to,"
        " waiting_since = NULL, waiting_for = '', go_at = NULL, opening = false"
        " WHERE p.finalized_at IS NULL RETURNING epoch",
        (str(source_id), None if moving_to is None else str(moving_to)),
    ).fetchone()
    if row is None:
        raise MirrorError("move a source", detail="its move was finalized", next_step="there is nothing left to do")
    return before._replace(epoch=int(row[0]))


def change(conn: Conn, source_id: int, epoch: int, assignments: str) -> None:
    """Change the row by SQL assignments (the caller's own text), if the epoch is still this one.

    Raises :class:`FencedError` if another command has begun to move the source.
    """
    row = conn.execute(
        f"UPDATE mirror.phase SET {assignments}, changed_at = now()"
        " WHERE source_id = $1::bigint AND epoch = $2::bigint RETURNING epoch".encode(),
        (str(source_id), str(epoch)),
    ).fetchone()
    if row is None:
        step = "look at `mirror cutover status`"
        raise FencedError("move a source", detail="another command has begun to move it", next_step=step)


def log(conn: Conn, source_id: int, epoch: int, step: str, event: Event, detail: str = "") -> None:
    """Add a line to the log of the move. It does not wait for the disk: programs wait for the steps."""
    conn.execute(
        "INSERT INTO mirror.cutover_log (source_id, epoch, step, event, detail)"
        " SELECT $1::bigint, $2::bigint, $3::text, $4::text, $5::text"
        " FROM (SELECT set_config('synchronous_commit', 'off', true)) AS soon",
        (str(source_id), str(epoch), step, event, detail),
    )


def begun(conn: Conn, source_id: int, epoch: int) -> set[str]:
    """The steps of an epoch that the log of the move has as begun. Raises psycopg's errors."""
    rows = conn.execute(
        "SELECT step FROM mirror.cutover_log WHERE source_id = $1::bigint AND epoch = $2::bigint AND event = 'begun'",
        (str(source_id), str(epoch)),
    ).fetchall()
    return {str(step) for (step,) in rows}
