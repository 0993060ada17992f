"""SQLite's values in the binary form of COPY, where psycopg has none for them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from psycopg import postgres
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format
from psycopg.types.numeric import DecimalBinaryDumper

from mirror.postgres.codecs import encode, key_encoder, real_text


class JsonDumper(Dumper):
    """SQLite values into binary jsonb (a version byte and the text)."""

    format = Format.BINARY
    oid = postgres.types["jsonb"].oid

    def dump(self, obj: Any) -> Buffer | None:
        """The value's bytes; raises :class:`~mirror.postgres.codecs.Unfit`."""
        return b"\x01" + (encode("jsonb", obj) or "null").encode()


class JsonKeyDumper(JsonDumper):
    """The same for a table of which the key has such a column."""

    def dump(self, obj: Any) -> Buffer | None:
        """The value's bytes; raises :class:`~mirror.postgres.codecs.Unfit`."""
        return b"\x01" + (key_encoder("jsonb")(obj) or "null").encode()


class NumericDumper(Dumper):
    """SQLite integers and reals into binary numeric."""

    format = Format.BINARY
    oid = postgres.types["numeric"].oid

    def dump(self, obj: Any) -> Buffer | None:
        """The value's bytes; raises :class:`~mirror.postgres.codecs.Unfit`."""
        if isinstance(obj, float):
            obj = Decimal(encode("numeric", obj) or real_text(obj))
        return DecimalBinaryDumper(Decimal).dump(Decimal(obj))
