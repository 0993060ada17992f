"""How a source that is to be mirrored no more stands in Postgres, and the records of one that was moved for good.

While it is mirrored, foreign keys and triggers of its application's tables may be set aside (:mod:`.adopted.guards`).
Once its move is finalized, nothing of the mirror's acts on its tables any more, and its records can go: its path is
then as that of any other file, and a mirror that were begun with it would find tables that are not its own, which it
refuses. Not so where several sources, or programs, share tables that a profile's migrations have made: a mirror would
fill them from the file again. There the record of the phase is what keeps the old file out, and it stays.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from mirror.postgres import phase
from mirror.postgres.adopted.guards import FOREIGN_KEY, TRIGGER
from mirror.postgres.profiles import PROFILES
from mirror.postgres.removal import held, schemas_of
from mirror.postgres.target import Conn


class Standing(NamedTuple):
    """How a source stands in one schema."""

    source_id: int
    path: str
    schema: str
    shares: bool
    """Whether its tables are those of several agents, or of a profile: they are there whether or not it is mirrored."""
    adopted: bool
    """Whether it is mirrored into an application's own tables."""
    phase: int
    """1 to 3; of a move that was cut off the phase to which it goes, if that is a later one."""
    finalized: bool
    foreign_keys: int
    """Those of an application's tables that are set aside."""
    triggers: int


def standing(conn: Conn, path: str) -> list[Standing]:
    """How a source stands in each schema into which it is, or was, mirrored. Raises psycopg's errors, ``SinkError``."""
    there = {
        name: conn.execute("SELECT to_regclass($1::text) IS NOT NULL", (f"mirror.{name}",)).fetchone() == (True,)
        for name in ("adoptions", "set_aside", "outbox")
    }
    return [_in_schema(conn, path, schema, there) for schema in schemas_of(conn, path)]


def _in_schema(conn: Conn, path: str, schema: str, there: dict[str, bool]) -> Standing:
    """``there``: by name, whether the schema ``mirror`` has a table; that of an earlier mirror lacks some."""
    ((number, agent, profile),) = conn.execute(
        "SELECT source_id, agent_id, profile FROM mirror.sources WHERE path = $1::text AND schema_name = $2::text",
        (path, schema),
    ).fetchall()
    source = (str(number),)
    query = "SELECT EXISTS (SELECT FROM mirror.adoptions WHERE source_id = $1::bigint)"
    adopted = there["adoptions"] and conn.execute(query, source).fetchone() == (True,)
    kinds = Counter[str]()
    if there["set_aside"]:
        query = "SELECT kind, count(*) FROM mirror.set_aside WHERE source_id = $1::bigint GROUP BY 1"
        kinds.update({str(kind): int(count) for kind, count in conn.execute(query, source).fetchall()})
    at, finalized = 1, False
    if there["outbox"]:  # a mirror of before has moved none that could be moved back
        now = phase.read(conn, int(number))
        at = max(3 if now.sealed_at is not None else min(now.number, 2), now.moving_to or 1)
        finalized = now.finalized_at is not None
    shares = agent is not None or bool(profile and PROFILES[profile].migrations)
    return Standing(int(number), path, schema, shares, adopted, at, finalized, kinds[FOREIGN_KEY], kinds[TRIGGER])


def forget_finalized(conn: Conn, source: Standing) -> bool:
    """Delete the records of a source whose move was finalized; its tables stay, with all that is in them.

    ``conn`` is in autocommit mode. Returns whether they went: what shares tables keeps them. Raises
    :class:`~mirror.core.errors.FencedError` if a mirror holds it, and psycopg's errors.
    """
    if source.shares:
        return False
    with held(conn, "remove a source", source.path, [source.source_id]), conn.transaction():
        number = (str(source.source_id),)
        conn.execute("DELETE FROM mirror.changes WHERE source_id = $1::bigint", number)
        # All that names it by its number goes with it.
        gone = conn.execute(
            "DELETE FROM mirror.sources s WHERE source_id = $1::bigint AND EXISTS (SELECT FROM mirror.phase p"
            " WHERE p.source_id = s.source_id AND p.finalized_at IS NOT NULL)",
            number,
        )
        return gone.rowcount == 1
