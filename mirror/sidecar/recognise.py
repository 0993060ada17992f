"""Recognising the file of a known program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from mirror.core.errors import DamagedError
from mirror.core.rows import TableResult
from mirror.core.tables import Table
from mirror.core.values import Row
from mirror.postgres.profiles import memustore
from mirror.postgres.sink import Sink
from mirror.replica.replica import Replica
from mirror.sidecar.source_folder import SourceTask


def is_recognised(replica: Replica) -> bool:
    """Whether the source, as the replica has it, is a MemuStore or its dashboard."""

    def rows(table: Table) -> Iterator[Row]:
        with suppress(DamagedError):  # loading the table reports it
            for change in replica.rows(table):
                if change.after is not None:
                    yield change.after

    return memustore.recognise(replica.schema.tables, rows)


def may_be_known(task: SourceTask, sink: Sink, results: Iterable[TableResult], schema_changed: bool) -> bool:
    """Whether a source stored by the generic profile may have become a MemuStore, so that it pays to check."""
    if task.profile is not None or task.resume_only or sink.profile not in (None, "generic"):
        return False
    return schema_changed or any(result.table == memustore.META for result in results)
