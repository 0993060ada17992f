-- $1 source, $2 reader: how far it has read the changes.
SELECT generation, frame FROM mirror.change_readers WHERE source_id = $1::bigint AND reader = $2::text
