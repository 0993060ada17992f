"""What Postgres records about a source besides its rows: gaps, discrepancies between hook and WAL, writers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from mirror.postgres.failures import translated
from mirror.postgres.kept import KeptNames, KeptTable, kept_in_use, kept_names
from mirror.postgres.target import Conn

#: Days for which the records of writers are kept.
WRITES_DAYS = 7


@dataclass(frozen=True, slots=True)
class Gap:
    """A place where contiguity was lost, as ``mirror.gaps`` has it."""

    generation: int
    reason: str
    detected_at: datetime
    healed_at: datetime | None
    rows: int | None = None
    """Rows that were written and deleted in Postgres to heal it; None: not known, or by a whole copy."""
    seconds: float | None = None
    """How long that took."""


class Ledger:
    """The ledger of one source. All methods raise :class:`~mirror.core.errors.SinkError`."""

    def __init__(self, conn: Conn, source_id: int, path: str) -> None:
        self._conn = conn
        self._source_id = str(source_id)
        self._path = path

    def record_gaps(self, generation: int, reasons: list[str]) -> list[int]:
        """Record that contiguity was lost after ``generation``, once for each reason, the oldest first.

        They are healed when the position leaves that generation. Returns their keys.
        """
        with translated("record a gap", self._path):
            rows = self._conn.execute(
                "INSERT INTO mirror.gaps (source_id, generation, reason) SELECT $1::bigint, $2::bigint, r.value"
                " FROM json_array_elements_text($3::json) WITH ORDINALITY AS r (value, number) ORDER BY r.number"
                " RETURNING gap_id",
                (self._source_id, str(generation), json.dumps(reasons)),
            ).fetchall()
        return [int(row[0]) for row in rows]

    def first_reject(self, table: str) -> tuple[str, str] | None:
        """Reason and key of the oldest rejected row of a source table, as ``mirror.rejects`` has them."""
        with translated("read the rejects", self._path):
            row = self._conn.execute(
                "SELECT reason, key FROM mirror.rejects WHERE source_id = $1::bigint AND source_table = $2::text"
                " ORDER BY reject_id LIMIT 1",
                (self._source_id, table),
            ).fetchone()
        return None if row is None else (str(row[0]), str(row[1]))

    def note_healing(self, gaps: list[int], rows: int, seconds: float) -> None:
        """Record what it has cost to heal these gaps (their keys). ``rows``: written and deleted in Postgres."""
        with translated("record what a gap has cost", self._path):
            self._conn.execute(
                "UPDATE mirror.gaps SET rows = $3::bigint, seconds = $4::float8"
                " WHERE source_id = $1::bigint AND gap_id = ANY ($2::bigint[])",
                (self._source_id, gaps, str(rows), repr(seconds)),
            )

    def gaps(self) -> list[Gap]:
        """Return the gaps of the source, oldest first."""
        with translated("read the gaps", self._path):
            rows = self._conn.execute(
                "SELECT generation, reason, detected_at, healed_at, rows, seconds FROM mirror.gaps"
                " WHERE source_id = $1::bigint ORDER BY gap_id",
                (self._source_id,),
            ).fetchall()
        return [Gap(*row) for row in rows]

    def written_at(self) -> datetime | None:
        """Since when programs have written to the source's tables in Postgres alone; None: they have not."""
        with translated("look for other writes", self._path):
            row = self._conn.execute(
                "SELECT written_at FROM mirror.sources WHERE source_id = $1::bigint", (self._source_id,)
            ).fetchone()
        return row[0] if row is not None else None

    def forget_writes(self) -> None:
        """Postgres was made equal to the file again."""
        with translated("forget other writes", self._path):
            self._conn.execute(
                "UPDATE mirror.sources SET written_at = NULL WHERE source_id = $1::bigint", (self._source_id,)
            )

    def record_discrepancies(self, found: Iterable[Discrepancy]) -> None:
        """Record rows that hook and WAL reported differently."""
        rows = [asdict(each) for each in found]
        with translated("record discrepancies", self._path):
            self._conn.execute(
                "INSERT INTO mirror.discrepancies"
                " (source_id, generation, frame, source_table, key, kind, wal, hook, writer)"
                " SELECT $1::bigint, generation, frame, source_table, key, kind, wal, hook, writer"
                " FROM json_to_recordset($2::json) AS d (generation bigint, frame bigint, source_table text,"
                " key text, kind text, wal text, hook text, writer text)",
                (self._source_id, json.dumps(rows)),
            )

    def discrepancies(self) -> int:
        """How many discrepancies are recorded."""
        with translated("count discrepancies", self._path):
            row = self._conn.execute(
                "SELECT count(*) FROM mirror.discrepancies WHERE source_id = $1::bigint", (self._source_id,)
            ).fetchone()
        return int(row[0]) if row is not None else 0

    def read_differences(self) -> int:
        """How many reads are kept that SQLite and Postgres answered differently at one position."""
        with translated("count differences of reads", self._path):
            row = self._conn.execute(
                "SELECT count(*) FROM mirror.read_differences WHERE source_id = $1::bigint", (self._source_id,)
            ).fetchone()
        return int(row[0]) if row is not None else 0

    def others(self) -> tuple[int, int]:
        """How many rows others have written in Postgres, and how many of others a copy or repair has replaced."""
        with translated("count rows of others", self._path):
            row = self._conn.execute(
                "SELECT (SELECT count(*) FROM mirror.others_wrote WHERE source_id = $1::bigint),"
                " (SELECT count(*) FROM mirror.overwritten WHERE source_id = $1::bigint)",
                (self._source_id,),
            ).fetchone()
        return (int(row[0]), int(row[1])) if row is not None else (0, 0)

    def kept(self) -> list[KeptTable]:
        """The tables that are kept and that objects of others still use, in place of a new one of that name."""
        with translated("look at tables that are kept", self._path):
            return kept_in_use(self._conn, int(self._source_id))

    def kept_names(self) -> KeptNames:
        """What is kept of the source's tables and columns that it has dropped."""
        with translated("look at what is kept", self._path):
            return kept_names(self._conn, int(self._source_id))

    def repairs(self) -> int:
        """How many rows have been repaired so far."""
        with translated("count repairs", self._path):
            row = self._conn.execute(
                "SELECT count(*) FROM mirror.repairs WHERE source_id = $1::bigint", (self._source_id,)
            ).fetchone()
        return int(row[0]) if row is not None else 0

    def record_writes(self, found: Iterable[Writes]) -> None:
        """Record who wrote, and delete records older than :data:`WRITES_DAYS`."""
        rows = [asdict(each) for each in found]
        with translated("record who wrote", self._path):
            self._conn.execute(
                "INSERT INTO mirror.writes (source_id, first_at, last_at, first_generation, first_frame,"
                " last_generation, last_frame, commits, agent, pid, program)"
                " SELECT $1::bigint, to_timestamp(first_at), to_timestamp(last_at), first_generation, first_frame,"
                " last_generation, last_frame, commits, agent, pid, program"
                " FROM json_to_recordset($2::json) AS w (first_at float8, last_at float8, first_generation bigint,"
                " first_frame bigint, last_generation bigint, last_frame bigint, commits bigint, agent text,"
                " pid bigint, program text)",
                (self._source_id, json.dumps(rows)),
            )
            self._conn.execute(
                "DELETE FROM mirror.writes"
                " WHERE source_id = $1::bigint AND last_at < now() - make_interval(days => $2::int)",
                (self._source_id, str(WRITES_DAYS)),
            )


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One row that hook and WAL report differently, as ``mirror.discrepancies`` has it."""

    generation: int
    frame: int
    """With ``generation``: the position up to which both were compared."""
    source_table: str
    key: str
    kind: Literal["only the WAL", "only the hook", "different"]
    wal: str | None
    """The row afterwards, as JSON; None: deleted."""
    hook: str | None
    writer: str


@dataclass(slots=True)
class Writes:
    """What one process committed for one agent in about a second, as ``mirror.writes`` has it."""

    first_at: float
    last_at: float
    first_generation: int
    first_frame: int
    """With ``first_generation``: the position after which the first of the commits was made."""
    last_generation: int
    last_frame: int
    commits: int
    agent: str | None
    pid: int
    program: str
