"""The ways from phase to phase: which steps each has, and which is left where a command was killed."""

from __future__ import annotations

from mirror.core.errors import MirrorError
from mirror.cutover import going_back, sealing, waiting
from mirror.cutover.move import Move
from mirror.cutover.steps import Step
from mirror.postgres.phase import Phase
from mirror.reverse import ending

#: Before the switch, because it may take minutes.
PREPARE: Step[Move] = Step(
    "prepare", "analyze tables, warm vector indexes, and set sequences ahead", lambda move: move.prepare()
)
#: Before anything is made for the switch: the tables may be others by then.
WAIT: Step[Move] = Step(
    "wait",
    "wait for `mirror cutover go`, and compare all rows again and again",
    lambda move: waiting.defer(move),
    lambda move: waiting.forget(move),
)

TO_2: tuple[Step[Move], ...] = (
    Step("rails", "check the guard rails", lambda move: move.judge_reads()),
    PREPARE,
    Step("flip", "have programs read from Postgres", lambda move: move.flip(2), lambda move: move.flip_back()),
    Step("end", "record the phase", lambda move: move.end(2), final=True),
)

TO_3: tuple[Step[Move], ...] = (
    Step("rails", "check the guard rails", lambda move: move.judge_switch()),
    PREPARE,
    Step(
        "capture",
        "prepare the way back, switched off",
        lambda move: move.install_capture(),
        lambda move: move.remove_capture(),
    ),
    Step("watch", "capture what the mirror writes from here on", lambda move: move.watch_mirror()),
    Step("verify", "compare what Postgres has with the file", lambda move: move.compare_all()),
    Step(
        "pause",
        "have programs on storage adapters wait",
        lambda move: move.begin_pause(),
        lambda move: move.end_pause(),
    ),
    Step(
        "fence",
        "fence the file: no program can write to it",
        lambda move: move.fence_file(),
        lambda move: move.release_file(),
    ),
    Step("drain", "drain the mirror, and look again for writers", lambda move: move.drain()),
    Step("again", "compare what was written since", lambda move: move.compare_again()),
    Step("sequences", "set the sequences", lambda move: move.set_sequences()),
    Step(
        "seal",
        "make constraints, seal the source, and switch the way back on",
        lambda move: sealing.seal(move),
        final=True,
    ),
    Step("turn", "have the mirror go the other way", lambda move: move.turn_mirror()),
    Step("flip", "have programs use Postgres alone", lambda move: move.flip_to_postgres()),
    Step("keep", "keep programs from writing to the file", lambda move: move.keep_out()),
    Step("end", "record the phase", lambda move: move.end(3)),
)

BACK_TO_2: tuple[Step[Move], ...] = (
    Step("rails", ending.CHECK, lambda move: move.judge_way_back()),
    Step("verify", ending.COMPARE, lambda move: going_back.compare(move)),
    Step(
        "hold",
        "hold the tables in Postgres: no program can write to them",
        lambda move: move.hold_postgres(),
        lambda move: move.release_postgres(),
    ),
    Step("drain", ending.DRAIN, lambda move: move.drain_back()),
    Step("again", "compare what was written since", lambda move: going_back.compare_again(move)),
    Step("open", "open the file", lambda move: move.open_file(), lambda move: move.shut_file()),
    Step("unseal", "unseal the source", lambda move: sealing.unseal(move), final=True),
    Step("turn", "have the mirror turn to the file", lambda move: move.turn_back()),
    Step("flip", "have programs write to the file again", lambda move: move.flip(2)),
    Step("follow", "have the mirror follow the file", lambda move: move.await_following()),
    Step("end", "record the phase", lambda move: move.end(2)),
)

BACK_TO_1: tuple[Step[Move], ...] = (
    Step("flip", "have programs read from the file", lambda move: move.flip(1), lambda move: move.flip_back()),
    Step("end", "record the phase", lambda move: move.end(1), final=True),
)

TIDY: Step[Move] = Step("tidy", ending.TIDY, lambda move: move.ending.tidy(move))
FINALIZE: tuple[Step[Move], ...] = (
    Step("check", ending.CHECK, lambda move: move.ending.check(move)),
    Step("drain", ending.DRAIN, lambda move: move.ending.drain(move)),
    Step("compare", ending.COMPARE, lambda move: move.ending.compare(move)),
    Step("finalize", ending.END, lambda move: move.ending.end(move), final=True),
    TIDY,
)


def waits(steps: tuple[Step[Move], ...]) -> tuple[Step[Move], ...]:
    """The steps of a move that waits once it is prepared."""
    at = steps.index(PREPARE) + 1
    return (*steps[:at], WAIT, *steps[at:])


def ways(now: Phase, back: bool, *, adopted: bool = False, reads: bool = False) -> tuple[int, tuple[Step[Move], ...]]:
    """The phase to move to, and the steps. Raises ``MirrorError`` where there is none.

    ``adopted``: whether it is mirrored into an application's own tables: the program that reads there is the one that
    is to write there, so it goes from phase 1 to 3, unless only ``reads`` are to be moved, by a read router.
    """
    if now.finalized_at is not None:
        raise MirrorError("move a source", detail="its move was finalized", next_step="there is nothing left to do")
    number = 3 if now.sealed_at is not None else min(now.number, 2)
    if back and number == 1:
        raise MirrorError("move a source", detail="it is in phase 1: there is nowhere to go back to")
    if not back and number == 3:
        step = "`mirror cutover finalize` ends the way back"
        raise MirrorError("move a source", detail="it is in phase 3 already", next_step=step)
    if reads and number == 2:
        raise MirrorError("move a source", detail="it is in phase 2 already: reads are moved")
    if adopted and not back and not reads:
        return 3, TO_3
    return {(1, False): (2, TO_2), (2, False): (3, TO_3), (3, True): (2, BACK_TO_2), (2, True): (1, BACK_TO_1)}[
        number, back
    ]


def left_over(now: Phase) -> tuple[int, tuple[Step[Move], ...], bool]:
    """What a command has left that was killed: the phase it began in, its steps, and whether the rest is to be done.

    Else, before the point of no return, all that was done is to be undone. ``now``: with a move that has not ended.
    """
    sealed = now.sealed_at is not None
    if now.moving_to == 3:
        return min(now.number, 2), TO_3, sealed
    if now.moving_to == 1:
        return 2, BACK_TO_1, False
    if sealed or now.number == 2:
        return 3, BACK_TO_2, not sealed
    return 1, TO_2, False
