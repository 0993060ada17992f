-- $1 schema, $2 table: the source of the mirror that has reserved this name for a relation at this moment.
SELECT s.path
  FROM pg_catalog.pg_locks l
  JOIN mirror.sources s ON s.backend = mirror.backend(l.pid)
 WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
   AND (l.classid::bigint << 32) | l.objid::bigint = mirror.name_key($1::text, $2::text)
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
