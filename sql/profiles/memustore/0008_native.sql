-- What is only in Postgres: jobs, observations of knowledge with their evidence, documents that are taken into
-- collections, and secrets in the original's portable form.

SELECT set_config('search_path', current_setting('search_path') || ', pg_temp', true);

-- ---------------------------------------------------------------------------------- jobs

CREATE TABLE job_templates (
    agent_id              text COLLATE "C" NOT NULL,
    id                    text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text,
    name                  text NOT NULL,
    department_id         text,
    description           text,
    role_prompt           text NOT NULL,
    sop                   text,
    success_definition    text,
    default_mode          text NOT NULL DEFAULT 'simulate',
    default_stage         text,
    tools_allow           jsonb NOT NULL DEFAULT '[]',
    tools_deny            jsonb NOT NULL DEFAULT '[]',
    relationship_contract jsonb NOT NULL DEFAULT '{}',
    tags                  jsonb NOT NULL DEFAULT '[]',
    metadata              jsonb NOT NULL DEFAULT '{}',
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, id)
);
CREATE INDEX job_templates_name ON job_templates (agent_id, name);

CREATE TABLE job_assignments (
    agent_id         text COLLATE "C" NOT NULL,  -- who does it
    id               text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text,
    template_id      text COLLATE "C" NOT NULL,
    title            text NOT NULL,
    enabled          boolean NOT NULL DEFAULT true,
    cadence_minutes  int NOT NULL DEFAULT 1440,
    execution_mode   text NOT NULL DEFAULT 'simulate',
    deployment_stage text,
    promotion_state  text,
    scope_limit      text,
    review_required  boolean NOT NULL DEFAULT true,
    next_run_at      timestamptz,
    last_run_at      timestamptz,
    metadata         jsonb NOT NULL DEFAULT '{}',
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, id),
    FOREIGN KEY (agent_id, template_id) REFERENCES job_templates (agent_id, id) ON DELETE CASCADE
);
CREATE INDEX job_assignments_template ON job_assignments (agent_id, template_id);
CREATE INDEX job_assignments_due ON job_assignments (agent_id, next_run_at) WHERE enabled;

CREATE TABLE job_runs (
    agent_id         text COLLATE "C" NOT NULL,
    id               text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text,
    assignment_id    text COLLATE "C" NOT NULL,
    template_id      text COLLATE "C" NOT NULL,
    task_id          text COLLATE "C" NOT NULL,  -- of the mirrored table tasks, which may lose it
    execution_mode   text NOT NULL,
    deployment_stage text,
    review_status    text,
    reviewed_by      text,
    reviewed_at      timestamptz,
    status           text NOT NULL DEFAULT 'running',
    summary          text,
    blockers         text,
    metadata         jsonb NOT NULL DEFAULT '{}',
    created_at       timestamptz NOT NULL DEFAULT now(),
    started_at       timestamptz NOT NULL DEFAULT now(),
    ended_at         timestamptz,
    PRIMARY KEY (agent_id, id),
    FOREIGN KEY (agent_id, assignment_id) REFERENCES job_assignments (agent_id, id) ON DELETE CASCADE
);
CREATE INDEX job_runs_assignment ON job_runs (agent_id, assignment_id, started_at DESC);
CREATE INDEX job_runs_task ON job_runs (agent_id, task_id);

CREATE TABLE job_events (
    agent_id        text COLLATE "C" NOT NULL,
    id              text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text,
    event_type      text NOT NULL CHECK (event_type <> ''),
    source          text NOT NULL,
    idempotency_key text COLLATE "C",
    target_agent_id text COLLATE "C",
    payload         jsonb NOT NULL DEFAULT '{}',
    metadata        jsonb NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL DEFAULT now(),
    processed_at    timestamptz,
    outcome         text,
    PRIMARY KEY (agent_id, id),
    UNIQUE (agent_id, idempotency_key)
);
CREATE INDEX job_events_unprocessed ON job_events (agent_id, created_at) WHERE processed_at IS NULL;

-- ---------------------------------------------------------------------------------- knowledge observations

CREATE TABLE knowledge_observations (
    agent_id                  text COLLATE "C" NOT NULL,
    id                        text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text,
    kind                      text NOT NULL,
    subject_type              text NOT NULL,
    subject_id                text COLLATE "C",
    canonical_key             text COLLATE "C" NOT NULL,
    summary                   text NOT NULL,
    detail                    text,
    confidence                double precision NOT NULL DEFAULT 0.5,
    confidence_components     jsonb NOT NULL DEFAULT '{}',
    freshness                 double precision NOT NULL DEFAULT 1,
    revalidation_due_at       timestamptz,
    support_count             bigint NOT NULL DEFAULT 0,
    source_diversity          bigint NOT NULL DEFAULT 0,
    contradiction_weight      double precision NOT NULL DEFAULT 0,
    operator_confirmed        boolean NOT NULL DEFAULT false,
    status                    text NOT NULL DEFAULT 'active'
                              CHECK (status IN ('active', 'stale', 'superseded', 'invalidated')),
    first_supported_at        timestamptz,
    last_supported_at         timestamptz,
    last_contradicted_at      timestamptz,
    supersedes_observation_id text COLLATE "C",
    embedding                 vector,
    tags                      jsonb NOT NULL DEFAULT '[]',
    metadata                  jsonb NOT NULL DEFAULT '{}',
    visibility                text NOT NULL DEFAULT 'private'
                              CHECK (visibility IN ('private', 'team', 'family', 'public', 'shared')),
    readers                   text[] COLLATE "C",
    created_at                timestamptz NOT NULL DEFAULT now(),
    updated_at                timestamptz NOT NULL DEFAULT now(),
    search                    tsvector GENERATED ALWAYS AS (searched(
                                  summary || ' ' || coalesce(detail, '') || ' ' || tags::text)) STORED,
    PRIMARY KEY (agent_id, id)
);
-- One that holds at a time; what it superseded keeps the key.
CREATE UNIQUE INDEX knowledge_observations_active ON knowledge_observations (agent_id, canonical_key)
    WHERE status = 'active';
CREATE INDEX knowledge_observations_key ON knowledge_observations (agent_id, canonical_key);
CREATE INDEX knowledge_observations_kind ON knowledge_observations (agent_id, kind, status);
CREATE INDEX knowledge_observations_subject ON knowledge_observations (agent_id, subject_type, subject_id, status);
CREATE INDEX knowledge_observations_supported ON knowledge_observations (agent_id, last_supported_at);
CREATE INDEX knowledge_observations_due ON knowledge_observations (agent_id, revalidation_due_at);
CREATE INDEX knowledge_observations_search ON knowledge_observations USING gin (search);
CREATE INDEX knowledge_observations_readable ON knowledge_observations (agent_id) WHERE visibility <> 'private';

CREATE TABLE knowledge_observation_evidence (
    agent_id          text COLLATE "C" NOT NULL,
    id                text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text,
    observation_id    text COLLATE "C" NOT NULL,
    stance            text NOT NULL CHECK (stance IN ('support', 'contradict', 'context')),
    weight            double precision NOT NULL DEFAULT 1,
    excerpt           text,
    item_id           text COLLATE "C",  -- of mirrored tables, which may lose them
    lesson_id         text COLLATE "C",
    reflection_id     text COLLATE "C",
    entity_id         text COLLATE "C",
    source_created_at timestamptz,
    metadata          jsonb NOT NULL DEFAULT '{}',
    created_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, id),
    FOREIGN KEY (agent_id, observation_id) REFERENCES knowledge_observations (agent_id, id) ON DELETE CASCADE
);
CREATE INDEX knowledge_observation_evidence_observation ON knowledge_observation_evidence (agent_id, observation_id);

-- ---------------------------------------------------------------------------------- documents in collections

CREATE TABLE knowledge_documents (
    agent_id              text COLLATE "C" NOT NULL,
    id                    text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text,
    collection_id         text COLLATE "C" NOT NULL,
    title                 text NOT NULL,
    source                text,                -- a path or an address
    content_hash          text COLLATE "C",
    metadata              jsonb NOT NULL DEFAULT '{}',
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    readers               text[] COLLATE "C",  -- of the collection, as its visibility
    collection_visibility text NOT NULL DEFAULT 'private',
    PRIMARY KEY (agent_id, id),
    UNIQUE (agent_id, collection_id, content_hash),
    FOREIGN KEY (agent_id, collection_id) REFERENCES knowledge_collections (agent_id, id) ON DELETE CASCADE
);

-- Room in each page, and no index with `readers`: so a grant writes no vector into an index again.
CREATE TABLE knowledge_chunks (
    agent_id              text COLLATE "C" NOT NULL,
    document_id           text COLLATE "C" NOT NULL,
    part              int NOT NULL,
    collection_id         text COLLATE "C" NOT NULL DEFAULT '',  -- the document's
    content               text NOT NULL,
    embedding             vector,
    metadata              jsonb NOT NULL DEFAULT '{}',
    readers               text[] COLLATE "C",
    collection_visibility text NOT NULL DEFAULT 'private',
    search                tsvector GENERATED ALWAYS AS (searched(content)) STORED,
    PRIMARY KEY (agent_id, document_id, part),
    FOREIGN KEY (agent_id, document_id) REFERENCES knowledge_documents (agent_id, id) ON DELETE CASCADE
) WITH (fillfactor = 70);
CREATE INDEX knowledge_chunks_collection ON knowledge_chunks (agent_id, collection_id);
CREATE INDEX knowledge_chunks_search ON knowledge_chunks USING gin (search);

CREATE TRIGGER readers_of_document BEFORE INSERT OR UPDATE ON knowledge_documents
    FOR EACH ROW EXECUTE FUNCTION take_collection();

CREATE FUNCTION take_document() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    SELECT d.collection_id, d.readers, d.collection_visibility
      INTO NEW.collection_id, NEW.readers, NEW.collection_visibility
      FROM knowledge_documents d WHERE d.agent_id = NEW.agent_id AND d.id = NEW.document_id FOR SHARE;
    IF NOT FOUND THEN  -- the foreign key refuses it
        NEW.collection_id := '';
        NEW.readers := NULL;
        NEW.collection_visibility := 'private';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER readers_of_chunk BEFORE INSERT OR UPDATE ON knowledge_chunks
    FOR EACH ROW EXECUTE FUNCTION take_document();

CREATE FUNCTION pass_document_on() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE knowledge_chunks SET part = part WHERE agent_id = NEW.agent_id AND document_id = NEW.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER chunks_of_document AFTER UPDATE ON knowledge_documents
    FOR EACH ROW WHEN ((OLD.collection_id, OLD.readers, OLD.collection_visibility)
                       IS DISTINCT FROM (NEW.collection_id, NEW.readers, NEW.collection_visibility))
    EXECUTE FUNCTION pass_document_on();

CREATE OR REPLACE FUNCTION pass_collection_on() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE shared_knowledge SET collection_id = collection_id
         WHERE agent_id = OLD.agent_id AND collection_id = OLD.id
           AND (TG_OP = 'DELETE' OR (OLD.agent_id, OLD.id) IS DISTINCT FROM (NEW.agent_id, NEW.id));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE shared_knowledge SET collection_id = collection_id
         WHERE agent_id = NEW.agent_id AND collection_id = NEW.id
           AND (readers, collection_visibility) IS DISTINCT FROM (NEW.readers, NEW.visibility);
        UPDATE knowledge_documents SET collection_id = collection_id
         WHERE agent_id = NEW.agent_id AND collection_id = NEW.id
           AND (readers, collection_visibility) IS DISTINCT FROM (NEW.readers, NEW.visibility);
    END IF;
    RETURN NULL;
END
$$;

-- What the original has of knowledge that agents share.
ALTER TABLE shared_knowledge
    ADD COLUMN category       text NOT NULL DEFAULT 'fact',
    ADD COLUMN confidence     double precision NOT NULL DEFAULT 0.5,
    ADD COLUMN endorsements   int NOT NULL DEFAULT 0,
    ADD COLUMN source_item_id text COLLATE "C";

-- The dimensions of vectors that are written here are noted as the mirror notes those of its rows, so that each gets
-- its HNSW index: when a mirror of this schema starts, or meets a new dimension.
CREATE FUNCTION note_dimensions() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO mirror.vector_dimensions (schema_name, table_name, column_name, dimension)
    SELECT DISTINCT TG_TABLE_SCHEMA, TG_TABLE_NAME, 'embedding', vector_dims(c.embedding)
      FROM changed c WHERE c.embedding IS NOT NULL
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
DO $$
DECLARE
    held text;
BEGIN
    FOREACH held IN ARRAY ARRAY['shared_knowledge', 'knowledge_observations', 'knowledge_chunks'] LOOP
        EXECUTE format('CREATE TRIGGER dimensions_of_new AFTER INSERT ON %I REFERENCING NEW TABLE AS changed'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION note_dimensions()', held);
        EXECUTE format('CREATE TRIGGER dimensions_of_changed AFTER UPDATE ON %I REFERENCING NEW TABLE AS changed'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION note_dimensions()', held);
    END LOOP;
END
$$;

REVOKE EXECUTE ON FUNCTION take_document(), pass_document_on(), pass_collection_on(), note_dimensions() FROM PUBLIC;

-- ---------------------------------------------------------------------------------- secrets

-- The value is text, "enc:v1:<iv>:<tag>:<ciphertext>", as the original writes it: this form does not name the key, so a
-- digest of it is beside the value, and a change of keys is finished when no value is under the old one. What was here
-- before as bytes is kept: as the text that it was, or after "bytes:" in hexadecimal digits.
ALTER TABLE service_keys
    DROP CONSTRAINT service_keys_agent_id_service_name_key,
    ALTER COLUMN encrypted_value TYPE text USING
        CASE WHEN substr(encrypted_value, 1, 7) = 'enc:v1:'::bytea
             THEN encode(encrypted_value, 'escape') ELSE 'bytes:' || encode(encrypted_value, 'hex') END,
    ALTER COLUMN service DROP NOT NULL,
    ADD COLUMN variable       text COLLATE "C",
    ADD COLUMN category       text,
    ADD COLUMN enabled        boolean NOT NULL DEFAULT true,
    ADD COLUMN source         text NOT NULL DEFAULT 'manual',
    ADD COLUMN allowed_roles  text[] NOT NULL DEFAULT '{}',
    ADD COLUMN allowed_agents text[] NOT NULL DEFAULT '{}',
    ADD COLUMN allowed_teams  text[] NOT NULL DEFAULT '{}',
    ADD COLUMN deny_all       boolean NOT NULL DEFAULT false,
    ADD COLUMN key_id         text COLLATE "C",
    ADD COLUMN updated_at     timestamptz NOT NULL DEFAULT now();
UPDATE service_keys k SET variable = d.variable
  FROM (SELECT agent_id, id, service || '/' || name
               || CASE WHEN count(*) OVER (PARTITION BY agent_id, service || '/' || name) > 1 THEN '/' || id ELSE '' END
          FROM service_keys) AS d (agent_id, id, variable)
 WHERE d.agent_id = k.agent_id AND d.id = k.id;
ALTER TABLE service_keys ALTER COLUMN variable SET NOT NULL, ADD UNIQUE (agent_id, variable);
CREATE INDEX service_keys_key ON service_keys (agent_id, key_id);

ALTER TABLE auth_credentials RENAME COLUMN kind TO credential_type;
ALTER TABLE auth_credentials RENAME COLUMN encrypted_value TO encrypted_payload;
ALTER TABLE auth_credentials
    DROP CONSTRAINT auth_credentials_agent_id_provider_account_key,
    ALTER COLUMN encrypted_payload TYPE text USING
        CASE WHEN substr(encrypted_payload, 1, 7) = 'enc:v1:'::bytea
             THEN encode(encrypted_payload, 'escape') ELSE 'bytes:' || encode(encrypted_payload, 'hex') END,
    ADD COLUMN profile_id     text COLLATE "C",
    ADD COLUMN email          text,
    ADD COLUMN enabled        boolean NOT NULL DEFAULT true,
    ADD COLUMN last_used_at   timestamptz,
    ADD COLUMN cooldown_until timestamptz,
    ADD COLUMN error_count    int NOT NULL DEFAULT 0,
    ADD COLUMN key_id         text COLLATE "C";
UPDATE auth_credentials c SET profile_id = d.profile_id
  FROM (SELECT agent_id, id, provider || ':' || account
               || CASE WHEN count(*) OVER (PARTITION BY agent_id, provider || ':' || account) > 1
                       THEN ':' || id ELSE '' END
          FROM auth_credentials) AS d (agent_id, id, profile_id)
 WHERE d.agent_id = c.agent_id AND d.id = c.id;
ALTER TABLE auth_credentials ALTER COLUMN profile_id SET NOT NULL, ADD UNIQUE (agent_id, profile_id);
CREATE INDEX auth_credentials_provider ON auth_credentials (agent_id, provider);
CREATE INDEX auth_credentials_key ON auth_credentials (agent_id, key_id);

-- ---------------------------------------------------------------------------------- row security

DO $$
DECLARE
    held text;
    own  text := '(agent_id = (asking_agent()).agent_id)';
BEGIN
    FOREACH held IN ARRAY ARRAY[
        'job_templates', 'job_assignments', 'job_runs', 'job_events', 'knowledge_observation_evidence',
        'knowledge_observations', 'knowledge_documents', 'knowledge_chunks']
    LOOP
        PERFORM mirror.secure(current_schema(), held);
        EXECUTE format('DROP POLICY own_rows ON %I', held);
    END LOOP;
    -- Evidence quotes memories, so it is its agent's alone, whoever may read the observation.
    FOREACH held IN ARRAY ARRAY[
        'job_templates', 'job_assignments', 'job_runs', 'job_events', 'knowledge_observation_evidence']
    LOOP
        EXECUTE format('CREATE POLICY own_rows ON %I FOR ALL TO argent_app USING %s WITH CHECK %s', held, own, own);
    END LOOP;
    FOREACH held IN ARRAY ARRAY['knowledge_observations', 'knowledge_documents', 'knowledge_chunks'] LOOP
        EXECUTE format('CREATE POLICY own_new ON %I FOR INSERT TO argent_app WITH CHECK %s', held, own);
        EXECUTE format('CREATE POLICY own_rows ON %I FOR UPDATE TO argent_app USING %s WITH CHECK %s', held, own, own);
        EXECUTE format('CREATE POLICY own_deleted ON %I FOR DELETE TO argent_app USING %s', held, own);
        EXECUTE format(
            'CREATE POLICY readable ON %I FOR SELECT TO argent_app USING ('
            ' CASE WHEN agent_id = nullif(current_setting(''app.agent_id'', true), '''') THEN true'
            '      WHEN %s THEN (asking_agent()).agent_id IS NOT NULL ELSE false END)', held,
            CASE held WHEN 'knowledge_observations'
                 THEN 'visibility IN (''family'', ''public'', ''shared'')'
                      ' OR visibility = ''team'' AND current_setting(''app.agent_id'', true) = ANY (readers)'
                 ELSE 'collection_visibility IN (''family'', ''public'', ''shared'')'
                      ' OR current_setting(''app.agent_id'', true) = ANY (readers)' END);
    END LOOP;
END
$$;
