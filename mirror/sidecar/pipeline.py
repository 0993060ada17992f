"""The only loop: one source to one Postgres, with its state, retries and back-off.

Capture runs in another process and spools what is committed; this loop reads the spool, decodes, applies, and advances
the shadow. The order of a batch is: Postgres commits rows and position in one transaction; then the shadow and its page
map advance, in memory; now and then the shadow is saved and the spool pruned. Postgres' position is authoritative:
after any interruption the loop reads it; where the shadow is behind, the spool is decoded up to there, and not applied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from mirror.capture.link import CaptureLink
from mirror.core.backoff import Backoff
from mirror.core.errors import (
    FencedError,
    FormatError,
    MirrorError,
    ReplacedError,
    SealedError,
    SinkError,
    SourceError,
    StateError,
)
from mirror.core.faults import Faults, no_fault
from mirror.core.positions import Lsn
from mirror.core.status import Phase
from mirror.postgres.keeper import Keeper
from mirror.postgres.profiles import PROFILES
from mirror.postgres.rules import with_rules
from mirror.postgres.sink import Sink
from mirror.replica.batches import GapFound, PageBatch
from mirror.replica.images import Images
from mirror.replica.replica import Replica
from mirror.replica.shadow import Shadow
from mirror.replica.source_connection import SourceConnection
from mirror.replica.spool_reader import SpoolReader
from mirror.sidecar.capture_feed import CaptureFeed
from mirror.sidecar.carry_back import carry_back, require_unmoved, sealed_by
from mirror.sidecar.comparison import compare_pages, record_gaps
from mirror.sidecar.copy_progress import CopyProgress
from mirror.sidecar.crew import Rest
from mirror.sidecar.deliver import deliver
from mirror.sidecar.first_copy import copy_source, load
from mirror.sidecar.hooktalk.facade import HookTalk
from mirror.sidecar.hooktalk.replay import Step
from mirror.sidecar.mailbox import Mailbox, Paused, Stopped
from mirror.sidecar.publishing import Publishing
from mirror.sidecar.recognise import is_recognised, may_be_known
from mirror.sidecar.reconcile import Remedy, disagreement, would_undo
from mirror.sidecar.repose import Repose, Shared
from mirror.sidecar.requests import Requests
from mirror.sidecar.seats import Seats
from mirror.sidecar.source_folder import SourceFolder, SourceTask, located
from mirror.sidecar.status import SourceStatus
from mirror.sidecar.table_repair import TableRepairs
from mirror.sidecar.told import Told

FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 5.0
#: Shorter than for a server: looking for a file costs little.
LONGEST_SOURCE_BACKOFF = 1.0


class Pipeline:
    """One source's loop.

    Thread: one at a time, that in which :meth:`turns` goes on. Others use ``requests``, ``status`` and :meth:`stop`.
    """

    def __init__(
        self,
        task: SourceTask,
        folder: SourceFolder,
        link: Callable[[], CaptureLink],
        faults: Faults = no_fault,
        shared: Shared | None = None,
    ) -> None:
        """``folder``: the source's folder, locked. ``link``: connects to capture, which may have been restarted.

        ``faults``: called with the names of the places where tests kill the process. ``shared``: with other sources.
        """
        self.task = task
        self.status = SourceStatus(str(task.database), task.schema, feed=task.changes, called=task.name)
        self.error: MirrorError | None = None
        self.bug: Exception | None = None
        """``error``: why the loop has ended; ``bug``: the exception behind it, if it was an unexpected one."""
        self._faults, self._folder = faults, folder
        self._feed = CaptureFeed(task.database, link, task.name)
        self._source = SourceConnection(task.database, awaits=not task.resume_only, link=task.link)
        self._reattach = self._returned = ""
        self._may_discard, self._may_replace = task.discard_writes, task.replace_rows or task.discard_writes
        self._replica: Replica | None = None
        self._agreed = self._distrusted = False
        self._backoff = Backoff(FIRST_BACKOFF, LONGEST_BACKOFF)
        self._repairs = TableRepairs(task)
        self._mailbox = Mailbox()
        self._shared = shared or Shared(Seats(), Keeper(task.dsn))
        self._told = Told(task, self.status, self._shared.server)  # before anything says when a mirror was here last
        self._publishing = Publishing(task.folder, task.name)
        self.requests = Requests(self.status, self._mailbox, self._feed, self._repairs, self._publishing)
        """The requests of other threads."""
        self.hooks = HookTalk(self.requests.look_soon)
        self._repose = Repose(
            folder, self._feed, self._mailbox, self.status, self._source, self._publishing, self.hooks, self._needed,
            self._shared,
        )  # fmt: skip
        self._pump, self._check, self.pause = self._repose.pump, self._repose.check, self._repose.pause
        self.copying = CopyProgress(self.status, self._check)
        self._spool = SpoolReader(task.folder / "spool", faults)
        self._images = Images(task.folder, self._spool)

    def stop(self) -> None:
        """Ask the loop to end: it saves the shadow and returns. Thread: any."""
        self._repose.stop()

    @property
    def _sink(self) -> Sink | None:
        return self._repose.sink

    # -- the loop ----------------------------------------------------------------------------------

    def turns(self) -> Iterator[Rest]:
        """Mirror until :meth:`stop`; an error that no retry can help ends the loop and stays in ``error``."""
        try:
            try:
                while True:
                    try:
                        try:
                            yield from self._attempt()
                        except (FencedError, SealedError) as error:
                            self._carry_back(sealed_by(self.task, error))
                    except Paused:
                        self._finish()
                        yield from self._repose.stand_still(self._open_sink, self.requests)
            except Stopped:
                self._finish()
        except MirrorError as error:
            self._fail(error)
        except Exception as error:
            # It ends only this source; the state is as after a kill.
            self.bug = error
            self._fail(MirrorError("run the mirror", str(self.task.database), f"{type(error).__name__}: {error}"))
        finally:
            self._close()

    def _fail(self, error: MirrorError) -> None:
        self.error = error
        self.status.has_failed(error)

    def _carry_back(self, sealed: SealedError) -> None:
        """Go the other way, until the source is not sealed any more."""
        self._repose.drop()
        self._feed.disconnect()
        self._source.close()
        self._forget_copy()
        self.requests.seal(sealed)
        loop = (self._mailbox.serve, self._check, self._repose.stopping, self._faults, self._publishing)
        carry_back(self.task, self.status, *loop, lambda: self.hooks.hooked.writers, self.requests.agreements)
        self.requests.seal(None)
        self._returned = self.status.returns()
        self._source.was_ours()

    def _attempt(self) -> Iterator[Rest]:
        """Connect and follow until an error; return if trying again may help, or nothing is to be written."""
        try:
            if self._repose.kept is not None and self._replica is not None and self._feed.attached:
                yield from self._repose.rest_apart(self._needs_postgres)
            if self._sink is None:
                yield from self._repose.await_seat(copies=self._replica is None)
            self._connect()
            yield from self._follow()
            return
        except OSError as error:
            problem = located(error, self.task)
        except MirrorError as error:
            problem = error
        while True:
            self._interrupted(problem)
            if not problem.retryable or isinstance(problem, FencedError):
                # Fenced: a mirror that starts second ends with this error at once; so does one that lost the source.
                raise problem
            try:
                seconds = self._backoff.next(LONGEST_SOURCE_BACKOFF if isinstance(problem, SourceError) else None)
                yield from self._repose.hold_off(seconds)
                return
            except MirrorError as error:
                problem = error

    def _interrupted(self, error: MirrorError) -> None:
        start_over = isinstance(error, FormatError) and not self._distrusted
        if start_over:
            error.retryable, error.next_step = True, "nothing: the source is copied again"
        self._told.is_interrupted(error)
        self.status.is_interrupted(error)
        self.copying.ends()
        self._publish()
        self.status.keep(self.task.folder)
        self._repose.is_interrupted(of_postgres=isinstance(error, SinkError))
        if isinstance(error, ReplacedError):
            self._reattach = error.reason
            self._feed.doubt = self._source.leave(error)
        elif start_over:
            # The copy of the source or the spool is wrong: copy the source again, once. What is damaged then is so in
            # the source.
            self._distrusted, self._agreed = True, False
            self._forget_copy()

    def _forget_copy(self) -> None:
        """Copy it again: what changes in Postgres alone, and back in the file, does not differ from the copy."""
        if self._replica is not None:
            self._replica.close()
            self._replica = None
        Shadow.discard(self.task.folder)

    def _finish(self) -> None:
        if not self._repose.pausing.is_set():
            self.status.phase = Phase.STOPPED
        else:
            self._told.pauses()
        if self._replica is not None and self._agreed and self._replica.changed:
            self._folder.check(self._needed())
            self._replica.save()

    def _close(self) -> None:
        """Close everything, even if closing one part fails, and save the final status."""
        own = (
            self._mailbox, self._feed, self._source, self._repose, self._replica, self._repairs, self._images,
            self._spool, self.copying,
        )  # fmt: skip
        self._publishing.close()
        with ExitStack() as stack:
            stack.callback(self.status.keep, self.task.folder)
            for part in reversed(own):
                if part is not None:
                    stack.callback(part.close)
        self.requests.has_changed()

    def _connect(self) -> None:
        """Open whatever is not open, and agree with Postgres, in whatever state the last run or error left things."""
        if not self._folder.is_whole(self._needed()):
            self._renew_folder()
        require_unmoved(self.task)
        if self._source.connect():
            # Inode numbers are reused: only a comparison of pages shows what this file is.
            self._feed.attached, self._reattach = False, self._reattach or "the database file was replaced"
            self.hooks.reopened()
        self._feed.connect()
        if self._replica is None:
            self._replica = Replica.open(self.task.folder, self._spool, self._images, self._faults)
        if not self._feed.attached:
            known = self._replica.head.lsn if self._replica is not None else Lsn.parse(self.status.applied or "0:0")
            begin = self._feed.attach(known.generation + 1, self._reattach, self._pump)
            self._reattach = ""
            if self._replica is not None and begin.place < self._replica.head.place:
                why = f"it ends at {begin.lsn}, before the saved position {known}"
                raise FormatError("go on in the spool", str(self.task.folder), why)
        self.status.capture = "WAL" if self._source.in_wal_mode else "pages"
        if self._sink is None:
            self._open_sink()
        self.task.remember()
        if not self._agreed:
            assert self._sink is not None
            self._repairs.read_by_rules(self._replica, self._sink)
            self._agree()
            self._agreed = True
            self._repairs.follow_rules(self._replica, self._sink)
            self._sink.run_after_copy(self._check)
            self._told.looks(self._sink, definitions=False)  # what rules have changed is said there
            self._may_discard = self._may_replace = self._sink.may_replace = False  # it was said of what was there
        self._repose.has_copied()
        self._update_status()

    def _open_sink(self) -> None:
        task, source = self.task, str(self.task.database)
        sink = Sink.open(
            task.dsn, source, task.schema, with_rules(PROFILES, task.rules),
            agent=task.agent, unnamed=task.unnamed,
            keeper=self._shared.keeper, faults=self._faults, changes=task.changes,
        )  # fmt: skip
        self._repose.begins(sink)
        self.status.remembers(sink.ledger.gaps(), sink.ledger.discrepancies())
        self._told.has_opened(sink)
        sink.may_replace, self._agreed = self._may_replace, False

    def _needed(self) -> range:
        """Numbers of the spool segments that must exist."""
        if self._replica is None or self._feed.until is None:
            return range(0)
        return range(self._replica.first_segment, self._feed.until.segment + 1)

    def _renew_folder(self) -> None:
        """The state directory, or a part of it, was deleted: make and lock it again, and go on with what is left."""
        if self._replica is not None:
            self._replica.close()
            self._replica = None
        self._images.close()
        self._spool.close()
        self._agreed = self._feed.attached = False
        self._feed.until = None
        if self._sink is not None:
            self._sink.read_position()
        try:
            self._folder.renew()
        except StateError as error:
            # Another mirror may have it now. While we have the source's lock in Postgres, that one is refused there.
            error.retryable = self._sink is not None
            raise
        self._publishing.renew()

    def _follow(self) -> Iterator[Rest]:
        """Follow until the source's session in Postgres is closed, because another source needs one."""
        while self._sink is not None:
            replica = self._replica
            assert replica is not None
            self._require_its_name()
            if not self._mailbox.held:
                attach = partial(self._feed.attach, replica.head.lsn.generation + 1, pump=self._pump)
                self._repairs.turn(replica, self._sink, attach, self._update_status)
            self.hooks.check(self._sink.ledger, self.status)
            self.status.looks_at_reads(self._sink.ledger)
            replica.save_now_and_then(self._feed.until)
            found = self._next(replica)
            if self.status.capture == "pages" and not self._mailbox.held:
                step = self.hooks.step(replica, self._sink, found, lambda: self._source.reader().header())
                if step in (Step.DONE, Step.WAIT):
                    self.status.phase = Phase.FOLLOWING
                    self._update_status()
                    self._pump(0.0 if step is Step.DONE else 0.002)
                    continue
                if found is None and self.hooks.wants_comparison():
                    self._feed.attach(replica.head.lsn.generation + 1, "", self._pump)
                    continue
            if found is None:
                self._backoff.reset()
                self._caught_up(replica)
                yield from self._repose.rest(replica)
                continue
            if isinstance(found, GapFound):
                self._rediff(replica, found)
            elif why := replica.another_form(found):
                self._resync(why)
                self._update_status()
            else:
                self.status.phase = Phase.FOLLOWING
                self.copying.reads(replica.head.place, self._feed.until)
                self._apply(replica, found)
            self._backoff.reset()
            yield from self._repose.moves()
            if self._repose.is_over and not self._mailbox.held:
                self._repose.leave_postgres()

    def _needs_postgres(self) -> bool:
        """Whether a source without a session there needs one: called each time that something comes."""
        assert self._replica is not None
        self._require_its_name()
        if self._mailbox.held or self._repairs.asked or self._publishing.moving:
            return True
        if (self.status.capture == "pages" and self.hooks.hooked.writers) or self._next(self._replica) is not None:
            return True
        self.status.has_caught_up(self._feed.error, self._feed.behind)
        self._told.follows()
        return False

    def _require_its_name(self) -> None:
        """Raise ``SourceError`` while what programs write may be somewhere else than in the files that are followed."""
        doubt = self._source.doubt()
        if doubt != self._feed.doubt:
            self._feed.doubt = doubt
            self.requests.has_changed()
        if doubt:
            raise SourceError("follow the source", str(self.task.database), doubt, retryable=True)

    def _next(self, replica: Replica) -> PageBatch | GapFound | None:
        limit = self._mailbox.limit(replica.position)
        return None if limit == replica.head.lsn else replica.next(self._feed.until, limit)

    def _caught_up(self, replica: Replica) -> None:
        self.copying.ends()
        captured = self._feed.captured
        if not self._mailbox.held and (captured is None or replica.head.lsn >= captured):
            self.status.has_caught_up(self._feed.error, None if self.hooks.keep_up() else self._feed.behind)
            self._told.follows()
            self._distrusted = False
        self._publish()

    # -- agreeing with Postgres --------------------------------------------------------------------

    def _agree(self) -> None:
        """Bring replica and Postgres to one position; copies the source whole only where nothing less helps."""
        assert self._sink is not None
        self.status.phase = Phase.CATCHING_UP
        self._publish()
        written = self._sink.ledger.written_at()
        if written is not None and not self._may_discard:
            raise would_undo(self.task, written)
        remedy, why = disagreement(self._replica, self._sink, self.task, self._feed.until, self._check, bool(written))
        if remedy is Remedy.COPY:
            self._resync(self._returned or why)
        elif remedy is Remedy.LOAD and self._replica is not None:
            if self._sink.position != self._replica.position:
                self._forbid_resync(f"{why}; the state directory is at {self._replica.head.lsn}")
            self._load(self._replica, why, again=True)
        if written is not None:
            self._sink.ledger.forget_writes()

    def _forbid_resync(self, reason: str) -> None:
        if self.task.resume_only:
            raise StateError("resume the mirror", str(self.task.database), reason, next_step="run `mirror up` for it")

    def _apply(self, replica: Replica, found: PageBatch, *, compared: bool = False) -> None:
        """Apply a batch. ``compared``: it comes from comparing pages, so its commits are not known one by one."""
        assert self._sink is not None
        schema = replica.schema
        self.hooks.begin(replica, found, compared=compared)
        results, changes = deliver(replica, self._sink, found, self._check, self.hooks.on_rows, self.hooks.told)
        self._told.looks(self._sink, changes)
        self.hooks.end(replica, self._source.inode)
        self.status.has_applied(found.commits, results, compared=compared)
        if may_be_known(self.task, self._sink, results, replica.schema is not schema) and is_recognised(replica):
            self._load(replica, "it was recognised as a MemuStore", again=True)
        self._update_status()

    def _update_status(self) -> None:
        assert self._replica is not None and self._sink is not None
        self.status.shows(self._replica, self._sink, PROFILES[self._sink.profile or "generic"], self.task.rules)
        self._told.looks(self._sink)
        self._publish()
        self.requests.has_changed()
        self.status.keep(self.task.folder)

    def _publish(self) -> None:
        self._publishing.update(self._sink, self.status, agreed=self._agreed)

    # -- gaps and copies ---------------------------------------------------------------------------

    def _rediff(self, replica: Replica, gap: GapFound) -> None:
        """Compare the source's pages with the shadow and apply what differs, at one position."""
        assert self._sink is not None
        began = time.monotonic()
        self.status.phase = Phase.REDIFF if gap.reason else Phase.FOLLOWING
        self._publish()
        compared = compare_pages(
            replica, self._source, self._feed, self._spool, self._images, gap, self.status,
            lambda reasons: self._record_gaps(replica, reasons), self.hooks.has_another_schema,
            self._pump, self.copying.compares, self._faults,
        )  # fmt: skip
        if not compared.unchanged:
            self._record_gaps(replica, [compared.gap.reason])
        batch = compared.batch
        if batch is None:
            self._resync(compared.another_form)
            self._update_status()
            return
        before = self.status.rows
        self._apply(replica, batch, compared=True)
        self._told.has_compared(self._sink, compared, batch.pages * batch.page_size, began, self.status.rows - before)

    def _record_gaps(self, replica: Replica, reasons: list[str]) -> None:
        assert self._sink is not None
        self._told.breaks(record_gaps(self._sink.ledger, self.status, replica.head.lsn.generation, reasons))

    def _resync(self, reason: str) -> None:
        """Copy the source whole and make Postgres equal to the copy."""
        self._forbid_resync(reason)
        if self._sink is not None:
            self._sink.others.require("a whole copy", self._sink.mappings)
        self._agreed = False
        self.status.phase = Phase.SNAPSHOT
        self._told.copies(reason, self._sink)
        self._publish()
        self._forget_copy()
        position = self._sink and self._sink.position
        floor = 1 + max((lsn.generation for lsn in (self._feed.captured, position and position.lsn) if lsn), default=0)
        replica = self._replica = copy_source(
            self.task, self._source, self._feed, self._spool, self._images, floor, self._pump, self.copying,
            self._faults,
        )  # fmt: skip
        self._faults("snapshot:copied")
        self._load(replica, reason)
        self._agreed, self._returned = True, ""

    def _load(self, replica: Replica, reason: str, *, again: bool = False) -> None:
        """Make Postgres equal to a replica; ``again``: to one that is at the same position."""
        assert self._sink is not None
        if again and replica.changed:
            replica.save()
        self._told.copies(reason, self._sink)
        self.status.phase = Phase.SNAPSHOT
        self._publish()
        self.status.resyncs.append(reason)
        load(replica, self._sink, self.task, self.copying, self._check, damaged=self._distrusted)
        self._told.has_copied(self._sink, {each.table: each.rows for each in self.copying.loaded})
        self.hooks.loaded(replica, self._source.inode)
        self.copying.ends()
