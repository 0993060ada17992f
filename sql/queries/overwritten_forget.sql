-- $1 path, $2 schema, $3 numbers of rows, NULL: all: forget them.
DELETE FROM mirror.overwritten o USING mirror.sources s
 WHERE s.source_id = o.source_id AND s.path = $1::text AND s.schema_name = $2::text
   AND ($3::bigint[] IS NULL OR o.overwritten_id = ANY ($3::bigint[]))
