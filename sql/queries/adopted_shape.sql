-- $1 schema, $2 table, $3 columns, $4 their types as SQL names them: whether the table has each of these columns in that
-- type. A type that is gone is none.
SELECT NOT EXISTS (
         SELECT FROM unnest($3::text[], $4::text[]) AS w (name, kind)
          WHERE NOT EXISTS (
                  SELECT FROM pg_catalog.pg_attribute a
                    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
                    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname = $1::text AND c.relname = $2::text AND a.attname = w.name
                     AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid = pg_catalog.to_regtype(w.kind)))
