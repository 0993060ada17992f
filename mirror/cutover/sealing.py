"""The points of no return: a source is sealed, so that Postgres is the original, or unsealed, so that its file is.

Each is one transaction. It changes tables that programs read, which waits for their transactions, and programs wait for
it: so not for long. Where that does not do, it fails, and everything is undone.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg

from mirror.core.errors import SourceError
from mirror.cutover import adopted, guard, sequences
from mirror.cutover.give_way import giving_way
from mirror.cutover.made import droppable, unshared
from mirror.postgres import phase, watch
from mirror.postgres.adopted import after_copy
from mirror.postgres.failures import translated
from mirror.postgres.sessions import placeholders
from mirror.reverse import capture
from mirror.reverse.follower import start

if TYPE_CHECKING:
    from mirror.cutover.move import Move

#: Seconds to wait for transactions of programs that read in Postgres.
WAIT_SECONDS = 5.0


def seal(move: Move) -> str:
    """From this transaction on, Postgres is the original."""
    with translated("seal the source", str(move.source)):
        said = giving_way(move.conn, lambda: _seal(move), WAIT_SECONDS)
    return f"{said}; the point of no return is behind: `mirror cutover rollback` is the way back"


def _seal(move: Move) -> str:
    conn, source = move.conn, str(move.source_id)
    if move.adopted:
        # What is put back is not undone by the way back: the mirror sets it aside again, if it needs to.
        said = _constrain(move)
        made = adopted.number_rows(conn, move.targets, sequences.HEADROOM)
    else:
        alone = unshared(conn, move.source_id, move.targets)
        before = set(droppable(conn, alone))
        said = _constrain(move)
        made = [text for text in droppable(conn, alone) if text not in before]
    guard.take_down(conn, move.source_id, move.targets)
    capture.switch(conn, move.source_id, move.targets, on=True)
    watch.pause(conn, move.source_id, move.targets)
    if move.adopted:
        ran = after_copy.run_at_switch(conn, move.source_id)
        said = f"{said}; {ran}" if ran else said
    start(conn, move.source_id)
    # A mirror that still runs cannot write any more. One that was started since programs wait has let them go.
    taken = conn.execute(
        "UPDATE mirror.sources SET epoch = epoch + 1, written_at = NULL WHERE source_id = $1::bigint"
        " AND epoch = $2::bigint",
        (source, str(move.epoch)),
    )
    if not taken.rowcount:
        detail = "the mirror was started again, or has connected again, since programs wait"
        raise SourceError("seal the source", str(move.source), detail, next_step="try again", retryable=True)
    phase.change(conn, move.source_id, move.phase.epoch, f"phase = 3, sealed_at = now(), fence = '{move.kept}'")
    window = move.reverse_window
    conn.execute(
        "UPDATE mirror.phase SET made = $2::jsonb, reverse_window = $3::interval WHERE source_id = $1::bigint",
        (source, json.dumps(made), window and f"{window.total_seconds():.3f} seconds"),
    )
    return said


def _constrain(move: Move) -> str:
    with placeholders(move.conn, psycopg.Cursor):  # as guard rails have
        return move.constrain(move.conn, move.agent)


def unseal(move: Move) -> str:
    """From this transaction on, the file is the original. Programs cannot write in Postgres meanwhile."""
    held = move.held
    assert held is not None
    with translated("unseal the source", str(move.source)):
        giving_way(held, lambda: _unseal(move), WAIT_SECONDS)
        held.commit()
    move.release_postgres()
    return "the file is the original again"


def _unseal(move: Move) -> None:
    held, source = move.held, str(move.source_id)
    assert held is not None
    ((made,),) = held.execute("SELECT made FROM mirror.phase WHERE source_id = $1::bigint", (source,)).fetchall()
    for text in made:
        held.execute(text.encode())
    # Not removed: that would wait for programs that read.
    capture.switch(held, move.source_id, move.targets, on=False)
    guard.put_up(held, move.source_id, move.targets)
    watch.watch(held, move.targets)
    held.execute("DELETE FROM mirror.outbox WHERE source_id = $1::bigint", (source,))
    held.execute("DELETE FROM mirror.reverse WHERE source_id = $1::bigint", (source,))
    held.execute("UPDATE mirror.sources SET written_at = NULL WHERE source_id = $1::bigint", (source,))
    phase.change(held, move.source_id, move.phase.epoch, "phase = 2, sealed_at = NULL, opening = false, made = '[]'")
    # There were none when programs were let in at the file: these have written to what is the original from now on.
    held.execute("DELETE FROM mirror.strays WHERE source_id = $1::bigint", (source,))
