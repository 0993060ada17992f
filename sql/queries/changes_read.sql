-- $1 source, $2 generation, $3 frame, $4 generation, $5 frame, $6 number: logged entries after one position, up to another.
SELECT entry FROM mirror.changes
 WHERE source_id = $1::bigint AND (generation, frame) > ($2::bigint, $3::bigint)
   AND (generation, frame) <= ($4::bigint, $5::bigint)
 ORDER BY generation, frame LIMIT $6::bigint
