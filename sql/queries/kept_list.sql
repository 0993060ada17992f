-- $1 how the comment begins on a table that is kept after its source has dropped it: all of them, with the comment, the
-- table that has the name now (NULL: none), size and estimated rows (-1: not known), what depends on it, and what may read
-- it (of one that has a successor: and may not read that).
WITH kept AS MATERIALIZED (
    SELECT k.oid, n.nspname, k.relname, k.relowner, k.relacl, k.reltuples, d.comment,
           left(k.relname::text, -length(substring(k.relname::text FROM '__dropped_[0-9]+_[0-9]+(?:_[0-9]+)?$'))) AS whole,
           substring(k.relname::text FROM '_([0-9a-f]{8})__dropped_') AS digits
      FROM pg_catalog.pg_class k
      JOIN pg_catalog.pg_namespace n ON n.oid = k.relnamespace
     CROSS JOIN LATERAL (SELECT pg_catalog.obj_description(k.oid, 'pg_class') AS comment) AS d
     WHERE k.relkind = 'r' AND starts_with(d.comment, $1::text)
),
placed AS (
    SELECT kept.*, s.target_table, s.relacl AS successor_acl
      FROM kept
      LEFT JOIN LATERAL (
          SELECT t.target_table, c.relacl
            FROM mirror.tables t
            JOIN pg_catalog.pg_class c ON c.relname = t.target_table AND c.relkind = 'r'
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = t.target_schema
           WHERE t.target_schema = kept.nspname
             AND (t.target_table = kept.whole
                  OR left(encode(sha256(convert_to(t.target_table, 'UTF8')), 'hex'), 8) = kept.digits)
           LIMIT 1) AS s ON true
)
SELECT placed.nspname, placed.relname, placed.comment, placed.target_table,
       pg_catalog.pg_total_relation_size(placed.oid), placed.reltuples::bigint,
       ARRAY(
           SELECT o.object FROM (
               SELECT 1 AS place, CASE v.relkind WHEN 'm' THEN 'materialized view ' ELSE 'view ' END
                                  || format('%I.%I', n.nspname, v.relname) AS object
                 FROM pg_catalog.pg_depend d
                 JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
                 JOIN pg_catalog.pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
                 JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
                WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = placed.oid AND d.classid = 'pg_rewrite'::regclass
               UNION
               SELECT 2, format('foreign key %s of %I.%I', c.conname, n.nspname, f.relname)
                 FROM pg_catalog.pg_constraint c
                 JOIN pg_catalog.pg_class f ON f.oid = c.conrelid
                 JOIN pg_catalog.pg_namespace n ON n.oid = f.relnamespace
                WHERE c.contype = 'f' AND c.confrelid = placed.oid AND c.conrelid <> placed.oid
               UNION
               SELECT 3, 'function ' || p.oid::regprocedure::text
                 FROM pg_catalog.pg_depend d
                 JOIN pg_catalog.pg_proc p ON p.oid = d.objid
                WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = placed.oid AND d.classid = 'pg_proc'::regclass
               UNION
               SELECT 4, 'trigger ' || g.tgname
                 FROM pg_catalog.pg_trigger g
                WHERE g.tgrelid = placed.oid AND NOT g.tgisinternal
                  AND g.tgname NOT IN ('mirror_watch', 'mirror_watch_all')) AS o
            ORDER BY o.place, o.object),
       ARRAY(
           SELECT 'grant of ' || string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) || ' to '
                  || CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
             FROM pg_catalog.aclexplode(placed.relacl) AS a
            WHERE a.grantee <> placed.relowner
              AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(placed.successor_acl) AS b
                               WHERE b.grantee = a.grantee AND b.privilege_type = a.privilege_type)
            GROUP BY a.grantee ORDER BY 1)
  FROM placed
 ORDER BY placed.nspname, placed.relname
