-- $1 path, $2 schema: the rows of others that a copy or a repair of a source has replaced, and that are not forgotten, the last first.
SELECT o.overwritten_id, o.source_table, o.key, o.row_data, o.written_at::text, o.overwritten_at::text, o.operation
  FROM mirror.overwritten o JOIN mirror.sources s USING (source_id)
 WHERE s.path = $1::text AND s.schema_name = $2::text
 ORDER BY o.overwritten_id DESC
