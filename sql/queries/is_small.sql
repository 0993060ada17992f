-- $1 schema, $2 table: whether it is not to be analyzed yet. Statistics of a few rows, most of all of a single one,
-- mislead the planner until the server takes new ones: with one row, every column looks like a key. Without any, it goes
-- by the size that the table has by now.
SELECT pg_catalog.pg_relation_size(c.oid) < 2 * 8192
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1::text AND c.relname = $2::text
