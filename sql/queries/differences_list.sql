-- $1 path, $2 schema: the reads of a source that differed and are not forgotten, last seen first.
SELECT d.difference_id, d.method, d.kind, d.arguments, d.sqlite, d.postgres, d.generation || ':' || d.frame,
       d.first_seen::text, d.last_seen::text, d.count
  FROM mirror.read_differences d JOIN mirror.sources s USING (source_id)
 WHERE s.path = $1::text AND s.schema_name = $2::text
 ORDER BY d.last_seen DESC, d.difference_id DESC
