-- $1 schema, $2 table: the sources that store rows in it, each with its agent, and whether the table is curated.
SELECT s.source_id, s.path, s.agent_id, t.curated
  FROM mirror.tables t JOIN mirror.sources s USING (source_id)
 WHERE t.target_schema = $1::text AND t.target_table = $2::text
