-- Indexes for reads. Vectors are not here: an HNSW index has one dimension, so the mirror makes one for each
-- dimension in use, after the first copy (vector_index.sql).

CREATE INDEX resources_created ON resources (agent_id, created_at);
CREATE INDEX resources_url ON resources (agent_id, url);

CREATE INDEX memory_items_created ON memory_items (agent_id, created_at);
CREATE INDEX memory_items_type ON memory_items (agent_id, memory_type);
CREATE INDEX memory_items_significance ON memory_items (agent_id, significance);
CREATE INDEX memory_items_hash ON memory_items (agent_id, content_hash);
CREATE INDEX memory_items_reinforced ON memory_items (agent_id, last_reinforced_at);
CREATE INDEX memory_items_resource ON memory_items (agent_id, resource_id);
CREATE INDEX memory_items_shared ON memory_items (visibility) WHERE visibility = 'shared';
CREATE INDEX memory_items_search ON memory_items USING gin (search);

CREATE INDEX memory_categories_name ON memory_categories (agent_id, name);
CREATE INDEX memory_categories_search ON memory_categories USING gin (search);
CREATE INDEX category_items_category ON category_items (agent_id, category_id);

CREATE INDEX entities_name ON entities (agent_id, name);
CREATE INDEX entities_type ON entities (agent_id, entity_type);
CREATE INDEX entities_bond ON entities (agent_id, bond_strength);
CREATE INDEX entities_search ON entities USING gin (search);
CREATE INDEX item_entities_entity ON item_entities (agent_id, entity_id);

CREATE INDEX reflections_created ON reflections (agent_id, created_at);
CREATE INDEX reflections_trigger ON reflections (agent_id, trigger_type);
CREATE INDEX reflections_search ON reflections USING gin (search);

CREATE INDEX lessons_type ON lessons (agent_id, type);
CREATE INDEX lessons_confidence ON lessons (agent_id, confidence);
CREATE INDEX lessons_last_seen ON lessons (agent_id, last_seen);
CREATE INDEX lessons_search ON lessons USING gin (search);

CREATE INDEX model_feedback_model ON model_feedback (agent_id, provider, model);
CREATE INDEX model_feedback_created ON model_feedback (agent_id, created_at);

CREATE INDEX live_memory_candidates_expiry ON live_memory_candidates (agent_id, status, expires_at);
CREATE INDEX live_memory_candidates_session ON live_memory_candidates (agent_id, session_key, created_at DESC);
CREATE INDEX live_memory_candidates_fact ON live_memory_candidates (agent_id, fact_hash, role, session_key);
CREATE INDEX memory_promotion_events_candidate ON memory_promotion_events (agent_id, candidate_id);

CREATE INDEX personal_skill_candidates_state ON personal_skill_candidates (agent_id, state);
CREATE INDEX personal_skill_candidates_updated ON personal_skill_candidates (agent_id, updated_at);
CREATE INDEX personal_skill_reviews_candidate ON personal_skill_reviews (agent_id, candidate_id, created_at DESC);

CREATE INDEX tasks_status ON tasks (agent_id, status);
CREATE INDEX tasks_due ON tasks (agent_id, due_at);
CREATE INDEX tasks_parent ON tasks (agent_id, parent_task_id);
CREATE INDEX tasks_team ON tasks (agent_id, team_id);
CREATE INDEX tasks_search ON tasks USING gin (search);
CREATE INDEX team_members_session ON team_members (agent_id, session_key);

CREATE INDEX knowledge_collection_grants_grantee ON knowledge_collection_grants (grantee_agent_id);
CREATE INDEX shared_knowledge_collection ON shared_knowledge (agent_id, collection_id);
CREATE INDEX shared_knowledge_search ON shared_knowledge USING gin (search);

CREATE INDEX sessions_key ON sessions (agent_id, session_key);
CREATE INDEX observations_session ON observations (agent_id, session_id, observed_at);
