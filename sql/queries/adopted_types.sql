-- $1 oids of types, as a list of numbers: each with its name, its schema, its kind (typtype), the type that a domain is of
-- with its limits, the element's type of an array (0: it is none), the labels of an enum in order, whether a domain is NOT
-- NULL, its constraints, and how SQL names the type without limits; and all types that these are made of.
WITH RECURSIVE used (oid) AS (
    SELECT t.oid FROM pg_catalog.pg_type t WHERE t.oid = ANY ($1::oid[])
    UNION
    SELECT made.oid
      FROM used
      JOIN pg_catalog.pg_type t ON t.oid = used.oid
      JOIN pg_catalog.pg_type made
        ON made.oid = t.typbasetype OR (made.oid = t.typelem AND t.typcategory = 'A')
)
SELECT t.oid::bigint, t.typname, n.nspname, t.typtype::text, t.typbasetype::bigint, t.typtypmod,
       CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END::bigint,
       (SELECT coalesce(jsonb_agg(e.enumlabel ORDER BY e.enumsortorder), '[]')
          FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid),
       t.typnotnull,
       (SELECT coalesce(jsonb_agg(k.conname ORDER BY k.conname), '[]')
          FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'),
       pg_catalog.format_type(t.oid, -1)
  FROM used JOIN pg_catalog.pg_type t USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
