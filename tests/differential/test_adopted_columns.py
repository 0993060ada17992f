"""Two implementations of one vocabulary: what is written into adopted columns is what is compared there.

Random values of every storage class in columns of every kind: both take or refuse the same, both call the same a loss,
and what Postgres has is the canonical value that the comparison expects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mirror.core.adopted import Form
from mirror.core.values import Value
from mirror.parity.adopted import decoded
from mirror.parity.adopted_terms import Unfit
from mirror.parity.plan import MappedColumn
from mirror.parity.selected import converter as shown_by
from mirror.parity.selected import selected
from mirror.parity.values import same
from mirror.postgres.adopted.codecs import converter
from mirror.postgres.codecs import Reject
from tests.integration.test_adopted_codecs import column_type
from tests.support.adopted import FORMS, TRAPS, hostile_values
from tests.support.postgres import PostgresServer

_ENUM = (
    "CREATE TYPE color AS ENUM ('red', 'light blue', 'it''s'); CREATE DOMAIN citext AS text; CREATE EXTENSION vector"
)


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    dsn = postgres_server.create_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_ENUM)
        yield connection
    postgres_server.drop_database(dsn)


def disagreement(database: psycopg.Connection[Any], form: Form, values: Sequence[Value]) -> list[tuple[Any, ...]]:
    """Where both do not say the same of a value: the value, what is written, and what is expected."""
    column = MappedColumn("v", "v", column_type(form), form.codec)
    convert, show = converter(form), shown_by(column)
    found: list[tuple[Any, ...]] = []
    taken: list[tuple[Value, str | None, Any]] = []
    for value in values:
        expected = decoded([column], [(value,)])  # type: ignore[list-item]
        ((cell,),) = expected.rows
        try:
            text, loss = convert(value)
        except Reject as reject:
            if not isinstance(cell, Unfit):
                found.append((value, f"rejected: {reject.reason}", cell))
            continue
        if isinstance(cell, Unfit):
            found.append((value, text, f"unfit: {cell.text}"))
        elif bool(loss) != bool(expected.losses):
            found.append((value, f"loss {loss!r}", f"losses {dict(expected.losses)}"))
        taken.append((value, text, cell))
    with database.transaction(force_rollback=True), database.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE t (n int, v {column_type(form)}) ON COMMIT DROP".encode())
        with cursor.copy("COPY t FROM STDIN") as copy:
            for number, (_, text, _) in enumerate(taken):
                copy.write_row((number, text))
        query = psycopg.sql.SQL("SELECT {} FROM t ORDER BY n").format(selected(column))
        rows = cursor.execute(query, binary=True).fetchall()
    for (value, text, cell), (there,) in zip(taken, rows, strict=True):
        shown = there if show is None or there is None else show(there)
        if not same(shown, cell):
            found.append((value, f"{text} is {shown!r}", cell))
    return found


@cache
def drawn(examples: int) -> tuple[Value, ...]:
    """All traps, and random values: the same ones for every form, because to draw them takes most of the time."""
    found: list[Value] = list(TRAPS)

    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(st.lists(hostile_values(), min_size=30, max_size=60))
    def draw(values: list[Value]) -> None:
        found.extend(values)

    draw()
    return tuple(found)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.codec.removeprefix("adopted "))
def test_both_say_the_same(database: psycopg.Connection[Any], form: Form) -> None:
    assert disagreement(database, form, drawn(20)) == []


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.codec.removeprefix("adopted "))
def test_both_say_the_same_of_many(database: psycopg.Connection[Any], form: Form) -> None:
    assert disagreement(database, form, drawn(200)) == []
