-- $1 source, $2 source table, $3 key, $4 reason, $5 row, $6 generation, $7 frame
INSERT INTO mirror.rejects (source_id, source_table, key, reason, row_data, generation, frame)
VALUES ($1::bigint, $2::text, $3::text, $4::text, $5::text, $6::bigint, $7::bigint)
ON CONFLICT (source_id, source_table, md5(key)) DO UPDATE
   SET reason = excluded.reason, row_data = excluded.row_data,
       generation = excluded.generation, frame = excluded.frame
