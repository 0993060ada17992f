-- $1 schema, $2 table: the right to make a relation of this name, until the transaction ends; waits for it.
SELECT pg_advisory_xact_lock(mirror.name_key($1::text, $2::text))
