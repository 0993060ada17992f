-- The tables of a MemuStore and of its dashboard, with what is native to Postgres beside them.
--
-- Applied with search_path set to the mirror's schema. agent_id leads every key, so that agents live side by
-- side and the tables can be distributed by it (see ../citus). Keys are COLLATE "C": SQLite's own order.
--
-- In tables that the mirror fills:
--   _original   what SQLite had, by source column, where the typed value alone does not give it back: a time in
--               an unusual form, JSON whose order or spacing jsonb does not keep. NULL for most rows.
--   visibility  'private', or 'shared' with every agent. Postgres' own: the mirror never writes it.
--   search      for full text: to_tsvector of the texts, of their first 150,000 characters (Postgres takes no
--               tsvector over a megabyte).
-- An agent_id of the source's own is held as source_agent_id.

CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE agents (
    agent_id     text COLLATE "C" PRIMARY KEY CHECK (agent_id <> ''),
    display_name text,
    created_at   timestamptz NOT NULL DEFAULT now()
);

-- ---------------------------------------------------------------------------------------- memory.db

CREATE TABLE resources (
    agent_id   text COLLATE "C" NOT NULL,
    id         text COLLATE "C" NOT NULL,
    url        text NOT NULL DEFAULT '',
    modality   text NOT NULL DEFAULT 'text',
    local_path text,
    caption    text,
    embedding  vector,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    visibility text NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'shared')),
    _original  jsonb,
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE memory_items (
    agent_id            text COLLATE "C" NOT NULL,
    id                  text COLLATE "C" NOT NULL,
    resource_id         text COLLATE "C",
    memory_type         text NOT NULL,
    summary             text NOT NULL,
    embedding           vector,
    happened_at         timestamptz,
    content_hash        text,
    reinforcement_count bigint NOT NULL DEFAULT 1,
    last_reinforced_at  timestamptz,
    extra               jsonb DEFAULT '{}',
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    emotional_valence   double precision NOT NULL DEFAULT 0,
    emotional_arousal   double precision NOT NULL DEFAULT 0,
    mood_at_capture     text,
    significance        text NOT NULL DEFAULT 'routine',
    reflection          text,
    lesson              text,
    visibility          text NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'shared')),
    _original           jsonb,
    search              tsvector GENERATED ALWAYS AS (to_tsvector('english', left(
                            summary || ' ' || coalesce(reflection, '') || ' ' || coalesce(lesson, ''), 150000))) STORED,
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE memory_categories (
    agent_id    text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    description text,
    embedding   vector,
    summary     text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    visibility  text NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'shared')),
    _original   jsonb,
    search      tsvector GENERATED ALWAYS AS (to_tsvector('english', left(
                    name || ' ' || coalesce(description, '') || ' ' || coalesce(summary, ''), 150000))) STORED,
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE category_items (
    agent_id    text COLLATE "C" NOT NULL,
    item_id     text COLLATE "C" NOT NULL,
    category_id text COLLATE "C" NOT NULL,
    _original   jsonb,
    PRIMARY KEY (agent_id, item_id, category_id)
);

CREATE TABLE entities (
    agent_id           text COLLATE "C" NOT NULL,
    id                 text COLLATE "C" NOT NULL,
    name               text COLLATE "C" NOT NULL,
    entity_type        text NOT NULL DEFAULT 'person',
    relationship       text,
    bond_strength      double precision NOT NULL DEFAULT 0.5,
    emotional_texture  text,
    profile_summary    text,
    first_mentioned_at timestamptz,
    last_mentioned_at  timestamptz,
    memory_count       bigint NOT NULL DEFAULT 0,
    embedding          vector,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    visibility         text NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'shared')),
    _original          jsonb,
    search             tsvector GENERATED ALWAYS AS (to_tsvector('english', left(
                           name || ' ' || coalesce(relationship, '') || ' ' || coalesce(emotional_texture, '') || ' '
                           || coalesce(profile_summary, ''), 150000))) STORED,
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE item_entities (
    agent_id  text COLLATE "C" NOT NULL,
    item_id   text COLLATE "C" NOT NULL,
    entity_id text COLLATE "C" NOT NULL,
    role      text DEFAULT 'mentioned',
    _original jsonb,
    PRIMARY KEY (agent_id, item_id, entity_id)
);

CREATE TABLE reflections (
    agent_id          text COLLATE "C" NOT NULL,
    id                text COLLATE "C" NOT NULL,
    trigger_type      text NOT NULL,
    period_start      timestamptz,
    period_end        timestamptz,
    content           text NOT NULL,
    lessons_extracted jsonb DEFAULT '[]',
    entities_involved jsonb DEFAULT '[]',
    self_insights     jsonb DEFAULT '[]',
    mood              text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    visibility        text NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'shared')),
    _original         jsonb,
    search            tsvector GENERATED ALWAYS AS (to_tsvector('english', left(content, 150000))) STORED,
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE lessons (
    agent_id           text COLLATE "C" NOT NULL,
    id                 text COLLATE "C" NOT NULL,
    type               text NOT NULL,
    context            text NOT NULL,
    action             text NOT NULL,
    outcome            text NOT NULL,
    lesson             text NOT NULL,
    correction         text,
    confidence         double precision NOT NULL DEFAULT 0.5,
    occurrences        bigint NOT NULL DEFAULT 1,
    last_seen          timestamptz NOT NULL DEFAULT now(),
    tags               jsonb NOT NULL DEFAULT '[]',
    related_tools      jsonb NOT NULL DEFAULT '[]',
    source_episode_ids jsonb NOT NULL DEFAULT '[]',
    embedding          vector,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    visibility         text NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'shared')),
    _original          jsonb,
    search             tsvector GENERATED ALWAYS AS (to_tsvector('english', left(
                           context || ' ' || action || ' ' || outcome || ' ' || lesson || ' '
                           || coalesce(correction, '') || ' ' || tags::text, 150000))) STORED,
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE model_feedback (
    agent_id            text COLLATE "C" NOT NULL,
    id                  text COLLATE "C" NOT NULL,
    provider            text NOT NULL,
    model               text NOT NULL,
    tier                text NOT NULL,
    session_type        text NOT NULL,
    complexity_score    double precision NOT NULL DEFAULT 0,
    duration_ms         bigint NOT NULL DEFAULT 0,
    success             boolean NOT NULL DEFAULT true,
    error_type          text,
    input_tokens        bigint NOT NULL DEFAULT 0,
    output_tokens       bigint NOT NULL DEFAULT 0,
    total_tokens        bigint NOT NULL DEFAULT 0,
    tool_call_count     bigint NOT NULL DEFAULT 0,
    user_feedback       text,
    session_key         text,
    profile             text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    self_eval_score     double precision,
    self_eval_reasoning text,
    _original           jsonb,
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE live_memory_candidates (
    agent_id          text COLLATE "C" NOT NULL,
    id                text COLLATE "C" NOT NULL,
    session_key       text COLLATE "C",
    message_id        text,
    role              text COLLATE "C" NOT NULL,
    candidate_type    text NOT NULL,
    fact_text         text NOT NULL,
    fact_hash         text COLLATE "C" NOT NULL,
    confidence        double precision NOT NULL DEFAULT 0,
    trigger_flags     jsonb NOT NULL DEFAULT '[]',
    entities          jsonb NOT NULL DEFAULT '[]',
    memory_type_hint  text,
    significance_hint text,
    source_ts         timestamptz NOT NULL,
    expires_at        timestamptz NOT NULL,
    status            text NOT NULL DEFAULT 'pending',
    promoted_item_id  text COLLATE "C",
    promotion_reason  text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    _original         jsonb,
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE memory_promotion_events (
    agent_id     text COLLATE "C" NOT NULL,
    id           text COLLATE "C" NOT NULL,
    candidate_id text COLLATE "C" NOT NULL,
    actor        text NOT NULL,
    action       text NOT NULL,
    result       text NOT NULL,
    reason       text,
    error        text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    _original    jsonb,
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE personal_skill_candidates (
    agent_id                    text COLLATE "C" NOT NULL,
    id                          text COLLATE "C" NOT NULL,
    source_agent_id             text NOT NULL DEFAULT 'main',
    operator_id                 text,
    profile_id                  text,
    title                       text NOT NULL,
    summary                     text NOT NULL,
    trigger_patterns            jsonb NOT NULL DEFAULT '[]',
    procedure_outline           text,
    related_tools               jsonb NOT NULL DEFAULT '[]',
    source_memory_ids           jsonb NOT NULL DEFAULT '[]',
    source_episode_ids          jsonb NOT NULL DEFAULT '[]',
    source_task_ids             jsonb NOT NULL DEFAULT '[]',
    source_lesson_ids           jsonb NOT NULL DEFAULT '[]',
    evidence_count              bigint NOT NULL DEFAULT 0,
    recurrence_count            bigint NOT NULL DEFAULT 1,
    confidence                  double precision NOT NULL DEFAULT 0.5,
    state                       text NOT NULL DEFAULT 'candidate',
    last_reviewed_at            timestamptz,
    last_used_at                timestamptz,
    created_at                  timestamptz NOT NULL DEFAULT now(),
    updated_at                  timestamptz NOT NULL DEFAULT now(),
    scope                       text NOT NULL DEFAULT 'operator',
    preconditions               jsonb NOT NULL DEFAULT '[]',
    execution_steps             jsonb NOT NULL DEFAULT '[]',
    expected_outcomes           jsonb NOT NULL DEFAULT '[]',
    supersedes_candidate_ids    jsonb NOT NULL DEFAULT '[]',
    superseded_by_candidate_id  text COLLATE "C",
    conflicts_with_candidate_ids jsonb NOT NULL DEFAULT '[]',
    contradiction_count         bigint NOT NULL DEFAULT 0,
    strength                    double precision NOT NULL DEFAULT 0.5,
    usage_count                 bigint NOT NULL DEFAULT 0,
    success_count               bigint NOT NULL DEFAULT 0,
    failure_count               bigint NOT NULL DEFAULT 0,
    last_reinforced_at          timestamptz,
    last_contradicted_at        timestamptz,
    operator_notes              text,
    _original                   jsonb,
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE personal_skill_reviews (
    agent_id        text COLLATE "C" NOT NULL,
    id              text COLLATE "C" NOT NULL,
    candidate_id    text COLLATE "C" NOT NULL,
    source_agent_id text NOT NULL DEFAULT 'main',
    actor_type      text NOT NULL,
    action          text NOT NULL,
    reason          text,
    details         jsonb NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL DEFAULT now(),
    _original       jsonb,
    PRIMARY KEY (agent_id, id)
);

-- ------------------------------------------------------------------------------------- dashboard.db

CREATE TABLE tasks (
    agent_id        text COLLATE "C" NOT NULL,
    id              text COLLATE "C" NOT NULL,
    title           text NOT NULL,
    description     text,
    status          text NOT NULL DEFAULT 'pending',
    priority        text NOT NULL DEFAULT 'normal',
    source          text NOT NULL DEFAULT 'user',
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    started_at      timestamptz,
    completed_at    timestamptz,
    due_at          timestamptz,
    source_agent_id text,
    session_id      text,
    channel_id      text,
    parent_task_id  text COLLATE "C",
    tags            jsonb,
    metadata        jsonb,
    assignee        text,
    depends_on      jsonb DEFAULT '[]',
    team_id         text COLLATE "C",
    visibility      text NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'shared')),
    _original       jsonb,
    search          tsvector GENERATED ALWAYS AS (to_tsvector('english', left(
                        title || ' ' || coalesce(description, '') || ' ' || coalesce(tags::text, ''), 150000))) STORED,
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE teams (
    agent_id         text COLLATE "C" NOT NULL,
    id               text COLLATE "C" NOT NULL,
    name             text NOT NULL,
    lead_session_key text NOT NULL,
    status           text NOT NULL DEFAULT 'active',
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    config           jsonb DEFAULT '{}',
    visibility       text NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'shared')),
    _original        jsonb,
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE team_members (
    agent_id       text COLLATE "C" NOT NULL,
    team_id        text COLLATE "C" NOT NULL,
    session_key    text COLLATE "C" NOT NULL,
    role           text NOT NULL DEFAULT 'worker',
    label          text,
    status         text NOT NULL DEFAULT 'active',
    joined_at      timestamptz NOT NULL DEFAULT now(),
    last_active_at timestamptz,
    _original      jsonb,
    PRIMARY KEY (agent_id, team_id, session_key)
);

-- -------------------------------------------------------------------------- native to Postgres

CREATE TABLE knowledge_collections (
    agent_id    text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text,
    name        text COLLATE "C" NOT NULL,
    description text,
    visibility  text NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'shared')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, id),
    UNIQUE (agent_id, name)
);

-- The owner lets another agent read one of its collections.
CREATE TABLE knowledge_collection_grants (
    agent_id         text COLLATE "C" NOT NULL,
    collection_id    text COLLATE "C" NOT NULL,
    grantee_agent_id text COLLATE "C" NOT NULL CHECK (grantee_agent_id <> ''),
    granted_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, collection_id, grantee_agent_id)
);

CREATE TABLE shared_knowledge (
    agent_id      text COLLATE "C" NOT NULL,
    id            text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text,
    collection_id text COLLATE "C" NOT NULL,
    title         text,
    content       text NOT NULL,
    metadata      jsonb NOT NULL DEFAULT '{}',
    embedding     vector,
    visibility    text NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'shared')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    search        tsvector GENERATED ALWAYS AS (to_tsvector('english', left(
                      coalesce(title, '') || ' ' || content, 150000))) STORED,
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE service_keys (
    agent_id        text COLLATE "C" NOT NULL,
    id              text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text,
    service         text COLLATE "C" NOT NULL,
    name            text COLLATE "C" NOT NULL DEFAULT 'default',
    encrypted_value bytea NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    last_used_at    timestamptz,
    revoked_at      timestamptz,
    PRIMARY KEY (agent_id, id),
    UNIQUE (agent_id, service, name)
);

CREATE TABLE auth_credentials (
    agent_id        text COLLATE "C" NOT NULL,
    id              text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text,
    provider        text COLLATE "C" NOT NULL,
    account         text COLLATE "C" NOT NULL DEFAULT '',
    kind            text NOT NULL,
    encrypted_value bytea NOT NULL,
    expires_at      timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, id),
    UNIQUE (agent_id, provider, account)
);

CREATE TABLE sessions (
    agent_id    text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text,
    session_key text COLLATE "C" NOT NULL,
    title       text,
    metadata    jsonb NOT NULL DEFAULT '{}',
    started_at  timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE observations (
    agent_id    text COLLATE "C" NOT NULL,
    id          bigint GENERATED BY DEFAULT AS IDENTITY,
    session_id  text COLLATE "C",
    kind        text NOT NULL,
    content     text NOT NULL,
    metadata    jsonb NOT NULL DEFAULT '{}',
    observed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, id)
);
