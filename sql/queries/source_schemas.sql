-- $1 path: the schemas into which the source is, or was, mirrored.
SELECT schema_name FROM mirror.sources WHERE path = $1::text ORDER BY schema_name
