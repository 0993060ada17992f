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

-- Who wrote, as far as hooks tell: one row for what one process committed for one agent in about a second.
CREATE TABLE mirror.writes (
    write_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id        bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    first_at         timestamptz NOT NULL,
    last_at          timestamptz NOT NULL,
    first_generation bigint NOT NULL,  -- the first of these commits is the one right behind this position
    first_frame      bigint NOT NULL,
    last_generation  bigint NOT NULL,  -- and the last the one right behind this
    last_frame       bigint NOT NULL,
    commits          bigint NOT NULL,
    agent            text,             -- as mirror.as_agent() named it; NULL: nobody was named
    pid              bigint NOT NULL,
    program          text NOT NULL
);
CREATE INDEX writes_source ON mirror.writes (source_id, last_at);
