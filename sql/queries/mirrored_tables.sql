-- path, schema: the tables of a source, each with its columns, and whether a migration of the profile makes it; without
-- those with data of a virtual table, which only the module in SQLite writes.
SELECT t.source_table, t.target_table, t.columns, t.curated
  FROM mirror.tables t
  JOIN mirror.sources s USING (source_id)
 WHERE s.path = %(path)s AND s.schema_name = %(schema)s AND t.target_schema = s.schema_name
   AND t.virtual_table IS NULL
 ORDER BY t.source_table
