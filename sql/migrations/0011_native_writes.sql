-- Since when programs have written to a source's tables in Postgres alone (storage.backend: postgres), while no mirror
-- ran; NULL: not since Postgres was last made equal to the file. A mirror would undo those writes, or, where it finds the
-- file unchanged, call both equal: so it does not start before somebody says that they may go.
ALTER TABLE mirror.sources ADD COLUMN written_at timestamptz;

CREATE OR REPLACE VIEW mirror.position WITH (security_barrier = true) AS
    SELECT s.source_id, s.agent_id, s.generation, s.frame, s.salt1, s.salt2, s.committed_at, s.lineage, s.path,
           s.schema_name,
           NOT EXISTS (SELECT FROM mirror.rejects r WHERE r.source_id = s.source_id)
           AND NOT EXISTS (SELECT FROM mirror.refusals f WHERE f.source_id = s.source_id) AS complete,
           s.written_at IS NOT NULL AS written
      FROM mirror.sources s
     WHERE s.agent_id = current_setting('app.agent_id', true);

-- For applications, which may not write to this schema: note it for all of the agent's sources with tables in a schema.
CREATE FUNCTION mirror.note_writes(p_schema text) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE mirror.sources s SET written_at = now()
      FROM mirror.position p
     WHERE p.source_id = s.source_id AND p.schema_name = p_schema AND s.written_at IS NULL
$$;
REVOKE EXECUTE ON FUNCTION mirror.note_writes(text) FROM PUBLIC;

-- What applications may read and call in this schema, and nothing else. As before, and with it the functions of above.
CREATE OR REPLACE FUNCTION mirror.open_position() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    called regprocedure;
BEGIN
    IF NOT has_schema_privilege('argent_app', 'mirror', 'USAGE')
       OR NOT has_table_privilege('argent_app', 'mirror.position', 'SELECT') THEN
        GRANT USAGE ON SCHEMA mirror TO argent_app;
        GRANT SELECT ON mirror.position TO argent_app;
    END IF;
    FOREACH called IN ARRAY ARRAY[
        'mirror.note_read_difference(bigint, text, text, text, bigint, bigint, text, text)',
        'mirror.count_shadow_reads(bigint, bigint, bigint)', 'mirror.note_writes(text)']::regprocedure[] LOOP
        IF NOT has_function_privilege('argent_app', called, 'EXECUTE') THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO argent_app', called);
        END IF;
    END LOOP;
END
$$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'argent_app') THEN
        PERFORM mirror.open_position();
    END IF;
END
$$;
