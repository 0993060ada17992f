-- $1 quoted names of tables: those of them that have no statistics, schema and name. One of less than two pages needs none
-- (see is_small). VACUUM alone counts rows, but tells nothing of columns; and what the server has counted is lost if it
-- crashes, but not pg_stats, of which it shows nobody those that row security hides.
SELECT n.nspname, c.relname
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_stat_all_tables s ON s.relid = c.oid
 WHERE c.oid IN (SELECT to_regclass(t) FROM unnest($1::text[]) AS t)
   AND coalesce((SELECT sum(pg_relation_size(p.relid)) FROM pg_partition_tree(c.oid) p), pg_relation_size(c.oid))
       >= 2 * 8192
   AND (c.reltuples <= 0
        OR (s.last_analyze IS NULL AND s.last_autoanalyze IS NULL
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_stats v WHERE v.schemaname = n.nspname AND v.tablename = c.relname)))
 ORDER BY 1, 2
