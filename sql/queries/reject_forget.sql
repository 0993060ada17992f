-- $1 source, $2 source table, $3 key
DELETE FROM mirror.rejects
 WHERE source_id = $1::bigint AND source_table = $2::text AND md5(key) = md5($3::text) AND key = $3::text
