"""What others than the mirror have written in a source's tables: no copy or repair replaces it unasked, and it is kept.

``mirror.others_wrote`` has the keys (:mod:`mirror.postgres.watch`). A transaction that loads or repairs tables begins
with :meth:`Others.take`, which refuses, or keeps the rows in ``mirror.overwritten``, and ends with
:meth:`Others.settle`, which leaves there only those that have become others. Where nobody has written, which is nearly
always, that is two queries.

Applying commits of the source is none of these: there the newer commit of the file holds, as it always does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString

from loguru import logger
from psycopg.sql import SQL, Composable, Identifier, Literal

from mirror.core.errors import OthersWroteError, SinkError
from mirror.postgres.ddl import table_sql
from mirror.postgres.distributed import rows_here
from mirror.postgres.dml import Stage, own_key, row_json
from mirror.postgres.failures import translated
from mirror.postgres.profiles.generic import AGENT, ORIGINAL
from mirror.postgres.target import Conn, Target, is_intact
from mirror.postgres.watch import watch

_TAKE: LiteralString = (
    "CREATE TEMP TABLE mirror_taken ON COMMIT DROP AS SELECT o.source_table, o.key, o.note, o.xmin AS wrote, o.file,"
    " o.first_at FROM mirror.others_wrote o WHERE o.source_id = {} AND o.source_table = ANY ({}) AND {}"
)
#: Whether a row is still as others left it; see ``mirror.others_wrote``.
_STILL: LiteralString = (
    "k.source_table = {name} AND (k.key IS NULL OR t.tableoid IS NULL OR t.xmin = k.wrote"
    " OR k.file IS DISTINCT FROM pg_catalog.pg_relation_filenode(t.tableoid))"
)


@dataclass(slots=True)
class Taken:
    """What one transaction is about to replace, by source table."""

    operation: str
    tables: Collection[str]
    """Those that it may change."""
    written: dict[str, Target] = field(default_factory=dict)
    """Those of them in which others have written, and where they are before."""
    within: Stage | None = None
    replaced: Counter[str] = field(default_factory=Counter)
    """Rows of others that were replaced, once it is over."""


class Others:
    """The rows of others in the tables of one source. Thread: the sink's."""

    def __init__(self, conn: Conn, source_id: int, path: str, *, may_replace: bool) -> None:
        """``may_replace``: somebody has said that the rows may be replaced."""
        self._conn = conn
        self.source_id = source_id
        self._source_id = str(source_id)
        self._path = path
        self._may_replace = may_replace

    def written(self) -> set[str]:
        """The source tables in which others have written."""
        with translated("look for rows of others", self._path):
            return {table for table, _ in self._notes(None)}

    def require(self, operation: str, targets: Mapping[str, Target], tables: Collection[str] | None = None) -> None:
        """Raise :class:`OthersWroteError` if ``operation`` would replace rows of others, and nobody has said it may.

        ``tables``: the source tables that it changes; None: all. Between transactions. Nothing is changed.
        """
        if self._may_replace:
            return
        with translated("look for rows of others", self._path):
            self._conn.execute("BEGIN")
            try:
                self._take(operation, targets, tables, None, lock=False)
            finally:
                self._conn.execute("ROLLBACK")

    def begin(self, operation: str, targets: Mapping[str, Target], tables: Collection[str] | None = None) -> Taken:
        """BEGIN a transaction that changes tables; raises :class:`OthersWroteError` and psycopg's errors."""
        self._conn.execute("BEGIN")
        return self.take(operation, targets, tables)

    def take(
        self,
        operation: str,
        targets: Mapping[str, Target],
        tables: Collection[str] | None = None,
        within: Stage | None = None,
    ) -> Taken:
        """Keep the rows of others that the transaction may replace.

        ``targets``: where the tables are before. ``within``: only the staged keys are meant. Tables that are the
        source's alone are locked against others until the transaction ends; of those that agents share, what is written
        meanwhile is found by :meth:`settle`. Raises :class:`OthersWroteError` and psycopg's errors.
        """
        return self._take(operation, targets, tables, within, lock=True)

    def _take(
        self,
        operation: str,
        targets: Mapping[str, Target],
        tables: Collection[str] | None,
        within: Stage | None,
        *,
        lock: bool,
    ) -> Taken:
        taken = Taken(operation, targets.keys() if tables is None else tables, within=within)
        noted = {table for table, _ in self._notes(taken.tables)}
        taken.written = {name: targets[name] for name in sorted(noted & targets.keys())}
        if not taken.written:
            return taken
        shapes = {name: is_intact(self._conn, targets[name]) for name in taken.written}
        for name in taken.written:
            if lock and targets[name].agent is None and shapes[name] is not None:
                self._conn.execute(SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(table_sql(targets[name])))
        chosen = SQL("true") if within is None else SQL("o.key IN ({})").format(within.key_texts())
        self._conn.execute(SQL(_TAKE).format(Literal(self.source_id), Literal(list(taken.written)), chosen))
        theirs = {
            name: self._theirs(targets[name], at, intact=bool(shapes[name])) for at, name in enumerate(taken.written)
        }
        if not self._may_replace:
            self._refuse(operation, theirs)
        for name, (source, row) in theirs.items():
            self._conn.execute(
                SQL(
                    "INSERT INTO mirror.overwritten (source_id, source_table, key, row_data, written_at, operation)"
                    " SELECT {}, {}, k.key, {}, k.first_at, {} FROM {}"
                ).format(Literal(self.source_id), Literal(name), row, Literal(operation), source)
            )
        return taken

    def _notes(self, tables: Iterable[str] | None) -> list[tuple[str, int]]:
        return [
            (str(table), int(count))
            for table, count in self._conn.execute(
                "SELECT source_table, count(*) FROM mirror.others_wrote WHERE source_id = $1::bigint"
                " AND ($2::text[] IS NULL OR source_table = ANY ($2::text[])) GROUP BY 1",
                (self._source_id, None if tables is None else list(tables)),
            )
        ]

    def _theirs(self, target: Target, at: int, *, intact: bool) -> tuple[Composable, Composable]:
        """FROM and WHERE of the keys (k) of rows that are still as others left them, and such a row (t) as jsonb.

        ``at``: its number among the tables. A table without its key columns is kept under another name, whole.
        """
        name = Literal(target.source)
        if not intact:
            return SQL("pg_temp.mirror_taken k WHERE k.source_table = {}").format(name), SQL("NULL::jsonb")
        # (A copy of the rows has another file than that in which others wrote, so that all of them count as theirs.)
        source = SQL("pg_temp.mirror_taken k LEFT JOIN {} AS t ON {} WHERE " + _STILL).format(
            rows_here(self._conn, target, f"mirror_theirs_{at}"), _same_key(target), name=name
        )
        return source, SQL("CASE WHEN t.tableoid IS NOT NULL THEN {} END").format(row_json(target))

    def _refuse(self, operation: str, theirs: Mapping[str, tuple[Composable, Composable]]) -> None:
        found = []
        for name, (source, _) in theirs.items():
            counted = self._conn.execute(
                SQL("SELECT count(k.key), count(*) FILTER (WHERE k.key IS NULL) FROM {}").format(source)
            ).fetchone()
            rows, whole = counted if counted is not None else (0, 0)
            if rows or whole:
                found.append(
                    f"{_rows(rows)} of {name}"
                    if not whole
                    else f"{name} (all of its rows, as by TRUNCATE, and {_rows(rows)})"
                )
        if found:
            raise OthersWroteError(
                "replace rows in Postgres",
                self._path,
                f"others than the mirror have written {', '.join(found)} there, and {operation} would undo that",
                next_step="the same command with --replace-rows; what it replaces is then kept in mirror.overwritten",
            )

    def settle(self, taken: Taken, targets: Mapping[str, Target]) -> None:
        """At the end of the transaction: forget the rows that are as they were, and count the others.

        ``targets``: where the tables are now; they are watched from now on. Raises a retryable :class:`SinkError` if
        others have written meanwhile, and psycopg's errors.
        """
        if taken.written:
            for name, before in taken.written.items():
                if name in targets and is_intact(self._conn, targets[name]):
                    self._leave_out(before, targets[name])
                    self._forget_unchanged(targets[name])
            for table, count in self._conn.execute(
                "SELECT source_table, count(*) FROM mirror.overwritten WHERE source_id = $1::bigint"
                " AND overwritten_at = now() GROUP BY 1",
                (self._source_id,),
            ):
                taken.replaced[table] += count
            self._conn.execute(
                "DELETE FROM mirror.others_wrote o USING pg_temp.mirror_taken k WHERE o.source_id = $1::bigint"
                " AND o.source_table = k.source_table AND o.note = k.note",
                (self._source_id,),
            )
        chosen = SQL("true") if taken.within is None else SQL("key IN ({})").format(taken.within.key_texts())
        late = self._conn.execute(
            SQL(
                "SELECT source_table FROM mirror.others_wrote WHERE source_id = {} AND source_table = ANY ({}) AND {}"
                " LIMIT 1"
            ).format(Literal(self.source_id), Literal(list(taken.tables)), chosen)
        ).fetchone()
        if late is not None:
            why = f"others have written rows of {late[0]} in Postgres meanwhile"
            raise SinkError("replace rows in Postgres", self._path, why, retryable=True)
        self.watch(targets)

    def watch(self, targets: Mapping[str, Target]) -> None:
        """See :func:`mirror.postgres.watch.watch`."""
        watch(self._conn, targets.values())

    def _leave_out(self, before: Target, now: Target) -> None:
        """Of what was just kept, take out the columns that a rule leaves out from now on."""
        for column in before.columns:
            if column.source in now.omitted:
                self._conn.execute(
                    "UPDATE mirror.overwritten SET row_data = (row_data - $3::text) #- ARRAY[$4::text, $5::text]"
                    " WHERE source_id = $1::bigint AND source_table = $2::text AND overwritten_at = now()",
                    (self._source_id, now.source, column.name, ORIGINAL, column.source),
                )

    def _forget_unchanged(self, target: Target) -> None:
        rows = rows_here(self._conn, target, "mirror_unchanged")
        same = SQL("SELECT FROM {} AS t WHERE {}").format(rows, _same_key(target, "w"))
        self._conn.execute(
            SQL(
                "DELETE FROM mirror.overwritten w WHERE w.source_id = {} AND w.source_table = {}"
                " AND w.overwritten_at = now() AND CASE WHEN w.key IS NULL THEN NOT EXISTS (SELECT FROM {})"
                " WHEN w.row_data IS NULL THEN NOT EXISTS ({}) ELSE EXISTS ({} AND {}::text = w.row_data::text) END"
            ).format(Literal(self.source_id), Literal(target.source), rows, same, same, row_json(target))
        )

    def commit(self, taken: Taken, targets: Mapping[str, Target]) -> None:
        """:meth:`settle`, COMMIT, and :meth:`say`."""
        self.settle(taken, targets)
        self._conn.execute("COMMIT")
        self.say(taken.operation, taken.replaced)

    def say(self, operation: str, replaced: Mapping[str, int]) -> None:
        """Log what was replaced."""
        if replaced:
            tables = ", ".join(f"{_rows(count)} of {table}" for table, count in sorted(replaced.items()))
            logger.warning(
                "{}: {} has replaced what others had written in Postgres: {}; they are in mirror.overwritten"
                " (`mirror overwritten list`)", Path(self._path).name, operation, tables,
            )  # fmt: skip


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _same_key(target: Target, of: str = "k") -> Composable:
    """Whether a row, t, has a key as it is recorded, and is the agent's."""
    texts = SQL(", ").join(SQL("t.{}::text").format(Identifier(name)) for name in own_key(target))
    same = SQL("ARRAY[{}] = {}").format(texts, Identifier(of, "key"))
    if target.agent is None:
        return same
    return same + SQL(" AND t.{} = {}").format(Identifier(AGENT), Literal(target.agent))
