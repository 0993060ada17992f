-- schema: the tables in it that mirrors write, each with its source and the source's agent.
SELECT t.target_table, s.path, s.agent_id
  FROM mirror.tables t JOIN mirror.sources s USING (source_id)
 WHERE t.target_schema = %(schema)s
 ORDER BY 1, 2
