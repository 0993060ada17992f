-- path, schema: the types and codecs of the columns that a mirror of this source has made in this schema, by the source's names.
SELECT t.source_table, coalesce(c ->> 'source', c ->> 'name'), c ->> 'type', coalesce(c ->> 'codec', '')
  FROM mirror.tables t JOIN mirror.sources s USING (source_id)
 CROSS JOIN LATERAL jsonb_array_elements(t.columns) AS c
 WHERE s.path = %(path)s AND t.target_schema = %(schema)s
