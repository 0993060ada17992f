-- $1 source: raised by each mirror that has taken it.
SELECT epoch FROM mirror.sources WHERE source_id = $1::bigint
