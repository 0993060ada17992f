-- Row-level security: the role argent_app sees and writes the rows of the agent that app.agent_id names, and
-- reads what others share. Set it for one transaction, so that it cannot be left over on a pooled connection:
--
--   BEGIN; SELECT set_config('app.agent_id', 'main', true); ...; COMMIT;
--
-- Not set, empty or unknown: no rows. The tables' owner, which the mirror is, is not subject to it.
-- argent_app is trusted to name the agent: whoever can run any SQL as argent_app can name any agent.

DO $$
DECLARE
    held text;
BEGIN
    FOREACH held IN ARRAY ARRAY[
        'resources', 'memory_items', 'memory_categories', 'category_items', 'entities', 'item_entities',
        'reflections', 'lessons', 'model_feedback', 'live_memory_candidates', 'memory_promotion_events',
        'personal_skill_candidates', 'personal_skill_reviews', 'tasks', 'teams', 'team_members',
        'knowledge_collections', 'knowledge_collection_grants', 'shared_knowledge', 'service_keys',
        'auth_credentials', 'sessions', 'observations']
    LOOP
        PERFORM mirror.secure(current_schema(), held);
    END LOOP;
END
$$;

-- An agent sees its own entry, and cannot make one: agents come from the mirror or an administrator.
ALTER TABLE agents ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON agents FOR SELECT TO argent_app
    USING (agent_id = current_setting('app.agent_id', true));
GRANT SELECT ON agents TO argent_app;

-- Shared by visibility: with every agent there is, so not with whoever sets no agent or a made-up one.
CREATE POLICY shared_rows ON resources FOR SELECT TO argent_app
    USING (visibility = 'shared' AND EXISTS (SELECT FROM agents));
CREATE POLICY shared_rows ON memory_items FOR SELECT TO argent_app
    USING (visibility = 'shared' AND EXISTS (SELECT FROM agents));
CREATE POLICY shared_rows ON memory_categories FOR SELECT TO argent_app
    USING (visibility = 'shared' AND EXISTS (SELECT FROM agents));
CREATE POLICY shared_rows ON entities FOR SELECT TO argent_app
    USING (visibility = 'shared' AND EXISTS (SELECT FROM agents));
CREATE POLICY shared_rows ON reflections FOR SELECT TO argent_app
    USING (visibility = 'shared' AND EXISTS (SELECT FROM agents));
CREATE POLICY shared_rows ON lessons FOR SELECT TO argent_app
    USING (visibility = 'shared' AND EXISTS (SELECT FROM agents));
CREATE POLICY shared_rows ON tasks FOR SELECT TO argent_app
    USING (visibility = 'shared' AND EXISTS (SELECT FROM agents));
CREATE POLICY shared_rows ON teams FOR SELECT TO argent_app
    USING (visibility = 'shared' AND EXISTS (SELECT FROM agents));

-- Shared by an explicit grant: a collection, and what is in it. These policies read one another's tables as the
-- asking role does, so that each sees no more than it may; grants refer to nothing, which ends the circle.
CREATE POLICY granted_rows ON knowledge_collection_grants FOR SELECT TO argent_app
    USING (grantee_agent_id = current_setting('app.agent_id', true));
CREATE POLICY granted_rows ON knowledge_collections FOR SELECT TO argent_app
    USING (EXISTS (
        SELECT FROM knowledge_collection_grants g
         WHERE g.agent_id = knowledge_collections.agent_id AND g.collection_id = knowledge_collections.id
           AND g.grantee_agent_id = current_setting('app.agent_id', true)));
CREATE POLICY shared_rows ON knowledge_collections FOR SELECT TO argent_app
    USING (visibility = 'shared' AND EXISTS (SELECT FROM agents));
CREATE POLICY granted_rows ON shared_knowledge FOR SELECT TO argent_app
    USING (EXISTS (
        SELECT FROM knowledge_collections c
         WHERE c.agent_id = shared_knowledge.agent_id AND c.id = shared_knowledge.collection_id));
CREATE POLICY shared_rows ON shared_knowledge FOR SELECT TO argent_app
    USING (visibility = 'shared' AND EXISTS (SELECT FROM agents));

