-- $1 schema, $2 table: whether a mirror writes it.
SELECT EXISTS (SELECT FROM mirror.tables WHERE target_schema = $1::text AND target_table = $2::text)
