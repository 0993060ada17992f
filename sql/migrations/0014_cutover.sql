-- The way back: what programs write in Postgres after the switch, to be carried into the SQLite file.
--
-- Triggers put the key of each row that is written into mirror.outbox, with the transaction's id; a TRUNCATE puts a
-- NULL there, for all of the table's rows. The rows themselves are read where they are. A batch is what one snapshot of
-- Postgres sees and the one before did not, so SQLite only ever shows states that Postgres has shown.

CREATE TABLE mirror.outbox (
    source_id    bigint NOT NULL,               -- no reference: programs would wait for each other at the row of the source
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    source_table text NOT NULL,
    key          text[],                        -- in Postgres' text forms; of bytea the hexadecimal digits
    change       smallint,                      -- how many rows more have the key: 1, 0 or -1; NULL: of a TRUNCATE
    written_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- By transaction: a long one, while it is open, keeps dead rows in the table, and they are not read.
CREATE INDEX outbox_xid ON mirror.outbox (source_id, xid);
ALTER TABLE mirror.outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
                               autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000);

-- What the file has: everything that the transactions visible in this snapshot have written.
CREATE TABLE mirror.reverse (
    source_id  bigint PRIMARY KEY REFERENCES mirror.sources ON DELETE CASCADE,
    snapshot   pg_snapshot NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    applied_at timestamptz,
    batches    bigint NOT NULL DEFAULT 0,
    rows       bigint NOT NULL DEFAULT 0,
    captured   text NOT NULL,                   -- which triggers capture: others once one was switched off, even if for a moment
    lost       text,                            -- why it cannot go on; NULL: it can
    file       text                             -- what the file looked like after the last batch; NULL: a program may have written to it
);

-- Rows of Postgres that the file does not take: each is tried again with every batch.
CREATE TABLE mirror.reverse_rejects (
    source_id    bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    source_table text NOT NULL,
    key          text[] NOT NULL,
    reason       text NOT NULL,
    first_seen   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX reverse_rejects_table ON mirror.reverse_rejects (source_id, source_table);

-- What was seen of strays, and what the mirror did, in this order. Not by the time: a clock may be set back.
CREATE SEQUENCE mirror.stray_order;

-- Rows that programs have written to the file after the switch, and so not to Postgres.
CREATE TABLE mirror.strays (
    stray_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id    bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    source_table text NOT NULL,
    key          text NOT NULL,                 -- SQLite's values, as in mirror.rejects
    before       json,                          -- the row that Postgres had; NULL: none, or not known
    before_known boolean NOT NULL DEFAULT true, -- false: whether Postgres had a row is not known
    after        json,                          -- the row as the program left it in the file; NULL: it deleted the row
    state        text NOT NULL CHECK (state IN ('in file', 'overwritten', 'discarded')),
    processes    text[] NOT NULL,               -- that had the file open when it was noticed
    seen_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    compared_at  timestamptz NOT NULL,          -- when the comparison began that has found it last
    seen         bigint NOT NULL DEFAULT nextval('mirror.stray_order'),  -- since then it is known as it is in after
    overwritten  bigint                         -- the batch that wrote over it; until then the file had the program's row
);
-- Overwritten: Postgres wrote the row, too, and the file has that. Discarded: the file gets Postgres' row with the next batch.
CREATE UNIQUE INDEX strays_in_file ON mirror.strays (source_id, source_table, md5(key)) WHERE state <> 'overwritten';
CREATE INDEX strays_source ON mirror.strays (source_id, state);

CREATE FUNCTION mirror.note_stray() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.seen := nextval('mirror.stray_order');
    RETURN NEW;
END $$;
REVOKE EXECUTE ON FUNCTION mirror.note_stray() FROM PUBLIC;
CREATE TRIGGER note_stray BEFORE UPDATE ON mirror.strays
    FOR EACH ROW WHEN (OLD.after::text IS DISTINCT FROM NEW.after::text) EXECUTE FUNCTION mirror.note_stray();

-- Strays that were adopted under another number than the program's, because Postgres has given that one, too. Other
-- strays may refer to them by the number that they had.
CREATE TABLE mirror.stray_numbers (
    source_id    bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    source_table text NOT NULL,
    number       bigint NOT NULL,
    new_number   bigint NOT NULL,
    until        bigint NOT NULL                -- in mirror.stray_order: by then the file had the program's row
);
CREATE INDEX stray_numbers_source ON mirror.stray_numbers (source_id);

-- Which store programs use: 1 both, and SQLite's for reads; 2 both, and Postgres for reads; 3 Postgres alone. No row: 1.
CREATE TABLE mirror.phase (
    source_id    bigint PRIMARY KEY REFERENCES mirror.sources ON DELETE CASCADE,
    phase        smallint NOT NULL DEFAULT 1 CHECK (phase IN (1, 2, 3)),
    epoch        bigint NOT NULL DEFAULT 0,   -- raised by each command that moves: an earlier one can change nothing
    moving_to    smallint CHECK (moving_to IN (1, 2, 3)),  -- of a move that has begun and not ended
    sealed_at    timestamptz,                 -- since then Postgres is the original: no mirror writes to these tables
    finalized_at timestamptz,                 -- since then there is no way back
    finalized_why text NOT NULL DEFAULT '',   -- of one that ended by itself; else empty
    reverse_window interval,                  -- after this time since sealed_at the way back ends by itself; NULL: it does not
    fence        text NOT NULL DEFAULT 'hold' CHECK (fence IN ('hold', 'rename', 'abort', 'watch')),
    opening      boolean NOT NULL DEFAULT false,  -- programs are about to be let in at the file: the mirror gives up its lock
    made         jsonb NOT NULL DEFAULT '[]', -- statements that drop what the move has made, for the way back
    changed_at   timestamptz NOT NULL DEFAULT now(),
    -- of a command that waits before it switches; whether it is still there, its advisory lock says
    waiting_since timestamptz,
    waiting_for  text NOT NULL DEFAULT '',    -- why it cannot go on yet; empty: it can
    go_at        timestamptz                  -- when it was told to go on
);

CREATE OR REPLACE VIEW mirror.position WITH (security_barrier = true) AS
    SELECT s.source_id, s.agent_id, s.generation, s.frame, s.salt1, s.salt2, s.committed_at, s.lineage, s.path,
           s.schema_name,
           NOT EXISTS (SELECT FROM mirror.rejects r WHERE r.source_id = s.source_id)
           AND NOT EXISTS (SELECT FROM mirror.refusals f WHERE f.source_id = s.source_id) AS complete,
           s.written_at IS NOT NULL AS written,
           EXISTS (SELECT FROM mirror.phase p WHERE p.source_id = s.source_id AND p.sealed_at IS NOT NULL) AS sealed,
           EXISTS (SELECT FROM mirror.phase p WHERE p.source_id = s.source_id) AS in_phases,
           -- Which of a program's stores it is; one of which nothing is known yet may be either.
           EXISTS (SELECT FROM mirror.tables t WHERE t.source_id = s.source_id AND t.source_table = 'memory_items')
           OR NOT EXISTS (SELECT FROM mirror.tables t WHERE t.source_id = s.source_id AND t.source_table = 'tasks')
           AS memory,
           EXISTS (SELECT FROM mirror.tables t WHERE t.source_id = s.source_id AND t.source_table = 'tasks')
           OR NOT EXISTS (SELECT FROM mirror.tables t WHERE t.source_id = s.source_id AND t.source_table = 'memory_items')
           AS dashboard
      FROM mirror.sources s
     WHERE s.agent_id = current_setting('app.agent_id', true);

-- As mirror.note_writes(text), for one of a program's stores: 'memory' or 'dashboard'.
CREATE FUNCTION mirror.note_writes(p_schema text, p_store text) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE mirror.sources s SET written_at = now()
      FROM mirror.position p
     WHERE p.source_id = s.source_id AND p.schema_name = p_schema AND s.written_at IS NULL
       AND CASE p_store WHEN 'memory' THEN p.memory ELSE p.dashboard END
$$;
REVOKE EXECUTE ON FUNCTION mirror.note_writes(text, text) FROM PUBLIC;

-- What applications may read and call in this schema, and nothing else. As before, and with it the function of above.
CREATE OR REPLACE FUNCTION mirror.open_position() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    called regprocedure;
BEGIN
    IF NOT has_schema_privilege('argent_app', 'mirror', 'USAGE')
       OR NOT has_table_privilege('argent_app', 'mirror.position', 'SELECT') THEN
        GRANT USAGE ON SCHEMA mirror TO argent_app;
        GRANT SELECT ON mirror.position TO argent_app;
    END IF;
    FOREACH called IN ARRAY ARRAY[
        'mirror.note_read_difference(bigint, text, text, text, bigint, bigint, text, text)',
        'mirror.count_shadow_reads(bigint, bigint, bigint)', 'mirror.note_writes(text)',
        'mirror.note_writes(text, text)']::regprocedure[] LOOP
        IF NOT has_function_privilege('argent_app', called, 'EXECUTE') THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO argent_app', called);
        END IF;
    END LOOP;
END
$$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'argent_app') THEN
        PERFORM mirror.open_position();
    END IF;
END
$$;

CREATE TABLE mirror.cutover_log (
    log_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    epoch     bigint NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    step      text NOT NULL,                  -- in the words that the command prints
    event     text NOT NULL CHECK (event IN ('begun', 'done', 'undone', 'failed', 'journal')),
    detail    text NOT NULL DEFAULT ''
);
CREATE INDEX cutover_log_source ON mirror.cutover_log (source_id, log_id);

-- On the tables of a source that was moved back to its file: what a program writes there would be in no file, and undone.
-- SQLSTATE MR004. The mirror's own sessions say who they are.
CREATE FUNCTION mirror.refuse_write() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('mirror.writer', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION 'the rows of %.% come from a SQLite file, to which programs were moved back', TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = 'MR004', HINT = 'write to the file; or move programs to Postgres: mirror cutover advance';
    END IF;
    IF TG_LEVEL = 'STATEMENT' THEN
        RETURN NULL;
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$$;
REVOKE EXECUTE ON FUNCTION mirror.refuse_write() FROM PUBLIC;

-- Which rows others than the mirror have written in the tables of a source, so that a copy or a repair can tell: by key, once
-- each. A row is still as they left it if its xmin is this one's (the trigger writes it in their subtransaction) or nobody can
-- say, because the table has another file since (file); a row that is not there was deleted. Entries go when a copy or repair
-- has made the rows equal to the file.
CREATE TABLE mirror.others_wrote (
    source_id    bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    source_table text NOT NULL,
    key          text[],                      -- in Postgres' text forms, by name, without agent_id; NULL: all rows (TRUNCATE, or no such key)
    digest       text NOT NULL,               -- of the key, which may be too long for an index; '' for all rows
    note         bigint GENERATED ALWAYS AS IDENTITY,  -- another one with each write
    file         oid,
    first_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source_id, source_table, digest)
);

-- Rows that others had written, and a copy or repair has replaced.
CREATE TABLE mirror.overwritten (
    overwritten_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id      bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    source_table   text NOT NULL,
    key            text[],                    -- as in mirror.others_wrote
    row_data       jsonb,                     -- as it was; NULL: others had deleted it
    written_at     timestamptz NOT NULL,      -- when others wrote it first
    overwritten_at timestamptz NOT NULL DEFAULT now(),
    operation      text NOT NULL
);
CREATE INDEX overwritten_source ON mirror.overwritten (source_id, source_table, overwritten_at);

-- The trigger of each mirrored table; its condition leaves out the mirror's own sessions. A table that agents share has one for
-- all of them. In a sealed source what programs write is no news.
CREATE FUNCTION mirror.note_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET extra_float_digits = 1 SET bytea_output = 'hex' SET "DateStyle" = 'ISO, MDY' SET "IntervalStyle" = 'postgres'
    SET "TimeZone" = 'UTC' AS $$
DECLARE
    shared boolean;
    whole boolean;  -- the key cannot be said: the table was truncated, or altered by hand
    olds text;
    news text;
    before text[];  -- the key that the row had and the one that it has, after the agent where the table is shared
    after text[];
BEGIN
    SELECT t.agent_id IS NOT NULL, k.olds, k.news, k.names <> (
               SELECT count(*) FROM pg_attribute a
                WHERE a.attrelid = TG_RELID AND a.attname = ANY (k.names_list) AND NOT a.attisdropped)
      INTO shared, olds, news, whole
      FROM (SELECT * FROM mirror.tables WHERE target_schema = TG_TABLE_SCHEMA AND target_table = TG_TABLE_NAME LIMIT 1) AS t,
           LATERAL (SELECT string_agg(format('($1).%I::text', n.name), ', ' ORDER BY n.name COLLATE "C") AS olds,
                           string_agg(format('($2).%I::text', n.name), ', ' ORDER BY n.name COLLATE "C") AS news,
                           count(*) AS names, array_agg(n.name) AS names_list
                      FROM jsonb_array_elements_text(CASE jsonb_typeof(t.key) WHEN 'array' THEN t.key ELSE '["_rowid"]' END)
                           AS n (name)) AS k;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF whole OR TG_OP = 'TRUNCATE' THEN
        INSERT INTO mirror.others_wrote (source_id, source_table, digest)
        SELECT t.source_id, t.source_table, '' FROM mirror.tables t
         WHERE t.target_schema = TG_TABLE_SCHEMA AND t.target_table = TG_TABLE_NAME
           AND NOT EXISTS (SELECT FROM mirror.phase p WHERE p.source_id = t.source_id AND p.sealed_at IS NOT NULL)
            ON CONFLICT (source_id, source_table, digest) DO UPDATE SET note = DEFAULT;
        RETURN NULL;
    END IF;
    IF shared THEN
        olds := '($1).agent_id, ' || olds;
        news := '($2).agent_id, ' || news;
    END IF;
    CASE TG_OP
        WHEN 'UPDATE' THEN EXECUTE 'SELECT ARRAY[' || olds || '], ARRAY[' || news || ']' INTO before, after USING OLD, NEW;
        WHEN 'DELETE' THEN EXECUTE 'SELECT ARRAY[' || olds || ']' INTO before USING OLD;
        ELSE EXECUTE 'SELECT ARRAY[' || olds || ']' INTO after USING NEW;
    END CASE;
    IF before = after THEN
        before := NULL;
    END IF;
    IF shared THEN
        INSERT INTO mirror.others_wrote (source_id, source_table, key, digest, file)
        SELECT t.source_id, t.source_table, v.key[2:], md5(v.key[2:]::text), pg_relation_filenode(TG_RELID)
          FROM (VALUES (before), (after)) AS v (key)
          JOIN mirror.tables t
            ON t.target_schema = TG_TABLE_SCHEMA AND t.target_table = TG_TABLE_NAME AND t.agent_id = v.key[1]
         WHERE NOT EXISTS (SELECT FROM mirror.phase p WHERE p.source_id = t.source_id AND p.sealed_at IS NOT NULL)
            ON CONFLICT (source_id, source_table, digest) DO UPDATE SET note = DEFAULT, file = EXCLUDED.file;
    ELSE
        INSERT INTO mirror.others_wrote (source_id, source_table, key, digest, file)
        SELECT t.source_id, t.source_table, v.key, md5(v.key::text), pg_relation_filenode(TG_RELID)
          FROM (VALUES (before), (after)) AS v (key)
          JOIN mirror.tables t
            ON t.target_schema = TG_TABLE_SCHEMA AND t.target_table = TG_TABLE_NAME AND t.agent_id IS NULL
         WHERE v.key IS NOT NULL
           AND NOT EXISTS (SELECT FROM mirror.phase p WHERE p.source_id = t.source_id AND p.sealed_at IS NOT NULL)
            ON CONFLICT (source_id, source_table, digest) DO UPDATE SET note = DEFAULT, file = EXCLUDED.file;
    END IF;
    RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION mirror.note_write() FROM PUBLIC;
