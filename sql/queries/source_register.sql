-- $1 path, $2 schema: make sure that the source has a row.
INSERT INTO mirror.sources (path, schema_name) VALUES ($1::text, $2::text)
ON CONFLICT (path, schema_name) DO NOTHING
