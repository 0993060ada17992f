"""Which Postgres a comparison was made with; without passwords."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True, slots=True)
class Server:
    """Which Postgres was compared."""

    host: str
    """Its name or address, or the folder of its socket."""
    port: int
    database: str
    schema: str
    """Of the source's tables."""
    version: str

    def __str__(self) -> str:
        at = f"{self.host} port {self.port}" if self.host.startswith("/") else f"{self.host}:{self.port}"
        return f"Postgres {self.version} at {at}, database {self.database}, schema {self.schema}"


def server_of(conn: psycopg.Connection[Any], schema: str) -> Server:
    """Which Postgres a connection leads to. Raises psycopg's errors."""
    info = conn.info
    version = info.parameter_status("server_version") or ""
    return Server(info.host or info.hostaddr, info.port, info.dbname, schema, version)
