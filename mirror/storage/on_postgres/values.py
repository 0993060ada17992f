"""How values are loaded, and embeddings sent, on an adapter's connections to Postgres: in binary form.

Times become the text that SQLite has for most of them (mirror/postgres/typed.py): ``2026-11-23 00:05:04`` for a whole
second, else ``2026-11-23T00:05:04.442Z``. A row with another form keeps it in ``_original``.
"""

from __future__ import annotations

import struct
from datetime import datetime, timedelta

from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format
from psycopg.types import TypeInfo

from mirror.core.errors import SinkError
from mirror.storage.tables import Embedding

_EPOCH = datetime(2000, 1, 1)
_MICROS = struct.Struct(">q")
_HEAD = struct.Struct(">HH")


class UtcTextLoader(Loader):
    """timestamptz: eight bytes, microseconds since 2000-01-01 UTC (backend/utils/adt/timestamp.c, timestamptz_send)."""

    format = Format.BINARY

    def load(self, data: Buffer) -> str:
        """The time as text."""
        (micros,) = _MICROS.unpack(data)
        try:
            moment = _EPOCH + timedelta(microseconds=micros)
        except OverflowError as error:
            detail = "a time outside of the years 1 to 9999"
            raise SinkError("read a row", detail=detail, next_step="correct the row") from error
        if micros % 1_000_000 == 0:
            return moment.isoformat(" ")
        return moment.isoformat(timespec="milliseconds" if micros % 1000 == 0 else "microseconds") + "Z"


class EmbeddingLoader(Loader):
    """vector: two bytes of dimensions, two that are 0, big-endian float32 values (pgvector, vector_send)."""

    format = Format.BINARY

    def load(self, data: Buffer) -> Embedding:
        """The vector."""
        return Embedding.from_bytes(bytes(data[4:]), big_endian=True)


class EmbeddingDumper(Dumper):
    """vector, in binary form (pgvector, vector_recv); see :class:`EmbeddingLoader`."""

    format = Format.BINARY

    def dump(self, obj: Embedding) -> bytes:
        """The vector."""
        return _HEAD.pack(len(obj), 0) + obj.to_bytes(big_endian=True)


def register(context: AdaptContext, vector: TypeInfo | None) -> None:
    """Register how values are loaded and sent. ``vector``: the type as this database has it; None: it has none."""
    context.adapters.register_loader("timestamptz", UtcTextLoader)
    if vector is not None:
        context.adapters.register_loader(vector.oid, EmbeddingLoader)
        dumper = type("EmbeddingDumper", (EmbeddingDumper,), {"oid": vector.oid})
        context.adapters.register_dumper(Embedding, dumper)
