"""What programs have written to the file after the switch: listed, adopted, thrown away (``mirror.strays``).

Adopting writes the rows to Postgres' tables as a program would, so the way back carries them, too. A row that Postgres
has otherwise than when the program wrote to the file is not written over; one that the program has inserted can have a
new number (:mod:`mirror.cutover.stray_numbers`). Throwing away has the running mirror write Postgres' rows to the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from mirror.core.errors import SinkError
from mirror.core.values import Row
from mirror.core.words import counted
from mirror.cutover.sequences import LOCK_SECONDS
from mirror.cutover.stray_numbers import Kept, Moved, NotAdoptedError, StrayNumbers
from mirror.postgres.codecs import Unfit, check_key, key_encoder
from mirror.postgres.ddl import names_sql, table_sql, type_sql
from mirror.postgres.dml import overriding, row_statements
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement
from mirror.postgres.profiles.generic import AGENT
from mirror.postgres.sessions import Session, connect
from mirror.postgres.target import Target, load_targets
from mirror.postgres.typed import LOSSY, encoder, original_member
from mirror.reverse.capture import key_sql, own_key
from mirror.reverse.rows import Found, TableRows
from mirror.reverse.strays import are_equal, key_of, key_text, number_column, row_of

#: SQLSTATE classes of errors about the row, not about the connection or the server.
_OF_ROWS = frozenset({"22", "23", "42", "44", "P0"})
#: Whether the mirror writes to the file, of a stray ``s``.
_OPEN = (
    "EXISTS (SELECT FROM mirror.phase p WHERE p.source_id = s.source_id AND p.sealed_at IS NOT NULL"
    " AND p.finalized_at IS NULL)"
)


@dataclass(slots=True)
class Adopted:
    """What became of rows that were to be adopted."""

    count: int = 0
    """How many Postgres has now."""
    new_ids: list[tuple[Kept, int]] = field(default_factory=list)
    """Those of them that have a new number."""
    left: list[tuple[Kept, str]] = field(default_factory=list)
    """Those that Postgres has not, and why."""


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
            f"programs have written {counted(found, 'row')} to it after the switch, and not to Postgres",
            next_step="`mirror cutover strays` shows them, and how to adopt them or throw them away",
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
                    why = "it is not mirrored here"
                    raise SinkError("read the strays", source, why, next_step="run `mirror up`")
                conn.execute(statement("session_search_path"))
                targets = load_targets(conn, row[0], row[1])
                # An application's triggers fire, as on its own writes, and name its tables without their schema.
                path = (
                    "SELECT set_config('search_path', concat_ws(', ', current_setting('search_path'), $1::text), false)"
                )
                for name in sorted({target.schema for target in targets.values() if target.adopted}):
                    conn.execute(path, (Identifier(name).as_string(conn),))
                return cls(conn, row[0], source, targets)
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
                " to_char(seen_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), before_known, seen,"
                " overwritten FROM mirror.strays WHERE source_id = $1::bigint ORDER BY stray_id",
                (str(self.source_id),),
            )
            return [Kept(*row) for row in rows]

    # -- throwing away -----------------------------------------------------------------------------

    def discard(self) -> int:
        """Have the mirror write Postgres' rows to the file; returns how many."""
        with translated("throw strays away", self.place), self.conn.transaction():
            done = self.conn.execute(
                f"DELETE FROM mirror.strays s WHERE source_id = $1::bigint AND (state = 'overwritten' OR NOT {_OPEN})",
                (str(self.source_id),),
            ).rowcount
            return done + (
                self.conn.execute(
                    "UPDATE mirror.strays SET state = 'discarded' WHERE source_id = $1::bigint", (str(self.source_id),)
                ).rowcount
            )

    # -- adopting ----------------------------------------------------------------------------------

    def adopt(self, *, new_ids: bool = False) -> Adopted:
        """Write the rows to Postgres. ``new_ids``: those whose number Postgres has given, too, under a new one."""
        everything = self.all()
        numbers = StrayNumbers(self.conn, self.source_id, self.place, self.targets, new_ids)
        with translated("read the strays", self.place):
            numbers.learn(everything)
        result = Adopted()
        waiting = [one for one in everything if one.state != "discarded"]
        while waiting:  # one may need another, as a foreign key does
            count = len(waiting)
            waiting = self._round(waiting, numbers, result, renumber=False)
            if new_ids and len(waiting) == count:  # those that keep their numbers have them now
                if result.count:
                    self._raise_sequences()
                waiting = self._round(waiting, numbers, result, renumber=True)
            if len(waiting) == count:
                break
        if result.count:
            self._raise_sequences()
        return result

    def _round(self, waiting: list[Kept], numbers: StrayNumbers, result: Adopted, *, renumber: bool) -> list[Kept]:
        """Adopt what can be; returns those that are left."""
        result.left = []
        for one in waiting:
            try:
                moved = self._adopt(one, numbers, renumber=renumber)
            except NotAdoptedError as error:
                result.left.append((one, str(error)))
                continue
            numbers.settled(one, moved)
            result.count += 1
            if moved is not None:
                result.new_ids.append((one, moved.new))
        return [one for one, _ in result.left]

    def _adopt(self, one: Kept, numbers: StrayNumbers, *, renumber: bool) -> Moved | None:
        """Write one row, and forget the stray, in one transaction; returns the new number that it has, if any."""
        target = self.targets.get(one.table)
        if target is None:
            raise NotAdoptedError("its table is not mirrored any more")
        with translated("adopt a stray", f"{self.place}, table {one.table}"):
            try:
                with self.conn.transaction():
                    moved, exactly = self._write(one, target, numbers, renumber=renumber)
                    self._forget(one, exactly=exactly)
                    return moved
            except Unfit as unfit:
                raise NotAdoptedError(f"Postgres cannot hold it: {unfit.reason}") from unfit
            except psycopg.Error as error:
                if (error.sqlstate or "")[:2] not in _OF_ROWS:
                    raise
                raise NotAdoptedError(f"Postgres refuses it: {error.diag.message_primary}") from error

    def _forget(self, one: Kept, *, exactly: bool) -> None:
        """Postgres has what a stray was. ``exactly``: as the file has it, or had it when the mirror wrote over it.

        Else the file is to get Postgres' row: until it has, it is not taken for another stray.
        """
        same = "stray_id = $1::bigint AND seen = $2::bigint AND state = $3::text"
        which = str(one.id), str(one.seen), one.state
        done = 0
        if one.state == "in file" and not exactly:
            query = f"UPDATE mirror.strays s SET state = 'discarded' WHERE {same} AND {_OPEN}"
            done = self.conn.execute(query, which).rowcount
        if not done and not self.conn.execute(f"DELETE FROM mirror.strays WHERE {same}", which).rowcount:
            raise NotAdoptedError("it has changed meanwhile: look again")  # or another command has adopted it

    def _write(self, one: Kept, target: Target, numbers: StrayNumbers, *, renumber: bool) -> tuple[Moved | None, bool]:
        """Write one row; returns the new number that it has, if any, and whether it is as the program wrote it."""
        rows = TableRows(self.conn, target)
        columns = [column.source for column in target.columns]
        key = key_of(one.key)
        if (text := key_text(rows, key)) is None:
            raise NotAdoptedError("Postgres cannot have such a key")
        before, after = (None if part is None else row_of(part, columns) for part in (one.before, one.after))
        there = self._locked(rows, text)
        if are_equal(there.row, after):
            return None, True  # Postgres has it
        written = after
        if after is not None:
            after = numbers.followed(one, after)
        if one.state == "overwritten" or not are_equal(there.row, before):
            why = numbers.why_not(one)
            if why or not renumber:
                raise NotAdoptedError("the row has changed in Postgres since" + _about_new_ids(why, numbers.new_ids))
            assert after is not None
            return self._insert_anew(one, rows, after, numbers), False
        if after is None:
            condition = SQL("{} AND {}").format(_has_key(target, text), _of_agent(target))
            self.conn.execute(SQL("DELETE FROM {} AS x WHERE {}").format(table_sql(target), condition))
        elif there.row is not None:
            self.conn.execute(row_statements(target).upsert, list(stored(target, key, after)))
        else:
            self._insert(target, key, after)
        return None, are_equal(after, written)

    def _insert_anew(self, one: Kept, rows: TableRows, after: Row, numbers: StrayNumbers) -> Moved:
        """Write a row under a new number."""
        target = rows.target
        while True:
            new = numbers.next(one.table)
            (found,) = rows.by_keys([[str(new)]])
            if found.row is None:
                break
        columns = [column.name for column in target.columns]
        if (name := number_column(target)) in columns:
            at = columns.index(name)
            after = (*after[:at], new, *after[at + 1 :])
        self._insert(target, (new,), numbers.itself(one, after, new))
        return numbers.move(one, new)

    def _insert(self, target: Target, key: Row, after: Row) -> None:
        values = list(stored(target, key, after))
        names = tuple(name for name, _ in target.stored)
        marks = SQL(", ").join(
            SQL(f"${number}::{{}}").format(type_sql(pg_type)) for number, (_, pg_type) in enumerate(target.stored, 1)
        )
        insert = SQL("INSERT INTO {} ({}){} VALUES ({}) ON CONFLICT DO NOTHING").format(
            table_sql(target), names_sql(names), overriding(target), marks
        )
        if not self.conn.execute(insert, values).rowcount:
            raise NotAdoptedError("Postgres has another row with the same unique value")

    def _locked(self, rows: TableRows, text: list[str]) -> Found:
        """The row with a key, which nobody else changes until the end of the transaction."""
        target = rows.target
        condition = SQL("{} AND {}").format(_has_key(target, text), _of_agent(target))
        self.conn.execute(SQL("SELECT FROM {} AS x WHERE {} FOR UPDATE").format(table_sql(target), condition))
        (found,) = rows.by_keys([text])
        return found

    def _raise_sequences(self) -> None:
        """Set sequences above what was adopted; none is set back."""
        with translated("set sequences", self.place):
            for target in self.targets.values():
                table = table_sql(target)
                found = self.conn.execute(
                    "SELECT a.attname, q.name, s.seqincrement FROM pg_catalog.pg_attribute a CROSS JOIN LATERAL"
                    " (SELECT pg_get_serial_sequence($1::text, a.attname) AS name) q"
                    " JOIN pg_catalog.pg_sequence s ON s.seqrelid = q.name::regclass WHERE s.seqincrement > 0"
                    " AND a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped",
                    (table.as_string(self.conn),),
                ).fetchall()
                for column, sequence, increment in found:
                    behind = SQL("(SELECT max({}) AS m FROM {}) x WHERE m > (SELECT last_value FROM {})").format(
                        Identifier(column), table, SQL(sequence)
                    )
                    if self.conn.execute(SQL("SELECT FROM {}").format(behind)).fetchone() is None:
                        continue
                    with self.conn.transaction():
                        self.conn.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'".encode())
                        # Changes nothing; from here on nobody takes a number from it.
                        alter = SQL("ALTER SEQUENCE {} INCREMENT BY {}")
                        self.conn.execute(alter.format(SQL(sequence), Literal(increment)))
                        setting = SQL("SELECT setval({}::regclass, m) FROM {}")
                        self.conn.execute(setting.format(Literal(sequence), behind))


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


def _about_new_ids(why_not: str, new_ids: bool) -> str:
    if not new_ids:
        return "" if why_not else "; --new-ids adopts it under a new number"
    return f", and it gets no new number: {why_not}" if why_not else ""


def _has_key(target: Target, text: Sequence[str]) -> Any:
    columns = SQL(", ").join(Identifier("x", name) for name in own_key(target))
    return SQL("ROW({}) = (SELECT {})").format(columns, key_sql(target, SQL("{}::text[]").format(Literal(list(text)))))


def _of_agent(target: Target) -> Any:
    if target.agent is None:
        return SQL("true")
    return SQL("x.{} = {}").format(Identifier(AGENT), Literal(target.agent))
