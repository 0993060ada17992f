-- $1 schema, $2 table: its columns with their types, the columns of each index that can arbitrate
-- ON CONFLICT, and the columns that may be NULL; no row if there is no such table.
SELECT (SELECT coalesce(jsonb_object_agg(a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)), '{}')
          FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       (SELECT coalesce(jsonb_agg((SELECT jsonb_agg(a.attname ORDER BY a.attname)
                                     FROM pg_catalog.pg_attribute a
                                    WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey))), '[]')
          FROM pg_catalog.pg_index i
         WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
           AND i.indpred IS NULL AND i.indexprs IS NULL),
       (SELECT coalesce(jsonb_agg(a.attname), '[]')
          FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.attnotnull)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind IN ('r', 'p')
