-- schema: what Postgres enforces on each table of it. columns: by name, with type, NOT NULL, the quoted name, how NOCASE and
-- RTRIM are written in an index of it, and its sequence. indexes: of each valid one, whether it is unique (NULLs apart), how
-- its condition is written, whether it is checked at once, and its keys: "c:" and the name of a column, or "e:" and an
-- expression. refs: of each foreign key, its name, its columns, the table that it refers to and that one's columns, what
-- follows from ON DELETE and ON UPDATE (pg_constraint's letters), the columns that are set if not all are, whether it is
-- deferred.
SELECT c.relname,
       (SELECT coalesce(jsonb_object_agg(a.attname, jsonb_build_object(
                   'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
                   'not_null', a.attnotnull,
                   'quoted', format('%%I', a.attname),
                   'NOCASE', format('lower((%%I COLLATE "C"))', a.attname),
                   'RTRIM', format('rtrim(%%I, '' ''::text)', a.attname),
                   'sequence', CASE WHEN a.attidentity <> '' OR a.atthasdef
                                    THEN pg_get_serial_sequence(format('%%I.%%I', n.nspname, c.relname), a.attname)
                               END)), '{}')
          FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'unique', i.indisunique AND NOT i.indnullsnotdistinct,
                   'condition', pg_get_expr(i.indpred, i.indrelid),
                   'immediate', i.indimmediate,
                   'keys', (SELECT jsonb_agg(coalesce('c:' || a.attname,
                                                      'e:' || pg_get_indexdef(i.indexrelid, k::int, false)) ORDER BY k)
                              FROM generate_series(1, i.indnkeyatts) AS k
                              LEFT JOIN pg_catalog.pg_attribute a
                                ON a.attrelid = c.oid AND a.attnum = i.indkey[k - 1] AND a.attnum > 0))), '[]')
          FROM pg_catalog.pg_index i
         WHERE i.indrelid = c.oid AND i.indisvalid AND i.indisready),
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'name', f.conname,
                   'columns', (SELECT jsonb_agg(a.attname ORDER BY k.place)
                                 FROM unnest(f.conkey) WITH ORDINALITY AS k (number, place)
                                 JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number),
                   'referred', r.relname,
                   'referred_columns', (SELECT jsonb_agg(a.attname ORDER BY k.place)
                                          FROM unnest(f.confkey) WITH ORDINALITY AS k (number, place)
                                          JOIN pg_catalog.pg_attribute a
                                            ON a.attrelid = f.confrelid AND a.attnum = k.number),
                   'on_delete', f.confdeltype,
                   'on_update', f.confupdtype,
                   'set', (SELECT coalesce(jsonb_agg(a.attname ORDER BY k.place), '[]')
                             FROM unnest(f.confdelsetcols) WITH ORDINALITY AS k (number, place)
                             JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number),
                   'deferred', f.condeferred)), '[]')
          FROM pg_catalog.pg_constraint f
          JOIN pg_catalog.pg_class r ON r.oid = f.confrelid AND r.relnamespace = n.oid
         WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.convalidated)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p')
