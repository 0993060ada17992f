-- $1 source, $2 reader, $3 generation, $4 frame: it has read the changes so far.
INSERT INTO mirror.change_readers (source_id, reader, generation, frame)
VALUES ($1::bigint, $2::text, $3::bigint, $4::bigint)
ON CONFLICT (source_id, reader) DO UPDATE SET generation = excluded.generation, frame = excluded.frame
