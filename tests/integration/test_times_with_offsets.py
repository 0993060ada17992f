"""Times that the apply side takes but of which Postgres' own parser makes something else, or nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Composed

from mirror.parity.plan import MappedColumn
from mirror.parity.selected import selected
from mirror.postgres.typed import encoder, original_member
from tests.support.memustore import create_store, item
from tests.support.mirrors import MirrorProcess

DAYS = ("2020-01-16", "0001-01-03", "9999-12-29")
CLOCKS = ("", "T10:00", " 00:00:00", "T10:30:59.5", "T23:59:59.123456789", "T10:00.25", " 10:59.5")
OFFSETS = ("", "Z", "+00:00", "-0000", "+15:59", "+16:00", "-1600", "+18:00", "-23:59", "+2359", "-00:30", "+05:45")
TEXTS = [
    f"{day}{clock}{offset}" for day, clock, offset in itertools.product(DAYS, CLOCKS, OFFSETS) if clock or not offset
]


def test_each_is_read_back(dsn: str) -> None:
    """What parity selects for it is the text; and with another moment in Postgres, it is not."""
    column = MappedColumn("v", "v", "timestamp with time zone", "time")
    with psycopg.connect(dsn) as connection:
        connection.execute("SET TimeZone = 'UTC'; CREATE TEMP TABLE t(v timestamptz, _original jsonb)")
        for text in TEXTS:
            encoded = encoder(column.pg_type, "time")(text)
            member = original_member("time", text, encoded)
            kept = None if member is None else f'{{"v": {member}}}'
            connection.execute("DELETE FROM t")
            connection.execute("INSERT INTO t VALUES (%s::timestamptz, %s::jsonb)", (encoded, kept))
            assert connection.execute(_selection(column)).fetchone() == (text,)
            connection.execute("UPDATE t SET v = v + interval '1 microsecond'")
            assert connection.execute(_selection(column)).fetchone() != (text,)


def _selection(column: MappedColumn) -> Composed:
    return SQL("SELECT {} FROM t").format(selected(column))


def test_in_a_store(make_mirror: Callable[..., MirrorProcess], database: Path) -> None:
    """A store with such times is equal, at the first copy and live."""
    with create_store(database) as store:
        store.run(*(item(f"a{at}", created_at=text, happened_at=text) for at, text in enumerate(TEXTS)))
        mirror = make_mirror(database)
        mirror.start()
        mirror.check()
        store.run(*(item(f"b{at}", created_at=text, happened_at=text) for at, text in enumerate(TEXTS)))
        mirror.check()
        assert mirror.status()["rejects"] == 0
