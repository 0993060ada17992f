-- path, schema: about how many rows the source's tables have in Postgres.
SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
  FROM mirror.tables t
  JOIN mirror.sources s USING (source_id)
  JOIN pg_catalog.pg_namespace n ON n.nspname = t.target_schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.target_table
 WHERE s.path = %(path)s AND s.schema_name = %(schema)s
