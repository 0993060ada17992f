-- $1 schemas: their sequences, and those that columns of their tables have. Each with its bounds; whether the caller may
-- alter it, and its owner; and its columns, which own it or have it in their default: schema, table, name and type.
WITH uses AS (
    SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number
      FROM pg_catalog.pg_depend d
     WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
       AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
    UNION
    SELECT d.refobjid, a.adrelid, a.adnum
      FROM pg_catalog.pg_depend d
      JOIN pg_catalog.pg_attrdef a ON a.oid = d.objid
     WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
), listed AS (
    SELECT u.sequence,
           jsonb_agg(jsonb_build_array(n.nspname, c.relname, a.attname, t.typname)
                     ORDER BY n.nspname, c.relname, a.attname) AS columns,
           bool_or(n.nspname = ANY ($1::text[])) AS here
      FROM uses u
      JOIN pg_catalog.pg_class c ON c.oid = u.relation AND c.relkind IN ('r', 'p')
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_attribute a ON a.attrelid = u.relation AND a.attnum = u.number
      JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
     GROUP BY u.sequence
)
SELECT n.nspname, c.relname, q.seqincrement, q.seqmin, q.seqmax, q.seqcycle,
       pg_has_role(c.relowner, 'USAGE'), pg_get_userbyid(c.relowner), coalesce(l.columns, '[]')
  FROM pg_catalog.pg_sequence q
  JOIN pg_catalog.pg_class c ON c.oid = q.seqrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN listed l ON l.sequence = q.seqrelid
 WHERE n.nspname = ANY ($1::text[]) OR l.here
 ORDER BY 1, 2
