-- Search in the documents of collections, as search_memories does in memories.

SELECT set_config('search_path', current_setting('search_path') || ', pg_temp', true);

CREATE FUNCTION knowledge_candidates(
    p_query text, p_embedding vector, p_limit int, p_collections text[], p_syntax text,
    OUT agent_id text, OUT document_id text, OUT part int, OUT score double precision,
    OUT rank real, OUT rank_place bigint, OUT distance double precision, OUT distance_place bigint)
RETURNS SETOF record LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 10
SET search_path FROM CURRENT SET jit = off AS $$
#variable_conflict use_column
DECLARE
    asking CONSTANT text := (asking_agent()).agent_id;
    given  CONSTANT text := nullif(btrim(p_query), '');
    wanted CONSTANT int := least(p_limit, 100000) + 3 * least(p_limit, 50);
    small  CONSTANT int := 2000;
    -- $1 the asking agent, $2 embedding, $3 how many, $4 collections, $5 words.
    listed CONSTANT text :=
        'SELECT array_agg(m.agent_id ORDER BY m.n), array_agg(m.document_id ORDER BY m.n),'
        '       array_agg(m.part ORDER BY m.n), array_agg(m.value ORDER BY m.n)'
        '  FROM (SELECT l.*, row_number() OVER () AS n'
        '          FROM (SELECT c.agent_id, c.document_id, c.part, %s AS value FROM knowledge_chunks c WHERE %s'
        '                 ORDER BY %s LIMIT $3) AS l) AS m';
    visible text := '(c.agent_id = $1 OR c.collection_visibility IN (''family'', ''public'', ''shared'')'
                    ' OR $1 = ANY (c.readers))';
    sized          text;
    ef_search      text;
    sorting        text;
    distance       text;
    words          tsquery;
    there          bigint;
    near_agents    text[];
    near_documents text[];
    near_parts int[];
    near           double precision[];
    word_agents    text[];
    word_documents text[];
    word_parts int[];
    ranks          real[];
BEGIN
    IF coalesce(p_syntax NOT IN ('any', 'web'), true) THEN
        RAISE EXCEPTION 'search_knowledge: no syntax is "%"', p_syntax
            USING ERRCODE = '22023', HINT = 'A syntax is any or web.';
    END IF;
    IF asking IS NULL OR coalesce(p_limit, 0) <= 0 THEN
        RETURN;
    END IF;
    IF p_collections IS NOT NULL THEN
        visible := visible || ' AND c.collection_id = ANY ($4)';
    END IF;
    IF p_embedding IS NOT NULL THEN
        sized := format('%s AND vector_dims(c.embedding) = %s', visible, vector_dims(p_embedding));
        EXECUTE format('SELECT count(*) FROM (SELECT FROM knowledge_chunks c WHERE %s LIMIT $3) AS m', visible)
            INTO there USING asking, p_embedding, small + 1, p_collections;
        IF there > small THEN
            distance := format('c.embedding::vector(%1$s) <=> $2::vector(%1$s)', vector_dims(p_embedding));
            ef_search := current_setting('hnsw.ef_search', true);
            sorting := current_setting('enable_sort');
            PERFORM set_config('enable_sort', 'off', true);
            PERFORM set_config('hnsw.ef_search', least(greatest(4 * wanted, 100), 1000)::text, true);
            EXECUTE format(listed, distance, sized, distance) INTO near_agents, near_documents, near_parts, near
                USING asking, p_embedding, wanted, p_collections;
            PERFORM set_config('hnsw.ef_search', coalesce(ef_search, '40'), true);
            PERFORM set_config('enable_sort', sorting, true);
        END IF;
        IF coalesce(cardinality(near), 0) < wanted THEN
            EXECUTE format(listed, 'c.embedding <=> $2', sized, '4, 1, 2, 3')
                INTO near_agents, near_documents, near_parts, near
                USING asking, p_embedding, wanted, p_collections;
        END IF;
    END IF;
    IF given IS NOT NULL THEN
        words := CASE p_syntax WHEN 'any' THEN any_word(given) ELSE web_words(given) END;
        EXECUTE format(listed, 'ts_rank_cd(c.search, $5)', visible || ' AND c.search @@ $5', '4 DESC, 1, 2, 3')
            INTO word_agents, word_documents, word_parts, ranks
            USING asking, p_embedding, wanted, p_collections, words;
    END IF;
    RETURN QUERY
        SELECT agent_id, document_id, part,
               coalesce(1.0 / (60 + v.place), 0)::float8 + coalesce(1.0 / (60 + w.place), 0)::float8 AS score,
               w.rank, w.place, v.distance, v.place
          FROM unnest(near_agents, near_documents, near_parts, near) WITH ORDINALITY
                   AS v (agent_id, document_id, part, distance, place)
          FULL JOIN unnest(word_agents, word_documents, word_parts, ranks) WITH ORDINALITY
                   AS w (agent_id, document_id, part, rank, place) USING (agent_id, document_id, part)
         ORDER BY score DESC, v.place, w.place, agent_id, document_id, part LIMIT p_limit;
END
$$;

CREATE FUNCTION search_knowledge(
    p_query text, p_embedding vector DEFAULT NULL, p_limit int DEFAULT 10, p_collections text[] DEFAULT NULL,
    p_syntax text DEFAULT 'web')
RETURNS TABLE (agent_id text, collection_id text, document_id text, part int, title text, content text,
               score double precision, rank real, rank_place bigint, distance double precision, distance_place bigint)
LANGUAGE plpgsql STABLE SECURITY INVOKER ROWS 10 SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT i.agent_id, i.collection_id, i.document_id, i.part, i.title, i.content,
               c.score, c.rank, c.rank_place, c.distance, c.distance_place
          FROM knowledge_candidates(p_query, p_embedding, p_limit, p_collections, p_syntax) AS c
         CROSS JOIN LATERAL (
               SELECT k.agent_id, k.collection_id, k.document_id, k.part, d.title, k.content
                 FROM knowledge_chunks k
                 JOIN knowledge_documents d ON d.agent_id = k.agent_id AND d.id = k.document_id
                WHERE k.agent_id = c.agent_id AND k.document_id = c.document_id AND k.part = c.part
               OFFSET 0) AS i
         ORDER BY c.score DESC, c.distance_place, c.rank_place, i.agent_id, i.document_id, i.part;
END
$$;

REVOKE EXECUTE ON FUNCTION knowledge_candidates(text, vector, int, text[], text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION knowledge_candidates(text, vector, int, text[], text) TO argent_app;
