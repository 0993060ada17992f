-- $1 schema: the tables of agents that have no statistics yet, so that the planner would read every row.
SELECT DISTINCT c.relname
  FROM mirror.tables t
  JOIN pg_catalog.pg_namespace n ON n.nspname = t.target_schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.target_table
 WHERE t.target_schema = $1::text AND t.curated AND c.relkind = 'r' AND c.reltuples < 0
 ORDER BY 1
