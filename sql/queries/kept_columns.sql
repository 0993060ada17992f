-- $1 how the comment begins on what is kept after its source has dropped it: all columns that are kept in tables which are
-- not kept themselves, with the comment, the table's size, and what would go with them, or keeps them.
SELECT n.nspname, k.relname, a.attname, d.description, pg_catalog.pg_total_relation_size(k.oid),
       ARRAY(
           SELECT CASE WHEN v.oid IS NULL THEN pg_catalog.pg_describe_object(p.classid, p.objid, p.objsubid)
                       ELSE 'view ' || v.oid::regclass::text END
             FROM pg_catalog.pg_depend p
             LEFT JOIN pg_catalog.pg_rewrite r ON p.classid = 'pg_rewrite'::regclass AND r.oid = p.objid
             LEFT JOIN pg_catalog.pg_class v ON v.oid = r.ev_class
            WHERE p.refclassid = 'pg_class'::regclass AND p.refobjid = k.oid AND p.refobjsubid = a.attnum
            GROUP BY 1 ORDER BY 1)
  FROM pg_catalog.pg_description d
  JOIN pg_catalog.pg_class k ON k.oid = d.objoid AND k.relkind IN ('r', 'p')
  JOIN pg_catalog.pg_namespace n ON n.oid = k.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = k.oid AND a.attnum = d.objsubid AND NOT a.attisdropped
 WHERE d.classoid = 'pg_class'::regclass AND d.objsubid > 0 AND starts_with(d.description, $1::text)
   AND starts_with(pg_catalog.obj_description(k.oid, 'pg_class'), $1::text) IS NOT TRUE
 ORDER BY n.nspname, k.relname, a.attnum
