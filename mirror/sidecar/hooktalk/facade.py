"""What a pipeline does with the commits that hooks send: check them against the WAL, or apply them without one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from loguru import logger

from mirror.core.positions import Position
from mirror.core.rows import TableChanges, Written
from mirror.core.status import HookReport
from mirror.postgres.codecs import json_array
from mirror.postgres.ledger import Ledger
from mirror.postgres.sink import Sink
from mirror.replica.batches import GapFound, PageBatch
from mirror.replica.replica import Replica
from mirror.sidecar.hooktalk.crosscheck import CrossCheck
from mirror.sidecar.hooktalk.provenance import WriteLog, writers_of
from mirror.sidecar.hooktalk.receive import HookReceiver
from mirror.sidecar.hooktalk.replay import Replay, Step
from mirror.sidecar.status import SourceStatus
from mirror.sqlite.decode.schema import Schema
from mirror.sqlite.format.header import schema_cookie


class HookTalk:
    """The hooks of one source.

    Thread: its pipeline's; ``hooked`` also by those of the control socket.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        """``ring``: called by other threads when a hook sends something after a quiet time; without a WAL, always."""
        self.hooked = HookReceiver(ring)
        self._log = WriteLog()
        self._cross = CrossCheck(self.hooked, self._log, json_array)
        self._replay = Replay(self.hooked, self._log, json_array)
        self._schema: Schema | None = None
        self._compared = False
        self._reported: tuple[object, ...] = ()

    def begin(self, replica: Replica, found: PageBatch, *, compared: bool) -> None:
        """A batch is about to be applied. ``compared``: it comes from comparing pages, so its commits are not known."""
        self._compared, self._schema = compared, replica.schema
        if not compared:
            self.hooked.eager = False
            self._cross.begin(replica.head.lsn, replica.head.salts, found.commits, replica.schema.tables)

    def on_rows(self, tables: Iterable[TableChanges]) -> Iterable[TableChanges]:
        """The decoded rows, as they are to be applied; it is called again if Postgres refuses them."""
        assert self._schema is not None
        return self._replay.on_rows(tables, self._schema.tables) if self._compared else self._cross.on_rows(tables)

    def told(self, position: Position) -> tuple[Written, ...]:
        """Who wrote the commits of the batch, which ends there, as far as hooks have told by now."""
        return () if self._compared else writers_of(self._cross.told(position.lsn, position.salts))

    def end(self, replica: Replica, inode: int) -> None:
        """The batch has been applied, and the replica has advanced. ``inode``: the file's."""
        if self._compared:
            self._replay.take()
            self._replay.check(replica.head.lsn)
            self._replay.compared(replica.read(1), inode)
        else:
            self._cross.end(replica.head.lsn, replica.head.salts, same_schema=replica.schema is self._schema)

    def reopened(self) -> None:
        """The file at the source's path was opened again, and may be another one."""
        self._replay.reopened()

    def loaded(self, replica: Replica, inode: int) -> None:
        """Postgres was made equal to the whole replica, of the file with this inode."""
        self._replay.compared(replica.read(1), inode)

    def has_another_schema(self, page1: bytes) -> bool:
        """Whether Postgres is ahead of the replica's pages, and the file has another schema.

        ``page1``: the file's first page.
        """
        return self._replay.ahead and schema_cookie(page1) != self._replay.cookie.to_bytes(4, "big")

    def step(
        self, replica: Replica, sink: Sink, found: PageBatch | GapFound | None, header: Callable[[], bytes]
    ) -> Step:
        """Apply the commits that hooks have sent of a file without a WAL, if they explain its change.

        ``found``: the change that capture reported; None: there is none. ``header``: reads the file's header. Raises
        ``SinkError``.
        """
        self.hooked.eager = True
        self._replay.take()
        if isinstance(found, PageBatch) or (found is not None and found.reason):
            return Step.NOTHING
        if found is not None and self._replay.is_due():
            return Step.NOTHING
        return self._replay.step(replica, sink, found, header)

    def wants_comparison(self) -> bool:
        """Whether pages should be compared, because hooks' commits were applied and then nothing came for a while."""
        return self._replay.is_idle()

    def keep_up(self) -> bool:
        """Whether hooks' commits of a file without a WAL are being applied, so that nobody waits for its pages."""
        return self._replay.is_lively()

    def check(self, ledger: Ledger, status: SourceStatus) -> None:
        """Check what can be checked by now, and record the result. Raises ``SinkError``."""
        self._cross.check()
        if found := self._cross.take_found() + self._replay.take_found():
            ledger.record_discrepancies(found)
            status.discrepancies += len(found)
            logger.warning("{}: hook and file disagree: {}", status.name, found[0])
        self._log.flush(ledger)
        cross, writers = self._cross, self.hooked.writers
        figures = (cross.checked, cross.unchecked, cross.waiting, self._replay.commits, self.hooked.lost)
        if (now := (writers, figures)) != self._reported:
            self._reported = now
            checked, unchecked, waiting, applied, lost = figures
            status.hook = HookReport(
                writers=list(map(str, writers)),
                checked=checked,
                unchecked=unchecked,
                waiting=waiting,
                applied=applied,
                lost=lost,
            )
