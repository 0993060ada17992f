-- $1 path, $2 schema: the rows of Postgres that the file of a source does not take, oldest first.
SELECT j.source_table, j.key, j.reason, j.first_seen::text
  FROM mirror.reverse_rejects j JOIN mirror.sources s USING (source_id)
 WHERE s.path = $1::text AND s.schema_name = $2::text
 ORDER BY j.first_seen, j.source_table, j.key
