-- $1 path, $2 schema: the rows of a source that Postgres cannot hold, oldest first.
SELECT r.source_table, r.key, r.reason, r.row_data, r.generation || ':' || r.frame, r.first_seen::text
  FROM mirror.rejects r JOIN mirror.sources s USING (source_id)
 WHERE s.path = $1::text AND s.schema_name = $2::text
 ORDER BY r.reject_id
