"""Copying a source whole, at the start or after a loss: the file's pages, and what is committed during the copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mirror.core.config.settings import DEFAULT_AGENT
from mirror.core.errors import FormatError, SourceError
from mirror.core.faults import Faults
from mirror.core.inherited import inherited
from mirror.core.rules import NO_RULES
from mirror.core.tables import Table
from mirror.postgres.profiles import ADOPTED
from mirror.postgres.profiles.generic import column_type
from mirror.postgres.rules import recorded_heirs
from mirror.postgres.sink import Sink
from mirror.postgres.source_copy import open_copy
from mirror.replica.batches import GapFound, PageBatch, frames_until
from mirror.replica.copy import copy_file
from mirror.replica.images import Images
from mirror.replica.replica import Replica
from mirror.replica.shadow import Shadow
from mirror.replica.source_connection import SourceConnection
from mirror.replica.spool_reader import SpoolReader
from mirror.sidecar.capture_feed import CaptureFeed
from mirror.sidecar.copy_progress import CopyProgress
from mirror.sidecar.recognise import is_recognised
from mirror.sidecar.source_folder import SourceTask
from mirror.sqlite.format.header import DatabaseHeader


def copy_source(
    task: SourceTask,
    source: SourceConnection,
    feed: CaptureFeed,
    spool: SpoolReader,
    images: Images,
    floor: int,
    pump: Callable[[], None],
    progress: CopyProgress,
    faults: Faults,
) -> Replica:
    """Copy the database file and overlay the frames that are committed during the copy.

    What is committed from now on is spooled as a new generation, numbered ``floor`` or higher. ``pump``: as for
    :meth:`~mirror.sidecar.capture_feed.CaptureFeed.attach`. What it and ``progress`` raise is raised.
    Raises ``SourceError``, ``StateError``.
    """
    begin = feed.attach(floor, "a whole copy begins", pump)
    read = source.reader()
    header = DatabaseHeader.parse(read.header())
    size = read.size  # a checkpoint may make it longer meanwhile
    copy_file(read, Shadow.database(task.folder), size, lambda done: progress.copies(done, max(done, size)))
    target = feed.await_mark(pump)
    found = frames_until(spool, begin, feed.until, target)
    if isinstance(found, GapFound):
        why = found.reason or "it was written during the copy"
        raise SourceError("copy the source", str(task.database), why, retryable=True)
    if found is None or not found.commits:
        # Nothing in the WAL but resets, or no WAL: the file alone was the database all the time.
        found = PageBatch(found.head if found else begin, {}, header.size_in(read.size), 0, header.page_size)
    read.require_whole(found.pages, found.page_size, found.images, images)
    return Replica.create(task.folder, spool, images, found, found.pages, faults)


def heirs_of(replica: Replica, sink: Sink) -> dict[str, str]:
    """As :attr:`~mirror.core.rules.Rules.inherited`: what the replica has seen, and what Postgres records."""
    return {**recorded_heirs(sink.mappings), **replica.schema.rules.inherited}


def load(
    replica: Replica,
    sink: Sink,
    task: SourceTask,
    progress: CopyProgress,
    check: Callable[[], None],
    *,
    damaged: bool = False,
) -> None:
    """Make Postgres equal to the whole replica; a copy just made is durable before Postgres commits.

    The profile is the one that the task names; else that of the last load, if it is a known program's; else the one
    that recognises the source. ``check``: called while the save of the copy is awaited; it and ``progress`` may raise.
    ``damaged``: an earlier copy had damaged pages as well, so that they are the source's: such a table is refused, with
    the rows that can be read. Raises ``SinkError``, ``FormatError``.
    """

    def report(table: str, done: int, total: int | None) -> None:
        progress.loads(table, done, total)
        if done == total:
            replica.rows_sent()

    def finish() -> Mapping[str, FormatError]:
        progress.saves()
        return replica.finish(check, damaged=damaged)

    heirs = heirs_of(replica, sink)
    profile = task.profile if sink.adoption is None else ADOPTED
    if profile is None:
        last = sink.profile or "generic"
        if last == "generic":
            replica.read_by(NO_RULES)  # a program is recognised by all of its columns
        profile = "memustore" if last == "generic" and is_recognised(replica) else last
    agent = task.agent or sink.agent or (DEFAULT_AGENT if profile == "memustore" else None)
    rules = sink.adoption.rules if sink.adoption is not None else task.rules.of(profile, agent)
    rules = rules.with_inherited(heirs)
    replica.read_by(rules)
    known = [target.known for target in sink.mappings.values()]
    if found := inherited(known, replica.schema.tables, rules):
        replica.read_by(rules.with_inherited({**rules.inherited, **found}))
    tables = list(replica.schema.tables.values())
    position, lineage = replica.position, replica.lineage
    with open_copy(replica.database) as copy:
        rows = {table.name: copy.rows_at_most(table) for table in tables}
    progress.begins(rows, [table.name for table in tables if _has_documents(table)])
    sink.load(
        replica.database,
        tables,
        replica.rows,
        position,
        lineage,
        report,
        finish,
        profile=profile,
        agent=agent,
        damaged=damaged,
    )


def _has_documents(table: Table) -> bool:
    """Whether a table has values that are converted one by one, which takes a hundred times longer than the others."""
    return any(column_type(column, of_key=False).pg_type == "jsonb" for column in table.columns)
