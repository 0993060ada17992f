"""The CHECK constraints of an application's tables, tried by Postgres on the values that would be written.

The values are sent to Postgres, and nothing is stored there: an expression is tried on rows that exist only in the
query. Rows with a value that is rejected anyway are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.sql import SQL, Composed, Identifier

from mirror.adoption.columns import Finding
from mirror.adoption.scan import Plan, Scan, keys_of
from mirror.adoption.source import Source
from mirror.core.words import one_line
from mirror.postgres.adopted.codecs import encoder
from mirror.postgres.adopted.found import Check
from mirror.postgres.codecs import Reject
from mirror.postgres.target import Conn

#: What the number of a row is called in a query: no column of an application's has this name.
_NUMBER = Identifier("mirror row number")
#: Columns of a query that have the values as texts.
_TEXT = "mirror text {}"


def try_checks(conn: Conn, source: Source, plan: Plan, found: Scan) -> None:
    """Add the rows that break a CHECK to what was found in a table. Raises psycopg's errors, and apsw's.

    One that cannot be tried is told as such: of a column that the source lacks, or where its expression fails.
    """
    if found.error:
        return
    tried = []
    for check in plan.found.checks:
        if set(check.columns) <= set(plan.sources):
            tried.append(check)
        else:
            found.unchecked.append(f"check {check.name}: {check.expression}: it has a column that the source lacks")
    for check in tried:
        finding = Finding(
            "check",
            ", ".join(plan.sources[name] for name in check.columns),
            f"it breaks CHECK {check.expression} ({check.name})",
        )
        try:
            _try(conn, source, plan, check, finding)
        except psycopg.OperationalError:
            raise
        except psycopg.DatabaseError as error:
            detail = one_line(str(error))
            found.unchecked.append(f"check {check.name}: {check.expression}: Postgres cannot compute it ({detail})")
        if finding.rows:
            found.findings.append(finding)


def _try(conn: Conn, source: Source, plan: Plan, check: Check, finding: Finding) -> None:
    forms, names = plan.forms, [plan.sources[name] for name in check.columns]
    encoders = [encoder(forms[name]) for name in names]
    # The key's columns are read too, so that its values can be told.
    read = [*names, *(plan.sources[name] for name in plan.mapping.key or () if plan.sources[name] not in names)]
    query = _query(plan, check)
    for part in source.parts(plan.table, read):
        columns: list[list[str | None]] = [[] for _ in names]
        numbers: list[str] = []
        for number, row in enumerate(part.rows):
            try:
                texts = [encode(value) for encode, value in zip(encoders, row, strict=False)]
            except Reject:
                continue
            numbers.append(str(number))
            for column, text in zip(columns, texts, strict=True):
                column.append(text)
        key_at = keys_of(plan, part, read)
        for (number,) in _breaking(conn, query, numbers, columns):
            finding.add(key_at(int(number)))


def _query(plan: Plan, check: Check) -> Composed:
    """The numbers of the rows that break a CHECK: its expression names columns, and there are no others."""
    texts = [Identifier(_TEXT.format(at)) for at in range(len(check.columns))]
    given = [SQL("${}::text[]").format(SQL(str(at + 2))) for at in range(len(check.columns))]
    values = [
        SQL("{}::{} AS {}").format(text, SQL(plan.found.column(name).type.base), Identifier(name))
        for text, name in zip(texts, check.columns, strict=True)
    ]
    return SQL(
        "SELECT {number} FROM (SELECT {values} FROM unnest({given}) AS k ({texts})) AS t"
        " WHERE ({expression}) IS FALSE ORDER BY {number}::int"
    ).format(
        number=_NUMBER,
        values=SQL(", ").join([_NUMBER, *values]),
        given=SQL(", ").join([SQL("$1::text[]"), *given]),
        texts=SQL(", ").join([_NUMBER, *texts]),
        expression=SQL(check.expression),
    )


def _breaking(conn: Conn, query: Composed, numbers: list[str], columns: Sequence[Any]) -> list[tuple[Any, ...]]:
    return conn.execute(query, [numbers, *columns]).fetchall() if numbers else []
