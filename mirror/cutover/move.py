"""A move of one source from phase to phase: what its steps (:mod:`mirror.cutover.ways`) do."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from mirror.core.config.settings import Settings
from mirror.core.control import ControlClient
from mirror.core.errors import ControlError, FencedError, NotRunningError, SinkError, SourceError, UnknownSourceError
from mirror.core.faults import Faults, no_fault
from mirror.core.place import is_stand_in, where
from mirror.core.status import Phase as MirrorPhase
from mirror.core.words import counted
from mirror.cutover import flags, narrowing, renaming, sequences, strays
from mirror.cutover.fence import Fence
from mirror.cutover.finalize import Finalize
from mirror.cutover.waiting import Operator
from mirror.postgres import moving, phase
from mirror.postgres.adopted import decisions
from mirror.postgres.failures import translated
from mirror.postgres.migrate import require_known_schema
from mirror.postgres.phase import Event, Phase
from mirror.postgres.sessions import Session, connect
from mirror.postgres.table_locks import TableLocks
from mirror.postgres.target import Target, load_targets
from mirror.reverse import capture

#: Seconds for which a step waits for the mirror, or for transactions in Postgres, at most.
WAIT_SECONDS = 60.0
#: By ``--fence``: what is said of it.
KEPT = {
    "hold": "the mirror holds its write lock",
    "rename": "the mirror holds its write lock, and it has another name now:",
    "abort": "triggers refuse writes to it:",
    "watch": "nothing keeps them: what they write is found, and kept in mirror.strays",
}
#: Seconds for a mirror that has ended to be started again.
GONE_SECONDS = 2.0
#: Seconds for a session to end whose command was killed.
ENDED_SECONDS = 10.0
#: Seconds until each running program has noticed that the configuration has changed (:mod:`mirror.storage.flags`).
NOTICED_SECONDS = 1.0


@dataclass
class Move:
    """A move of one source that a command carries out."""

    source: Path
    folder: Path
    dsn: str
    schema: str
    settings: Settings
    kept: str
    """How programs are kept from writing to the file after the switch: hold, rename, abort or watch."""
    judge: Callable[[int], str]
    """Raises ``MirrorError`` unless all guard rails of a move to a phase are passed; returns what to say of them."""
    verify: Callable[[], str]
    """Raises ``MirrorError`` unless Postgres has what the file has; returns what to say of it."""
    constrain: Callable[[psycopg.Connection[Any], str | None], str]
    """Makes in Postgres what SQLite enforces, in the transaction of the connection; raises ``MirrorError``.

    Given the agent whose rows the source has.
    """
    verify_again: Callable[[Session, str], str]
    """The same for what was written since a snapshot of Postgres, while nothing is written."""
    commits: Callable[[], AbstractContextManager[narrowing.AtCommit]]
    """Shows the file at commits that Postgres has, too, while programs write."""
    verify_back: Callable[[Session], str]
    """The same in phase 3, while nothing is written in Postgres."""
    prepare: Callable[[], str]
    """Has reads in Postgres be quick from the first one on; raises ``MirrorError`` where they cannot be."""
    reverse_window: timedelta | None = None
    """How long the way back is to be open; None: until it is ended by a command."""
    only_reads: bool = False
    """Whether it is to go to phase 2 and no further."""
    ending: Finalize = field(default_factory=Finalize)
    operator: Operator | None = None
    """Who has the move go on, if it waits (:mod:`mirror.cutover.waiting`)."""
    faults: Faults = no_fault
    """Called inside of steps that change more than one thing."""
    conn: Session = field(init=False)
    source_id: int = field(init=False)
    adopted: bool = field(init=False)
    """Whether it is mirrored into an application's own tables."""
    agent: str | None = field(init=False)
    phase: Phase = field(init=False)
    targets: list[Target] = field(init=False)
    fence: Fence | None = field(init=False, default=None)
    mover: ControlClient | None = field(init=False, default=None)
    """While programs write nothing to the file."""
    epoch: int = field(init=False, default=0)
    """Of the mirror that has programs wait."""
    since: str = field(init=False, default="")
    """The snapshot of Postgres from which on what is written there is compared while programs wait."""
    held: Session | None = field(init=False, default=None)
    """A transaction that keeps programs from writing in Postgres."""
    doing: str = field(init=False, default="")
    """How far a step is, for people who wait for it."""

    def __post_init__(self) -> None:
        """Connect to Postgres. Raises ``SinkError``."""
        self.conn = connect(self.dsn, name="mirror cutover", raw=True)
        try:
            with translated("move a source", str(self.source)):
                require_known_schema(self.conn)
                query = (
                    "SELECT source_id, agent_id FROM mirror.sources WHERE path = $1::text AND schema_name = $2::text"
                )
                (made,) = self.conn.execute("SELECT to_regclass('mirror.phase') IS NOT NULL").fetchone() or (False,)
                row = made and self.conn.execute(query, (str(self.source), self.schema)).fetchone()
                if not row:
                    raise UnknownSourceError(
                        "move a source", str(self.source), "it is not mirrored here", next_step="run `mirror up`"
                    )
                self.source_id, self.agent = row
                self.adopted = decisions.load(self.conn, self.source_id) is not None
                self.targets = list(load_targets(self.conn, self.source_id, self.agent).values())
                self.phase = phase.read(self.conn, self.source_id)
        except BaseException:
            self.conn.close()
            raise

    def read(self) -> None:
        """Read the phase again. Raises ``SinkError``."""
        with translated("read the phase", str(self.source)):
            self.phase = phase.read(self.conn, self.source_id)

    def close(self) -> None:
        """Release everything."""
        if self.mover is not None:
            self.mover.close()
        self.release_file()
        self.release_postgres()
        self.ending.close()
        self.conn.close()

    def begin_alone(self) -> None:
        """Raises ``FencedError`` if another command moves the source, or waits to."""
        deadline = time.monotonic() + ENDED_SECONDS
        while True:
            with translated("move a source", str(self.source)):
                if moving.take(self.conn, self.source_id):
                    return
            if time.monotonic() > deadline:
                step = (
                    "wait for it, or end it: it then undoes what it has done; `mirror cutover status` shows its steps"
                )
                raise FencedError("move a source", str(self.source), "another command moves it", next_step=step)
            time.sleep(0.1)

    def take(self, number: int | None) -> None:
        """Begin a move to a phase. Raises ``SinkError``."""
        with translated("begin a move", str(self.source)):
            self.phase = phase.take(self.conn, self.source_id, number)

    def note(self, step: str, event: Event, detail: str = "") -> None:
        """Log an event of a step."""
        with translated("log a move", str(self.source)):
            phase.log(self.conn, self.source_id, self.phase.epoch, step, event, detail)

    def begun(self) -> set[str]:
        """The words of the steps that the last command to move the source has begun."""
        with translated("read the log of a move", str(self.source)):
            return phase.begun(self.conn, self.source_id, self.phase.epoch)

    def change(self, assignments: str) -> None:
        """Change the row of the phase."""
        with translated("change the phase", str(self.source)):
            phase.change(self.conn, self.source_id, self.phase.epoch, assignments)

    def control(self) -> ControlClient:
        """A conversation with the running mirror. Raises ``NotRunningError``."""
        return ControlClient(self.folder)

    # -- the file and Postgres, kept from being written ---------------------------------------------

    def judge_reads(self) -> str:
        """The guard rails of reads from Postgres, and whether the configuration can say so."""
        flags.require_writable(self.settings, self.configured(2))
        return self.judge(2)

    def judge_switch(self) -> str:
        """The guard rails, and whether programs can be kept out as the operator has chosen."""
        self._require_fence()
        return self.judge(3)

    def judge_way_back(self) -> str:
        """Whether programs can go back to the file."""
        flags.require_writable(self.settings, self.configured(2))
        return self.require_way_back()

    def _require_fence(self) -> None:
        """Raise ``MirrorError`` if the file is to be renamed and cannot be, or the configuration not be written."""
        flags.require_writable(self.settings, self.configured(3))
        if self.kept == "rename":
            renaming.require_possible(self.source)

    def fence_file(self) -> str:
        """Take the file's write lock."""
        self._require_fence()
        self.fence = Fence(self.source)
        return ""

    def release_file(self) -> None:
        """Let programs write to the file again."""
        if self.fence is not None:
            self.fence.release()
            self.fence = None

    def hold_postgres(self) -> str:
        """Keep programs from writing to the tables in Postgres; they may read."""
        deadline, locks = time.monotonic() + WAIT_SECONDS, TableLocks()
        tables = [(target.schema, target.name) for target in self.targets]
        while True:
            try:
                self.held = connect(self.dsn, name="mirror cutover", raw=True, autocommit=False)
                with translated("hold the tables in Postgres", str(self.source)):
                    locks.take(self.held, tables, "SHARE ROW EXCLUSIVE")
                return counted(len(self.targets), "table")
            except SinkError as error:
                # A program's transaction may wait for a table that is locked here, and be waited for here.
                self.release_postgres()
                if not error.retryable or time.monotonic() > deadline:
                    raise

    def release_postgres(self) -> None:
        """Let programs write in Postgres again."""
        if self.held is not None:
            self.held.close()
            self.held = None

    # -- steps ----------------------------------------------------------------------------------------

    def install_capture(self) -> str:
        """Make the triggers of the way back, switched off."""
        with translated("prepare the way back", str(self.source)):
            capture.install(self.conn, self.source_id, self.targets)
        return counted(len(self.targets), "table")

    def watch_mirror(self) -> str:
        """Capture what the mirror writes from now on: it is compared once more when nothing is written any more."""
        with translated("prepare the way back", str(self.source)):
            capture.switch_on(self.conn, self.source_id, self.targets)
            # Its transactions before are over in each table: switching on has waited for them.
            ((self.since,),) = self.conn.execute("SELECT pg_current_snapshot()::text").fetchall()
        return ""

    def begin_pause(self) -> str:
        """Have programs on storage adapters wait."""
        deadline = time.monotonic() + WAIT_SECONDS
        self.mover = self.control()
        while True:
            self.epoch = self._epoch()
            try:
                self.mover.begin_move()
                return ""
            except SourceError as error:  # it is behind at this moment
                if not error.retryable or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def _epoch(self) -> int:
        """Raised by each mirror that takes the source, or connects again."""
        with translated("look at the mirror", str(self.source)):
            ((epoch,),) = self.conn.execute(
                "SELECT epoch FROM mirror.sources WHERE source_id = $1::bigint", (str(self.source_id),)
            ).fetchall()
        return int(epoch)

    def end_pause(self) -> None:
        """Have them go on, where the row of the phase says."""
        if self.mover is not None:
            mover, self.mover = self.mover, None
            with mover:
                mover.end_move()

    def compare_again(self) -> str:
        """Compare what the mirror has written since :meth:`watch_mirror`."""
        with translated("compare again", str(self.source)):
            now = list(load_targets(self.conn, self.source_id, self.agent).values())
        if now != self.targets:
            detail = "tables were made or changed while they were compared"
            raise SourceError("compare again", str(self.source), detail, next_step="try again", retryable=True)
        return self.verify_again(self.conn, self.since)

    def compare_all(self) -> str:
        """Compare all rows, and then again what was written meanwhile."""
        said = self.verify()
        targets = {target.source: target for target in self.targets}
        with self.commits() as at_commit:
            self.since = narrowing.narrow(self.conn, self.source_id, targets, self.since, at_commit, str(self.source))
        return said

    def remove_capture(self) -> None:
        """Remove them."""
        with translated("remove the way back", str(self.source)):
            capture.remove(self.conn, self.source_id)

    def drain(self) -> str:
        """Wait until Postgres has everything; the file is fenced, so a second look must find nothing more."""
        begun = time.monotonic()
        with self.control() as client:
            first = client.settle()
            if (again := client.settle()) != first:
                raise ControlError("drain the mirror", str(self.source), f"something wrote after the fence: {again}")
        return f"at {first}, in {1000 * (time.monotonic() - begun):,.0f} ms"

    def set_sequences(self) -> str:
        """Set each sequence of a mirrored table above the highest number that was given."""
        with translated("set sequences", str(self.source)):
            free = sequences.known(self.conn, self.source_id, self.settings.sequences)
            return sequences.set_all(self.conn, self.source, self.targets, free)

    def turn_mirror(self) -> str:
        """Have the running mirror go the other way."""
        mover, self.mover = self.mover, None
        if mover is not None:
            with mover, suppress(ControlError):  # it has ended: one that starts finds the seal
                mover.end_move()
        return self._await_mirror({MirrorPhase.REVERSE}, ask=True)

    def _await_mirror(self, phases: set[MirrorPhase], *, ask: bool = False) -> str:
        """Wait for a mirror in one of these phases. ``ask``: have it look at the seal again and again until then."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                with self.control() as client:
                    status = client.status()
                    if status.phase not in phases and ask:
                        client.end_move()
                if status.phase in phases:
                    return str(status.phase)
                why = status.last_error or str(status.phase)
            except ControlError as error:
                why = str(error)
            if time.monotonic() > deadline:
                raise ControlError("turn the mirror", str(self.source), why, next_step="look at `mirror status`")
            time.sleep(0.02)

    def flip(self, number: int) -> str:
        """Write a phase to the configuration."""
        return flags.write(self.settings, self.configured(number))

    def configured(self, number: int) -> int:
        """What the configuration is to say, with this source in a phase and the others in theirs."""
        others = [str(entry.path) for entry in self.settings.configured if entry.path != self.source]
        with translated("read the phases of the other sources", str(self.source)):
            rows = self.conn.execute(
                "SELECT coalesce(CASE WHEN p.sealed_at IS NOT NULL THEN 3 ELSE least(p.phase, 2) END, 1)"
                " FROM unnest($1::text[]) AS o(path) LEFT JOIN (mirror.sources s JOIN mirror.phase p USING (source_id))"
                " ON s.path = o.path",
                (others,),
            ).fetchall()
        return flags.configured([number, *(row[0] for row in rows)])

    def flip_to_postgres(self) -> str:
        """Write phase 3 to the configuration, and keep the fence until running programs have noticed."""
        said = self.flip(3)
        time.sleep(NOTICED_SECONDS)
        return said

    def keep_out(self) -> str:
        """Keep programs from writing to the file from now on, as the operator has chosen; the fence is released."""
        kept = self.kept_now()
        said = KEPT[kept]
        if kept == "rename" and is_stand_in(self.source):  # done before; the mirror holds the lock
            return f"{said} {where(self.source).name}"
        if kept in ("abort", "rename"):
            fence = self.fence or Fence(self.source)
            try:
                if kept == "abort":
                    said = f"{said} of {counted(fence.refuse(), 'table')}"
                else:
                    said = f"{said} {fence.hide(self.faults).name}"
                    with suppress(ControlError), self.control() as client:
                        # Between the answers to both it looks where the file is: so it has it open, and waits.
                        client.status()
                        client.status()
            finally:
                fence.release()
        self.release_file()
        return said

    def kept_now(self) -> str:
        """How programs are kept from writing to the file: what the command that sealed the source has recorded."""
        with translated("read the phase", str(self.source)):
            return phase.read(self.conn, self.source_id).fence

    def open_file(self) -> str:
        """Remove from the file what keeps programs out, if anything in it does; or give it its name back."""
        kept = self.kept_now()
        if kept not in ("abort", "rename"):
            return ""
        self.change("opening = true")
        fence = Fence(self.source)
        try:
            if kept == "abort":
                fence.admit()
            else:
                fence.show(self.faults)
        finally:
            fence.release()
        return "its triggers are removed" if kept == "abort" else "it has its own name again"

    def shut_file(self) -> None:
        """Put it back."""
        if self.phase.sealed_at is not None:
            self.keep_out()
            self.change("opening = false")

    def flip_back(self) -> None:
        """Write the phase that it was."""
        self.flip(self.phase.number)

    def end(self, number: int) -> str:
        """Record that the move is over."""
        self.change(f"phase = {int(number)}, moving_to = NULL")
        return f"phase {number}"

    def require_way_back(self) -> str:
        """Raise ``SinkError`` if the file does not have what was written in Postgres."""
        with translated("look at the way back", str(self.source)):
            row = self.conn.execute(
                "SELECT r.lost, (SELECT count(*) FROM mirror.reverse_rejects j WHERE j.source_id = r.source_id)"
                " FROM mirror.reverse r WHERE r.source_id = $1::bigint",
                (str(self.source_id),),
            ).fetchone()
        lost, rejects = row if row is not None else ("it was never begun", 0)
        if lost is not None:
            step = "`mirror cutover finalize` ends it"
            raise SinkError("go back to the file", str(self.source), f"the way back is lost: {lost}", next_step=step)
        if rejects:
            raise SinkError(
                "go back to the file",
                str(self.source),
                f"it does not take {counted(rejects, 'row')} that Postgres has",
                next_step="`mirror rejects list` shows them: change or delete them in Postgres",
            )
        with translated("look at the way back", str(self.source)):
            strays.require_none(self.conn, self.source_id, str(self.source))
        return ""

    def drain_back(self) -> str:
        """Wait until the file has everything that was written in Postgres."""
        begun = seen = time.monotonic()
        while True:
            with translated("drain the way back", str(self.source)):
                row = self.conn.execute(
                    "SELECT r.lost, EXISTS (SELECT FROM mirror.outbox o WHERE o.source_id = r.source_id"
                    " AND NOT pg_visible_in_snapshot(o.xid, r.snapshot))"
                    " FROM mirror.reverse r WHERE r.source_id = $1::bigint",
                    (str(self.source_id),),
                ).fetchone()
            if row == (None, False):
                return self.require_way_back()
            self.require_way_back()
            now = time.monotonic()
            with suppress(NotRunningError), self.control():
                seen = now
            if now > min(begun + WAIT_SECONDS, seen + GONE_SECONDS):  # programs wait meanwhile
                why = "it takes too long" if seen == now else "no mirror runs any more"
                step = "look at `mirror status`" if seen == now else "start `mirror up`, and call this again"
                raise ControlError("drain the way back", str(self.source), why, next_step=step)
            time.sleep(0.01)

    def turn_back(self) -> str:
        """Have the mirror see that the file is the original again, and say so to programs."""
        try:
            with self.control() as client:
                client.end_move()
        except NotRunningError:
            return "no mirror runs: one that starts says so"
        return self._await_mirror(set(MirrorPhase) - {MirrorPhase.REVERSE})

    def await_following(self) -> str:
        """Wait until the mirror follows the file again."""
        return self._await_mirror({MirrorPhase.FOLLOWING})

    def __enter__(self) -> Move:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
