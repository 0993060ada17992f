-- Search of memories by words, by nearness, or by both, merged by reciprocal rank (k = 60).
--
-- It returns as many as it was asked for, whatever the size of the agent: an HNSW index is read by nearness, and where
-- nearly all that is near belongs to others, too little of it would be the agent's. So the rows of a small agent are
-- compared one by one, and so are those of a larger one where the index gave too few.
--
-- search_memories asks as whoever calls it, so row security decides what it returns. Candidates come from a function of
-- the owner, which looks at the same columns as row security: for anybody else, Postgres compares words with every row
-- that may be read, instead of using the index (@@ is not leakproof).

SELECT set_config('search_path', current_setting('search_path') || ', pg_temp', true);

-- Words are what the full-text index of the SQLite file takes for words (FTS5, porter unicode61), so that both stores
-- find the same: letters and digits, without accents, and everything else is between words. No word is left out, not
-- even the most frequent ones, so that who looks for "or" finds it and no parts of words.

-- A text without the accents of Latin letters. Only a text that is not plain ASCII is looked through.
CREATE FUNCTION without_accents(p_text text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN octet_length(p_text) = length(p_text) THEN p_text
            ELSE normalize(regexp_replace(normalize(p_text, NFD), U&'([A-Za-z])[\0300-\036F]+', '\1', 'g'), NFC) END;

-- A text with a space for each sign of ASCII and soft hyphen, and without accents. Else "x.com", "a/b" and "a@b.c" were one word.
CREATE FUNCTION fold_text(p_text text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN translate(without_accents(p_text), $signs$!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~$signs$ || U&'\00AD', repeat(' ', 33));

CREATE TEXT SEARCH DICTIONARY every_word (TEMPLATE = pg_catalog.snowball, language = english);
CREATE TEXT SEARCH CONFIGURATION every_word (COPY = pg_catalog.english);
ALTER TEXT SEARCH CONFIGURATION every_word ALTER MAPPING REPLACE pg_catalog.english_stem WITH every_word;

-- What is in a column "search". Postgres takes no tsvector over a megabyte.
CREATE FUNCTION searched(p_text text) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN to_tsvector('every_word'::regconfig, fold_text(left(p_text, 150000)));

-- The words of a text, any of which will do, as the store's own keyword search has it. Never an error, whatever the
-- text. The most frequent words count only where there are no others: ts_rank does not weigh a word by how rare it is.
CREATE FUNCTION any_word(p_text text) RETURNS tsquery LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN numnode(plainto_tsquery('pg_catalog.english'::regconfig, fold_text(left(p_text, 200000)))) > 0
            THEN replace(plainto_tsquery('pg_catalog.english'::regconfig, fold_text(left(p_text, 200000)))::text,
                         ' & ', ' | ')::tsquery
            ELSE replace(plainto_tsquery('every_word'::regconfig, fold_text(left(p_text, 200000)))::text,
                         ' & ', ' | ')::tsquery END;

-- A text as one writes it for a search engine: all of the words, but the most frequent; "or", -without, "a phrase".
-- Signs between letters are between words here, too.
CREATE FUNCTION web_words(p_text text) RETURNS tsquery LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN websearch_to_tsquery('pg_catalog.english'::regconfig, regexp_replace(
           without_accents(left(p_text, 200000)), '([[:alnum:]])[^[:alnum:][:space:]"]+(?=[[:alnum:]])', '\1 ', 'g'));

-- The columns of before had the words of "english". This writes the tables, and all of their indexes, once more.
ALTER TABLE memory_items DROP COLUMN search, ADD COLUMN search tsvector GENERATED ALWAYS AS (
    searched(summary || ' ' || coalesce(reflection, '') || ' ' || coalesce(lesson, ''))) STORED;
ALTER TABLE memory_categories DROP COLUMN search, ADD COLUMN search tsvector GENERATED ALWAYS AS (
    searched(name || ' ' || coalesce(description, '') || ' ' || coalesce(summary, ''))) STORED;
ALTER TABLE entities DROP COLUMN search, ADD COLUMN search tsvector GENERATED ALWAYS AS (
    searched(name || ' ' || coalesce(relationship, '') || ' ' || coalesce(emotional_texture, '') || ' '
             || coalesce(profile_summary, ''))) STORED;
ALTER TABLE reflections DROP COLUMN search, ADD COLUMN search tsvector GENERATED ALWAYS AS (searched(content)) STORED;
ALTER TABLE lessons DROP COLUMN search, ADD COLUMN search tsvector GENERATED ALWAYS AS (
    searched(context || ' ' || action || ' ' || outcome || ' ' || lesson || ' '
             || coalesce(correction, '') || ' ' || tags::text)) STORED;
ALTER TABLE tasks DROP COLUMN search, ADD COLUMN search tsvector GENERATED ALWAYS AS (
    searched(title || ' ' || coalesce(description, '') || ' ' || coalesce(tags::text, ''))) STORED;
ALTER TABLE shared_knowledge DROP COLUMN search, ADD COLUMN search tsvector GENERATED ALWAYS AS (
    searched(coalesce(title, '') || ' ' || content)) STORED;
CREATE INDEX memory_items_search ON memory_items USING gin (search);
CREATE INDEX memory_categories_search ON memory_categories USING gin (search);
CREATE INDEX entities_search ON entities USING gin (search);
CREATE INDEX reflections_search ON reflections USING gin (search);
CREATE INDEX lessons_search ON lessons USING gin (search);
CREATE INDEX tasks_search ON tasks USING gin (search);
CREATE INDEX shared_knowledge_search ON shared_knowledge USING gin (search);

-- Whether a memory has not outlived its time at p_now: extra.expiresAt, UTC in ISO form, as text, because it may be
-- anything; what is no text hides nothing.
CREATE FUNCTION is_alive(p_extra jsonb, p_now text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(p_extra -> 'expiresAt') = 'string'
            THEN (p_extra ->> 'expiresAt') COLLATE "C" > p_now ELSE true END;

-- Memories that the asking agent may read, with their places in both lists, in no order. Of each list up to four times
-- p_limit, but no more than 150 beyond it. p_scope: own, others, all.
-- p_syntax: any (any_word) or web (web_words). p_types, p_significance: NULL for all. p_now: for is_alive.
CREATE FUNCTION memory_candidates(
    p_query text, p_embedding vector, p_limit int, p_scope text, p_types text[], p_significance text[], p_syntax text,
    p_now text, OUT agent_id text, OUT id text, OUT score double precision, OUT rank real, OUT rank_place bigint,
    OUT distance double precision, OUT distance_place bigint)
RETURNS SETOF record LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 10
SET search_path FROM CURRENT SET jit = off AS $$
#variable_conflict use_column
DECLARE
    asking CONSTANT text := (asking_agent()).agent_id;
    given  CONSTANT text := nullif(btrim(p_query), '');
    wanted CONSTANT int := least(p_limit, 100000) + 3 * least(p_limit, 50);  -- of each kind
    small  CONSTANT int := 2000;  -- rows that are compared one by one in the time in which an index is read
    -- $1 the asking agent, $2 embedding, $3 how many, $4 types, $5 significance, $6 words, $7 the query's text, $8 now.
    listed CONSTANT text :=
        'SELECT array_agg(m.agent_id ORDER BY m.n), array_agg(m.id ORDER BY m.n), array_agg(m.value ORDER BY m.n)'
        '  FROM (SELECT l.*, row_number() OVER () AS n'
        '          FROM (SELECT i.agent_id, i.id, %s AS value FROM memory_items i WHERE %s AND is_alive(i.extra, $8)'
        '                 ORDER BY %s LIMIT $3) AS l) AS m';
    counted CONSTANT text := 'SELECT count(*) FROM (SELECT FROM memory_items i WHERE %s LIMIT $3) AS m';
    visible text := CASE p_scope
        WHEN 'own' THEN 'i.agent_id = $1'
        WHEN 'others' THEN 'i.agent_id <> $1 AND (i.visibility IN (''family'', ''public'', ''shared'')'
                           ' OR i.visibility = ''team'' AND $1 = ANY (i.readers))'
        WHEN 'all' THEN '(i.agent_id = $1 OR i.visibility IN (''family'', ''public'', ''shared'')'
                        ' OR i.visibility = ''team'' AND $1 = ANY (i.readers))' END;
    sized       text;
    ef_search   text;
    sorting     text;
    distance    text;
    compared    boolean;
    words       tsquery;
    most        bigint;
    there       bigint;
    near_agents text[];
    near_ids    text[];
    near        double precision[];
    word_agents text[];
    word_ids    text[];
    ranks       real[];
BEGIN
    IF visible IS NULL OR coalesce(p_syntax NOT IN ('any', 'web'), true) THEN
        RAISE EXCEPTION 'search_memories: no scope is "%", or no syntax is "%"', p_scope, p_syntax
            USING ERRCODE = '22023', HINT = 'A scope is own, others or all; a syntax is any or web.';
    END IF;
    IF asking IS NULL OR coalesce(p_limit, 0) <= 0 THEN
        RETURN;
    END IF;
    IF p_types IS NOT NULL THEN
        visible := visible || ' AND i.memory_type = ANY ($4)';
    END IF;
    IF p_significance IS NOT NULL THEN
        visible := visible || ' AND i.significance = ANY ($5)';
    END IF;

    -- EXECUTE, because it plans anew: an index of vectors is of one dimension, and the planner has to see which it
    -- needs; and of words and agents, how many rows they have.
    IF p_embedding IS NOT NULL THEN
        sized := format('%s AND vector_dims(i.embedding) = %s', visible, vector_dims(p_embedding));
        EXECUTE format(counted, visible) INTO there USING asking, p_embedding, small + 1, p_types, p_significance;
        compared := there <= small;
        IF NOT compared THEN
            distance := format('i.embedding::vector(%1$s) <=> $2::vector(%1$s)', vector_dims(p_embedding));
            -- Set back below: a SET of the function would need more rights than its owner may have. That the index is
            -- read was decided above; the planner, with statistics of before the table grew, would sort all rows.
            ef_search := current_setting('hnsw.ef_search', true);
            sorting := current_setting('enable_sort');
            PERFORM set_config('enable_sort', 'off', true);
            PERFORM set_config('hnsw.ef_search', least(greatest(2 * wanted, 80), 1000)::text, true);
            EXECUTE format(listed, distance, sized, distance) INTO near_agents, near_ids, near
                USING asking, p_embedding, wanted, p_types, p_significance, words, given, p_now;
            IF coalesce(cardinality(near_ids), 0) < wanted THEN
                -- Most of what is near may not be returned. How much of the index has to be read rises with its size
                -- and falls with the number of rows that may; to compare all of these costs by their number.
                SELECT 5 * sqrt(wanted * greatest(c.reltuples, 1)) INTO most
                  FROM pg_catalog.pg_class c WHERE c.oid = 'memory_items'::regclass;
                EXECUTE format(counted, visible) INTO there USING asking, p_embedding, most + 1, p_types, p_significance;
                compared := there <= most;
                IF NOT compared THEN
                    PERFORM set_config('hnsw.ef_search', '1000', true);
                    EXECUTE format(listed, distance, sized, distance) INTO near_agents, near_ids, near
                        USING asking, p_embedding, wanted, p_types, p_significance, words, given, p_now;
                    compared := coalesce(cardinality(near_ids), 0) < p_limit;
                END IF;
            END IF;
            PERFORM set_config('hnsw.ef_search', coalesce(ef_search, '40'), true);
            PERFORM set_config('enable_sort', sorting, true);
        END IF;
        IF compared THEN
            -- Without the cast, there is no index of it.
            EXECUTE format(listed, 'i.embedding <=> $2', sized, '3, 1, 2') INTO near_agents, near_ids, near
                USING asking, p_embedding, wanted, p_types, p_significance, words, given, p_now;
        END IF;
    END IF;

    IF given IS NOT NULL THEN
        words := CASE p_syntax WHEN 'any' THEN any_word(given) ELSE web_words(given) END;
        IF numnode(words) > 0 THEN
            -- 1: a long text counts less, as it does for the BM25 of the store's own search.
            EXECUTE format(listed, 'ts_rank(i.search, $6, 1)', visible || ' AND i.search @@ $6', '3 DESC, 1, 2')
                INTO word_agents, word_ids, ranks
                USING asking, p_embedding, wanted, p_types, p_significance, words, given, p_now;
        ELSIF p_syntax = 'any' THEN
            -- No words, but "++": the store then looks for the text as it is, the newest first.
            EXECUTE format(listed, '0::real', visible || ' AND strpos(lower(i.summary), lower($7)) > 0',
                           'i.created_at DESC, 1, 2')
                INTO word_agents, word_ids, ranks
                USING asking, p_embedding, wanted, p_types, p_significance, words, given, p_now;
        END IF;
    END IF;

    RETURN QUERY
        SELECT agent_id, id,
               coalesce(1.0 / (60 + v.place), 0)::float8 + coalesce(1.0 / (60 + w.place), 0)::float8 AS score,
               w.rank, w.place, v.distance, v.place
          FROM unnest(near_agents, near_ids, near) WITH ORDINALITY AS v (agent_id, id, distance, place)
          FULL JOIN unnest(word_agents, word_ids, ranks) WITH ORDINALITY AS w (agent_id, id, rank, place)
         USING (agent_id, id);
END
$$;

DROP FUNCTION search_memories(text, vector, int);
CREATE FUNCTION search_memories(
    p_query text, p_embedding vector DEFAULT NULL, p_limit int DEFAULT 10, p_scope text DEFAULT 'all',
    p_types text[] DEFAULT NULL, p_significance text[] DEFAULT NULL, p_syntax text DEFAULT 'web')
RETURNS TABLE (agent_id text, id text, summary text, score double precision,
               rank real, rank_place bigint, distance double precision, distance_place bigint)
LANGUAGE plpgsql STABLE SECURITY INVOKER ROWS 10 SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT i.agent_id, i.id, i.summary, c.score, c.rank, c.rank_place, c.distance, c.distance_place
          FROM (SELECT * FROM memory_candidates(
                    p_query, p_embedding, p_limit, p_scope, p_types, p_significance, p_syntax,
                    to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
                 ORDER BY score DESC, distance_place, rank_place, agent_id, id) AS c
         CROSS JOIN LATERAL (  -- in this order, whatever the planner thinks of who asks
               SELECT m.agent_id, m.id, m.summary FROM memory_items m
                WHERE m.agent_id = c.agent_id AND m.id = c.id OFFSET 0) AS i
         ORDER BY c.score DESC, c.distance_place, c.rank_place, c.agent_id, c.id
         LIMIT greatest(p_limit, 0);
END
$$;

REVOKE EXECUTE ON FUNCTION memory_candidates(text, vector, int, text, text[], text[], text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION memory_candidates(text, vector, int, text, text[], text[], text, text) TO argent_app;
