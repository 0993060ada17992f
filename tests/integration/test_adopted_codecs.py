"""What the codecs of adopted columns give is what Postgres stores, under all settings of a session."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from decimal import Decimal
from ipaddress import ip_interface
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirror.core.adopted import Form
from mirror.core.values import Value
from mirror.postgres.adopted.codecs import converter, encoder
from mirror.postgres.codecs import Reject
from tests.support.adopted import FORMS, TRAPS, hostile_values
from tests.support.postgres import PostgresServer

SESSIONS = (
    "SET datestyle = 'SQL, DMY'; SET timezone = 'America/New_York'; SET intervalstyle = sql_standard;"
    "SET bytea_output = escape; SET extra_float_digits = -15",
    "SET datestyle = 'German, MDY'; SET timezone = 'Asia/Kolkata'; SET intervalstyle = iso_8601",
    "SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'; SET intervalstyle = postgres_verbose;"
    "SET timezone_abbreviations = 'Australia'; SET standard_conforming_strings = off",
)
_STAMP = "'YYYY-MM-DD HH24:MI:SS.US'"
#: What a value is, as a text that no setting changes.
CANONICAL = {
    "timestamptz": f"to_char(v AT TIME ZONE 'UTC', {_STAMP})",
    "timestamp": f"to_char(v, {_STAMP})",
    "date": "to_char(v, 'YYYY-MM-DD')",
    "time": "to_char(v, 'HH24:MI:SS.US')",
    "interval": "format('%s %s %s', extract(month FROM v), extract(day FROM v),"
    " extract(epoch FROM v) - 86400 * extract(day FROM v))",
    "float4": "encode(float4send(v), 'hex')",
    "float8": "encode(float8send(v), 'hex')",
    "bytea": "encode(v, 'hex')",
    "inet": "format('%s/%s', host(v), masklen(v))",
    "cidr": "format('%s/%s', host(v), masklen(v))",
}
#: Types without their limits, where the kind is not the name.
TYPES = {
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "time": "time without time zone",
    "varchar": "character varying",
    "char": "bpchar",
    "enum": "color",
}


def column_type(form: Form) -> str:
    """The type of a column of the form, with its limits."""
    name = TYPES.get(form.kind, form.kind)
    if form.kind == "array":
        assert form.element is not None
        return f"{column_type(form.element)}[]"
    if form.precision is not None:
        return f"numeric({form.precision},{form.scale or 0})"
    if form.digits is not None:
        first, _, rest = name.partition(" ")
        return f"{first}({form.digits}) {rest}"
    return f"{name}({form.length})" if form.length is not None else name


def cast_type(form: Form) -> str:
    """The same without limits."""
    if form.kind == "array":
        assert form.element is not None
        return f"{cast_type(form.element)}[]"
    return TYPES.get(form.kind, form.kind)


def meant(kind: str, text: str) -> Any:
    """What a text of the codecs says, read by other means than Postgres'."""
    match kind:
        case "timestamptz" | "timestamp":
            return text.removesuffix("+00:00")[:19] + (text.removesuffix("+00:00")[19:] or ".000000")
        case "time":
            return text[:8] + (text[8:] or ".000000")
        case "interval":
            days, _, seconds, _ = text.split()
            return f"0 {int(days)} {Decimal(seconds):.6f}"
        case "boolean":
            return {"t": "true", "f": "false"}[text]
        case "numeric" | "jsonb":
            return json.loads(text, parse_int=Decimal, parse_float=Decimal) if kind == "jsonb" else Decimal(text)
        case "float4" | "float8":
            return struct.pack(">f" if kind == "float4" else ">d", float(text)).hex()
        case "bytea":
            return text[2:]
        case "inet" | "cidr":
            found = ip_interface(text)
            return found.ip, found.network.prefixlen
        case "char":
            return text.rstrip(" ")
        case "vector" | "halfvec":
            return singles(text)
        case _:
            return text


def singles(text: str) -> list[bytes]:
    """The numbers of a vector as float32."""
    return [struct.pack("<f", float(number)) for number in text[1:-1].split(",")]


def shown(kind: str, text: str) -> Any:
    """What Postgres says, to be compared with it."""
    match kind:
        case "numeric":
            return Decimal(text)
        case "jsonb":
            return json.loads(text, parse_int=Decimal, parse_float=Decimal)
        case "inet" | "cidr":
            address, _, length = text.partition("/")
            return ip_interface(address).ip, int(length)
        case "vector" | "halfvec":
            return singles(text)
        case _:
            return text


class Tables:
    """A table for each form, in sessions of other settings."""

    def __init__(self, dsn: str) -> None:
        self.sessions = [psycopg.connect(dsn, autocommit=True, prepare_threshold=1) for _ in SESSIONS]
        first = self.sessions[0]
        first.execute("CREATE TYPE color AS ENUM ('red', 'light blue', 'it''s')")
        first.execute("CREATE EXTENSION vector")
        available = first.execute("SELECT FROM pg_available_extensions WHERE name = 'citext'").fetchone()
        first.execute("CREATE EXTENSION citext" if available else "CREATE DOMAIN citext AS text")
        for number, form in enumerate(FORMS):
            first.execute(f"CREATE UNLOGGED TABLE t{number} (v {column_type(form)})")
        for session, commands in zip(self.sessions, SESSIONS, strict=True):
            for command in commands.split(";"):
                session.execute(command)

    def check(self, number: int, values: list[Value]) -> int:
        """Store what the form makes of the values, in a column with its limits; return how many it takes."""
        form = FORMS[number]
        texts = [text for text in map(taken(form), values) if text is not None]
        element = form if form.element is None else form.element
        canonical = CANONICAL.get(element.kind, "v::text")
        for session in self.sessions:
            session.execute(f"TRUNCATE t{number}")
            made = (
                f"SELECT given::{cast_type(form)} FROM unnest(%s::text[]) WITH ORDINALITY AS g(given, at) ORDER BY at"
            )
            session.execute(f"INSERT INTO t{number} {made}", [texts])
            if form.element is None:
                found = session.execute(f"SELECT {canonical} FROM t{number}").fetchall()
                assert [shown(form.kind, row[0]) for row in found] == [meant(form.kind, text) for text in texts]
            else:
                members = f"(SELECT array_agg({canonical} ORDER BY at) FROM unnest(a) WITH ORDINALITY AS u(v, at))"
                dimensions = "coalesce(array_ndims(a), 0), cardinality(a)"
                found = session.execute(f"SELECT {members}, {dimensions} FROM t{number} AS t(a)").fetchall()
                for (stored, depth, size), text in zip(found, texts, strict=True):
                    assert depth == len(text) - len(text.lstrip("{")) if size else text == "{}"
                    items = [None if item is None else shown(element.kind, item) for item in stored or ()]
                    assert items == [None if item is None else meant(element.kind, item) for item in members_of(text)]
        return len(texts)


def taken(form: Form) -> Any:
    """The conversion, None for what it refuses."""
    convert, encode = converter(form), encoder(form)

    def text_of(value: Value) -> str | None:
        try:
            text = convert(value).text
        except Reject:
            return None
        assert encode(value) == text
        return text

    return text_of


def members_of(text: str) -> list[str | None]:
    """The elements of an array's text, in any depth."""
    found: list[str | None] = []
    at = 0
    while at < len(text):
        if text[at] == '"':
            item, at = "", at + 1
            while text[at] != '"':
                at += text[at] == "\\"
                item, at = item + text[at], at + 1
            found.append(item)
        elif text.startswith("NULL", at):
            found.append(None)
            at += 3
        at += 1
    return found


@pytest.fixture(scope="module")
def tables(postgres_server: PostgresServer) -> Iterator[Tables]:
    dsn = postgres_server.create_database()
    tables = Tables(dsn)
    yield tables
    for session in tables.sessions:
        session.close()
    postgres_server.drop_database(dsn)


def test_traps(tables: Tables) -> None:
    """Of each kind some are taken."""
    numbers: list[Value] = [0, 1, -1, 2, 32768, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 86400, 1767308400, 16777217]
    numbers += [0.0, -0.0, 0.1, 0.5, 1.5, 2.5, 99999.995, 0.0099, 1e22, 1e-7, 1e-320, 1e308, 3.5e38, 1e300, 12350]
    blobs: list[Value] = [b"", b"\0\xff\\x", b"[1]", b"0123456789abcdef", b"a\0b", struct.pack("<2f", -0.0, 1e-45)]
    blobs += [struct.pack("<3f", 0.1, 65504, 6e-8), struct.pack("<3f", 0.5, -2, 3), struct.pack("<3f", 1, 2, 65520)]
    long: list[Value] = ["1e131071", "1" * 131072, "1e-16383", "[" * 500 + "]" * 500, json.dumps('\\"\n\t\x7f\ufeff😀')]
    for number, form in enumerate(FORMS):
        count = tables.check(number, [*TRAPS, *numbers, *blobs, *long])
        assert count > (0 if form.kind == "array" else 1), form


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
@given(values=st.lists(hostile_values(), min_size=10, max_size=40))
def test_anything_at_all(tables: Tables, values: list[Value]) -> None:
    for number in range(len(FORMS)):
        tables.check(number, values)
