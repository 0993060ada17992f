-- $1 schema, $2 its tables: foreign keys of them and to them, with their definitions, and triggers that are the
-- application's and not switched off, with how they are switched on (O, A, R).
SELECT 'foreign key', n.nspname::text, c.relname::text, k.conname::text, pg_catalog.pg_get_constraintdef(k.oid)
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE k.contype = 'f' AND k.conparentid = 0
   AND EXISTS (SELECT FROM pg_catalog.pg_class t
                 JOIN pg_catalog.pg_namespace s ON s.oid = t.relnamespace
                WHERE t.oid IN (k.conrelid, k.confrelid) AND s.nspname = $1::text AND t.relname = ANY ($2::text[]))
UNION ALL
SELECT 'trigger', n.nspname::text, c.relname::text, g.tgname::text, g.tgenabled::text
  FROM pg_catalog.pg_trigger g
  JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT g.tgisinternal AND g.tgparentid = 0 AND g.tgenabled IN ('O', 'A')
   AND g.tgname NOT LIKE 'mirror\_%' AND n.nspname = $1::text AND c.relname = ANY ($2::text[])
 ORDER BY 1, 2, 3, 4
