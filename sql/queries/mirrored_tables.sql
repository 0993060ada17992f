-- path, schema: the tables of a source, each with its columns, whether a migration of the profile makes it, and whether
-- other sources fill it, too; without those with data of a virtual table, which only the module in SQLite writes.
SELECT t.source_table, t.target_table, t.columns, t.curated,
       EXISTS (SELECT FROM mirror.tables o WHERE o.source_id <> t.source_id
                  AND o.target_schema = t.target_schema AND o.target_table = t.target_table)
  FROM mirror.tables t
  JOIN mirror.sources s USING (source_id)
 WHERE s.path = %(path)s AND s.schema_name = %(schema)s AND t.target_schema = s.schema_name
   AND t.virtual_table IS NULL
 ORDER BY t.source_table
