-- How many reads were run on SQLite and on Postgres at one position, and compared: that there are no differences says
-- something only beside this number. What differed is in mirror.read_differences.

CREATE TABLE mirror.shadow_reads (
    source_id bigint PRIMARY KEY REFERENCES mirror.sources ON DELETE CASCADE,
    compared  bigint NOT NULL,
    different bigint NOT NULL,
    since     timestamptz NOT NULL DEFAULT now(),
    until     timestamptz NOT NULL DEFAULT now()
);

-- For applications, which may not write to this schema: add to the numbers of a source of the agent that is set.
-- Returns the number compared so far; NULL where the source is not the agent's.
CREATE FUNCTION mirror.count_shadow_reads(p_source_id bigint, p_compared bigint, p_different bigint) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO mirror.shadow_reads AS s (source_id, compared, different)
    SELECT p.source_id, greatest(p_compared, 0), greatest(p_different, 0)
      FROM mirror.position p
     WHERE p.source_id = p_source_id
    ON CONFLICT (source_id) DO UPDATE
       SET compared = s.compared + excluded.compared, different = s.different + excluded.different, until = now()
    RETURNING s.compared
$$;
REVOKE EXECUTE ON FUNCTION mirror.count_shadow_reads(bigint, bigint, bigint) FROM PUBLIC;
