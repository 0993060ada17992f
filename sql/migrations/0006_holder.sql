-- Who holds a source, so that no other process and no other connection can be taken for it.

ALTER TABLE mirror.sources
    ADD COLUMN holder  text,  -- the process: boot, namespace of process ids, id, when it began (mirror/postgres/holder.py)
    ADD COLUMN backend text;  -- its connection, as mirror.backend() names it

-- The name of a connection: process id and start of its server process. Ids are used again, by a server that was
-- restarted from the lowest on. NULL: there is none, or it is another user's.
CREATE FUNCTION mirror.backend(p_pid int) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT a.pid || ' ' || extract(epoch FROM a.backend_start)
      FROM pg_catalog.pg_stat_activity a WHERE a.pid = p_pid
$$;
