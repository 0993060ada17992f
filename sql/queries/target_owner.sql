-- $1 schema, $2 table: does such a relation exist, and which source owns it?
SELECT c.oid IS NOT NULL, s.source_id, s.path
  FROM (SELECT $1::text AS target_schema, $2::text AS target_table) AS wanted
  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.target_schema
  LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.target_table
  LEFT JOIN mirror.tables t USING (target_schema, target_table)
  LEFT JOIN mirror.sources s ON s.source_id = t.source_id
