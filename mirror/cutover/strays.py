"""What programs have written to the file after the switch: listed, adopted, thrown away (``mirror.strays``).

Adopting writes the rows to Postgres' tables as a program would, so the way back carries them, too. A row that Postgres
has otherwise than when the program wrote to the file is not written over. Throwing away has the running mirror write
Postgres' rows to the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from mirror.core.errors import SinkError
from mirror.core.values import Row
from mirror.postgres.codecs import Unfit, check_key, key_encoder
from mirror.postgres.ddl import names_sql, table_sql, type_sql
from mirror.postgres.dml import row_statements
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement
from mirror.postgres.profiles.generic import AGENT
from mirror.postgres.sessions import Session, connect
from mirror.postgres.target import Target, load_targets
from mirror.postgres.typed import LOSSY, encoder, original_member
from mirror.reverse.capture import key_sql, own_key
from mirror.reverse.rows import Found, TableRows
from mirror.reverse.strays import are_equal, key_of, key_text, row_of

#: SQLSTATE classes of errors about the row, not about the connection or the server.
_OF_ROWS = frozenset({"22", "23", "42", "44", "P0"})


class Kept(NamedTuple):
    """A row of ``mirror.strays``; rows and key as JSON."""

    id: int
    table: str
    key: str
    before: str | None
    after: str | None
    state: str
    processes: list[str]
    seen_at: str


class NotAdoptedError(Exception):
    """Why a row is not written to Postgres."""


def count(conn: psycopg.Connection[Any], source_id: int) -> int:
    """How many there are; ``conn``: raw cursors. Raises psycopg's errors."""
    row = conn.execute("SELECT count(*) FROM mirror.strays WHERE source_id = $1::bigint", (str(source_id),)).fetchone()
    return 0 if row is None else int(row[0])


def require_none(conn: psycopg.Connection[Any], source_id: int, place: str) -> None:
    """Raise ``SinkError`` if there are any: after a rollback they would be in the file, and nobody would know."""
    if found := count(conn, source_id):
        raise SinkError(
            "go back to the file",
            place,
            f"programs have written {found:,} rows to it after the switch, and not to Postgres",
            next_step="`mirror cutover strays` shows them; then add --adopt or --discard",
        )


@dataclass
class Strays:
    """Those of one source, on a connection of its own. Raises ``SinkError``."""

    conn: Session
    source_id: int
    place: str
    targets: Mapping[str, Target]

    @classmethod
    def open(cls, dsn: str, source: str, schema: str) -> Strays:
        """Of a source that is mirrored into a schema."""
        conn = connect(dsn, name="mirror cutover", raw=True)
        try:
            with translated("read the strays", source):
                (made,) = conn.execute("SELECT to_regclass('mirror.phase') IS NOT NULL").fetchone() or (False,)
                row = made and conn.execute(statement("reverse_read"), (source, schema)).fetchone()
                if not row:
                    step = f"run `mirror up {source}` first"
                    raise SinkError("read the strays", source, "it is not mirrored here", next_step=step)
                conn.execute(statement("session_search_path"))
                return cls(conn, row[0], source, load_targets(conn, row[0], row[1]))
        except BaseException:
            conn.close()
            raise

    def __enter__(self) -> Strays:
        return self

    def __exit__(self, *_: object) -> None:
        self.conn.close()

    def all(self) -> list[Kept]:
        """All, the first one first."""
        with translated("read the strays", self.place):
            rows = self.conn.execute(
                "SELECT stray_id, source_table, key, before::text, after::text, state, processes,"
                " to_char(seen_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM mirror.strays"
                " WHERE source_id = $1::bigint ORDER BY stray_id",
                (str(self.source_id),),
            )
            return [Kept(*row) for row in rows]

    # -- throwing away -----------------------------------------------------------------------------

    def discard(self) -> int:
        """Have the mirror write Postgres' rows to the file; returns how many."""
        with translated("throw strays away", self.place), self.conn.transaction():
            done = self.conn.execute(
                "DELETE FROM mirror.strays s WHERE source_id = $1::bigint AND (state = 'overwritten' OR NOT EXISTS"
                " (SELECT FROM mirror.phase p WHERE p.source_id = s.source_id AND p.sealed_at IS NOT NULL"
                " AND p.finalized_at IS NULL))",
                (str(self.source_id),),
            ).rowcount
            return done + (
                self.conn.execute(
                    "UPDATE mirror.strays SET state = 'discarded' WHERE source_id = $1::bigint", (str(self.source_id),)
                ).rowcount
            )

    # -- adopting ----------------------------------------------------------------------------------

    def adopt(self) -> tuple[int, list[tuple[Kept, str]]]:
        """Write the rows to Postgres; returns how many it has now, and which it has not, and why."""
        adopted = 0
        waiting = [one for one in self.all() if one.state != "discarded"]
        while True:
            left: list[tuple[Kept, str]] = []
            for one in waiting:
                try:
                    self._adopt(one)
                except NotAdoptedError as error:
                    left.append((one, str(error)))
            adopted += len(waiting) - len(left)
            if not left or len(left) == len(waiting):  # one may need another, as a foreign key does
                break
            waiting = [one for one, _ in left]
        if adopted:
            self._raise_sequences()
        return adopted, left

    def _adopt(self, one: Kept) -> None:
        target = self.targets.get(one.table)
        if target is None:
            raise NotAdoptedError("its table is not mirrored any more")
        with translated("adopt a stray", f"{self.place}, table {one.table}"):
            try:
                with self.conn.transaction():
                    self._write(one, target)
                    self.conn.execute("DELETE FROM mirror.strays WHERE stray_id = $1::bigint", (str(one.id),))
            except Unfit as unfit:
                raise NotAdoptedError(f"Postgres cannot hold it: {unfit.reason}") from unfit
            except psycopg.Error as error:
                if (error.sqlstate or "")[:2] not in _OF_ROWS:
                    raise
                raise NotAdoptedError(f"Postgres refuses it: {error.diag.message_primary}") from error

    def _write(self, one: Kept, target: Target) -> None:
        rows = TableRows(self.conn, target)
        columns = [column.source for column in target.columns]
        key = key_of(one.key)
        if (text := key_text(rows, key)) is None:
            raise NotAdoptedError("Postgres cannot have such a key")
        before, after = (None if part is None else row_of(part, columns) for part in (one.before, one.after))
        there = self._locked(rows, text)
        if are_equal(there.row, after):
            return  # Postgres has it
        if one.state == "overwritten" or not are_equal(there.row, before):
            raise NotAdoptedError("Postgres has written the row since")
        if after is None:
            condition = SQL("{} AND {}").format(_has_key(target, text), _of_agent(target))
            self.conn.execute(SQL("DELETE FROM {} AS x WHERE {}").format(table_sql(target), condition))
            return
        values = list(stored(target, key, after))
        if there.row is not None:
            self.conn.execute(row_statements(target).upsert, values)
            return
        names = tuple(name for name, _ in target.stored)
        marks = SQL(", ").join(
            SQL(f"${number}::{{}}").format(type_sql(pg_type)) for number, (_, pg_type) in enumerate(target.stored, 1)
        )
        insert = SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING")
        if not self.conn.execute(insert.format(table_sql(target), names_sql(names), marks), values).rowcount:
            raise NotAdoptedError("Postgres has another row with the same unique value")

    def _locked(self, rows: TableRows, text: list[str]) -> Found:
        """The row with a key, which nobody else changes until the end of the transaction."""
        target = rows.target
        condition = SQL("{} AND {}").format(_has_key(target, text), _of_agent(target))
        self.conn.execute(SQL("SELECT FROM {} AS x WHERE {} FOR UPDATE").format(table_sql(target), condition))
        (found,) = rows.by_keys([text])
        return found

    def _raise_sequences(self) -> None:
        """Set sequences above what was adopted."""
        with translated("set sequences", self.place):
            for target in self.targets.values():
                table = table_sql(target)
                found = self.conn.execute(
                    "SELECT a.attname, pg_get_serial_sequence($1::text, a.attname) FROM pg_catalog.pg_attribute a"
                    " WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped"
                    " AND pg_get_serial_sequence($1::text, a.attname) IS NOT NULL",
                    (table.as_string(self.conn),),
                ).fetchall()
                for column, sequence in found:
                    self.conn.execute(
                        SQL(
                            "SELECT setval({}::regclass, m) FROM (SELECT max({}) AS m FROM {}) x"
                            " WHERE m > (SELECT last_value FROM {})"
                        ).format(Literal(sequence), Identifier(column), table, SQL(sequence))
                    )


def stored(target: Target, key: Row, row: Row) -> Iterator[str | None]:
    """The stored columns of a row, encoded; ``key``: SQLite's values. Raises ``Unfit``."""
    own = own_key(target)
    if target.agent is not None:
        yield target.agent
    if target.key is None:
        yield str(key[0])
    kept = []
    of_key: list[tuple[str, str | None]] = []
    for column, value in zip(target.columns, row, strict=True):
        encode = encoder(column.pg_type, column.codec)
        if column.name in own and not column.codec:
            encode = key_encoder(column.pg_type)
        text = encode(value)
        if column.name in own:
            of_key.append((column.pg_type, text))
        if column.codec in LOSSY and (member := original_member(column.codec, value, text)) is not None:
            kept.append(f"{json.dumps(column.source)}:{member}")
        yield text
    check_key([pg_type for pg_type, _ in of_key], [text for _, text in of_key])
    if target.keeps_original:
        yield f"{{{','.join(kept)}}}" if kept else None


def _has_key(target: Target, text: Sequence[str]) -> Any:
    columns = SQL(", ").join(Identifier("x", name) for name in own_key(target))
    return SQL("ROW({}) = (SELECT {})").format(columns, key_sql(target, SQL("{}::text[]").format(Literal(list(text)))))


def _of_agent(target: Target) -> Any:
    if target.agent is None:
        return SQL("true")
    return SQL("x.{} = {}").format(Identifier(AGENT), Literal(target.agent))
