-- Spread the tables of agents over a Citus cluster, by agent. Run once on the coordinator, as the owner, with
-- search_path set to the mirror's schema, after `mirror up` has made the tables:
--
--   psql -v ON_ERROR_STOP=1 -c 'SET search_path = public' -f sql/citus/distribute.sql
--
-- All of one agent's rows land on one node, so joins and transactions of one agent stay there. It can be done
-- because agent_id leads every key; add memustore/constraints.sql before or after. Row-level security, views and
-- generated columns are carried to the nodes by Citus; the role argent_app must be there (Citus propagates roles).

CREATE EXTENSION IF NOT EXISTS citus;

-- Small, and joined with by every policy: a copy on every node.
SELECT create_reference_table('agents');

SELECT create_distributed_table(name, 'agent_id', colocate_with => CASE name WHEN 'memory_items' THEN 'default' ELSE 'memory_items' END)
  FROM unnest(ARRAY[
        'memory_items', 'resources', 'memory_categories', 'category_items', 'entities', 'item_entities',
        'reflections', 'lessons', 'model_feedback', 'live_memory_candidates', 'memory_promotion_events',
        'personal_skill_candidates', 'personal_skill_reviews', 'tasks', 'teams', 'team_members',
        'knowledge_collections', 'knowledge_collection_grants', 'shared_knowledge', 'service_keys',
        'auth_credentials', 'sessions', 'observations', 'job_templates', 'job_assignments', 'job_runs', 'job_events',
        'knowledge_observations', 'knowledge_observation_evidence', 'knowledge_documents',
        'knowledge_chunks']) AS name;
