"""Copies what LangGraph's SqliteSaver has kept in a file to its PostgresSaver, once.

The two have other tables: SQLite ``checkpoints`` and ``writes``, Postgres ``checkpoints`` without the values of the
channels, ``checkpoint_blobs`` with these by version, and ``checkpoint_writes``. So they are not mirrored: a copy is
made while no program writes. It reads the file in one transaction, and writes by PostgresSaver's own ``put`` and
``put_writes``, which do nothing twice: a copy that was killed is completed by the next. SqliteSaver does not read it:
it opens a file for writing, gives neither the paths nor the indexes of writes, and makes objects of values
(:mod:`.checkpoint_values`). AsyncSqliteSaver keeps the same tables.

``PostgresSaver.setup`` is called here, in the version that is installed: it makes tables that are missing, and is what
``put`` of that version needs.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from langgraph.checkpoint.base import WRITES_IDX_MAP, get_serializable_checkpoint_metadata
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.serde.types import TASKS
from psycopg.sql import SQL, Identifier

from mirror.adoption.checkpoint_values import AsStored, Stored, UndividedError, as_stored, divided, is_snapshot
from mirror.adoption.presets import are_checkpoints
from mirror.adoption.source import Source, open_source
from mirror.core.errors import ConfigError, RefusedError, SinkError
from mirror.core.words import one_line
from mirror.postgres.failures import sink_error, translated
from mirror.postgres.sessions import Session, connect

_OPERATION = "copy LangGraph's checkpoints"
#: What is put in one transaction; bytes of it; how many of what cannot be copied, or differs, are named.
_AT_ONCE, _BYTES_AT_ONCE, _NAMED = 1000, 16 << 20, 20
_KEY = "thread_id, checkpoint_ns, checkpoint_id"
#: Before this form of a checkpoint PostgresSaver adds to one what its parent's tasks have sent.
_SENDS_APART = 4


class Key(NamedTuple):
    """A checkpoint's."""

    thread: str
    namespace: str
    checkpoint: str

    def config(self) -> Any:
        """As savers take it; without a checkpoint it is what none comes before."""
        names = {"thread_id": self.thread, "checkpoint_ns": self.namespace}
        return {"configurable": names | ({"checkpoint_id": self.checkpoint} if self.checkpoint else {})}


class Write(NamedTuple):
    """What a task has written; the number is the index that ``put_writes`` gives it."""

    task: str
    path: str
    number: int
    channel: str
    type: str
    data: bytes


class Job(NamedTuple):
    """Something to be put into Postgres."""

    key: Key
    put: Callable[[], object]
    size: int
    """Bytes of it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A checkpoint that Postgres has not as the file has it."""

    thread: str
    namespace: str
    checkpoint: str
    detail: str


@dataclass(slots=True)
class CheckpointReport:
    """What was copied of a file. Counts are of the file, but where they say otherwise."""

    source: str
    schema: str
    threads: int = 0
    namespaces: int = 0
    """Of threads: the graph's own one, and those of its subgraphs."""
    checkpoints: int = 0
    writes: int = 0
    copied: bool = False
    """Whether it was; else it was only counted."""
    equal: int = 0
    """Checkpoints that Postgres has as the file has them, with their writes."""
    different: int = 0
    problems: list[Problem] = field(default_factory=list)
    """Those that cannot be copied or are different; of many the first."""
    in_postgres: int | None = None
    """Checkpoints that Postgres has; None: it has no such tables yet."""
    came_meanwhile: int = 0
    """Rows that programs have written to the file, or deleted, while it was copied: at least so many."""

    @property
    def good(self) -> bool:
        """Whether Postgres has all of it; of a count, whether there is anything to copy."""
        if not self.copied:
            return True
        return self.equal == self.checkpoints and not self.problems and not self.came_meanwhile

    def trouble(self, key: Key, detail: str) -> None:
        """Note that Postgres has not what the file has."""
        if len(self.problems) < _NAMED:
            self.problems.append(Problem(*key, detail))


def copy_checkpoints(
    path: Path, dsn: str, schema: str, *, dry_run: bool = False, progress: Callable[[str], object] = str
) -> CheckpointReport:
    """Copy all checkpoints and writes of a file, and compare. ``dry_run``: only count.

    ``progress`` is told what is being done. Raises ``ConfigError`` if the file has no such tables, ``SourceError``,
    ``SinkError``.
    """
    report = CheckpointReport(str(path), schema)
    with open_source(path) as source:
        tables = {name: table.columns for name, table in source.declarations.tables.items()}
        if not are_checkpoints(tables):
            detail = "it has no tables of LangGraph's SqliteSaver (checkpoints, writes)"
            raise ConfigError(_OPERATION, str(path), detail, next_step="name the file that its programs write")
        with source.at_one_moment():
            before = _mark(source)
            _count(report, source)
            with connect(dsn, name="mirror adopt") as conn, translated(_OPERATION, schema):
                _use(conn, schema)
                if dry_run:
                    report.in_postgres = _in_postgres(conn)
                    return report
                _set_up(conn)
                _copy(report, source, conn, progress)
                _compare(report, source, conn, progress)
                report.in_postgres = _in_postgres(conn)
    with open_source(path) as source:
        report.came_meanwhile = _difference(before, _mark(source))
    report.copied = True
    return report


# -- the file --------------------------------------------------------------------------------------------


def _count(report: CheckpointReport, source: Source) -> None:
    ((report.checkpoints, report.threads),) = source.read("SELECT count(*), count(DISTINCT thread_id) FROM checkpoints")
    ((report.namespaces,),) = source.read(
        "SELECT count(*) FROM (SELECT DISTINCT thread_id, checkpoint_ns FROM checkpoints)"
    )
    ((report.writes,),) = source.read("SELECT count(*) FROM writes")


def _mark(source: Source) -> list[tuple[int, int]]:
    """By table the number of its rows, and the highest rowid: a row that is replaced gets a new one."""
    found = []
    for table in ("checkpoints", "writes"):
        ((count, last),) = source.read(f"SELECT count(*), ifnull(max(rowid), 0) FROM {table}")
        found.append((int(count), int(last)))
    return found


def _difference(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> int:
    return sum(max(abs(new[0] - old[0]), abs(new[1] - old[1])) for old, new in zip(before, after, strict=True))


def _checkpoints(source: Source) -> Iterator[tuple[Key, tuple[str | None, str, bytes, bytes | None]]]:
    """Each checkpoint, by thread and namespace from the first one on: its parent, type, bytes, and metadata."""
    rows = f"SELECT {_KEY}, parent_checkpoint_id, type, checkpoint, metadata FROM checkpoints ORDER BY {_KEY}"
    for thread, namespace, checkpoint, parent, kind, data, metadata in source.read(rows):
        yield Key(thread, namespace, checkpoint), (parent or None, kind or "", data or b"", metadata)


def _writes(source: Source, where: str = "", values: Sequence[str] = ()) -> Iterator[tuple[Key, list[Write]]]:
    """By checkpoint, all that tasks have written after it."""
    declared = source.declarations.table("writes")
    path = "task_path" if declared is not None and "task_path" in declared.columns else "''"
    rows = source.read(
        f"SELECT {_KEY}, task_id, {path}, idx, channel, type, value FROM writes {where} ORDER BY {_KEY}, task_id, idx",
        values,
    )
    for key, found in groupby(rows, lambda row: Key(*row[:3])):
        yield key, [_write(*row[3:]) for row in found]


def _write(task: str, path: str, index: int, channel: str, kind: str | None, data: bytes | None) -> Write:
    return Write(task, path, WRITES_IDX_MAP.get(channel, index), channel, kind or "", data or b"")


def _metadata(key: Key, metadata: bytes | str | None) -> Any:
    """What PostgresSaver keeps of a checkpoint's metadata: all but what LangGraph before 2025 noted of writes."""
    found: Any = {} if metadata is None else json.loads(metadata)
    return get_serializable_checkpoint_metadata(key.config(), found)


# -- into Postgres ---------------------------------------------------------------------------------------


def _use(conn: Session, schema: str) -> None:
    """Have PostgresSaver's names be those of a schema."""
    if conn.execute("SELECT to_regnamespace(quote_ident(%s)) IS NULL", (schema,)).fetchone() == (True,):
        raise ConfigError(_OPERATION, schema, "there is no schema of this name", next_step="correct --schema")
    conn.execute(SQL("SET search_path = {}, pg_catalog, pg_temp").format(Identifier(schema)))


def _set_up(conn: Session) -> None:
    newest = len(PostgresSaver.MIGRATIONS) - 1
    if conn.execute("SELECT to_regclass('checkpoint_migrations') IS NOT NULL").fetchone() == (True,):
        row = conn.execute("SELECT max(v) FROM checkpoint_migrations").fetchone()
        if row is not None and row[0] is not None and row[0] > newest:
            raise SinkError(
                _OPERATION,
                "checkpoint_migrations",
                f"a newer PostgresSaver has made the tables (version {row[0]}, not {newest})",
                next_step="pip install -U langgraph-checkpoint-postgres",
            )
    _saver(conn).setup()


def _saver(conn: Session) -> PostgresSaver:
    made: Any = conn  # whatever rows it has: the saver's cursors have their own
    return PostgresSaver(made, serde=AsStored())


def _in_postgres(conn: Session) -> int | None:
    if conn.execute("SELECT to_regclass('checkpoint_blobs') IS NULL").fetchone() == (True,):
        return None
    row = conn.execute("SELECT count(*) FROM checkpoints").fetchone()
    return None if row is None else int(row[0])


def _copy(report: CheckpointReport, source: Source, conn: Session, progress: Callable[[str], object]) -> None:
    saver, done = _saver(conn), 0
    for part in _in_parts(_puts(source, saver)):
        _run(report, conn, part)
        done += len(part)
        progress(f"{done:,} of {report.checkpoints:,} checkpoints")
    jobs = (
        Job(key, _put_writes(saver, key, found), sum(len(each.data) for each in found))
        for key, found in _writes(source)
    )
    for part in _in_parts(jobs):
        _run(report, conn, part)


def _in_parts(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """As many as are done in one transaction: some, and not too much of them."""
    part, size = list[Job](), 0
    for job in jobs:
        part.append(job)
        size += job.size
        if len(part) == _AT_ONCE or size > _BYTES_AT_ONCE:
            yield part
            part, size = [], 0
    if part:
        yield part


def _run(report: CheckpointReport, conn: Session, jobs: Iterable[Job]) -> None:
    """Do all, in one transaction; what cannot be done is left out, and noted."""
    with conn.transaction():
        for key, job, _ in jobs:
            try:
                with conn.transaction():
                    job()
            except (UndividedError, ValueError, TypeError) as error:
                report.trouble(key, f"it cannot be copied: {one_line(str(error))}")
            except psycopg.Error as error:
                if not isinstance(error, psycopg.DataError) and not isinstance(sink_error(error, ""), RefusedError):
                    raise
                why = f"{one_line(error.diag.message_primary or str(error))} (SQLSTATE {error.sqlstate or 'none'})"
                report.trouble(key, f"Postgres cannot hold it: {why}")


def _puts(source: Source, saver: PostgresSaver) -> Iterator[Job]:
    had, of = defaultdict[str, set[str]](set), ("", "")
    for key, row in _checkpoints(source):
        if of != key[:2]:
            of, had = key[:2], defaultdict(set)
        yield Job(key, _put(saver, key, row, had), len(row[2]))


def _put(
    saver: PostgresSaver, key: Key, row: tuple[str | None, str, bytes, bytes | None], had: dict[str, set[str]]
) -> Callable[[], object]:
    """``had``: by channel, the versions of which the values were put."""

    def put() -> None:
        parent, kind, data, metadata = row
        checkpoint: Any = divided(kind, data)
        if checkpoint.get("id") != key.checkpoint:
            raise UndividedError(f"it calls itself {checkpoint.get('id')}")
        versions = {name: str(version) for name, version in checkpoint["channel_versions"].items()}
        new: Any = {name: version for name, version in versions.items() if version not in had[name]}
        saver.put(key._replace(checkpoint=parent or "").config(), checkpoint, _metadata(key, metadata), new)
        for name in new.keys() & checkpoint["channel_values"].keys():
            had[name].add(new[name])

    return put


def _put_writes(saver: PostgresSaver, key: Key, writes: Sequence[Write]) -> Callable[[], object]:
    def put() -> None:
        for (task, path), found in groupby(sorted(writes), lambda write: (write.task, write.path)):
            for listed in _as_put(list(found)):
                saver.put_writes(key.config(), listed, task, path)

    return put


def _as_put(writes: Sequence[Write]) -> Iterator[list[tuple[str, Stored]]]:
    """Lists that ``put_writes`` gives the same indexes.

    It counts all, and gives special ones (errors, interrupts, …) an index of their own. Those replace what is there, if
    there are no others in the list; and so hold the places that the index leaves free.
    """
    special = [(write.channel, Stored(write.type, write.data)) for write in writes if write.number < 0]
    if special:
        yield special
    ordinary = {write.number: (write.channel, Stored(write.type, write.data)) for write in writes if write.number >= 0}
    if not ordinary:
        return
    free = special[0] if special else None
    listed = [ordinary.get(index, free) for index in range(max(ordinary) + 1)]
    if None in listed:
        raise UndividedError("its writes are not numbered as put_writes numbers them")
    yield [each for each in listed if each is not None]


# -- compared --------------------------------------------------------------------------------------------


def _compare(report: CheckpointReport, source: Source, conn: Session, progress: Callable[[str], object]) -> None:
    saver = _saver(conn)
    noted = {Key(each.thread, each.namespace, each.checkpoint) for each in report.problems}
    where = "WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?"
    for number, (key, row) in enumerate(_checkpoints(source), 1):
        writes = [write for _, found in _writes(source, where, key) for write in found]
        if detail := _differs(saver, conn, key, row, writes):
            report.different += 1
            if key not in noted:
                report.trouble(key, detail)
        else:
            report.equal += 1
        if not number % _AT_ONCE:
            progress(f"comparing: {number:,} of {report.checkpoints:,} checkpoints")
    alone = (
        "WHERE NOT EXISTS (SELECT 1 FROM checkpoints c WHERE c.thread_id = writes.thread_id"
        " AND c.checkpoint_ns = writes.checkpoint_ns AND c.checkpoint_id = writes.checkpoint_id)"
    )
    for key, writes in _writes(source, alone):
        if sorted(writes) != _written(conn, key) and key not in noted:
            report.trouble(key, "its writes are different; the file has no such checkpoint")


def _differs(
    saver: PostgresSaver,
    conn: Session,
    key: Key,
    row: tuple[str | None, str, bytes, bytes | None],
    writes: list[Write],
) -> str:
    """What of a checkpoint is not in Postgres as it is in the file, in words; empty: nothing."""
    parent, kind, data, metadata = row
    found = saver.get_tuple(key.config())
    if found is None:
        return "it is not in Postgres"
    try:
        ours, described = divided(kind, data), _metadata(key, metadata)
    except (UndividedError, ValueError) as error:
        return f"it cannot be compared: {one_line(str(error))}"
    theirs = None if found.parent_config is None else found.parent_config["configurable"]["checkpoint_id"]
    other = [
        name
        for name, same in (
            ("checkpoint", _same(ours, dict(found.checkpoint))),
            ("metadata", described == found.metadata),
            ("parent", parent == theirs),
            ("writes", sorted(writes) == _written(conn, key)),
        )
        if not same
    ]
    return f"different: {', '.join(other)}" if other else ""


def _same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    values = {name: as_stored(value) for name, value in ours.pop("channel_values").items()}
    # A snapshot is of a version, and PostgresSaver shows it also in later checkpoints that have that version.
    others = {
        name: value for name, value in theirs.pop("channel_values").items() if name in values or not is_snapshot(value)
    }
    if ours["v"] < _SENDS_APART:
        for each in (values, others, ours["channel_versions"], theirs["channel_versions"]):
            each.pop(TASKS, None)
    return values == others and ours == theirs


def _written(conn: Session, key: Key) -> list[Write]:
    rows = conn.execute(
        "SELECT task_id, task_path, idx, channel, coalesce(type, ''), blob FROM checkpoint_writes"
        " WHERE thread_id = %s AND checkpoint_ns = %s AND checkpoint_id = %s",
        key,
    ).fetchall()
    return sorted(Write(*row) for row in rows)
