-- $1 schema: its tables, but for the partitions of others. Whether each is partitioned, whether others inherit from it,
-- whether it has an EXCLUDE constraint. columns: by number, with the type's oid, its limits (typmod), NOT NULL, whether there
-- is a default, attgenerated, attidentity, whether texts are compared by their bytes, and the sequence that is owned.
-- uniques: of each valid unique index, its name, whether it is the primary key, whether it is checked at once, whether two
-- NULLs are equal, its columns (null: an expression), and its condition. refs: the foreign keys, each with its statement.
-- checks: name, expression and columns. triggers: those of users that are on, but for the mirror's.
SELECT c.relname, c.relkind = 'p',
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhparent = c.oid),
       EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'x'),
       c.reltuples::bigint,
       CASE c.relkind WHEN 'p' THEN (SELECT coalesce(sum(pg_catalog.pg_relation_size(relid)), 0)
                                       FROM pg_catalog.pg_partition_tree(c.oid))
                      ELSE pg_catalog.pg_relation_size(c.oid) END::bigint,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'name', a.attname,
                   'type', a.atttypid::bigint,
                   'typmod', a.atttypmod,
                   'not_null', a.attnotnull,
                   'default', a.atthasdef AND a.attgenerated = '',
                   'generated', a.attgenerated,
                   'identity', a.attidentity,
                   'by_bytes', l.collprovider = 'c' AND l.collcollate IN ('C', 'POSIX'),
                   'sequence', CASE WHEN a.attidentity <> '' OR (a.atthasdef AND a.attgenerated = '')
                                    THEN pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), a.attname)
                               END) ORDER BY a.attnum), '[]')
          FROM pg_catalog.pg_attribute a
          LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'name', x.relname,
                   'primary', i.indisprimary,
                   'immediate', i.indimmediate,
                   'nulls_equal', i.indnullsnotdistinct,
                   'condition', pg_get_expr(i.indpred, i.indrelid),
                   'columns', (SELECT jsonb_agg(a.attname ORDER BY k)
                                 FROM generate_series(1, i.indnkeyatts) AS k
                                 LEFT JOIN pg_catalog.pg_attribute a
                                   ON a.attrelid = c.oid AND a.attnum = i.indkey[k - 1] AND a.attnum > 0))
                   ORDER BY i.indisprimary DESC, x.relname), '[]')
          FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
         WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid),
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'name', f.conname,
                   'columns', (SELECT jsonb_agg(a.attname ORDER BY k.place)
                                 FROM unnest(f.conkey) WITH ORDINALITY AS k (number, place)
                                 JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number),
                   'schema', s.nspname,
                   'referred', r.relname,
                   'referred_columns', (SELECT jsonb_agg(a.attname ORDER BY k.place)
                                          FROM unnest(f.confkey) WITH ORDINALITY AS k (number, place)
                                          JOIN pg_catalog.pg_attribute a
                                            ON a.attrelid = f.confrelid AND a.attnum = k.number),
                   'deferrable', f.condeferrable,
                   'deferred', f.condeferred,
                   'validated', f.convalidated,
                   'definition', pg_get_constraintdef(f.oid)) ORDER BY f.conname), '[]')
          FROM pg_catalog.pg_constraint f
          JOIN pg_catalog.pg_class r ON r.oid = f.confrelid
          JOIN pg_catalog.pg_namespace s ON s.oid = r.relnamespace
         WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.conparentid = 0),
       (SELECT coalesce(jsonb_agg(jsonb_build_array(
                   k.conname, pg_get_expr(k.conbin, k.conrelid),
                   (SELECT coalesce(jsonb_agg(a.attname ORDER BY a.attnum), '[]') FROM pg_catalog.pg_attribute a
                     WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey))) ORDER BY k.conname), '[]')
          FROM pg_catalog.pg_constraint k
         WHERE k.conrelid = c.oid AND k.contype = 'c'),
       (SELECT coalesce(jsonb_agg(t.tgname ORDER BY t.tgname), '[]')
          FROM pg_catalog.pg_trigger t
         WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace o ON o.oid = p.pronamespace
                            WHERE p.oid = t.tgfoid AND o.nspname = 'mirror'))
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1::text AND c.relkind IN ('r', 'p') AND NOT c.relispartition
 ORDER BY c.relname
