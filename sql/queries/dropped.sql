-- $1 path of a source, $2 schema, $3 how the comment begins on a table that is kept after its source has dropped it: the tables of the
-- schema that are kept (of other sources there, too), and the columns (table.column) that are.
SELECT k.relname::text
  FROM pg_catalog.pg_class k
 WHERE k.relkind = 'r' AND k.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $2::text)
   AND k.relname LIKE '%\_\_dropped\_%' AND starts_with(pg_catalog.obj_description(k.oid, 'pg_class'), $3::text)
UNION ALL
SELECT concat(t.target_table, '.', a.attname)
  FROM mirror.sources s
  JOIN mirror.tables t USING (source_id)
  JOIN pg_catalog.pg_namespace n ON n.nspname = t.target_schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.target_table
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE s.path = $1::text AND s.schema_name = $2::text AND a.attname ~ '__dropped_[0-9]+_[0-9]+$'
 ORDER BY 1
