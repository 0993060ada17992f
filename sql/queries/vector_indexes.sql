-- $1 schema: each column of vectors with a dimension in use, the name of the index it has or is to have, and
-- whether that index is there and valid (NULL: it is not there).
SELECT d.table_name, d.column_name, d.dimension, wanted.name, i.indisvalid
  FROM mirror.vector_dimensions d
  CROSS JOIN LATERAL (
        SELECT format('%s_%s_%s_hnsw', left(d.table_name, 30), left(d.column_name, 20), d.dimension)) AS wanted (name)
  JOIN pg_catalog.pg_namespace n ON n.nspname = d.schema_name
  JOIN pg_catalog.pg_class t ON t.relnamespace = n.oid AND t.relname = d.table_name
  LEFT JOIN pg_catalog.pg_class x ON x.relnamespace = n.oid AND x.relname = wanted.name
  LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = x.oid AND i.indrelid = t.oid
 WHERE d.schema_name = $1::text
 ORDER BY 1, 2, 3
