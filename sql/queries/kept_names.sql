-- $1 how the comment begins on what is kept after its source has dropped it: each comment, the table, and the column (NULL:
-- it is the table that is kept).
SELECT d.description, k.relname, a.attname
  FROM pg_catalog.pg_description d
  JOIN pg_catalog.pg_class k ON k.oid = d.objoid AND k.relkind IN ('r', 'p')
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = k.oid AND a.attnum = d.objsubid AND a.attnum > 0
 WHERE d.classoid = 'pg_class'::regclass AND starts_with(d.description, $1::text)
