-- schema: the tables that mirrors hold in it, each with its source and the agent that this one belongs to.
SELECT t.target_table, s.path, s.agent_id
  FROM mirror.tables t JOIN mirror.sources s USING (source_id)
 WHERE t.target_schema = %(schema)s
 ORDER BY 1, 2
