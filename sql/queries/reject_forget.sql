-- $1 source, $2 source table, $3 key: mark a reject as gone. rejects_settle.sql deletes it, unless the row is rejected again.
UPDATE mirror.rejects SET generation = -1
 WHERE source_id = $1::bigint AND source_table = $2::text AND md5(key) = md5($3::text) AND key = $3::text
