"""What a move has made in Postgres besides rows: constraints, indexes, sequences; and the statements that undo it.

The mirror cannot write to tables with them: it takes commits of the file in an order that they do not. So the way back
drops exactly what the way there has made.
"""

from __future__ import annotations

from collections.abc import Iterable

from mirror.postgres.ddl import table_sql
from mirror.postgres.target import Conn, Target

_MADE = """
WITH t AS (
    SELECT c.oid, c.oid::regclass::text AS name, n.nspname
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = ANY ($1::text[]::regclass[])
)
SELECT CASE k.contype WHEN 'f' THEN 1 ELSE 2 END,
       format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', t.name, k.conname)
  FROM t JOIN pg_catalog.pg_constraint k ON k.conrelid = t.oid WHERE k.contype IN ('f', 'u', 'c', 'x')
UNION ALL
SELECT 3, format('DROP INDEX IF EXISTS %s', i.indexrelid::regclass)
  FROM t JOIN pg_catalog.pg_index i ON i.indrelid = t.oid
 WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid)
UNION ALL
SELECT 4, format('ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY IF EXISTS', t.name, a.attname)
  FROM t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid WHERE a.attidentity <> '' AND NOT a.attisdropped
UNION ALL
SELECT 5, format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT', t.name, a.attname)
  FROM t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid
 WHERE a.atthasdef AND a.attgenerated = '' AND NOT a.attisdropped
UNION ALL
SELECT 6, format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', t.name, a.attname)
  FROM t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid
 WHERE a.attnotnull AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 7, format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', t.name, a.attname)
  FROM t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid
 WHERE NOT a.attnotnull AND a.attnum > 0 AND NOT a.attisdropped
"""


def unshared(conn: Conn, source_id: int, targets: Iterable[Target]) -> list[Target]:
    """The tables that no other source fills. In the others the move makes sequences, and these stay.

    ``conn``: raw cursors.
    """
    rows = conn.execute(
        "SELECT target_schema, target_table FROM mirror.tables WHERE source_id <> $1::bigint", (str(source_id),)
    )
    taken = set(rows.fetchall())
    return [target for target in targets if (target.schema, target.name) not in taken]


def droppable(conn: Conn, targets: Iterable[Target]) -> list[str]:
    """The statements that would drop what the tables have, in an order in which they run. ``conn``: raw cursors."""
    names = [table_sql(target).as_string(conn) for target in targets]
    return [text for _, text in sorted(set(conn.execute(_MADE, (names,)).fetchall()))]
