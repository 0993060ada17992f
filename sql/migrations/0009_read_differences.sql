-- Where a read gave one answer from SQLite and another from Postgres, at the same position: what shadow reads find. Kept
-- once for each method, arguments and kind of difference, with how often it was seen.

CREATE TABLE mirror.read_differences (
    difference_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id     bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    method        text   NOT NULL,
    arguments     text   NOT NULL,  -- a digest
    kind          text   NOT NULL,
    generation    bigint NOT NULL,  -- the position at which it was last seen
    frame         bigint NOT NULL,
    sqlite        text,             -- the two answers when it was first seen, as far as they are kept
    postgres      text,
    first_seen    timestamptz NOT NULL DEFAULT now(),
    last_seen     timestamptz NOT NULL DEFAULT now(),
    count         bigint NOT NULL DEFAULT 1,
    UNIQUE (source_id, method, arguments, kind)
);

-- For applications, which may not write to this schema: a difference in reads of a source of the agent that is set.
-- Returns how often it was seen; NULL where it is not kept: the source is not the agent's, or has 10,000 kinds already.
CREATE FUNCTION mirror.note_read_difference(
    p_source_id bigint, p_method text, p_arguments text, p_kind text, p_generation bigint, p_frame bigint,
    p_sqlite text, p_postgres text
) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO mirror.read_differences AS d
           (source_id, method, arguments, kind, generation, frame, sqlite, postgres)
    SELECT p.source_id, left(p_method, 200), left(p_arguments, 200), left(p_kind, 200), p_generation, p_frame,
           left(p_sqlite, 10000), left(p_postgres, 10000)
      FROM mirror.position p
     WHERE p.source_id = p_source_id
       AND (SELECT count(*) FROM mirror.read_differences o WHERE o.source_id = p_source_id) < 10000
    ON CONFLICT (source_id, method, arguments, kind) DO UPDATE
       SET generation = excluded.generation, frame = excluded.frame, last_seen = now(), count = d.count + 1
    RETURNING d.count
$$;
REVOKE EXECUTE ON FUNCTION mirror.note_read_difference(bigint, text, text, text, bigint, bigint, text, text) FROM PUBLIC;
