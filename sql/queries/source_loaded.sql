-- $1 source, $2 epoch, $3 generation, $4 frame, $5 salt1, $6 salt2, $7 committed (epoch seconds), $8 lineage:
-- the position of a fresh copy. It may go back: a new lineage counts from the start.
UPDATE mirror.sources
   SET generation = $3::bigint, frame = $4::bigint, salt1 = $5::bigint, salt2 = $6::bigint,
       committed_at = to_timestamp($7::float8), applied_at = clock_timestamp(), lineage = $8::uuid
 WHERE source_id = $1::bigint AND epoch = $2::bigint
RETURNING 1
