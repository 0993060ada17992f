-- $1 path, $2 schema, $3 numbers of differences, NULL: all: forget them.
DELETE FROM mirror.read_differences d USING mirror.sources s
 WHERE s.source_id = d.source_id AND s.path = $1::text AND s.schema_name = $2::text
   AND ($3::bigint[] IS NULL OR d.difference_id = ANY ($3::bigint[]))
