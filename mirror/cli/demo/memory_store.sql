-- The tables of a memory store, schema version 11, as its gateway creates them.
CREATE TABLE memu_meta (
    key TEXT PRIMARY KEY,
    value TEXT
);
CREATE TABLE resources (
    id TEXT PRIMARY KEY,
    url TEXT NOT NULL DEFAULT '',
    modality TEXT NOT NULL DEFAULT 'text',
    local_path TEXT,
    caption TEXT,
    embedding BLOB,
    created_at TEXT NOT NULL DEFAULT (datetime('now')),
    updated_at TEXT NOT NULL DEFAULT (datetime('now'))
);
CREATE TABLE memory_items (
    id TEXT PRIMARY KEY,
    resource_id TEXT REFERENCES resources(id) ON DELETE SET NULL,
    memory_type TEXT NOT NULL,
    summary TEXT NOT NULL,
    embedding BLOB,
    happened_at TEXT,
    content_hash TEXT,
    reinforcement_count INTEGER NOT NULL DEFAULT 1,
    last_reinforced_at TEXT,
    extra TEXT DEFAULT '{}',
    created_at TEXT NOT NULL DEFAULT (datetime('now')),
    updated_at TEXT NOT NULL DEFAULT (datetime('now')),
    emotional_valence REAL NOT NULL DEFAULT 0,
    emotional_arousal REAL NOT NULL DEFAULT 0,
    mood_at_capture TEXT DEFAULT NULL,
    significance TEXT NOT NULL DEFAULT 'routine',
    reflection TEXT DEFAULT NULL,
    lesson TEXT DEFAULT NULL
);
CREATE TABLE memory_categories (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    embedding BLOB,
    summary TEXT,
    created_at TEXT NOT NULL DEFAULT (datetime('now')),
    updated_at TEXT NOT NULL DEFAULT (datetime('now'))
);
CREATE TABLE category_items (
    item_id TEXT NOT NULL REFERENCES memory_items(id) ON DELETE CASCADE,
    category_id TEXT NOT NULL REFERENCES memory_categories(id) ON DELETE CASCADE,
    PRIMARY KEY (item_id, category_id)
);
CREATE TABLE entities (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    entity_type TEXT NOT NULL DEFAULT 'person',
    relationship TEXT,
    bond_strength REAL NOT NULL DEFAULT 0.5,
    emotional_texture TEXT,
    profile_summary TEXT,
    first_mentioned_at TEXT,
    last_mentioned_at TEXT,
    memory_count INTEGER NOT NULL DEFAULT 0,
    embedding BLOB,
    created_at TEXT NOT NULL DEFAULT (datetime('now')),
    updated_at TEXT NOT NULL DEFAULT (datetime('now'))
);
CREATE TABLE item_entities (
    item_id TEXT NOT NULL REFERENCES memory_items(id) ON DELETE CASCADE,
    entity_id TEXT NOT NULL REFERENCES entities(id) ON DELETE CASCADE,
    role TEXT DEFAULT 'mentioned',
    PRIMARY KEY (item_id, entity_id)
);
CREATE TABLE reflections (
    id TEXT PRIMARY KEY,
    trigger_type TEXT NOT NULL,
    period_start TEXT,
    period_end TEXT,
    content TEXT NOT NULL,
    lessons_extracted TEXT DEFAULT '[]',
    entities_involved TEXT DEFAULT '[]',
    self_insights TEXT DEFAULT '[]',
    mood TEXT,
    created_at TEXT NOT NULL DEFAULT (datetime('now'))
);
CREATE TABLE lessons (
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    context TEXT NOT NULL,
    action TEXT NOT NULL,
    outcome TEXT NOT NULL,
    lesson TEXT NOT NULL,
    correction TEXT,
    confidence REAL NOT NULL DEFAULT 0.5,
    occurrences INTEGER NOT NULL DEFAULT 1,
    last_seen TEXT NOT NULL DEFAULT (datetime('now')),
    tags TEXT NOT NULL DEFAULT '[]',
    related_tools TEXT NOT NULL DEFAULT '[]',
    source_episode_ids TEXT NOT NULL DEFAULT '[]',
    embedding BLOB,
    created_at TEXT NOT NULL DEFAULT (datetime('now')),
    updated_at TEXT NOT NULL DEFAULT (datetime('now'))
);
CREATE TABLE model_feedback (
    id TEXT PRIMARY KEY,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    tier TEXT NOT NULL,
    session_type TEXT NOT NULL,
    complexity_score REAL NOT NULL DEFAULT 0,
    duration_ms INTEGER NOT NULL DEFAULT 0,
    success INTEGER NOT NULL DEFAULT 1,
    error_type TEXT,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    total_tokens INTEGER NOT NULL DEFAULT 0,
    tool_call_count INTEGER NOT NULL DEFAULT 0,
    user_feedback TEXT,
    session_key TEXT,
    profile TEXT,
    created_at TEXT NOT NULL DEFAULT (datetime('now')),
    self_eval_score REAL,
    self_eval_reasoning TEXT
);
CREATE TABLE live_memory_candidates (
    id TEXT PRIMARY KEY,
    session_key TEXT,
    message_id TEXT,
    role TEXT NOT NULL,
    candidate_type TEXT NOT NULL,
    fact_text TEXT NOT NULL,
    fact_hash TEXT NOT NULL,
    confidence REAL NOT NULL DEFAULT 0,
    trigger_flags TEXT NOT NULL DEFAULT '[]',
    entities TEXT NOT NULL DEFAULT '[]',
    memory_type_hint TEXT,
    significance_hint TEXT,
    source_ts TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending',
    promoted_item_id TEXT,
    promotion_reason TEXT,
    created_at TEXT NOT NULL DEFAULT (datetime('now')),
    updated_at TEXT NOT NULL DEFAULT (datetime('now'))
);
CREATE TABLE memory_promotion_events (
    id TEXT PRIMARY KEY,
    candidate_id TEXT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    result TEXT NOT NULL,
    reason TEXT,
    error TEXT,
    created_at TEXT NOT NULL DEFAULT (datetime('now'))
);
CREATE TABLE personal_skill_candidates (
    id TEXT PRIMARY KEY,
    agent_id TEXT NOT NULL DEFAULT 'main',
    operator_id TEXT,
    profile_id TEXT,
    title TEXT NOT NULL,
    summary TEXT NOT NULL,
    trigger_patterns TEXT NOT NULL DEFAULT '[]',
    procedure_outline TEXT,
    related_tools TEXT NOT NULL DEFAULT '[]',
    source_memory_ids TEXT NOT NULL DEFAULT '[]',
    source_episode_ids TEXT NOT NULL DEFAULT '[]',
    source_task_ids TEXT NOT NULL DEFAULT '[]',
    source_lesson_ids TEXT NOT NULL DEFAULT '[]',
    evidence_count INTEGER NOT NULL DEFAULT 0,
    recurrence_count INTEGER NOT NULL DEFAULT 1,
    confidence REAL NOT NULL DEFAULT 0.5,
    state TEXT NOT NULL DEFAULT 'candidate',
    last_reviewed_at TEXT,
    last_used_at TEXT,
    created_at TEXT NOT NULL DEFAULT (datetime('now')),
    updated_at TEXT NOT NULL DEFAULT (datetime('now')),
    scope TEXT NOT NULL DEFAULT 'operator',
    preconditions TEXT NOT NULL DEFAULT '[]',
    execution_steps TEXT NOT NULL DEFAULT '[]',
    expected_outcomes TEXT NOT NULL DEFAULT '[]',
    supersedes_candidate_ids TEXT NOT NULL DEFAULT '[]',
    superseded_by_candidate_id TEXT,
    conflicts_with_candidate_ids TEXT NOT NULL DEFAULT '[]',
    contradiction_count INTEGER NOT NULL DEFAULT 0,
    strength REAL NOT NULL DEFAULT 0.5,
    usage_count INTEGER NOT NULL DEFAULT 0,
    success_count INTEGER NOT NULL DEFAULT 0,
    failure_count INTEGER NOT NULL DEFAULT 0,
    last_reinforced_at TEXT,
    last_contradicted_at TEXT,
    operator_notes TEXT
);
CREATE TABLE personal_skill_reviews (
    id TEXT PRIMARY KEY,
    candidate_id TEXT NOT NULL,
    agent_id TEXT NOT NULL DEFAULT 'main',
    actor_type TEXT NOT NULL,
    action TEXT NOT NULL,
    reason TEXT,
    details TEXT NOT NULL DEFAULT '{}',
    created_at TEXT NOT NULL DEFAULT (datetime('now'))
);
CREATE VIRTUAL TABLE memory_items_fts USING fts5( summary, reflection, lesson, content='memory_items', content_rowid='rowid', tokenize='porter unicode61' );
CREATE VIRTUAL TABLE memory_categories_fts USING fts5( name, description, summary, content='memory_categories', content_rowid='rowid', tokenize='porter unicode61' );
CREATE VIRTUAL TABLE lessons_fts USING fts5( context, action, outcome, lesson, correction, tags, content='lessons', content_rowid='rowid', tokenize='porter unicode61' );
CREATE INDEX idx_resources_url ON resources(url);
CREATE INDEX idx_resources_created ON resources(created_at);
CREATE INDEX idx_items_resource ON memory_items(resource_id);
CREATE INDEX idx_items_type ON memory_items(memory_type);
CREATE INDEX idx_items_hash ON memory_items(content_hash);
CREATE INDEX idx_items_created ON memory_items(created_at);
CREATE INDEX idx_items_reinforced ON memory_items(last_reinforced_at);
CREATE INDEX idx_categories_name ON memory_categories(name);
CREATE INDEX idx_items_significance ON memory_items(significance);
CREATE UNIQUE INDEX idx_entities_name ON entities(name);
CREATE INDEX idx_entities_type ON entities(entity_type);
CREATE INDEX idx_entities_bond ON entities(bond_strength);
CREATE INDEX idx_item_entities_entity ON item_entities(entity_id);
CREATE INDEX idx_reflections_trigger ON reflections(trigger_type);
CREATE INDEX idx_reflections_created ON reflections(created_at);
CREATE INDEX idx_lessons_type ON lessons(type);
CREATE INDEX idx_lessons_confidence ON lessons(confidence);
CREATE INDEX idx_lessons_created ON lessons(created_at);
CREATE INDEX idx_lessons_last_seen ON lessons(last_seen);
CREATE INDEX idx_mf_provider_model ON model_feedback(provider, model);
CREATE INDEX idx_mf_tier ON model_feedback(tier);
CREATE INDEX idx_mf_session_type ON model_feedback(session_type);
CREATE INDEX idx_mf_created ON model_feedback(created_at);
CREATE INDEX idx_mf_success ON model_feedback(success);
CREATE INDEX idx_live_candidates_status_expires ON live_memory_candidates(status, expires_at);
CREATE INDEX idx_live_candidates_session ON live_memory_candidates(session_key, created_at DESC);
CREATE UNIQUE INDEX idx_live_candidates_dedupe ON live_memory_candidates(fact_hash, role, session_key);
CREATE INDEX idx_personal_skill_candidates_agent ON personal_skill_candidates(agent_id);
CREATE INDEX idx_personal_skill_candidates_state ON personal_skill_candidates(state);
CREATE INDEX idx_personal_skill_candidates_confidence ON personal_skill_candidates(confidence);
CREATE INDEX idx_personal_skill_candidates_updated ON personal_skill_candidates(updated_at);
CREATE INDEX idx_personal_skill_candidates_scope ON personal_skill_candidates(scope);
CREATE INDEX idx_personal_skill_reviews_candidate ON personal_skill_reviews(candidate_id, created_at DESC);
CREATE INDEX idx_personal_skill_reviews_agent ON personal_skill_reviews(agent_id, created_at DESC);
CREATE TRIGGER memu_items_ai AFTER INSERT ON memory_items BEGIN
    INSERT INTO memory_items_fts(rowid, summary, reflection, lesson) VALUES (new.rowid, new.summary, new.reflection, new.lesson);
END;
CREATE TRIGGER memu_items_ad AFTER DELETE ON memory_items BEGIN
    INSERT INTO memory_items_fts(memory_items_fts, rowid, summary, reflection, lesson) VALUES('delete', old.rowid, old.summary, old.reflection, old.lesson);
END;
CREATE TRIGGER memu_items_au AFTER UPDATE ON memory_items BEGIN
    INSERT INTO memory_items_fts(memory_items_fts, rowid, summary, reflection, lesson) VALUES('delete', old.rowid, old.summary, old.reflection, old.lesson);
    INSERT INTO memory_items_fts(rowid, summary, reflection, lesson) VALUES (new.rowid, new.summary, new.reflection, new.lesson);
END;
CREATE TRIGGER memu_cats_ai AFTER INSERT ON memory_categories BEGIN
    INSERT INTO memory_categories_fts(rowid, name, description, summary) VALUES (new.rowid, new.name, new.description, new.summary);
END;
CREATE TRIGGER memu_cats_ad AFTER DELETE ON memory_categories BEGIN
    INSERT INTO memory_categories_fts(memory_categories_fts, rowid, name, description, summary) VALUES('delete', old.rowid, old.name, old.description, old.summary);
END;
CREATE TRIGGER memu_cats_au AFTER UPDATE ON memory_categories BEGIN
    INSERT INTO memory_categories_fts(memory_categories_fts, rowid, name, description, summary) VALUES('delete', old.rowid, old.name, old.description, old.summary);
    INSERT INTO memory_categories_fts(rowid, name, description, summary) VALUES (new.rowid, new.name, new.description, new.summary);
END;
CREATE TRIGGER memu_lessons_ai AFTER INSERT ON lessons BEGIN
    INSERT INTO lessons_fts(rowid, context, action, outcome, lesson, correction, tags) VALUES (new.rowid, new.context, new.action, new.outcome, new.lesson, new.correction, new.tags);
END;
CREATE TRIGGER memu_lessons_ad AFTER DELETE ON lessons BEGIN
    INSERT INTO lessons_fts(lessons_fts, rowid, context, action, outcome, lesson, correction, tags) VALUES('delete', old.rowid, old.context, old.action, old.outcome, old.lesson, old.correction, old.tags);
END;
CREATE TRIGGER memu_lessons_au AFTER UPDATE ON lessons BEGIN
    INSERT INTO lessons_fts(lessons_fts, rowid, context, action, outcome, lesson, correction, tags) VALUES('delete', old.rowid, old.context, old.action, old.outcome, old.lesson, old.correction, old.tags);
    INSERT INTO lessons_fts(rowid, context, action, outcome, lesson, correction, tags) VALUES (new.rowid, new.context, new.action, new.outcome, new.lesson, new.correction, new.tags);
END;
