-- $1 source, $2 generation, $3 frame: forget logged entries of positions that are not reached yet any more.
DELETE FROM mirror.changes WHERE source_id = $1::bigint AND (generation, frame) > ($2::bigint, $3::bigint)
