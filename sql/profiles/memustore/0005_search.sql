-- Hybrid search: memories that are near in meaning (HNSW, cosine) and memories that have the words (GIN), merged by
-- reciprocal rank. It asks as whoever calls it, so row security decides what is found.

CREATE FUNCTION search_memories(p_query text, p_embedding vector, p_limit int DEFAULT 10)
RETURNS TABLE (agent_id text, id text, summary text, score double precision)
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path FROM CURRENT AS $$
BEGIN
    -- EXECUTE, because an index serves one dimension, and the planner has to see which.
    RETURN QUERY EXECUTE format(
        'WITH near AS (
             SELECT m.agent_id, m.id, row_number() OVER (ORDER BY m.distance) AS place
               FROM (SELECT i.agent_id, i.id, i.embedding::vector(%1$s) <=> $2::vector(%1$s) AS distance
                       FROM memory_items i WHERE vector_dims(i.embedding) = %1$s
                      ORDER BY i.embedding::vector(%1$s) <=> $2::vector(%1$s) LIMIT 4 * $3) AS m
         ), worded AS (
             SELECT m.agent_id, m.id, row_number() OVER (ORDER BY m.rank DESC, m.agent_id, m.id) AS place
               FROM (SELECT i.agent_id, i.id, ts_rank_cd(i.search, q) AS rank
                       FROM memory_items i, websearch_to_tsquery(''english'', $1) AS q WHERE i.search @@ q
                      ORDER BY rank DESC, i.agent_id, i.id LIMIT 4 * $3) AS m
         )
         SELECT i.agent_id, i.id, i.summary,
                coalesce(1.0 / (60 + near.place), 0)::float8 + coalesce(1.0 / (60 + worded.place), 0)::float8 AS score
           FROM near FULL JOIN worded USING (agent_id, id) JOIN memory_items i USING (agent_id, id)
          ORDER BY score DESC, i.agent_id, i.id LIMIT $3', vector_dims(p_embedding))
    USING p_query, p_embedding, p_limit;
END
$$;
