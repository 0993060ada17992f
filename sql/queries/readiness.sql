-- source, schema: what Postgres records of what keeps programs from reading from Postgres alone.
SELECT (SELECT count(*) FROM mirror.rejects r WHERE r.source_id = s.source_id),
       (SELECT coalesce(jsonb_agg(f.source_table ORDER BY f.source_table), '[]') FROM mirror.refusals f
         WHERE f.source_id = s.source_id),
       (SELECT count(*) FROM mirror.discrepancies d WHERE d.source_id = s.source_id),
       (SELECT count(*) FROM mirror.read_differences d WHERE d.source_id = s.source_id),
       (SELECT h.compared FROM mirror.shadow_reads h WHERE h.source_id = s.source_id),
       s.profile,
       s.agent_id,
       EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'vector'),
       (SELECT coalesce(jsonb_agg(c.relname ORDER BY c.relname), '[]')
          FROM pg_catalog.pg_index i
          JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = s.schema_name AND NOT (i.indisvalid AND i.indisready)),
       s.source_id
  FROM mirror.sources s
 WHERE s.path = %(path)s AND s.schema_name = %(schema)s
