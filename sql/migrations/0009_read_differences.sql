-- Shadow reads: programs run some of their reads on SQLite and on Postgres at one position, and what differs is kept.
--
-- Programs cannot write here but by the two functions below: for a source of the agent that app.agent_id names, with
-- bounded texts, and at most 1,000 differences of a source. What is read of them is shown to the mirror's user only.

CREATE TABLE mirror.read_differences (
    difference_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id  bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    method     text   NOT NULL,  -- as items.get_item
    digest     text   NOT NULL,  -- of the arguments: SHA-256, hex
    kind       text   NOT NULL,  -- rows, values, order, overlap, error
    arguments  text   NOT NULL,  -- shortened
    sqlite     text   NOT NULL,  -- what differs, as JSON, shortened
    postgres   text   NOT NULL,
    generation bigint NOT NULL,  -- with frame: the position at which both were read last
    frame      bigint NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen  timestamptz NOT NULL DEFAULT now(),
    count      bigint NOT NULL DEFAULT 1,
    UNIQUE (source_id, method, digest, kind)
);

CREATE TABLE mirror.shadow_reads (
    source_id bigint PRIMARY KEY REFERENCES mirror.sources ON DELETE CASCADE,
    compared  bigint NOT NULL,
    different bigint NOT NULL,
    since     timestamptz NOT NULL DEFAULT now(),
    until     timestamptz NOT NULL DEFAULT now()
);

-- Whether a source is the agent's, as a program has named it.
CREATE FUNCTION mirror.is_own_source(p_source_id bigint) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    RETURN EXISTS (SELECT FROM mirror.sources s
                    WHERE s.source_id = p_source_id AND s.agent_id = current_setting('app.agent_id', true));

-- Keep a difference; false: there is no room for another one, or the source is not the agent's.
CREATE FUNCTION mirror.keep_read_difference(
    p_source_id bigint, p_method text, p_digest text, p_kind text, p_arguments text, p_sqlite text, p_postgres text,
    p_generation bigint, p_frame bigint
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT mirror.is_own_source(p_source_id) THEN
        RETURN false;
    END IF;
    UPDATE mirror.read_differences
       SET count = count + 1, last_seen = clock_timestamp(), generation = p_generation, frame = p_frame,
           sqlite = left(p_sqlite, 4000), postgres = left(p_postgres, 4000)
     WHERE source_id = p_source_id AND method = left(p_method, 100) AND digest = left(p_digest, 64)
       AND kind = left(p_kind, 40);
    IF FOUND THEN
        RETURN true;
    END IF;
    -- One at a time, so that the count is right.
    PERFORM pg_advisory_xact_lock(hashtext('mirror.read_differences'), hashint8(p_source_id));
    IF (SELECT count(*) FROM mirror.read_differences WHERE source_id = p_source_id) >= 1000 THEN
        RETURN false;
    END IF;
    INSERT INTO mirror.read_differences
           (source_id, method, digest, kind, arguments, sqlite, postgres, generation, frame)
    VALUES (p_source_id, left(p_method, 100), left(p_digest, 64), left(p_kind, 40), left(p_arguments, 1000),
            left(p_sqlite, 4000), left(p_postgres, 4000), p_generation, p_frame)
    ON CONFLICT (source_id, method, digest, kind)
    DO UPDATE SET count = read_differences.count + 1, last_seen = clock_timestamp();
    RETURN true;
END
$$;

-- Count reads that were compared; false: the source is not the agent's.
CREATE FUNCTION mirror.count_shadow_reads(p_source_id bigint, p_compared bigint, p_different bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT mirror.is_own_source(p_source_id) THEN
        RETURN false;
    END IF;
    INSERT INTO mirror.shadow_reads AS s (source_id, compared, different)
    VALUES (p_source_id, greatest(p_compared, 0), greatest(p_different, 0))
    ON CONFLICT (source_id)
    DO UPDATE SET compared = s.compared + excluded.compared, different = s.different + excluded.different,
                  until = clock_timestamp();
    RETURN true;
END
$$;

REVOKE EXECUTE ON FUNCTION mirror.is_own_source(bigint) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION mirror.keep_read_difference(bigint, text, text, text, text, text, text, bigint, bigint)
    FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION mirror.count_shadow_reads(bigint, bigint, bigint) FROM PUBLIC;

CREATE FUNCTION mirror.open_read_differences() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT has_function_privilege('argent_app', 'mirror.count_shadow_reads(bigint, bigint, bigint)', 'EXECUTE') THEN
        GRANT EXECUTE ON FUNCTION
            mirror.keep_read_difference(bigint, text, text, text, text, text, text, bigint, bigint) TO argent_app;
        GRANT EXECUTE ON FUNCTION mirror.count_shadow_reads(bigint, bigint, bigint) TO argent_app;
    END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION mirror.open_read_differences() FROM PUBLIC;

-- As before, and with it the functions.
CREATE OR REPLACE FUNCTION mirror.open_position() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT has_schema_privilege('argent_app', 'mirror', 'USAGE')
       OR NOT has_table_privilege('argent_app', 'mirror.position', 'SELECT') THEN
        GRANT USAGE ON SCHEMA mirror TO argent_app;
        GRANT SELECT ON mirror.position TO argent_app;
    END IF;
    PERFORM mirror.open_read_differences();
END
$$;

-- A database that has agents' tables already.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'argent_app') THEN
        PERFORM mirror.open_read_differences();
    END IF;
END
$$;
