-- $1 source, $2 source table, $3 reason, $4 next step
INSERT INTO mirror.refusals (source_id, source_table, reason, next_step)
VALUES ($1::bigint, $2::text, $3::text, $4::text)
ON CONFLICT (source_id, source_table) DO UPDATE SET reason = excluded.reason, next_step = excluded.next_step
