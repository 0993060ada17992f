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
