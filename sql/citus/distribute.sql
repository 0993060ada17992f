-- Spread the tables of agents over a Citus cluster, by agent. With psql on the coordinator, as the tables' owner, with
-- search_path set to the mirror's schema, after `mirror up` has made the tables; mirrors may run meanwhile:
--
--   psql "$ARGENT_PG_URL" -X -v ON_ERROR_STOP=1 -c 'SET search_path = public' -f sql/citus/distribute.sql
--
-- It can be run again: after an interruption it goes on, and after an update of the mirror it distributes what is new.
-- `scripts/citus-check.sh DSN` tries all of it on a cluster, in a schema of its own.
--
-- All of one agent's rows land on one node, so joins and transactions of one agent stay there. It can be done because
-- agent_id leads every key. Policies, views, generated columns and the role argent_app are carried to the nodes by Citus.
-- What programs have to heed is in ../README.md, under "Citus".

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS citus;
-- The mirror's schema, and the one of the type vector; as for the functions of profiles/memustore.
SELECT set_config('search_path', concat_ws(', ', quote_ident(current_schema()), quote_ident(n.nspname), 'pg_temp'), false)
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector';
-- One trigger comes along, visibility_of_new and _of_changed: it looks at its row alone, so that it does the same anywhere.
SET citus.enable_unsafe_triggers = on;

-- Small, and asked by every policy: a copy on every node.
SELECT 'SELECT create_reference_table(''agents'')'
 WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agents'::regclass)
\gexec

-- One transaction a table, so that a mirror that is writing waits for one at a time, and never in a circle.
SELECT format(
           'DROP TRIGGER IF EXISTS mirror_watch ON %1$s;'
           ' DROP TRIGGER IF EXISTS mirror_watch_all ON %1$s;'
           ' SELECT create_distributed_table(%1$L, ''agent_id'', colocate_with => %2$L)',
           held, CASE held WHEN 'memory_items' THEN 'none' ELSE 'memory_items' END)
  FROM unnest(ARRAY[
        'memory_items', 'resources', 'memory_categories', 'category_items', 'entities', 'item_entities',
        'reflections', 'lessons', 'model_feedback', 'live_memory_candidates', 'memory_promotion_events',
        'personal_skill_candidates', 'personal_skill_reviews', 'tasks', 'teams', 'team_members', 'service_keys',
        'auth_credentials', 'sessions', 'observations', 'job_templates', 'job_assignments', 'job_runs', 'job_events'])
       WITH ORDINALITY AS d (held, place)
 WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = held::regclass)
 ORDER BY place
\gexec

-- On the coordinator stay tables whose triggers look into other tables, as who may read a document is derived from the
-- grants of its collection, and what belongs to them: knowledge_collections, knowledge_collection_grants,
-- shared_knowledge, knowledge_observations, knowledge_observation_evidence, knowledge_documents, knowledge_chunks; and
-- tables of no profile. They can be joined with the others.

-- What was copied to the nodes is still in the coordinator's files.
SELECT format('SELECT truncate_local_data_after_distributing_table(%L)', logicalrelid)
  FROM pg_dist_partition JOIN pg_class c ON c.oid = logicalrelid
 WHERE c.relnamespace = current_schema()::regnamespace AND pg_relation_size(c.oid) > 0
\gexec

-- Functions that statements on the nodes call.
SELECT format('SELECT create_distributed_function(%L)', p.oid::regprocedure)
  FROM pg_proc p
 WHERE (p.pronamespace = current_schema()::regnamespace
        AND p.proname IN ('asking_agent', 'is_alive', 'any_word', 'web_words', 'searched')
        OR p.pronamespace = 'mirror'::regnamespace AND p.proname = 'lossless')
   AND NOT EXISTS (SELECT FROM pg_dist_object o WHERE o.classid = 'pg_proc'::regclass AND o.objid = p.oid)
\gexec

-- On a node this asks the node's own copy of `agents`, and nothing else, which Citus cannot know.
ALTER FUNCTION asking_agent() SET citus.allow_nested_distributed_execution = on;

-- As in profiles/memustore/0007_search.sql, but for the last join, which Citus does not take in that form.
CREATE OR REPLACE FUNCTION search_memories(
    p_query text, p_embedding vector DEFAULT NULL, p_limit int DEFAULT 10, p_scope text DEFAULT 'all',
    p_types text[] DEFAULT NULL, p_significance text[] DEFAULT NULL, p_syntax text DEFAULT 'web')
RETURNS TABLE (agent_id text, id text, summary text, score double precision,
               rank real, rank_place bigint, distance double precision, distance_place bigint)
LANGUAGE plpgsql STABLE SECURITY INVOKER ROWS 10 SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        WITH c AS MATERIALIZED (
            SELECT * FROM memory_candidates(
                p_query, p_embedding, p_limit, p_scope, p_types, p_significance, p_syntax,
                to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')))
        SELECT i.agent_id, i.id, i.summary, c.score, c.rank, c.rank_place, c.distance, c.distance_place
          FROM c JOIN memory_items i ON i.agent_id = c.agent_id AND i.id = c.id
         ORDER BY c.score DESC, c.distance_place, c.rank_place, c.agent_id, c.id
         LIMIT greatest(p_limit, 0);
END
$$;

-- So that what a program sets for its transaction is set on the nodes, too.
DO $$
BEGIN
    ALTER ROLE argent_app SET citus.propagate_set_commands = 'local';
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE WARNING 'programs see no rows until an administrator runs: %',
            'ALTER ROLE argent_app SET citus.propagate_set_commands = ''local''';
END
$$;
