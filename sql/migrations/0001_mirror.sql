-- The mirror's own schema: what is mirrored, how far, how it is held, and what could not be held.
-- mirror.migrations itself is made by the code that applies this file.

CREATE TABLE mirror.sources (
    source_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    path         text NOT NULL,
    schema_name  text NOT NULL,
    lineage      uuid,
    epoch        bigint NOT NULL DEFAULT 0,  -- raised by each mirror that takes the source over
    generation   bigint,                     -- NULL: no snapshot yet
    frame        bigint,
    salt1        bigint,
    salt2        bigint,
    committed_at timestamptz,                -- when the source committed what is applied
    applied_at   timestamptz,
    commits      bigint NOT NULL DEFAULT 0,
    host         text,                       -- of the mirror that holds the source
    pid          int,
    UNIQUE (path, schema_name)
);

CREATE TABLE mirror.tables (
    source_id     bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    source_table  text   NOT NULL,
    target_schema text   NOT NULL,
    target_table  text   NOT NULL,
    columns       jsonb  NOT NULL,  -- [{"name", "type", "source"}] in the source's column order
    key           jsonb  NOT NULL,  -- names of the key columns; JSON null: the key is _rowid
    PRIMARY KEY (source_id, source_table),
    UNIQUE (target_schema, target_table)
);

-- key and row_data are JSON kept as text: jsonb refuses \u0000, which is what many rejects are about.
CREATE TABLE mirror.rejects (
    reject_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id    bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    source_table text   NOT NULL,
    key          text   NOT NULL,
    reason       text   NOT NULL,
    row_data     text   NOT NULL,
    generation   bigint NOT NULL,
    frame        bigint NOT NULL,
    first_seen   timestamptz NOT NULL DEFAULT now()
);

-- A digest, because a key that is too long for an index is one of the reasons to be here.
CREATE UNIQUE INDEX rejects_row ON mirror.rejects (source_id, source_table, md5(key));

CREATE TABLE mirror.gaps (
    gap_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id   bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    generation  bigint NOT NULL,
    reason      text   NOT NULL,
    detected_at timestamptz NOT NULL DEFAULT now(),
    healed_at   timestamptz
);
CREATE INDEX gaps_source ON mirror.gaps (source_id, gap_id);

-- Move the position of a source, as the last statement of the transaction that holds the data.
-- SQLSTATE MR001: another mirror has taken the source over. MR002: the position would go back.
CREATE FUNCTION mirror.advance(
    p_source_id bigint, p_epoch bigint, p_generation bigint, p_frame bigint,
    p_salt1 bigint, p_salt2 bigint, p_committed_at timestamptz, p_commits bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    held mirror.sources%ROWTYPE;
BEGIN
    UPDATE mirror.sources
       SET generation = p_generation, frame = p_frame, salt1 = p_salt1, salt2 = p_salt2,
           committed_at = p_committed_at, applied_at = clock_timestamp(), commits = commits + p_commits
     WHERE source_id = p_source_id AND epoch = p_epoch
       AND (generation IS NULL OR (generation, frame) <= (p_generation, p_frame));
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT * INTO held FROM mirror.sources WHERE source_id = p_source_id;
    IF held.epoch IS DISTINCT FROM p_epoch THEN
        RAISE EXCEPTION 'source % is held by epoch %, not by %', p_source_id, held.epoch, p_epoch
            USING ERRCODE = 'MR001', DETAIL = format('holder: %s, pid %s', held.host, held.pid);
    END IF;
    RAISE EXCEPTION 'source % is at %:%, which is after %:%',
        p_source_id, held.generation, held.frame, p_generation, p_frame
        USING ERRCODE = 'MR002';
END
$$;

-- One SQLite value as jsonb without loss: an integral real keeps its ".0" so that 1 and 1.0 stay
-- apart, and what a JSON number cannot carry becomes {"real": ...}. Used when a column is widened;
-- must give what mirror/postgres/codecs.py gives.
CREATE FUNCTION mirror.lossless(v bigint) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN to_jsonb(v);

CREATE FUNCTION mirror.lossless(v boolean) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN to_jsonb(CASE WHEN v THEN 1 ELSE 0 END);

CREATE FUNCTION mirror.lossless(v text) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN to_jsonb(v);

CREATE FUNCTION mirror.lossless(v bytea) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN jsonb_build_object('blob', translate(encode(v, 'base64'), E'\n', ''));

-- float8 -> numeric rounds to 15 digits, float8 -> bigint is exact but ends at 2^63: between 2^63 and
-- 1e19 every double is a multiple of 2^11, so dividing by 1024 first stays exact.
CREATE FUNCTION mirror.lossless(v double precision) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET extra_float_digits = 3
    RETURN CASE
        WHEN v = 'Infinity' THEN '{"real":"Infinity"}'::jsonb
        WHEN v = '-Infinity' THEN '{"real":"-Infinity"}'::jsonb
        WHEN v = 0 AND v::text = '-0' THEN '{"real":"-0.0"}'::jsonb
        WHEN v = trunc(v) AND abs(v) < 9e18 THEN (v::bigint::text || '.0')::jsonb
        WHEN v = trunc(v) AND abs(v) < 1e19 THEN (((v / 1024)::bigint::numeric * 1024)::text || '.0')::jsonb
        ELSE v::text::jsonb
    END;

-- A numeric without fraction beyond 64 bits can only have been a real.
CREATE FUNCTION mirror.lossless(v numeric) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE
        WHEN v = 'Infinity' THEN '{"real":"Infinity"}'::jsonb
        WHEN v = '-Infinity' THEN '{"real":"-Infinity"}'::jsonb
        WHEN scale(v) = 0 AND abs(v) < 1e19
             AND v NOT BETWEEN -9223372036854775808 AND 9223372036854775807 THEN (v::text || '.0')::jsonb
        ELSE to_jsonb(v)
    END;
