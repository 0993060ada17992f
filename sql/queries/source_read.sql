-- $1 path, $2 schema: how far the source is, its last holder, its agent and profile.
SELECT source_id, lineage::text, epoch, generation, frame, salt1, salt2,
       extract(epoch FROM committed_at)::float8, host, pid, holder, backend, agent_id, profile
  FROM mirror.sources WHERE path = $1::text AND schema_name = $2::text
