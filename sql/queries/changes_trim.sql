-- $1 source, $2 number: keep only so many of its last entries.
DELETE FROM mirror.changes c
 USING (SELECT generation, frame FROM mirror.changes WHERE source_id = $1::bigint
         ORDER BY generation DESC, frame DESC OFFSET $2::bigint LIMIT 1) AS last
 WHERE c.source_id = $1::bigint AND (c.generation, c.frame) <= (last.generation, last.frame)
