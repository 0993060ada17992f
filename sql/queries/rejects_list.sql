-- $1 path, $2 schema: the rows of a source that Postgres cannot hold, oldest first; with what is known of the columns and the
-- key of its table (null: the key is the rowid, or the table is not mirrored any more, and then the columns are null, too).
SELECT r.source_table, r.key, r.reason, r.row_data, r.generation || ':' || r.frame, r.first_seen::text, t.columns,
       nullif(t.key, 'null')
  FROM mirror.rejects r
  JOIN mirror.sources s USING (source_id)
  LEFT JOIN mirror.tables t ON t.source_id = r.source_id AND t.source_table = r.source_table
 WHERE s.path = $1::text AND s.schema_name = $2::text
 ORDER BY r.reject_id
