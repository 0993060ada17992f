-- How far each source of an agent is, for the agent's programs: they read it in the statement that reads their rows,
-- so in one snapshot with them, and know how old the answer is. Sources without an agent are not in it.
--
--   SELECT p.lineage, p.generation, p.frame, p.salt1, p.salt2, q.*
--     FROM (SELECT set_config('app.agent_id', $1, true) AS agent OFFSET 0) AS w
--    CROSS JOIN LATERAL (SELECT * FROM mirror.position
--                         WHERE source_id = $2 AND agent_id = w.agent OFFSET 0) AS p
--     LEFT JOIN LATERAL (SELECT summary FROM memory_items
--                         WHERE agent_id = w.agent AND id = $3 OFFSET 0) AS q ON true
--
-- Each part refers to w, and OFFSET 0 keeps Postgres from taking it apart: so the agent is set before anything is read,
-- in every plan. (Were it not, nothing would be seen.) The setting ends with the statement's transaction.
--
-- A view with the rights of its owner, because applications may not read mirror.sources. A barrier: what a query says
-- of its rows is asked of this agent's rows alone.

CREATE VIEW mirror.position WITH (security_barrier = true) AS
    SELECT s.source_id, s.agent_id, s.generation, s.frame, s.salt1, s.salt2, s.committed_at, s.lineage, s.path,
           s.schema_name,
           -- A row or a table that Postgres could not take is missing from every answer.
           NOT EXISTS (SELECT FROM mirror.rejects r WHERE r.source_id = s.source_id)
           AND NOT EXISTS (SELECT FROM mirror.refusals f WHERE f.source_id = s.source_id) AS complete
      FROM mirror.sources s
     WHERE s.agent_id = current_setting('app.agent_id', true);

-- Applications get into this schema for the view: nothing else in it is theirs to read or to call.
REVOKE ALL ON SCHEMA mirror FROM PUBLIC;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA mirror FROM PUBLIC;

CREATE FUNCTION mirror.open_position() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT has_schema_privilege('argent_app', 'mirror', 'USAGE')
       OR NOT has_table_privilege('argent_app', 'mirror.position', 'SELECT') THEN
        GRANT USAGE ON SCHEMA mirror TO argent_app;
        GRANT SELECT ON mirror.position TO argent_app;
    END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION mirror.open_position() FROM PUBLIC;

-- As before, and with it the position.
CREATE OR REPLACE FUNCTION mirror.secure(p_schema text, p_table text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mirror.require_app_role();
    PERFORM mirror.open_position();
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO argent_app', p_schema);
    EXECUTE format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY', p_schema, p_table);
    EXECUTE format(
        'CREATE POLICY own_rows ON %I.%I FOR ALL TO argent_app'
        ' USING (agent_id = current_setting(''app.agent_id'', true) AND agent_id <> '''')'
        ' WITH CHECK (agent_id = current_setting(''app.agent_id'', true) AND agent_id <> '''')', p_schema, p_table);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I.%I TO argent_app', p_schema, p_table);
END
$$;

-- A database that has agents' tables already.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'argent_app') THEN
        PERFORM mirror.open_position();
    END IF;
END
$$;
