-- $1 tables, as quoted names, $2 the comment on views of the mirror, which it drops first: what of others depends on
-- them, so that they cannot be dropped without it, each with its table. Triggers on a table go with it.
WITH tables AS MATERIALIZED (
    SELECT t.name, t.name::regclass::oid AS oid FROM unnest($1::text[]) AS t (name)
)
SELECT DISTINCT t.name,
       CASE v.relkind WHEN 'm' THEN 'materialized view ' ELSE 'view ' END || format('%I.%I', n.nspname, v.relname)
  FROM tables t
  JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid
                             AND d.classid = 'pg_rewrite'::regclass
  JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
  JOIN pg_catalog.pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
  JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
 WHERE pg_catalog.obj_description(v.oid, 'pg_class') IS DISTINCT FROM $2::text
UNION
SELECT t.name, format('foreign key %s of %I.%I', c.conname, n.nspname, f.relname)
  FROM tables t
  JOIN pg_catalog.pg_constraint c ON c.contype = 'f' AND c.confrelid = t.oid
  JOIN pg_catalog.pg_class f ON f.oid = c.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = f.relnamespace
 WHERE c.conrelid NOT IN (SELECT oid FROM tables)
UNION
SELECT t.name, 'function ' || p.oid::regprocedure::text
  FROM tables t
  JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid
                             AND d.classid = 'pg_proc'::regclass
  JOIN pg_catalog.pg_proc p ON p.oid = d.objid
 ORDER BY 1, 2
