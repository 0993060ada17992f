"""Views that show a vec0 table of the source as it reads there: one row a vector, out of the chunks that are mirrored.

``<name>_rowids`` says in which chunk and at which place of it a row's vectors are; a chunk has room for ``size`` of
them, so that the bytes of one follow from those of all. A view is the mirror's as long as its comment says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from loguru import logger
from psycopg.sql import SQL, Composable, Identifier, Literal

from mirror.postgres.names import occupants
from mirror.postgres.profiles.generic import pg_name
from mirror.postgres.target import Conn, Target

#: The comment on such a view.
MADE = "mirror: a virtual table of the source, out of the tables with its data"
#: How a table with chunks is joined; its key has no declared type, and so is jsonb.
_OF_CHUNK = SQL("AS {0} ON {0}.rowid = to_jsonb(r.chunk_id)")
#: By kind of metadata: its value, in the chunk that the row {} has.
_METADATA = {
    "integer": SQL("mirror.vec0_integer({}.data, r.chunk_offset::int)"),
    "float": SQL("mirror.vec0_float({}.data, r.chunk_offset::int)"),
    "boolean": SQL("get_bit({}.data, r.chunk_offset)"),
    "text": SQL("mirror.vec0_text({}.data, r.chunk_offset::int)"),
}
#: Columns that become large; Postgres reads a part of one without the rest if it is not compressed.
_IN_CHUNKS = "vectors"


def keep_uncompressed(conn: Conn, target: Target) -> None:
    """Have the chunks of a new table stored so that one vector can be read without all others."""
    for column in target.columns:
        if column.name == _IN_CHUNKS and column.pg_type == "bytea":
            place = Identifier(target.schema, target.name)
            conn.execute(
                SQL("ALTER TABLE {} ALTER COLUMN {} SET STORAGE EXTERNAL").format(place, Identifier(column.name))
            )


def drop_view(conn: Conn, target: Target) -> None:
    """Drop the view of the virtual table of which a table has data, if there is one."""
    if target.virtual is not None and _is_ours(conn, target.schema, name := pg_name(target.virtual)):
        conn.execute(SQL("DROP VIEW {}").format(Identifier(target.schema, name)))


def make_view(
    conn: Conn, schema: str, virtual: str, columns: tuple[tuple[str, str], ...], targets: Mapping[str, Target]
) -> None:
    """Make the view of a virtual table, if the tables with its data are all there.

    ``columns``: as :attr:`~mirror.core.tables.Table.unpacked`. A name that somebody else's object has is left to it.
    """
    name = pg_name(virtual)
    joins: dict[str, tuple[SQL, Composable]] = {
        f"{virtual}_rowids": (SQL(""), SQL("AS r")),
        f"{virtual}_chunks": (SQL("JOIN"), SQL("AS c ON c.chunk_id = r.chunk_id")),
    }
    shown: list[Composable] = [SQL("r.rowid")]
    for column, place in columns:
        kind, number = place[:-2], place[-2:]
        if place in ("id", "rowid"):
            value: Composable = SQL("r.{}").format(Identifier(place))
        elif kind == "vectors":
            of = Identifier(f"v{number}")
            joins[f"{virtual}_vector_chunks{number}"] = SQL("JOIN"), _OF_CHUNK.format(of)
            size = SQL("(octet_length({}.vectors) / c.size)::int").format(of)
            value = SQL("substring({0}.vectors FROM r.chunk_offset::int * {1} + 1 FOR {1})").format(of, size)
        elif kind == "value":
            joins[f"{virtual}_auxiliary"] = SQL("LEFT JOIN"), SQL("AS a ON a.rowid = r.rowid")
            value = SQL("a.{}").format(Identifier(place))
        elif kind == "partition":
            value = SQL("c.{}").format(Identifier(place))
        elif kind in _METADATA:
            of = Identifier(f"m{number}")
            joins[f"{virtual}_metadatachunks{number}"] = SQL("JOIN"), _OF_CHUNK.format(of)
            value = _METADATA[kind].format(of)
            if kind == "text":
                of = Identifier(f"t{number}")
                joined = SQL("AS {0} ON {0}.rowid = to_jsonb(r.rowid)").format(of)
                joins[f"{virtual}_metadatatext{number}"] = SQL("LEFT JOIN"), joined
                value = SQL("coalesce({}, {}.data)").format(value, of)
        else:
            continue
        shown.append(SQL("{} AS {}").format(value, Identifier(column)))
    if any(each not in targets for each in joins):
        return
    if _is_ours(conn, schema, name):
        conn.execute(SQL("DROP VIEW {}").format(Identifier(schema, name)))
    elif there := occupants(conn, schema, name):
        logger.warning("no view {}.{} of the vectors is made: {} has the name", schema, name, there[0])
        return
    parts = [
        SQL("{} {} {}").format(how, Identifier(targets[table].schema, targets[table].name), joined)
        for table, (how, joined) in joins.items()
    ]
    query = SQL("CREATE VIEW {} AS SELECT {} FROM {}")
    conn.execute(query.format(Identifier(schema, name), SQL(", ").join(shown), SQL(" ").join(parts)))
    conn.execute(SQL("COMMENT ON VIEW {} IS {}").format(Identifier(schema, name), Literal(MADE)))


def _is_ours(conn: Conn, schema: str, name: str) -> bool:
    found = conn.execute(
        "SELECT pg_catalog.obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
        " ON n.oid = c.relnamespace WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind = 'v'",
        (schema, name),
    ).fetchone()
    return found == (MADE,)
