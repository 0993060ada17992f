-- $1 source, $2 host, $3 pid: the caller holds the source's lock; returns the new epoch.
UPDATE mirror.sources SET epoch = epoch + 1, host = $2::text, pid = $3::int
 WHERE source_id = $1::bigint RETURNING epoch
