-- $1, $2: schemas and names of tables. Those of which policies of row-level security apply to this session's role, and
-- whether only FORCE ROW LEVEL SECURITY has them apply, as the role has the rights of the owner.
SELECT n.nspname, c.relname, pg_catalog.pg_has_role(c.relowner, 'USAGE')
  FROM unnest($1::text[], $2::text[]) AS t (schema, name)
  JOIN pg_catalog.pg_namespace n ON n.nspname = t.schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
 WHERE pg_catalog.row_security_active(c.oid)
 ORDER BY 1, 2
