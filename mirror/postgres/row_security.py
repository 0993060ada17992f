"""Tables of which policies of row-level security apply to the mirror's role: it could not see or write all rows.

Superusers and roles with BYPASSRLS are never subject to policies, an owner only by FORCE ROW LEVEL SECURITY. The
mirror's sessions set ``row_security = off``, so that such a table is an error and not one without rows: of the SQLSTATE
that missing rights have, too (42501). What it is can only be asked of the catalogue.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from mirror.core.errors import SinkError
from mirror.core.quote import quoted
from mirror.postgres.migrate import statement
from mirror.postgres.target import Conn

#: insufficient_privilege.
_STATE = "42501"


class Secured(NamedTuple):
    """A table of which policies apply."""

    schema: str
    name: str
    forced: bool
    """Whether only FORCE ROW LEVEL SECURITY has them apply, as the role is the owner's."""

    @property
    def detail(self) -> str:
        """What keeps the mirror from it."""
        why = "it has FORCE ROW LEVEL SECURITY" if self.forced else "the user does not own it"
        return f"policies of row-level security would keep rows of it from the mirror's user: {why}"

    @property
    def next_step(self) -> str:
        """What an operator can do about it."""
        if self.forced:
            sql = f"ALTER TABLE {quoted(self.schema)}.{quoted(self.name)} NO FORCE ROW LEVEL SECURITY"
            return f"`{sql}` while it is mirrored; or give the mirror a role with BYPASSRLS"
        return "give the mirror the role that owns the table, or one with BYPASSRLS"


def secured(conn: Conn, tables: Collection[tuple[str, str]]) -> list[Secured]:
    """Those of the tables, each its schema and name, of which policies apply. Raises psycopg's errors."""
    schemas, names = [schema for schema, _ in tables], [name for _, name in tables]
    return [Secured(*row) for row in conn.execute(statement("row_security"), (schemas, names)).fetchall()]


def require_open(conn: Conn, operation: str, tables: Collection[tuple[str, str]]) -> None:
    """Raise :class:`SinkError` (retryable) if policies of one of the tables apply; psycopg's errors."""
    if not (found := secured(conn, tables)):
        return
    first, others = found[0], len(found) - 1
    more = f"; and likewise of {', '.join(f'{each.schema}.{each.name}' for each in found[1:])}" if others else ""
    place, detail = f"{first.schema}.{first.name}", f"{first.detail}{more}"
    raise SinkError(operation, place, detail, sqlstate=_STATE, next_step=first.next_step, retryable=True)
