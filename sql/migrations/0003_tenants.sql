-- Sources that belong to an agent: their rows lie beside those of other agents, in the same tables.

ALTER TABLE mirror.sources
    ADD COLUMN agent_id text CHECK (agent_id <> ''),  -- the agent the source is bound to; NULL: none
    ADD COLUMN profile  text;                         -- how its tables are held; NULL: there is no snapshot yet

-- Several sources of one table, each with the rows of its own agent: never two for one agent.
ALTER TABLE mirror.tables
    DROP CONSTRAINT tables_target_schema_target_table_key,
    ADD COLUMN agent_id text,
    ADD COLUMN curated boolean NOT NULL DEFAULT false,  -- made by a migration of the profile
    ADD UNIQUE NULLS NOT DISTINCT (target_schema, target_table, agent_id);

-- The migrations of a profile's own tables, by the schema in which they are.
CREATE TABLE mirror.profile_migrations (
    schema_name text NOT NULL,
    profile     text NOT NULL,
    version     int  NOT NULL,
    name        text NOT NULL,
    checksum    text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (schema_name, profile, version)
);

-- Make sure of the role that applications read as. SQLSTATE MR003: it is missing, or it can bypass row security.
CREATE FUNCTION mirror.require_app_role() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'argent_app') THEN
        BEGIN
            CREATE ROLE argent_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL;  -- made by another session in this moment
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'the role argent_app is missing' USING ERRCODE = 'MR003';
        END;
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'argent_app' AND (rolsuper OR rolbypassrls)) THEN
        RAISE EXCEPTION 'the role argent_app can bypass row-level security' USING ERRCODE = 'MR003';
    END IF;
END
$$;

-- Row-level security for a table that holds agents' rows: argent_app has those of the agent that app.agent_id
-- names. Not set or empty: none. The table's owner, which the mirror is, is not subject to it.
CREATE FUNCTION mirror.secure(p_schema text, p_table text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mirror.require_app_role();
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO argent_app', p_schema);
    EXECUTE format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY', p_schema, p_table);
    EXECUTE format(
        'CREATE POLICY own_rows ON %I.%I FOR ALL TO argent_app'
        ' USING (agent_id = current_setting(''app.agent_id'', true) AND agent_id <> '''')'
        ' WITH CHECK (agent_id = current_setting(''app.agent_id'', true) AND agent_id <> '''')', p_schema, p_table);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I.%I TO argent_app', p_schema, p_table);
END
$$;

-- The dimensions that vectors have, so that each has its HNSW index. Noted with the first row that has one.
CREATE TABLE mirror.vector_dimensions (
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    column_name text NOT NULL,
    dimension   int  NOT NULL,
    first_seen  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (schema_name, table_name, column_name, dimension)
);
