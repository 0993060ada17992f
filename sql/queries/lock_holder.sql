-- $1 lock class, $2 source: the backend of the mirror that holds the advisory lock of a source; NULL: this user
-- may not see it. Programs that write to Postgres themselves share the lock.
SELECT mirror.backend(l.pid)
  FROM pg_catalog.pg_locks l
 WHERE locktype = 'advisory' AND classid = $1::int::oid AND objid = $2::int::oid AND objsubid = 2
   AND granted AND mode = 'ExclusiveLock'
   AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
