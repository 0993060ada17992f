-- path, schema: the tables that a mirror of this source has made in this schema: the columns that it has, by the source's names,
-- and those that it leaves out, with the name of the rule for each.
SELECT t.source_table,
       ARRAY(SELECT coalesce(c ->> 'source', c ->> 'name') FROM jsonb_array_elements(t.columns) AS c),
       (SELECT coalesce(jsonb_object_agg(o.name, coalesce(i.pair ->> 1, t.source_table || '.' || o.name)), '{}')
          FROM jsonb_array_elements_text(coalesce(to_jsonb(t) -> 'omitted', '[]')) AS o (name)
          LEFT JOIN jsonb_array_elements(coalesce(to_jsonb(t) -> 'inherited', '[]')) AS i (pair) ON i.pair ->> 0 = o.name)
  FROM mirror.tables t JOIN mirror.sources s USING (source_id)
 WHERE s.path = %(path)s AND t.target_schema = %(schema)s
