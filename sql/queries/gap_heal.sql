-- $1 source, $2 generation: the position has left the generation in which contiguity was lost.
UPDATE mirror.gaps SET healed_at = now()
 WHERE source_id = $1::bigint AND healed_at IS NULL AND generation < $2::bigint
