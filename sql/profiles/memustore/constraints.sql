-- What SQLite enforces while it is written, and Postgres has to from the day it is written itself. Not while the
-- mirror runs: it takes whatever the source has committed, orphans and duplicates of an older store included.
-- Every constraint contains agent_id, so that the tables can be distributed by it. The profile lists the same ones
-- (mirror/profiles/memustore.py), for the guard rails of a cutover; a test compares the two.

ALTER TABLE memory_categories ADD CONSTRAINT memory_categories_name_key UNIQUE (agent_id, name);
ALTER TABLE entities ADD CONSTRAINT entities_name_key UNIQUE (agent_id, name);
ALTER TABLE live_memory_candidates
    ADD CONSTRAINT live_memory_candidates_fact_key UNIQUE (agent_id, fact_hash, role, session_key);

-- resource_id alone is set NULL: agent_id stays.
ALTER TABLE memory_items ADD CONSTRAINT memory_items_resource_fkey
    FOREIGN KEY (agent_id, resource_id) REFERENCES resources (agent_id, id) ON DELETE SET NULL (resource_id);
ALTER TABLE category_items ADD CONSTRAINT category_items_item_fkey
    FOREIGN KEY (agent_id, item_id) REFERENCES memory_items (agent_id, id) ON DELETE CASCADE;
ALTER TABLE category_items ADD CONSTRAINT category_items_category_fkey
    FOREIGN KEY (agent_id, category_id) REFERENCES memory_categories (agent_id, id) ON DELETE CASCADE;
ALTER TABLE item_entities ADD CONSTRAINT item_entities_item_fkey
    FOREIGN KEY (agent_id, item_id) REFERENCES memory_items (agent_id, id) ON DELETE CASCADE;
ALTER TABLE item_entities ADD CONSTRAINT item_entities_entity_fkey
    FOREIGN KEY (agent_id, entity_id) REFERENCES entities (agent_id, id) ON DELETE CASCADE;
ALTER TABLE tasks ADD CONSTRAINT tasks_parent_fkey
    FOREIGN KEY (agent_id, parent_task_id) REFERENCES tasks (agent_id, id);
ALTER TABLE team_members ADD CONSTRAINT team_members_team_fkey
    FOREIGN KEY (agent_id, team_id) REFERENCES teams (agent_id, id);
ALTER TABLE knowledge_collection_grants ADD CONSTRAINT knowledge_collection_grants_collection_fkey
    FOREIGN KEY (agent_id, collection_id) REFERENCES knowledge_collections (agent_id, id) ON DELETE CASCADE;
ALTER TABLE shared_knowledge ADD CONSTRAINT shared_knowledge_collection_fkey
    FOREIGN KEY (agent_id, collection_id) REFERENCES knowledge_collections (agent_id, id) ON DELETE CASCADE;
