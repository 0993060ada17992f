-- $1 schema, $2 name (NULL: all): what has the name in the name space of tables: kind as in pg_class.relkind, or t for a
-- type; of an index, or the sequence of a column, the table, else itself; and whether that is one that the mirror keeps.
SELECT c.relname,
       c.relkind::text,
       h.relname,
       coalesce(pg_catalog.obj_description(h.oid, 'pg_class') LIKE 'mirror: kept%', false)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_class h ON h.oid = coalesce(
           (SELECT i.indrelid FROM pg_catalog.pg_index i WHERE i.indexrelid = c.oid),
           (SELECT d.refobjid
              FROM pg_catalog.pg_depend d
             WHERE c.relkind = 'S' AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype IN ('a', 'i')
               AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
               AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
             LIMIT 1),
           c.oid)
 WHERE n.nspname = $1::text AND ($2::text IS NULL OR c.relname = $2::text)
 UNION ALL
SELECT t.typname, 't', NULL, false
  FROM pg_catalog.pg_type t
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE n.nspname = $1::text AND ($2::text IS NULL OR t.typname = $2::text)
   AND t.typrelid = 0  -- a table's own type goes with it; so does that of its arrays, which gives way to others
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = t.oid)
