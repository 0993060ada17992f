-- $1 source, $2 generation, $3 frame, $4 entry: log what a transaction does, in that transaction.
INSERT INTO mirror.changes (source_id, generation, frame, entry)
VALUES ($1::bigint, $2::bigint, $3::bigint, $4::text)
ON CONFLICT (source_id, generation, frame) DO UPDATE SET entry = excluded.entry
