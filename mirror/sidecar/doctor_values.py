"""The values of a table's columns, and the Postgres type that each column gets.

The source is read as parity reads it: through SQL, some thousand rows at a time, so that no read transaction lasts
long. Its program may write during that: each chunk then shows another state, which is good enough to find what kinds of
values a column has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import apsw

from mirror.core.checks import Code
from mirror.core.quote import quoted
from mirror.core.sql_values import decoded, with_classes
from mirror.core.tables import ANY_VALUE, ColumnType, Table, TableMapping
from mirror.core.values import BadText, Row, Value
from mirror.core.words import counted
from mirror.postgres import kinds
from mirror.postgres.codecs import (
    BAD_TEXT,
    LONG_KEY,
    NUL_TEXT,
    Misfit,
    Reject,
    UnfitText,
    check_key,
    jsonb_text,
    key_encoder,
    kind_of,
    size_of,
)
from mirror.postgres.originals import document_of
from mirror.postgres.target import Target
from mirror.postgres.typed import encoder
from mirror.sidecar.doctor_report import ColumnReport, Report, TableReport

#: By source table and column: the type that it has in Postgres already.
Held = dict[tuple[str, str], ColumnType]
#: Bytes of a key up to which it surely fits an index, in whatever form.
_SHORT_KEY = 400
#: Rows read at a time.
CHUNK_ROWS = 2_000
#: Rows checked of a WITHOUT ROWID table, which has no rowid by which it can be read in chunks.
KEYED_ROWS = 100_000


def check_values(report: Report, connection: apsw.Connection, mapping: TableMapping, held: Held) -> None:
    """Add a table's columns to the report, with what was found in them. Raises ``apsw.Error``."""
    table = mapping.table
    columns = [
        ColumnReport(table.name, column.name, column.declared_type, target.pg_type)
        for column, target in zip(table.columns, mapping.columns, strict=True)
    ]
    classes = [Counter[str]() for _ in columns]
    rejects = [Counter[str]() for _ in columns]
    unfit: list[set[str]] = [set() for _ in columns]
    keys = [at for at, target in enumerate(mapping.columns) if target.name in (mapping.key or ())]
    encoders = [
        key_encoder(target.pg_type) if at in keys and not target.codec else encoder(target.pg_type, target.codec)
        for at, target in enumerate(mapping.columns)
    ]
    stored = Target.of(mapping, report.agent)
    offered = [
        kinds.choices(ColumnType(target.pg_type, target.codec), of_key=at in keys, shared=stored.without_kinds)
        for at, target in enumerate(mapping.columns)
    ]
    seen = [kinds.Kinds(choices) for choices in offered]
    free = [ColumnType(target.pg_type, target.codec) == ANY_VALUE for target in mapping.columns]
    odd = [Counter[str]() for _ in columns]
    documents = [target.codec == "document" for target in mapping.columns]
    plain = [0] * len(columns)
    room = stored.has_room
    long_keys = {False: 0, True: 0}
    null_keys = rows = 0
    for row in rows_of(connection, table):
        rows += 1
        null_keys += any(row[at] is None for at in keys)
        if keys and sum(map(size_of, (row[at] for at in keys))) > _SHORT_KEY:
            for as_jsonb in long_keys:
                long_keys[as_jsonb] += _is_long([row[at] for at in keys], as_jsonb=as_jsonb)
        for at, value in enumerate(row):
            classes[at][_class_of(value)] += 1
            seen[at].see(value)
            try:
                shown = encoders[at](value)
                if documents[at] and isinstance(value, str) and document_of(value) is None and shown is not None:
                    plain[at] += 1
                if free[at] and (reason := _odd(value)):
                    odd[at][reason] += 1
            except Misfit:
                columns[at].misfits += 1
                unfit[at].add(kind_of(value))
                if reason := _odd(value):
                    odd[at][reason] += 1
            except Reject as reject:
                if kinds.is_odd_key(value, of_key=at in keys, shared=report.agent is not None):
                    columns[at].misfits += 1
                    unfit[at].add(kind_of(value))
                elif isinstance(reject, UnfitText) and at not in keys and report.agent is None and room:
                    columns[at].escaped += 1
                else:
                    rejects[at][reject.reason] += 1
    report.columns += columns
    key = ("_rowid",) if null_keys and report.agent is None else mapping.key or ("_rowid",)
    report.tables.append(TableReport(table.name, list(key)))
    for at, found in enumerate(columns):
        found.classes, found.rejects = dict(classes[at].most_common()), dict(rejects[at].most_common())
        declared = ColumnType(mapping.columns[at].pg_type, mapping.columns[at].codec)
        wanted = seen[at].of_values(declared, fits=not found.misfits)
        has = held.get((found.table, found.column))
        stays = has is not None and seen[at].stays(has, declared, fits=not found.misfits)
        if has is not None and stays and free[at] and not seen[at].any_seen:
            wanted = has
        becomes = has if has is not None and stays else wanted if has is None else ANY_VALUE
        found.becomes = becomes.pg_type
        if wanted.pg_type == "text" and (found.misfits or free[at]) and at not in keys:
            if room:
                found.escaped += odd[at].total()
            else:
                found.rejects |= odd[at]
        if has is not None and has.pg_type != wanted.pg_type and stays:
            if has == ANY_VALUE or has.codec in kinds.CODECS:
                detail = f"is {has.pg_type} in Postgres, though every value fits {wanted.pg_type}"
                step = f"`mirror rejects retry {report.source}` gives it that type, while `mirror up` runs"
            else:
                detail = f"is {has.pg_type} in Postgres, where it would now be {wanted.pg_type}"
                step = (
                    "start `mirror up` again: a rule for a column takes effect then, another type when the table is"
                    " copied"
                )
            report.add(Code.COLUMN_WIDENED, "note", f"column {table.name}.{found.column}", detail, step)
        if found.misfits:
            verb = "is" if stays else "becomes"
            fit = "does not fit" if found.misfits == 1 else "do not fit"
            what = ", ".join(sorted(unfit[at]))
            detail = f"{verb} {found.becomes}: {counted(found.misfits, 'value')} {fit} its type ({what})"
            step = "nothing is lost; for a typed column, change these values in the source before `mirror up`"
            if becomes != ANY_VALUE:
                detail += ", and all are of this one kind"
                step = "nothing is lost; a value of another kind makes it jsonb later"
            report.add(Code.COLUMN_WIDENED, "note", f"column {table.name}.{found.column}", detail, step)
        if found.escaped:
            are = "has a NUL or is not valid" if found.escaped == 1 else "have a NUL or are not valid"
            detail = f"{counted(found.escaped, 'text')} {are}: shown without that, and whole in _original"
            step = "nothing is lost; sql/README.md says how to read them"
            report.add(Code.COLUMN_ESCAPED, "note", f"column {table.name}.{found.column}", detail, step)
        if plain[at]:
            are = "is no JSON: it is a JSON string" if plain[at] == 1 else "are no JSON: they are JSON strings"
            detail = f"{counted(plain[at], 'text')} {are} in Postgres"
            step = "nothing is lost; `#>> '{}'` gives such a text, and `->>` the members of all others"
            report.add(Code.COLUMN_NO_JSON, "note", f"column {table.name}.{found.column}", detail, step)
        for reason, count in found.rejects.items():
            report.add(
                Code.COLUMN_REJECTS,
                "problem",
                f"column {table.name}.{found.column}",
                f"{counted(count, 'row')} would go to mirror.rejects: {reason}",
                "change the values in the source, or accept it: `mirror rejects list` shows the rows later",
            )
    if long := long_keys[any(columns[at].becomes == "jsonb" for at in keys)]:
        detail = f"{counted(long, 'row')} would go to mirror.rejects: {LONG_KEY}"
        step = "make these keys shorter in the source, or accept it: `mirror rejects list` shows the rows later"
        report.add(Code.TABLE_KEY, "problem", f"table {table.name}", detail, step)
    if null_keys and report.agent is not None:
        report.add(
            Code.TABLE_KEY,
            "problem",
            f"table {table.name}",
            f"{counted(null_keys, 'row')} would go to mirror.rejects: NULL in the primary key",
            "give these rows a key in the source",
        )
    elif null_keys:
        have = "has NULL in its key" if null_keys == 1 else "have NULL in their key"
        detail = f"keyed by _rowid: {counted(null_keys, 'row')} {have}"
        step = "for its own key in Postgres, give these rows a key in the source"
        report.add(Code.TABLE_KEY, "note", f"table {table.name}", detail, step)
    if table.without_rowid and rows >= KEYED_ROWS:
        detail = f"only its first {KEYED_ROWS:,} rows were checked"
        step = "after `mirror up`, `mirror status` counts all rejected rows"
        report.add(Code.TABLE_LARGE, "note", f"table {table.name}", detail, step)


def _odd(value: Value) -> str:
    """Why a text has no form in Postgres; empty if it has."""
    if isinstance(value, BadText):
        return BAD_TEXT
    return NUL_TEXT if isinstance(value, str) and "\0" in value else ""


def _is_long(key: Sequence[Value], *, as_jsonb: bool) -> bool:
    """Whether no index entry can hold a key; ``as_jsonb``: of columns that hold any value."""
    if as_jsonb:
        held = [("jsonb", None if value is None else jsonb_text(value)) for value in key]
    else:
        held = [("bytea", f"\\x{v.hex()}") if isinstance(v, bytes) else ("text", _text_of(v)) for v in key]
    try:
        check_key(*zip(*held, strict=True))
    except Reject:
        return True
    return False


def _text_of(value: Value) -> str | None:
    """A text; None for what takes no more room than a number."""
    return value if isinstance(value, str) else None


def _class_of(value: Value) -> str:
    classes = {type(None): "null", int: "integer", float: "real", str: "text", BadText: "text", bytes: "blob"}
    return classes[type(value)]


def rows_of(connection: apsw.Connection, table: Table) -> Iterator[Row]:
    """All rows, one read transaction a chunk; of a WITHOUT ROWID table the first :data:`KEYED_ROWS`."""
    encoding = str(connection.pragma("encoding"))
    names = [quoted(column.name) for column in table.columns]
    parts = [with_classes(names)] if names else []
    taken = {column.name.lower() for column in table.declared.columns}
    rowid = next((name for name in ("rowid", "oid", "_rowid_") if name not in taken), None)
    if table.without_rowid or rowid is None:
        query = f"SELECT {', '.join(('0', *parts))} FROM {quoted(table.name)} LIMIT {KEYED_ROWS}"
        for raw in connection.execute(query).fetchall():
            yield decoded(raw[1:], encoding)
        return
    query = f"SELECT {', '.join((rowid, *parts))} FROM {quoted(table.name)}"
    chunk = connection.execute(f"{query} ORDER BY {rowid} LIMIT {CHUNK_ROWS}").fetchall()
    last = -(1 << 63) - 1
    while chunk:
        for raw in chunk:
            number: Any = raw[0]
            if number <= last:
                raise apsw.CorruptError("its b-tree leads back")  # SQLite would read it for ever
            last = number
            yield decoded(raw[1:], encoding)
        following = f"{query} WHERE {rowid} > ? ORDER BY {rowid} LIMIT {CHUNK_ROWS}"
        chunk = connection.execute(following, (last,)).fetchall()
