-- What comparisons have found: the proof that somebody who moves data relies on, and when it was made.

CREATE TABLE mirror.parity_runs (
    run_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id  bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    started_at timestamptz NOT NULL,
    seconds    double precision NOT NULL,
    verdict    text NOT NULL,       -- equal, different, not checked
    whole      boolean NOT NULL,    -- whether all tables were compared
    rows       bigint NOT NULL,     -- of the source
    missing    bigint NOT NULL,
    extra      bigint NOT NULL,
    different  bigint NOT NULL,
    rejected   bigint NOT NULL,
    report     jsonb NOT NULL       -- as `mirror parity --json` tells it
);
CREATE INDEX parity_runs_source ON mirror.parity_runs (source_id, run_id);

-- What `mirror parity --repair` has changed, row by row.
CREATE TABLE mirror.repairs (
    repair_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id     bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    repaired_at   timestamptz NOT NULL DEFAULT now(),
    target_schema text NOT NULL,
    target_table  text NOT NULL,
    kind          text NOT NULL,  -- missing: only the source had it; extra: only Postgres; different
    before        jsonb,          -- the row as it was in Postgres
    after         jsonb           -- the row as it is now
);
CREATE INDEX repairs_source ON mirror.repairs (source_id, repair_id);
