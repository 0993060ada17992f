-- $1 schema, $2 table: the source that stores rows in it.
SELECT s.source_id, s.path
  FROM mirror.tables t JOIN mirror.sources s USING (source_id)
 WHERE t.target_schema = $1::text AND t.target_table = $2::text
