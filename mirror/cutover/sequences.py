"""Sequences of the tables, set above the highest number that was given."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg.sql import SQL, Identifier

from mirror.postgres.ddl import table_sql
from mirror.postgres.target import Conn, Target


def set_all(conn: Conn, targets: Iterable[Target]) -> str:
    """Set the sequences of the columns (identity, serial); returns what to say of it. Raises psycopg's errors."""
    count = 0
    for target in targets:
        rows = conn.execute(
            "SELECT a.attname, pg_get_serial_sequence(format('%I.%I', $1::text, $2::text), a.attname)"
            " FROM pg_catalog.pg_attribute a WHERE a.attrelid = format('%I.%I', $1::text, $2::text)::regclass"
            " AND a.attnum > 0 AND NOT a.attisdropped"
            " AND pg_get_serial_sequence(format('%I.%I', $1::text, $2::text), a.attname) IS NOT NULL",
            (target.schema, target.name),
        ).fetchall()
        for column, sequence in rows:
            conn.execute(
                SQL(
                    "SELECT setval($1::regclass, greatest((SELECT max({}) FROM {}), 1), EXISTS (SELECT FROM {}))"
                ).format(Identifier(column), table_sql(target), table_sql(target)),
                (sequence,),
            )
            count += 1
    return f"{count:,}"
