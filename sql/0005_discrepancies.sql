-- Commits of which two independent captures, the WAL and the hook in the program's process, tell different things.

CREATE TABLE mirror.discrepancies (
    discrepancy_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id      bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    found_at       timestamptz NOT NULL DEFAULT now(),
    generation     bigint NOT NULL,  -- the position up to which both were compared
    frame          bigint NOT NULL,
    source_table   text NOT NULL,
    key            text NOT NULL,    -- as mirror.rejects has it
    kind           text NOT NULL,    -- only the WAL, only the hook, different
    wal            text,             -- the row afterwards as the WAL has it (JSON as in mirror.rejects); NULL: deleted
    hook           text,             -- the same as the hook has it
    writer         text NOT NULL     -- the process that told it
);
CREATE INDEX discrepancies_source ON mirror.discrepancies (source_id, discrepancy_id);
