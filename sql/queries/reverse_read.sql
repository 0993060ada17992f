-- $1 path, $2 schema: the way back of a source. No row: it is not mirrored; no snapshot: it was never begun.
SELECT s.source_id, s.agent_id, r.snapshot::text, r.lost, r.captured,
       (SELECT count(*) FROM mirror.reverse_rejects j WHERE j.source_id = s.source_id), r.file
  FROM mirror.sources s LEFT JOIN mirror.reverse r USING (source_id)
 WHERE s.path = $1::text AND s.schema_name = $2::text
