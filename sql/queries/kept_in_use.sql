-- $1 source, $2 how the comment begins on a table that is kept after its source has dropped it: those that have a successor of the name
-- that they had, and the views, foreign keys, triggers and grants that are still for them. A name that was cut has 8 digits
-- of the hash of the whole.
WITH successor AS MATERIALIZED (
    SELECT s.oid, n.oid AS namespace, s.relacl, t.target_table,
           left(encode(sha256(convert_to(t.target_table, 'UTF8')), 'hex'), 8) AS digits
      FROM mirror.tables t
      JOIN pg_catalog.pg_namespace n ON n.nspname = t.target_schema
      JOIN pg_catalog.pg_class s ON s.relnamespace = n.oid AND s.relname = t.target_table AND s.relkind = 'r'
     WHERE t.source_id = $1::bigint
),
dropped AS MATERIALIZED (
    SELECT k.oid, k.relnamespace, k.relname, k.relowner, k.relacl,
           left(k.relname::text, -length(substring(k.relname::text FROM '__dropped_[0-9]+_[0-9]+(?:_[0-9]+)?$'))) AS whole,
           substring(k.relname::text FROM '_([0-9a-f]{8})__dropped_') AS digits
      FROM pg_catalog.pg_class k
     WHERE k.relkind = 'r' AND k.relname LIKE '%\_\_dropped\_%' AND starts_with(pg_catalog.obj_description(k.oid, 'pg_class'), $2::text)
       AND k.relnamespace IN (SELECT namespace FROM successor)
),
pairs AS (  -- two joins by equality: one with OR would look at every pair, seconds where hundreds are kept
    SELECT k.oid, s.oid AS successor FROM dropped k JOIN successor s ON s.namespace = k.relnamespace AND s.target_table = k.whole
    UNION
    SELECT k.oid, s.oid FROM dropped k JOIN successor s ON s.namespace = k.relnamespace AND s.digits = k.digits
),
kept AS (
    SELECT k.oid, k.relname, k.relowner, k.relacl, s.target_table, s.relacl AS successor_acl
      FROM pairs JOIN dropped k ON k.oid = pairs.oid JOIN successor s ON s.oid = pairs.successor
),
used AS (
    SELECT DISTINCT kept.oid, 1 AS place,
           CASE v.relkind WHEN 'm' THEN 'materialized view ' ELSE 'view ' END || format('%I.%I', n.nspname, v.relname) AS object
      FROM kept
      JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = kept.oid
                                 AND d.classid = 'pg_rewrite'::regclass
      JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
      JOIN pg_catalog.pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
      JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
    UNION ALL
    SELECT kept.oid, 2, format('foreign key %s of %I.%I', c.conname, n.nspname, o.relname)
      FROM kept
      JOIN pg_catalog.pg_constraint c ON c.contype = 'f' AND c.confrelid = kept.oid AND c.conrelid <> kept.oid
      JOIN pg_catalog.pg_class o ON o.oid = c.conrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = o.relnamespace
    UNION ALL
    SELECT kept.oid, 3, 'trigger ' || g.tgname
      FROM kept JOIN pg_catalog.pg_trigger g ON g.tgrelid = kept.oid AND NOT g.tgisinternal AND g.tgname NOT IN ('mirror_watch', 'mirror_watch_all')
    UNION ALL
    SELECT kept.oid, 4, 'grant of ' || string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) || ' to '
                        || CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
      FROM kept CROSS JOIN LATERAL aclexplode(kept.relacl) AS a
     WHERE a.grantee <> kept.relowner
       AND NOT EXISTS (SELECT FROM aclexplode(kept.successor_acl) AS b
                        WHERE b.grantee = a.grantee AND b.privilege_type = a.privilege_type)
     GROUP BY kept.oid, a.grantee
    UNION ALL
    SELECT kept.oid, 5, 'grant on columns to ' || CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
      FROM kept JOIN pg_catalog.pg_attribute c ON c.attrelid = kept.oid CROSS JOIN LATERAL aclexplode(c.attacl) AS a
     WHERE a.grantee <> kept.relowner
     GROUP BY kept.oid, a.grantee
)
SELECT kept.target_table, kept.relname, array_agg(used.object ORDER BY used.place, used.object)
  FROM kept JOIN used USING (oid)
 GROUP BY kept.oid, kept.target_table, kept.relname
 ORDER BY kept.oid
