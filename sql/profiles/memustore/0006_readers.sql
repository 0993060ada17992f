-- Who may read a row is beside the row: its owner, its visibility, and the agents that may read it. A policy looks at
-- these columns, at the setting app.agent_id, and asks one function once a statement; it contains no subquery.
--
--   private         the owner
--   team            the owner and the agents in `readers`
--   family, public  every agent there is in this schema
--   shared          the older name of family
--
-- In memory_items, `extra` decides where it says so, and so what SQLite says: {"visibility": "team", "readers": ["bob"]}.

-- The agent that asks and the family that it is in, if it is an agent: not set, empty or made up, they are NULL. (Two
-- columns also because Postgres calls a function of one while it plans, to guess how many rows will be found: at a time
-- when a statement that sets the agent itself has not done so. It would guess none, and read all rows of an agent where
-- it wanted five.)
CREATE FUNCTION asking_agent(OUT agent_id text, OUT family text) LANGUAGE sql STABLE PARALLEL SAFE COST 1000
BEGIN ATOMIC
    SELECT a.agent_id, 'all' FROM agents a WHERE a.agent_id = current_setting('app.agent_id', true);
END;
REVOKE EXECUTE ON FUNCTION asking_agent() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION asking_agent() TO argent_app;

-- Functions that run as the tables' owner: temporary tables of whoever calls them come last, not first.
SELECT set_config('search_path', current_setting('search_path') || ', pg_temp', true);

-- ---------------------------------------------------------------------------------- columns

DO $$
DECLARE
    held text;
BEGIN
    FOREACH held IN ARRAY ARRAY[
        'resources', 'memory_items', 'memory_categories', 'entities', 'reflections', 'lessons', 'tasks', 'teams',
        'knowledge_collections', 'shared_knowledge']
    LOOP
        EXECUTE format(
            'ALTER TABLE %1$I ADD COLUMN readers text[] COLLATE "C",'
            ' DROP CONSTRAINT %2$I, ADD CONSTRAINT %2$I'
            ' CHECK (visibility IN (''private'', ''team'', ''family'', ''public'', ''shared''))',
            held, held || '_visibility_check');
    END LOOP;
END
$$;

-- The agents of one schema are one family. It is a column, and not only known, for the sake of the policies below.
DO $$
DECLARE
    held text;
BEGIN
    FOREACH held IN ARRAY ARRAY[
        'resources', 'memory_items', 'memory_categories', 'entities', 'reflections', 'lessons', 'tasks', 'teams']
    LOOP
        EXECUTE format('ALTER TABLE %I ADD COLUMN family text NOT NULL DEFAULT ''all'' CHECK (family = ''all'')', held);
    END LOOP;
END
$$;

-- What a collection's visibility opens is in it, too.
ALTER TABLE shared_knowledge ADD COLUMN collection_visibility text NOT NULL DEFAULT 'private';

-- ---------------------------------------------------------------------------------- memory_items.extra

CREATE FUNCTION take_visibility() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- What is no visibility is private: a mirrored row is never refused for it.
    NEW.visibility := CASE WHEN NEW.extra ->> 'visibility' IN ('team', 'family', 'public', 'shared')
                           THEN NEW.extra ->> 'visibility' ELSE 'private' END;
    NEW.readers := CASE WHEN jsonb_typeof(NEW.extra -> 'readers') = 'array'
                        THEN ARRAY(SELECT jsonb_array_elements_text(NEW.extra -> 'readers')) END;
    RETURN NEW;
END
$$;
CREATE TRIGGER visibility_of_new BEFORE INSERT ON memory_items
    FOR EACH ROW WHEN (NEW.extra ? 'visibility') EXECUTE FUNCTION take_visibility();
-- Where it is taken out of `extra`, the row is private again. What was never in it is as it was set in Postgres.
CREATE TRIGGER visibility_of_changed BEFORE UPDATE ON memory_items
    FOR EACH ROW WHEN (NEW.extra ? 'visibility' OR OLD.extra ? 'visibility') EXECUTE FUNCTION take_visibility();

UPDATE memory_items SET extra = extra WHERE extra ? 'visibility';

-- ---------------------------------------------------------------------------------- grants

-- The readers of a collection are its grants, those of its entries are the collection's. Whatever is written into
-- these columns, it is set so again; as the tables' owner, because the writer may not see what it is derived from.
CREATE FUNCTION take_grants() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    NEW.readers := (SELECT array_agg(g.grantee_agent_id ORDER BY g.grantee_agent_id)
                      FROM knowledge_collection_grants g
                     WHERE g.agent_id = NEW.agent_id AND g.collection_id = NEW.id);
    RETURN NEW;
END
$$;
CREATE TRIGGER readers_of_collection BEFORE INSERT OR UPDATE ON knowledge_collections
    FOR EACH ROW EXECUTE FUNCTION take_grants();

CREATE FUNCTION take_collection() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    -- Locked, so that a grant that is taken back at this moment is waited for and seen.
    SELECT c.readers, c.visibility INTO NEW.readers, NEW.collection_visibility
      FROM knowledge_collections c WHERE c.agent_id = NEW.agent_id AND c.id = NEW.collection_id FOR SHARE;
    NEW.collection_visibility := coalesce(NEW.collection_visibility, 'private');
    RETURN NEW;
END
$$;
CREATE TRIGGER readers_of_entry BEFORE INSERT OR UPDATE ON shared_knowledge
    FOR EACH ROW EXECUTE FUNCTION take_collection();

CREATE FUNCTION pass_collection_on() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE shared_knowledge SET collection_id = collection_id
         WHERE agent_id = OLD.agent_id AND collection_id = OLD.id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE shared_knowledge SET collection_id = collection_id
         WHERE agent_id = NEW.agent_id AND collection_id = NEW.id
           AND (readers, collection_visibility) IS DISTINCT FROM (NEW.readers, NEW.visibility);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER entries_of_collection AFTER INSERT OR DELETE OR UPDATE ON knowledge_collections
    FOR EACH ROW EXECUTE FUNCTION pass_collection_on();

CREATE FUNCTION pass_grant_on() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE knowledge_collections SET id = id WHERE agent_id = OLD.agent_id AND id = OLD.collection_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE knowledge_collections SET id = id WHERE agent_id = NEW.agent_id AND id = NEW.collection_id;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER collection_of_grant AFTER INSERT OR DELETE OR UPDATE ON knowledge_collection_grants
    FOR EACH ROW EXECUTE FUNCTION pass_grant_on();

-- Trigger functions need no right to run. With it, anybody could put one on a table of its own, and look through it.
REVOKE EXECUTE ON FUNCTION take_visibility(), take_grants(), take_collection(), pass_collection_on(), pass_grant_on()
    FROM PUBLIC;

UPDATE knowledge_collections SET id = id;
UPDATE shared_knowledge SET id = id;

-- ---------------------------------------------------------------------------------- policies

-- An agent writes its own rows.
DO $$
DECLARE
    held text;
    own  text := '(agent_id = (asking_agent()).agent_id)';
BEGIN
    FOREACH held IN ARRAY ARRAY[
        'category_items', 'item_entities', 'model_feedback', 'live_memory_candidates', 'memory_promotion_events',
        'personal_skill_candidates', 'personal_skill_reviews', 'team_members', 'knowledge_collection_grants',
        'service_keys', 'auth_credentials', 'sessions', 'observations']
    LOOP
        EXECUTE format('DROP POLICY own_rows ON %I', held);
        EXECUTE format('CREATE POLICY own_rows ON %I FOR ALL TO argent_app USING %s WITH CHECK %s', held, own, own);
    END LOOP;
    FOREACH held IN ARRAY ARRAY[
        'resources', 'memory_items', 'memory_categories', 'entities', 'reflections', 'lessons', 'tasks', 'teams',
        'knowledge_collections', 'shared_knowledge']
    LOOP
        EXECUTE format('DROP POLICY own_rows ON %I', held);
        EXECUTE format('DROP POLICY shared_rows ON %I', held);
        EXECUTE format('CREATE POLICY own_new ON %I FOR INSERT TO argent_app WITH CHECK %s', held, own);
        EXECUTE format('CREATE POLICY own_rows ON %I FOR UPDATE TO argent_app USING %s WITH CHECK %s',
                       held, own, own);
        EXECUTE format('CREATE POLICY own_deleted ON %I FOR DELETE TO argent_app USING %s', held, own);
    END LOOP;
END
$$;

DROP POLICY granted_rows ON knowledge_collection_grants;
CREATE POLICY granted_rows ON knowledge_collection_grants FOR SELECT TO argent_app
    USING (grantee_agent_id = (asking_agent()).agent_id);

-- What an agent reads. The last condition decides, by two columns of the row. The first two say that the asking agent
-- is one: of two things that a column equals, one of them constant, Postgres makes one comparison that it asks once a
-- statement, in place of a look-up a row. The third follows from the last, and is for the planner: by it the agent's
-- rows, and those that others may read, are found in indexes. Where the agent is not set yet while a plan is made, the
-- bounds are those of all agents, so that the plan is one for many rows.
DO $$
DECLARE
    held text;
BEGIN
    FOREACH held IN ARRAY ARRAY[
        'resources', 'memory_items', 'memory_categories', 'entities', 'reflections', 'lessons', 'tasks', 'teams']
    LOOP
        EXECUTE format('CREATE INDEX %I ON %I (agent_id) WHERE visibility <> ''private''', held || '_readable', held);
        EXECUTE format($policy$
            CREATE POLICY readable ON %I FOR SELECT TO argent_app USING (
                family = 'all' AND family = (asking_agent()).family
                AND (agent_id >= coalesce(current_setting('app.agent_id', true), '')
                     AND agent_id <= coalesce(nullif(current_setting('app.agent_id', true), ''), '~')
                     OR visibility <> 'private')
                AND CASE WHEN agent_id = nullif(current_setting('app.agent_id', true), '') THEN true
                         WHEN visibility IN ('family', 'public', 'shared') THEN true
                         WHEN visibility = 'team' THEN current_setting('app.agent_id', true) = ANY (readers)
                         ELSE false END)
            $policy$, held);
    END LOOP;
END
$$;
DROP INDEX memory_items_shared;

-- A collection's readers are its grants, whatever its visibility.
CREATE INDEX knowledge_collections_readable ON knowledge_collections (agent_id)
    WHERE visibility <> 'private' OR readers IS NOT NULL;
DROP POLICY granted_rows ON knowledge_collections;
CREATE POLICY readable ON knowledge_collections FOR SELECT TO argent_app USING (
    (agent_id >= coalesce(current_setting('app.agent_id', true), '')
     AND agent_id <= coalesce(nullif(current_setting('app.agent_id', true), ''), '~')
     OR visibility <> 'private' OR readers IS NOT NULL)
    AND CASE WHEN agent_id = nullif(current_setting('app.agent_id', true), '') THEN true
             WHEN visibility IN ('family', 'public', 'shared')
                  OR current_setting('app.agent_id', true) = ANY (readers)
             THEN (asking_agent()).agent_id IS NOT NULL
             ELSE false END);

CREATE INDEX shared_knowledge_readable ON shared_knowledge (agent_id)
    WHERE visibility <> 'private' OR collection_visibility <> 'private' OR readers IS NOT NULL;
DROP POLICY granted_rows ON shared_knowledge;
CREATE POLICY readable ON shared_knowledge FOR SELECT TO argent_app USING (
    (agent_id >= coalesce(current_setting('app.agent_id', true), '')
     AND agent_id <= coalesce(nullif(current_setting('app.agent_id', true), ''), '~')
     OR visibility <> 'private' OR collection_visibility <> 'private' OR readers IS NOT NULL)
    AND CASE WHEN agent_id = nullif(current_setting('app.agent_id', true), '') THEN true
             WHEN visibility IN ('family', 'public', 'shared')
                  OR collection_visibility IN ('family', 'public', 'shared')
                  OR current_setting('app.agent_id', true) = ANY (readers)
             THEN (asking_agent()).agent_id IS NOT NULL
             ELSE false END);
