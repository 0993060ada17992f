"""``mirror.strays``: what programs have written to the file after the switch, kept.

A connection of its own: what a batch writes over is kept before the batch is committed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mirror.postgres.sessions import Session
from mirror.reverse.strays import Stray

_ROWS = "json_to_recordset($2::json) AS x(t text, k text, b text, a text, n boolean)"
_NEXT = "nextval('mirror.stray_order')"


class Discarded(NamedTuple):
    """A stray that is to be undone in the file."""

    id: int
    table: str
    key: str


class TruncatedError(Exception):
    """A snapshot shows what Postgres never showed: a table empty that was truncated later."""


class KeptStrays:
    """The rows of one source. Raises psycopg's errors."""

    def __init__(self, source_id: int, connecting: Callable[[], Session]) -> None:
        """``connecting``: called when something is to be kept, at the earliest."""
        self._source = str(source_id)
        self._connecting = connecting
        self._opened: Session | None = None

    @property
    def _conn(self) -> Session:
        if self._opened is None:
            self._opened = self._connecting()
        return self._opened

    def close(self) -> None:
        """Close its connection."""
        if self._opened is not None:
            self._opened.close()

    def now(self) -> str:
        """The time, for :meth:`found`."""
        [[now]] = self._conn.execute("SELECT clock_timestamp()::text").fetchall()
        return str(now)

    def found(self, strays: Sequence[Stray], since: str, processes: Sequence[str]) -> None:
        """Keep rows that the file has otherwise. ``since``: when the comparison began.

        Keeps none once the file is the original again.
        """
        self._conn.execute(
            "INSERT INTO mirror.strays AS s"
            " (source_id, source_table, key, before, after, state, processes, compared_at)"
            f" SELECT $1::bigint, t, k, b::json, a::json, 'in file', $4::text[], $3::timestamptz FROM {_ROWS}"
            " WHERE EXISTS (SELECT FROM mirror.phase WHERE source_id = $1::bigint AND sealed_at IS NOT NULL FOR SHARE)"
            " ON CONFLICT (source_id, source_table, md5(key)) WHERE state <> 'overwritten' DO UPDATE SET"
            " compared_at = EXCLUDED.compared_at, before = EXCLUDED.before, after = EXCLUDED.after,"
            " state = CASE WHEN s.after::text IS DISTINCT FROM EXCLUDED.after::text THEN 'in file' ELSE s.state END,"
            " processes = CASE WHEN s.after::text IS DISTINCT FROM EXCLUDED.after::text THEN EXCLUDED.processes"
            " ELSE s.processes END",
            (self._source, _as_json(strays), since, list(processes)),
        )

    def compared(self, since: str, tables: Iterable[str]) -> None:
        """Forget rows of these that the comparison that began then has not found: the file has Postgres' again."""
        self._conn.execute(
            "DELETE FROM mirror.strays WHERE source_id = $1::bigint AND state = 'in file'"
            " AND compared_at < $2::timestamptz AND source_table = ANY ($3::text[])",
            (self._source, since, list(tables)),
        )

    def next(self) -> int:
        """A number of ``mirror.stray_order``."""
        [[number]] = self._conn.execute(f"SELECT {_NEXT}").fetchall()
        return int(number)

    def overwrite(self, strays: Sequence[Stray], processes: Sequence[str], batch: int) -> None:
        """Keep rows that the mirror is about to write over, with what Postgres has. May be done again.

        ``batch``: of :meth:`next`, since the file cannot be written by programs.
        """
        rows = _as_json(strays)
        with self._conn.transaction():
            same = "s.source_id = $1::bigint AND s.source_table = x.t AND s.key = x.k"
            self._conn.execute(
                "UPDATE mirror.strays s SET state = 'overwritten', after = x.a::json, overwritten = $3::bigint"
                f" FROM {_ROWS} WHERE {same} AND s.state = 'in file'",
                (self._source, rows, str(batch)),
            )
            self._conn.execute(
                "INSERT INTO mirror.strays (source_id, source_table, key, before, after, state, processes, compared_at,"
                " before_known, overwritten)"
                " SELECT $1::bigint, t, k, b::json, a::json, 'overwritten', $3::text[], now(), n, $4::bigint"
                f" FROM {_ROWS} WHERE NOT EXISTS (SELECT FROM mirror.strays s WHERE {same} AND s.state <> 'in file'"
                " AND s.after::text IS NOT DISTINCT FROM x.a)",
                (self._source, rows, list(processes), str(batch)),
            )

    def truncated(self, snapshot: str, table: str | None = None) -> bool:
        """Whether a table was truncated since a snapshot, which then shows it empty (TRUNCATE is not of MVCC).

        ``table``: None: any table of the source.
        """
        row = self._conn.execute(
            "SELECT EXISTS (SELECT FROM mirror.outbox o WHERE o.source_id = $1::bigint"
            " AND o.source_table = coalesce($2::text, o.source_table) AND o.key IS NULL"
            " AND (o.xid >= pg_snapshot_xmax($3::pg_snapshot) OR o.xid IN (SELECT pg_snapshot_xip($3::pg_snapshot))))",
            (self._source, table, snapshot),
        ).fetchone()
        return row == (True,)

    def require_whole(self, snapshot: str) -> None:
        """Raise :class:`TruncatedError` if a table was truncated since a snapshot, which is read.

        If not, those that it has read or locked will not be until it ends.
        """
        if self.truncated(snapshot):
            raise TruncatedError

    def known(self, table: str, keys: Sequence[str], since: str | None = None) -> set[str]:
        """Those of the keys that are kept, and in the file. ``since``: they were by then."""
        rows = self._conn.execute(
            "SELECT key FROM mirror.strays WHERE source_id = $1::bigint AND source_table = $2::text"
            " AND key = ANY ($3::text[]) AND state <> 'overwritten'"
            " AND seen_at <= coalesce($4::timestamptz, 'infinity')",
            (self._source, table, list(keys), since),
        )
        return {key for (key,) in rows}

    def all_written_over(self, table: str) -> None:
        """The mirror is about to write over all rows of a table."""
        self._conn.execute(
            f"UPDATE mirror.strays SET state = 'overwritten', overwritten = {_NEXT}"
            " WHERE source_id = $1::bigint AND source_table = $2::text AND state = 'in file'",
            (self._source, table),
        )

    def written_over(self, table: str, keys: Sequence[str]) -> None:
        """The mirror is about to write Postgres' rows over these, where they are kept."""
        self._conn.execute(
            f"UPDATE mirror.strays SET state = 'overwritten', overwritten = {_NEXT}"
            " WHERE source_id = $1::bigint AND source_table = $2::text AND key = ANY ($3::text[])"
            " AND state = 'in file'",
            (self._source, table, list(keys)),
        )

    def forget(self, table: str, keys: Sequence[str]) -> None:
        """Rows that Postgres has as the file has them."""
        self._conn.execute(
            "DELETE FROM mirror.strays WHERE source_id = $1::bigint AND source_table = $2::text"
            " AND key = ANY ($3::text[]) AND state <> 'overwritten'",
            (self._source, table, list(keys)),
        )

    def rejected(self, table: str, keys: Sequence[Sequence[str]]) -> set[tuple[str, ...]]:
        """Those of the keys, in the form of the outbox, of which the file does not take the rows."""
        rows = self._conn.execute(
            "SELECT key FROM mirror.reverse_rejects WHERE source_id = $1::bigint AND source_table = $2::text AND key IN"
            " (SELECT ARRAY(SELECT jsonb_array_elements_text(k)) FROM jsonb_array_elements($3::jsonb) k)",
            (self._source, table, json.dumps(keys)),
        )
        return {tuple(key) for (key,) in rows}

    def discarded(self) -> list[Discarded]:
        """Rows that are to be as Postgres has them."""
        rows = self._conn.execute(
            "SELECT stray_id, source_table, key FROM mirror.strays WHERE source_id = $1::bigint"
            " AND state = 'discarded' ORDER BY stray_id LIMIT 10000",
            (self._source,),
        )
        return [Discarded(*row) for row in rows]

    def undone(self, which: Sequence[Discarded]) -> None:
        """The file has Postgres' rows."""
        self._conn.execute(
            "DELETE FROM mirror.strays WHERE stray_id = ANY ($1::bigint[]) AND state = 'discarded'",
            ([str(one.id) for one in which],),
        )


def _as_json(strays: Sequence[Stray]) -> str:
    return json.dumps(
        [{"t": one.table, "k": one.key, "b": one.before, "a": one.after, "n": one.before_known} for one in strays]
    )
