-- $1 source, $2 source table, $3 reason, $4 next step, $5 whether a schema of its own for the source helps
INSERT INTO mirror.refusals (source_id, source_table, reason, next_step, own_schema)
VALUES ($1::bigint, $2::text, $3::text, $4::text, $5::boolean)
ON CONFLICT (source_id, source_table) DO UPDATE
   SET reason = excluded.reason, next_step = excluded.next_step, own_schema = excluded.own_schema
