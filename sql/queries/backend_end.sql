-- $1 backend: end it, but not another one that has its process id by now.
SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a
 WHERE a.pid = split_part($1::text, ' ', 1)::int AND mirror.backend(a.pid) = $1::text
