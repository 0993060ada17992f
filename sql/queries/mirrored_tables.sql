-- path, schema: the tables of a source, each with its columns, and whether a migration of the profile makes it.
SELECT t.source_table, t.target_table, t.columns, t.curated
  FROM mirror.tables t
  JOIN mirror.sources s USING (source_id)
 WHERE s.path = %(path)s AND s.schema_name = %(schema)s AND t.target_schema = s.schema_name
 ORDER BY t.source_table
