-- $1 source, $2 decisions: keep what was decided of a source, in place of what was decided before.
INSERT INTO mirror.adoptions (source_id, decisions) VALUES ($1::bigint, $2::jsonb)
ON CONFLICT (source_id) DO UPDATE SET decisions = excluded.decisions, adopted_at = now()
