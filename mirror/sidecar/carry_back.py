"""While a source is sealed: the mirror that goes the other way, in place of the pipeline's own loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from loguru import logger
from msgspec.structs import replace

from mirror.core.backoff import Backoff
from mirror.core.commands import command
from mirror.core.errors import FencedError, MirrorError, SealedError, SourceError, WayBackLostError
from mirror.core.faults import Faults
from mirror.core.place import other_name, was_touched
from mirror.core.status import ReverseReport
from mirror.core.words import counted
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement
from mirror.postgres.phase import require_unsealed
from mirror.postgres.sessions import connect
from mirror.reverse.follower import ReverseFollower
from mirror.sidecar.agreements import Agreements
from mirror.sidecar.mailbox import Stopped
from mirror.sidecar.publishing import Publishing
from mirror.sidecar.reverse_window import ReverseWindow
from mirror.sidecar.source_folder import SourceTask
from mirror.sidecar.status import SourceStatus

#: Seconds between two looks for new writes: soon after the last ones, and when nothing was written for a while.
SOON, LATER = 0.004, 0.02
#: For how many seconds after a batch the next look comes soon.
BUSY_SECONDS = 1.0
FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 2.0


def sealed_by(task: SourceTask, error: FencedError | SealedError) -> SealedError:
    """The error that says that a source is sealed. A mirror that was not told of it is fenced, at its next write.

    Raises ``error`` where another mirror has taken the source over, and ``SinkError``.
    """
    found = error if isinstance(error, SealedError) else _sealed(task, error)
    if not isinstance(found, SealedError):
        raise found
    return found


def require_unmoved(task: SourceTask) -> None:
    """Raise ``SealedError`` if the source's file has its other name: a mirror that starts need not find it, then.

    Raises ``SourceError`` if the source is not sealed, and ``SinkError``.
    """
    if was_touched(task.database):
        place = other_name(task.database)
        detail = f"it has another name ({place.name}), and Postgres does not know that programs were moved there"
        step = f"is this the right Postgres? else give {place.name}, {place.name}-wal and -shm their names back"
        error = _sealed(task, SourceError("follow the source", str(task.database), detail, next_step=step))
        # A command that moves programs back gives the file its name first, and that may have been just now.
        if isinstance(error, SealedError) or was_touched(task.database):
            raise error


def _sealed(task: SourceTask, error: MirrorError) -> MirrorError:
    """What says that a source is sealed; ``error`` if it is not."""
    with connect(task.dsn, name="mirror", raw=True) as conn, translated("read the phase", str(task.database)):
        row = conn.execute(statement("reverse_read"), (str(task.database), task.schema)).fetchone()
        try:
            if row is not None:
                require_unsealed(conn, row[0], str(task.database))
        except SealedError as sealed:
            return sealed
    return error


def carry_back(
    task: SourceTask,
    status: SourceStatus,
    serve: Callable[[], None],
    check: Callable[[], None],
    stopping: threading.Event,
    faults: Faults,
    publishing: Publishing,
    connected: Callable[[], Iterable[object]],
    agreements: Agreements,
) -> None:
    """Carry what programs write in Postgres into the file, until the source is not sealed any more.

    ``serve``: answers requests; ``check``: raises when the mirror is to end. Both are called again and again.
    ``connected``: the programs that are, through a hook. When the reverse window has elapsed, the way back ends. Raises
    :class:`~mirror.core.errors.WayBackLostError`, ``Stopped`` when the move has been finalized meanwhile, and
    ``SealedError`` for a source whose way back had ended before.
    """

    def meanwhile() -> None:
        check()
        serve()

    publishing.say_moved(sealed=True)
    status.was_moved()
    name = task.name
    backoff = Backoff(FIRST_BACKOFF, LONGEST_BACKOFF)
    busy_until, said, strays, begun = 0.0, "", 0, False
    window = ReverseWindow(task, check)
    with ExitStack() as stack, agreements.served():
        follower: ReverseFollower | None = None
        while True:
            check()
            serve()
            pause = SOON if time.monotonic() < busy_until else LATER
            try:
                if follower is None:
                    follower = ReverseFollower.open(task.dsn, task.database, task.schema, faults, meanwhile)
                    stack.callback(follower.close)
                    publishing.say_moved(sealed=True, source_id=follower.source_id)
                    status.carries_back()
                    begun = True
                    logger.info("{}: what is written in Postgres is carried into the file", name)
                if not follower.is_wanted(at_once=publishing.was_asked()):
                    publishing.say_moved(sealed=False)
                    logger.info("{}: the file is the original again: it is copied anew, and then mirrored", name)
                    return
                known = status.reverse or ReverseReport()
                if (applied := follower.step()) is not None:
                    busy_until, pause = time.monotonic() + BUSY_SECONDS, 0.0
                    known = replace(known, rows=known.rows + applied.rows, applied_at=time.time())
                if follower.strays > strays:
                    who = ", ".join(dict.fromkeys([*follower.suspects, *map(str, connected())]))
                    logger.warning(
                        "{}: programs have written {} to the file, and not to Postgres ({}); next: {}",
                        name,
                        counted(follower.strays, "row"),
                        f"open in {who}" if who else "no program was seen at it",
                        f"`{command('cutover strays', str(task.database), task.options)}` shows them",
                    )
                strays = follower.strays
                agreements.answer(follower)
                window.turn(follower)
                status.reverse = replace(
                    known,
                    rejects=follower.rejects,
                    strays=strays,
                    until=follower.phase.reverse_until,
                    kept_open=window.kept_open,
                )
                backoff.reset()
                if said:
                    status.carries_back()
                said = ""
                status.keep(task.folder)
            except MirrorError as error:
                if follower is None or not follower.can_wait:
                    stack.close()
                    follower = None
                agreements.refuse(error)
                if isinstance(error, WayBackLostError):
                    try:
                        window.end_lost(error.detail)
                    except SealedError as ended:  # not as was planned
                        operation, place, step = error.operation, error.place, ended.next_step
                        raise WayBackLostError(operation, place, ended.detail, next_step=step) from error
                if isinstance(error, SealedError) and begun:
                    status.has_ended(error.detail)
                    logger.info("{}: {}: nothing is carried into the file any more", name, error.detail)
                    raise Stopped from error
                if not error.retryable:
                    raise
                if str(error) != said:
                    said = str(error)
                    logger.warning("{}: {error}", name, error=error)
                status.is_interrupted(error)
                status.keep(task.folder)
                pause = backoff.next()
            if pause and stopping.wait(pause):
                check()
