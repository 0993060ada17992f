-- $1 lock class, $2 source: the backend that holds the advisory lock of a source; NULL: this user may not see it.
SELECT mirror.backend(l.pid)
  FROM pg_catalog.pg_locks l
 WHERE locktype = 'advisory' AND classid = $1::int::oid AND objid = $2::int::oid AND objsubid = 2
   AND granted AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
