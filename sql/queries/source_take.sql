-- $1 source, $2 host, $3 pid, $4 process, $5 backend: the caller holds the source's lock; returns the new epoch.
UPDATE mirror.sources SET epoch = epoch + 1, host = $2::text, pid = $3::int, holder = $4::text, backend = $5::text
 WHERE source_id = $1::bigint RETURNING epoch
