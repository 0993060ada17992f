-- $1 source, $2 agent, $3 profile: what the source's rows are stored as from now on.
UPDATE mirror.sources SET agent_id = $2::text, profile = $3::text WHERE source_id = $1::bigint
